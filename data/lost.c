/* lost.c - see lost.h. */
#include "data/lost.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plural.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool lost_add(struct lost *l, const struct tokenizer_lost *of, const char *where, struct err *e)
{
    if (of->n == 0) return true;
    if (!l->where && !(l->where = mem_strdup(where, e))) return false;
    l->samples++;
    l->all.n += of->n;
    for (int i = 0; i < of->names; i++)
        tokenizer_lost_name(&l->all, of->name[i]);
    return true;
}

void lost_free(struct lost *l)
{
    free(l->where);
    memset(l, 0, sizeof *l);
}

const char *lost_names(const struct tokenizer_lost *l, char out[LOST_TEXT])
{
    char name[16];
    size_t used = 0;

    out[0] = '\0';
    for (int i = 0; i < l->names; i++)
        used += (size_t)snprintf(out + used, LOST_TEXT - used, "%s\"%s\"", i ? ", " : "",
                                 text_plain(name, sizeof name, l->name[i], strlen(l->name[i])));
    if (l->names == LOST_NAMES) snprintf(out + used, LOST_TEXT - used, " and perhaps others");
    return out;
}

void lost_log(const struct lost *l, const char *what, const struct tokenizer *tk)
{
    const char *unknown = tokenizer_piece(tk, tokenizer_unknown(tk));
    char names[LOST_TEXT];

    if (l->all.n == 0) return;
    log_line(
        "%s: characters without a token: %lld in %lld sample%s (%s), which %s%s; the first: %s",
        what, (long long)l->all.n, (long long)l->samples, plural(l->samples),
        lost_names(&l->all, names), unknown ? "become " : "vanish from what is read and trained",
        unknown ? unknown : "", l->where);
}
