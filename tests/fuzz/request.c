/* request.c - what clients send to the server: bodies, and the headers that are looked at. */
#include "base/json/jsonc.h"
#include "serve/guard.h"
#include "serve/reply.h"
#include "tests/fuzz/target.h"

#include <stdlib.h>
#include <string.h>

/* What was taken is within the limits, and can be written; what was not says so. */
static void check(const struct request *q)
{
    struct err e = {0};
    char *text = jsonc_print(q->talk.json, false, &e);

    CHECK(text && q->model && q->n_pictures <= REQUEST_PICTURES && q->n_stops <= REQUEST_STOPS);
    CHECK(q->temperature >= 0 && q->top_p >= 0 && q->top_p <= 1 && q->max_new >= 0);
    for (int64_t i = 0; i < q->n_pictures; i++) {
        struct image_info look;
        CHECK(image_look_at("p", q->pictures[i].data, q->pictures[i].size, &look, &e));
        CHECK(look.width <= REQUEST_SIDE && look.height <= REQUEST_SIDE);
    }
    free(text);
}

static void headers(const char *text)
{
    static const char *const names[] = {"a.example", "::2"};

    guard_host(text, names, 2);
    guard_json(text);
    CHECK(!guard_key(text, "0123456789abcdef0123456789abcdef") || strlen(text) == 39);
}

void fuzz_request(const uint8_t *data, size_t n)
{
    char *text = malloc(n + 1), *said;
    struct request q;
    struct fault f;
    struct err e = {0};

    CHECK(text);
    memcpy(text, data, n);
    text[n] = '\0';
    headers(text);
    if (request_parse(&q, text, n, &f)) {
        check(&q);
    } else {
        CHECK(f.status == 400);
        fuzz_failed(&f.why);
        said = reply_error(&f, &e);
        CHECK(said);
        free(said);
    }
    request_free(&q);
    free(text);
}
