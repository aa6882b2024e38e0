/* test_hash.c - SHA-256 against the digests published in FIPS 180-4's examples, XXH64, FNV-1a, and
 * the table of indices by hash. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/hash.h"
#include "base/slots.h"

#include <stdlib.h>
#include <string.h>

#include "tests/tmpdir.h"

/* The hash of `text` repeated `times` times, fed in pieces of `piece` bytes. */
static void expect(const char *text, size_t times, size_t piece, const char *want)
{
    size_t one = strlen(text), len = one * times;
    char *all = malloc(len + 1), hex[65];
    struct sha256 s;

    assert_non_null(all);
    for (size_t i = 0; i < times; i++)
        memcpy(all + i * one, text, one);
    sha256_init(&s);
    for (size_t at = 0; at < len; at += piece)
        sha256_add(&s, all + at, len - at < piece ? len - at : piece);
    sha256_hex(&s, hex);
    assert_string_equal(hex, want);
    free(all);
}

static void test_published(void **state)
{
    static const size_t pieces[] = {1, 7, 63, 64, 65, 1 << 20};

    (void)state;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        expect("", 1, pieces[i],
               "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        expect("abc", 1, pieces[i],
               "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        expect("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1, pieces[i],
               "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
        expect("a", 1000000, pieces[i],
               "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
}

/* Two hashes at a time do not interfere. */
static void test_two_at_once(void **state)
{
    char a_hex[65], b_hex[65];
    struct sha256 a, b;

    (void)state;
    sha256_init(&a);
    sha256_init(&b);
    sha256_add(&a, "ab", 2);
    sha256_add(&b, "a", 1);
    sha256_add(&a, "c", 1);
    sha256_add(&b, "bc", 2);
    sha256_hex(&a, a_hex);
    sha256_hex(&b, b_hex);
    assert_string_equal(a_hex, b_hex);
}

/* Values of xxhash 4.1 for Python (xxHash 0.8). */
static void test_sum64(void **state)
{
    static const struct {
        const char *text;
        size_t times;
        uint64_t want;
    } cases[] = {
        {"", 1, 0xef46db3751d8e999},
        {"a", 1, 0xd24ec4f1a98c6e5b},
        {"abc", 1, 0x44bc2cf5ad770999},
        {"foobar!", 1, 0xecc58ba5c72efb79},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1, 0xf06103773e8585df},
        {"a", 1000000, 0xdc483aaa9b4fdc40},
    };
    const char *path = tmpdir_path(state, "file");
    char hex[17], want[17];
    struct err e = {0};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        FILE *fp = fopen(path, "w");
        assert_non_null(fp);
        for (size_t k = 0; k < cases[i].times; k++)
            fputs(cases[i].text, fp);
        assert_int_equal(fclose(fp), 0);
        assert_true(sum64_path(path, NULL, hex, &e));
        snprintf(want, sizeof want, "%016llx", (unsigned long long)cases[i].want);
        assert_string_equal(hex, want);
    }
    assert_false(sum64_path(tmpdir_path(state, "none"), NULL, hex, &e));
    assert_non_null(strstr(e.msg, "none: No such file"));
}

/* The offset basis, and a value from the authors' table. */
static void test_fnv(void **state)
{
    (void)state;
    assert_true(hash_fnv("", 0) == 0xcbf29ce484222325u);
    assert_true(hash_fnv("foobar", 6) == 0x85944171f73967e8u);
}

/* Indices of the same hash are all found, others with them in the same places are not, and growing
 * loses none. */
static void test_slots(void **state)
{
    enum { N = 1000, HASHES = 40 };
    struct slots s = {0};
    struct err e;
    uint64_t step = 0;

    (void)state;
    assert_int_equal(slots_next(&s, 5, &step), -1);
    for (int round = 0; round < 2; round++) {
        for (int64_t i = 0; i < N; i++) {
            assert_true(slots_reserve(&s, i + 1, &e));
            assert_true(s.n >= 2 * (i + 1));
            slots_put(&s, (uint64_t)(i % HASHES) << 32, i); /* all begin at one place, at first */
        }
        for (int64_t h = 0; h <= HASHES; h++) {
            int64_t found = 0, i;
            step = 0;
            while ((i = slots_next(&s, (uint64_t)h << 32, &step)) >= 0) {
                assert_int_equal(i % HASHES, h);
                found++;
            }
            assert_int_equal(found, h == HASHES ? 0 : N / HASHES);
        }
        slots_clear(&s);
        step = 0;
        assert_int_equal(slots_next(&s, 0, &step), -1);
    }
    slots_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published), cmocka_unit_test(test_two_at_once),
        tmpdir_test(test_sum64),          cmocka_unit_test(test_fnv),
        cmocka_unit_test(test_slots),
    };

    return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
