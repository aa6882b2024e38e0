/* sample.c - a sample from its bytes to labelled tokens. */
#include "base/mem.h"
#include "base/plural.h"
#include "data/dataset_parts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A text with more than TOKEN_BYTES bytes per allowed token (plus TEXT_ROOM) is too long whatever
 * the tokenizer makes of it: refused before tokenising, since tokens cost 24 bytes each. */
enum { TEXT_ROOM = 1 << 20, TOKEN_BYTES = 32 };

void draft_free(struct draft *f)
{
    conversation_free(&f->c);
    rendered_free(&f->r);
    tokens_free(&f->tokens);
    free(f->shape);
    memset(f, 0, sizeof *f);
}

/* A token is trained on if it begins inside a trained range; special tokens from the post-processor
 * cover no bytes and are not. A blank that a tokenizer merges into the answer's first token begins
 * inside the range too, because the templates' ranges include it. */
static bool is_trained(const struct rendered *r, const struct token *t, size_t *range)
{
    while (*range < r->n_trained && (size_t)t->begin >= r->trained[*range].end)
        ++*range;
    return t->end > t->begin && *range < r->n_trained &&
           (size_t)t->begin >= r->trained[*range].begin;
}

static int64_t count_marks(const struct draft *f, int32_t image_id)
{
    int64_t marks = 0;

    for (size_t i = 0; i < f->tokens.n; i++)
        marks += f->tokens.v[i].id == image_id;
    return marks;
}

/* Counts tokens and labels after image expansion. */
static void measure(struct draft *f, const struct dataset_options *o)
{
    const struct rendered *r = &f->r;
    const struct picture_shape *shape = f->shape;
    size_t range = 0;

    for (size_t i = 0; i < f->tokens.n; i++) {
        const struct token *t = &f->tokens.v[i];
        bool image = t->id == o->pictures.id, trained = is_trained(r, t, &range);
        int64_t places = image ? shape++->tokens : 1;
        if (r->n_trained && (size_t)t->begin < r->trained[r->n_trained - 1].begin)
            f->prompt = f->n + places;
        f->labels += trained && !image && f->n > 0;
        f->n += places;
    }
}

static int64_t marks_in(const struct rendered *r)
{
    const char *at = r->text, *end = at + r->len;
    int64_t n = 0;

    for (; (at = memmem(at, (size_t)(end - at), IMAGE_MARK, strlen(IMAGE_MARK))) != NULL; n++)
        at += strlen(IMAGE_MARK);
    return n;
}

/* Every picture needs a mark, and every mark a picture. */
static bool check_marks(const struct draft *f, const struct dataset_options *o,
                        enum drop_reason *reason, struct err *e)
{
    int64_t marks = count_marks(f, o->pictures.id);
    size_t pictures = f->c.n_images;

    *reason = DROP_MISMATCH;
    if (o->pictures.id < 0 && (pictures || (marks = marks_in(&f->r)) > 0))
        return err_set(e,
                       "has pictures, which a text-only model cannot see (%lld marks, %zu "
                       "pictures)",
                       (long long)marks, pictures);
    return marks == (int64_t)pictures ||
           err_set(e, "%lld <image> mark%s for %zu picture%s", (long long)marks, plural(marks),
                   pictures, plural((int64_t)pictures));
}

static bool check(const struct draft *f, const struct dataset_options *o, enum drop_reason *reason,
                  struct err *e)
{
    const int64_t n = o->open ? f->prompt : f->n;

    *reason = DROP_NO_LABELS;
    if (f->labels == 0) return err_set(e, "has no answer to train on");
    *reason = DROP_BROKEN;
    if (o->asked && f->prompt == 0)
        return err_set(e, "asks nothing that could be answered: see evaluate.score");
    if (o->choices && !f->c.by.metric && cJSON_GetObjectItemCaseSensitive(f->c.doc.root, "choices"))
        return err_set(e, "has \"choices\", which are only read with a \"metric\": see "
                          "evaluate.score");
    if (o->choices && !f->c.by.n_choices)
        return err_set(e, "has no \"choices\" to choose from: see evaluate.score");
    if (f->c.by.n_contexts && !o->choices)
        return err_set(e, "has choices behind a context: evaluate.score \"options\" scores them");
    *reason = DROP_TOO_LONG;
    if (o->window && f->c.plain.s && f->n <= INT32_MAX) return true;
    return n <= o->max_length || err_set(e, "%lld tokens, %s is %lld", (long long)n, o->limited_by,
                                         (long long)o->max_length);
}

static bool tokenize(struct draft *f, const struct dataset *d, enum drop_reason *reason,
                     struct err *e)
{
    const struct conversation *c = &f->c;
    const struct dataset_options *o = &d->o;
    struct rendered *r = &f->r;
    int64_t most = TEXT_ROOM + TOKEN_BYTES * o->max_length;

    *reason = DROP_BROKEN;
    if (!(c->plain.s ? template_plain_text(c->plain.s, c->plain.n, r, e)
                     : template_render(o->chat, c->messages, c->n, false, r, e)))
        return false;
    if (c->by.n_contexts) r->trained[0].begin = c->context;
    *reason = DROP_TOO_LONG;
    if ((int64_t)r->len > most && !(o->window && c->plain.s))
        return err_set(e, "%zu bytes of text, and %s is %lld", r->len, o->limited_by,
                       (long long)o->max_length);
    *reason = DROP_BROKEN;
    return tokenizer_encode(o->tokenizer, d->scratch, r->text, r->len, r->add_special, &f->tokens,
                            e);
}

struct conversation_source dataset_bytes(const struct dataset *d, const struct dataset_entry *entry)
{
    return (struct conversation_source){
        .path = d->sources[entry->source].path,
        .json = (const char *)d->maps[entry->source].data + entry->begin,
        .len = (size_t)(entry->end - entry->begin),
        .line = entry->line,
        .col = entry->col,
        .image_mark =
            d->o.pictures.id < 0 ? NULL : tokenizer_piece(d->o.tokenizer, d->o.pictures.id),
        .scored = d->o.asked,
        .metric = d->o.metric};
}

bool dataset_context(const struct dataset *d, const struct dataset_entry *entry, struct err *e)
{
    return err_context(e, "%s:%" PRId64 ":%" PRId64, d->sources[entry->source].path, entry->line,
                       entry->col);
}

bool draft_make(struct draft *f, const struct dataset *d, const struct dataset_entry *entry,
                struct unused *unused, enum drop_reason *reason, struct err *e)
{
    const struct conversation_source from = dataset_bytes(d, entry);

    conversation_free(&f->c);
    f->tokens.n = 0;
    f->n = f->labels = f->prompt = 0;
    if (!conversation_read(&f->c, &from, unused, reason, e)) return false;
    if (tokenize(f, d, reason, e) && check_marks(f, &d->o, reason, e) &&
        mem_grow(&f->shape, &f->cap_shape, f->c.n_images, sizeof *f->shape, e) &&
        f->shapes(f->arg, entry, f, reason, e)) {
        measure(f, &d->o);
        if (check(f, &d->o, reason, e)) return true;
    }
    if (e->machine) *reason = DROPS;
    return dataset_context(d, entry, e);
}

/* Expands images and labels the tokens. s->n is f->n. */
static void lay_out(const struct dataset_options *o, const struct draft *f, struct sample *s)
{
    const struct picture_places *p = &o->pictures;
    const struct picture_shape *shape = f->shape;
    int64_t at = 0;
    size_t range = 0;

    for (size_t i = 0; i < f->tokens.n; i++) {
        const struct token *t = &f->tokens.v[i];
        bool image = t->id == p->id, trained = is_trained(&f->r, t, &range);
        bool around = p->id >= 0 && (t->id == p->around[0] || t->id == p->around[1]);
        for (int64_t places = image ? shape++->tokens : 1; places > 0; places--, at++) {
            s->ids[at] = t->id;
            s->trained[at] = trained && !image;
            s->kind[at] = image ? TOKEN_PLACE : around ? TOKEN_AROUND : TOKEN_TEXT;
        }
    }
    CHECK(at == s->n);
    if (f->c.n_images) memcpy(s->shape, f->shape, f->c.n_images * sizeof *s->shape);
    s->rules = p;
}

static bool copy_text(struct text *to, const struct text *from, struct err *e)
{
    to->n = from->n;
    to->s = mem_strndup(from->s ? from->s : "", from->n, e);
    return to->s;
}

static bool name_sample(struct sample *s, const struct draft *f, const struct dataset_entry *entry,
                        struct err *e)
{
    char place[DATASET_PLACE];

    if (f->c.id.s) return copy_text(&s->id, &f->c.id, e);
    s->id.s = mem_printf(e, "line %s", dataset_place(entry, place));
    s->id.n = s->id.s ? strlen(s->id.s) : 0;
    return s->id.s;
}

/* Takes the shapes from the index. */
static bool known_shapes(void *arg, const struct dataset_entry *entry, struct draft *f,
                         enum drop_reason *reason, struct err *e)
{
    const struct dataset *d = arg;
    size_t n = f->c.n_images;

    *reason = DROP_IMAGE; /* any reason: the sample was fine when it was indexed */
    if (n != (size_t)entry->images)
        return err_set(e, "it has %zu pictures and had %lld", n, (long long)entry->images);
    for (size_t i = 0; i < n; i++)
        f->shape[i] = d->images[d->refs[entry->first_image + (int64_t)i]].shape;
    return true;
}

bool dataset_sample(const struct dataset *d, int64_t i, struct sample *s, struct err *e)
{
    const struct dataset_entry *entry = &d->entries[i];
    enum drop_reason reason;
    struct draft f = {.shapes = known_shapes, .arg = (void *)(uintptr_t)d};
    bool ok = draft_make(&f, d, entry, NULL, &reason, e);

    CHECK(0 <= i && i < d->n);
    memset(s, 0, sizeof *s);
    if (ok && f.n != entry->tokens)
        ok =
            err_set(e, "it has %lld tokens and had %lld", (long long)f.n, (long long)entry->tokens);
    if (!ok) {
        if (reason != DROPS) { /* it was fine when it was indexed */
            err_context(e, "was changed while it was in use");
            dataset_context(d, entry, e);
        }
        goto out;
    }
    s->n = f.n;
    s->prompt = f.prompt;
    s->ids = mem_new((size_t)s->n, sizeof *s->ids, "a sample's tokens", e);
    s->trained = mem_new((size_t)s->n, sizeof *s->trained, "a sample's tokens", e);
    s->kind = mem_new((size_t)s->n, sizeof *s->kind, "a sample's tokens", e);
    s->shape = mem_new(f.c.n_images, sizeof *s->shape, "a sample's pictures", e);
    ok = s->ids && s->trained && s->kind && s->shape && copy_text(&s->answer, &f.c.answer, e) &&
         name_sample(s, &f, entry, e);
    if (ok) {
        lay_out(&d->o, &f, s);
        s->rendered = f.r;
        f.r = (struct rendered){0};
        s->by = f.c.by;
        f.c.by = (struct benchmark){0};
        s->images = entry->images;
        s->image = entry->images ? d->refs + entry->first_image : NULL;
    } else {
        sample_free(s);
    }
out:
    draft_free(&f);
    return ok;
}

void sample_free(struct sample *s)
{
    free(s->id.s);
    free(s->ids);
    free(s->trained);
    free(s->kind);
    free(s->shape);
    free(s->answer.s);
    benchmark_free(&s->by);
    rendered_free(&s->rendered);
    memset(s, 0, sizeof *s);
}
