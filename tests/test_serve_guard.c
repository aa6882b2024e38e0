/* test_serve_guard.c - what mha2mla-serve refuses, a test for each line of docs/serve.md's
 * security: over a socket. The parser's own cases are test_request.c's. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/tmpdir.h"

#include "tests/serve_run.h"

#include <zlib.h>

#define KEY "0123456789abcdef"
#define ASK "{\"messages\":[{\"role\":\"user\",\"content\":\"Say.\"}],\"max_tokens\":1}"

/* Sends it as it is; the status of the reply, 0: none came. */
static int status_of(const struct server *s, const char *method, const char *path,
                     const char *headers, const char *body)
{
    char *reply = http_talk(s->port, method, path, headers, body);
    int status = http_status(reply);

    free(reply);
    return status;
}

/* ---- who may ask ---- */

static void test_host(void **state)
{
    static const struct {
        const char *headers;
        int status;
    } rows[] = {
        {"Host: localhost\r\n", 200},
        {"Host: LOCALHOST:1234\r\n", 200},
        {"Host: 127.0.0.1\r\n", 200},
        {"Host: [::1]:99\r\n", 200},
        {"Host: my.name\r\n", 200},
        {"Host: localhost \t\r\n", 200},
        {"Host: localhost:80 \r\n", 200},
        {"Host: localhost x\r\n", 403},
        {HTTP_HOST HTTP_HOST, 400},
        {HTTP_HOST "Host: evil.example\r\n", 400},
        {"Host: my.name:8080\r\n", 200},
        {"Host: evil.example\r\n", 403},
        {"Host: localhost.evil.example\r\n", 403},
        {"Host: localhost:8080x\r\n", 403},
        {"Host: 127.0.0.1.nip.io\r\n", 403},
        {"Host: ::1\r\n", 403},
        {"Host: my.names\r\n", 403},
        {"Host: \r\n", 403},
    };
    struct server s = serve(state, SERVED " --threads 1 --name my.name");

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char headers[200];
        snprintf(headers, sizeof headers, "%s" HTTP_JSON, rows[i].headers);
        assert_int_equal(status_of(&s, "GET", "/health", rows[i].headers, NULL), rows[i].status);
        assert_int_equal(status_of(&s, "POST", "/v1/chat/completions", headers, ASK),
                         rows[i].status);
    }
    assert_true(status_of(&s, "GET", "/health", "", NULL) >= 400); /* HTTP/1.1 needs one */
    end_server(&s, 0);
}

/* Only 127.0.0.1: all of 127.0.0.0/8 is this machine's. */
static void test_bound(void **state)
{
    struct server s = serve(state, SERVED " --threads 1");

    assert_int_equal(http_connect_to("127.0.0.2", s.port), -1);
    end_server(&s, 0);
}

static void test_key(void **state)
{
    must_run(state, "echo " KEY " > $T/key; chmod 600 $T/key");
    struct server s =
        serve(state, SERVED " --threads 1 --host 0.0.0.0 --api-key-file $T/key --name 127.0.0.2");
    static const struct {
        const char *headers;
        int status;
    } rows[] = {
        {"", 401},
        {"Authorization: Bearer " KEY "\r\n", 200},
        {"Authorization: bearer " KEY "\r\n", 200},
        {"Authorization: Bearer " KEY " \t\r\n", 200},
        {"Authorization: Bearer " KEY "0\r\n", 401},
        {"Authorization: Bearer " KEY " 0\r\n", 401},
        {"Authorization: Bearer 0123456789abcde\r\n", 401},
        {"Authorization: Bearer\r\n", 401},
        {"Authorization: Basic " KEY "\r\n", 401},
        {"X-Api-Key: " KEY "\r\n", 401},
    };
    char headers[300];

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(headers, sizeof headers, HTTP_HOST HTTP_JSON "%s", rows[i].headers);
        assert_int_equal(status_of(&s, "POST", "/v1/chat/completions", headers, ASK),
                         rows[i].status);
        assert_int_equal(status_of(&s, "GET", "/v1/models", headers, NULL), rows[i].status);
        assert_int_equal(status_of(&s, "GET", "/health", headers, NULL), 200);
    }
    int fd = http_connect_to("127.0.0.2", s.port); /* all addresses */
    assert_true(fd >= 0);
    close(fd);
    end_server(&s, 0);
    must_run(state, "! grep -q " KEY " $T/err && ! grep -q 'others may read' $T/err");
}

/* ---- other sites' pages ---- */

static bool has(const char *reply, const char *header)
{
    return strcasestr(reply, header) != NULL;
}

static void test_cors(void **state)
{
    static const char origin[] = HTTP_HOST "Origin: https://a.example\r\n";
    static const char other[] = HTTP_HOST "Origin: https://b.example\r\n";
    struct server s = serve(state, SERVED " --threads 1");
    char *reply = http_talk(s.port, "GET", "/health", origin, NULL);

    assert_false(has(reply, "Access-Control"));
    free(reply);
    assert_int_equal(status_of(&s, "OPTIONS", "/v1/chat/completions", origin, NULL), 405);
    end_server(&s, 0);
    s = serve(state, SERVED " --threads 1 --cors https://a.example");
    reply = http_talk(s.port, "OPTIONS", "/v1/chat/completions", origin, NULL);
    assert_int_equal(http_status(reply), 204);
    assert_true(has(reply, "\r\nAccess-Control-Allow-Origin: https://a.example\r\n"));
    assert_true(has(reply, "Access-Control-Allow-Headers: Authorization, Content-Type"));
    free(reply);
    reply = http_talk(s.port, "GET", "/health", other, NULL);
    assert_false(has(reply, "Access-Control"));
    free(reply);
    end_server(&s, 0);
}

static void check_types(const struct server *s)
{
    static const struct {
        const char *header;
        int status;
    } rows[] = {
        {"Content-Type: application/json\r\n", 200},
        {"Content-Type: Application/JSON; charset=utf-8\r\n", 200},
        {"Content-Type: text/plain\r\n", 415},
        {"Content-Type: application/x-www-form-urlencoded\r\n", 415},
        {"Content-Type: multipart/form-data; boundary=x\r\n", 415},
        {"Content-Type: application/jsonp\r\n", 415},
        {"", 415},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char headers[200];
        snprintf(headers, sizeof headers, HTTP_HOST "%s", rows[i].header);
        assert_int_equal(status_of(s, "POST", "/v1/chat/completions", headers, ASK),
                         rows[i].status);
    }
}

/* Lengths that may be read in two ways: the first 400 comes at once, whatever follows. */
static void check_framing(const struct server *s)
{
    static const char *const rows[] = {
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char headers[300];
        snprintf(headers, sizeof headers, HTTP_HOST HTTP_JSON "%s", rows[i]);
        assert_int_equal(status_of(s, "POST", "/v1/chat/completions", headers, NULL), 400);
    }
}

/* ---- how much ---- */

#define POST "POST /v1/chat/completions HTTP/1.1\r\n" HTTP_HOST HTTP_JSON

/* By its length, before any of it was sent; and by its bytes, where it has no length. */
static void check_body_size(const struct server *s)
{
    static const char by_length[] = POST "Content-Length: 33554433\r\n\r\n";
    static const char by_bytes[] = POST "Transfer-Encoding: chunked\r\n\r\n";
    enum { BLOCK = 1 << 20 };
    char *block = malloc(BLOCK + 2), *reply;
    int fd = http_connect(s->port);

    assert_non_null(block);
    assert_true(http_send(fd, by_length, sizeof by_length - 1));
    reply = http_rest(fd);
    assert_int_equal(http_status(reply), 413);
    free(reply);
    close(fd);
    fd = http_connect(s->port);
    assert_true(http_send(fd, by_bytes, sizeof by_bytes - 1));
    memset(block, ' ', BLOCK);
    memcpy(block + BLOCK, "\r\n", 2);
    for (int i = 0; i < 40; i++)
        if (!http_send(fd, "100000\r\n", 8) || !http_send(fd, block, BLOCK + 2)) break;
    reply = http_rest(fd);
    if (http_status(reply) != 413 && *reply) fail_msg("%s", reply);
    free(reply);
    free(block);
    close(fd);
}

/* Bodies that wait for their end at the same time: the ninth of 31 MiB is too much. */
static void check_all_bodies(const struct server *s)
{
    enum { MOST = 9, BLOCK = 31 << 20 };
    static const char begin[] = POST "Content-Length: 33554432\r\n\r\n";
    char *block = malloc(BLOCK), *reply;
    int fd[MOST];

    assert_non_null(block);
    memset(block, ' ', BLOCK);
    for (int i = 0; i < MOST; i++) {
        fd[i] = http_connect(s->port);
        assert_true(http_send(fd[i], begin, sizeof begin - 1));
        if (i == MOST - 1) sleep_ms(1000); /* what is in the sockets has been read */
        assert_true(http_send(fd[i], block, BLOCK) || i == MOST - 1);
    }
    reply = http_rest(fd[MOST - 1]);
    if (http_status(reply) != 503 && *reply) fail_msg("%s", reply);
    free(reply);
    free(block);
    for (int i = 0; i < MOST; i++)
        close(fd[i]);
    sleep_ms(300);
    cJSON_Delete(ask_json(s, ASK, 200)); /* the room is there again */
}

static void check_refused(const struct server *s, const char *body, const char *param,
                          const char *text)
{
    char *reply = http_ask(s->port, body), find[200];

    snprintf(find, sizeof find, "\"type\":\"invalid_request_error\",\"param\":%s", param);
    if (http_status(reply) != 400 || !strstr(reply, find) || !strstr(reply, text))
        fail_msg("%.300s: wanted %s, '%s', got %s", body, param, text, reply);
    free(reply);
}

static void put_number(unsigned char *to, unsigned long v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (unsigned char)(v >> (24 - 8 * i));
}

/* Appends a chunk of a PNG. */
static size_t put_chunk(unsigned char *to, const char *type, size_t n)
{
    put_number(to, n);
    memcpy(to + 4, type, 4);
    put_number(to + 8 + n, crc32(0, to + 4, (unsigned)n + 4));
    return n + 12;
}

/* A white picture of one bit a pixel, as a question. */
static char *huge_picture(unsigned width, unsigned height)
{
    const size_t raw = (size_t)height * (1 + (width + 7) / 8);
    unsigned long packed = compressBound(raw);
    unsigned char *pixels = calloc(1, raw), *bytes = calloc(1, packed + 100);
    size_t n = 8;
    char *digits, *body;
    struct err e;

    assert_true(pixels && bytes);
    memcpy(bytes, "\x89PNG\r\n\x1a\n", 8);
    put_number(bytes + 16, width);
    put_number(bytes + 20, height);
    bytes[24] = 1; /* bits */
    n += put_chunk(bytes + n, "IHDR", 13);
    assert_int_equal(compress(bytes + n + 8, &packed, pixels, raw), Z_OK);
    n += put_chunk(bytes + n, "IDAT", packed);
    n += put_chunk(bytes + n, "IEND", 0);
    digits = base64_encode(bytes, n, &e);
    assert_non_null(digits);
    free(pixels);
    free(bytes);
    assert_true(asprintf(&body,
                         "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
                         "\"image_url\":{\"url\":\"data:image/png;base64,%s\"}}]}]}",
                         digits) > 0);
    free(digits);
    return body;
}

#define WITH(url)                                                                                  \
    "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{"       \
    "\"url\":\"" url "\"}}]}]}"
#define AT "\"messages[0].content[0]\""

static void check_pictures(void *const *state, const struct server *s)
{
    char *url = picture_url(state, "s/images/test-000000.png"), *body = NULL;

    check_refused(s, WITH("http://127.0.0.1/a.png"), AT, "http:// pictures are refused");
    check_refused(s, WITH("HTTPS://a.example/a.png"), AT, "HTTPS:// pictures are refused");
    check_refused(s, WITH("file:///etc/passwd"), AT, "file:// pictures are refused");
    check_refused(s, WITH("/etc/passwd"), AT, "a path is refused");
    check_refused(s, WITH("a.png"), AT, "a path is refused");
    check_refused(s, WITH("data:image/png;base64,AA=A"), AT, "base64");
    check_refused(s, WITH("data:image/png;base64,AA AA"), AT, "base64");
    check_refused(s, WITH("data:text/html;base64,AAAA"), AT, "begins with data:image/");
    check_refused(s, WITH("data:image/png;base64,AAAB"), AT, "no picture");
    body = strdup(url); /* of a picture that is cut off, its header is whole */
    assert_non_null(body);
    body[strlen(body) / 2 / 4 * 4 + 2] = '\0'; /* "data:image/png;base64," has 22 bytes */
    char *cut = NULL;
    assert_true(asprintf(&cut, WITH("%s"), body) > 0);
    check_refused(s, cut, AT, "picture 1: ");
    free(cut);
    free(body);
    static const unsigned sides[][2] = {{16385, 1}, {1, 16385}, {8000, 5001}};
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
        body = huge_picture(sides[i][0], sides[i][1]);
        check_refused(s, body, AT, "pixels");
        free(body);
    }
    assert_true(asprintf(&body, "{\"messages\":[{\"role\":\"user\",\"content\":[") > 0);
    for (int i = 0; i < 9; i++) {
        char *more = NULL;
        assert_true(asprintf(&more, "%s%s{\"type\":\"image_url\",\"image_url\":{\"url\":\"%s\"}}",
                             body, i ? "," : "", url) > 0);
        free(body);
        body = more;
    }
    body = realloc(body, strlen(body) + 8);
    assert_non_null(body);
    strcat(body, "]}]}");
    check_refused(s, body, "\"messages[0].content[8]\"", "at most 8 pictures");
    free(body);
    free(url);
}

/* As many connections as are taken; the next waits, or is left, until one ends. */
static void check_connections(const struct server *s)
{
    enum { MOST = 32 };
    int fd[MOST], more;
    char byte;

    sleep_ms(300); /* those of before have ended */
    for (int i = 0; i < MOST; i++) {
        fd[i] = http_connect(s->port);
        assert_true(http_send(fd[i], "GET ", 4));
    }
    sleep_ms(300);
    more = http_connect_to("127.0.0.1", s->port);
    if (more >= 0) {
        const struct timeval soon = {.tv_usec = 500 * 1000};
        char *request = http_request("GET", "/health", HTTP_HOST, NULL);
        setsockopt(more, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
        http_send(more, request, strlen(request));
        assert_true(recv(more, &byte, 1, 0) <= 0); /* no reply */
        free(request);
        close(more);
    }
    for (int i = 0; i < MOST; i++)
        close(fd[i]);
    sleep_ms(300);
    assert_int_equal(status_of(s, "GET", "/health", HTTP_HOST, NULL), 200);
}

static void test_limits(void **state)
{
    char deep[200] = "{\"messages\":", nested[40];
    struct server s = serve(state, SERVED " --threads 1");

    check_types(&s);
    check_framing(&s);
    check_body_size(&s);
    check_all_bodies(&s);
    check_pictures(state, &s);
    memset(nested, '[', 33);
    nested[33] = '\0';
    strcat(deep, nested);
    check_refused(&s, deep, "null", "nested more than 32 levels deep");
    check_connections(&s);
    end_server(&s, 0);
}

/* A client that falls silent within a request is left: in its headers, and in its body. */
static void test_idle(void **state)
{
    static const char *const begun[] = {"POST /v1/ch", POST "Content-Length: 100\r\n\r\n{\"mess"};
    struct server s = serve(state, SERVED " --threads 1 --idle 1");

    for (int i = 0; i < 2; i++) {
        int fd = http_connect(s.port);
        assert_true(http_send(fd, begun[i], strlen(begun[i])));
        char *reply = http_rest(fd); /* waits for 120 s at most */
        assert_true(!*reply || http_status(reply) >= 400);
        free(reply);
        close(fd);
    }
    end_server(&s, 0);
}

/* Nothing that was said is in the log: neither questions nor answers nor paths. */
static void test_log(void **state)
{
    struct server s = serve(state, SERVED " --threads 1");
    static const char *const bodies[] = {
        "{\"messages\":[{\"role\":\"user\",\"content\":\"sesame \xe2\x98\x83\"}],\"max_tokens\":5}",
        "{\"messages\":[{\"role\":\"sesame\"}]}",
        "{\"sesame\":1}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"<video> sesame\"}]}",
        WITH("file:///sesame"),
        "sesame",
    };

    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        free(http_ask(s.port, bodies[i]));
    assert_int_equal(status_of(&s, "GET", "/sesame", "Host: sesame\r\n", NULL), 403);
    assert_int_equal(status_of(&s, "GET", "/sesame", HTTP_HOST, NULL), 404);
    end_server(&s, 0);
    must_run(state, "cat $T/err; ! grep -qi 'sesame\\|\xe2\x98\x83\\|u2603' $T/err && "
                    "test $(grep -c '^/v1/chat/completions: ' $T/err) = 6 && "
                    "test $(grep -c '^another request: 40[34]' $T/err) = 2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        program_test(test_host), program_test(test_bound),  program_test(test_key),
        program_test(test_cors), program_test(test_limits), program_test(test_idle),
        program_test(test_log),
    };

    return cmocka_run_group_tests_name("serve_guard", tests, NULL, NULL);
}
