/* submit.c - see submit.h. */
#include "train/submit/submit.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "train/ahead.h"
#include "train/resume.h"
#include "train/rundir.h"
#include "train/splits.h"
#include "train/submit/command.h"
#include "train/submit/queue.h"
#include "train/submit/script.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

/* ---- places ---- */

struct places {
    char from[4096], program[4096];
    char *run, *dir, *record;
};

static bool find_places(struct places *at, const struct run *r, struct err *e)
{
    ssize_t n = readlink("/proc/self/exe", at->program, sizeof at->program - 1);

    if (n < 0) return err_system(e, errno, "/proc/self/exe");
    at->program[n] = '\0';
    if (!getcwd(at->from, sizeof at->from)) return err_system(e, errno, "the working directory");
    at->run = file_join(at->from, r->c.run.dir, e);
    at->dir = at->run ? file_join(at->run, "slurm", e) : NULL;
    at->record = at->dir ? file_join(at->dir, "jobs.json", e) : NULL;
    if (at->record && strchr(at->dir, '\\'))
        return err_set(e,
                       "%s: has a backslash, which Slurm takes out of the names of files: choose "
                       "another run.dir",
                       at->run);
    for (const char *s = at->from; at->record && *s; s++)
        if ((unsigned char)*s < ' ')
            return err_set(e,
                           "%s: the working directory's name has a control character, which no "
                           "line of a job script can hold",
                           at->from);
    return at->record;
}

static void close_places(struct places *at)
{
    free(at->run);
    free(at->dir);
    free(at->record);
}

/* ---- what is there already ---- */

/* Two submissions would work in one directory. */
static bool check_live(const struct run *r, const struct places *at, struct err *e)
{
    struct record was;
    struct queue q = {0};
    char ids[80];
    bool there, ok = record_load(&was, at->record, &there, e);

    if (ok && there) ok = queue_open(&q, e);
    for (int i = 0; ok && there && i < JOBS; i++) {
        const struct queued *job = was.id[i] ? queue_find(&q, was.id[i], -1) : NULL;
        if (job)
            ok = err_set(e,
                         "%s: job %lld (%s, %s) was submitted on %s and has not ended: watch it "
                         "with --status, or end it with `scancel %s`",
                         r->c.run.dir, job->id, submit_job_names[i], job->state, was.when,
                         record_ids(ids, sizeof ids, &was));
    }
    queue_close(&q);
    return ok;
}

bool submit_is_idle(const struct run *r, struct err *e)
{
    struct places at = {.run = NULL};
    bool there = false, ok = find_places(&at, r, e) && file_there(at.record, &there, e);

    if (ok && there && !getenv("SLURM_JOB_ID") && command_there("squeue"))
        ok = check_live(r, &at, e);
    close_places(&at);
    return ok;
}

/* Nobody else submits what is in the directory meanwhile. Holds until the file is closed. */
static bool lock_places(const struct places *at, int *fd, struct err *e)
{
    *fd = open(at->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0) return err_system(e, errno, "%s", at->dir);
    return flock(*fd, LOCK_EX | LOCK_NB) == 0 ||
           err_set(e, "%s: another --submit is at work here: see what it has submitted by --status",
                   at->run);
}

/* The directory, and the settings that a run in it began with. */
static bool check_run(struct run *r, struct err *e)
{
    char *config = run_path(r, e, "config.json");
    bool ok = config && rundir_check(r, e) && file_there(config, &r->resumed, e) &&
              (!r->resumed || resume_check_config(r, config, e)) && outputs_open(r, e) &&
              splits_check(r, e);

    free(config);
    return ok;
}

/* ---- looking ahead ---- */

/* What a dry run shows is right without a cluster too. */
static bool look_at_cluster(const struct run *r, struct plan *p, bool dry, struct err *e)
{
    struct partition where;
    char *nodes = partition_ask(e);
    bool ok = nodes && partition_parse(nodes, r->c.slurm.partition, &where, e) &&
              plan_place(p, &where, e);

    if (!nodes && dry) log_line("what the jobs ask for is not compared with a cluster: %s", e->msg);
    ok = ok || (!nodes && dry);
    free(nodes);
    return ok;
}

/* As a dry run and the run itself do, on what will be the node's memory. */
static bool look_ahead(struct run *r, struct plan *p, struct err *e)
{
    const double limit = plan_limit(p);
    struct forecast f = {0};
    bool ok;

    if (limit > 0) r->memory_limit = r->room = (size_t)limit;
    ok = ahead_of_run(r, e) && forecast_open(&f, r, e) && ahead_of_data(r, &f.base.cfg, e) &&
         run_open_data(r, &f.base.cfg, e) && ahead_of_steps(r, hf_has_vision(&f.base.cfg), e) &&
         forecast_models(&f, e) && plan_memory(p, &f, e);
    forecast_close(&f);
    return ok;
}

static void say_jobs(const struct plan *p)
{
    char t[UNIT_TEXT];

    for (int j = 0; j < JOBS; j++) {
        char line[200];
        size_t used = 0;
        if (!p->job[j].wanted) continue;
        for (int s = 0; s < STEPS; s++)
            if (p->job[j].step[s])
                used += (size_t)snprintf(line + used, sizeof line - used, "%s%s", used ? ", " : "",
                                         step_names[s]);
        log_line("%s: %s; %lld core%s, %s%s", submit_job_names[j], line,
                 (long long)(p->cpus * p->per_node), p->cpus * p->per_node == 1 ? "" : "s",
                 unit_bytes(t, (double)p->job[j].memory * 0x1p20),
                 p->c->slurm.nodes > 1 ? " of each node" : "");
    }
}

/* ---- writing ---- */

static bool write_script(const char *text, const struct places *at, enum submit_job job,
                         struct err *e)
{
    char *path = mem_printf(e, "%s/%s.sh", at->dir, submit_job_names[job]);
    bool ok = path && file_write(path, text, strlen(text), e);

    free(path);
    return ok;
}

/* What the last submission left of how far its jobs were. */
static bool forget_states(const struct plan *p, const struct places *at, struct err *e)
{
    static const char *const kinds[] = {"state", "made"};
    bool ok = true;

    for (int64_t i = -2; ok && i < config_points(p->c); i++)
        for (int k = 0; ok && k < 2; k++) {
            char *path =
                i < 0 ? mem_printf(e, "%s/%s.%s", at->dir,
                                   submit_job_names[i == -2 ? JOB_SHARED : JOB_REPORT], kinds[k])
                      : mem_printf(e, "%s/%s-%lld.%s", at->dir, submit_job_names[JOB_POINTS],
                                   (long long)i, kinds[k]);
            ok = path && (unlink(path) == 0 || errno == ENOENT ||
                          err_system(e, errno, "%s: cannot be deleted", path));
            free(path);
        }
    return ok;
}

static bool write_settings(const struct run *r, const struct places *at, struct err *e)
{
    char *path = file_join(at->dir, "config.json", e);
    char *text = path ? schema_dump(&config_schema, &r->c, e) : NULL;
    bool ok = text && file_write(path, text, strlen(text), e);

    free(path);
    free(text);
    return ok;
}

static bool make_scripts(const struct run *r, const struct plan *p, const struct places *at,
                         struct err *e)
{
    const struct script_places places = {at->from, at->program, at->run, at->dir};
    bool ok = r->dry || (forget_states(p, at, e) && write_settings(r, at, e));

    for (int j = 0; ok && j < JOBS; j++) {
        char *text;
        if (!p->job[j].wanted) continue;
        text = script_text(p, (enum submit_job)j, &places, e);
        ok = text;
        if (ok && r->dry)
            printf("\n-- %s/%s.sh\n%s", at->dir, submit_job_names[j], text);
        else
            ok = ok && write_script(text, at, (enum submit_job)j, e);
        free(text);
    }
    return ok;
}

/* ---- the queue ---- */

static bool call(const char *const *argv, long long *id, struct err *e)
{
    struct command_output out;
    bool ok = command_must(argv, &out, e);

    if (ok && id && (sscanf(out.text, "%lld", id) != 1 || *id < 1))
        ok = err_set(e, "%s: a job's number is needed, found \"%.60s\"", argv[0], out.text);
    command_free(&out);
    return ok;
}

/* Submits a job, held back if nothing comes before it, so that none starts until all are taken. */
static bool queue_job(struct record *rec, const struct places *at, enum submit_job job,
                      struct err *e)
{
    const int before = job == JOB_REPORT && rec->id[JOB_POINTS] ? JOB_POINTS : JOB_SHARED;
    char *script = mem_printf(e, "%s/%s.sh", at->dir, submit_job_names[job]), order[80];
    const char *argv[8] = {"sbatch", "--parsable"};
    bool ok = script;
    int n = 2;

    if (rec->id[before]) {
        snprintf(order, sizeof order, "--dependency=%s:%lld",
                 job == JOB_REPORT ? "afterany" : "afterok", rec->id[before]);
        argv[n++] = order;
        argv[n++] = "--kill-on-invalid-dep=yes"; /* it would wait for ever */
    } else {
        argv[n++] = "--hold";
    }
    argv[n++] = script;
    argv[n] = NULL;
    ok = ok && call(argv, &rec->id[job], e);
    free(script);
    return ok;
}

/* One command for all of them. */
static bool for_jobs(const char *const *first, const struct record *rec, bool all, struct err *e)
{
    char ids[JOBS][24];
    const char *argv[8];
    int n = 0;

    for (; first[n]; n++)
        argv[n] = first[n];
    for (int j = 0; j < JOBS; j++) {
        if (!rec->id[j]) continue;
        snprintf(ids[j], sizeof ids[j], "%lld", rec->id[j]);
        argv[n++] = ids[j];
        if (!all) break;
    }
    argv[n] = NULL;
    return call(argv, NULL, e);
}

static bool take_back(const struct record *rec, const struct places *at, struct err *e)
{
    static const char *const scancel[] = {"scancel", NULL};
    struct err left;
    char ids[80];

    if (!*record_ids(ids, sizeof ids, rec)) return false;
    if (for_jobs(scancel, rec, true, &left))
        unlink(at->record); /* of jobs that are gone: --status would only say so */
    else
        err_set(e, "%s; and what was queued before could not be taken back (%s): `scancel %s`",
                e->msg, left.msg, ids);
    return false;
}

static bool queue_all(const struct plan *p, const struct places *at, struct record *rec,
                      struct err *e)
{
    static const char *const release[] = {"scontrol", "release", NULL};
    const time_t now = time(NULL);
    struct tm t;
    bool ok = true;

    *rec = (struct record){0};
    snprintf(rec->dir, sizeof rec->dir, "%s", at->run);
    strftime(rec->when, sizeof rec->when, "%Y-%m-%d %H:%M:%S", localtime_r(&now, &t));
    for (int j = 0; ok && j < JOBS; j++)
        ok = !p->job[j].wanted ||
             (queue_job(rec, at, (enum submit_job)j, e) && record_save(rec, at->record, e));
    ok = ok && for_jobs(release, rec, false, e);
    return ok || take_back(rec, at, e);
}

/* Text as a word of the shell, in quotes if it needs them. */
static void print_word(FILE *fp, const char *text)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                "/._-+=:,@%";

    if (text[strspn(text, plain)])
        script_quote(fp, text);
    else
        fputs(text, fp);
}

/* The command that looks after the jobs; NULL: no memory. */
static char *status_command(const struct run *r)
{
    char *text = NULL;
    size_t size = 0;
    FILE *fp = open_memstream(&text, &size);

    if (!fp) return NULL;
    print_word(fp, program_invocation_name);
    fprintf(fp, " --config ");
    print_word(fp, r->c.run.dir);
    fprintf(fp, "/slurm/config.json --status");
    if (fclose(fp) == 0) return text;
    free(text);
    return NULL;
}

static void say_queued(const struct run *r, const struct record *rec, const struct plan *p)
{
    char ids[80], *status = status_command(r);

    for (int j = 0; j < JOBS; j++)
        if (rec->id[j] && j == JOB_POINTS)
            log_line("submitted: job %lld, points: 0-%lld", rec->id[j],
                     (long long)config_points(p->c) - 1);
        else if (rec->id[j])
            log_line("submitted: job %lld, %s", rec->id[j], submit_job_names[j]);
    log_line("how far they are: %s", status ? status : "--status");
    free(status);
    log_line("to end them: scancel %s", record_ids(ids, sizeof ids, rec));
}

static bool have_slurm(struct err *e)
{
    return command_there("sbatch") ||
           err_set(e, "sbatch: is not in PATH: on this machine there is no Slurm, or its module is "
                      "yet to be loaded; --submit --dry-run shows the scripts without it");
}

/* What an allocation has of its own would be taken for the jobs': all but where Slurm is. */
static void leave_allocation(void)
{
    static const char *const kept[] = {
        "SLURM_CONF=", "SLURM_CONF_SERVER=", "SLURM_JWT=", "SLURM_CLUSTERS="};

    for (char **at = environ; *at;) {
        char name[256];
        bool keeps = strncmp(*at, "SLURM_", 6) != 0;
        for (size_t i = 0; !keeps && i < sizeof kept / sizeof *kept; i++)
            keeps = strncmp(*at, kept[i], strlen(kept[i])) == 0;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(*at, "="), *at);
        if (keeps || unsetenv(name) != 0) at++;
    }
}

/* Once nothing stands in the way: the scripts, and the jobs. */
static bool hand_over(const struct run *r, const struct plan *p, const struct places *at,
                      struct err *e)
{
    struct record rec;
    int lock = -1;
    bool ok = r->dry || (file_mkdirs(at->dir, e) && lock_places(at, &lock, e) &&
                         check_live(r, at, e)); /* again: one may have come in between */

    ok = ok && make_scripts(r, p, at, e);
    if (ok && !r->dry) ok = queue_all(p, at, &rec, e);
    if (ok && !r->dry) say_queued(r, &rec, p);
    if (lock >= 0) close(lock);
    return ok;
}

bool submit(struct run *r, struct err *e)
{
    struct places at = {.run = NULL};
    struct plan p;
    bool dry = r->dry, ok = plan_open(&p, &r->c, e) && (dry || have_slurm(e));

    leave_allocation();

    r->dry = true; /* looking ahead writes nothing */
    if (ok && r->c.run.threads == 0) r->c.run.threads = p.cpus;
    r->processes = r->c.slurm.tasks;
    ok = ok && find_places(&at, r, e) && (dry || check_live(r, &at, e)) && run_limits(r, e) &&
         check_run(r, e) && look_at_cluster(r, &p, dry, e) && look_ahead(r, &p, e);
    r->dry = dry;
    if (ok) say_jobs(&p);
    ok = ok && hand_over(r, &p, &at, e);
    if (ok && dry) log_line("A dry run: nothing was written or submitted.");
    close_places(&at);
    return ok;
}
