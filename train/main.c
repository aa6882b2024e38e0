/* main.c - the command line of mha2mla-train, and the one place that reports an error and exits. */
#include "autograd/team.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/place.h"
#include "base/signals.h"
#include "base/watch.h"
#include "base/version.h"
#include "cluster/cluster.h"
#include "model/deepseek.h"
#include "train/forecast/dryrun.h"
#include "train/recipes.h"
#include "train/rundir.h"
#include "train/settings.h"
#include "train/splits.h"
#include "train/share.h"
#include "train/steps.h"
#include "train/submit/status.h"
#include "train/submit/submit.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "mha2mla-train --config FILE [options]\n"
    "Converts a vision-language model's attention to multi-head latent attention (MLA) and\n"
    "recovers the lost accuracy by fine-tuning. One config file is one experiment.\n"
    "\n"
    "  --config FILE      JSON with comments; see configs/ and --help-config\n"
    "  --set KEY=VALUE    changes a setting, e.g. --set stage2.lr=1e-4; may be repeated\n"
    "  --resume           resumes the run in run.dir, or starts it\n"
    "  --dry-run          shows settings, parameters, samples, steps, cache and memory, then "
    "stops\n"
    "  --submit           puts the run into Slurm's queue; with --dry-run shows the job scripts\n"
    "  --status           shows how far the run and its jobs are\n"
    "  --list-points      prints the points of the sweep, then stops\n"
    "  --point N          runs one point of the sweep only\n"
    "  --share            with --point: the point's own steps, while other points run in run.dir\n"
    "  --deepseek MODEL DIR\n"
    "                     writes the converted text model in MODEL as a DeepseekV3ForCausalLM to "
    "DIR\n"
    "  --help-config      prints every setting as a Markdown table\n"
    "  --version, --help\n";

struct options {
    const char *config;
    const char *deepseek, *to; /* a model's directory, and a new one */
    const char **sets;
    size_t n_sets;
    bool resume, dry_run, list_points, share, submit, status;
    int64_t point;
};

static bool parse_point(const char *text, int64_t *point, struct err *e)
{
    char *end;

    if (*point >= 0) return err_set(e, "--point is given twice: a run has one, or all");
    errno = 0;
    *point = strtoll(text, &end, 10);
    if (!*text || *end || *point < 0)
        return err_set(e, "--point: a number from 0 is needed, found %s", text);
    return errno == 0 || err_set(e,
                                 "--point %s: no sweep has so many; --list-points shows which "
                                 "there are",
                                 text);
}

enum option_name {
    CONFIG = 1,
    SET,
    RESUME,
    DRY_RUN,
    LIST,
    POINT,
    SHARE,
    SUBMIT,
    STATUS,
    DEEPSEEK,
    HELP_CONFIG,
    SHOW_VERSION,
    HELP
};
static const struct option known[] = {{"config", required_argument, NULL, CONFIG},
                                      {"set", required_argument, NULL, SET},
                                      {"resume", no_argument, NULL, RESUME},
                                      {"dry-run", no_argument, NULL, DRY_RUN},
                                      {"list-points", no_argument, NULL, LIST},
                                      {"point", required_argument, NULL, POINT},
                                      {"share", no_argument, NULL, SHARE},
                                      {"submit", no_argument, NULL, SUBMIT},
                                      {"status", no_argument, NULL, STATUS},
                                      {"deepseek", required_argument, NULL, DEEPSEEK},
                                      {"help-config", no_argument, NULL, HELP_CONFIG},
                                      {"version", no_argument, NULL, SHOW_VERSION},
                                      {"help", no_argument, NULL, HELP},
                                      {NULL, 0, NULL, 0}};

/* Takes in one option. Returns false with *e empty if the program is already done (--help and the
 * like). */
static bool take_option(int c, struct options *o, char **argv, struct err *e)
{
    if (c == CONFIG && o->config)
        return err_set(e, "--config is given twice, %s and %s: one file is one experiment",
                       o->config, optarg);
    if (c == CONFIG) o->config = optarg;
    if (c == SET) o->sets[o->n_sets++] = optarg; /* at most argc of them */
    if (c == RESUME) o->resume = true;
    if (c == DRY_RUN) o->dry_run = true;
    if (c == LIST) o->list_points = true;
    if (c == SHARE) o->share = true;
    if (c == SUBMIT) o->submit = true;
    if (c == STATUS) o->status = true;
    if (c == DEEPSEEK) o->deepseek = optarg;
    if (c == '?')
        return err_set(e, "%s: unknown option, or its value is missing; see --help",
                       argv[optind - 1]);
    if (c == HELP) fputs(usage, stdout);
    if (c == HELP_CONFIG) schema_markdown(&config_schema, stdout);
    if (c == SHOW_VERSION) puts("mha2mla-train " VERSION);
    if (c == HELP || c == HELP_CONFIG || c == SHOW_VERSION) return false;
    return c != POINT || parse_point(optarg, &o->point, e);
}

static bool parse_options(int argc, char **argv, struct options *o, struct err *e)
{
    int c;

    opterr = 0;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1)
        if (!take_option(c, o, argv, e)) return false;
    if (o->deepseek) {
        if (argc != 4 || optind != 3) /* it stands alone */
            return err_set(e, "--deepseek: needed is --deepseek MODEL DIR and nothing else");
        o->to = argv[optind];
        return true;
    }
    if (optind < argc) return err_set(e, "%s: not understood; see --help", argv[optind]);
    if (o->share && o->point < 0) return err_set(e, "--share: is for one point: add --point N");
    if (o->submit && o->point >= 0)
        return err_set(e, "--submit: is for all points; for a few, name them in sweep");
    if (o->status && (o->submit || o->dry_run))
        return err_set(e, "--status: only looks: give it without --submit and --dry-run");
    return o->config || err_set(e, "--config FILE is missing; see --help");
}

static void list_points(const struct config *c)
{
    for (int64_t i = 0; i < config_points(c); i++) {
        struct point p = config_point(c, i);
        printf("%lld  %s\n", (long long)i, p.name);
    }
}

/* What to do where something could not be written for want of room. */
static void say_room(struct err *e)
{
    static const struct {
        int number;
        const char *what;
    } rooms[] = {
        {ENOSPC, "make room"}, {EDQUOT, "make room"}, {EFBIG, "allow larger files (ulimit -f)"}};

    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++)
        if (e->number == rooms[i].number) {
            err_set(e, "%s: %s, then go on with --resume", e->msg, rooms[i].what);
            return;
        }
}

/* What to do where a set that the files in configs/ name is not there: it is not
 * in the repository. */
static void say_sets(const char *config, struct err *e)
{
    static const char *const dirs[] = {"data/sets/", "data/real/"};

    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
        if (strncmp(e->msg, dirs[i], strlen(dirs[i])) == 0 &&
            (e->number == ENOENT || strstr(e->msg, "no such directory")))
            err_set(e, "%s; sets are made first: the first lines of %s, or docs/data.md, say how",
                    e->msg, config);
}

static bool to_deepseek(const struct options *o, struct err *e)
{
    struct deepseek made;
    struct model m = {0};
    bool ok = model_open(&m, o->deepseek, e) && model_check_finite(&m, e) &&
              deepseek_write(&m, o->to, &made, e);

    if (ok)
        printf(
            "%s: DeepseekV3ForCausalLM, %lld rotated values (of this model: %lld) and %lld latent "
            "ones a token and layer\n",
            o->to, (long long)made.rotated, (long long)m.rope_dim, (long long)made.latent);
    model_close(&m);
    return ok;
}

/* One process submits, jobs that start others. */
static bool can_submit(const struct run *r, struct err *e)
{
    if (cluster_launched())
        return err_set(e, "--submit: was started by mpirun or srun: the jobs start their processes "
                          "themselves, so call it by itself");
    return r->c.slurm.tasks == 1 || cluster_built() ||
           err_set(e,
                   "slurm.tasks: %lld processes, and this program was built without MPI: install "
                   "libopenmpi-dev and openmpi-bin, and build it again",
                   (long long)r->c.slurm.tasks);
}

static bool run(const struct options *o, struct err *e)
{
    struct run r = {.lock = -1, .only_point = o->point, .dry = o->dry_run};
    struct err changed, lines;
    bool ok = schema_load(&config_schema, &r.c, o->config, o->sets, o->n_sets, e);

    if (!ok) return false;
    ok = cluster_agree(recipes_open(&r.c, e) && settings_check(&r.c, e), e);
    if (!ok || o->list_points) {
        if (ok) list_points(&r.c);
        recipes_close(&r.c);
        return ok;
    }
    ok = splits_open(&r, e) && (!o->share || share_begin(&r, e));
    if (ok && o->status)
        ok = status_show(&r, e);
    else if (ok && o->submit)
        ok = cluster_agree(can_submit(&r, e), e) && submit(&r, e);
    else if (ok && o->dry_run) /* writes nothing: a signal may simply kill it */
        ok = rundir_check(&r, e) && outputs_open(&r, e) && splits_check(&r, e) &&
             run_limits(&r, e) && dry_run(&r, e);
    else if (ok)
        ok = signals_open(e) && cluster_agree(!cluster_first() || submit_is_idle(&r, e), e) &&
             run_open(&r, o->resume, e) && run_steps(&r, e);
    if (!place_check(&changed)) ok = err_set(e, "%s", changed.msg);
    run_close(&r);
    /* Any failure may be due to a file that was changed during the run. */
    if (!watch_check(&changed)) ok = err_set(e, "%s", changed.msg);
    ok = log_close(ok ? e : &lines) && ok;
    if (!ok) say_sets(o->config, e);
    if (!ok && !o->dry_run) say_room(e);
    return ok;
}

/* Only a build that looks for lost memory has this. */
extern void __lsan_do_leak_check(void) __attribute__((weak));

/* All files are closed, and the other processes are at their end too. What libraries do at exit is
 * left out: where memory is short, OpenBLAS waits there for a thread of its own that tries without
 * end to get some. */
static _Noreturn void end(int status)
{
    cluster_leave(status);
    if (__lsan_do_leak_check) exit(status);
    _exit(status);
}

/* SIGUSR1 is what a batch system sends ahead of its time limit: 85 says that the run is to be put
 * back into the queue. Otherwise as a shell reports a program killed by a signal. */
static int stopped(int sig)
{
    return sig == SIGUSR1 ? 85 : 128 + sig;
}

int main(int argc, char **argv)
{
    struct options o = {.point = -1};
    struct err e = {0};
    bool parsed = false, ok;

    if (limits_stack(&e)) {
        team_wait_shortly(argv);
        o.sets = calloc((size_t)argc + 1, sizeof *o.sets);
        if (!o.sets) err_set(&e, "out of memory");
        parsed = o.sets && cluster_open(&e) && parse_options(argc, argv, &o, &e);
    }
    if (cluster_launched()) log_no_terminal();
    if (parsed && o.deepseek)
        ok = cluster_agree(!cluster_first() || to_deepseek(&o, &e), &e);
    else
        ok = parsed && run(&o, &e);
    CHECK(ok || !parsed || e.msg[0]); /* otherwise it would pass for success */
    ok = cluster_close(ok, &e);
    free(o.sets);
    if (!ok && e.msg[0] && cluster_reports()) {
        limits_name(&e);
        fflush(stdout);
        fprintf(stderr, "mha2mla-train: error: %s\n", e.msg);
    }
    bool written = fflush(stdout) == 0 && !ferror(stdout);
    if (!written && cluster_reports() && (ok || !e.msg[0]))
        fprintf(stderr, "mha2mla-train: error: standard output: cannot be written\n");
    if (!ok && signals_came()) end(stopped(signals_came()));
    end(!written || (!ok && e.msg[0]) ? 1 : 0);
}
