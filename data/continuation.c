/* continuation.c - other answers to a sample's last question, as tokens. */
#include "base/mem.h"
#include "data/dataset_parts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The conversation with another last answer, as text and tokens. */
struct other {
    struct conversation c;
    struct rendered r;
    struct tokens tokens;
};

static bool render(struct other *o, const struct dataset *d, const struct dataset_entry *entry,
                   struct text answer, struct err *e)
{
    const struct conversation_source from = dataset_bytes(d, entry);
    enum drop_reason reason;
    size_t last;

    if (!conversation_read(&o->c, &from, NULL, &reason, e)) return false;
    last = o->c.n;
    while (last && o->c.messages[last - 1].role != ROLE_ASSISTANT)
        last--;
    CHECK(last); /* the sample was indexed as one that asks something */
    o->c.messages[last - 1].text = answer.s;
    o->c.messages[last - 1].len = answer.n;
    return template_render(d->o.chat, o->c.messages, last, false, &o->r, e) &&
           tokenizer_encode(d->o.tokenizer, d->scratch, o->r.text, o->r.len, o->r.add_special,
                            &o->tokens, e);
}

/* Tokens of the sample's prompt before pictures were expanded. */
static int64_t prompt_tokens(const struct sample *s)
{
    int64_t n = s->prompt;

    for (int64_t i = 0; i < s->images; i++)
        n -= s->shape[i].tokens - 1;
    return n;
}

bool dataset_continuation(const struct dataset *d, int64_t i, const struct sample *s,
                          struct text answer, struct continuation *out, struct err *e)
{
    struct other o = {0};
    size_t begin = 0, end = 0;
    int64_t first = 0;
    bool ok = render(&o, d, &d->entries[i], answer, e);

    *out = (struct continuation){0};
    if (ok) {
        begin = o.r.trained[o.r.n_trained - 1].begin;
        end = o.r.trained[o.r.n_trained - 1].end - strlen(d->o.chat->assistant.close);
        while (first < (int64_t)o.tokens.n && (size_t)o.tokens.v[first].begin < begin)
            first++;
        ok = (first == prompt_tokens(s) && o.tokens.v[first - 1].id == s->ids[s->prompt - 1]) ||
             err_set(e, "the tokenizer joins an option with the end of the question, so that it "
                        "cannot be scored behind it");
        out->ids = ok ? mem_new(o.tokens.n, sizeof *out->ids, "an option's tokens", e) : NULL;
        ok = out->ids;
    }
    for (size_t k = (size_t)first; ok && k < o.tokens.n && (size_t)o.tokens.v[k].begin < end; k++)
        if (o.tokens.v[k].end > o.tokens.v[k].begin) out->ids[out->n++] = o.tokens.v[k].id;
    conversation_free(&o.c);
    rendered_free(&o.r);
    tokens_free(&o.tokens);
    return ok || (!e->machine && dataset_context(d, &d->entries[i], e));
}
