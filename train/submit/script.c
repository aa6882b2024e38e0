/* script.c - see script.h. */
#include "train/submit/script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void script_quote(FILE *fp, const char *text)
{
    fputc('\'', fp);
    for (; *text; text++)
        if (*text == '\'')
            fputs("'\\''", fp);
        else
            fputc(*text, fp);
    fputc('\'', fp);
}

/* An option's value, which has quotes of its own behind #SBATCH; `file`: a file's name, in which a
 * percent sign would begin a replacement. */
static void value(FILE *fp, const char *text, bool file)
{
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') fputc('\\', fp);
        if (*text == '%' && file) fputc('%', fp);
        fputc(*text, fp);
    }
}

static void option(FILE *fp, const char *name, const char *text)
{
    if (!text) return;
    fprintf(fp, "#SBATCH --%s=\"", name);
    value(fp, text, false);
    fprintf(fp, "\"\n");
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash[1] ? slash + 1 : path;
}

static bool is_option(const char *line)
{
    return strncmp(line, "#SBATCH", 7) == 0;
}

static void write_options(FILE *fp, const struct plan *p, enum submit_job job,
                          const struct script_places *at)
{
    const struct config *c = p->c;

    fprintf(fp, "#SBATCH --job-name=\"");
    value(fp, last_part(at->run), false);
    fprintf(fp, "-%s\"\n", submit_job_names[job]);
    option(fp, "partition", c->slurm.partition);
    option(fp, "account", c->slurm.account);
    option(fp, "constraint", c->slurm.constraint);
    fprintf(fp, "#SBATCH --nodes=%lld\n", (long long)c->slurm.nodes);
    fprintf(fp, "#SBATCH --ntasks-per-node=%lld\n", (long long)p->per_node);
    fprintf(fp, "#SBATCH --cpus-per-task=%lld\n", (long long)p->cpus);
    fprintf(fp, "#SBATCH --mem=%lldM\n", (long long)p->job[job].memory);
    if (c->slurm.time) fprintf(fp, "#SBATCH --time=%s\n", c->slurm.time);
    fprintf(fp, "#SBATCH --signal=B:USR1@%lld\n", (long long)c->slurm.notice);
    fprintf(fp, "#SBATCH --requeue\n#SBATCH --open-mode=append\n");
    if (job == JOB_POINTS) {
        const int64_t most = p->job[JOB_SHARED].wanted ? c->slurm.at_once : 1;
        fprintf(fp, "#SBATCH --array=0-%lld", (long long)config_points(c) - 1);
        fprintf(fp, most ? "%%%lld\n" : "\n", (long long)most);
    }
    fprintf(fp, "#SBATCH --output=\"");
    value(fp, at->dir, true);
    fprintf(fp, "/%s%s.out\"\n", submit_job_names[job], job == JOB_POINTS ? "-%a" : "");
    for (int64_t i = 0; i < c->slurm.lines.n; i++)
        if (is_option(c->slurm.lines.v[i])) fprintf(fp, "%s\n", c->slurm.lines.v[i]);
}

/* Where the job is, and what it has made so far. */
static void write_begin(FILE *fp, const struct plan *p, enum submit_job job,
                        const struct script_places *at)
{
    const struct config *c = p->c;
    const bool own = job == JOB_POINTS && p->job[JOB_SHARED].wanted;

    fprintf(fp, "\ncd ");
    script_quote(fp, at->from);
    fprintf(fp, " || exit 1\nrun=");
    script_quote(fp, at->run);
    fprintf(fp, "\njob=");
    script_quote(fp, at->dir);
    fprintf(fp, "/%s%s\n", submit_job_names[job], job == JOB_POINTS ? "-$SLURM_ARRAY_TASK_ID" : "");
    if (own) {
        fprintf(fp, "points=(");
        for (int64_t i = 0; i < config_points(c); i++)
            fprintf(fp, "%s%s", i ? " " : "", config_point(c, i).name);
        fprintf(fp, ")\nmakes=$run/${points[$SLURM_ARRAY_TASK_ID]}\n");
    } else {
        fprintf(fp, "makes=$run\n");
    }
    fprintf(fp, "state() { echo \"$* $SLURM_JOB_ID ${SLURM_RESTART_COUNT:-0} $(date +%%s)\" "
                ">\"$job.state\"; }\n"
                "made() { cat \"$makes/metrics.jsonl\" \"$makes/outputs.json\" 2>/dev/null | "
                "wc -l; }\n\n"
                "state running 0\n"
                "echo \"" SCRIPT_BEGINS "$SLURM_JOB_ID, restarts: ${SLURM_RESTART_COUNT:-0}\"\n"
                "[ \"${SLURM_RESTART_COUNT:-0}\" != 0 ] || echo \"$(made) 0\" >\"$job.made\"\n");
}

/* What the user wants before the program. A signal that comes meanwhile is kept for it. */
static void write_lines(FILE *fp, const struct config *c)
{
    if (c->slurm.modules.n) fprintf(fp, "type module >/dev/null 2>&1 || . /etc/profile\n");
    for (int64_t i = 0; i < c->slurm.modules.n; i++) {
        fprintf(fp, "module load ");
        script_quote(fp, c->slurm.modules.v[i]);
        fprintf(fp, " || { state ended 1; exit 1; }\n");
    }
    for (int64_t i = 0; i < c->slurm.lines.n; i++)
        if (!is_option(c->slurm.lines.v[i])) fprintf(fp, "%s\n", c->slurm.lines.v[i]);
}

static void write_steps(FILE *fp, const struct plan_job *job)
{
    bool first = true;

    fprintf(fp, " --set 'run.steps=[");
    for (int s = 0; s < STEPS; s++) {
        if (!job->step[s]) continue;
        fprintf(fp, "%s\"%s\"", first ? "" : ",", step_names[s]);
        first = false;
    }
    fprintf(fp, "]'");
}

static void write_program(FILE *fp, const struct plan *p, enum submit_job job,
                          const struct script_places *at)
{
    const bool own = job == JOB_POINTS && p->job[JOB_SHARED].wanted;

    if (p->c->slurm.tasks > 1) fprintf(fp, "srun --mpi=pmix ");
    script_quote(fp, at->program);
    fprintf(fp, " --config ");
    script_quote(fp, at->dir);
    fprintf(fp, "/config.json --resume \\\n        --set run.memory_limit=%.10g",
            plan_job_limit(p, job) / 0x1p30);
    if (own) /* takes its steps out of the settings' itself */
        fprintf(fp, " --share");
    else
        write_steps(fp, &p->job[job]);
    if (job == JOB_POINTS) fprintf(fp, " --point \"$SLURM_ARRAY_TASK_ID\"");
    fprintf(fp, " &\n");
}

/* bash runs a trap between commands only, and interrupts `wait` for it; the last `wait` has the
 * program's own status even where it ended while a trap ran. */
static const char passing_on[] =
    "\n"
    "came= pid=\n"
    "pass() { came=$1; [ -z \"$pid\" ] || kill -\"$1\" \"$pid\" 2>/dev/null; }\n"
    "trap 'pass USR1' USR1\n"
    "trap 'pass TERM' TERM\n\n";
static const char beginning[] =
    "\n"
    "begin() {\n"
    "    [ -z \"$came\" ] || return $([ \"$came\" = USR1 ] && echo 85 || echo 143)\n    ";
/* A signal can come while the program is being started, and be lost then: it is sent once more. */
static const char waiting[] =
    "    pid=$!\n"
    "    [ -z \"$came\" ] || { sleep 2; kill -\"$came\" \"$pid\"; }\n"
    "    while kill -0 \"$pid\" 2>/dev/null; do wait \"$pid\"; done\n"
    "    wait \"$pid\"\n"
    "}\n"
    "begin\n"
    "rc=$?\n"
    "\n"
    "if [ \"$came\" = USR1 ] && { [ $rc = 85 ] || [ $rc = 138 ]; }; then\n"
    "    read -r before idle <\"$job.made\"\n"
    "    now=$(made)\n"
    "    [ \"$now\" -gt \"${before:-0}\" ] && idle=0 || idle=$((idle + 1))\n"
    "    echo \"$now $idle\" >\"$job.made\"\n"
    "    if [ $idle -lt 3 ]; then\n"
    "        state requeued 85\n"
    "        trap '' TERM\n"
    "        scontrol requeue \"$SLURM_JOB_ID\" && exit 85\n"
    "        echo \"slurm: error: the job could not be put back into the queue; "
    "--submit goes on from here\"\n"
    "    else\n"
    "        echo \"slurm: error: not one step was done in three times the time limit: "
    "a longer slurm.time is needed\"\n"
    "    fi\n"
    "    rc=1\n"
    "fi\n"
    "state ended $rc\n"
    "exit $rc\n";

char *script_text(const struct plan *p, enum submit_job job, const struct script_places *at,
                  struct err *e)
{
    char *text = NULL;
    size_t size = 0;
    FILE *fp = open_memstream(&text, &size);

    if (!fp) return err_set(e, "out of memory for a job script"), NULL;
    fprintf(fp, "#!/bin/bash\n# Written by mha2mla-train --submit, which renews it.\n");
    write_options(fp, p, job, at);
    write_begin(fp, p, job, at);
    fputs(passing_on, fp);
    write_lines(fp, p->c);
    fputs(beginning, fp);
    write_program(fp, p, job, at);
    fputs(waiting, fp);
    if (fclose(fp) == 0) return text;
    free(text);
    err_set(e, "out of memory for a job script");
    return NULL;
}
