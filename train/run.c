/* run.c - opens a run: its directory, threads and memory. */
#include "train/run.h"
#include "autograd/gemm.h"
#include "autograd/team.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/place.h"
#include "cluster/cluster.h"
#include "train/forecast/room.h"
#include "train/recipes.h"
#include "train/resume.h"
#include "train/rundir.h"
#include "train/share.h"
#include "train/splits.h"

#include <errno.h>
#include <fcntl.h>
#include <omp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

char *run_path(const struct run *r, struct err *e, const char *fmt, ...)
{
    char name[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    if (!place_check(e)) return NULL; /* it would lead elsewhere */
    return file_join(r->c.run.dir, name, e);
}

bool run_has_step(const struct run *r, enum step step)
{
    return config_has_step(&r->c, step);
}

static bool machine_memory(size_t *bytes, struct err *e)
{
    static const char path[] = "/sys/fs/cgroup/memory.max"; /* limit of a container or a job */
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    FILE *fp = fopen(path, "r");
    unsigned long long limit;
    size_t allowed = limits_memory((size_t)room_held());

    *bytes = pages > 0 && size > 0 ? (size_t)pages * (size_t)size : (size_t)8 << 30;
    if (allowed < *bytes) *bytes = allowed;
    if (!fp) return errno == ENOENT || errno == EACCES || err_system(e, errno, "%s", path);
    if (fscanf(fp, "%llu", &limit) == 1 && limit < *bytes) *bytes = (size_t)limit;
    fclose(fp);
    return true;
}

/* Of the directory, or of the point's place in it. */
static bool is_taken(const struct run *r, const char *own, struct err *e)
{
    return err_set(e, "%s%s%.*s: another run works in this directory", r->c.run.dir,
                   *own ? "/" : "", (int)strcspn(own, "/"), own);
}

/* Of a file system that locks no directories. */
static bool cannot_lock(int number)
{
    return number == EBADF || number == EINVAL || number == EOPNOTSUPP || number == ENOSYS;
}

/* Points that share the directory exclude other runs, not each other. */
static int lock_of(const struct run *r)
{
    return (r->shares ? LOCK_SH : LOCK_EX) | LOCK_NB;
}

/* Holds the directory itself. Where it can be locked, that is a lock too, which is not lost with a
 * file: not everywhere (NFS). */
static bool hold_dir(struct run *r, struct err *e)
{
    int fd = open(r->c.run.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0) return err_system(e, errno, "%s", r->c.run.dir);
    if (flock(fd, lock_of(r)) == 0 || cannot_lock(errno)) return place_hold(r->c.run.dir, fd, e);
    if (errno == EWOULDBLOCK)
        is_taken(r, "", e);
    else
        err_system(e, errno, "%s: cannot be locked", r->c.run.dir);
    close(fd);
    return false;
}

static bool take_lock(const struct run *r, const char *own, int how, int *fd, struct err *e)
{
    char *path = run_path(r, e, "%slock", own);

    if (!path) return false;
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (*fd < 0)
        err_system(e, errno, "%s", path);
    else if (flock(*fd, how) != 0) {
        if (errno == EWOULDBLOCK)
            is_taken(r, own, e);
        else
            err_system(e, errno, "%s: cannot be locked", path);
        close(*fd);
        *fd = -1;
    }
    free(path);
    return *fd >= 0;
}

/* Two runs in one directory, or at one point of it, would ruin each other. The first process holds
 * it for all. */
static bool lock_dir(struct run *r, struct err *e)
{
    char *point;
    bool ok = !cluster_first() || (take_lock(r, "", lock_of(r), &r->lock, e) && hold_dir(r, e));

    if (!ok || !r->shares || !cluster_first()) return ok;
    point = run_path(r, e, "%s", r->own);
    ok = point && file_mkdirs(point, e) &&
         take_lock(r, r->own, LOCK_EX | LOCK_NB, &r->point_lock, e);
    free(point);
    return ok;
}

static bool holds_a_run(const struct run *r, struct err *e)
{
    return err_set(e,
                   "%s: already holds a run: add --resume to continue it, or choose another "
                   "run.dir",
                   r->c.run.dir);
}

/* Creates the directory of a new run. */
static bool make_dir(struct run *r, const char *config, struct err *e)
{
    bool made = false; /* by another process that was started at the same time and has ended */

    return file_mkdirs(r->c.run.dir, e) && lock_dir(r, e) && file_there(config, &made, e) &&
           (!made || holds_a_run(r, e));
}

static bool open_logs(struct run *r, struct err *e)
{
    char *log, *lines;
    bool ok;

    if (!cluster_first()) return true;
    log = run_path(r, e, "%strain.log", r->own);
    lines = run_path(r, e, "%smetrics.jsonl", r->own);
    ok = log && lines && log_open(log, e) && metrics_open(&r->metrics, lines, e);

    free(log);
    free(lines);
    return ok;
}

static bool has_left_out(const struct run *r)
{
    bool any = r->train.left_out;

    for (int64_t i = 0; i < r->n_eval; i++)
        any = any || r->eval[i].data.left_out;
    return any;
}

bool run_name_left_out(const struct run *r, struct err *e)
{
    char *path;
    struct file_out out = {0};
    bool any = has_left_out(r), ok;

    if (!cluster_first()) return true;
    path = run_path(r, e, "left_out.txt");
    ok = path;
    if (ok && any && (ok = file_out_open(&out, path, e))) {
        if (r->train.left_out) fputs(r->train.left_out, out.fp);
        for (int64_t i = 0; i < r->n_eval; i++)
            if (r->eval[i].data.left_out) fputs(r->eval[i].data.left_out, out.fp);
        ok = file_out_commit(&out, e);
        file_out_abort(&out);
    }
    /* left by an earlier attempt, whose pictures are back */
    if (ok && !any && unlink(path) != 0 && errno != ENOENT)
        ok = err_system(e, errno, "%s: cannot be deleted", path);
    free(path);
    return ok;
}

/* Removes what a new run put in its directory before its first step, in case broken pictures come
 * to light there. Without config.json, which goes first, it is not a run. */
static bool take_back(const struct run *r, struct err *e)
{
    static const char *const names[] = {"config.json", "inputs.json", "metrics.jsonl", "train.log",
                                        "lock"};
    bool ok = true;

    for (size_t i = 0; ok && i < sizeof names / sizeof *names; i++) {
        char *path = run_path(r, e, "%s", names[i]);
        ok = path && (unlink(path) == 0 || errno == ENOENT ||
                      err_system(e, errno, "%s: cannot be deleted", path));
        free(path);
    }
    return ok;
}

bool run_refuse(const struct run *r, struct err *e, const char *fmt, ...)
{
    char why[1200];
    struct err list;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    if (r->dry || !has_left_out(r)) return err_set(e, "%s", why);
    if (!file_mkdirs(r->c.run.dir, &list) || !run_name_left_out(r, &list) ||
        (r->lock > 0 && !r->resumed && !r->pictures_recorded && !take_back(r, &list))) {
        err_set(e, "%s; and their list is missing: %s", why, list.msg);
        e->number = list.number;
        return false;
    }
    return err_set(e, "%s; those left out are named in %s/left_out.txt", why, r->c.run.dir);
}

/* The settings that the run goes on with. Notes in them are not the program's, and stay. */
static bool write_config(const struct run *r, const char *path, struct err *e)
{
    char *settings;
    bool ok, own = true;

    if (r->resumed && !rundir_own_config(path, &own, e)) return false;
    if (!own) {
        log_line("%s: has comments, or commas at the ends of lists, which the program does not "
                 "write: it stays as it is",
                 path);
        return true;
    }
    settings = schema_dump(&config_schema, &r->c, e);
    ok = settings && file_write(path, settings, strlen(settings), e);
    free(settings);
    return ok;
}

static bool record(struct run *r, const struct model *given, struct err *e)
{
    char *inputs = run_path(r, e, "inputs.json"), *config = run_path(r, e, "config.json");
    char *sums = NULL;
    bool ok = inputs && config;

    if (ok) sums = resume_check_inputs(r, given, inputs, e);
    ok = sums;
    if (ok && !r->shares) /* then all this is there, and belongs to all points */
        ok = (r->resumed || (make_dir(r, config, e) && open_logs(r, e))) &&
             resume_move_bases(r, e) && run_name_left_out(r, e) &&
             /* config.json last: it makes the directory a run */
             file_write(inputs, sums, strlen(sums), e) && write_config(r, config, e);
    free(sums);
    free(inputs);
    free(config);
    return ok;
}

bool run_record(struct run *r, const struct model *given, struct err *e)
{
    return cluster_agree(!cluster_first() || record(r, given, e), e);
}

/* The number of threads is part of a run: its bits depend on it, and a resumed run
 * must have the same. */
static bool choose_threads(struct run *r, struct err *e)
{
    const int cores = omp_get_num_procs();
    const bool shared = cores > 1 && cores == sysconf(_SC_NPROCESSORS_ONLN); /* bound to none */
    const int own = shared ? cores / cluster_local() : cores;

    return team_choose(&r->c.run.threads, own > 1 ? own : 1, team_most(), e);
}

/* A dry run that was started alone shows what each of cluster.processes would need. */
static bool choose_processes(struct run *r, struct err *e)
{
    const int started = cluster_size();
    const bool plans = r->dry && started == 1 && r->c.cluster.processes;

    r->processes = plans ? r->c.cluster.processes : started;
    if (r->c.cluster.processes && r->c.cluster.processes != r->processes)
        return err_set(e,
                       "cluster.processes is %lld, and %d %s started: as many are needed, or "
                       "--set cluster.processes=0",
                       (long long)r->c.cluster.processes, started, started > 1 ? "were" : "was");
    r->c.cluster.processes = r->processes;
    return true;
}

bool run_limits(struct run *r, struct err *e)
{
    char text[GEMM_TEXT];

    if (!r->processes && !choose_processes(r, e)) return false;
    if (!choose_threads(r, e)) return false;
    omp_set_dynamic(0);
    omp_set_num_threads((int)r->c.run.threads);
    gemm_setup((enum gemm_library)r->c.run.gemm, (enum gemm_compute)r->c.run.compute);
    log_line("matrix products: %s; vector code: %s", gemm_describe(text), cpu_level());
    if (!team_open((int)r->c.run.threads, e)) return false;
    r->memory_limit = (size_t)(r->c.run.memory_limit * 0x1p30);
    if (r->memory_limit == 0) {
        if (!machine_memory(&r->memory_limit, e)) return false;
        r->memory_limit /= (size_t)cluster_local();
    }
    r->room = r->memory_limit;
    r->tape = tape_new(e);
    if (r->tape) tape_stash_bf16(r->tape, r->c.run.compute == GEMM_BF16);
    return r->tape;
}

/* Whether this process has the settings of the first, but for the threads, which follow from its
 * cores. */
static bool check_alike(const struct run *r, struct err *e)
{
    struct config c = r->c;
    char *text, mine[65], first[65];
    struct sha256 sum;

    c.run.threads = 0;
    text = schema_dump(&config_schema, &c, e);
    if (!cluster_agree(text, e)) return false;
    sha256_init(&sum);
    sha256_add(&sum, text, strlen(text));
    sha256_hex(&sum, mine);
    free(text);
    memcpy(first, mine, sizeof first);
    return cluster_broadcast(first, sizeof first, 0, e) &&
           cluster_agree(strcmp(mine, first) == 0 ||
                             err_set(e, "its settings are not those of rank 0: start all by the "
                                        "same command"),
                         e);
}

/* Nobody makes anything there before all have looked. */
static bool look(struct run *r, const char *config, struct err *e)
{
    return cluster_agree((!cluster_first() || log_keep(e)) && choose_processes(r, e) &&
                             rundir_check(r, e) && file_there(config, &r->resumed, e) &&
                             choose_threads(r, e),
                         e);
}

/* The log has the first process's back end and vector code; where those of others differ, as on
 * nodes of several kinds, the result's bits depend on which process is where. */
static bool say_others(struct err *e)
{
    char mine[GEMM_TEXT + 40] = "", first[sizeof mine], text[GEMM_TEXT];
    double others;

    snprintf(mine, sizeof mine, "%s; %s", gemm_describe(text), cpu_level());
    memcpy(first, mine, sizeof first);
    if (!cluster_broadcast(first, sizeof first, 0, e)) return false;
    others = strcmp(mine, first) != 0;
    if (!cluster_sum(&others, 1, e)) return false;
    if (others > 0)
        log_line("%.0f of %d processes have other matrix products or vector code: which process is "
                 "on which machine is part of what repeats bit for bit",
                 others, cluster_size());
    return true;
}

bool run_open(struct run *r, bool resume, struct err *e)
{
    char *config = run_path(r, e, "config.json");
    bool ok = config && look(r, config, e);

    ok = ok && check_alike(r, e) && share_check(r, e);
    if (ok && r->resumed)
        ok = lock_dir(r, e) && (resume || holds_a_run(r, e)) && resume_check_config(r, config, e) &&
             outputs_open(r, e) && splits_check(r, e) && share_gather(r, e) && open_logs(r, e);
    free(config);
    return cluster_agree(ok && run_limits(r, e), e) && say_others(e);
}

void run_close(struct run *r)
{
    run_close_pictures(r);
    run_close_data(r);
    metrics_close(&r->metrics);
    outputs_close(r);
    tape_free(r->tape);
    if (r->lock > 0) close(r->lock);
    if (r->point_lock > 0) close(r->point_lock);
    place_leave();
    free(r->rotation);
    recipes_close(&r->c);
    schema_free(&config_schema, &r->was);
}
