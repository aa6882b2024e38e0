/* unused.c - see unused.h. */
#include "data/unused.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plural.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kinds[] = {[UNUSED_SAMPLE_KEY] = "the samples' key",
                                    [UNUSED_TURN_KEY] = "the turns' key",
                                    [UNUSED_PART_KEY] = "the key of parts and pictures",
                                    [UNUSED_ROLE] = "turns of",
                                    [UNUSED_PART] = "parts of type",
                                    [UNUSED_MARK] = "the mark"};

bool unused_add(struct unused *u, enum unused_kind kind, const char *name, size_t n,
                const struct jsonc *doc, const cJSON *at, struct err *e)
{
    struct unused_name *row = u->names;
    struct jsonc_place place;
    char plain[sizeof row->name];

    text_plain(plain, sizeof plain, name, n);
    for (int i = 0; i < u->n; i++, row++) {
        if (row->kind != kind || strcmp(row->name, plain) != 0) continue;
        row->count++;
        return true;
    }
    if (u->n == UNUSED_NAMES) {
        u->others++;
        return true;
    }
    place = jsonc_item_place(doc, at);
    row->where = mem_printf(e, "%s:%" PRId64 ":%" PRId64, doc->path, place.line, place.col);
    if (!row->where) return false;
    row->kind = kind;
    row->count = 1;
    memcpy(row->name, plain, sizeof plain);
    u->n++;
    return true;
}

void unused_free(struct unused *u)
{
    for (int i = 0; i < u->n; i++)
        free(u->names[i].where);
    memset(u, 0, sizeof *u);
}

void unused_log(const struct unused *u, const char *what)
{
    char times[32];

    for (int i = 0; i < u->n; i++) {
        const struct unused_name *row = &u->names[i];
        snprintf(times, sizeof times, row->count == 1 ? "once" : "%" PRId64 " times", row->count);
        log_line("%s: not used: %s \"%s\", %s; the first: %s", what, kinds[row->kind], row->name,
                 times, row->where);
    }
    if (u->others > 0)
        log_line("%s: not used: further names, %" PRId64 " time%s", what, u->others,
                 plural(u->others));
}
