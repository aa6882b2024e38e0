/* test_splits.c - cache sizes split between rotated and latent values: guessed, found, kept. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json/jsonc.h"
#include "tests/tmpdir.h"
#include "train/settings.h"
#include "train/splits.h"

#include "tests/tiny_run.h"

/* A model of random weights, 2 heads of 16: 64 values a token and layer. Its directory is the run's
 * base. Half of it is 32 values, 0.3 are 19. */
static void open_run(struct run *r, void **state, const char *cache)
{
    char sizes[80];
    const char *const more[] = {
        "data.eval=[]",           "sweep.partial_rope=[]", "sweep.low_rank=[]",   sizes,
        "rank.strategy=\"high\"", "svd.refit=true",        "run.steps=[\"svd\"]", NULL};
    struct model m = {0};
    struct err e = {0};

    snprintf(sizes, sizeof sizes, "sweep.cache=%s", cache);
    tiny_run(r, state, more);
    if (!file_mkdirs(tmpdir_path(state, "run/baseline"), &e) || !make_baseline_model(r, &m, &e) ||
        !model_save(&m, tmpdir_path(state, "run/baseline/model"), DT_F32, false, &e) ||
        !run_open_data(r, &m.cfg, &e) || !run_open_pictures(r, &m, false, &e))
        fail_msg("%s", e.msg);
    model_close(&m);
}

static void guess(struct run *r, const char *error)
{
    struct model m = {0};
    struct err e = {0};
    bool ok;

    assert_true(open_base_model(r, &m, &e));
    ok = splits_guess(r, &m, &e);
    if (ok != !error) fail_msg("%s", ok ? "not refused" : e.msg);
    if (error) assert_string_equal(e.msg, error);
    model_close(&m);
}

static void test_guess(void **state)
{
    struct run r;
    struct point p;

    open_run(&r, state, "[0.5,0.3]");
    assert_int_equal(config_points(&r.c), 2);
    assert_string_equal(config_point(&r.c, 1).name, "cache0.3");
    assert_string_equal(config_point(&r.c, 1).dir[STEP_SVD], "cache0.3/svd");
    guess(&r, NULL);
    p = config_point(&r.c, 0);
    assert_int_equal(p.rope_dim, 4); /* 8 of 32 */
    assert_true(p.low_rank == 12);
    assert_string_equal(p.dir[STEP_STAGE1], "rope4/stage1");
    p = config_point(&r.c, 1);
    assert_int_equal(p.rope_dim, 2); /* 4 of 19 */
    assert_true(p.low_rank == 7.5);
    run_close(&r);
}

/* The latent is no wider than the hidden states, 32 values: 48 want 16 rotated ones or more, 57 of
 * which a latent has 25 all of them. */
static void test_large(void **state)
{
    struct run r;

    open_run(&r, state, "[0.75,0.9]");
    guess(&r, NULL);
    assert_int_equal(config_point(&r.c, 0).rope_dim, 8);
    assert_true(config_point(&r.c, 0).low_rank == 16);
    assert_int_equal(config_point(&r.c, 1).rope_dim, 16);
    assert_true(config_point(&r.c, 1).low_rank == 12.5);
    run_close(&r);
}

static void test_too_small(void **state)
{
    struct run r;

    open_run(&r, state, "[0.5,0.07]");
    guess(&r, "sweep.cache: 0.07 of the 64 values of a token and layer are 4: two rotated dims "
              "in each of 2 keys and a latent need 5 or more");
    run_close(&r);
    open_run(&r, state, "[0.5,0.51]");
    guess(&r, "sweep.cache: 0.5 and 0.51 are both 32 of the 64 values of a token and layer: give "
              "one of them");
    run_close(&r);
}

static double number(const struct jsonc *doc, const char *list, int i, const char *key)
{
    char path[80];
    const cJSON *item;

    snprintf(path, sizeof path, "%s[%d].%s", list, i, key);
    item = jsonc_find(doc, path);
    return cJSON_IsNumber(item) ? item->valuedouble : (double)NAN;
}

/* Of all that were tried of a size, none has less cross entropy, and both neighbours were tried. */
static void check_choice(const struct jsonc *doc, int i)
{
    const double cache = number(doc, "splits", i, "cache"),
                 dim = number(doc, "splits", i, "rope_dim");
    const double least = number(doc, "splits", i, "cross_entropy");
    int tried = 0, below = 0, above = 0;

    for (int k = 0; !isnan(number(doc, "tried", k, "cache")); k++) {
        if (number(doc, "tried", k, "cache") != cache) continue;
        tried++;
        below += number(doc, "tried", k, "rope_dim") < dim;
        above += number(doc, "tried", k, "rope_dim") > dim;
        assert_true(number(doc, "tried", k, "cross_entropy") >= least);
        assert_true(number(doc, "tried", k, "rope_dim") * 2 +
                        number(doc, "tried", k, "low_rank") * 2 ==
                    floor(cache * 64));
    }
    assert_true(above > 0 && (below > 0 || dim == 2) && tried == below + 1 + above);
}

static void find(struct run *r)
{
    struct err e = {0};

    if (!splits_open(r, &e) || !splits_find(r, &e)) fail_msg("%s", e.msg);
    assert_true(r->c.splits_known);
}

static void test_found_and_kept(void **state)
{
    struct run r, again;
    struct jsonc doc;
    struct err e = {0};
    char *text[2];

    open_run(&r, state, "[0.5,0.3]");
    find(&r);
    text[0] = slurp(tmpdir_path(state, "run/splits.json"), NULL);
    assert_true(jsonc_read(&doc, tmpdir_path(state, "run/splits.json"), 1 << 20, &e));
    for (int i = 0; i < 2; i++) {
        check_choice(&doc, i);
        assert_int_equal(config_point(&r.c, i).rope_dim, number(&doc, "splits", i, "rope_dim"));
        assert_true(config_point(&r.c, i).low_rank == number(&doc, "splits", i, "low_rank"));
    }
    jsonc_close(&doc);
    /* taken from the file: with nothing to compute with */
    open_run(&again, state, "[0.5,0.3]");
    run_close_data(&again);
    find(&again);
    assert_memory_equal(again.c.split, r.c.split, 2 * sizeof *r.c.split);
    run_close(&again);
    run_close(&r);
    /* made again, to the same bits */
    assert_int_equal(remove(tmpdir_path(state, "run/splits.json")), 0);
    open_run(&r, state, "[0.5,0.3]");
    find(&r);
    text[1] = slurp(tmpdir_path(state, "run/splits.json"), NULL);
    assert_string_equal(text[0], text[1]);
    run_close(&r);
    free(text[0]);
    free(text[1]);
}

/* What splits.json says was tried of one size with one number of rotated dims, as an interrupted
 * search leaves it; its cross entropy may be another's. */
static void leave_tried(void **state, const char *splits, double cache, int dim, double loss)
{
    cJSON *all = cJSON_Parse(splits), *root = cJSON_CreateObject();
    cJSON *tried = cJSON_AddArrayToObject(root, "tried"), *one;
    char *text;

    cJSON_AddItemToObject(root, "original", cJSON_DetachItemFromObject(all, "original"));
    cJSON_ArrayForEach(one, cJSON_GetObjectItem(all, "tried"))
    {
        cJSON *copy;
        if (cJSON_GetObjectItem(one, "cache")->valuedouble != cache ||
            cJSON_GetObjectItem(one, "rope_dim")->valuedouble != dim)
            continue;
        copy = cJSON_Duplicate(one, true);
        if (loss > 0) cJSON_SetNumberValue(cJSON_GetObjectItem(copy, "cross_entropy"), loss);
        cJSON_AddItemToArray(tried, copy);
    }
    assert_int_equal(cJSON_GetArraySize(tried), 1);
    text = cJSON_Print(root);
    spill(tmpdir_path(state, "run/splits.json.tried"), text, strlen(text));
    free(text);
    cJSON_Delete(root);
    cJSON_Delete(all);
}

static char *find_again(void **state)
{
    struct run r;

    (void)remove(tmpdir_path(state, "run/splits.json"));
    open_run(&r, state, "[0.5,0.3]");
    find(&r);
    run_close(&r);
    assert_int_not_equal(access(tmpdir_path(state, "run/splits.json.tried"), F_OK), 0);
    return slurp(tmpdir_path(state, "run/splits.json"), NULL);
}

/* An interrupted search goes on, to the same bits; what was tried is not tried again. */
static void test_goes_on(void **state)
{
    char *whole = find_again(state), *again;
    struct jsonc doc;
    struct err e = {0};

    leave_tried(state, whole, 0.3, 2, 0);
    again = find_again(state);
    assert_string_equal(again, whole);
    free(again);
    leave_tried(state, whole, 0.3, 2, 0.001);
    free(find_again(state));
    assert_true(jsonc_read(&doc, tmpdir_path(state, "run/splits.json"), 1 << 20, &e));
    assert_true(number(&doc, "splits", 1, "rope_dim") == 2 &&
                number(&doc, "splits", 1, "cross_entropy") == 0.001);
    jsonc_close(&doc);
    free(whole);
}

/* A file that fits other sizes, or is none. */
static void test_bad_file(void **state)
{
    static const char chosen[] = "run/splits.json", tried[] = "run/splits.json.tried";
    static const struct {
        const char *file, *text, *error;
    } rows[] = {
        {chosen, "{\"splits\":[{\"cache\":0.5,\"rope_dim\":4,\"low_rank\":12}]}",
         "(splits[1].cache: a number above 0 is needed)"},
        {chosen, "{\"splits\":[{\"cache\":0.4,\"rope_dim\":4,\"low_rank\":12}]}",
         "(splits[0].cache: is 0.4, and sweep.cache[0] 0.5)"},
        {chosen, "{\"splits\":[", "splits.json: is damaged (1:12: "},
        {tried, "{\"original\":1,\"tried\":[{\"cache\":0.4,\"rope_dim\":4,\"cross_entropy\":1}]}",
         "(tried[0]: no size of sweep.cache is split so)"},
        {tried, "{\"original\":1,\"tried\":[{\"cache\":0.5,\"rope_dim\":5,\"cross_entropy\":1}]}",
         "(tried[0]: no size of sweep.cache is split so)"},
        {tried, "{\"original\":1,\"tried\":[{\"cache\":0.5,\"rope_dim\":4}]}",
         "(tried[0].cross_entropy: a number above 0 is needed)"},
        {tried, "{\"tried\":[]}", "(original: a number is needed)"},
        {tried, "{", "splits.json.tried: is damaged (1:"},
    };
    struct run r;
    struct err e;

    open_run(&r, state, "[0.5,0.3]");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        (void)remove(tmpdir_path(state, chosen));
        spill(tmpdir_path(state, rows[i].file), rows[i].text, strlen(rows[i].text));
        assert_false(splits_open(&r, &e) && splits_find(&r, &e));
        if (!strstr(e.msg, rows[i].error)) fail_msg("%s", e.msg);
        if (!strstr(e.msg, "delete the file, and --resume makes it again")) fail_msg("%s", e.msg);
    }
    run_close(&r);
}

static void test_settings(void **state)
{
    static const struct {
        const char *set, *error;
    } rows[] = {
        {"sweep.low_rank=[4]", "sweep.cache: its sizes are split by the run"},
        {"sweep.partial_rope=[4]", "sweep.cache: its sizes are split by the run"},
        {"svd.method=\"only_key\"", "sweep.cache: svd.method must be joint or split"},
        {"sweep.stage2_lr=[1e-3]", "sweep.stage2_lr: has 1 rates for the 2 values of sweep.cache"},
        {"sweep.cache=[0.5,0.5]", "sweep: has the point cache0.5 twice"},
    };
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *const sets[] = {"run.dir=x", "data.train=[{\"path\":\"x\"}]",
                                    "sweep.cache=[0.5,0.25]", rows[i].set};
        struct config c = {0};
        assert_true(schema_load(&config_schema, &c, NULL, sets, 4, &e));
        assert_false(settings_check(&c, &e));
        if (!strstr(e.msg, rows[i].error)) fail_msg("%s", e.msg);
        schema_free(&config_schema, &c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_guess, tmpdir_make, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_large, tmpdir_make, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_too_small, tmpdir_make, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_found_and_kept, tmpdir_make, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_bad_file, tmpdir_make, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_goes_on, tmpdir_make, tmpdir_remove),
        cmocka_unit_test(test_settings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
