/* test_recipe_sweep.c - sweep.recipe: what its settings may be, what recipes share, the points'
 * names, and whole runs of three recipes: the same bits as each of them alone, points one by one,
 * killed and resumed. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/config/choices.h"
#include "tests/tmpdir.h"
#include "train/recipes.h"
#include "train/settings.h"

#include "tests/printed.h"
#include "tests/program.h"

/* ---- settings ---- */

/* Loads the settings, KEY=VALUE divided by '|', and makes the recipes. */
static bool load(struct config *c, const char *line, struct err *e)
{
    const char *sets[16] = {"run.dir=r", "data.train=[{\"path\":\"t\"}]",
                            "data.eval=[{\"path\":\"e\"}]"};
    char text[1000], *rest = text;
    size_t n = 3;

    snprintf(text, sizeof text, "%s", line);
    while (n < 16 && (sets[n] = strsep(&rest, "|")))
        n++;
    return schema_load(&config_schema, c, NULL, sets, n, e) && recipes_open(c, e) &&
           settings_check(c, e);
}

static void must_load(struct config *c, const char *line)
{
    struct err e;

    if (!load(c, line, &e)) fail_msg("%s: %s", line, e.msg);
}

/* plain and refit share the ranking and stage 1, wide only the ranking, cross nothing. */
#define FOUR                                                                                       \
    "rank.rope_dim=8|sweep.low_rank=[4,2]|sweep.recipe=[{\"name\":\"plain\"},"                     \
    "{\"name\":\"refit\",\"set\":[\"svd.refit=true\",\"sweep.low_rank=[4]\"]},"                    \
    "{\"name\":\"wide\",\"set\":[\"rank.rope_dim=16\",\"stage1.lr=0.25\","                         \
    "\"sweep.stage2_lr=[0.5,0.125]\"]},"                                                           \
    "{\"name\":\"cross\",\"set\":[\"rank.basis=cross\",\"sweep.low_rank=[]\","                     \
    "\"sweep.partial_rope=[4,6]\",\"svd.low_rank=3\"]}]"

static void test_points(void **state)
{
    static const struct {
        const char *name, *stage1;
        int64_t recipe, rope_dim;
        double low_rank, lr;
    } want[] = {
        {"plain-rope8-rank4", "plain-rope8", 0, 8, 4, 5e-6},
        {"plain-rope8-rank2", "plain-rope8", 0, 8, 2, 5e-6},
        {"refit-rope8-rank4", "plain-rope8", 1, 8, 4, 5e-6},
        {"wide-rope16-rank4", "wide-rope16", 2, 16, 4, 0.5},
        {"wide-rope16-rank2", "wide-rope16", 2, 16, 2, 0.125},
        {"cross-rope4-rank3", "cross-rope4", 3, 4, 3, 5e-6},
        {"cross-rope6-rank3", "cross-rope6", 3, 6, 3, 5e-6},
    };
    static const bool ranks[] = {true, false, false, true},
                      first[] = {true, false, false, true, false, true, true};
    struct config c;

    (void)state;
    must_load(&c, FOUR);
    assert_int_equal(recipes_count(&c), 4);
    assert_int_equal(config_points(&c), sizeof want / sizeof *want);
    for (int64_t i = 0; i < config_points(&c); i++) {
        const struct point p = config_point(&c, i);
        assert_string_equal(p.name, want[i].name);
        assert_string_equal(p.stage1, want[i].stage1);
        assert_int_equal(p.recipe, want[i].recipe);
        assert_int_equal(p.rope_dim, want[i].rope_dim);
        assert_true(p.low_rank == want[i].low_rank);
        assert_true(p.lr == want[i].lr);
        assert_int_equal(config_first_of_stage1(&c, i), first[i]);
    }
    for (int64_t k = 0; k < 4; k++)
        assert_int_equal(recipes_ranks(&c, k), ranks[k]);
    recipes_close(&c);
}

/* Stage 1 is not shared where it is refitted on other samples. */
static void test_refitted_stage1(void **state)
{
    struct config c;

    (void)state;
    must_load(&c, "stage1.refit=true|rank.rope_dim=8|svd.low_rank=4|sweep.recipe=[{\"name\":\"a\"},"
                  "{\"name\":\"b\",\"set\":[\"svd.samples=7\"]},"
                  "{\"name\":\"c\",\"set\":[\"svd.refit=true\"]}]");
    assert_string_equal(config_point(&c, 1).stage1, "b-rope8");
    assert_string_equal(config_point(&c, 2).stage1, "a-rope8");
    recipes_close(&c);
}

static void test_taken(void **state)
{
    struct config c;

    (void)state;
    must_load(&c, FOUR);
    assert_int_equal(recipes_take(&c, 3), -1);
    assert_int_equal(c.rank.basis, BASIS_CROSS);
    assert_int_equal(c.sweep.low_rank.n, 0);
    assert_string_equal(c.ranks_file, "rank/cross.h5");
    assert_string_equal(config_point(&c, 0).name, "plain-rope8-rank4"); /* of all recipes, still */
    c.splits_known = true; /* found while it is taken */
    assert_int_equal(recipes_take(&c, 1), 3);
    assert_true(c.svd.refit && !c.splits_known);
    assert_int_equal(c.rank.basis, BASIS_HEAD);
    assert_string_equal(c.ranks_file, "rank/plain.h5");
    recipes_take(&c, -1);
    assert_true(recipes_config(&c, 3)->splits_known);
    assert_false(c.svd.refit);
    assert_null(c.ranks_file);
    assert_int_equal(c.sweep.low_rank.n, 2);
    recipes_take(&c, 2);
    recipes_close(&c); /* whichever is taken */
}

#define TWO(set) "sweep.recipe=[{\"name\":\"a\"},{\"name\":\"b\",\"set\":[" set "]}]"

static void test_refused(void **state)
{
    static const char *const cases[][2] = {
        {TWO("\"svd.refi=true\""),
         "sweep.recipe[1].set[0]: svd.refi: unknown key; did you mean \"refit\"?"},
        {TWO("\"svd.refit=true\",\"svd.steps=-1\""),
         "sweep.recipe[1].set[1]: svd.steps: must be 0..1000, found -1"},
        {TWO("\"svd.refit=true\",\"svd.steps=1\",\"svd.refit=false\""),
         "sweep.recipe[1].set[2]: svd.refit is set by set[0] too"},
        {TWO("\"svd\""), "sweep.recipe[1].set[0]: KEY=VALUE is needed, found \"svd\""},
        {TWO("\"optim.clip=2\""), "sweep.recipe[1].set: optim.clip is one for all recipes"},
        {TWO("\"rank.file=x\""), "sweep.recipe[1].set: rank.file is one for all recipes"},
        {TWO("\"sweep.recipe=[]\""), "sweep.recipe[1].set: sweep.recipe is one for all recipes"},
        {"sweep.recipe=[{\"name\":\"a b\"}]",
         "sweep.recipe[0].name: \"a b\": a name is of letters"},
        {"sweep.recipe=[{\"name\":\"-a\"}]", "and begins with a letter or a digit"},
        {"sweep.recipe=[{\"name\":\"a23456789012345678901\"}]",
         "sweep.recipe[0].name: needs 1..20 characters, found 21"},
        {"sweep.recipe=[{\"name\":\"a\"},{\"name\":\"a\"}]",
         "sweep.recipe[1].name: \"a\" is that of sweep.recipe[0] too"},
        {"sweep.recipe=[{\"set\":[]}]", "sweep.recipe[0].name: must be given"},
        {TWO("\"svd.input=weight\",\"svd.statistics=blocks\""),
         "sweep.recipe[1] \"b\": svd.statistics: \"blocks\" needs svd.input \"activation\""},
        {TWO("\"sweep.low_rank=[2,2]\""), "sweep: has the point b-rope32-rank2 twice"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config c;
        struct err e = {0};
        if (load(&c, cases[i][0], &e) || !strstr(e.msg, cases[i][1]))
            fail_msg("%s: %s", cases[i][0], e.msg);
        recipes_close(&c);
    }
}

/* A setting of the run is used if one of the recipes uses it. */
static void test_unused(void **state)
{
    static const char *const cases[][2] = {
        {"svd.steps=3|" TWO("\"svd.statistics=blocks\""), ""},
        {"svd.steps=3|" TWO("\"svd.refit=true\""),
         "not used: svd.steps, for svd.statistics is not \"blocks\"\n"},
        {TWO("\"svd.steps=3\""),
         "not used: svd.steps of recipe b, for svd.statistics is not \"blocks\"\n"},
        {"svd.refit=true|sweep.recipe=[{\"name\":\"a\",\"set\":[\"svd.refit=false\"]}]",
         "not used: svd.refit, for each of sweep.recipe sets them\n"},
        {"rank.rope_dim=8|" TWO("\"sweep.partial_rope=[4]\""), ""},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config c;
        must_load(&c, cases[i][0]);
        int was = printed_begin(state);
        settings_say_unused(&c, &(struct settings_model){.pictures = true});
        char *text = printed_end(state, was);
        if (strcmp(text, cases[i][1]) != 0) fail_msg("%s: said\n%s", cases[i][0], text);
        free(text);
        recipes_close(&c);
    }
}

/* ---- the configs ---- */

/* Cached values of a token and layer at point i, of a model with G kv heads of dh dims. */
static int64_t values_of(const struct config *c, int64_t i, int64_t G, int64_t dh)
{
    const struct point p = config_point(c, i);
    const struct config *own = recipes_config(c, p.recipe);
    int64_t before = 0;

    while (i > before && config_point(c, i - before - 1).recipe == p.recipe)
        before++;
    if (own->sweep.cache.n)
        return (int64_t)(own->sweep.cache.v[before] * (double)(2 * G * dh) + 1e-6);
    return (config_shares_key(own) ? p.rope_dim : G * p.rope_dim) +
           (int64_t)(p.low_rank * (double)G);
}

/* Whether an earlier recipe has a point of the same size. */
static bool has_partner(const struct config *c, int64_t i, int64_t G, int64_t dh)
{
    for (int64_t k = 0; config_point(c, k).recipe < config_point(c, i).recipe; k++)
        if (values_of(c, k, G, dh) == values_of(c, i, G, dh)) return true;
    return false;
}

/* In each of them all of the last recipe, which is ours, can be compared. */
static void test_configs(void **state)
{
    static const struct {
        const char *name;
        int64_t G, dh, recipes, points, paired;
    } configs[] = {{"quickstart", 4, 32, 3, 8, 4},
                   {"ablation-shapes", 4, 32, 13, 52, 48},
                   {"ablation-text", 3, 64, 7, 14, 12},
                   {"ablation-llava-1.5-7b", 32, 128, 3, 9, 6}};

    (void)state;
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        char path[100];
        struct config c;
        struct err e;
        int64_t paired = 0;
        snprintf(path, sizeof path, "configs/%s.json", configs[i].name);
        if (!schema_load(&config_schema, &c, path, NULL, 0, &e) || !recipes_open(&c, &e) ||
            !settings_check(&c, &e))
            fail_msg("%s: %s", path, e.msg);
        assert_int_equal(recipes_count(&c), configs[i].recipes);
        assert_int_equal(config_points(&c), configs[i].points);
        for (int64_t k = 0; k < config_points(&c); k++)
            paired += has_partner(&c, k, configs[i].G, configs[i].dh);
        assert_int_equal(paired, configs[i].paired);
        recipes_close(&c);
    }
}

/* The quickstart's recipes differ in the conversion alone: what trains them is the same. */
static void test_same_trainings(void **state)
{
    struct config c;
    struct err e;

    (void)state;
    if (!schema_load(&config_schema, &c, "configs/quickstart.json", NULL, 0, &e) ||
        !recipes_open(&c, &e))
        fail_msg("%s", e.msg);
    for (int64_t i = 0; i < recipes_count(&c); i++)
        for (size_t k = 0; k < config_schema.nrows; k++) {
            const struct schema_row *row = &config_schema.rows[k];
            const bool trains = strncmp(row->key, "stage1.", 7) == 0 ||
                                strncmp(row->key, "stage2.", 7) == 0 ||
                                strncmp(row->key, "sweep.stage2", 12) == 0;
            if (trains && recipes_sets(&c, i, row))
                fail_msg("%s sets %s", recipes_name(&c, i), row->key);
        }
    recipes_close(&c);
}

/* ---- runs ---- */

/* Of 64 values a token and layer, 16 and 10 are cached by each of the three. */
#define THREE                                                                                      \
    "$B/mha2mla-train --config $C --set 'sweep.recipe=[{\"name\":\"plain\"},"                      \
    "{\"name\":\"refit\",\"set\":[\"svd.refit=true\",\"stage2.steps=6\"]},"                        \
    "{\"name\":\"cross\",\"set\":[\"rank.basis=cross\",\"sweep.low_rank=[6,3]\"]}]' "

#define SUMS(dir)                                                                                  \
    "(cd " dir " && sha256sum rank/*.h5 $(find . -path ./slurm -prune -o -name "                   \
    "model.safetensors -print -o -name answers.jsonl -print -o -name scores.json -print -o "       \
    "-name '*.tsv' -print | sort))"

/* What is the same in two runs, under other names. */
#define SAME(run, file, other, name) "cmp $T/" run "/" file " $T/" other "/" name

/* Each recipe's models are those of a run with its settings alone. */
static void test_same_bits(void **state)
{
    must_run(state, THREE);
    must_run(state, "$B/mha2mla-train --config $C --set run.dir=$T/alone");
    must_run(state, SAME("run", "rank/plain.h5", "alone", "rank/rank.h5"));
    must_run(state, SAME("run", "plain-rope4/stage1/model/model.safetensors", "alone",
                         "rope4/stage1/model/model.safetensors"));
    must_run(state, SAME("run", "plain-rope4-rank1/stage2/model/model.safetensors", "alone",
                         "rope4-rank1/stage2/model/model.safetensors"));
    must_run(state, "$B/mha2mla-train --config $C --set run.dir=$T/alone2 --set rank.basis=cross "
                    "--set 'sweep.low_rank=[6,3]'");
    must_run(state, SAME("run", "cross-rope4-rank6/stage2/model/model.safetensors", "alone2",
                         "rope4-rank6/stage2/model/model.safetensors"));
    must_run(state, SAME("run", "cross-rope4-rank3/svd/model/model.safetensors", "alone2",
                         "rope4-rank3/svd/model/model.safetensors"));
    /* shared, not made twice */
    must_run(state, "cd $T/run && test ! -e refit-rope4 && test ! -e rank/refit.h5 && "
                    "test ! -e rank/rank.h5 && test -s rank/cross.h5");
    must_run(state, "cd $T/run && ! cmp -s plain-rope4-rank4/svd/model/model.safetensors "
                    "refit-rope4-rank4/svd/model/model.safetensors");
    must_run(state, "grep -q '^| 25.00 % | cross-rope4-rank6 |' $T/run/report.md && "
                    "grep -q '^| refit-rope4-rank1 | stage 2 |.* | 6 |' $T/run/report.md");
    must_run(state, "test $(grep -c '^[012]' $T/run/recipes.tsv) = 6");
}

/* Points one by one, with others running beside them, and killed: the same bits in the end. */
static void test_resumed(void **state)
{
    pid_t pid;

    must_run(state, THREE " --set run.dir=$T/quiet && " SUMS("$T/quiet") " > $T/sums");
    must_run(state, THREE "--set 'run.steps=[\"baseline\",\"rank\",\"stage1\",\"evaluate\"]'");
    must_run(state, THREE "--resume --share --point 5 > $T/p5 & " THREE
                          "--resume --share --point 2 > $T/p2 && wait $!");
    must_run(state, THREE "--resume --point 0");
    must_run(state, "test -s $T/run/cross-rope4-rank3/stage2/scores.json && "
                    "test -s $T/run/refit-rope4-rank4/stage2/scores.json && "
                    "test ! -e $T/run/plain-rope4-rank1/stage2");
    pid = start(*state, "exec " THREE "--resume");
    for (int k = 0;
         k < 60000 &&
         !is_there(tmpdir_path(state, "run/cross-rope4-rank6/stage2/checkpoints/step-00000005.h5"));
         k++)
        sleep_ms(1);
    kill(pid, SIGKILL);
    finish(pid);
    must_run(state, THREE "--resume");
    must_run(state, SUMS("$T/run") " | diff $T/sums -");
    must_run(state, THREE "--resume"); /* all is done, and whole */
    assert_false(says(state, "has no sum"));
    must_run(state, SUMS("$T/run") " | diff $T/sums -");
    must_fail(state,
              "$B/mha2mla-train --config $C --resume --set 'sweep.recipe=[{\"name\":\"x\"}]'",
              "cannot be resumed with other settings: sweep.recipe");
}

/* What is shown of it beforehand and on the way. */
static void test_shown(void **state)
{
    must_run(state, THREE "--list-points");
    must_say(state, "0  plain-rope4-rank4\n1  plain-rope4-rank1\n2  refit-rope4-rank4\n"
                    "3  refit-rope4-rank1\n4  cross-rope4-rank6\n5  cross-rope4-rank3\n");
    must_fail(state, THREE "--point 6", "--point 6: the sweep has the points 0..5");
    must_run(state, THREE "--dry-run | tr -s ' '");
    must_say(state, "\nrefit-rope4-rank1 10 15.62 %");
    must_say(state, "\ncross-rope4-rank3 10 15.62 %");
    must_say(state, "\nrefit-rope4-rank4 stage 2 6 8 ");
    must_say(state, "\ncross-rope4-rank6 stage 2 12 8 ");
    assert_false(says(state, "refit-rope4 stage 1"));
    must_run(state, "test ! -e $T/run");
    must_run(state, THREE "--point 4 && " THREE "--status | tr -s ' '");
    must_say(state, "cross-rope4-rank6");
    must_say(state, "plain-rope4-rank1");
    assert_false(says(state, "changed since"));
    must_run(state, THREE "--set stage2.lr=0.5 --set checkpoint.keep=7 --status");
    must_say(state, "changed since, and not for the run, whose settings are in ");
    must_say(state, "/run/config.json: stage2.lr (was ");
    assert_false(says(state, "checkpoint.keep"));
}

/* Every recipe finds its own splits, and finds them again. */
static void test_splits(void **state)
{
#define SPLIT                                                                                      \
    THREE "--set sweep.low_rank=[] --set 'sweep.recipe[2].set=[\"rank.basis=cross\"]' --resume "   \
          "--set sweep.cache=[0.4] --set svd.samples=4 --set svd.split_samples=2 "                 \
          "--set 'run.steps=[\"baseline\",\"rank\",\"svd\"]'"
    must_run(state, SPLIT);
    must_run(state, "cd $T/run && test -s splits-plain.json && test -s splits-refit.json && "
                    "test -s splits-cross.json && test ! -e splits.json && "
                    "test -s cross-cache0.4/svd/model/config.json");
    must_run(state, "rm -r $T/run/refit-cache0.4 && sha256sum $T/run/splits-*.json > $T/sums");
    must_run(state, SPLIT);
    must_run(state, "sha256sum -c $T/sums && test -s $T/run/refit-cache0.4/svd/model/config.json");
    must_run(state, SPLIT " --set 'run.steps=[\"report\"]'");
    must_run(state, "grep -q '^| plain-cache0.4 (rope[0-9]*-rank[0-9.]*) |' $T/run/report.md && "
                    "grep -q '^| conversion of plain | RoPE pairs' $T/run/report.md && "
                    "grep -q '^| conversion of cross | one rotated key' $T/run/report.md");
}

/* One stage: what a stage 1 at the rate 0 leaves is converted like the model of a run without that
 * step. Whole models: of changed tensors, the one has those too that might have been trained. */
static void test_one_stage(void **state)
{
#define ONE_STAGE                                                                                  \
    "$B/mha2mla-train --config $C --set stage1.steps=1 --set stage1.lr=0 --set "                   \
    "save.full=true --set 'sweep.low_rank=[4]' --set 'run.steps=[\"baseline\",\"rank\","
    must_run(state, ONE_STAGE "\"stage1\",\"svd\"]'");
    must_run(state, ONE_STAGE "\"svd\"]' --set run.dir=$T/without");
    must_run(state, "test -s $T/run/rope4/stage1/model/model.safetensors && "
                    "test ! -e $T/without/rope4");
    must_run(state, "cmp $T/run/rope4-rank4/svd/model/model.safetensors "
                    "$T/without/rope4-rank4/svd/model/model.safetensors");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_points),
                                       cmocka_unit_test(test_refitted_stage1),
                                       cmocka_unit_test(test_taken),
                                       cmocka_unit_test(test_refused),
                                       tmpdir_test(test_unused),
                                       cmocka_unit_test(test_configs),
                                       cmocka_unit_test(test_same_trainings),
                                       program_test(test_shown),
                                       program_test(test_same_bits),
                                       program_test(test_resumed),
                                       program_test(test_splits),
                                       program_test(test_one_stage)};

    return cmocka_run_group_tests_name("recipe sweep", tests, NULL, NULL);
}
