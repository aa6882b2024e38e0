/* plan.c - see plan.h. Memory: a process may hold bytes of its own, and maps frozen weights, which
 * its node's processes share and the system rereads where there is no room for them. A job asks for
 * both; what it cannot do without are the bytes. */
#include "train/submit/plan.h"
#include "base/units.h"
#include "train/submit/walltime.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Of the memory asked for, a tenth stays free: runs have held up to 4 % more than their forecast
 * (docs/speed.md), and the job's shell is in there too. */
static const double usable = 0.9;
/* In MiB: a tiny run, of 9 MiB by its forecast, held 33 with the pages of its libraries, and the
 * report runs gnuplot beside it. */
enum { MIB = 1 << 20, LEAST = 256, MEMORY_STEP = 64 };

/* Seconds: it looks at its clocks every 30 s. With 40 of 60 s to go by the settings, warnings came
 * at once. */
enum { SLURM_EARLY = 30 };

static void choose_steps(struct plan *p)
{
    static const enum submit_job of[STEPS] = {[STEP_SVD] = JOB_POINTS,
                                              [STEP_STAGE2] = JOB_POINTS,
                                              [STEP_EVALUATE] = JOB_POINTS,
                                              [STEP_REPORT] =
                                                  JOB_REPORT}; /* all others: JOB_SHARED */

    for (int s = 0; s < STEPS; s++)
        if (config_has_step(p->c, (enum step)s))
            p->job[of[s]].step[s] = p->job[of[s]].wanted = true;
    /* stage 2 scores what it starts from, if there is anything to score */
    if (p->job[JOB_POINTS].wanted && p->c->data.eval.n)
        p->job[JOB_SHARED].step[STEP_EVALUATE] = p->job[JOB_SHARED].wanted = true;
}

/* What goes into a line of a script must be on one line. */
static bool check_text(const char *key, const char *text, struct err *e)
{
    for (const char *at = text ? text : ""; *at; at++)
        if (iscntrl((unsigned char)*at))
            return err_set(e, "%s: has a control character, which no line of a job script can hold",
                           key);
    return true;
}

/* Options of sbatch that the scripts have already: given again, they would
 * undo what was checked. */
static const struct own_option {
    const char *name;
    char letter;
    const char *setting; /* NULL: none, it is the scripts' business */
} own_options[] = {{"partition", 'p', "slurm.partition"},
                   {"account", 'A', "slurm.account"},
                   {"constraint", 'C', "slurm.constraint"},
                   {"nodes", 'N', "slurm.nodes"},
                   {"ntasks", 'n', "slurm.tasks"},
                   {"ntasks-per-node", '\0', "slurm.tasks"},
                   {"cpus-per-task", 'c', "slurm.cpus"},
                   {"mem", '\0', "slurm.memory"},
                   {"mem-per-cpu", '\0', "slurm.memory"},
                   {"time", 't', "slurm.time"},
                   {"signal", '\0', "slurm.notice"},
                   {"array", 'a', NULL},
                   {"dependency", 'd', NULL},
                   {"hold", 'H', NULL},
                   {"output", 'o', NULL},
                   {"error", 'e', NULL},
                   {"open-mode", '\0', NULL},
                   {"job-name", 'J', NULL},
                   {"requeue", '\0', NULL},
                   {"no-requeue", '\0', NULL}};

static bool is_option(const struct own_option *o, const char *text)
{
    const size_t n = strlen(o->name);

    if (text[0] == '-' && text[1] == '-')
        return strncmp(text + 2, o->name, n) == 0 && !isalnum((unsigned char)text[2 + n]) &&
               text[2 + n] != '-';
    return text[0] == '-' && o->letter && text[1] == o->letter;
}

static bool check_line(const char *line, struct err *e)
{
    static const char mark[] = "#SBATCH";
    const char *text = line + strlen(mark);

    if (strncmp(line, mark, strlen(mark)) != 0) return true;
    text += strspn(text, " \t");
    for (size_t i = 0; i < sizeof own_options / sizeof *own_options; i++) {
        const struct own_option *o = &own_options[i];
        if (!is_option(o, text)) continue;
        return o->setting
                   ? err_set(e, "slurm.lines: \"%s\": is what %s sets: give it there", line,
                             o->setting)
                   : err_set(e, "slurm.lines: \"%s\": --%s is given by the scripts themselves",
                             line, o->name);
    }
    return true;
}

static bool check_texts(const struct config *c, struct err *e)
{
    const struct {
        const char *key, *text;
    } rows[] = {{"run.dir", c->run.dir},
                {"slurm.partition", c->slurm.partition},
                {"slurm.account", c->slurm.account},
                {"slurm.constraint", c->slurm.constraint}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!check_text(rows[i].key, rows[i].text, e)) return false;
    for (int64_t i = 0; i < c->slurm.modules.n; i++)
        if (!check_text("slurm.modules", c->slurm.modules.v[i], e)) return false;
    for (int64_t i = 0; i < c->slurm.lines.n; i++)
        if (!check_text("slurm.lines", c->slurm.lines.v[i], e) ||
            !check_line(c->slurm.lines.v[i], e))
            return false;
    return true;
}

static bool check_time(struct plan *p, struct err *e)
{
    const char *time = p->c->slurm.time;

    if (!time) return true;
    if (!walltime_parse(time, &p->seconds))
        return err_set(e,
                       "slurm.time: MINUTES, MM:SS, HH:MM:SS, D-HH or D-HH:MM:SS is needed, found "
                       "\"%s\"",
                       time);
    return p->seconds > p->c->slurm.notice + SLURM_EARLY ||
           err_set(
               e,
               "slurm.notice: %lld seconds ahead of slurm.time, %lld, and the %d by which Slurm "
               "may be early, leave none to work in",
               (long long)p->c->slurm.notice, (long long)p->seconds, SLURM_EARLY);
}

bool plan_open(struct plan *p, const struct config *c, struct err *e)
{
    *p = (struct plan){.c = c};
    choose_steps(p);
    if (!check_texts(c, e) || !check_time(p, e)) return false;
    if (c->slurm.tasks % c->slurm.nodes)
        return err_set(e, "slurm.tasks: %lld cannot be shared out evenly to slurm.nodes, %lld",
                       (long long)c->slurm.tasks, (long long)c->slurm.nodes);
    if (c->cluster.processes && c->cluster.processes != c->slurm.tasks)
        return err_set(e, "slurm.tasks: %lld, and cluster.processes is %lld: give one number",
                       (long long)c->slurm.tasks, (long long)c->cluster.processes);
    p->per_node = c->slurm.tasks / c->slurm.nodes;
    p->cpus = c->slurm.cpus ? c->slurm.cpus : c->run.threads;
    if (p->cpus == 0)
        return err_set(e,
                       "slurm.cpus: is 0, and so is run.threads: give the cores of a process, on "
                       "which the results' bits depend");
    return p->cpus >= c->run.threads ||
           err_set(e, "slurm.cpus: %lld cores are fewer than run.threads, %lld", (long long)p->cpus,
                   (long long)c->run.threads);
}

bool plan_place(struct plan *p, const struct partition *where, struct err *e)
{
    const struct config *c = p->c;
    const int64_t cpus = p->cpus * p->per_node;
    char most[WALLTIME_TEXT];

    p->partition = *where;
    if (c->slurm.nodes > where->nodes)
        return err_set(e, "slurm.nodes: partition %s has %lld, found %lld", where->name,
                       (long long)where->nodes, (long long)c->slurm.nodes);
    if (cpus > where->cpus)
        return err_set(e,
                       "slurm.cpus: %lld cores for each of %lld processes of a node are %lld; the "
                       "largest node of partition %s has %lld",
                       (long long)p->cpus, (long long)p->per_node, (long long)cpus, where->name,
                       (long long)where->cpus);
    if (where->seconds && p->seconds > where->seconds)
        return err_set(e, "slurm.time: %s is more than partition %s allows, %s", c->slurm.time,
                       where->name, walltime_text(most, where->seconds));
    return (double)where->memory >= c->slurm.memory * 1024 ||
           err_set(e, "slurm.memory: %g GiB; the largest node of partition %s has %.4g",
                   c->slurm.memory, where->name, (double)where->memory / 1024);
}

/* MiB of a node that a job may ask for; 0: not known. */
static double node_memory(const struct plan *p)
{
    return p->c->slurm.memory > 0 ? p->c->slurm.memory * 1024 : (double)p->partition.memory;
}

static double limit_of(const struct plan *p, double memory)
{
    const double own = p->c->run.memory_limit * 0x1p30;
    const double given = usable * memory * MIB / (double)p->per_node;

    return own > 0 && (given == 0 || own < given) ? own : given;
}

double plan_limit(const struct plan *p)
{
    return limit_of(p, node_memory(p));
}

double plan_job_limit(const struct plan *p, enum submit_job job)
{
    return limit_of(p, (double)p->job[job].memory);
}

/* The report looks at models and samples as the shared steps do. What scores a point's models is in
 * stage 2's forecast. */
static bool is_in(const struct plan_job *job, const struct forecast_step *s)
{
    return job->step[s->of] || s->of == STEP_BASELINE ||
           (s->of == STEP_STAGE2 && job->step[STEP_SVD]);
}

static bool does_not_fit(const struct plan *p, const struct forecast_step *s, struct err *e)
{
    const bool given = p->c->slurm.memory > 0;
    char t[2][UNIT_TEXT], tasks[64] = "";

    if (p->per_node > 1)
        snprintf(tasks, sizeof tasks, " for each of %lld processes", (long long)p->per_node);
    return err_set(
        e,
        "%s needs %s%s; of the %s of %s%s it may use nine tenths: more memory, fewer "
        "slurm.tasks on a node, or less to train at a time (stage2.micro_batch, "
        "optim.state, optim.recompute)",
        s->name, unit_bytes(t[0], s->bytes), tasks, unit_bytes(t[1], node_memory(p) * MIB),
        given ? "slurm.memory" : "the largest node of partition ", given ? "" : p->partition.name);
}

bool plan_memory(struct plan *p, const struct forecast *f, struct err *e)
{
    const double node = node_memory(p), limit = plan_limit(p);

    for (int j = 0; j < JOBS; j++) {
        struct plan_job *job = &p->job[j];
        double most = 0;
        for (int64_t i = 0; i < f->n_steps; i++) {
            const struct forecast_step *s = &f->steps[i];
            const double need = s->bytes * (double)p->per_node / usable + s->mapped;
            if (!job->wanted || !is_in(job, s)) continue;
            if (limit > 0 && s->bytes > limit && p->c->run.memory_limit == 0)
                return does_not_fit(p, s, e);
            if (need > most) most = need;
        }
        job->memory = (int64_t)ceil(most / MIB / MEMORY_STEP) * MEMORY_STEP;
        if (job->memory < LEAST) job->memory = LEAST;
        if (node > 0 && (p->c->slurm.memory > 0 || (double)job->memory > node))
            job->memory = (int64_t)node;
    }
    return limit == 0 || p->c->run.memory_limit == 0 || forecast_fits(f, e);
}
