/* status.c - see status.h. What a row says comes from metrics.jsonl and scores.json, how far a job
 * is from Slurm's queue and from the file that its script keeps (script.h). */
#include "train/submit/status.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "train/models.h"
#include "train/score/score.h"
#include "train/score/scorer.h"
#include "train/share.h"
#include "train/submit/command.h"
#include "train/submit/plan.h"
#include "train/submit/queue.h"
#include "train/submit/script.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct row {
    enum submit_job job;
    int64_t point;            /* -1: none */
    char name[64], phase[16]; /* phase: of the last line of metrics */
    double step, loss, score;
    bool done;
    char word[16];                     /* what the job's script wrote last; "": it has not begun */
    int status;                        /* its last word is "ended": with this status */
    char state[120], left[40], at[64]; /* left: of the training; at: job, and what is left to it */
    char steps[24];                    /* of the training, in all */
    char error[512];                   /* of a job that failed */
};

struct status {
    const struct run *r;
    struct row *rows;
    int64_t n;
    struct record rec;
    bool submitted, asked; /* asked: Slurm answered */
    struct queue queue;
};

/* ---- metrics ---- */

static struct row *row_of(struct status *s, const char *point)
{
    for (int64_t i = 0; i < s->n; i++)
        if (s->rows[i].point >= 0 && strcmp(s->rows[i].name, point) == 0) return &s->rows[i];
    return &s->rows[0]; /* the base and stage 1 */
}

static bool take_line(void *arg, const struct metrics_line *l, struct err *e)
{
    const char *point = metrics_text(l, "point"), *phase = metrics_text(l, "phase");
    const char *event = metrics_text(l, "event");
    struct row *row;

    (void)e;
    if (!point || !phase || !event) return true;
    row = row_of(arg, point);
    if (strcmp(event, "train") == 0) {
        snprintf(row->phase, sizeof row->phase, "%s", phase);
        row->step = metrics_number(l, "step");
        row->loss = metrics_number(l, "loss");
    }
    if (strcmp(event, "eval") == 0) row->score = metrics_number(l, "score");
    return true;
}

static bool read_metrics(struct status *s, const char *own, struct err *e)
{
    char *path = run_path(s->r, e, "%smetrics.jsonl", own);
    bool there = false;
    bool ok =
        path && file_there(path, &there, e) && (!there || metrics_each(path, take_line, s, e));

    free(path);
    return ok;
}

/* ---- what is done ---- */

static bool is_there(const struct run *r, const char *name, bool *there, struct err *e)
{
    char *path = run_path(r, e, "%s", name);
    bool ok = path && file_there(path, there, e);

    free(path);
    return ok;
}

/* Of all scored questions or tokens, as in the report. */
static bool read_score(const struct run *r, const char *dir, double *score, struct err *e)
{
    char *path = run_path(r, e, "%s/scores.json", dir);
    struct scores all = {0};
    bool there = false, ok = path && file_there(path, &there, e);

    if (ok && there && (ok = scores_load(&all, path, e))) {
        if (all.all.n) *score = scorer_of(&r->c)->cell->value(&all.all);
        scores_free(&all);
    }
    free(path);
    return ok;
}

static bool point_done(const struct run *r, struct row *row, struct err *e)
{
    const struct point p = config_point(&r->c, row->point);
    const bool stage2 = config_has_step(&r->c, STEP_STAGE2);
    const char *dir = p.dir[stage2 ? STEP_STAGE2 : STEP_SVD];
    bool scored = true;
    char scores[100];

    if (!model_is_there(r, dir, &row->done, e)) return false;
    snprintf(scores, sizeof scores, "%s/scores.json", dir);
    if (row->done && config_has_step(&r->c, STEP_EVALUATE) && !is_there(r, scores, &scored, e))
        return false;
    row->done = row->done && scored;
    /* rather than a point of the curve; of the model that stage 2 starts from,
     * if there is none yet */
    return (!isnan(row->score) || read_score(r, p.dir[STEP_SVD], &row->score, e)) &&
           read_score(r, p.dir[STEP_STAGE2], &row->score, e);
}

static bool shared_done(const struct run *r, struct row *row, struct err *e)
{
    bool there = true;

    row->done = true;
    if (config_has_step(&r->c, STEP_BASELINE)) {
        if (!model_is_there(r, "baseline", &there, e)) return false;
        row->done = row->done && there;
    }
    for (int64_t i = 0; i < config_points(&r->c) && config_has_step(&r->c, STEP_STAGE1); i++) {
        const struct point p = config_point(&r->c, i);
        if (!model_is_there(r, p.dir[STEP_STAGE1], &there, e)) return false;
        row->done = row->done && there;
    }
    if (r->c.data.eval.n && !is_there(r, "base/scores.json", &there, e)) return false;
    row->done = row->done && there;
    return read_score(r, "base", &row->score, e);
}

/* ---- jobs ---- */

/* RUN/slurm/NAME.KIND of a row. */
static char *job_file(const struct run *r, const struct row *row, const char *kind, struct err *e)
{
    const char *name = submit_job_names[row->job];

    return row->point < 0 ? run_path(r, e, "slurm/%s.%s", name, kind)
                          : run_path(r, e, "slurm/%s-%lld.%s", name, (long long)row->point, kind);
}

/* The end of a job's output; NULL if there is none. */
static char *read_tail(const char *path, struct err *e)
{
    enum { TAIL = 16384 };
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = fd >= 0 ? mem_new(TAIL + 1, 1, "the end of a job's output", e) : NULL;
    off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
    ssize_t n = text ? pread(fd, text, TAIL, size > TAIL ? size - TAIL : 0) : 0;

    if (text) text[n > 0 ? n : 0] = '\0';
    if (fd >= 0) close(fd);
    return text;
}

/* "rope8-rank4 stage2  step 7/12  loss 2.2  512 tokens/s  4.2 s left ..." is the last such line of
 * the training that the metrics are of: that of an earlier one says nothing of what is left. */
static void take_progress(struct row *row, const char *text)
{
    const char *at = NULL, *left;
    const size_t n = strlen(row->phase);
    long long step, steps;

    for (const char *next = text; n && (next = strstr(next, "  step ")); next++)
        if ((size_t)(next - text) >= n && memcmp(next - n, row->phase, n) == 0) at = next;
    if (!at || sscanf(at, "  step %lld/%lld  loss", &step, &steps) != 2) return;
    snprintf(row->steps, sizeof row->steps, "/%lld", steps);
    left = strstr(at, " tokens/s  ");
    if (left)
        snprintf(row->left, sizeof row->left, "%.*s", (int)strcspn(left + 11, "\n"), left + 11);
    if ((at = strstr(row->left, " left"))) row->left[at - row->left] = '\0';
}

/* Where the output of a job's last attempt begins. */
static const char *last_attempt(const char *text)
{
    for (const char *next = text; (next = strstr(next, SCRIPT_BEGINS)); next++)
        text = next;
    return text;
}

/* The last line that says something, after the first, which every job has. */
static const char *last_words(const char *text)
{
    const char *line = text + strcspn(text, "\n"), *last = "";

    for (; *line; line += strcspn(line, "\n")) {
        line++;
        if (line[strcspn(line, "\n")] == '\n' && *line != '\n') last = line;
    }
    return last;
}

/* What the script says at its end, else the program, else whoever was first: where one process
 * fails, its launcher goes on with what it does to the others. Where nobody speaks of an error, the
 * last line. */
static void take_error(struct row *row, const char *text)
{
    static const char *const marks[] = {"slurm: error: ", "mha2mla-train: error: ", "error: "};
    const char *at = NULL;

    for (size_t i = 0; !at && i < sizeof marks / sizeof *marks; i++)
        if ((at = strstr(text, marks[i]))) at += strlen(marks[i]);
    if (!at) at = last_words(text);
    snprintf(row->error, sizeof row->error, "%.*s", (int)strcspn(at, "\n"), at);
}

static bool read_output(const struct run *r, struct row *row, bool failed, struct err *e)
{
    char *path = job_file(r, row, "out", e), *text = path ? read_tail(path, e) : NULL;

    const bool ok = path;

    if (text) take_progress(row, last_attempt(text));
    if (text && failed) take_error(row, last_attempt(text));
    free(text);
    free(path);
    return ok;
}

/* "ended 0 12 0 1700000000": state, status, job, restarts, time. */
static bool read_state(const struct run *r, struct row *row, struct err *e)
{
    char *path = job_file(r, row, "state", e), *text = NULL;
    bool there = false, ok = path && file_there(path, &there, e);
    size_t n;

    if (ok && there && (ok = file_read(path, 4096, &text, &n, e)))
        sscanf(text, "%15s %d", row->word, &row->status);
    free(text);
    free(path);
    return ok;
}

static void lower(char *text)
{
    for (; *text; text++)
        *text = (char)tolower((unsigned char)*text);
}

/* A job that Slurm does not list any more, or of which there is no Slurm to ask. */
static void say_ended(const struct status *s, struct row *row)
{
    char last[32] = "";
    const bool ended = strcmp(row->word, "ended") == 0;

    if (ended && row->status == 143)
        snprintf(row->state, sizeof row->state, "stopped by SIGTERM");
    else if (ended && row->status)
        snprintf(row->state, sizeof row->state, "failed (status %d)", row->status);
    else if (ended)
        snprintf(row->state, sizeof row->state, "ended");
    else if (!s->asked)
        snprintf(row->state, sizeof row->state, "%s", *row->word ? row->word : "submitted");
    else if (*queue_ended(last, s->rec.id[row->job], row->point))
        snprintf(row->state, sizeof row->state, "%s", last);
    else
        snprintf(row->state, sizeof row->state, *row->word ? "lost" : "cancelled");
    if (!ended) lower(row->state);
}

static bool look_at_job(struct status *s, struct row *row, struct err *e)
{
    const struct queued *q;
    char element[24] = "";

    if (!s->submitted || !s->rec.id[row->job]) {
        snprintf(row->state, sizeof row->state, row->done ? "done" : *row->phase ? "begun" : "-");
        return true;
    }
    if (row->point >= 0) snprintf(element, sizeof element, "_%lld", (long long)row->point);
    snprintf(row->at, sizeof row->at, "%lld%s", s->rec.id[row->job], element);
    q = s->asked ? queue_find(&s->queue, s->rec.id[row->job], row->point) : NULL;
    if (q) {
        const bool waits = strcmp(q->state, "PENDING") == 0 && strcmp(q->why, "None") != 0;
        snprintf(row->state, sizeof row->state, "%s%s%s%s", q->state, waits ? " (" : "",
                 waits ? q->why : "", waits ? ")" : "");
        lower(row->state);
        if (strcmp(q->state, "RUNNING") == 0)
            snprintf(row->at, sizeof row->at, "%lld%s, %.30s", q->id, element, q->left);
        return read_output(s->r, row, false, e);
    }
    if (row->done)
        snprintf(row->state, sizeof row->state, "done");
    else
        say_ended(s, row);
    if (!read_output(s->r, row, !row->done && strcmp(row->word, "ended") == 0 && row->status, e))
        return false;
    row->left[0] = '\0';
    return true;
}

/* ---- the whole ---- */

static bool make_rows(struct status *s, struct err *e)
{
    const struct config *c = &s->r->c;
    const int64_t points = config_points(c);

    s->rows = mem_new((size_t)points + 2, sizeof *s->rows, "rows", e);
    if (!s->rows) return false;
    for (int64_t i = 0; i < points + 2; i++) {
        const bool point = i > 0 && i <= points;
        struct row *row = &s->rows[s->n++];
        row->job = i == 0 ? JOB_SHARED : point ? JOB_POINTS : JOB_REPORT;
        row->point = point ? i - 1 : -1;
        row->loss = row->score = NAN;
        snprintf(row->name, sizeof row->name, "%s",
                 point ? config_point(c, i - 1).name : submit_job_names[row->job]);
    }
    return true;
}

static bool look_at_files(struct status *s, struct err *e)
{
    const struct run *r = s->r;
    bool ok = read_metrics(s, "", e) && shared_done(r, &s->rows[0], e) &&
              is_there(r, "report.md", &s->rows[s->n - 1].done, e);

    for (int64_t i = 1; ok && i < s->n - 1; i++) {
        char own[sizeof r->own];
        ok = read_metrics(s, share_own(own, &r->c, i - 1), e) && point_done(r, &s->rows[i], e);
    }
    return ok;
}

/* Settings that are others than those that the jobs, or the run, began with; what is left to the
 * machine is not. */
static bool say_changes(const struct status *s, struct err *e)
{
    char *path = run_path(s->r, e, s->submitted ? "slurm/config.json" : "config.json");
    char *diff = NULL;
    struct config was = {0}, is = s->r->c; /* borrowed */
    struct err why;
    bool there = false, ok = path && file_there(path, &there, e);

    if (ok && there && schema_load(&config_schema, &was, path, NULL, 0, &why)) {
        if (is.run.threads == 0) is.run.threads = was.run.threads;
        diff = schema_dump_diff(&config_schema, &was, &is, !s->submitted, e);
        ok = diff;
        if (ok && *diff)
            log_line("changed since, and not for %s %s: %s",
                     s->submitted ? "these jobs, which read" : "the run, whose settings are in",
                     path, diff);
    } else if (ok && there) {
        log_line("%s", why.msg);
    }
    schema_free(&config_schema, &was);
    free(diff);
    free(path);
    return ok;
}

/* A directory that has moved since it was submitted. */
static void say_moved(const struct status *s)
{
    struct err why;
    char from[4096];
    char *now = getcwd(from, sizeof from) ? file_join(from, s->r->c.run.dir, &why) : NULL;

    if (now && strcmp(now, s->rec.dir) != 0)
        log_line("submitted for run.dir at %s, and now it is %s", s->rec.dir, now);
    free(now);
}

static bool look_at_slurm(struct status *s, struct err *e)
{
    char *path = run_path(s->r, e, "slurm/jobs.json");
    struct err why = {0};
    bool ok = path && record_load(&s->rec, path, &s->submitted, e);

    free(path);
    if (!ok || !s->submitted) return ok && say_changes(s, e);
    s->asked = queue_open(&s->queue, &why);
    log_line("submitted on %s%s%s", s->rec.when,
             s->asked ? "" : "; Slurm does not say more: ", why.msg);
    ok = say_changes(s, e);
    say_moved(s);
    for (int64_t i = 0; ok && i < s->n; i++)
        ok = read_state(s->r, &s->rows[i], e);
    return ok;
}

/* Columns that grow with what is in them. */
struct widths {
    int name, state;
};

static void widen(int *width, const char *text)
{
    if ((int)strlen(text) > *width) *width = (int)strlen(text);
}

static void show_row(const struct row *row, const struct widths *w)
{
    char step[64] = "-", loss[24] = "-", score[UNIT_TEXT] = "-", line[400];
    int n;

    if (*row->phase) snprintf(step, sizeof step, "%s %.0f%s", row->phase, row->step, row->steps);
    if (!isnan(row->loss)) snprintf(loss, sizeof loss, "%.4f", row->loss);
    n = snprintf(line, sizeof line, "%-*s %-*s %-18s %8s %9s %9s  %s", w->name, row->name, w->state,
                 row->state, step, loss, unit_percent(score, row->score),
                 *row->left ? row->left : "-", *row->at ? row->at : "-");
    while (n > 0 && n < (int)sizeof line && line[n - 1] == ' ')
        line[--n] = '\0';
    log_line("%s", line);
    if (*row->error) log_line("    %s", row->error);
}

static bool any_step(const struct run *r, enum submit_job job)
{
    if (job == JOB_REPORT) return config_has_step(&r->c, STEP_REPORT);
    return true;
}

bool status_show(const struct run *r, struct err *e)
{
    struct status s = {.r = r};
    struct widths w = {20, 24};
    /* in this order: what has ended by now has left its files */
    bool ok = make_rows(&s, e) && look_at_slurm(&s, e) && look_at_files(&s, e);

    for (int64_t i = 0; ok && i < s.n; i++)
        ok = look_at_job(&s, &s.rows[i], e);
    for (int64_t i = 0; i < s.n; i++) {
        widen(&w.name, s.rows[i].name);
        widen(&w.state, s.rows[i].state);
    }
    if (ok)
        log_line("%-*s %-*s %-18s %8s %9s %9s  %s", w.name, "", w.state, "state", "step", "loss",
                 "score", "left", "job");
    for (int64_t i = 0; ok && i < s.n; i++)
        if (any_step(r, s.rows[i].job)) show_row(&s.rows[i], &w);
    queue_close(&s.queue);
    free(s.rows);
    return ok;
}
