/* conversation_choices.c - a sample that has a context and choices instead of turns
 * (data/benchmark.h), scored by the likelihood of each choice behind the context. */
#include "data/conversation_parts.h"

#include <string.h>

bool reader_has_choices(const cJSON *sample)
{
    return cJSON_GetObjectItemCaseSensitive(sample, "choices") ||
           cJSON_GetObjectItemCaseSensitive(sample, "contexts");
}

bool reader_choices(struct reader *r, const cJSON *sample)
{
    struct conversation *c = r->c;
    struct benchmark *b = &c->by;
    size_t longest = 0;

    if (r->from->metric && strcmp(r->from->metric, "choice") != 0)
        return reader_refuse(r, DROP_BROKEN, sample,
                             "has choices behind a context, which metric \"%s\" cannot score",
                             r->from->metric);
    if (!benchmark_read_choices(b, &c->doc, sample, false, r->e)) return false;
    for (size_t i = 1; i < b->n_choices; i++)
        if (benchmark_context(b, i).n + b->choices[i].n >
            benchmark_context(b, longest).n + b->choices[longest].n)
            longest = i;
    c->answer = b->choices[b->label];
    c->plain.s = benchmark_choice_text(b, longest, &c->plain.n, &c->context, r->e);
    return reader_own(r, c->plain.s);
}
