/* test_layerwise.c - samples taken through the decoder one layer at a time see in every layer what
 * the whole graph computes there; and the scratch file that holds them in between. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/full_disk.h"
#include "tests/tmpdir.h"
#include "train/layerwise.h"

#include "tests/tiny_run.h"

enum { LAYERS = 2 };

struct seen {
    struct layerwise *w;
    struct tape *tape; /* of the whole graph */
    int64_t layer, samples, images;
};

/* 2e-6 of the largest value: the same products, at most blocked differently by BLAS. */
static void assert_close(const char *what, const float *got, const struct tensor *want)
{
    double most = 0, size = 0;

    for (int64_t i = 0; i < tensor_count(want); i++) {
        most = fmax(most, fabs((double)got[i] - (double)tensor_real(want)[i]));
        size = fmax(size, fabs((double)tensor_real(want)[i]));
    }
    assert_true(size > 1e-3);
    if (!(most <= 2e-6 * size)) fail_msg("%s differs by %g of %g", what, most, size);
}

static bool compare(void *arg, const struct layer_look *look, struct err *e)
{
    struct seen *s = arg;
    struct tensor *x[LAYERS], *q[LAYERS], *k[LAYERS];
    struct taps taps = {.x = x, .q = q, .k = k};
    struct forward f = {.batch = look->batch, .taps = &taps};
    int32_t last = (int32_t)look->batch->tokens - 1;

    tape_begin(s->tape, false);
    if (!run_pictures(s->w->r, s->w->m, &s->w->r->train, &s->w->batch, &f.features, e))
        return false;
    model_logits(s->w->m, s->tape, &f, &last, 1);
    if (!tape_plan(s->tape, 0, e)) return false;
    tape_forward(s->tape);
    assert_close("x", look->x, x[s->layer]);
    assert_close("q", look->q, q[s->layer]);
    assert_close("k", look->k, k[s->layer]);
    assert_close("the table", tensor_real(look->table), taps.table);
    for (int64_t i = 0; i < look->batch->n_spans; i++)
        for (int64_t t = look->batch->spans[i].begin; t < look->batch->spans[i].end; t++)
            assert_int_equal(look->modality[t], look->batch->spans[i].modality);
    s->samples += look->batch->samples;
    s->images += look->batch->images;
    return true;
}

/* Takes `samples` of the run's samples through all layers, comparing each. */
static void compare_all(struct run *r, int64_t samples, struct layerwise *w, struct seen *s)
{
    struct model m = {0};
    struct err e = {0};
    bool ok;

    *s = (struct seen){.w = w, .tape = tape_new(&e)};
    ok = s->tape && file_mkdirs(r->c.run.dir, &e) && make_baseline_model(r, &m, &e) &&
         run_open_data(r, &m.cfg, &e) && run_open_pictures(r, &m, false, &e) &&
         layerwise_open(w, r, &m, samples, LOOK_X | LOOK_QK, &e);
    for (; ok && s->layer < LAYERS; s->layer++)
        ok = layerwise_next(w, "test", compare, s, &e);
    if (!ok) fail_msg("%s", e.msg);
    tape_free(s->tape);
    model_close(&m);
}

static void test_equals_the_whole_graph(void **state)
{
    const char *const more[] = {"data.eval=[]", NULL};
    struct layerwise w = {0};
    struct seen s;
    struct run r;

    tiny_run(&r, state, more);
    compare_all(&r, 100, &w, &s);
    assert_int_equal(w.samples, 4); /* all there are */
    assert_int_equal(s.samples, 4 * LAYERS);
    assert_int_equal(s.images, 2 * LAYERS);
    layerwise_close(&w);
    run_close(&r);
}

/* More tokens than one graph takes: every sample once, in the order drawn. */
static void test_many_samples(void **state)
{
    const char *const more[] = {"data.eval=[]", "data.max_length=1000", NULL};
    struct layerwise w = {0};
    struct seen s;
    char *text = calloc(1, 1 << 16);
    struct run r;
    size_t n = 0;

    tiny_run(&r, state, more);
    for (int i = 0; i < 9; i++) {
        n += (size_t)sprintf(text + n, "{\"text\":\"");
        for (int k = 0; k <= 30 * i; k++)
            n += (size_t)sprintf(text + n, " red");
        n += (size_t)sprintf(text + n, "\"}\n");
    }
    spill(tmpdir_path(state, "train.json"), text, n);
    compare_all(&r, 9, &w, &s);
    assert_true(w.tokens > 1024);
    assert_int_equal(s.samples, 9 * LAYERS);
    layerwise_close(&w);
    run_close(&r);
    free(text);
}

static int files_in(const char *dir)
{
    DIR *d = opendir(dir);
    int n = 0;

    assert_non_null(d);
    for (struct dirent *f; (f = readdir(d));)
        n += f->d_name[0] != '.';
    closedir(d);
    return n;
}

static void test_scratch(void **state)
{
    const char *dir = tmpdir_path(state, "s");
    struct file_scratch s;
    struct err e;

    assert_int_equal(mkdir(dir, 0777), 0);
    assert_true(file_scratch_open(&s, dir, 100000, &e));
    assert_int_equal(files_in(dir), 0);
    for (int i = 0; i < 100000; i++)
        assert_int_equal(((char *)s.data)[i], 0);
    memset(s.data, 7, 100000);
    file_scratch_close(&s);
    file_scratch_close(&s);
    assert_true(file_scratch_open(&s, dir, 0, &e));
    file_scratch_close(&s);
    assert_false(file_scratch_open(&s, tmpdir_path(state, "nowhere"), 1, &e));
    assert_non_null(strstr(e.msg, "nowhere: no file can be made there: No such file"));
}

static int scratch_child(const char *path, rlim_t room)
{
    struct file_scratch s;
    struct err e;

    limit_files(room);
    if (file_scratch_open(&s, path, 1 << 20, &e)) return 1;
    if (!strstr(e.msg, "no room for 1048576 bytes of scratch")) return 2;
    return file_scratch_open(&s, path, 1 << 12, &e) ? 0 : 3;
}

static void test_scratch_full_disk(void **state)
{
    full_disk_try(*state, 1 << 16, scratch_child);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_equals_the_whole_graph, tmpdir_make, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_many_samples, tmpdir_make, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_scratch, tmpdir_make, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_scratch_full_disk, tmpdir_make, tmpdir_remove),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
