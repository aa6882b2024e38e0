/* share.c - see share.h. */
#include "train/share.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/slots.h"
#include "cluster/cluster.h"
#include "train/models.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *share_own(char *own, const struct config *c, int64_t i)
{
    const struct point p = config_point(c, i);

    snprintf(own, sizeof((struct run *)0)->own, "%s/", p.name);
    return own;
}

/* ---- beginning ---- */

static bool is_of_point(int step)
{
    return step == STEP_SVD || step == STEP_STAGE2 || step == STEP_EVALUATE;
}

bool share_begin(struct run *r, struct err *e)
{
    struct schema_enums *steps = &r->c.run.steps;
    int64_t kept = 0;

    if (r->only_point >= config_points(&r->c)) return true; /* is refused later, with the range */
    r->shares = true;
    r->shared_stage1 = run_has_step(r, STEP_STAGE1);
    share_own(r->own, &r->c, r->only_point);
    for (int64_t i = 0; i < steps->n; i++)
        if (is_of_point(steps->v[i])) steps->v[kept++] = steps->v[i];
    steps->n = kept;
    return kept > 0 || err_set(e, "--share: run.steps has no step of a point: svd, stage2, "
                                  "evaluate");
}

bool share_lacks(const struct run *r, const char *dir, const char *file, struct err *e)
{
    return err_set(e,
                   "%s/%s%s%s: missing, and the points share it: run the steps before svd, and "
                   "evaluate, without --share first",
                   r->c.run.dir, dir, *dir ? "/" : "", file);
}

bool share_check(const struct run *r, struct err *e)
{
    struct point p;
    bool made;

    if (!r->shares) return true;
    if (!r->resumed) return share_lacks(r, "", "config.json", e);
    p = config_point(&r->c, r->only_point);
    if (!r->shared_stage1) return true;
    return model_is_there(r, p.dir[STEP_STAGE1], &made, e) &&
           (made || share_lacks(r, p.dir[STEP_STAGE1], "model", e));
}

/* ---- gathering ---- */

/* What a line of metrics is about, as a number: point, phase, event, step. Of 64 bits, so that two
 * of a run's lines do not meet. */
static uint64_t about(const struct metrics_line *l)
{
    const char *point = metrics_text(l, "point"), *phase = metrics_text(l, "phase");
    const char *event = metrics_text(l, "event");
    char text[400];
    int n = snprintf(text, sizeof text, "%s\n%s\n%s\n%.17g", point ? point : "", phase ? phase : "",
                     event ? event : "", metrics_number(l, "step"));

    return hash_fnv(text, (size_t)n);
}

struct gathered {
    struct slots about; /* of the points' lines */
    int64_t n;
    FILE *out;
};

static bool is_known(const struct gathered *g, uint64_t hash)
{
    uint64_t step = 0;

    return slots_next(&g->about, hash, &step) >= 0;
}

static bool note_line(void *arg, const struct metrics_line *l, struct err *e)
{
    struct gathered *g = arg;
    uint64_t hash = about(l);

    if (is_known(g, hash)) return true;
    if (!slots_reserve(&g->about, g->n + 1, e)) return false;
    slots_put(&g->about, hash, g->n++);
    return true;
}

static bool keep_other(void *arg, const struct metrics_line *l, struct err *e)
{
    struct gathered *g = arg;

    (void)e; /* the commit checks the error flag */
    if (!is_known(g, about(l))) fprintf(g->out, "%s\n", l->json);
    return true;
}

static bool copy_line(void *arg, const struct metrics_line *l, struct err *e)
{
    (void)e;
    fprintf(((struct gathered *)arg)->out, "%s\n", l->json);
    return true;
}

/* Calls fn for every line of the points' own files. */
static bool each_of_points(const struct run *r, metrics_fn *fn, struct gathered *g, struct err *e)
{
    bool ok = true;

    for (int64_t i = 0; ok && i < config_points(&r->c); i++) {
        char own[sizeof r->own];
        char *path = run_path(r, e, "%smetrics.jsonl", share_own(own, &r->c, i));
        bool there = false;
        ok = path && file_there(path, &there, e) && (!there || metrics_each(path, fn, g, e));
        free(path);
    }
    return ok;
}

static bool write_metrics(const struct run *r, const char *path, struct gathered *g, struct err *e)
{
    struct file_out out = {0};
    bool there = false, ok = file_there(path, &there, e) && file_out_open(&out, path, e);

    g->out = out.fp;
    ok = ok && (!there || metrics_each(path, keep_other, g, e)) &&
         each_of_points(r, copy_line, g, e) && file_out_commit(&out, e);
    file_out_abort(&out);
    return ok;
}

static bool gather_metrics(const struct run *r, struct err *e)
{
    struct gathered g = {.n = 0};
    char *path = run_path(r, e, "metrics.jsonl");
    bool ok =
        path && each_of_points(r, note_line, &g, e) && (g.n == 0 || write_metrics(r, path, &g, e));

    slots_free(&g.about);
    free(path);
    return ok;
}

/* They are in RUN's own files now. *any: there were some. */
static bool each_own_file(const struct run *r, bool delete, bool *any, struct err *e)
{
    static const char *const names[] = {"metrics.jsonl", "outputs.json"};
    bool ok = true;

    for (int64_t i = 0; ok && i < 2 * config_points(&r->c); i++) {
        char own[sizeof r->own];
        char *path = run_path(r, e, "%s%s", share_own(own, &r->c, i / 2), names[i % 2]);
        bool there = false;
        ok = path && file_there(path, &there, e);
        *any = *any || there;
        if (ok && there && delete)
            ok = unlink(path) == 0 || err_system(e, errno, "%s: cannot be deleted", path);
        free(path);
    }
    return ok;
}

bool share_gather(struct run *r, struct err *e)
{
    bool any = false;

    if (r->shares || !cluster_first()) return true;
    if (!each_own_file(r, false, &any, e)) return false;
    return !any || (gather_metrics(r, e) && outputs_save(r, e) && each_own_file(r, true, &any, e));
}
