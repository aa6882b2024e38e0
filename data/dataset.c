/* dataset.c - the index of the samples: where they are, what they contain, which are dropped. */
#include "data/dataset.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"
#include "data/dataset_parts.h"
#include "data/json_scan.h"
#include "data/picture/processor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const drop_names[DROPS] = {
    [DROP_NO_LABELS] = "nothing in them would be trained",
    [DROP_IMAGE] = "a picture is missing or broken",
    [DROP_MISMATCH] = "<image> marks and pictures differ in number",
    [DROP_TOO_LONG] = "too long",
    [DROP_UNREAD] = "they have unsupported content: video, sound, tools",
    [DROP_BROKEN] = "not a conversation or text"};

/* The list of dropped samples stops growing at this size: a broken file of several GB should not
 * take as much memory again for complaints. */
enum { LEFT_OUT_BYTES = 64 << 20 };

bool dataset_mark_bad(struct dataset_image *img, const struct err *why, struct err *e)
{
    img->bad = true;
    img->why = mem_strdup(why->msg, e);
    return img->why;
}

/* The index of an image, -1 if it is new. */
static int64_t find_image(const struct dataset *d, const char *path)
{
    const uint64_t hash = hash_fnv(path, strlen(path));
    uint64_t step = 0;
    int64_t i;

    while ((i = slots_next(&d->slots, hash, &step)) >= 0)
        if (strcmp(d->images[i].path, path) == 0) return i;
    return -1;
}

/* Of the picture that comes next. */
static void note_reading(struct dataset *d, const struct picture_shape *s)
{
    const struct image_info look = {.width = s->width, .height = s->height, .memory = s->memory};
    const int64_t bytes = d->o.processor ? processor_memory(d->o.processor, &look) : 0;

    if (bytes > d->largest.bytes)
        d->largest = (struct dataset_reading){bytes, d->n_images, look.width, look.height};
}

/* Adds an image, with its shape or what is wrong with it; its index, or -1. */
static int64_t add_image(struct dataset *d, const struct dataset_image *of, const struct err *why,
                         struct err *e)
{
    struct dataset_image img = *of;

    img.path = mem_strdup(of->path, e);
    if (!img.path ||
        !mem_grow(&d->images, &d->cap_images, (size_t)d->n_images + 1, sizeof *d->images, e) ||
        !slots_reserve(&d->slots, d->n_images + 1, e) || (why && !dataset_mark_bad(&img, why, e))) {
        free(img.path);
        return -1;
    }
    if (!why) note_reading(d, &img.shape);
    d->images[d->n_images] = img;
    slots_put(&d->slots, hash_fnv(img.path, strlen(img.path)), d->n_images);
    return d->n_images++;
}

bool dataset_look(const struct dataset_image *img, struct image_info *info, struct err *e)
{
    return img->inside.data ? image_look_at(img->path, img->inside.data, img->inside.size, info, e)
                            : image_look(img->path, info, e);
}

/* The image that a sample calls `name`; its path is to be freed. */
static bool name_image(const struct dataset_source *source, const char *name,
                       struct dataset_image *img, struct err *e)
{
    char *end;
    const int64_t at = strtoll(name, &end, 10);

    memset(img, 0, sizeof *img);
    if (!source->inside) return (img->path = file_join(source->images, name, e)) != NULL;
    if (*end || at < 1 || at > source->n_inside)
        return err_set(e, "\"%.40s\" is none of %" PRId64 " pictures", name, source->n_inside);
    img->inside = source->inside[at - 1];
    return (img->path = mem_printf(e, "picture %s", name)) != NULL;
}

/* The shape of an image; an unusable one is recorded as such. */
static bool shape_image(struct dataset *d, struct dataset_image *img, struct err *e)
{
    const struct picture_rule *rule = &d->o.pictures.rule;
    struct image_info look;
    struct err failed;
    const int64_t i = find_image(d, img->path);

    if (i >= 0 && d->images[i].bad) return err_set(e, "%s", d->images[i].why);
    if (i >= 0) {
        img->shape = d->images[i].shape;
        return true;
    }
    if (dataset_look(img, &look, e)) {
        img->shape = (struct picture_shape){
            .memory = look.memory, .height = look.height, .width = look.width};
        if (rule->shape(rule->arg, &img->shape, e)) return true;
        err_context(e, "%s", img->path);
    }
    if (!e->machine && add_image(d, img, e, &failed) < 0) *e = failed;
    return false;
}

static bool look_at_pictures(void *arg, const struct dataset_entry *entry, struct draft *f,
                             enum drop_reason *reason, struct err *e)
{
    struct dataset *d = arg;

    *reason = DROP_IMAGE;
    for (size_t i = 0; i < f->c.n_images; i++) {
        struct dataset_image img;
        bool ok = name_image(&d->sources[entry->source], f->c.images[i], &img, e) &&
                  shape_image(d, &img, e);
        f->shape[i] = img.shape;
        free(img.path);
        if (!ok) return false;
    }
    return true;
}

const char *dataset_place(const struct dataset_entry *entry, char out[DATASET_PLACE])
{
    int n = snprintf(out, DATASET_PLACE, "%" PRId64, entry->line);

    if (!entry->first_of_line)
        snprintf(out + n, (size_t)(DATASET_PLACE - n), ":%" PRId64, entry->col);
    return out;
}

static bool append_left_out(struct dataset *d, const char *text, struct err *e)
{
    size_t len = strlen(text);

    if (!mem_grow(&d->left_out, &d->cap_left_out, d->left_out_len + len + 2, 1, e)) return false;
    memcpy(d->left_out + d->left_out_len, text, len);
    memcpy(d->left_out + d->left_out_len + len, "\n", 2);
    d->left_out_len += len + 1;
    return true;
}

/* " (id ...)", which says which sample it is where its file was written anew; "" without one. */
static const char *id_text(const struct text *id, char out[128])
{
    char plain[96];

    out[0] = '\0';
    if (id->n) snprintf(out, 128, " (id %s)", text_plain(plain, sizeof plain, id->s, id->n));
    return out;
}

/* why: "FILE:LINE:COL: what". */
static bool drop(struct dataset *d, enum drop_reason reason, const char *why, const struct text *id,
                 struct err *e)
{
    bool full = d->left_out_len > LEFT_OUT_BYTES, ok = true;
    char *text, name[128];

    if (!full) {
        text = mem_printf(e, "%s: %s%s", drop_names[reason], why, id_text(id, name));
        ok = text && append_left_out(d, text, e);
        free(text);
        if (ok && d->left_out_len > LEFT_OUT_BYTES)
            ok = append_left_out(d, "this list ends here: further samples are only counted", e);
    }
    if (ok && d->dropped[reason]++ == 0)
        snprintf(d->first_dropped[reason], sizeof d->first_dropped[reason], "%s", why);
    return ok;
}

static bool add_images(struct dataset *d, struct dataset_entry *entry, const struct draft *f,
                       struct err *e)
{
    entry->first_image = (int64_t)d->n_refs;
    entry->images = (int32_t)f->c.n_images;
    for (size_t i = 0; i < f->c.n_images; i++) {
        struct dataset_image img;
        int64_t image = -1;

        if (name_image(&d->sources[entry->source], f->c.images[i], &img, e) &&
            (image = find_image(d, img.path)) < 0) {
            img.shape = f->shape[i];
            image = add_image(d, &img, NULL, e);
        }
        free(img.path);
        if (image < 0 || !mem_grow(&d->refs, &d->cap_refs, d->n_refs + 1, sizeof *d->refs, e))
            return false;
        d->refs[d->n_refs++] = (int32_t)image;
    }
    return true;
}

/* Of a sample that is used. */
static bool note_unusual(struct dataset *d, const struct dataset_entry *entry,
                         const struct conversation *c, struct err *e)
{
    const struct tokenizer_lost *lost = tokenizer_lost(d->scratch); /* it was tokenised last */
    const unsigned kinds = unusual_kinds(c->messages, c->n);
    char *where;
    bool ok;

    if (!kinds && !lost->n) return true;
    where = mem_printf(e, "%s:%" PRId64 ":%" PRId64, d->sources[entry->source].path, entry->line,
                       entry->col);
    ok = where && unusual_add(&d->unusual, kinds, where, e) && lost_add(&d->lost, lost, where, e);
    free(where);
    return ok;
}

/* A set has one metric, and figures of all its samples. */
static bool take_metric(struct dataset *d, const struct dataset_entry *entry, const struct draft *f,
                        struct err *e)
{
    const struct metric *m = f->c.by.metric;

    if (d->n == 0) d->metric = m;
    if (m == d->metric) return true;
    err_set(
        e,
        "metric \"%s\", and the samples before have \"%s\": a file has one, or data.eval[].metric",
        m ? m->name : "plain", d->metric ? d->metric->name : "plain");
    return dataset_context(d, entry, e);
}

static bool add_entry(struct dataset *d, struct dataset_entry *entry, struct draft *f,
                      struct err *e)
{
    enum drop_reason reason;
    struct err why = {0};

    f->shapes = look_at_pictures;
    f->arg = d;
    if (!draft_make(f, d, entry, &d->unused, &reason, &why)) {
        if (why.machine || reason == DROPS || (reason == DROP_TOO_LONG && d->o.too_long_is_error))
            return (*e = why, false);
        return drop(d, reason, why.msg, &f->c.id, e);
    }
    if (!take_metric(d, entry, f, e)) return false;
    entry->group = benchmark_unit(&f->c.by);
    entry->options = benchmark_options(&f->c.by);
    entry->by_letter = benchmark_letter(&f->c.by) >= 0;
    if (!add_images(d, entry, f, e) || !note_unusual(d, entry, &f->c, e)) return false;
    entry->tokens = (int32_t)f->n; /* max_length keeps it in range */
    entry->labels = (int32_t)f->labels;
    entry->sequences = f->c.by.n_contexts ? (int32_t)f->c.by.n_choices : 1;
    entry->longest = entry->tokens;
    if (d->o.window && f->c.plain.s && f->n > d->o.window) {
        entry->sequences = (int32_t)(1 + (f->n - d->o.window + d->o.stride - 1) / d->o.stride);
        entry->longest = (int32_t)d->o.window;
    }
    if (!mem_grow(&d->entries, &d->cap_entries, (size_t)d->n + 1, sizeof *d->entries, e))
        return false;
    d->entries[d->n++] = *entry;
    return true;
}

static bool is_grouped(const struct dataset *d)
{
    return d->metric && (d->metric->index || d->metric->pairs);
}

/* A sample behind the limit: its group may lack it. */
static bool pass_entry(struct dataset *d, const struct dataset_entry *entry, struct draft *f,
                       struct err *e)
{
    enum drop_reason reason;
    struct err why = {0};

    if (!draft_make(f, d, entry, NULL, &reason, &why)) /* a limit cuts nothing usable there */
        return (!why.machine && reason != DROPS) || (*e = why, false);
    if (f->c.by.metric != d->metric) return true;
    if (!mem_grow(&d->behind, &d->cap_behind, d->n_behind + 1, sizeof *d->behind, e)) return false;
    d->behind[d->n_behind++] = benchmark_unit(&f->c.by);
    return true;
}

/* The first entry of a group; -1: none is there. */
static int64_t first_of(const struct dataset *d, const struct slots *groups, uint64_t group)
{
    uint64_t step = 0;
    int64_t first;

    while ((first = slots_next(groups, group, &step)) >= 0)
        if (d->entries[first].group == group) break;
    return first;
}

/* Numbers the units: groups by their first entry. */
static bool count_units(struct dataset *d, struct err *e)
{
    const bool grouped = is_grouped(d);
    struct slots groups = {0}; /* of first entries, by the group's hash */
    bool ok = true;

    d->units = 0;
    for (int64_t i = 0; ok && i < d->n; i++) {
        struct dataset_entry *entry = &d->entries[i];
        const int64_t first = grouped ? first_of(d, &groups, entry->group) : -1;
        entry->behind = 0;
        entry->unit = first < 0 ? d->units++ : d->entries[first].unit;
        if (!grouped || first >= 0) continue;
        ok = slots_reserve(&groups, d->units, e);
        if (ok) slots_put(&groups, entry->group, i);
    }
    for (size_t i = 0; ok && i < d->n_behind; i++) {
        const int64_t first = first_of(d, &groups, d->behind[i]);
        if (first >= 0) d->entries[first].behind++;
    }
    slots_free(&groups);
    return ok;
}

/* Totals over the remaining entries. */
static bool count(struct dataset *d, struct err *e)
{
    d->tokens = d->labels = d->longest = 0;
    for (int64_t i = 0; i < d->n; i++) {
        d->tokens += d->entries[i].tokens;
        d->labels += d->entries[i].labels;
        if (d->entries[i].longest > d->longest) {
            d->longest = d->entries[i].longest;
            d->longest_entry = i;
        }
    }
    return count_units(d, e);
}

/* Every sample is tokenised and the head of every picture read, which takes its time where there
 * are many, or files are far away. */
static void say_progress(const struct json_scan *scan, double begin)
{
    enum { PATIENCE = 5 }; /* seconds without a word */

    if (scan->count % 256 == 0 && clock_seconds() - begin > PATIENCE)
        log_progress("%s: %lld samples looked at, %.0f %% of the file", scan->name,
                     (long long)scan->count, 100 * (double)scan->at / (double)scan->size);
}

enum { HASHED = 64 << 20 }; /* bytes hashed between two polls for a signal */

static bool index_source(struct dataset *d, int32_t i, struct sha256 *sum, struct err *e)
{
    const struct dataset_source *source = &d->sources[i];
    struct json_scan scan;
    struct draft f = {0};
    const double start = clock_seconds();
    int64_t before = d->n;
    size_t begin, end;
    bool found = true, ok;

    if (source->memory)
        file_map_borrow(&d->maps[i], source->memory->s, source->memory->n);
    else if (!file_map_open(&d->maps[i], source->path, e))
        return false;
    for (size_t at = 0; at < d->maps[i].size; at += HASHED) {
        size_t left = d->maps[i].size - at;
        if (!signals_go_on(e)) return false;
        sha256_add(sum, d->maps[i].data + at, left < HASHED ? left : HASHED);
    }
    ok = json_scan_open(&scan, d->maps[i].data, d->maps[i].size, source->path, e);
    while (ok && found) {
        ok = json_scan_next(&scan, &begin, &end, &found, e);
        const bool past = source->limit && d->n - before == source->limit;
        if (!ok || !found || (past && !is_grouped(d))) break;
        struct dataset_entry entry = {.source = i,
                                      .begin = (int64_t)begin,
                                      .end = (int64_t)end,
                                      .line = scan.place.line,
                                      .col = scan.place.col,
                                      .first_of_line = scan.first_of_line};
        say_progress(&scan, start);
        ok =
            signals_go_on(e) && (past ? pass_entry(d, &entry, &f, e) : add_entry(d, &entry, &f, e));
    }
    if (ok && scan.count == 0)
        ok = err_set(e, "%s: an empty list: no sample is in it", source->path);
    draft_free(&f);
    return ok;
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
        d->sources[i] = sources[i];
        d->sources[i].images = images;
        d->n_sources = i + 1;
        ok = images && index_source(d, (int32_t)i, &sum, e);
    }
    sha256_hex(&sum, d->hash);
    ok = ok && count(d, e);
    if (!ok) dataset_close(d);
    return ok;
}

void dataset_close(struct dataset *d)
{
    for (int64_t i = 0; i < d->n_sources; i++) {
        free((char *)(uintptr_t)d->sources[i].images);
        file_map_close(&d->maps[i]);
    }
    for (int64_t i = 0; i < d->n_images; i++) {
        free(d->images[i].path);
        free(d->images[i].why);
    }
    free(d->sources);
    free(d->maps);
    free(d->entries);
    free(d->images);
    free(d->refs);
    free(d->behind);
    slots_free(&d->slots);
    free(d->left_out);
    unused_free(&d->unused);
    unusual_free(&d->unusual);
    lost_free(&d->lost);
    tokenizer_scratch_free(d->scratch);
    memset(d, 0, sizeof *d);
}

static const struct dataset_image *bad_image(const struct dataset *d,
                                             const struct dataset_entry *entry)
{
    for (int32_t k = 0; k < entry->images; k++) {
        const struct dataset_image *img = &d->images[d->refs[entry->first_image + k]];
        if (img->bad) return img;
    }
    return NULL;
}

static bool drop_for(struct dataset *d, const struct dataset_entry *entry,
                     const struct dataset_image *img, struct err *e)
{
    const struct conversation_source from = dataset_bytes(d, entry);
    struct conversation c; /* for its id */
    enum drop_reason unread;
    struct err why, failed;
    bool ok;

    err_set(&why, "%s", img->why);
    dataset_context(d, entry, &why);
    ok = conversation_read(&c, &from, NULL, &unread, &failed) || !failed.machine ||
         (*e = failed, false);
    ok = ok && drop(d, DROP_IMAGE, why.msg, &c.id, e);
    conversation_free(&c);
    return ok;
}

bool dataset_drop_bad_images(struct dataset *d, struct err *e)
{
    int64_t kept = 0;
    bool ok = true;

    for (int64_t i = 0; i < d->n; i++) {
        const struct dataset_image *img = bad_image(d, &d->entries[i]);
        if (img)
            ok = drop_for(d, &d->entries[i], img, e) && ok;
        else
            d->entries[kept++] = d->entries[i];
    }
    d->n = kept;
    return count(d, e) && ok;
}
