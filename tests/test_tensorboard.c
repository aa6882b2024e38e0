/* test_tensorboard.c - event files against a separate parser, written from the descriptions of the
 * formats and sharing nothing with the writer but the CRC, which is checked by known vectors. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/tmpdir.h"
#include "train/record/tensorboard.h"

#include <dirent.h>
#include <math.h>

/* RFC 3720, B.4. */
static void test_crc(void **state)
{
    uint8_t zeros[32] = {0}, ones[32], up[32], down[32];

    (void)state;
    memset(ones, 0xff, sizeof ones);
    for (int i = 0; i < 32; i++) {
        up[i] = (uint8_t)i;
        down[i] = (uint8_t)(31 - i);
    }
    assert_int_equal(tb_crc32c(zeros, 32), 0x8a9136aa);
    assert_int_equal(tb_crc32c(ones, 32), 0x62a8ab43);
    assert_int_equal(tb_crc32c(up, 32), 0x46dd794e);
    assert_int_equal(tb_crc32c(down, 32), 0x113fdb5c);
    assert_int_equal(tb_crc32c("123456789", 9), 0xe3069283);
}

/* ---- the reader ---- */

struct span {
    const uint8_t *p, *end;
};

static uint64_t take_fixed(struct span *s, int n)
{
    uint64_t v = 0;

    assert_true(s->end - s->p >= n);
    for (int i = 0; i < n; i++)
        v |= (uint64_t)*s->p++ << (8 * i);
    return v;
}

static uint64_t take_varint(struct span *s)
{
    uint64_t v = 0;

    for (int shift = 0;; shift += 7) {
        uint64_t byte = take_fixed(s, 1);
        assert_true(shift < 64);
        v |= (byte & 0x7f) << shift;
        if (byte < 0x80) return v;
    }
}

/* The next record's data; false at the end. Checks lengths and CRCs. */
static bool take_record(struct span *file, struct span *data)
{
    const uint8_t *head = file->p;
    uint64_t len;
    uint32_t crc;

    if (file->p == file->end) return false;
    len = take_fixed(file, 8);
    crc = tb_crc32c(head, 8);
    assert_int_equal(take_fixed(file, 4), (uint32_t)((crc >> 15 | crc << 17) + 0xa282ead8u));
    assert_true((uint64_t)(file->end - file->p) >= len + 4);
    *data = (struct span){file->p, file->p + len};
    file->p += len;
    crc = tb_crc32c(data->p, len);
    assert_int_equal(take_fixed(file, 4), (uint32_t)((crc >> 15 | crc << 17) + 0xa282ead8u));
    return true;
}

/* Prints a message as text: field:value, nested {} where the path in `nested` says so. */
static void message_text(struct span m, const char *path, char *out, size_t size)
{
    static const char *const nested[] = {"/5",         "/5/1",   "/5/1/8",   "/5/1/8/2",
                                         "/5/1/8/2/2", "/5/1/9", "/5/1/9/1", "/7"};

    while (m.p < m.end) {
        uint64_t key = take_varint(&m), len;
        size_t used = strlen(out);
        char sub[64];
        bool inside = false;

        snprintf(sub, sizeof sub, "%s/%d", path, (int)(key >> 3));
        for (size_t i = 0; i < sizeof nested / sizeof *nested; i++)
            inside = inside || strcmp(sub, nested[i]) == 0;
        snprintf(out + used, size - used, "%s%d:", used && out[used - 1] != '{' ? " " : "",
                 (int)(key >> 3));
        used = strlen(out);
        if ((key & 7) == 0) {
            snprintf(out + used, size - used, "%lld", (long long)take_varint(&m));
        } else if ((key & 7) == 1) {
            uint64_t bits = take_fixed(&m, 8);
            double v;
            memcpy(&v, &bits, sizeof v);
            snprintf(out + used, size - used, "%.12g", v);
        } else if ((key & 7) == 5) {
            uint32_t bits = (uint32_t)take_fixed(&m, 4);
            float v;
            memcpy(&v, &bits, sizeof v);
            snprintf(out + used, size - used, "%.12g", (double)v);
        } else {
            assert_int_equal(key & 7, 2);
            len = take_varint(&m);
            assert_true((uint64_t)(m.end - m.p) >= len);
            if (inside) {
                strcat(out, "{");
                message_text((struct span){m.p, m.p + len}, sub, out, size);
                strcat(out, "}");
            } else {
                snprintf(out + used, size - used, "'%.*s'", (int)len, (const char *)m.p);
            }
            m.p += len;
        }
    }
}

static void expect_events(const char *path, const char *const *want, size_t n)
{
    size_t len;
    char *file = slurp(path, &len), got[4096];
    struct span s = {(uint8_t *)file, (uint8_t *)file + len}, data;
    size_t i = 0;

    for (; take_record(&s, &data); i++) {
        got[0] = '\0';
        message_text(data, "", got, sizeof got);
        assert_true(i < n);
        assert_string_equal(got, want[i]);
    }
    assert_int_equal(i, n);
    free(file);
}

/* ---- the tests ---- */

static void test_events(void **state)
{
    static const char *const want[] = {
        "1:1700000000.5 3:'brain.Event:2'",
        "1:1700000000.5 2:0 7:{1:1}",
        "1:1700000001 2:0 5:{1:{1:'train/loss' 2:2.5}}",
        "1:1700000002 2:300 5:{1:{1:'train/loss' 2:nan}}",
        "1:1700000003 2:5000000000 5:{1:{1:'t' 2:1}}",
        "1:1700000004 2:-1 5:{1:{1:'' 2:inf}}",
    };
    struct err e = {0};
    char path[1200];
    struct tb tb;

    assert_true(tb_open(&tb, tmpdir_path(state, "tb/stage2"), 0, 1700000000.5, &e));
    snprintf(path, sizeof path, "%s", tb.path);
    assert_non_null(strstr(path, "/tb/stage2/events.out.tfevents.1700000000."));
    assert_true(tb_scalar(&tb, "train/loss", 0, 1700000001, 2.5, &e));
    assert_true(tb_scalar(&tb, "train/loss", 300, 1700000002, (double)NAN, &e));
    assert_true(tb_scalar(&tb, "t", 5000000000, 1700000003, 1, &e));
    assert_true(tb_scalar(&tb, "", -1, 1700000004, 1e300, &e));
    /* Every record is in the file before it is closed: a kill loses nothing. */
    expect_events(path, want, sizeof want / sizeof *want);
    tb_close(&tb);
    expect_events(path, want, sizeof want / sizeof *want);
    tb_close(&tb);
}

/* The file of a resumed run has its SessionLog START at its first step, and sorts after the earlier
 * ones even if the clock went back. */
static void test_resume(void **state)
{
    static const char *const want[] = {"1:1600000000 3:'brain.Event:2'",
                                       "1:1600000000 2:121 7:{1:1}",
                                       "1:1600000001 2:121 5:{1:{1:'loss' 2:1}}"};
    struct err e = {0};
    char first[1200];
    struct tb tb;

    assert_true(tb_open(&tb, *state, 0, 1700000000, &e));
    snprintf(first, sizeof first, "%s", tb.path);
    tb_close(&tb);
    assert_true(tb_open(&tb, *state, 121, 1600000000, &e));
    assert_true(strcmp(tb.path, first) > 0);
    assert_true(tb_scalar(&tb, "loss", 121, 1600000001, 1, &e));
    expect_events(tb.path, want, 3);
    tb_close(&tb);
}

static void test_long_tag(void **state)
{
    enum { LEN = 70000 };
    char *text = malloc(LEN + 1), *file;
    struct span s, data;
    struct err e = {0};
    struct tb tb;
    size_t len;

    assert_non_null(text);
    memset(text, 'x', LEN);
    text[LEN] = '\0';
    assert_true(tb_open(&tb, *state, 0, 1, &e));
    assert_true(tb_scalar(&tb, text, 0, 1, 1, &e));
    file = slurp(tb.path, &len);
    s = (struct span){(uint8_t *)file, (uint8_t *)file + len};
    for (int i = 0; i < 3; i++) /* version, start, value */
        assert_true(take_record(&s, &data));
    assert_true(data.end - data.p > LEN);
    assert_false(take_record(&s, &data));
    tb_close(&tb);
    free(file);
    free(text);
}

static void test_failures(void **state)
{
    struct err e = {0};
    struct tb tb;

    spill(tmpdir_path(state, "file"), "", 0);
    assert_false(tb_open(&tb, tmpdir_path(state, "file/tb"), 0, 1, &e));
    assert_non_null(strstr(e.msg, "/file"));
    tb_close(&tb);
    if (!is_there("/dev/full")) skip();
    tb = (struct tb){.fp = fopen("/dev/full", "w"), .path = strdup("events")};
    assert_false(tb_scalar(&tb, "loss", 0, 1, 1, &e));
    assert_string_equal(e.msg, "events: cannot be written: No space left on device");
    tb_close(&tb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc), tmpdir_test(test_events),   tmpdir_test(test_resume),
        tmpdir_test(test_long_tag), tmpdir_test(test_failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
