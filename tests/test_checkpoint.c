/* test_checkpoint.c - checkpoints come back bit for bit, and whatever happens to a file
 * (truncated, a bit flipped, another model, a full disk, a killed save) is an error that leaves
 * the state intact. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/hash.h"
#include "base/rng.h"
#include "tests/full_disk.h"
#include "tests/tmpdir.h"
#include "train/record/checkpoint.h"
#include "base/hdf5/h5out.h"

#include <dirent.h>
#include <fcntl.h>

#define WEIGHT "model.layers.0.self_attn.kv_proj_img.down_kv.weight"
#define META "{\"step\":120,\"phase\":\"stage2\"}"

enum { ROWS = 300, COLS = 50 };

struct state {
    float weight[ROWS][COLS];
    double moment[7];
    int64_t order[5];
    uint8_t rng[32];
    uint16_t half[3][4];
};
enum { ITEMS = 6 };

static void items_of(struct state *s, struct ckpt_item items[ITEMS])
{
    const struct ckpt_item all[ITEMS] = {{WEIGHT, CKPT_F32, ROWS, COLS, .data = s->weight},
                                         {"adamw.v", CKPT_F64, 1, 7, .data = s->moment},
                                         {"data.order", CKPT_I64, 5, 1, .data = s->order},
                                         {"rng", CKPT_U8, 4, 8, .data = s->rng},
                                         {"half", CKPT_BF16, 3, 4, .data = s->half},
                                         {"empty", CKPT_F32, 0, 64, .data = NULL}};

    memcpy(items, all, sizeof all);
}

static void fill(struct state *s, uint64_t seed)
{
    uint8_t *p = (uint8_t *)s;
    struct rng rng;

    rng_seed(&rng, seed, 0);
    for (size_t i = 0; i < sizeof *s; i++)
        p[i] = (uint8_t)rng_u64(&rng);
}

static void save(const char *path, uint64_t seed)
{
    struct ckpt_item items[ITEMS];
    struct err e = {0};
    static struct state s;

    fill(&s, seed);
    items_of(&s, items);
    if (!checkpoint_save(path, items, ITEMS, META, &e)) fail_msg("%s", e.msg);
}

/* Whether the file holds what save(path, seed) wrote. */
static bool loads(const char *path, uint64_t seed)
{
    static struct state want, got;
    struct ckpt_item items[ITEMS];
    struct err e = {0};
    char *meta;

    fill(&want, seed);
    memset(&got, 0, sizeof got);
    items_of(&got, items);
    if (!checkpoint_load(path, items, ITEMS, &meta, &e)) return false;
    assert_string_equal(meta, META);
    free(meta);
    return memcmp(&want, &got, sizeof want) == 0;
}

/* The load must fail with `message` and leave the items' memory alone. */
static void refused(const char *path, const struct ckpt_item *change, const char *message)
{
    static struct state before, s;
    struct ckpt_item items[ITEMS + 1];
    size_t n = ITEMS;
    struct err e = {0};
    char *meta;

    fill(&s, 99);
    before = s;
    items_of(&s, items);
    for (size_t i = 0; change && i <= ITEMS; i++) {
        bool end = i == ITEMS;
        if (!end && strcmp(items[i].name, change->name) != 0) continue;
        items[i] = *change;
        if (end) n++;
        break;
    }
    assert_false(checkpoint_load(path, items, n, &meta, &e));
    assert_null(meta);
    assert_memory_equal(&s, &before, sizeof s);
    if (!strstr(e.msg, message) || !strstr(e.msg, path) || strchr(e.msg, '\n'))
        fail_msg("'%s' has no '%s'", e.msg, message);
}

static void test_round_trip(void **state)
{
    const char *a = tmpdir_path(state, "a.h5"), *b = tmpdir_path(state, "b.h5");
    size_t na, nb;
    char *fa, *fb;

    save(a, 1);
    assert_true(loads(a, 1));
    assert_false(loads(a, 2));
    assert_false(is_there(tmpdir_path(state, "a.h5.tmp")));
    save(b, 1); /* the same state gives the same bytes */
    fa = slurp(a, &na);
    fb = slurp(b, &nb);
    assert_int_equal(na, nb);
    assert_memory_equal(fa, fb, na);
    free(fa);
    free(fb);
    save(a, 2); /* over an old one */
    assert_true(loads(a, 2));
}

static void test_nothing_inside(void **state)
{
    const char *path = tmpdir_path(state, "a.h5");
    struct err e = {0};
    char *meta;

    assert_true(checkpoint_save(path, NULL, 0, "", &e));
    assert_true(checkpoint_load(path, NULL, 0, &meta, &e));
    assert_string_equal(meta, "");
    free(meta);
    assert_true(checkpoint_load(path, NULL, 0, NULL, &e));
}

/* ---- damage ---- */

static void test_truncated(void **state)
{
    const char *path = tmpdir_path(state, "a.h5");
    char *file, saved[64];
    size_t len;

    refused(path, NULL, "No such file");
    save(path, 1);
    file = slurp(path, &len);
    snprintf(saved, sizeof saved, "bytes, %zu were saved", len);
    for (size_t cut = 0; cut < len; cut += cut < 2000 ? 61 : 4999) {
        spill(path, file, cut);
        refused(path, NULL, cut < 512 ? "is not a checkpoint, or is cut short" : saved);
    }
    file[len] = 'x'; /* one extra byte */
    spill(path, file, len + 1);
    refused(path, NULL, "is damaged");
    free(file);
}

static void test_flipped_bit(void **state)
{
    const char *path = tmpdir_path(state, "a.h5");
    size_t len, tried = 0;
    struct rng rng;
    char *file;

    rng_seed(&rng, 7, 0);
    save(path, 1);
    file = slurp(path, &len);
    for (size_t i = 0; i < len; i += i < 4096 ? 17 : 1 + (size_t)rng_below(&rng, 1000)) {
        char bit = (char)(1 << rng_below(&rng, 8));
        file[i] = (char)(file[i] ^ bit);
        spill(path, file, len);
        refused(path, NULL, "");
        file[i] = (char)(file[i] ^ bit);
        tried++;
    }
    assert_true(tried > 300);
    free(file);
}

/* ---- another model ---- */

static void test_other_items(void **state)
{
    float f[ROWS * (COLS + 1)] = {0};
    const char *path = tmpdir_path(state, "a.h5");
    struct ckpt_item items[ITEMS];
    static struct state s;
    struct err e = {0};

    save(path, 1);
    refused(path, &(struct ckpt_item){WEIGHT, CKPT_F32, ROWS, COLS + 1, .data = f},
            "item '" WEIGHT "' is f32 [300 x 50], this run needs f32 [300 x 51]");
    refused(path, &(struct ckpt_item){WEIGHT, CKPT_F32, COLS, ROWS, .data = f},
            "needs f32 [50 x 300]");
    refused(path, &(struct ckpt_item){"adamw.v", CKPT_F32, 1, 7, .data = f},
            "item 'adamw.v' is f64 [1 x 7], this run needs f32 [1 x 7]");
    refused(path, &(struct ckpt_item){"half", CKPT_F32, 3, 4, .data = f},
            "item 'half' is bf16 [3 x 4], this run needs f32 [3 x 4]");
    refused(path, &(struct ckpt_item){"empty", CKPT_F32, 1, 64, .data = f},
            "item 'empty' is f32 [0 x 64]");
    refused(path, &(struct ckpt_item){"adamw.m", CKPT_F64, 1, 7, .data = f}, "no item 'adamw.m'");
    items_of(&s, items);
    assert_false(checkpoint_load(path, items + 1, ITEMS - 1, NULL, &e));
    assert_non_null(strstr(e.msg, "item '" WEIGHT "' is unknown to this run"));
}

static void test_bad_names(void **state)
{
    static const char *const names[] = {"", ".", "a/b", "/", "twice"};
    const char *path = tmpdir_path(state, "a.h5");

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        double v = 1;
        struct ckpt_item items[] = {{"twice", CKPT_F64, 1, 1, .data = &v},
                                    {names[i], CKPT_F64, 1, 1, .data = &v}};
        struct err e = {0};

        assert_false(checkpoint_save(path, items, 2, "{}", &e));
        assert_non_null(strstr(e.msg, path));
        assert_false(is_there(path));
        assert_false(is_there(tmpdir_path(state, "a.h5.tmp")));
    }
}

static void test_foreign_hdf5(void **state)
{
    const char *path = tmpdir_path(state, "a.h5");
    struct err e = {0};
    struct h5_out out;

    assert_true(h5_out_open(&out, path, 0, &e));
    assert_true(h5_out_finish(&out, &e) && h5_out_commit(&out, &e));
    refused(path, NULL, "is not a checkpoint");
    refused(*state, NULL, ""); /* a directory */
}

/* Puts a matching seal on whatever is in the file. */
static void forge_seal(const char *path)
{
    char seal[512] = "", hex[65], *file;
    struct sha256 sum;
    size_t len;

    file = slurp(path, &len);
    sha256_init(&sum);
    sha256_add(&sum, file + 512, len - 512);
    sha256_hex(&sum, hex);
    snprintf(seal, sizeof seal, "mha2mla checkpoint 1\nbytes %zu\nsha256 %s\n", len, hex);
    memcpy(file, seal, 512);
    spill(path, file, len);
    free(file);
}

/* Ways to put something else under the name "item"; each adds to an open group. */
static void add_nothing(hid_t group)
{
    (void)group;
}
static void add_soft_link(hid_t group)
{
    assert_true(H5Lcreate_soft("/meta", group, "item", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}
static void add_external_link(hid_t group)
{
    assert_true(H5Lcreate_external("b.h5", "/item", group, "item", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}
static void add_group(hid_t group)
{
    H5Gclose(H5Gcreate2(group, "item", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}
static void add_dataset(hid_t group, int rank, hid_t type, hid_t dcpl)
{
    hid_t space = H5Screate_simple(rank, (hsize_t[]){1, 4, 1}, NULL);
    hid_t set = H5Dcreate2(group, "item", type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);

    assert_true(set > 0);
    if (dcpl == H5P_DEFAULT)
        assert_true(H5Dwrite(set, type, H5S_ALL, H5S_ALL, dcpl, (float[4]){0}) >= 0);
    H5Dclose(set);
    H5Sclose(space);
}
static void add_chunked(hid_t group)
{
    hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);

    H5Pset_chunk(dcpl, 2, (hsize_t[]){1, 2});
    add_dataset(group, 2, H5T_IEEE_F32LE, dcpl);
    H5Pclose(dcpl);
}
static void add_external_data(hid_t group)
{
    hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);

    H5Pset_external(dcpl, "/etc/hostname", 0, 16);
    add_dataset(group, 2, H5T_IEEE_F32LE, dcpl);
    H5Pclose(dcpl);
}
static void add_big_endian(hid_t group)
{
    add_dataset(group, 2, H5T_IEEE_F32BE, H5P_DEFAULT);
}
static void add_rank_3(hid_t group)
{
    add_dataset(group, 3, H5T_IEEE_F32LE, H5P_DEFAULT);
}

/* A matching checksum proves nothing about who made the file. */
static void test_forged(void **state)
{
    static const struct {
        void (*add)(hid_t group);
        const char *message;
    } cases[] = {{add_nothing, "no item 'item' (has no `item`)"},
                 {add_soft_link, "no item 'item' (`item` is a soft link"},
                 {add_external_link, "no item 'item' (`item` is an external link"},
                 {add_group, "item 'item': is not an array"},
                 {add_chunked, "item 'item': its values are stored in chunks"},
                 {add_external_data, "item 'item': its values lie in another file"},
                 {add_big_endian, "of an unknown kind"},
                 {add_rank_3, "of an unknown kind"}};
    const char *path = tmpdir_path(state, "a.h5");
    float data[4] = {1, 2, 3, 4};
    struct ckpt_item item = {"item", CKPT_F32, 1, 4, .data = data};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct h5_array meta = {"meta", H5T_STD_U8LE, H5T_NATIVE_UINT8, 1, {2, 0}, "{}"};
        struct err e = {0};
        struct h5_out out;
        hid_t group;

        assert_true(h5_out_open(&out, path, 512, &e));
        group = H5Gcreate2(out.file, "items", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        cases[i].add(group);
        H5Gclose(group);
        assert_true(h5_out_write(&out, out.file, &meta, &e));
        assert_true(h5_out_finish(&out, &e) && h5_out_commit(&out, &e));
        forge_seal(path);
        assert_false(checkpoint_load(path, &item, 1, NULL, &e));
        if (!strstr(e.msg, cases[i].message)) fail_msg("case %zu: %s", i, e.msg);
        assert_true(data[0] == 1 && data[3] == 4);
    }
}

/* After a matching seal comes a file that is not HDF5, or one without items. */
static void test_forged_empty(void **state)
{
    const char *path = tmpdir_path(state, "a.h5");
    char zeros[2000] = "";
    struct err e = {0};
    struct h5_out out;

    spill(path, zeros, sizeof zeros);
    forge_seal(path);
    refused(path, NULL, "is not an HDF5 file");
    assert_true(h5_out_open(&out, path, 512, &e));
    assert_true(h5_out_finish(&out, &e) && h5_out_commit(&out, &e));
    forge_seal(path);
    refused(path, NULL, "has no `items`");
}

/* Files made by a fuzzer to crash libhdf5, as checkpoints: as they are, and after a matching seal,
 * whose size shifts the addresses. */
static void test_fuzzed(void **state)
{
    const char *path = tmpdir_path(state, "a.h5");
    DIR *d = opendir("tests/data/h5");
    const struct dirent *entry;
    int tried = 0;

    assert_non_null(d);
    while ((entry = readdir(d))) {
        char name[300], sealed[8192] = "", *file;
        uint64_t base = 512, end;
        size_t len;

        if (!strstr(entry->d_name, ".h5")) continue;
        snprintf(name, sizeof name, "tests/data/h5/%s", entry->d_name);
        file = slurp(name, &len);
        spill(path, file, len);
        refused(path, NULL, "is not a checkpoint");
        memcpy(sealed + 512, file, len);
        memcpy(&end, file + 40, 8);
        end += 512;
        memcpy(sealed + 512 + 24, &base, 8);
        memcpy(sealed + 512 + 40, &end, 8);
        spill(path, sealed, 512 + len);
        forge_seal(path);
        refused(path, NULL, "");
        free(file);
        tried++;
    }
    closedir(d);
    assert_true(tried >= 10);
}

/* Any byte changed under a matching seal: the file is refused, or loads with the values it has. */
static void test_forged_bytes(void **state)
{
    const char *path = tmpdir_path(state, "a.h5");
    double v[6] = {1, 2, 3};
    const struct ckpt_item saved[] = {{"a", CKPT_F64, 2, 3, .data = v},
                                      {"b", CKPT_F64, 1, 6, .data = v}};
    int refusals = 0, loads_of = 0;
    struct err e = {0};
    size_t len;
    char *file;

    assert_true(checkpoint_save(path, saved, 2, "{}", &e));
    file = slurp(path, &len);
    for (size_t at = 512; at < len; at++) {
        const char was = file[at];
        double got[12] = {0};
        const struct ckpt_item items[] = {{"a", CKPT_F64, 2, 3, .data = got},
                                          {"b", CKPT_F64, 1, 6, .data = got + 6}};

        if (!was && at % 8) continue; /* most of a file is zeros */
        file[at] = (char)(was ^ (1 << at % 7));
        spill(path, file, len);
        forge_seal(path);
        file[at] = was;
        if (checkpoint_load(path, items, 2, NULL, &e)) {
            loads_of++;
            continue;
        }
        refusals++;
        if (!strstr(e.msg, path) || strchr(e.msg, '\n')) fail_msg("%s", e.msg);
        assert_true(got[0] == 0 && got[11] == 0);
    }
    assert_true(refusals > 100 && loads_of > 50);
    free(file);
}

/* ---- a disk that is full ---- */

/* In a child: saves over `path` with space for `room` bytes. Returns 0 if all is as expected, else
 * the number of the failed check. HDF5 must then still work, and exit without a crash. */
static int full_disk_child(const char *path, rlim_t room)
{
    static struct state s;
    struct ckpt_item items[ITEMS];
    struct err e = {0};
    char tmp[1300];
    bool done;

    fill(&s, 2);
    items_of(&s, items);
    limit_files(room);
    done = checkpoint_save(path, items, ITEMS, META, &e);
    limit_files(RLIM_INFINITY);
    if (done) return 1;
    if (!strstr(e.msg, "a.h5: cannot be written: File too large")) return 2;
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    if (is_there(tmp)) return 3;
    if (!loads(path, 1)) return 4;
    if (!checkpoint_save(path, items, ITEMS, META, &e) || !loads(path, 2)) return 5;
    return 0;
}

static void test_full_disk(void **state)
{
    const char *path = tmpdir_path(state, "a.h5");
    size_t len;

    save(path, 1);
    free(slurp(path, &len));
    /* From the very first byte to the last: data, metadata, the seal. */
    for (rlim_t room = 0; room < len; room += room + 7000 < len ? 6553 : 97) {
        save(path, 1);
        full_disk_try(path, room, full_disk_child);
    }
}

/* root may write anywhere: the child drops that privilege. */
static void test_unwritable_directory(void **state)
{
    const char *path = tmpdir_path(state, "ro/a.h5");
    pid_t child;
    int status;

    assert_int_equal(mkdir(tmpdir_path(state, "ro"), 0755), 0);
    assert_int_equal(chmod(*state, 0755), 0);
    save(path, 1);
    assert_int_equal(chmod(tmpdir_path(state, "ro"), 0555), 0);
    child = fork();
    if (child == 0) {
        double v = 1;
        struct ckpt_item item = {"v", CKPT_F64, 1, 1, .data = &v};
        struct err e = {0};

        if (geteuid() == 0 && setuid(65534) != 0) _exit(1);
        if (checkpoint_save(path, &item, 1, "{}", &e)) _exit(2);
        _exit(strstr(e.msg, "a.h5.tmp: Permission denied") ? 0 : 3);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(chmod(tmpdir_path(state, "ro"), 0755), 0);
    assert_true(loads(path, 1));
}

/* ---- the directory ---- */

static void dir_save(const char *dir, int64_t step, int keep)
{
    struct ckpt_item items[ITEMS];
    static struct state s;
    struct err e = {0};

    fill(&s, (uint64_t)step);
    items_of(&s, items);
    if (!checkpoint_dir_save(dir, step, items, ITEMS, META, keep, &e)) fail_msg("%s", e.msg);
}

/* The step that was found, if its content is right. */
static int64_t dir_latest(const char *dir, struct ckpt_found *found, struct err *e)
{
    static struct state want, got;
    struct ckpt_item items[ITEMS];

    items_of(&got, items);
    if (!checkpoint_dir_latest(dir, items, ITEMS, NULL, found, e)) return -2;
    if (found->step < 0) return -1;
    fill(&want, (uint64_t)found->step);
    assert_memory_equal(&want, &got, sizeof want);
    assert_string_equal(found->meta, META);
    return found->step;
}

static void damage(const char *path)
{
    size_t len;
    char *file = slurp(path, &len);

    file[len / 2] ^= 1;
    spill(path, file, len);
    free(file);
}

static void test_dir_keeps_newest(void **state)
{
    const char *dir = tmpdir_path(state, "run/checkpoints");
    struct ckpt_found found = {0};
    struct err e = {0};

    assert_int_equal(dir_latest(dir, &found, &e), -1);
    assert_null(found.warning);
    assert_false(checkpoint_dir_save(dir, 1, NULL, 0, META, 1, &e)); /* nothing above it is made */
    assert_non_null(strstr(e.msg, "run/checkpoints: cannot be made: No such file"));
    assert_int_equal(mkdir(tmpdir_path(state, "run"), 0777), 0);
    for (int64_t step = 0; step <= 40; step += 10)
        dir_save(dir, step, 2);
    assert_true(is_there(tmpdir_path(state, "run/checkpoints/step-00000040.h5")));
    assert_true(is_there(tmpdir_path(state, "run/checkpoints/step-00000030.h5")));
    assert_false(is_there(tmpdir_path(state, "run/checkpoints/step-00000020.h5")));
    assert_false(is_there(tmpdir_path(state, "run/checkpoints/step-00000000.h5")));
    assert_int_equal(dir_latest(dir, &found, &e), 40);
    assert_null(found.warning);
    ckpt_found_free(&found);
    dir_save(dir, 123456789012, 1);
    assert_int_equal(dir_latest(dir, &found, &e), 123456789012);
    ckpt_found_free(&found);
    assert_false(is_there(tmpdir_path(state, "run/checkpoints/step-00000040.h5")));
}

static void test_dir_falls_back(void **state)
{
    const char *newest = tmpdir_path(state, "step-00000030.h5");
    const char *left = tmpdir_path(state, "step-00000040.h5.tmp");
    struct ckpt_found found = {0};
    struct err e = {0};

    for (int64_t step = 10; step <= 30; step += 10)
        dir_save(*state, step, 3);
    spill(left, "half", 4);
    spill(tmpdir_path(state, "step-99.h5"), "", 0); /* not one of our names: left alone */
    spill(tmpdir_path(state, "notes.tmp"), "", 0);
    damage(newest);
    assert_int_equal(dir_latest(*state, &found, &e), 20);
    assert_non_null(found.warning);
    assert_non_null(strstr(found.warning, "step-00000030.h5: is damaged"));
    ckpt_found_free(&found);
    assert_false(is_there(left));
    assert_true(is_there(tmpdir_path(state, "notes.tmp")));

    /* Continuing from 20, the damaged 30 must not push out the good ones. */
    dir_save(*state, 25, 1);
    assert_false(is_there(newest));
    assert_int_equal(dir_latest(*state, &found, &e), 25);
    assert_null(found.warning);
    ckpt_found_free(&found);
}

static void test_dir_all_damaged(void **state)
{
    struct ckpt_found found = {0};
    struct err e = {0};

    dir_save(*state, 10, 2);
    dir_save(*state, 20, 2);
    damage(tmpdir_path(state, "step-00000010.h5"));
    spill(tmpdir_path(state, "step-00000020.h5"), "", 0);
    assert_int_equal(dir_latest(*state, &found, &e), -2);
    assert_non_null(strstr(e.msg, "of 2 checkpoints none can be loaded"));
    assert_non_null(strstr(e.msg, "step-00000020.h5"));
    assert_non_null(strstr(e.msg, "step-00000010.h5"));
    assert_null(found.meta);
    assert_null(found.warning);
    assert_int_equal(found.step, -1);
}

static bool is_not_20(const void *arg, int64_t step, const char *meta, struct err *e)
{
    assert_string_equal(meta, META);
    ++*(int *)(uintptr_t)arg;
    return step != 20 || err_set(e, "is another's");
}

/* A whole file that the caller does not take is passed over, too. */
static void test_dir_check(void **state)
{
    static struct state s;
    struct ckpt_item items[ITEMS];
    struct ckpt_found found = {0};
    struct err e = {0};
    int asked = 0;
    const struct ckpt_check check = {.fits = is_not_20, .arg = &asked};

    dir_save(*state, 10, 2);
    dir_save(*state, 20, 2);
    items_of(&s, items);
    if (!checkpoint_dir_latest(*state, items, ITEMS, &check, &found, &e)) fail_msg("%s", e.msg);
    assert_int_equal(asked, 2);
    assert_int_equal(found.step, 10);
    assert_string_equal(found.meta, META);
    assert_non_null(strstr(found.warning, "step-00000020.h5: is another's"));
    ckpt_found_free(&found);
    assert_int_equal(unlink(tmpdir_path(state, "step-00000010.h5")), 0);
    assert_false(checkpoint_dir_latest(*state, items, ITEMS, &check, &found, &e));
    assert_non_null(strstr(e.msg, "of 1 checkpoint none can be loaded"));
}

/* ---- of several processes ---- */

/* Ten values, of which part 0 of 2 has six and part 1 four; and what is wanted of them. */
struct wanted {
    double all[10], some[4]; /* some: values 4 .. 7 */
};

static bool any_meta(const void *arg, int64_t step, const char *meta, struct err *e)
{
    (void)arg, (void)step, (void)meta, (void)e;
    return true;
}

static bool list_wanted(const void *arg, int part, int parts, struct ckpt_list *l, struct err *e)
{
    struct wanted *w = (struct wanted *)(uintptr_t)arg;
    const int64_t n = part ? 4 : 6;

    (void)e;
    assert_int_equal(parts, 2);
    l->items = calloc(3, sizeof *l->items);
    assert_non_null(l->items);
    l->n = 3;
    l->items[0] = (struct ckpt_item){"all", CKPT_F64, 1, n, .data = w->all + (part ? 6 : 0)};
    l->items[1] = (struct ckpt_item){
        "some", CKPT_F64, 1, n, .data = w->some + (part ? 2 : 0), .from = part ? 0 : 4, .n = 2};
    l->items[2] = (struct ckpt_item){"none", CKPT_F64, 1, n, .data = NULL};
    return true;
}

static void save_part(void *const *state, int part, int64_t n, const double *v)
{
    const struct ckpt_item items[] = {{"all", CKPT_F64, 1, n, .data = (void *)(uintptr_t)v},
                                      {"some", CKPT_F64, 1, n, .data = (void *)(uintptr_t)v},
                                      {"none", CKPT_F64, 1, n, .data = (void *)(uintptr_t)v}};
    char name[60];
    struct err e;

    snprintf(name, sizeof name, "step-00000030/part-%d-of-2.h5", part);
    assert_true(checkpoint_save(tmpdir_path(state, name), items, 3, META, &e));
}

/* What two processes saved is read in the pieces that another number of them needs, and passed
 * over if a part is damaged or missing. What a killed save left is removed. */
static void test_dir_parts(void **state)
{
    static const double v[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    const char *part = tmpdir_path(state, "step-00000030/part-1-of-2.h5");
    struct wanted w = {0};
    const struct ckpt_check check = {.fits = any_meta, .list = list_wanted, .arg = &w};
    static struct state s;
    struct ckpt_item items[ITEMS];
    struct ckpt_found found;
    struct err e;

    dir_save(*state, 10, 2);
    assert_int_equal(mkdir(tmpdir_path(state, "step-00000030"), 0777), 0);
    assert_int_equal(mkdir(tmpdir_path(state, "step-00000040.tmp"), 0777), 0);
    spill(tmpdir_path(state, "step-00000040.tmp/part-0-of-2.h5"), "half", 4);
    save_part(state, 0, 6, v);
    save_part(state, 1, 4, v + 6);
    items_of(&s, items);
    assert_true(checkpoint_dir_latest(*state, items, ITEMS, &check, &found, &e));
    assert_int_equal(found.step, 30);
    assert_memory_equal(w.all, v, sizeof v);
    assert_memory_equal(w.some, v + 4, sizeof w.some);
    assert_false(is_there(tmpdir_path(state, "step-00000040.tmp")));
    ckpt_found_free(&found);
    for (int i = 0; i < 2; i++) { /* damaged, then gone */
        if (i == 0) spill(part, "half", 4);
        if (i == 1) assert_int_equal(unlink(part), 0);
        assert_true(checkpoint_dir_latest(*state, items, ITEMS, &check, &found, &e));
        assert_int_equal(found.step, 10);
        assert_non_null(strstr(found.warning, "part-1-of-2.h5"));
        ckpt_found_free(&found);
    }
    dir_save(*state, 20, 1); /* abandoned steps go, whatever they are */
    assert_false(is_there(tmpdir_path(state, "step-00000030")));
}

/* A failed save deletes nothing. */
static void test_dir_save_fails(void **state)
{
    double v = 1;
    struct ckpt_item bad = {"a/b", CKPT_F64, 1, 1, .data = &v};
    struct ckpt_found found = {0};
    struct err e = {0};

    dir_save(*state, 10, 2);
    dir_save(*state, 20, 2);
    assert_false(checkpoint_dir_save(*state, 30, &bad, 1, "{}", 1, &e));
    assert_true(is_there(tmpdir_path(state, "step-00000010.h5")));
    assert_int_equal(dir_latest(*state, &found, &e), 20);
    ckpt_found_free(&found);
    spill(tmpdir_path(state, "file"), "", 0);
    assert_false(checkpoint_dir_save(tmpdir_path(state, "file"), 1, NULL, 0, "{}", 1, &e));
    assert_int_equal(dir_latest(tmpdir_path(state, "file"), &found, &e), -2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_round_trip),
        tmpdir_test(test_nothing_inside),
        tmpdir_test(test_truncated),
        tmpdir_test(test_flipped_bit),
        tmpdir_test(test_other_items),
        tmpdir_test(test_bad_names),
        tmpdir_test(test_foreign_hdf5),
        tmpdir_test(test_forged),
        tmpdir_test(test_forged_empty),
        tmpdir_test(test_fuzzed),
        tmpdir_test(test_forged_bytes),
        tmpdir_test(test_full_disk),
        tmpdir_test(test_unwritable_directory),
        tmpdir_test(test_dir_keeps_newest),
        tmpdir_test(test_dir_falls_back),
        tmpdir_test(test_dir_all_damaged),
        tmpdir_test(test_dir_check),
        tmpdir_test(test_dir_parts),
        tmpdir_test(test_dir_save_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
