/* test_ranks.c - layers with latents of different width (svd.ranks): how they are divided, and a
 * run with them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tmpdir.h"
#include "train/ranks.h"

#include "tests/program.h"

/* ---- the division ---- */

enum { LAYERS = 3, MEAN = 8, LEAST = 6, MOST = 12 };

/* Components that fall by a factor of each layer's own, one set, one part. */
static void make_factors(struct made_factors *f, const double fall[LAYERS])
{
    *f = (struct made_factors){.layers = LAYERS, .sets = 1, .method = KV_JOINT, .widths = 1};
    f->width = calloc(1, sizeof *f->width);
    f->layer = calloc(LAYERS, sizeof *f->layer);
    assert_true(f->width && f->layer);
    f->width->plan = (struct mdsvd_plan){.part = {{0, 16, 16}}, .parts = 1};
    for (int l = 0; l < LAYERS; l++) {
        struct mdsvd_out *out = &f->layer[l].out[0][0];
        out->component = calloc(MOST, sizeof *out->component);
        assert_non_null(out->component);
        out->live = MOST;
        for (int i = 0; i < MOST; i++) {
            out->component[i] = i ? out->component[i - 1] * fall[l] : 1;
            out->energy += out->component[i];
        }
    }
}

/* What layer l loses with so many, as a share of its energy. */
static double lost(const struct made_factors *f, int64_t l, int64_t r)
{
    const struct mdsvd_out *out = &f->layer[l].out[0][0];
    double sum = 0;

    for (int64_t i = r; i < MOST; i++)
        sum += out->component[i] / out->energy;
    return sum;
}

/* The least of the weighted losses over all divisions of LAYERS * MEAN with LEAST to MOST each. */
static double least(const struct made_factors *f, const double *weight)
{
    double best = 1e9;

    for (int64_t a = LEAST; a <= MOST; a++)
        for (int64_t b = LEAST; b <= MOST; b++) {
            const int64_t c = LAYERS * MEAN - a - b;
            if (c < LEAST || c > MOST) continue;
            const double sum =
                weight[0] * lost(f, 0, a) + weight[1] * lost(f, 1, b) + weight[2] * lost(f, 2, c);
            best = sum < best ? sum : best;
        }
    return best;
}

static void test_divide(void **state)
{
    static const struct {
        double fall[LAYERS], weight[LAYERS];
    } cases[] = {{{0.5, 0.5, 0.5}, {1, 1, 1}},
                 {{0.3, 0.6, 0.9}, {1, 1, 1}},
                 {{0.3, 0.6, 0.9}, {20, 1, 0.1}},
                 {{0.5, 0.5, 0.5}, {0, 0, 1}},
                 {{0.5, 0.5, 0.5}, {0, 0, 0}}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct made_factors f;
        struct err e;
        int64_t *r, all = 0;
        double sum = 0;
        make_factors(&f, cases[i].fall);
        assert_true(ranks_divide(&f, MEAN, cases[i].weight, &r, &e));
        for (int l = 0; l < LAYERS; l++) {
            assert_in_range(r[l], LEAST, MOST);
            all += r[l];
            sum += cases[i].weight[l] * lost(&f, l, r[l]);
            if (i == 0 || i == 4) assert_int_equal(r[l], MEAN); /* alike where nothing differs */
        }
        assert_int_equal(all, LAYERS * MEAN);
        assert_true(sum <= least(&f, cases[i].weight) + 1e-12); /* rounding of sums below 30 */
        free(r);
        factors_free(&f);
    }
}

/* ---- a run ---- */

#define RUN                                                                                        \
    "exec $B/mha2mla-train --config $C --set run.dir=$T/%s --set svd.ranks=%s "                    \
    "--set sweep.low_rank=[6] --set svd.split_samples=16 --set checkpoint.every=3 %s"

static pid_t begin(void *const *state, const char *dir, const char *ranks, const char *more)
{
    char command[600];

    snprintf(command, sizeof command, RUN, dir, ranks, more);
    return start(*state, command);
}

static void whole(void *const *state, const char *dir, const char *ranks, const char *more)
{
    const int rc = finish(begin(state, dir, ranks, more));

    if (rc != 0) fail_msg("%s: status %d\n%s", ranks, rc, output(state));
}

/* Stops a run once stage 2 has a checkpoint. */
static void stop_in_stage2(void *const *state, const char *ranks)
{
    const char *seen = tmpdir_path(state, "two/rope4-rank6/stage2/checkpoints/step-00000003.h5");
    pid_t pid = begin(state, "two", ranks, "");
    struct stat there;

    for (int k = 0; k < 60000 && stat(seen, &there) != 0; k++)
        sleep_ms(1);
    kill(pid, SIGKILL);
    assert_int_equal(finish(pid), 128 + SIGKILL);
}

/* Models with latents of their own per layer, of the same cache in all, are made, trained, scored
 * and reported; a run that is killed while it trains one ends with the same bits. */
static void test_run(void **state)
{
    static const char *const kinds[] = {"energy", "sensitivity"};

    for (int i = 0; i < 2; i++) {
        must_run(state, "rm -rf $T/one $T/two");
        whole(state, "one", kinds[i], "");
        must_say(state, "rope4-rank6: latent values by layer:");
        must_say(state, "rope4-rank6: the cache holds 20 values a token and layer");
        must_run(state, "grep -q latents $T/one/rope4-rank6/svd/model/config.json && "
                        "grep -q latents $T/one/rope4-rank6/stage2/model/config.json && "
                        "test -e $T/one/rope4-rank6/stage2/model/modeling_mha2mla.py");
        stop_in_stage2(state, kinds[i]);
        whole(state, "two", kinds[i], "--resume");
        must_run(state, "for f in rope4-rank6/svd/model/model.safetensors "
                        "rope4-rank6/stage2/model/model.safetensors "
                        "rope4-rank6/stage2/answers.jsonl; do cmp $T/one/$f $T/two/$f || exit 1; "
                        "done");
    }
}

/* With factors made for each width: all points' widths are found, then factors made for them; a
 * point that is made alone has the same bits. */
static void test_blocks(void **state)
{
    static const char more[] = "--set svd.statistics=blocks --set sweep.low_rank=[6,4] "
                               "--set 'run.steps=[\"baseline\",\"rank\",\"svd\",\"evaluate\"]'";
    char alone[300];

    whole(state, "one", "sensitivity", more);
    must_say(state, "rope4-rank6: latent values by layer:");
    must_say(state, "rope4-rank4: latent values by layer:");
    snprintf(alone, sizeof alone, "%s --point 1", more);
    whole(state, "two", "sensitivity", alone);
    must_run(state, "cmp $T/one/rope4-rank4/svd/model/model.safetensors "
                    "$T/two/rope4-rank4/svd/model/model.safetensors && "
                    "grep -q latents $T/one/rope4-rank4/svd/model/config.json && "
                    "test ! -e $T/two/rope4-rank6");
    whole(state, "three", "energy", more);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_divide), program_test(test_run),
                                       program_test(test_blocks)};

    return cmocka_run_group_tests_name("ranks", tests, NULL, NULL);
}
