/* config.c - the added tokens defined outside tokenizer.json, as transformers (5.24) adds them:
 * those of tokenizer_config.json's added_tokens_decoder (if missing, those of
 * special_tokens_map.json, added_tokens.json and tokenizer.json), then the special tokens by name
 * ("bos_token" and so on) that are not there yet. */
#include "base/mem.h"
#include "data/tokenizer/form.h"

#include <stdlib.h>
#include <string.h>

#define NAMED_MAX 256 /* special tokens named by the files; real ones name 10 */

/* In the order in which transformers adds them. */
static const char *const standard[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};
#define STANDARD (sizeof standard / sizeof *standard)

struct named { /* special tokens, in the order in which they are added */
    struct added_spec v[NAMED_MAX];
    /* with a standard name; with a name of the model's own; extra ones */
    size_t standard, named, n;
};

static bool has_name(const struct named *s, const char *content)
{
    for (size_t i = 0; i < s->named; i++)
        if (strcmp(s->v[i].content, content) == 0) return true;
    return false;
}

/* Whether a token of added_tokens.json is special: under a standard name, or as an extra one that
 * tokenizer_config.json gives as a plain string. */
static bool is_special(const struct form *f, const struct named *s, const char *content)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct added_spec *a = &s->v[i];

        if (strcmp(a->content, content) == 0 && (i < s->standard || i >= s->named) &&
            (a->load != &f->config || cJSON_IsString(a->item)))
            return true;
    }
    return false;
}

static bool is_standard(const char *key)
{
    for (size_t i = 0; i < STANDARD; i++)
        if (strcmp(standard[i], key) == 0) return true;
    return false;
}

static bool add_name(const struct load *load, const cJSON *item, const struct added_spec *a,
                     struct named *out)
{
    if (out->n == NAMED_MAX)
        return load_fail(load, item, "more than %d special tokens are named", NAMED_MAX);
    out->v[out->n++] = *a;
    return true;
}

/* A special token: its content, or an object with its flags; null means none. */
static bool read_name(const struct load *load, const cJSON *item, struct named *out)
{
    struct added_spec a = {.load = load, .item = item, .id = -1, .is = {.special = true}};

    if (cJSON_IsNull(item)) return true;
    if (cJSON_IsString(item))
        a.content = item->valuestring;
    else if (!added_read(load, item, &a))
        return false;
    a.if_new = true;
    return !*a.content || add_name(load, item, &a, out);
}

/* The special tokens of a file, in a list, or by name in an object. */
static bool read_names(const struct load *load, const cJSON *list, struct named *out)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, list)
    {
        if (!read_name(load, item, out)) return false;
    }
    return true;
}

/* The keys of the model's own ("image_token") that give a token's spelling. */
static bool read_own_names(const struct load *load, struct named *out)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, load->doc.root)
    {
        size_t n = strlen(item->string);

        if (n < 6 || strcmp(item->string + n - 6, "_token") != 0 || is_standard(item->string) ||
            !cJSON_IsString(item))
            continue;
        if (!read_name(load, item, out)) return false;
    }
    return true;
}

/* The class's default special token for a standard name that no file sets. */
static bool class_name(const struct form *f, const char *key, struct named *out)
{
    static const char *const keys[] = {"unk_token", "bos_token", "eos_token", "pad_token"};
    struct added_spec a = {.load = &f->chains,
                           .item = f->chains.doc.root,
                           .id = -1,
                           .is = {.special = true},
                           .if_new = true};

    for (size_t i = 0; f->kind && i < 4; i++)
        if (strcmp(keys[i], key) == 0) a.content = f->kind->special[i];
    return !a.content || add_name(a.load, a.item, &a, out);
}

static bool special_tokens(const struct form *f, struct named *out)
{
    const struct load *load[] = {&f->map, &f->config}; /* the first file that has a key wins */
    static const char *const lists[] = {"extra_special_tokens", "additional_special_tokens"};

    for (size_t i = 0; i < STANDARD; i++) {
        const cJSON *item = NULL;
        size_t k;

        for (k = 0; k < 2 && !item; k++)
            item = cJSON_GetObjectItemCaseSensitive(load[k]->doc.root, standard[i]);
        if (item ? !read_name(load[k - 1], item, out) : !class_name(f, standard[i], out))
            return false;
    }
    out->standard = out->n;
    for (size_t k = 0; k < 2; k++)
        if (!read_own_names(load[k], out)) return false;
    out->named = out->n;
    for (size_t k = 0; k < 4; k++) {
        const cJSON *list = load_member(load[k % 2]->doc.root, lists[k / 2]);

        if (!list || !list->child) continue;
        if (!read_names(load[k % 2], list, out)) return false;
        if (cJSON_IsObject(list)) out->named = out->n;
        break;
    }
    for (size_t i = 0; i < out->named; i++)
        out->v[i].named = true;
    return true;
}

/* ---- tokens with ids ---- */

struct indexed {
    double index; /* only gives the order */
    size_t order;
    struct added_spec a;
};
struct indexed_list {
    struct indexed *v;
    size_t n, cap;
};

static int by_index(const void *a, const void *b)
{
    const struct indexed *x = a, *y = b;

    if (x->index != y->index) return x->index < y->index ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static bool add_indexed(struct indexed_list *list, double index, const struct added_spec *a,
                        struct err *e)
{
    if (!mem_grow(&list->v, &list->cap, list->n + 1, sizeof *list->v, e)) return false;
    list->v[list->n] = (struct indexed){index, list->n, *a};
    list->n++;
    return true;
}

/* added_tokens_decoder: {"32000": {"content": "<image>", ...}} */
static bool read_decoder(const struct load *load, const cJSON *decoder, struct indexed_list *out)
{
    const cJSON *item;

    if (!cJSON_IsObject(decoder))
        return load_fail(load, decoder, "\"added_tokens_decoder\" must be an object");
    cJSON_ArrayForEach(item, decoder)
    {
        struct added_spec a;
        char *end;
        long index = strtol(item->string, &end, 10);

        if (*end || end == item->string || index < 0 || index > TOKENIZER_MAX_ID)
            return load_fail(load, item, "the key \"%.80s\" is not a token's id", item->string);
        if (!added_read(load, item, &a) || !add_indexed(out, (double)index, &a, load->e))
            return false;
    }
    return true;
}

/* added_tokens.json: {"<image>": 32000} */
static bool read_more(const struct form *f, const struct named *names, struct indexed_list *out)
{
    const struct load *load = &f->more;
    const cJSON *item;

    cJSON_ArrayForEach(item, load->doc.root)
    {
        bool special = is_special(f, names, item->string);
        struct added_spec a = {.load = load,
                               .item = item,
                               .content = item->string,
                               .id = -1,
                               .is = {.special = special, .normalized = !special}};

        if (!cJSON_IsNumber(item)) return load_fail(load, item, "an id must be a number");
        if (*a.content && !add_indexed(out, item->valuedouble, &a, load->e)) return false;
    }
    return true;
}

static bool read_file_tokens(const struct load *file, struct indexed_list *out)
{
    const cJSON *list = load_member(file->doc.root, "added_tokens"), *item;

    cJSON_ArrayForEach(item, list)
    {
        struct added_spec a;

        if (!added_read(file, item, &a) || !add_indexed(out, a.id, &a, file->e)) return false;
    }
    return true;
}

/* In id order; of duplicates the later reading wins. */
static bool put_indexed(struct form *f, struct indexed_list *list, const struct named *special,
                        struct err *e)
{
    if (list->n > 0) qsort(list->v, list->n, sizeof *list->v, by_index);
    for (size_t i = 0; i < list->n; i++) {
        struct added_spec *a = &list->v[i].a;

        if (i + 1 < list->n && list->v[i + 1].index == list->v[i].index) continue;
        a->id = -1;
        a->batch = 1;
        a->named = has_name(special, a->content);
        if (!added_put(&f->added, a, e)) return false;
    }
    return true;
}

/* Whether an earlier entry names the same token: of duplicates the last one counts. */
static bool said_before(const struct form *f, const struct named *s, size_t k)
{
    const struct added_spec *a = &s->v[k];
    bool plain = a->load == &f->chains || cJSON_IsString(a->item);

    for (size_t i = 0; i < k; i++) {
        const struct added_spec *b = &s->v[i];

        if (strcmp(a->content, b->content) == 0 &&
            plain == (b->load == &f->chains || cJSON_IsString(b->item)) &&
            added_same(&a->is, &b->is))
            return true;
    }
    return false;
}

static bool put_named(struct form *f, const struct named *special, struct err *e)
{
    for (int batch = 1; batch < (f->kind && f->kind->special_again ? 3 : 2); batch++) {
        for (size_t i = 0; i < special->n; i++) {
            struct added_spec a = special->v[i];

            if (said_before(f, special, i)) continue;
            a.batch = batch;
            if (batch == 2) {
                a.is = (struct added_flags){.special = true};
                a.if_new = false;
            }
            if (!added_put(&f->added, &a, e)) return false;
        }
    }
    return true;
}

bool config_tokens(struct form *f, const struct load *file, const char *dir)
{
    const cJSON *decoder = load_member(f->config.doc.root, "added_tokens_decoder");
    struct named *special = mem_new(1, sizeof *special, "special tokens", file->e);
    struct indexed_list list = {0};
    bool ok = special;

    if (ok && !decoder)
        ok = load_beside(&f->map, dir, "special_tokens_map.json", file->e) &&
             load_beside(&f->more, dir, "added_tokens.json", file->e);
    ok = ok && special_tokens(f, special);
    if (ok && decoder)
        ok = read_decoder(&f->config, decoder, &list);
    else
        ok = ok && read_more(f, special, &list) && read_file_tokens(file, &list);
    ok = ok && put_indexed(f, &list, special, file->e) && put_named(f, special, file->e);
    free(list.v);
    free(special);
    return ok;
}

/* ---- notes ---- */

static const char *how(const struct form *f)
{
    if (!f->kind->marks) return "";
    if (f->kind->file_alone) return ", a blank before each text between special tokens";
    if (!f->prefix) return ", no blank before a text (add_prefix_space is false)";
    return f->legacy ? ", a blank before each text between special tokens (legacy is true)"
                     : ", a blank before the text, none behind special tokens (legacy is not true)";
}

/* Tokens of tokenizer.json unknown to the class, because no other file names them. */
static bool note_missing(const struct load *file, struct tokenizer *tk)
{
    const cJSON *list = load_member(file->doc.root, "added_tokens");
    bool *there = mem_new((size_t)tk->size, sizeof *there, "added tokens", file->e), ok = there;
    const char *first = NULL;
    size_t n = 0;

    for (size_t i = 0; ok && i < tk->n_added; i++)
        there[tk->added[i].id] = true;
    for (const cJSON *item = list ? list->child : NULL; item && ok; item = item->next) {
        const char *content = NULL;
        int32_t id;

        ok = load_string(file, item, "content", &content);
        id = content ? tokenizer_id(tk, content) : -1;
        if (!ok || (id >= 0 && there[id])) continue;
        if (n++ == 0) first = content;
    }
    free(there);
    return ok &&
           (n == 0 || tokenizer_note(tk, file->e,
                                     "%zu added tokens of tokenizer.json are none here, for "
                                     "tokenizer_config.json lists others; the first: \"%.80s\"",
                                     n, first));
}

/* tokenizer_config.json may contradict the post-processor, which wins. */
static bool note_ends(const struct form *f, struct tokenizer *tk, const char *key, size_t n)
{
    const cJSON *root = f->config.doc.root, *item = load_member(root, key);
    bool says = false;

    if (!load_bool(&f->config, root, key, &says)) return false;
    return !item || says == (n > 0) ||
           tokenizer_note(tk, f->config.e,
                          "%s is %s in tokenizer_config.json, but tokenizer.json's "
                          "post_processor, which counts, puts %s there",
                          key, says ? "true" : "false", n > 0 ? "one" : "none");
}

/* Members of tokenizer.json that have no effect here. */
static bool note_unused(const struct load *file, struct tokenizer *tk)
{
    static const char *const used[] = {"version",       "added_tokens",   "normalizer",
                                       "pre_tokenizer", "post_processor", "decoder",
                                       "model"};
    const cJSON *item;
    const char *first = NULL;
    size_t n = 0;

    cJSON_ArrayForEach(item, file->doc.root)
    {
        bool known = cJSON_IsNull(item);

        for (size_t i = 0; i < sizeof used / sizeof *used; i++)
            known = known || strcmp(used[i], item->string) == 0;
        if (!known && n++ == 0) first = item->string;
    }
    return n == 0 || tokenizer_note(tk, file->e,
                                    "members of tokenizer.json that are not used: %zu; the first: "
                                    "\"%.80s\"",
                                    n, first);
}

bool form_notes(const struct form *f, const struct load *file, struct tokenizer *tk)
{
    if (f->kind ? !tokenizer_note(tk, file->e, "tokenizer.json's vocabulary as %s makes it%s (%s)",
                                  f->kind->name, how(f), f->why)
                : !tokenizer_note(tk, file->e, "tokenizer.json as it is (%s)", f->why))
        return false;
    return (!f->kind || f->kind->file_alone || note_missing(file, tk)) &&
           note_ends(f, tk, "add_bos_token", tk->n_before) &&
           note_ends(f, tk, "add_eos_token", tk->n_after) && note_unused(file, tk);
}
