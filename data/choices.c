/* choices.c - a choice behind its context, as tokens. */
#include "base/mem.h"
#include "data/dataset_parts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool encode(const struct dataset *d, const char *text, size_t n, struct tokens *to,
                   struct err *e)
{
    struct rendered r = {0};
    bool ok = template_plain_text(text, n, &r, e) &&
              tokenizer_encode(d->o.tokenizer, d->scratch, r.text, r.len, r.add_special, to, e);

    rendered_free(&r);
    return ok;
}

static bool fill(struct sample *out, const struct tokens *all, int64_t prompt, struct err *e)
{
    out->n = (int64_t)all->n;
    out->prompt = prompt;
    out->ids = mem_new(all->n, sizeof *out->ids, "a choice's tokens", e);
    out->trained = mem_new(all->n, sizeof *out->trained, "a choice's tokens", e);
    out->kind = mem_new(all->n, sizeof *out->kind, "a choice's tokens", e);
    if (!out->ids || !out->trained || !out->kind) return false;
    for (int64_t i = 0; i < out->n; i++) {
        out->ids[i] = all->v[i].id;
        out->trained[i] = i >= prompt;
        out->kind[i] = TOKEN_TEXT;
    }
    return true;
}

bool dataset_choice(const struct dataset *d, int64_t entry, const struct sample *s, size_t k,
                    struct sample *out, struct err *e)
{
    struct tokens all = {0}, context = {0};
    size_t n = 0, begin = 0;
    char *text = benchmark_choice_text(&s->by, k, &n, &begin, e);
    bool ok = text && encode(d, text, n, &all, e) && encode(d, text, begin, &context, e);

    *out = (struct sample){.rules = s->rules};
    if (ok && (context.n == 0 || all.n <= context.n))
        ok = err_set(e, "choice %zu has no token behind its context's %zu", k, context.n);
    if (ok && (int64_t)all.n > d->o.max_length)
        ok = err_set(e, "choice %zu: %zu tokens, %s is %" PRId64, k, all.n, d->o.limited_by,
                     d->o.max_length);
    ok = ok && fill(out, &all, (int64_t)context.n, e);
    free(text);
    tokens_free(&all);
    tokens_free(&context);
    if (ok) return true;
    sample_free(out);
    return !e->machine && dataset_context(d, &d->entries[entry], e);
}
