/* dataset.c - the index of the samples, and a sample from its bytes to tokens with their labels. */
#include "data/dataset.h"
#include "base/hash.h"
#include "base/jsonc.h"
#include "base/mem.h"
#include "data/image.h"
#include "data/json_scan.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const drop_names[DROPS] = {[DROP_NO_LABELS] = "nothing in them would be trained",
                                       [DROP_IMAGE] = "a picture is missing or broken",
                                       [DROP_MISMATCH] =
                                           "<image> marks and pictures differ in number",
                                       [DROP_TOO_LONG] = "longer than data.max_length",
                                       [DROP_BROKEN] = "not a conversation or text"};

/* A sample's JSON, and its turns as the template takes them. Texts point into `json`. */
struct conversation {
    cJSON *json;
    struct message *messages;
    size_t n, cap;
    const char *answer; /* the last assistant turn */
    const char *text;   /* of a sample that is plain text; NULL: it has turns */
    const char **images;
    size_t n_images, cap_images;
};

static void conversation_free(struct conversation *c)
{
    cJSON_Delete(c->json);
    free(c->messages);
    free(c->images);
    memset(c, 0, sizeof *c);
}

static const struct {
    const char *from;
    enum role role;
} roles[] = {{"human", ROLE_USER},
             {"user", ROLE_USER},
             {"gpt", ROLE_ASSISTANT},
             {"assistant", ROLE_ASSISTANT},
             {"system", ROLE_SYSTEM}};

static bool add_turn(struct conversation *c, const cJSON *turn, struct err *e)
{
    const cJSON *from = cJSON_GetObjectItemCaseSensitive(turn, "from");
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(turn, "value");

    if (!cJSON_IsString(from) || !cJSON_IsString(value))
        return err_set(e, "a turn needs \"from\" and \"value\", both strings");
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (strcmp(roles[i].from, from->valuestring) != 0) continue;
        if (!mem_grow(&c->messages, &c->cap, c->n + 1, sizeof *c->messages, e)) return false;
        c->messages[c->n++] = (struct message){roles[i].role, value->valuestring};
        if (roles[i].role == ROLE_ASSISTANT) c->answer = value->valuestring;
        return true;
    }
    return err_set(e, "\"from\" is \"%.40s\"; human, gpt and system are known", from->valuestring);
}

static bool add_image(struct conversation *c, const cJSON *image, struct err *e)
{
    if (!cJSON_IsString(image)) return err_set(e, "\"image\" must be a path or a list of paths");
    if (!mem_grow(&c->images, &c->cap_images, c->n_images + 1, sizeof *c->images, e)) return false;
    c->images[c->n_images++] = image->valuestring;
    return true;
}

static bool parse(struct conversation *c, const char *text, size_t len, struct err *e)
{
    const cJSON *turns, *image, *item;

    memset(c, 0, sizeof *c);
    c->json = cJSON_ParseWithLength(text, len);
    if (!c->json) return err_set(e, "is not JSON");
    turns = cJSON_GetObjectItemCaseSensitive(c->json, "conversations");
    image = cJSON_GetObjectItemCaseSensitive(c->json, "image");
    if (!turns) {
        c->text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c->json, "text"));
        return c->text || err_set(e, "has neither \"conversations\" nor \"text\"");
    }
    if (!cJSON_IsArray(turns) || !turns->child)
        return err_set(e, "\"conversations\" is not a list of turns or is empty");
    cJSON_ArrayForEach(item, turns)
    {
        if (!add_turn(c, item, e)) return false;
    }
    if (cJSON_IsArray(image)) {
        cJSON_ArrayForEach(item, image)
        {
            if (!add_image(c, item, e)) return false;
        }
    } else if (image && !cJSON_IsNull(image) && !add_image(c, image, e)) {
        return false;
    }
    return true;
}

/* A sample being laid out, with the room of its three lists. */
struct layout {
    struct sample *s;
    size_t cap_ids, cap_trained, cap_modality;
};

/* Appends n tokens of one id. */
static bool push(struct layout *l, int32_t id, int64_t n, bool trained, enum modality m,
                 struct err *e)
{
    struct sample *s = l->s;
    size_t need = (size_t)(s->n + n);

    if (!mem_grow(&s->ids, &l->cap_ids, need, sizeof *s->ids, e) ||
        !mem_grow(&s->trained, &l->cap_trained, need, sizeof *s->trained, e) ||
        !mem_grow(&s->modality, &l->cap_modality, need, sizeof *s->modality, e))
        return false;
    for (int64_t i = 0; i < n; i++, s->n++) {
        s->ids[s->n] = id;
        s->trained[s->n] = trained;
        s->modality[s->n] = (uint8_t)m;
    }
    return true;
}

/* A token is trained where it begins inside a trained range; special tokens of the post-processor
 * cover nothing and are not. A blank that a tokenizer draws into the answer's first token begins in
 * the range too, because the ranges of templates do. */
static bool is_trained(const struct rendered *r, const struct token *t, size_t *range)
{
    while (*range < r->n_trained && (size_t)t->begin >= r->trained[*range].end)
        ++*range;
    return t->end > t->begin && *range < r->n_trained &&
           (size_t)t->begin >= r->trained[*range].begin;
}

/* Images take their places, and tokens their labels. Returns the number of image marks. */
static bool lay_out(const struct dataset_options *o, const struct rendered *r,
                    const struct tokens *tokens, struct sample *s, int64_t *marks, struct err *e)
{
    struct layout l = {.s = s};
    size_t range = 0;

    *marks = 0;
    for (size_t i = 0; i < tokens->n; i++) {
        const struct token *t = &tokens->v[i];
        bool image = t->id == o->image_id, trained = is_trained(r, t, &range);
        int64_t places = image ? o->image_tokens : 1;
        if (r->n_trained && (size_t)t->begin < r->trained[r->n_trained - 1].begin)
            s->prompt = s->n + places;
        *marks += image;
        if (!push(&l, t->id, places, trained && !image, image ? IMAGE : TEXT, e)) return false;
    }
    return true;
}

static char *sample_id(const cJSON *json, int64_t line, struct err *e)
{
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(json, "id");

    if (cJSON_IsString(id)) return mem_strdup(id->valuestring, e);
    if (cJSON_IsNumber(id)) return mem_printf(e, "%.17g", id->valuedouble);
    return mem_printf(e, "line %lld", (long long)line);
}

/* From text to tokens. *reason says what is wrong with the sample where false is returned for that;
 * DROPS stands for a failure of ours (memory). */
static bool build(const struct dataset *d, struct conversation *c, const char *text, size_t len,
                  int64_t line, struct sample *s, enum drop_reason *reason, struct err *e)
{
    struct rendered *r = &s->rendered;
    struct tokens tokens = {0};
    int64_t marks = 0, labels = 0;
    bool ok = false;

    memset(s, 0, sizeof *s);
    *reason = DROP_BROKEN;
    if (!parse(c, text, len, e)) goto out;
    if (!(c->text ? template_plain_text(c->text, r, e)
                  : template_render(d->o.chat, c->messages, c->n, false, r, e)) ||
        !tokenizer_encode(d->o.tokenizer, d->scratch, r->text, r->len, r->add_special, &tokens, e))
        goto out;
    *reason = DROPS;
    if (!lay_out(&d->o, r, &tokens, s, &marks, e)) goto out;
    s->answer = mem_strdup(c->answer ? c->answer : "", e);
    s->id = sample_id(c->json, line, e);
    if (!s->answer || !s->id) goto out;
    for (int64_t i = 1; i < s->n; i++)
        labels += s->trained[i];
    *reason = DROP_MISMATCH;
    if (d->o.image_id < 0 ? c->n_images > 0 || strstr(r->text, IMAGE_MARK)
                          : marks != (int64_t)c->n_images) {
        err_set(e,
                d->o.image_id < 0
                    ? "has pictures, which a text-only model cannot see (%lld marks, %zu "
                      "pictures)"
                    : "%lld <image> marks for %zu pictures",
                (long long)marks, c->n_images);
        goto out;
    }
    *reason = DROP_NO_LABELS;
    if (labels == 0) {
        err_set(e, "has no answer to train on");
        goto out;
    }
    *reason = DROP_BROKEN;
    if (d->o.asked && s->prompt == 0) {
        err_set(e, "asks nothing that could be answered: see evaluate.score");
        goto out;
    }
    *reason = DROP_TOO_LONG;
    if (s->n > d->o.max_length) {
        err_set(e, "%lld tokens, data.max_length is %lld", (long long)s->n,
                (long long)d->o.max_length);
        goto out;
    }
    ok = true;
out:
    tokens_free(&tokens);
    if (!ok) sample_free(s);
    return ok;
}

static void slot_put(struct dataset *d, int64_t index)
{
    uint64_t at =
        hash_fnv(d->images[index].path, strlen(d->images[index].path)) % (uint64_t)d->n_slots;

    while (d->slots[at] >= 0)
        at = (at + 1) % (uint64_t)d->n_slots;
    d->slots[at] = index;
}

static bool grow_slots(struct dataset *d, struct err *e)
{
    int64_t want = d->n_slots ? 4 * d->n_slots : 1024;
    int64_t *slots;

    if (2 * (d->n_images + 1) <= d->n_slots) return true;
    slots = mem_new((size_t)want, sizeof *slots, "the list of pictures", e);
    if (!slots) return false;
    free(d->slots);
    d->slots = slots;
    d->n_slots = want;
    memset(slots, -1, (size_t)want * sizeof *slots);
    for (int64_t i = 0; i < d->n_images; i++)
        slot_put(d, i);
    return true;
}

/* The number of a picture, -1 where it is no picture (*e says why), -2 out of memory. */
static int64_t intern_image(struct dataset *d, const char *path, struct err *e)
{
    int64_t width, height;
    uint64_t at;

    if (!grow_slots(d, e)) return -2;
    for (at = hash_fnv(path, strlen(path)) % (uint64_t)d->n_slots; d->slots[at] >= 0;
         at = (at + 1) % (uint64_t)d->n_slots)
        if (strcmp(d->images[d->slots[at]].path, path) == 0)
            return d->images[d->slots[at]].bad ? (err_set(e, "%s: is broken", path), -1)
                                               : d->slots[at];
    struct dataset_image img = {.path = mem_strdup(path, e)};
    if (!img.path ||
        !mem_grow(&d->images, &d->cap_images, (size_t)d->n_images + 1, sizeof *d->images, e)) {
        free(img.path);
        return -2;
    }
    img.bad = !image_size(path, &width, &height, e);
    d->images[d->n_images] = img;
    slot_put(d, d->n_images++);
    return img.bad ? -1 : d->n_images - 1;
}

static bool drop(struct dataset *d, enum drop_reason reason, const char *where, int64_t line,
                 const char *why, struct err *e)
{
    char *text =
        mem_printf(e, "%s: %s:%lld: %s\n", drop_names[reason], where, (long long)line, why);
    size_t len = text ? strlen(text) : 0;
    bool ok = text && mem_grow(&d->left_out, &d->cap_left_out, d->left_out_len + len + 1, 1, e);

    if (ok) {
        memcpy(d->left_out + d->left_out_len, text, len + 1);
        d->left_out_len += len;
    }
    if (ok && d->dropped[reason]++ == 0)
        snprintf(d->first_dropped[reason], sizeof d->first_dropped[reason], "%.200s:%lld: %.280s",
                 where, (long long)line, why);
    free(text);
    return ok;
}

static bool add_images(struct dataset *d, struct dataset_entry *entry, const struct conversation *c,
                       enum drop_reason *reason, struct err *e)
{
    const char *root = d->sources[entry->source].images;

    entry->first_image = (int64_t)d->n_refs;
    for (size_t i = 0; i < c->n_images; i++) {
        char *path = file_join(root, c->images[i], e);
        int64_t image = path ? intern_image(d, path, e) : -2;
        free(path);
        *reason = image == -2 ? DROPS : DROP_IMAGE;
        if (image < 0 || !mem_grow(&d->refs, &d->cap_refs, d->n_refs + 1, sizeof *d->refs, e))
            return false;
        d->refs[d->n_refs++] = (int32_t)image;
    }
    entry->images = (int32_t)c->n_images;
    return true;
}

static bool add_entry(struct dataset *d, int32_t source, size_t begin, size_t end, int64_t line,
                      struct err *e)
{
    const struct dataset_source *src = &d->sources[source];
    const char *text = (const char *)d->maps[source].data + begin;
    struct dataset_entry entry = {
        .source = source, .begin = (int64_t)begin, .end = (int64_t)end, .line = line};
    struct conversation c = {0};
    enum drop_reason reason;
    struct sample s = {0};
    struct err why = {0};
    size_t refs = d->n_refs;
    bool ok = build(d, &c, text, end - begin, line, &s, &reason, &why) &&
              add_images(d, &entry, &c, &reason, &why);

    conversation_free(&c);
    if (!ok) {
        sample_free(&s);
        d->n_refs = refs;
        if (why.machine || reason == DROPS || (reason == DROP_TOO_LONG && d->o.too_long_is_error)) {
            *e = why;
            return err_context(e, "%s:%lld", src->path, (long long)line);
        }
        return drop(d, reason, src->path, line, why.msg, e);
    }
    entry.tokens = (int32_t)s.n; /* max_length fits */
    for (int64_t i = 1; i < s.n; i++)
        entry.labels += s.trained[i];
    sample_free(&s);
    if (!mem_grow(&d->entries, &d->cap_entries, (size_t)d->n + 1, sizeof *d->entries, e))
        return false;
    d->entries[d->n++] = entry;
    return true;
}

/* Sums over the entries that are left. */
static void count(struct dataset *d)
{
    d->tokens = d->labels = d->longest = 0;
    for (int64_t i = 0; i < d->n; i++) {
        d->tokens += d->entries[i].tokens;
        d->labels += d->entries[i].labels;
        if (d->entries[i].tokens > d->longest) {
            d->longest = d->entries[i].tokens;
            d->longest_entry = i;
        }
    }
}

static bool index_source(struct dataset *d, int32_t i, struct sha256 *sum, struct err *e)
{
    struct json_scan scan;
    int64_t before = d->n, line = 1;
    size_t begin, end, seen = 0;
    bool found;

    if (!file_map_open(&d->maps[i], d->sources[i].path, e)) return false;
    sha256_add(sum, d->maps[i].data, d->maps[i].size);
    if (!json_scan_open(&scan, d->maps[i].data, d->maps[i].size, d->sources[i].path, e))
        return false;
    while (json_scan_next(&scan, &begin, &end, &found, e)) {
        if (!found || (d->sources[i].limit && d->n - before == d->sources[i].limit)) return true;
        for (; seen < begin; seen++)
            line += d->maps[i].data[seen] == '\n';
        if (!add_entry(d, i, begin, end, line, e)) return false;
    }
    return false;
}

bool dataset_open(struct dataset *d, const struct dataset_source *sources, int64_t n,
                  const struct dataset_options *o, struct err *e)
{
    struct sha256 sum;
    bool ok;

    memset(d, 0, sizeof *d);
    d->o = *o;
    d->sources = mem_new((size_t)n, sizeof *d->sources, "data sources", e);
    d->maps = mem_new((size_t)n, sizeof *d->maps, "data sources", e);
    d->scratch = tokenizer_scratch_new(o->tokenizer, e);
    ok = d->sources && d->maps && d->scratch;
    sha256_init(&sum);
    for (int64_t i = 0; ok && i < n; i++) {
        char *images =
            sources[i].images ? mem_strdup(sources[i].images, e) : file_dir(sources[i].path, e);
        d->sources[i] = (struct dataset_source){
            .path = sources[i].path, .images = images, .limit = sources[i].limit};
        d->n_sources = i + 1;
        ok = images && index_source(d, (int32_t)i, &sum, e);
    }
    sha256_hex(&sum, d->hash);
    if (ok)
        count(d);
    else
        dataset_close(d);
    return ok;
}

void dataset_close(struct dataset *d)
{
    for (int64_t i = 0; i < d->n_sources; i++) {
        free((char *)(uintptr_t)d->sources[i].images);
        file_map_close(&d->maps[i]);
    }
    for (int64_t i = 0; i < d->n_images; i++)
        free(d->images[i].path);
    free(d->sources);
    free(d->maps);
    free(d->entries);
    free(d->images);
    free(d->refs);
    free(d->slots);
    free(d->left_out);
    tokenizer_scratch_free(d->scratch);
    memset(d, 0, sizeof *d);
}

bool dataset_drop_bad_images(struct dataset *d, struct err *e)
{
    int64_t kept = 0;
    bool ok = true;

    for (int64_t i = 0; i < d->n; i++) {
        struct dataset_entry *entry = &d->entries[i];
        int64_t bad = -1;
        for (int32_t k = 0; k < entry->images; k++)
            if (d->images[d->refs[entry->first_image + k]].bad)
                bad = d->refs[entry->first_image + k];
        if (bad >= 0)
            ok = drop(d, DROP_IMAGE, d->sources[entry->source].path, entry->line,
                      d->images[bad].path, e) &&
                 ok;
        else
            d->entries[kept++] = *entry;
    }
    d->n = kept;
    count(d);
    return ok;
}

bool dataset_sample(const struct dataset *d, int64_t i, struct sample *s, struct err *e)
{
    const struct dataset_entry *entry = &d->entries[i];
    struct conversation c = {0};
    enum drop_reason reason;
    bool ok;

    CHECK(0 <= i && i < d->n);
    ok = build(d, &c, (const char *)d->maps[entry->source].data + entry->begin,
               (size_t)(entry->end - entry->begin), entry->line, s, &reason, e);
    conversation_free(&c);
    if (!ok) /* it was fine when it was indexed */
        return err_context(e,
                           e->machine ? "%s:%lld" : "%s:%lld: the file changed while it was used",
                           d->sources[entry->source].path, (long long)entry->line);
    s->images = entry->images;
    s->image = d->refs + entry->first_image;
    return true;
}

void sample_free(struct sample *s)
{
    free(s->id);
    free(s->ids);
    free(s->trained);
    free(s->modality);
    free(s->answer);
    rendered_free(&s->rendered);
    memset(s, 0, sizeof *s);
}
