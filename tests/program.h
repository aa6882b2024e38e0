/* program.h - runs the program as a user would, by shell commands, on a data set of a few drawn
 * pictures. The programs are those in $BUILD (default build). Include after tmpdir.h. In a command
 * $T is the test's directory, $B the directory of the programs, $C the settings:
 *     must_run(state, "$B/mha2mla-train --config $C"); */
#ifndef TESTS_PROGRAM_H
#define TESTS_PROGRAM_H

#include "tests/backend.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define program_test(f) cmocka_unit_test_setup_teardown(f, program_setup, tmpdir_remove)

static const char program_config[] =
    "{ // a run of seconds\n"
    "  \"run\": {\"dir\": \"%s/run\", \"threads\": 1, \"gemm\": \"%s\", \"compute\": \"%s\",\n"
    "    \"steps\": [\"baseline\", \"rank\", \"stage1\", \"svd\", \"stage2\", \"evaluate\", "
    "\"report\"]},\n"
    "  \"model\": {\"tokenizer\": \"%s/tok\"},\n"
    "  \"data\": {\"train\": [{\"path\": \"%s/s/train.json\"}],\n"
    "    \"eval\": [{\"path\": \"%s/s/test.json\", \"name\": \"test\"},\n"
    "      {\"path\": \"%s/s/train.json\", \"name\": \"seen\", \"limit\": 7}],\n"
    "    \"cache\": \"%s/cache\",\n"
    "    \"max_length\": 256},\n"
    "  \"baseline\": {\"hidden_size\": 32, \"intermediate_size\": 48, \"layers\": 2, \"heads\": "
    "2,\n"
    "    \"kv_heads\": 2, \"vision_hidden_size\": 32, \"vision_intermediate_size\": 48,\n"
    "    \"vision_layers\": 2, \"vision_heads\": 2, \"patch_size\": 16, \"steps\": 24,\n"
    "    \"batch_size\": 8},\n"
    "  \"rank\": {\"rope_dim\": 4, \"samples\": 8}, \"svd\": {\"samples\": 32},\n"
    "  \"stage1\": {\"steps\": 8, \"batch_size\": 8, \"lr\": 1e-3},\n"
    "  \"stage2\": {\"steps\": 12, \"batch_size\": 8, \"lr\": 1e-3, \"eval_every\": 4},\n"
    "  \"checkpoint\": {\"every\": 5}, \"sweep\": {\"low_rank\": [4, 1]},\n"
    "  \"evaluate\": {\"max_new_tokens\": 8, \"curve_samples\": 5}\n"
    "}\n";

static inline const char *build_dir(void)
{
    return getenv("BUILD") ? getenv("BUILD") : "build";
}

/* Starts a shell command with $T, $B and $C (the config) set; its output goes to T/out. */
static inline pid_t start(const char *dir, const char *command)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failing test leaves nothing running */
        char path[1300];
        snprintf(path, sizeof path, "%s/c.json", dir);
        setenv("T", dir, 1);
        setenv("B", build_dir(), 1);
        setenv("C", path, 1);
        snprintf(path, sizeof path, "%s/out", dir);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        dup2(fd, 1);
        dup2(fd, 2);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    return pid;
}

/* The exit status as reported by a shell. */
static inline int finish(pid_t pid)
{
    int status;

    assert_true(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline int run(void *const *state, const char *command)
{
    return finish(start(*state, command));
}

static inline char *output(void *const *state)
{
    return slurp(tmpdir_path(state, "out"), NULL);
}

static inline void must_run(void *const *state, const char *command)
{
    int rc = run(state, command);

    if (rc != 0) fail_msg("%s: status %d\n%s", command, rc, output(state));
}

/* Expects status 1, one error line containing `text`, and no half-written file. */
static inline void must_fail(void *const *state, const char *command, const char *text)
{
    int rc = run(state, command);
    char *out = output(state), *line = strstr(out, "mha2mla-train: error: "), find[1300];

    if (rc != 1 || !line || !strstr(line, text) || strchr(line, '\n') != line + strlen(line) - 1)
        fail_msg("%s: status %d, wanted an error with '%s', got:\n%s", command, rc, text, out);
    free(out);
    snprintf(find, sizeof find, "test -z \"$(find '%s' -name '*.tmp')\"", (const char *)*state);
    assert_int_equal(system(find), 0);
}

static inline int program_setup(void **state)
{
    char text[8000];
    const char *d;

    if (tmpdir_make(state) != 0) return -1;
    d = *state;
    snprintf(text, sizeof text, program_config, d, backend_gemm(), backend_compute(), d, d, d, d,
             d);
    spill(tmpdir_path(state, "c.json"), text, strlen(text));
    must_run(state, "$B/mha2mla-data shapes --out $T/s --train 64 --test 12 && "
                    "$B/mha2mla-data tokenizer --out $T/tok $T/s/train.json");
    return 0;
}

/* Everything reproducible, with checksums: models, ranking, and the metrics without times. */
#define FINGERPRINT(dir)                                                                           \
    "(cd " dir " && sha256sum baseline/model/model.safetensors rank/rank.h5 "                      \
    "rope4/stage1/model/model.safetensors rope4-rank*/svd/model/model.safetensors "                \
    "rope4-rank*/stage2/model/model.safetensors $(find . -name answers.jsonl "                     \
    "-o -name scores.json -o -name recovery.tsv | sort) && "                                       \
    "grep -v '\"event\":\"end\"' metrics.jsonl | sha256sum)"

static inline void sleep_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

/* The undisturbed run, T/quiet, and its checksums. */
static inline void must_repeat(void *const *state)
{
    must_run(state, "$B/mha2mla-train --config $C --set run.dir=$T/quiet");
    must_run(state, FINGERPRINT("$T/quiet") " > $T/sums");
}

/* The status of a run that a signal stopped: of USR1, a batch system's notice, it says "again". */
static inline int stopped_by(int sig)
{
    return sig == SIGUSR1 ? 85 : 128 + sig;
}

/* Stops the run with `sig` after each of the waits, then lets it finish: the same bits as
 * undisturbed. Returns how many of the stops came before the end. */
static inline int stop_and_go(void *const *state, int sig, const long *waits, size_t n)
{
    int stopped = 0;

    must_run(state, "rm -rf $T/run $T/cache");
    for (size_t i = 0; i < n; i++) {
        pid_t pid = start(*state, "exec $B/mha2mla-train --config $C --resume");
        sleep_ms(waits[i]);
        kill(pid, sig);
        int rc = finish(pid);
        if (rc != 0 && rc != stopped_by(sig)) fail_msg("status %d\n%s", rc, output(state));
        stopped += rc != 0;
    }
    must_run(state, "$B/mha2mla-train --config $C --resume");
    must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
    return stopped;
}

static inline bool says(void *const *state, const char *text)
{
    char *out = output(state);
    bool found = strstr(out, text);

    free(out);
    return found;
}

static inline void must_say(void *const *state, const char *text)
{
    if (!says(state, text)) fail_msg("no '%s':\n%s", text, output(state));
}

/* Before a command: it runs as somebody who owns nothing. */
#define NOBODY "setpriv --reuid=65534 --regid=65534 --clear-groups "

/* Lets him run $T/train, a copy since he may not come where the program is, and write in $T/own.
 * Only root can become another, and not everywhere. */
static inline bool become_nobody(void *const *state)
{
    if (geteuid() != 0) return false;
    must_run(state, "cp $B/mha2mla-train $T/train; chmod 755 $T; mkdir -m 777 $T/own");
    return run(state, NOBODY "$T/train --version") == 0;
}

#define ENDLESS                                                                                    \
    "$B/mha2mla-train --config $C --resume --set 'run.steps=[\"baseline\"]' "                      \
    "--set baseline.steps=1000000 --set checkpoint.every=1000000 "

/* Starts an endless training, and returns once it has logged some more steps. */
static inline pid_t start_endless(void *const *state, const char *settings)
{
    const char *jsonl = tmpdir_path(state, "run/metrics.jsonl");
    char command[1000];
    pid_t pid;
    struct stat was = {0}, now;

    stat(jsonl, &was);
    snprintf(command, sizeof command, "exec " ENDLESS "%s", settings);
    pid = start(*state, command);
    for (int i = 0; i < 6000; i++) { /* 120 s at most */
        if (stat(jsonl, &now) == 0 && now.st_size > was.st_size + 2000) return pid;
        sleep_ms(20);
    }
    kill(pid, SIGKILL);
    finish(pid);
    fail_msg("no step:\n%s", output(state));
    return 0;
}

#endif
