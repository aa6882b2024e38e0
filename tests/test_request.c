/* test_request.c - the body of a chat completion field by field: what is taken, what is ignored,
 * what is refused and by which name; and streams of events. What needs a socket
 * is test_serve.c's. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json/jsonc.h"
#include "base/text.h"
#include "serve/events.h"

#define USER "{\"role\":\"user\",\"content\":\"Q\"}"
#define MESSAGES "\"messages\":[" USER "]"
#define DOT "R0lGODlhAQABAIAAAP///wAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==" /* a GIF of one pixel */
#define PICTURE "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/gif;base64," DOT "\"}}"

static struct request parsed(const char *body, struct request *q)
{
    struct fault f;

    if (!request_parse(q, body, strlen(body), &f)) fail_msg("%s: %s", body, f.why.msg);
    return *q;
}

/* ---- what is taken ---- */

static void test_fields(void **state)
{
    struct request q;

    (void)state;
    parsed("{\"model\":\"m\"," MESSAGES ",\"max_tokens\":5,\"temperature\":0.5,\"top_p\":0.25,"
           "\"seed\":9007199254740991,\"stop\":[\"a\",\"b\"],\"stream\":true,"
           "\"stream_options\":{\"include_usage\":true}}",
           &q);
    assert_string_equal(q.model, "m");
    assert_true(q.max_new == 5 && q.temperature == 0.5 && q.top_p == 0.25);
    assert_true(q.seed == 9007199254740991 && q.n_stops == 2 && q.stream && q.usage);
    assert_string_equal(q.stops[1], "b");
    request_free(&q);
    parsed("{" MESSAGES "}", &q); /* what is not given */
    assert_true(q.max_new == 0 && q.temperature == 0 && q.top_p == 1 && q.seed < 0 && !q.stream);
    assert_string_equal(q.model, "");
    request_free(&q);
    parsed("{" MESSAGES ",\"max_tokens\":7,\"max_completion_tokens\":7,\"stop\":\"x\"}", &q);
    assert_true(q.max_new == 7 && q.n_stops == 1);
    request_free(&q);
}

/* What changes nothing is ignored, and so is what asks for nothing. */
static void test_ignored(void **state)
{
    static const char *const fields[] = {
        "\"user\":\"u\"",
        "\"metadata\":{\"a\":[1]}",
        "\"store\":true",
        "\"n\":1",
        "\"logprobs\":false",
        "\"top_logprobs\":0",
        "\"presence_penalty\":0",
        "\"frequency_penalty\":0",
        "\"logit_bias\":{}",
        "\"tools\":[]",
        "\"tool_choice\":\"none\"",
        "\"response_format\":{\"type\":"
        "\"text\"}",
        "\"modalities\":[\"text\"]",
        "\"tools\":null",
        "\"max_tokens\":null",
        "\"stop\":null",
        "\"nothing_known\":null",
        "\"service_tier\":\"auto\"",
    };

    (void)state;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        char body[300];
        struct request q;
        snprintf(body, sizeof body, "{" MESSAGES ",%s}", fields[i]);
        parsed(body, &q);
        request_free(&q);
    }
}

/* The conversation as it is read by the code that reads samples. */
static void test_messages(void **state)
{
    static const struct {
        const char *messages, *talk;
        int pictures;
    } rows[] = {
        {USER, "\"image\":[],\"conversations\":[{\"from\":\"human\",\"value\":\"Q\"}]", 0},
        {"{\"role\":\"system\",\"content\":\"S\"}," USER ",{\"role\":\"assistant\",\"content\":"
         "\"A\"}," USER,
         "\"conversations\":[{\"from\":\"system\",\"value\":\"S\"},{\"from\":\"human\",\"value\":"
         "\"Q\"},{\"from\":\"gpt\",\"value\":\"A\"},{\"from\":\"human\",\"value\":\"Q\"}]",
         0},
        {"{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a \"}," PICTURE
         ",{\"type\":\"text\",\"text\":\" b\"}," PICTURE "]}",
         "\"image\":[\"1\",\"2\"],\"conversations\":[{\"from\":\"human\",\"value\":\"a <image> "
         "b<image>\"}]",
         2},
        {"{\"role\":\"user\",\"name\":null,\"content\":[" PICTURE "]}", "\"value\":\"<image>\"", 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char body[2000], *talk;
        struct request q;
        struct err e = {0};
        snprintf(body, sizeof body, "{\"messages\":[%s]}", rows[i].messages);
        parsed(body, &q);
        talk = jsonc_print(q.talk.json, false, &e);
        assert_non_null(talk);
        if (!strstr(talk, rows[i].talk)) fail_msg("%s", talk);
        assert_int_equal(q.n_pictures, rows[i].pictures);
        assert_true(q.talk.inside == q.pictures && q.talk.n_inside == q.n_pictures);
        assert_true(q.talk.quiet);
        free(talk);
        request_free(&q);
    }
}

/* ---- what is refused ---- */

static void refused(const char *body, const char *param, const char *text)
{
    struct request q;
    struct fault f;

    if (request_parse(&q, body, strlen(body), &f)) fail_msg("%s is taken", body);
    if (f.status != 400 || strcmp(f.param, param) != 0 || !strstr(f.why.msg, text))
        fail_msg("%s: %d %s: %s", body, f.status, f.param, f.why.msg);
    request_free(&q);
}

static void test_refused_fields(void **state)
{
    static const struct {
        const char *field, *param, *text;
    } rows[] = {
        {"\"tools\":[{}]", "tools", "not supported"},
        {"\"tool_choice\":\"auto\"", "tool_choice", "not supported"},
        {"\"response_format\":{\"type\":\"json_object\"}", "response_format", "not supported"},
        {"\"logprobs\":true", "logprobs", "not supported"},
        {"\"n\":2", "n", "not supported"},
        {"\"logit_bias\":{\"5\":1}", "logit_bias", "not supported"},
        {"\"presence_penalty\":0.1", "presence_penalty", "not supported"},
        {"\"frequency_penalty\":-1", "frequency_penalty", "not supported"},
        {"\"functions\":[{}]", "functions", "not supported"},
        {"\"modalities\":[\"text\",\"audio\"]", "modalities", "not supported"},
        {"\"top_k\":5", "top_k", "is not a known field"},
        {"\"temperature\":2.1", "temperature", "a number from 0 to 2"},
        {"\"temperature\":\"1\"", "temperature", "a number"},
        {"\"top_p\":-0.1", "top_p", "a number from 0 to 1"},
        {"\"seed\":1.5", "seed", "a whole number"},
        {"\"max_tokens\":0", "max_tokens", "a whole number from 1"},
        {"\"max_tokens\":1e9", "max_tokens", "a whole number from 1"},
        {"\"max_tokens\":1,\"max_completion_tokens\":2", "max_completion_tokens", "differ"},
        {"\"stop\":\"\"", "stop", "not empty"},
        {"\"stop\":[\"a\",1]", "stop", "a text"},
        {"\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]", "stop", "at most 4"},
        {"\"stream\":1", "stream", "true or false"},
        {"\"stream_options\":{\"x\":true}", "stream_options", "\"x\" is not known"},
        {"\"stream_options\":{\"include_usage\":true}", "stream_options", "stream is false"},
        {"\"model\":5", "model", "a text"},
        {"\"n\":1,\"n\":1", "", "n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char body[300];
        snprintf(body, sizeof body, "{" MESSAGES ",%s}", rows[i].field);
        refused(body, rows[i].param, rows[i].text);
    }
}

static void test_refused_messages(void **state)
{
    static const struct {
        const char *messages, *param, *text;
    } rows[] = {
        {"5", "messages[0]", "\"role\" must be"},
        {"{\"role\":\"tool\",\"content\":\"x\"}", "messages[0]", "\"role\" must be"},
        {"{\"role\":\"developer\",\"content\":\"x\"}", "messages[0]", "\"role\" must be"},
        {USER ",{\"role\":\"system\",\"content\":\"x\"}", "messages[1]", "must be the first"},
        {USER "," USER, "messages[1]", "take turns"},
        {"{\"role\":\"assistant\",\"content\":\"x\"}", "messages[0]", "take turns"},
        {USER ",{\"role\":\"assistant\",\"content\":\"x\"}", "messages", "must be the user's"},
        {"{\"role\":\"system\",\"content\":\"x\"}", "messages", "must be the user's"},
        {"{\"role\":\"user\"}", "messages[0].content", "a text is needed"},
        {"{\"role\":\"user\",\"content\":[]}", "messages[0].content", "is empty"},
        {"{\"role\":\"user\",\"content\":null}", "messages[0].content", "a text is needed"},
        {"{\"role\":\"user\",\"content\":\"see <image>\"}", "messages[0].content",
         "\"<image>\", with which prompts mark a picture"},
        {"{\"role\":\"user\",\"content\":\"x\",\"tool_calls\":[]}", "messages[0]",
         "\"tool_calls\" is not supported"},
        {"{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\"}]}", "messages[0].content[0]",
         "of type \"input_audio\""},
        {"{\"role\":\"user\",\"content\":[\"x\"]}", "messages[0].content[0]", "\"type\""},
        {"{\"role\":\"system\",\"content\":[" PICTURE "]}", "messages[0].content[0]",
         "messages of the user"},
        {"{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":\"x\"}]}",
         "messages[0].content[0]", "an object with a \"url\""},
        {"{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\","
         "\"path\":\"/a\"}}]}",
         "messages[0].content[0]", "\"path\" is not supported"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char body[1000];
        snprintf(body, sizeof body, "{\"messages\":[%s]}", rows[i].messages);
        refused(body, rows[i].param, rows[i].text);
    }
    refused("{\"messages\":[]}", "messages", "must be the user's");
    refused("{\"messages\":\"x\"}", "messages", "a list is needed");
    refused("{}", "messages", "is missing");
    refused("[]", "", "must be an object");
    refused("", "", "body:1:1");
    refused("{\"messages\":[" USER "],}", "", "trailing comma");
    refused("{\"a\":\"\\u0000\"}", "", "\\u0000 is not allowed");
    refused("{\"a\":\"\xff\"}", "", "UTF-8");
}

/* Of a long name whole characters are said. */
static void test_long_names(void **state)
{
    static const char letter[] = "\xc3\xa9";
    char name[130] = "x", body[200];
    struct request q;
    struct fault f;

    (void)state;
    for (int i = 0; i < 60; i++)
        strcat(name, letter);
    for (int i = 0; i < 2; i++) { /* one of the two has a character at the cut */
        snprintf(body, sizeof body, "{\"%s\":1}", name + i);
        assert_false(request_parse(&q, body, strlen(body), &f));
        for (size_t at = 0, n = strlen(f.param), len; at < n; at += len)
            assert_true((len = text_utf8_len(f.param + at, n - at)) > 0);
        assert_int_equal(f.status, 400);
        request_free(&q);
    }
}

/* Values beyond measure are refused before they cost memory. */
static void test_many_values(void **state)
{
    enum { VALUES = 70000 };
    char *body = malloc(2 * VALUES + 20);

    (void)state;
    assert_non_null(body);
    strcpy(body, "{\"a\":[0");
    for (size_t i = 0, n = strlen(body); i < VALUES; i++)
        memcpy(body + n + 2 * i, ",0", 3);
    strcat(body, "]}");
    refused(body, "", "more than 65536 values");
    free(body);
}

/* ---- events ---- */

/* While nothing comes there is a comment now and then. */
static void test_comments(void **state)
{
    static struct desk d;
    static struct job job;
    const struct reply r = {.id = "i", .model = "m"};
    struct events v = {.reply = &r, .patience = 0.15, .last = clock_seconds()};
    char out[1000];
    long n, comments = 0;

    (void)state;
    desk_open(&d, 1);
    assert_int_equal(pthread_cond_init(&job.news, NULL), 0);
    n = events_read(&v, &d, &job, out, sizeof out);
    assert_true(n > 0 && strncmp(out, "data: {", 7) == 0);
    for (int i = 0; i < 6; i++) {
        n = events_read(&v, &d, &job, out, sizeof out);
        assert_true(n == 0 || (n == 8 && memcmp(out, ": wait\n\n", 8) == 0));
        comments += n > 0;
    }
    assert_true(comments >= 2 && comments < 6);
    fault_set(&job.fault, 503, "", "gone");
    job.state = JOB_DONE;
    n = events_read(&v, &d, &job, out, 5); /* in pieces */
    assert_true(n == 5 && memcmp(out, "data:", 5) == 0);
    while ((n = events_read(&v, &d, &job, out, 7)) > 0) {
    }
    assert_int_equal(n, EVENTS_ENDED);
    events_free(&v);
    pthread_cond_destroy(&job.news);
}

/* ---- the queue ---- */

/* A job that is given up makes room for another, though nobody works. */
static void test_leaving_the_queue(void **state)
{
    static struct desk d;
    static struct job jobs[3];

    (void)state;
    desk_open(&d, 2);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_cond_init(&jobs[i].news, NULL), 0);
    assert_true(desk_put(&d, &jobs[0]) && desk_put(&d, &jobs[1]) && !desk_put(&d, &jobs[2]));
    assert_int_equal(jobs[2].fault.status, 503);
    desk_drop(&d, &jobs[0]);
    assert_true(desk_put(&d, &jobs[2]));
    assert_true(d.waiting == 2 && d.queue[0] == &jobs[1] && d.queue[1] == &jobs[2]);
    for (int i = 0; i < 3; i++)
        pthread_cond_destroy(&jobs[i].news);
    desk_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_ignored),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_refused_fields),
        cmocka_unit_test(test_refused_messages),
        cmocka_unit_test(test_many_values),
        cmocka_unit_test(test_comments),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_leaving_the_queue),
    };

    return cmocka_run_group_tests_name("request", tests, NULL, NULL);
}
