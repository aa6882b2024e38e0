/* sample.c - a sample from its bytes to tokens with their labels. */
#include "base/mem.h"
#include "data/dataset_parts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A text with more bytes than that for each token that is allowed is too long, whatever the
 * tokenizer makes of it: tokens cost 24 bytes each. */
enum { TEXT_ROOM = 1 << 20, TOKEN_BYTES = 32 };

void draft_free(struct draft *f)
{
    conversation_free(&f->c);
    rendered_free(&f->r);
    tokens_free(&f->tokens);
    memset(f, 0, sizeof *f);
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

/* Counts what there will be; returns the number of image marks. */
static int64_t measure(struct draft *f, const struct dataset_options *o)
{
    const struct rendered *r = &f->r;
    int64_t marks = 0;
    size_t range = 0;

    for (size_t i = 0; i < f->tokens.n; i++) {
        const struct token *t = &f->tokens.v[i];
        bool image = t->id == o->image_id, trained = is_trained(r, t, &range);
        int64_t places = image ? o->image_tokens : 1;
        if (r->n_trained && (size_t)t->begin < r->trained[r->n_trained - 1].begin)
            f->prompt = f->n + places;
        marks += image;
        f->labels += trained && !image && f->n > 0;
        f->n += places;
    }
    return marks;
}

static int64_t marks_in(const struct rendered *r)
{
    const char *at = r->text, *end = at + r->len;
    int64_t n = 0;

    for (; (at = memmem(at, (size_t)(end - at), IMAGE_MARK, strlen(IMAGE_MARK))) != NULL; n++)
        at += strlen(IMAGE_MARK);
    return n;
}

static bool check(const struct draft *f, const struct dataset_options *o, int64_t marks,
                  enum drop_reason *reason, struct err *e)
{
    size_t pictures = f->c.n_images;

    *reason = DROP_MISMATCH;
    if (o->image_id < 0 && (pictures || (marks = marks_in(&f->r)) > 0))
        return err_set(e,
                       "has pictures, which a text-only model cannot see (%lld marks, %zu "
                       "pictures)",
                       (long long)marks, pictures);
    if (marks != (int64_t)pictures)
        return err_set(e, "%lld <image> marks for %zu pictures", (long long)marks, pictures);
    *reason = DROP_NO_LABELS;
    if (f->labels == 0) return err_set(e, "has no answer to train on");
    *reason = DROP_BROKEN;
    if (o->asked && f->prompt == 0)
        return err_set(e, "asks nothing that could be answered: see evaluate.score");
    *reason = DROP_TOO_LONG;
    return f->n <= o->max_length || err_set(e, "%lld tokens, %s is %lld", (long long)f->n,
                                            o->limited_by, (long long)o->max_length);
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
    *reason = DROP_TOO_LONG;
    if ((int64_t)r->len > most)
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
        .image_mark = d->o.image_id < 0 ? NULL : tokenizer_piece(d->o.tokenizer, d->o.image_id)};
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
    if (tokenize(f, d, reason, e) && check(f, &d->o, measure(f, &d->o), reason, e)) return true;
    if (e->machine) *reason = DROPS;
    return dataset_context(d, entry, e);
}

/* Images take their places, and tokens their labels. s->n is f->n. */
static void lay_out(const struct dataset_options *o, const struct draft *f, struct sample *s)
{
    int64_t at = 0;
    size_t range = 0;

    for (size_t i = 0; i < f->tokens.n; i++) {
        const struct token *t = &f->tokens.v[i];
        bool image = t->id == o->image_id, trained = is_trained(&f->r, t, &range);
        for (int64_t places = image ? o->image_tokens : 1; places > 0; places--, at++) {
            s->ids[at] = t->id;
            s->trained[at] = trained && !image;
            s->modality[at] = image ? IMAGE : TEXT;
        }
    }
    CHECK(at == s->n);
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

bool dataset_sample(const struct dataset *d, int64_t i, struct sample *s, struct err *e)
{
    const struct dataset_entry *entry = &d->entries[i];
    enum drop_reason reason;
    struct draft f = {0};
    bool ok = draft_make(&f, d, entry, NULL, &reason, e);

    CHECK(0 <= i && i < d->n);
    memset(s, 0, sizeof *s);
    if (ok && (f.n != entry->tokens || f.c.n_images != (size_t)entry->images))
        ok =
            err_set(e, "it has %lld tokens and had %lld; %zu pictures and had %lld", (long long)f.n,
                    (long long)entry->tokens, f.c.n_images, (long long)entry->images);
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
    s->modality = mem_new((size_t)s->n, sizeof *s->modality, "a sample's tokens", e);
    ok = s->ids && s->trained && s->modality && copy_text(&s->answer, &f.c.answer, e) &&
         name_sample(s, &f, entry, e);
    if (ok) {
        lay_out(&d->o, &f, s);
        s->rendered = f.r;
        f.r = (struct rendered){0};
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
    free(s->modality);
    free(s->answer.s);
    rendered_free(&s->rendered);
    memset(s, 0, sizeof *s);
}
