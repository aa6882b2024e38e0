/* groups.c - see groups.h. */
#include "train/groups.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plural.h"

#include <stdlib.h>

/* A metric of pairs needs both questions about a picture: half a pair would be an error once a
 * model is scored, which is late. */
static bool check_pairs(const struct dataset *d, const char *name, struct err *e)
{
    const bool pairs = d->metric && d->metric->pairs && d->o.asked;
    int64_t *n = pairs ? mem_new((size_t)d->units, sizeof *n, "pairs of questions", e) : NULL;
    bool ok = n;

    if (!pairs) return true;
    for (int64_t i = 0; ok && i < d->n; i++)
        n[d->entries[i].unit]++;
    for (int64_t i = 0; ok && i < d->n; i++) {
        const struct dataset_entry *entry = &d->entries[i];
        if (n[entry->unit] != 2)
            ok = err_set(e,
                         "data.eval %s: %s:%lld: its picture (\"group\") has %lld usable sample%s, "
                         "and metric %s needs two of each%s",
                         name, d->sources[entry->source].path, (long long)entry->line,
                         (long long)n[entry->unit], plural(n[entry->unit]), d->metric->name,
                         entry->behind ? ": \"limit\" cuts the pair" : "");
    }
    free(n);
    return ok;
}

/* What a set of questions with turned options has: of each its rows, one for
 * each of its options. */
struct turns {
    int64_t questions, few, several; /* with too few rows; with more than one */
    int64_t cut;                     /* with too few, as the limit cuts some off */
    int64_t first, first_cut;        /* entries of the first of them */
};

static bool count_turns(const struct dataset *d, struct turns *t, struct err *e)
{
    int64_t *rows = mem_new((size_t)d->units, sizeof *rows, "rows of questions", e);

    *t = (struct turns){.questions = d->units, .first = -1, .first_cut = -1};
    for (int64_t i = 0; rows && i < d->n; i++)
        rows[d->entries[i].unit]++;
    for (int64_t i = 0; rows && i < d->n; i++) {
        int64_t *n = &rows[d->entries[i].unit];
        if (*n == 0) continue; /* is counted */
        t->several += *n > 1;
        if (*n < d->entries[i].options) {
            t->few++;
            if (t->first < 0) t->first = i;
            t->cut += d->entries[i].behind > 0;
            if (t->first_cut < 0 && d->entries[i].behind) t->first_cut = i;
        }
        *n = 0;
    }
    free(rows);
    return rows;
}

/* A question of MMBench is right if all its rows are: one that has only some of them is easier. A
 * limit that makes such is refused; what a file has is said. */
static bool check_turns(const struct dataset *d, const char *name, struct err *e)
{
    const struct dataset_entry *first;
    struct turns t;

    if (!d->metric || !d->metric->index || !d->o.asked || d->n == 0) return true;
    if (!count_turns(d, &t, e)) return false;
    if (t.few == 0) return true;
    first = &d->entries[t.cut ? t.first_cut : t.first];
    if (t.cut)
        return err_set(
            e,
            "data.eval %s: \"limit\" cuts %lld of %lld questions, such as that of %s:%lld: "
            "they have fewer rows than options, and would be easier: leave it out, and "
            "set evaluate.samples, which takes whole questions",
            name, (long long)t.cut, (long long)t.questions, d->sources[first->source].path,
            (long long)first->line);
    if (t.several == 0) {
        log_line("data.eval %s: has one row of each question, none with its options turned: its "
                 "%s and the like are those of single rows",
                 name, d->metric->figures->name);
        return true;
    }
    log_line("data.eval %s: %lld of %lld questions have fewer rows than options, such as that of "
             "%s:%lld: they are easier than the others",
             name, (long long)t.few, (long long)t.questions, d->sources[first->source].path,
             (long long)first->line);
    return true;
}

bool groups_check(const struct dataset *d, const char *name, struct err *e)
{
    return check_pairs(d, name, e) && check_turns(d, name, e);
}
