/* load.c - turns a tokenizer.json into a struct tokenizer: vocabulary, merges, added tokens;
 * component.c reads the components. Everything in the file is checked: ids are in range and unique,
 * merges join and produce known tokens. */
#include "base/file.h"
#include "base/mem.h"
#include "data/tokenizer/form.h"
#include "data/tokenizer/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX ((size_t)256 << 20) /* the largest real ones are near 35 MB */

/* ---- vocabulary ---- */

bool load_id(const struct load *load, const cJSON *item, const char *token, int32_t *id)
{
    if (!cJSON_IsNumber(item) ||
        !(item->valuedouble >= 0 && item->valuedouble <= TOKENIZER_MAX_ID) ||
        item->valuedouble != (double)(int32_t)item->valuedouble)
        return load_fail(load, item, "token \"%.80s\": an id must be a whole number, 0 to %d",
                         token, TOKENIZER_MAX_ID);
    *id = (int32_t)item->valuedouble;
    return true;
}

/* Space needed for the vocabulary and added tokens: largest id, count, and bytes. */
struct extent {
    int32_t size;
    size_t count, bytes;
};

static bool measure_vocab(const struct load *load, const cJSON *vocab, struct extent *all)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, vocab)
    {
        int32_t id = 0;

        if (!load_id(load, item, item->string, &id)) return false;
        if (id >= all->size) all->size = id + 1;
        all->count++;
        all->bytes += strlen(item->string) + 1;
    }
    return true;
}

/* Allows for all added tokens being new. */
static void measure_added(const struct added_list *added, struct extent *all)
{
    size_t last = all->count + added->n; /* both are values of one file: under 2^23 */

    if (last > (size_t)all->size) all->size = (int32_t)last;
    for (size_t i = 0; i < added->n; i++)
        all->bytes += strlen(added->v[i].content) + 1;
    all->count += added->n;
}

bool put_piece(const struct load *load, const cJSON *item, struct tokenizer *tk, int32_t id,
               const char *s, char **bytes)
{
    size_t n = strlen(s);
    int32_t taken;

    if (tk->piece[id].s)
        return load_fail(load, item, "tokens \"%.80s\" and \"%.80s\" have the same id %d",
                         tk->piece[id].s, s, (int)id);
    memcpy(*bytes, s, n + 1);
    tk->piece[id] = (struct str){*bytes, (uint32_t)n}; /* files are under 2^32 bytes */
    *bytes += n + 1;
    taken = table_put(&tk->by_piece, tk->piece, id);
    if (taken >= 0)
        return load_fail(load, item, "token \"%.80s\" has two ids, %d and %d", s, (int)taken,
                         (int)id);
    return true;
}

/* *count: number of tokens in the vocabulary. */
static bool load_vocab(const struct load *load, struct tokenizer *tk, const cJSON *vocab,
                       const struct added_list *added, char **bytes, size_t *count)
{
    struct extent all = {0};
    const cJSON *item;

    if (!measure_vocab(load, vocab, &all)) return false;
    *count = all.count;
    measure_added(added, &all);
    tk->size = all.size;
    tk->piece = mem_new((size_t)all.size, sizeof *tk->piece, "vocabulary", load->e);
    tk->special = mem_new((size_t)all.size, sizeof *tk->special, "vocabulary", load->e);
    tk->of_model = mem_new((size_t)all.size, sizeof *tk->of_model, "vocabulary", load->e);
    tk->bytes = mem_new(all.bytes, 1, "vocabulary", load->e);
    if (!tk->piece || !tk->special || !tk->of_model || !tk->bytes ||
        !table_init(&tk->by_piece, all.count, load->e))
        return false;
    *bytes = tk->bytes;
    cJSON_ArrayForEach(item, vocab)
    {
        int32_t id = (int32_t)item->valuedouble; /* checked by measure_vocab */

        if (!put_piece(load, item, tk, id, item->string, bytes)) return false;
        tk->of_model[id] = true;
    }
    return true;
}

/* ---- merges ---- */

/* The two halves of "a b" or ["a", "b"], in place. */
static bool merge_halves(const struct load *load, const cJSON *item, const char *half[2],
                         size_t n[2])
{
    if (cJSON_IsString(item)) {
        const char *gap = strchr(item->valuestring, ' ');

        if (!gap || strchr(gap + 1, ' '))
            return load_fail(load, item, "merge \"%.80s\" is not two tokens", item->valuestring);
        half[0] = item->valuestring;
        half[1] = gap + 1;
        n[0] = (size_t)(gap - half[0]);
    } else if (cJSON_IsArray(item) && cJSON_GetArraySize(item) == 2 &&
               cJSON_IsString(item->child) && cJSON_IsString(item->child->next)) {
        half[0] = item->child->valuestring;
        half[1] = item->child->next->valuestring;
        n[0] = strlen(half[0]);
    } else {
        return load_fail(load, item, "a merge must be \"a b\" or [\"a\", \"b\"]");
    }
    n[1] = strlen(half[1]);
    return true;
}

static bool starts_with_mark(const char *s, size_t n)
{
    return n >= strlen(MARK) && memcmp(s, MARK, strlen(MARK)) == 0;
}

static bool ends_with_mark(const char *s, size_t n)
{
    return n >= strlen(MARK) && starts_with_mark(s + n - strlen(MARK), strlen(MARK));
}

/* How much of a token a message shows. */
static int shown_len(size_t n)
{
    return n < 80 ? (int)n : 80;
}

static bool load_merge(const struct load *load, struct tokenizer *tk, const cJSON *item,
                       uint32_t rank, char **joined, size_t *joined_cap)
{
    const char *half[2];
    size_t n[2] = {0};
    int32_t id[3];

    if (!merge_halves(load, item, half, n) ||
        !mem_grow(joined, joined_cap, n[0] + n[1] + 1, 1, load->e))
        return false;
    memcpy(*joined, half[0], n[0]);
    memcpy(*joined + n[0], half[1], n[1] + 1);
    id[0] = table_get(&tk->by_piece, tk->piece, half[0], n[0]);
    id[1] = table_get(&tk->by_piece, tk->piece, half[1], n[1]);
    id[2] = table_get(&tk->by_piece, tk->piece, *joined, n[0] + n[1]);
    if (n[0] == 0 || n[1] == 0) return load_fail(load, item, "a merge with an empty half");
    for (int i = 0; i < 3; i++) {
        if (id[i] < 0)
            return load_fail(load, item, "merge \"%.80s\" names a token that \"vocab\" lacks: %.*s",
                             *joined, shown_len(i < 2 ? n[i] : n[0] + n[1]),
                             i < 2 ? half[i] : *joined);
    }
    if (starts_with_mark(half[1], n[1]) && !ends_with_mark(half[0], n[0])) tk->marks_cut = false;
    merges_put(&tk->merges, (struct merge){id[0], id[1], id[2], rank});
    return true;
}

static bool load_merges(const struct load *load, struct tokenizer *tk, const cJSON *merges)
{
    char *joined = NULL;
    size_t cap = 0;
    uint32_t rank = 0;
    bool ok = merges_init(&tk->merges, (size_t)cJSON_GetArraySize(merges), load->e);
    int32_t mark = tokenizer_id(tk, MARK);

    tk->marks_cut = mark >= 0 && tk->of_model[mark]; /* until a merge proves otherwise */
    for (const cJSON *item = merges->child; item && ok; item = item->next) {
        /* a heading that old files carry over from merges.txt */
        if (cJSON_IsString(item) && strncmp(item->valuestring, "#version", 8) == 0) continue;
        ok = load_merge(load, tk, item, rank++, &joined, &cap);
    }
    free(joined);
    return ok;
}

/* ---- the model ---- */

/* Markers for word pieces inside or at the end of words: no model here has them. */
static bool refuse_affix(const struct load *load, const cJSON *model, const char *key)
{
    const char *s = NULL;

    if (!load_string(load, model, key, &s)) return false;
    return !s || !*s || load_fail(load, model, "\"%s\": \"%.80s\" is not supported", key, s);
}

static bool load_options(const struct load *load, struct tokenizer *tk, const cJSON *model)
{
    const cJSON *dropout = load_member(model, "dropout");
    const char *unk = NULL;

    if (dropout && !(cJSON_IsNumber(dropout) && dropout->valuedouble == 0.0))
        return load_fail(load, dropout, "\"dropout\" must be null: ids would be random");
    if (!refuse_affix(load, model, "continuing_subword_prefix") ||
        !refuse_affix(load, model, "end_of_word_suffix") ||
        !load_bool(load, model, "fuse_unk", &tk->fuse_unk) ||
        !load_bool(load, model, "byte_fallback", &tk->byte_fallback) ||
        !load_bool(load, model, "ignore_merges", &tk->ignore_merges) ||
        !load_string(load, model, "unk_token", &unk))
        return false;
    tk->unk = unk ? tokenizer_id(tk, unk) : -1;
    if (unk && tk->unk < 0)
        return load_fail(load, model, "\"unk_token\" \"%.80s\" is not in \"vocab\"", unk);
    return true;
}

/* Finds the tokens of single bytes. */
static void find_bytes(struct tokenizer *tk)
{
    for (int b = 0; b < 256; b++) {
        char spelled[8];
        size_t n = utf8_put(spelled, byte_to_char((unsigned char)b));

        tk->byte_id[b] = table_get(&tk->by_piece, tk->piece, spelled, n);
        n = (size_t)snprintf(spelled, sizeof spelled, "<0x%02X>", (unsigned)b);
        tk->fallback_id[b] = table_get(&tk->by_piece, tk->piece, spelled, n);
    }
}

/* Whether an unknown character leaves no token behind. */
static bool leaves_out(const struct tokenizer *tk)
{
    bool bytes = tk->byte_fallback;

    for (int b = 0; b < 256; b++)
        bytes = bytes && tk->fallback_id[b] >= 0;
    return tk->unk < 0 && !bytes;
}

static bool load_model(const struct load *load, struct tokenizer *tk, const struct form *form)
{
    const cJSON *root = load->doc.root, *model = load_member(root, "model"), *vocab, *merges;
    const char *type = "BPE";
    char *bytes; /* where the next spelling goes */
    size_t count;

    if (!cJSON_IsObject(model)) return load_fail(load, root, "\"model\" is missing");
    if (!load_string(load, model, "type", &type)) return false;
    if (strcmp(type, "BPE") != 0)
        return load_fail(load, model, "model \"%.80s\" is not known to this reader, which has BPE",
                         type);
    vocab = load_member(model, "vocab");
    merges = load_member(model, "merges");
    if (!cJSON_IsObject(vocab) || !vocab->child)
        return load_fail(load, model, "\"model\" needs an object \"vocab\" with tokens in it");
    if (!cJSON_IsArray(merges)) return load_fail(load, model, "\"model\" needs a list \"merges\"");
    if (!load_vocab(load, tk, vocab, &form->added, &bytes, &count) ||
        !load_merges(load, tk, merges) || !load_options(load, tk, model))
        return false;
    form_options(form, tk);
    find_bytes(tk);
    /* words are looked up whole, or dropping characters brings marks together */
    if (tk->ignore_merges || leaves_out(tk)) tk->marks_cut = false;
    if (!added_number(tk, form, count, &bytes, load->e)) return false;
    while (tk->size > 0 && !tk->piece[tk->size - 1].s)
        tk->size--; /* the reserve for added tokens that turned out to be in the vocabulary */
    return true;
}

/* ---- byte level ---- */

/* A token's spelling converted to the bytes it stands for; false if it stands for none. */
static bool raw_spelling(const struct str *piece, char *out, size_t *n)
{
    *n = 0;
    for (size_t i = 0, len; i < piece->len; i += len) {
        int byte = char_to_byte(utf8_get(piece->s + i, &len));

        if (byte < 0) return false;
        out[(*n)++] = (char)byte;
    }
    return *n > 0;
}

/* With ignore_merges words are looked up whole; words are kept as bytes, so the model's tokens are
 * needed as bytes too. */
static bool build_raw(struct tokenizer *tk, struct err *e)
{
    size_t bytes = 0, n;
    char *at;

    for (int32_t id = 0; id < tk->size; id++)
        bytes += tk->piece[id].len;
    tk->raw = mem_new((size_t)tk->size, sizeof *tk->raw, "vocabulary in bytes", e);
    tk->raw_bytes = at = mem_new(bytes, 1, "vocabulary in bytes", e);
    if (!tk->raw || !at || !table_init(&tk->by_raw, (size_t)tk->size, e)) return false;
    for (int32_t id = 0; id < tk->size; id++) {
        if (!tk->of_model[id] || !raw_spelling(&tk->piece[id], at, &n)) continue;
        tk->raw[id] = (struct str){at, (uint32_t)n};
        at += n;
        (void)table_put(&tk->by_raw, tk->raw, id); /* spelling is one to one */
    }
    return true;
}

static bool load_chains(const struct load *load, struct tokenizer *tk)
{
    const struct chain *pre = &tk->pre_tokenizers;
    const cJSON *root = load->doc.root;

    if (!load_chain(load, "normalizer", normalizer_table, "normalizers", &tk->normalizers) ||
        !load_chain(load, "pre_tokenizer", pre_tokenizer_table, "pretokenizers",
                    &tk->pre_tokenizers) ||
        !load_chain(load, "decoder", decoder_table, "decoders", &tk->decoders))
        return false;
    for (size_t i = 0; i < pre->n; i++) {
        if (strcmp(pre->v[i].kind->name, "ByteLevel") != 0) continue;
        if (i + 1 < pre->n)
            return load_fail(load, load_member(root, "pre_tokenizer"),
                             "pre_tokenizer \"ByteLevel\" must be the last one");
        tk->byte_level = true;
    }
    return true;
}

static bool load_all(const struct load *load, struct tokenizer *tk, const struct form *form)
{
    const cJSON *version = load_member(load->doc.root, "version");

    if (version && (!cJSON_IsString(version) || strcmp(version->valuestring, "1.0") != 0))
        return load_fail(load, version, "\"version\" must be \"1.0\"");
    if (!load_model(load, tk, form) || !load_chains(form_chains(form, load), tk)) return false;
    form_prefix(form, tk);
    return (!(tk->byte_level && tk->ignore_merges) || build_raw(tk, load->e)) &&
           added_finish(tk, load->e) && load_post_processor(load, tk) && form_notes(form, load, tk);
}

/* dir: where the files next to tokenizer.json are; NULL: read it alone. */
static struct tokenizer *load_files(char *path, const char *dir, const struct tokenizer_options *o,
                                    struct err *e)
{
    struct load load = {.e = e};
    struct form form = {0};
    struct tokenizer *tk = path ? mem_new(1, sizeof *tk, "tokenizer", e) : NULL;

    if (!tk) {
        free(path);
        return NULL;
    }
    tk->unk = -1;
    tk->path = path;
    if (!load_read(&load, path, FILE_MAX) || !form_open(&form, &load, dir, o) ||
        !load_all(&load, tk, &form)) {
        tokenizer_free(tk);
        tk = NULL;
    }
    form_close(&form);
    jsonc_close(&load.doc);
    return tk;
}

struct tokenizer *tokenizer_load(const char *path, struct err *e)
{
    static const struct tokenizer_options as_it_is = {.form = TOKENIZER_FILE};

    return load_files(mem_strdup(path, e), NULL, &as_it_is, e);
}

struct tokenizer *tokenizer_open(const char *dir, const struct tokenizer_options *o, struct err *e)
{
    return load_files(file_join(dir, "tokenizer.json", e), dir, o, e);
}
