/* test_teacher.c - trainings that distill, as a user runs them: what they log, that they repeat and
 * resume bit for bit, and how a batch is cut does not matter. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tmpdir.h"
#include "train/record/metrics.h"

#include "tests/program.h"

#define TRAIN(dir, sets) "$B/mha2mla-train --config $C --set run.dir=$T/" dir " " sets " "
#define STEPS "--set 'run.steps=[\"baseline\",\"rank\",\"stage1\",\"svd\",\"stage2\"]' "
#define ALL                                                                                        \
    "--set 'run.steps=[\"baseline\",\"rank\",\"stage1\",\"svd\",\"stage2\",\"evaluate\","          \
    "\"report\"]' "
#define DISTILL                                                                                    \
    STEPS "--set stage1.loss=distill --set stage2.loss=distill --set stage1.temperature=2 "        \
          "--set stage2.distill_weight=0.25 "

/* The training steps of a phase of the first point. */
enum { MOST = 32 };
struct steps {
    const char *phase;
    bool hidden; /* the teacher's hidden states were asked for */
    int n;
    double loss[MOST], ce[MOST], distill[MOST], norm[MOST];
};

static bool take_line(void *arg, const struct metrics_line *l, struct err *e)
{
    struct steps *s = arg;
    const char *point = metrics_text(l, "point");

    (void)e;
    if (strcmp(metrics_text(l, "event"), "train") != 0 || strcmp(point, "rope4-rank1") == 0 ||
        strcmp(metrics_text(l, "phase"), s->phase) != 0)
        return true;
    assert_true(s->n < MOST);
    s->loss[s->n] = metrics_number(l, "loss");
    s->ce[s->n] = metrics_number(l, "ce");
    s->distill[s->n] = metrics_number(l, s->hidden ? "layers" : "distill");
    s->norm[s->n++] = metrics_number(l, "grad_norm");
    return true;
}

static struct steps read_hidden(void *const *state, const char *dir, const char *phase, bool hidden)
{
    struct steps s = {.phase = phase, .hidden = hidden};
    char path[100];
    struct err e;

    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    if (!metrics_each(tmpdir_path(state, path), take_line, &s, &e)) fail_msg("%s", e.msg);
    assert_true(s.n > 0);
    return s;
}

static struct steps read_steps(void *const *state, const char *dir, const char *phase)
{
    return read_hidden(state, dir, phase, false);
}

/* The loss is an fp32 number, its terms are not: 1e-6 is some 10 roundings. */
static void check_terms(const struct steps *s, double weight)
{
    for (int i = 0; i < s->n; i++) {
        const double want = (1 - weight) * s->ce[i] + weight * s->distill[i];
        assert_true(s->ce[i] > 0 && s->distill[i] > 0);
        if (!(fabs(s->loss[i] - want) <= 1e-6 * want))
            fail_msg("%s, step %d: %.9g, not %.9g", s->phase, i + 1, s->loss[i], want);
    }
}

static void test_terms_and_bits(void **state)
{
    struct steps s;

    must_run(state, TRAIN("run", DISTILL ALL));
    s = read_steps(state, "run", "stage1");
    assert_int_equal(s.n, 8);
    check_terms(&s, 0.5);
    s = read_steps(state, "run", "stage2");
    assert_int_equal(s.n, 12);
    check_terms(&s, 0.25);
    s = read_steps(state, "run", "baseline");
    assert_true(isnan(s.ce[0]) && isnan(s.distill[0]));
    must_run(state, FINGERPRINT("$T/run") " > $T/sums && test -s $T/run/report.md");
    must_run(state, TRAIN("again", DISTILL ALL));
    must_run(state, FINGERPRINT("$T/again") " | diff $T/sums -");
}

/* From the middle of a training in either stage; a layer that is recomputed has the same bits. */
static void test_resume(void **state)
{
    must_run(state, TRAIN("quiet", DISTILL ALL));
    must_run(state, FINGERPRINT("$T/quiet") " > $T/sums");
    must_run(state, TRAIN("run", DISTILL "--set 'run.steps=[\"baseline\",\"rank\",\"stage1\"]'"));
    must_run(state, "cd $T/run/rope4/stage1 && rm -r model checkpoints/step-00000008*");
    must_run(state, TRAIN("run", DISTILL "--resume --set optim.recompute=all"));
    must_say(state, "stage1: continues from step 5 of 8");
    must_run(state, "cd $T/run/rope4-rank1/stage2 && rm -r model checkpoints/step-00000012*");
    must_run(state, TRAIN("run", DISTILL ALL "--resume"));
    must_say(state, "stage2: continues from step 10 of 12");
    must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
}

/* Points that run beside each other have the same teacher. */
static void test_shared(void **state)
{
    must_run(state, TRAIN("quiet", DISTILL ALL));
    must_run(state, FINGERPRINT("$T/quiet") " > $T/sums");
    must_run(state, TRAIN("run", DISTILL "--set 'run.steps=[\"baseline\",\"rank\",\"stage1\","
                                         "\"evaluate\"]'"));
    must_run(state, TRAIN("run", DISTILL ALL "--resume --share --point 1"));
    must_run(state, TRAIN("run", DISTILL ALL "--resume --share --point 0"));
    must_run(state, TRAIN("run", DISTILL "--resume --set 'run.steps=[\"report\"]'"));
    must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
}

#define MODELS                                                                                     \
    "rope4/stage1/model/model.safetensors rope4-rank4/stage2/model/model.safetensors "             \
    "rope4-rank1/stage2/model/model.safetensors"

/* Without weight, the teacher is only measured. */
static void test_no_weight(void **state)
{
    must_run(state, TRAIN("ce", STEPS));
    must_run(state,
             TRAIN("run", DISTILL "--set stage1.distill_weight=0 --set stage2.distill_weight=0"));
    must_run(state, "for m in " MODELS "; do cmp $T/ce/$m $T/run/$m || exit 1; done");
    assert_true(read_steps(state, "run", "stage2").distill[11] > 0);
    must_run(state, TRAIN("half", DISTILL));
    must_run(state, "for m in " MODELS "; do ! cmp -s $T/ce/$m $T/half/$m || exit 1; done");
}

/* With all pairs rotated, stage 1 begins with the original model: only the order of the dims is
 * another. Logits are off by some fp32 roundings then, 1e-6 at most, and so is the gradient; the
 * divergence has their squares, and the roundings of the logs that it is made of (seen: 8e-15). */
static void test_same_model(void **state)
{
    struct steps s;

    must_run(state, TRAIN("run", DISTILL "--set rank.rope_dim=16 --set stage1.distill_weight=1 "
                                         "--set 'run.steps=[\"baseline\",\"rank\",\"stage1\"]'"));
    s = read_steps(state, "run", "stage1");
    print_message("# the original's divergence from itself: %.1e, gradient %.1e\n", s.distill[0],
                  s.norm[0]);
    assert_true(fabs(s.distill[0]) < 1e-9 && s.norm[0] < 1e-6 && s.ce[0] > 0.1);
}

/* Losses are fp32 sums over the batch, in another order; later steps have the roundings of the
 * gradients before: as in test_cluster.c. */
static void check_near(const struct steps *a, const struct steps *b, double most)
{
    assert_int_equal(a->n, b->n);
    for (int i = 0; i < a->n; i++)
        if (!(fabs(a->loss[i] - b->loss[i]) <= most * a->loss[i] &&
              fabs(a->distill[i] - b->distill[i]) <= most * a->distill[i] &&
              fabs(a->norm[i] - b->norm[i]) <= 10 * most * a->norm[i]))
            fail_msg("step %d: loss %.9g and %.9g, of it %.9g and %.9g", i + 1, a->loss[i],
                     b->loss[i], a->distill[i], b->distill[i]);
}

static void test_micro_batches(void **state)
{
    struct steps whole, cut;

    must_run(state, TRAIN("whole", DISTILL));
    must_run(state, TRAIN("cut", DISTILL "--set stage1.micro_batch=3"));
    whole = read_steps(state, "whole", "stage1");
    cut = read_steps(state, "cut", "stage1");
    check_near(&whole, &cut, 2e-6);
}

#define LAYERS                                                                                     \
    STEPS "--set stage1.loss=layers --set stage2.loss=layers --set stage2.distill_weight=0.25 "

/* Towards the teacher's hidden states: the terms, and the bits of a run that was cut; a batch may
 * be cut too. What is the original's own is at no distance. */
static void test_layers(void **state)
{
    struct steps whole, cut;

    must_run(state, TRAIN("run", LAYERS ALL));
    whole = read_hidden(state, "run", "stage2", true);
    check_terms(&whole, 0.25);
    must_run(state, FINGERPRINT("$T/run") " > $T/sums");
    must_run(state, "cd $T/run/rope4-rank1/stage2 && rm -r model checkpoints/step-00000012*");
    must_run(state, TRAIN("run", LAYERS ALL "--resume --set optim.recompute=all"));
    must_say(state, "stage2: continues from step 10 of 12");
    must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
    must_run(state, TRAIN("cut", LAYERS "--set stage1.micro_batch=3"));
    whole = read_hidden(state, "run", "stage1", true);
    cut = read_hidden(state, "cut", "stage1", true);
    check_near(&whole, &cut, 2e-6);
    must_run(state, TRAIN("same", LAYERS "--set rank.rope_dim=16 "
                                         "--set 'run.steps=[\"baseline\",\"rank\",\"stage1\"]'"));
    assert_true(read_hidden(state, "same", "stage1", true).distill[0] < 1e-9);
}

/* A model of one layer has no states to learn from, and with the whole weight the last layer would
 * learn nothing; the stage is named, that of a recipe too, ahead of the run and in the dry run. */
static void test_layers_refused(void **state)
{
    static const struct {
        const char *set, *says;
    } bad[] = {
        {"--set baseline.layers=1", ": stage1.loss: \"layers\" compares hidden states behind all "
                                    "layers but the last, and the model has one layer: set it to"},
        {"--set baseline.layers=1 --set stage1.loss=ce", ": stage2.loss: \"layers\" compares"},
        {"--set baseline.layers=1 --set stage1.loss=ce --set stage2.loss=ce --set "
         "'sweep.recipe=[{\"name\":\"a\"},{\"name\":\"b\",\"set\":[\"stage2.loss=layers\"]}]'",
         "sweep.recipe[1] \"b\": stage2.loss: \"layers\" compares"},
        {"--set stage2.distill_weight=1",
         "stage2.distill_weight: 1 leaves the last layer untrained"},
        {"--set stage1.distill_weight=1",
         "stage1.distill_weight: 1 leaves the last layer untrained"},
        {"--set stage2.teacher=stored",
         ": stage2.teacher: \"stored\" keeps what the original says"},
        {"--set stage1.teacher=stored",
         ": stage1.teacher: \"stored\" keeps what the original says"},
    };
    char line[900];

    for (size_t i = 0; i < 2 * sizeof bad / sizeof *bad; i++) {
        snprintf(line, sizeof line, TRAIN("no", LAYERS "%s %s"), bad[i / 2].set,
                 i % 2 ? "--dry-run" : "");
        must_fail(state, line, bad[i / 2].says);
        must_run(state, "test ! -e $T/no/baseline/model");
    }
}

/* The teacher's products are rounded as the student's are: 2^-9 = 2e-3 of a logit at most. */
static void test_bf16(void **state)
{
    struct steps fine, coarse;

    must_run(state, TRAIN("fine", DISTILL "--set run.compute=f32"));
    must_run(state, TRAIN("coarse", DISTILL "--set run.compute=bf16"));
    fine = read_steps(state, "fine", "stage2");
    coarse = read_steps(state, "coarse", "stage2");
    check_terms(&coarse, 0.25);
    for (int i = 0; i < fine.n; i++)
        assert_true(fabs(fine.loss[i] - coarse.loss[i]) < 0.02 * fine.loss[i]);
    must_run(state, TRAIN("again", DISTILL "--set run.compute=bf16"));
    must_run(state, "for m in " MODELS "; do cmp $T/coarse/$m $T/again/$m || exit 1; done");
}

#define STORED DISTILL "--set stage1.teacher=stored --set stage2.teacher=stored "

/* What was stored is what is said on the fly, but for the order of sums in a batch; it serves the
 * next point, a training that is resumed, and another run; what is damaged is
 * found, and made again. */
static void test_stored(void **state)
{
    struct steps fly, stored;

    must_run(state, TRAIN("fly", DISTILL));
    must_run(state, TRAIN("run", STORED));
    must_run(state, "test $(grep -c 'teacher: asked about' $T/run/train.log) = 2 && "
                    "ls -d $T/cache/teacher-* | wc -l | grep -qx 2");
    fly = read_steps(state, "fly", "stage2");
    stored = read_steps(state, "run", "stage2");
    check_near(&fly, &stored, 2e-6);
    must_run(state, FINGERPRINT("$T/run") " > $T/sums");
    must_run(state, "cd $T/run/rope4-rank1/stage2 && rm -r model checkpoints/step-00000012*");
    must_run(state, TRAIN("run", STORED "--resume"));
    must_say(state, "stage2: continues from step 10 of 12");
    must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
    must_run(state, TRAIN("again", STORED));
    must_run(state, "! grep 'teacher: asked about' $T/again/train.log && " FINGERPRINT(
                        "$T/again") " | diff $T/sums -");
    must_run(state, "for f in $T/cache/teacher-*/part-*; do "
                    "dd if=/dev/zero of=$f bs=1 seek=9000 count=4000 conv=notrunc; done");
    must_run(state, TRAIN("new", STORED));
    must_run(state, "grep -q 'part-.*: the teacher is asked again$' $T/new/train.log && "
                    "grep -q 'teacher: asked about' $T/new/train.log && " FINGERPRINT(
                        "$T/new") " | diff $T/sums -");
    must_run(state, TRAIN("mended", STORED));
    must_run(state, "! grep 'teacher: asked about' $T/mended/train.log");
    must_run(state, "rm -r $T/cache/teacher-*");
    must_run(state, TRAIN("once", STORED));
    must_run(state, FINGERPRINT("$T/once") " | diff $T/sums -");
}

/* The fill stops at a signal, and goes on: with the same bits. Another teacher
 * has another store. */
static void test_stored_apart(void **state)
{
    must_run(state, TRAIN("run", STORED));
    must_run(state, TRAIN("other", STORED "--set baseline.steps=20"));
    must_run(state, "ls -d $T/cache/teacher-* | wc -l | grep -qx 4");
    must_run(state, TRAIN("dry", STORED "--dry-run"));
    must_say(state, "asked once about");
    must_say(state, "in data.cache");
    must_run(state, TRAIN("unused", STEPS "--set stage1.teacher=stored"));
    must_say(state, "not used: stage1.teacher, for the training's loss is \"ce\"");
}

static void test_refused(void **state)
{
    must_run(state, TRAIN("run", STEPS "--set stage1.temperature=2"));
    must_say(state, "not used: stage1.temperature, for the training's loss is \"ce\"");
    must_fail(state, TRAIN("run", STEPS "--set stage2.loss=distill --resume"), "stage2.loss (was");
    must_fail(state, TRAIN("new", STEPS "--set stage2.distill_weight=1.5"),
              "stage2.distill_weight: ");
    must_fail(state, TRAIN("new", STEPS "--set stage2.temperature=0"), "stage2.temperature: ");
    /* the converted model is no teacher */
    must_fail(state,
              TRAIN("new", "--set 'run.steps=[\"stage2\"]' --set stage2.loss=distill "
                           "--set model.path=$T/run/rope4-rank4/stage2/model"),
              "is already converted; the original model is needed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        program_test(test_terms_and_bits), program_test(test_resume),
        program_test(test_shared),         program_test(test_no_weight),
        program_test(test_same_model),     program_test(test_micro_batches),
        program_test(test_layers),         program_test(test_bf16),
        program_test(test_stored),         program_test(test_stored_apart),
        program_test(test_refused),        program_test(test_layers_refused),
    };
    return cmocka_run_group_tests_name("teacher", tests, NULL, NULL);
}
