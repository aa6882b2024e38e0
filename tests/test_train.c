/* test_train.c - the program as a user runs it, on a data set of a few drawn pictures: what a run
 * leaves, that it repeats bit for bit, that it survives being stopped, and what it says to bad
 * input. The programs are those of $BUILD (default build). */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/tmpdir.h"

static const char config[] =
    "{ // a run of seconds\n"
    "  \"run\": {\"dir\": \"%s/run\", \"threads\": 1,\n"
    "    \"steps\": [\"baseline\", \"rank\", \"stage1\", \"svd\", \"stage2\", \"evaluate\", "
    "\"report\"]},\n"
    "  \"model\": {\"tokenizer\": \"%s/tok\"},\n"
    "  \"data\": {\"train\": [{\"path\": \"%s/s/train.json\"}],\n"
    "    \"eval\": [{\"path\": \"%s/s/test.json\", \"name\": \"test\"}], \"cache\": \"%s/cache\",\n"
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
    "  \"evaluate\": {\"max_new_tokens\": 8}\n"
    "}\n";

static const char *build_dir(void)
{
    return getenv("BUILD") ? getenv("BUILD") : "build";
}

/* Starts a shell command with $T, $B and $C (the config) set; its output goes to T/out. */
static pid_t start(const char *dir, const char *command)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
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

/* The exit status as a shell counts it. */
static int finish(pid_t pid)
{
    int status;

    assert_true(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run(void *const *state, const char *command)
{
    return finish(start(*state, command));
}

static char *output(void *const *state)
{
    return slurp(tmpdir_path(state, "out"), NULL);
}

static void must_run(void *const *state, const char *command)
{
    int rc = run(state, command);

    if (rc != 0) fail_msg("%s: status %d\n%s", command, rc, output(state));
}

/* Status 1 and one error line that holds `text`. */
static void must_fail(void *const *state, const char *command, const char *text)
{
    int rc = run(state, command);
    char *out = output(state), *line = strstr(out, "mha2mla-train: error: ");

    if (rc != 1 || !line || !strstr(line, text) || strchr(line, '\n') != line + strlen(line) - 1)
        fail_msg("%s: status %d, wanted an error with '%s', got:\n%s", command, rc, text, out);
    free(out);
}

static int setup(void **state)
{
    char text[8000];
    const char *d;

    if (tmpdir_make(state) != 0) return -1;
    d = *state;
    snprintf(text, sizeof text, config, d, d, d, d, d);
    spill(tmpdir_path(state, "c.json"), text, strlen(text));
    must_run(state, "$B/mha2mla-data shapes --out $T/s --train 64 --test 12 && "
                    "$B/mha2mla-data tokenizer --out $T/tok $T/s/train.json");
    return 0;
}

/* Everything that must repeat, with its sums: models, ranking, and the metrics but for the times.
 */
#define FINGERPRINT(dir)                                                                           \
    "(cd " dir " && sha256sum baseline/model/model.safetensors rank/rank.h5 "                      \
    "rope4/stage1/model/model.safetensors rope4-rank*/svd/model/model.safetensors "                \
    "rope4-rank*/stage2/model/model.safetensors */stage2/answers.jsonl && "                        \
    "grep -v '\"event\":\"end\"' metrics.jsonl | sha256sum)"

static void test_files_and_bits(void **state)
{
    static const char *const files[] = {"config.json",
                                        "train.log",
                                        "metrics.jsonl",
                                        "metrics.h5",
                                        "report.md",
                                        "tensorboard/rope4-rank4/stage2",
                                        "base/scores.json",
                                        "rope4-rank4/stage2/checkpoints/step-00000012.h5",
                                        "rope4-rank1/stage2/model/config.json",
                                        "rope4-rank1/stage2/model/tokenizer.json"};
    char path[200];

    must_run(state, "$B/mha2mla-train --config $C");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "run/%s", files[i]);
        if (!is_there(tmpdir_path(state, path))) fail_msg("the run left no %s", path);
    }
    must_run(state, FINGERPRINT("$T/run") " > $T/sums");
    must_run(state, "$B/mha2mla-train --config $C --resume"); /* nothing is left to do */
    must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
    must_run(state, "$B/mha2mla-train --config $C --set run.dir=$T/again");
    must_run(state, FINGERPRINT("$T/again") " | diff $T/sums -");
}

static void sleep_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

/* Stops the run by `sig` after each of the waits, then lets it end: the same bits as undisturbed.
 */
static void disturb(void **state, int sig, const long *waits, size_t n, int status)
{
    int seen = 0;

    must_run(state, "rm -rf $T/run; $B/mha2mla-train --config $C --set run.dir=$T/quiet");
    must_run(state, FINGERPRINT("$T/quiet") " > $T/sums");
    for (size_t i = 0; i < n; i++) {
        pid_t pid = start(*state, "exec $B/mha2mla-train --config $C --resume");
        sleep_ms(waits[i]);
        kill(pid, sig);
        int rc = finish(pid);
        if (rc != 0 && rc != status) fail_msg("status %d\n%s", rc, output(state));
        seen += rc == status;
    }
    assert_true(seen > 0); /* at least one stop came before the end */
    must_run(state, "$B/mha2mla-train --config $C --resume");
    must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
}

static void test_sigterm(void **state)
{
    disturb(state, SIGTERM, (const long[]){60, 150, 350}, 3, 128 + SIGTERM);
}

static void test_kill(void **state)
{
    disturb(state, SIGKILL, (const long[]){40, 120, 200, 450}, 4, 128 + SIGKILL);
}

static void test_refused(void **state)
{
    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]'");
    must_fail(state, "$B/mha2mla-train --config $C", "holds a run already: add --resume");
    must_fail(state, "$B/mha2mla-train --config $C --resume --set stage2.lr=0.5", "stage2.lr (was");
    int fd = open(tmpdir_path(state, "run/lock"), O_RDWR);
    assert_true(fd >= 0 && flock(fd, LOCK_EX) == 0);
    must_fail(state, "$B/mha2mla-train --config $C --resume",
              "another run works in this directory");
    close(fd);
}

static void test_diverged(void **state)
{
    must_fail(state,
              "$B/mha2mla-train --config $C --set baseline.lr=1 --set optim.clip=0 "
              "--set optim.warmup=0 --set optim.eps=1e-30 --set baseline.steps=200 "
              "--set optim.beta1=0 --set checkpoint.every=1 --set baseline.lr=1 "
              "--set optim.weight_decay=1e30",
              "the last good checkpoint is step");
}

static void test_bad_input(void **state)
{
    static const struct {
        const char *command, *text;
    } cases[] = {
        {"$B/mha2mla-train", "--config FILE is missing"},
        {"$B/mha2mla-train --config $T/no.json", "no.json"},
        {"$B/mha2mla-train --config $C --what", "unknown option"},
        {"$B/mha2mla-train --config $C --set svd.low_rang=3", "did you mean"},
        {"$B/mha2mla-train --config $C --set baseline.steps=many", "baseline.steps"},
        {"$B/mha2mla-train --config $C --set stage1.peft=v9", "one of v2"},
        {"$B/mha2mla-train --config $C --point 2", "the points 0..1"},
        {"$B/mha2mla-train --config $C --set 'data.train=[{\"path\":\"gone.json\"}]'", "gone.json"},
        {"echo '[{\"conversations\":[{\"from\":\"human\",\"value\":\"Q\"}]}]' > $T/n.json; "
         "$B/mha2mla-train --config $C --set data.train[0].path=$T/n.json --set data.max_bad=0",
         "has no answer to train on"},
        {"echo '[{\"conversations\":[{\"from\":\"human\",\"value\":\"<image>Q\"},{\"from\":\"gpt\","
         "\"value\":\"A\"}]}]' > $T/m.json; "
         "$B/mha2mla-train --config $C --set data.train[0].path=$T/m.json --set data.max_bad=0",
         "1 <image> marks for 0 pictures"},
        {"echo "
         "'[{\"image\":\"x.png\",\"conversations\":[{\"from\":\"human\",\"value\":\"<image>Q\"},"
         "{\"from\":\"gpt\",\"value\":\"A\"}]}]' > $T/i.json; "
         "$B/mha2mla-train --config $C --set data.train[0].path=$T/i.json --set data.max_bad=0",
         "x.png"},
        {"mkdir -p $T/s2 && cp -r $T/s/. $T/s2 && for f in $T/s2/images/train*; do "
         "head -c 200 $f > $f.t; mv $f.t $f; done; "
         "$B/mha2mla-train --config $C --set data.max_bad=9 --set "
         "data.train[0].path=$T/s2/train.json",
         "data.max_bad allows 9"},
        {"mkdir -p $T/tok2 && sed 's/<image>/<imago>/' $T/tok/tokenizer.json > "
         "$T/tok2/tokenizer.json; "
         "$B/mha2mla-train --config $C --set model.tokenizer=$T/tok2",
         "<image>"},
        {"$B/mha2mla-train --config $C --set data.template=chatml",
         "no token \"<|im_start|>\", which the chat template chatml needs"},
    };
    char where[300];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(where, sizeof where, "rm -rf $T/run; true");
        must_run(state, where);
        must_fail(state, cases[i].command, cases[i].text);
    }
}

static void test_damaged_files(void **state)
{
    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]'");
    must_run(
        state,
        "cp -r $T/run/baseline/model $T/bad && printf '\\377\\377\\377\\377\\377\\377\\377\\177' | "
        "dd of=$T/bad/model.safetensors bs=1 conv=notrunc 2>&1");
    must_fail(state,
              "$B/mha2mla-train --config $C --set run.dir=$T/r2 --set model.path=$T/bad "
              "--set 'run.steps=[\"rank\"]'",
              "model.safetensors");
    /* The newest checkpoint is cut short: the one before it is used, and said so. */
    must_run(state,
             "rm -rf $T/run/baseline/model; f=$(ls $T/run/baseline/checkpoints/*.h5 | tail -1); "
             "head -c 3000 $f > $f.x; mv $f.x $f");
    must_run(state, "$B/mha2mla-train --config $C --resume --set 'run.steps=[\"baseline\"]'");
    char *out = output(state);
    assert_non_null(strstr(out, "goes on from step 20 of 24"));
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_files_and_bits, setup, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_sigterm, setup, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_kill, setup, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_refused, setup, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_diverged, setup, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_bad_input, setup, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_damaged_files, setup, tmpdir_remove),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
