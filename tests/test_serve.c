/* test_serve.c - mha2mla-serve over a socket: what it answers, how several answers are made
 * together, and how it ends. What it refuses is test_serve_guard.c's. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/tmpdir.h"

#include "base/clock.h"
#include "tests/serve_run.h"

#define QUESTION                                                                                   \
    "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"%s\"}},"    \
    "{\"type\":\"text\",\"text\":\"What is at the top left?\"}]}]"

/* ---- what it answers ---- */

static void check_places(const struct server *s)
{
    static const struct {
        const char *method, *path;
        int status;
        const char *says;
    } rows[] = {
        {"GET", "/health", 200, "{\"status\":\"ok\"}"},
        {"GET", "/v1/models", 200,
         "{\"object\":\"list\",\"data\":[{\"id\":\"quickstart/model\",\"object\":\"model\","},
        {"GET", "/", 200, "<!doctype html>"},
        {"GET", "/v1/nothing", 404, "\"type\":\"not_found_error\",\"param\":null,\"code\":404"},
        {"GET", "/../../etc/passwd", 404, "no such place"},
        {"HEAD", "/", 200, "text/html"},
        {"HEAD", "/health", 200, "application/json"},
        {"HEAD", "/v1/chat/completions", 405, "Allow: POST"},
        {"GET", "/health%00", 404, "no such place"},
        {"POST", "/health", 405, "/health takes GET"},
        {"GET", "/v1/chat/completions", 405, "/v1/chat/completions takes POST"},
        {"DELETE", "/v1/models", 405, "takes GET"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *reply = http_talk(s->port, rows[i].method, rows[i].path, HTTP_HOST, NULL);
        if (http_status(reply) != rows[i].status || !strstr(reply, rows[i].says))
            fail_msg("%s %s: %s", rows[i].method, rows[i].path, reply);
        if (rows[i].method[0] == 'H') assert_string_equal(http_body(reply), "");
        if (rows[i].status == 405) assert_non_null(strstr(reply, "\r\nAllow: "));
        free(reply);
    }
}

static const char *text_of(const cJSON *o)
{
    const cJSON *choice = cJSON_GetArrayItem(cJSON_GetObjectItem(o, "choices"), 0);

    return string_of(cJSON_GetObjectItem(choice, "message"), "content");
}

/* The object has these keys, in this order, and no others. */
static void check_keys(const cJSON *o, const char *const *keys)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, o)
    {
        if (!*keys || strcmp(item->string, *keys) != 0) fail_msg("the key %s", item->string);
        keys++;
    }
    if (*keys) fail_msg("no key %s", *keys);
}

static void check_fields(const cJSON *o)
{
    static const char *const keys[] = {"id",    "object",  "created", "model", "choices",
                                       "usage", "timings", "cache",   NULL};
    static const char *const choice[] = {"index", "message", "finish_reason", NULL};
    static const char *const usage[] = {"prompt_tokens", "completion_tokens", "total_tokens",
                                        "prompt_tokens_details", NULL};
    static const char *const timings[] = {"cache_n",
                                          "prompt_n",
                                          "prompt_ms",
                                          "prompt_per_second",
                                          "predicted_n",
                                          "predicted_ms",
                                          "predicted_per_second",
                                          NULL};
    static const char *const cache[] = {"bytes", "original_bytes", "format", NULL};

    check_keys(o, keys);
    check_keys(cJSON_GetArrayItem(cJSON_GetObjectItem(o, "choices"), 0), choice);
    check_keys(cJSON_GetObjectItem(o, "usage"), usage);
    check_keys(cJSON_GetObjectItem(o, "timings"), timings);
    check_keys(cJSON_GetObjectItem(o, "cache"), cache);
    assert_memory_equal(string_of(o, "id"), "chatcmpl-", 9);
    assert_string_equal(string_of(o, "object"), "chat.completion");
    assert_string_equal(string_of(o, "model"), "any \"name\"");
    assert_true(number_of(o, "usage.prompt_tokens") > 16); /* those of the picture */
    assert_true(number_of(o, "usage.total_tokens") ==
                number_of(o, "usage.prompt_tokens") + number_of(o, "usage.completion_tokens"));
    assert_true(number_of(o, "timings.cache_n") + number_of(o, "timings.prompt_n") ==
                number_of(o, "usage.prompt_tokens"));
    assert_true(number_of(o, "cache.bytes") > 0 &&
                number_of(o, "cache.bytes") == number_of(o, "cache.original_bytes"));
}

/* The same picture and words as mha2mla-chat's, whose greedy answers are those of `evaluate`. */
static void check_as_chat(void *const *state, const struct server *s)
{
    char *url = picture_url(state, "s/images/test-000000.png"), *said, *body;
    cJSON *o;

    must_run(state, "$B/mha2mla-chat " SERVED " --threads 1 --image $T/s/images/test-000000.png -p "
                    "'What is at the top left?' > $T/said 2> $T/err1");
    said = slurp(tmpdir_path(state, "said"), NULL);
    said[strcspn(said, "\n")] = '\0';
    assert_true(asprintf(&body, "{\"model\":\"any \\\"name\\\"\",\"messages\":" QUESTION "}", url) >
                0);
    o = ask_json(s, body, 200);
    check_fields(o);
    assert_string_equal(text_of(o), said);
    assert_string_equal(
        string_of(cJSON_GetArrayItem(cJSON_GetObjectItem(o, "choices"), 0), "finish_reason"),
        "stop");
    cJSON_Delete(o);
    free(body);
    free(said);
    free(url);
}

/* Packed caches: answers and bytes are mha2mla-chat's with the same one, which
 * is said everywhere. */
static void check_cache(void *const *state, const char *kind)
{
    char options[100], says[200], *url, *body, *reply, *said;
    struct server s;
    cJSON *o, *chat;

    snprintf(options, sizeof options, SERVED " --threads 1 --cache %s", kind);
    s = serve(state, options);
    url = picture_url(state, "s/images/test-000000.png");
    snprintf(says, sizeof says,
             "$B/mha2mla-chat " SERVED " --threads 1 --image $T/s/images/test-000000.png -p "
             "'What is at the top left?' --json --cache %s > $T/said 2> $T/err1",
             kind);
    must_run(state, says);
    said = slurp(tmpdir_path(state, "said"), NULL);
    chat = cJSON_Parse(said);
    assert_true(asprintf(&body, "{\"messages\":" QUESTION "}", url) > 0);
    o = ask_json(&s, body, 200);
    assert_string_equal(text_of(o), string_of(chat, "answer"));
    assert_string_equal(string_of(cJSON_GetObjectItem(o, "cache"), "format"), kind);
    assert_string_equal(string_of(chat, "cache_format"), kind);
    assert_true(number_of(o, "cache.bytes") == number_of(chat, "cache_bytes"));
    reply = http_talk(s.port, "GET", "/v1/models", HTTP_HOST, NULL);
    snprintf(says, sizeof says, "\"cache\":\"%s\"}", kind);
    assert_non_null(strstr(reply, says));
    end_server(&s, 0);
    snprintf(says, sizeof says,
             "grep -q ': is served, with a cache in %s$' $T/err && grep -q ' out, cache .*iB of "
             ".*iB, %s, ' $T/err",
             kind, kind);
    must_run(state, says);
    cJSON_Delete(o);
    cJSON_Delete(chat);
    free(reply);
    free(said);
    free(body);
    free(url);
}

/* The events of a stream, put together: the text, the end; every event's form is looked at. */
struct streamed {
    char text[1000];
    char finish[20];
    int events;
    bool done, usage, timings;
};

static void take_event(struct streamed *t, const char *json)
{
    cJSON *o = cJSON_Parse(json);
    const cJSON *choices = cJSON_GetObjectItem(o, "choices"), *one = cJSON_GetArrayItem(choices, 0);
    const cJSON *delta = cJSON_GetObjectItem(one, "delta");
    const char *role = cJSON_GetStringValue(cJSON_GetObjectItem(delta, "role"));
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(delta, "content"));
    const char *ended = cJSON_GetStringValue(cJSON_GetObjectItem(one, "finish_reason"));

    if (!o) fail_msg("no JSON: %s", json);
    assert_string_equal(string_of(o, "object"), "chat.completion.chunk");
    assert_false(t->done);
    assert_int_equal(t->events++ == 0, role != NULL);
    assert_int_equal(one == NULL, cJSON_HasObjectItem(o, "usage"));
    if (!one) assert_true(cJSON_IsArray(choices) && t->finish[0]);
    if (text) strcat(t->text, text);
    if (ended) snprintf(t->finish, sizeof t->finish, "%s", ended);
    t->usage |= !one;
    t->timings |= cJSON_HasObjectItem(o, "timings") && cJSON_HasObjectItem(o, "cache");
    cJSON_Delete(o);
}

static struct streamed take_stream(char *reply)
{
    struct streamed t = {.events = 0};
    char *body = (char *)(uintptr_t)http_body(reply), *rest, *line;

    assert_int_equal(http_status(reply), 200);
    assert_non_null(strstr(reply, "\r\nContent-Type: text/event-stream\r\n"));
    assert_true(http_unchunk(body));
    for (line = strtok_r(body, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (*line == ':') continue;
        assert_memory_equal(line, "data: ", 6);
        if (strcmp(line + 6, "[DONE]") == 0)
            t.done = true;
        else
            take_event(&t, line + 6);
    }
    return t;
}

static void check_stream(const struct server *s, const char *rest, bool usage)
{
    char *whole, *stream, *reply;
    struct streamed t;
    cJSON *o;

    assert_true(asprintf(&whole,
                         "{\"messages\":[{\"role\":\"user\",\"content\":\"What is at the "
                         "top left?\"}]%s}",
                         rest) > 0);
    assert_true(asprintf(&stream, "{\"stream\":true%s,%s",
                         usage ? ",\"stream_options\":{\"include_usage\":true}" : "",
                         whole + 1) > 0);
    o = ask_json(s, whole, 200);
    reply = http_ask(s->port, stream);
    t = take_stream(reply);
    assert_string_equal(t.text, text_of(o));
    assert_string_equal(
        t.finish,
        string_of(cJSON_GetArrayItem(cJSON_GetObjectItem(o, "choices"), 0), "finish_reason"));
    assert_true(t.done && t.timings && t.usage == usage);
    cJSON_Delete(o);
    free(whole);
    free(stream);
    free(reply);
}

static void test_answers(void **state)
{
    struct server s = serve(state, SERVED " --threads 1");

    check_places(&s);
    check_as_chat(state, &s);
    check_stream(&s, "", false);
    check_stream(&s, ",\"max_tokens\":3", true);
    check_stream(&s, ",\"temperature\":1,\"seed\":7,\"top_p\":0.9", true);
    check_stream(&s, ",\"stop\":[\" top\",\"never\"]", true);
    end_server(&s, 0);
}

static void test_caches(void **state)
{
    static const char *const kinds[] = {"f32", "bf16", "q8", "q8+q4"};

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        check_cache(state, kinds[i]);
}

/* A second turn is the first one's prompt, its answer and a question: whole parts of it are kept,
 * and change nothing. */
static void check_turns(void *const *state, const char *options)
{
    struct server s = serve(state, options);
    char words[1200] = "", *body;
    double kept[3];

    for (int i = 0; i < 160; i++)
        strcat(words, "square ");
    assert_true(asprintf(&body,
                         "{\"messages\":[{\"role\":\"system\",\"content\":\"%s\"},{\"role\":"
                         "\"user\",\"content\":[{\"type\":\"text\",\"text\":\"What \"},{\"type\":"
                         "\"text\",\"text\":\"now?\"}]},{\"role\":\"assistant\",\"content\":\"a "
                         "star\"},{\"role\":\"user\",\"content\":\"Where?\"}],\"temperature\":1,"
                         "\"seed\":3}",
                         words) > 0);
    char *first = NULL;
    for (int i = 0; i < 3; i++) {
        cJSON *o = ask_json(&s, body, 200);
        if (!first) first = strdup(text_of(o));
        assert_string_equal(text_of(o), first);
        kept[i] = number_of(o, "usage.prompt_tokens_details.cached_tokens");
        cJSON_Delete(o);
    }
    assert_true(kept[0] == 0 && kept[1] == 128 && kept[2] == 128);
    free(first);
    free(body);
    end_server(&s, 0);
}

static void test_turns(void **state)
{
    check_turns(state, SERVED " --threads 1 --parallel 1");
    check_turns(state, SERVED " --threads 1 --parallel 1 --cache q8+q4");
}

/* A question of so many words. */
static char *words(int n)
{
    char *text = malloc((size_t)n * 5 + 1), *body;

    assert_non_null(text);
    *text = '\0';
    for (int i = 0; i < n; i++)
        strcpy(text + i * 5, "left ");
    assert_true(asprintf(&body, "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}", text) >
                0);
    free(text);
    return body;
}

static char *error_of(const struct server *s, int n)
{
    char *body = words(n), *said;
    cJSON *o = ask_json(s, body, 400);

    assert_string_equal(string_of(cJSON_GetObjectItem(o, "error"), "code"),
                        "context_length_exceeded");
    said = strdup(string_of(cJSON_GetObjectItem(o, "error"), "message"));
    assert_non_null(said);
    cJSON_Delete(o);
    free(body);
    return said;
}

/* A prompt may have all positions but the one of the answer's first token, and
 * is counted as such. */
static void test_last_position(void **state)
{
    enum { MANY = 3000 };
    struct server s = serve(state, SERVED " --threads 1");
    char *said = error_of(&s, MANY), *body, want[100];
    long long tokens = 0, limit = 0;
    int most;
    cJSON *o;

    assert_int_equal(
        sscanf(said, "messages: %lld tokens, the model's limit is %lld", &tokens, &limit), 2);
    free(said);
    most = MANY - (int)(tokens - (limit - 1));
    body = words(most);
    o = ask_json(&s, body, 200);
    assert_true(number_of(o, "usage.prompt_tokens") == (double)(limit - 1));
    cJSON_Delete(o);
    free(body);
    said = error_of(&s, most + 1);
    snprintf(want, sizeof want, "messages: %lld tokens leave no room for an answer", limit);
    assert_memory_equal(said, want, strlen(want));
    free(said);
    end_server(&s, 0);
}

/* ---- together ---- */

enum { TOGETHER = 8 };

/* Answers that are drawn, of other lengths, about other pictures. */
static char *drawn(void *const *state, int i)
{
    char name[60], *url, *body;

    snprintf(name, sizeof name, "s/images/test-%06d.png", i);
    url = picture_url(state, name);
    assert_true(asprintf(&body,
                         "{\"messages\":" QUESTION ",\"temperature\":1.5,\"seed\":%d,"
                         "\"max_tokens\":%d}",
                         url, i, 20 + 9 * i) > 0);
    free(url);
    return body;
}

static void check_together(void *const *state, const char *options)
{
    struct server s = serve(state, options);
    char *alone[TOGETHER], *bodies[TOGETHER];
    int fd[TOGETHER];

    for (int i = 0; i < TOGETHER; i++) {
        bodies[i] = drawn(state, i);
        cJSON *o = ask_json(&s, bodies[i], 200);
        alone[i] = strdup(text_of(o));
        cJSON_Delete(o);
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < TOGETHER; i++)
            fd[i] = send_ask(&s, bodies[i]);
        for (int i = 0; i < TOGETHER; i++) {
            cJSON *o = receive_json(fd[i], 200);
            assert_string_equal(text_of(o), alone[i]);
            cJSON_Delete(o);
        }
    }
    for (int i = 0; i < TOGETHER; i++) {
        free(alone[i]);
        free(bodies[i]);
    }
    end_server(&s, 0);
}

static void test_together(void **state)
{
    check_together(state, SERVED " --threads 2");
    check_together(state, SERVED " --threads 2 --cache q8+q4");
}

/* ---- a queue, and clients that leave ---- */

/* A model whose tokens take some ms, and that goes on to its last position. */
#define MAKE_SLOW                                                                                  \
    "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]' --set baseline.steps=1 --set "  \
    "baseline.lr=0 --set baseline.hidden_size=512 --set baseline.layers=8 --set "                  \
    "baseline.intermediate_size=4096 --set baseline.heads=8 --set baseline.kv_heads=8 --set "      \
    "baseline.batch_size=1 --set baseline.max_length=8192 --set data.max_length=256"
#define LONG(n) "{\"messages\":[{\"role\":\"user\",\"content\":\"Go\"}],\"max_tokens\":" #n "}"
#define LONG_STREAM                                                                                \
    "{\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Go\"}],\"max_tokens\":8000}"

/* Sends a request and waits until it is worked at. */
static int send_and_see(struct server *s, const char *body)
{
    int fd = send_ask(s, body);

    sleep_ms(400);
    return fd;
}

static void check_busy(struct server *s)
{
    int running = send_and_see(s, LONG(600)), waiting = send_and_see(s, LONG(2));
    char *reply = http_ask(s->port, LONG(1));

    assert_int_equal(http_status(reply), 503);
    assert_non_null(strstr(reply, "\r\nRetry-After: "));
    assert_non_null(strstr(reply, "1 requests wait already"));
    free(reply);
    cJSON_Delete(receive_json(running, 200));
    cJSON_Delete(receive_json(waiting, 200));
}

/* How a client leaves. */
static void close_all(int fd)
{
    close(fd);
}

static void close_half(int fd)
{
    shutdown(fd, SHUT_WR);
}

static void close_with_a_byte(int fd)
{
    assert_true(http_send(fd, "x", 1));
    close(fd);
}

/* With one seat, the next answer comes soon only where the one before it was given up. */
static void check_left(struct server *s, const char *body, void (*leave)(int), const char *what)
{
    int fd = send_and_see(s, body);
    double begin;

    leave(fd);
    begin = clock_seconds();
    cJSON_Delete(ask_json(s, LONG(2), 200));
    if (clock_seconds() - begin > 10) fail_msg("%s: goes on without its client", what);
    if (leave == close_half) close(fd);
}

static char *long_prompt(void)
{
    enum { WORDS = 7000 };
    char *text = malloc(8 * WORDS), *body;

    assert_non_null(text);
    *text = '\0';
    for (int i = 0; i < WORDS; i++)
        strcat(text + 4 * i, "red ");
    assert_true(asprintf(&body, "{\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}", text) >
                0);
    free(text);
    return body;
}

/* A client that leaves the queue makes room in it. */
static void check_left_queue(struct server *s)
{
    int running = send_and_see(s, LONG(8000)), waiting = send_and_see(s, LONG(2));

    close(waiting);
    sleep_ms(400);
    waiting = send_and_see(s, LONG(2));
    close(running);
    cJSON_Delete(receive_json(waiting, 200));
}

/* A stream that waits for its turn longer than a client may be silent is not left by the server. */
static void check_silence(void *const *state)
{
    struct server s =
        serve(state, "$T/run/baseline/model --threads 1 --parallel 1 --queue 2 --idle 1");
    int running = send_and_see(&s, LONG(8000)), waiting;
    char *reply;

    waiting = send_and_see(
        &s,
        "{\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Go\"}],\"max_tokens\":2}");
    sleep_ms(3500);
    close(running);
    reply = http_rest(waiting);
    if (!strstr(reply, ": wait") || !strstr(reply, "[DONE]")) fail_msg("%s", reply);
    free(reply);
    close(waiting);
    end_server(&s, 0);
}

/* An answer whose cache would not fit is refused, others are not. */
static void check_memory(void *const *state, const char *options, const char *takes)
{
    char all[100];
    struct server s;
    cJSON *o;

    snprintf(all, sizeof all, "$T/run/baseline/model --threads 1 --memory-limit 0.5 %s", options);
    s = serve(state, all);
    o = ask_json(&s, LONG(8000), 500);
    assert_non_null(strstr(string_of(cJSON_GetObjectItem(o, "error"), "message"), takes));
    cJSON_Delete(o);
    cJSON_Delete(ask_json(&s, LONG(3), 200));
    end_server(&s, 0);
}

static void test_queue(void **state)
{
    must_run(state, MAKE_SLOW);
    struct server s = serve(state, "$T/run/baseline/model --threads 1 --parallel 1 --queue 1");
    char *prompt = long_prompt();

    check_busy(&s);
    check_left(&s, LONG(8000), close_all, "an answer");
    check_left(&s, LONG(8000), close_with_a_byte, "an answer with a byte behind it");
    check_left(&s, LONG_STREAM, close_all, "a stream");
    check_left(&s, LONG_STREAM, close_half, "a stream that is half closed");
    check_left(&s, prompt, close_all, "a prompt");
    check_left_queue(&s);
    free(prompt);
    end_server(&s, 0);
    must_run(state, "test $(grep -c 'left by its client' $T/err) = 7");
    check_silence(state);
    check_memory(state, "", "a KV cache of 8 x 8008 tokens takes 1.96 GiB, --memory-limit or ");
    /* 8 layers of 32 blocks of 34 bytes */
    check_memory(state, "--cache q8", "a KV cache of 8 x 8008 tokens takes 531.78 MiB, ");
}

/* ---- the end ---- */

static void wait_ended(struct server *s, int status)
{
    assert_int_equal(finish(s->pid), status);
}

/* What runs is finished, what waits is refused. */
static void check_finishes(void *const *state)
{
    struct server s = serve(state, "$T/run/baseline/model --threads 1 --parallel 1 --grace 600");
    int running = send_and_see(&s, LONG(200)), waiting = send_and_see(&s, LONG(2));
    cJSON *o;

    kill(s.pid, SIGTERM);
    cJSON_Delete(receive_json(waiting, 503));
    o = receive_json(running, 200);
    assert_true(number_of(o, "usage.completion_tokens") == 200);
    cJSON_Delete(o);
    wait_ended(&s, 0);
}

/* What takes longer than the grace time is given up. */
static void check_grace(void *const *state)
{
    struct server s = serve(state, "$T/run/baseline/model --threads 1 --grace 0.5");
    int running = send_and_see(&s, LONG(8000)), stream = send_and_see(&s, LONG_STREAM);
    const double begin = clock_seconds();
    char *events;

    kill(s.pid, SIGINT);
    cJSON_Delete(receive_json(running, 503));
    events = http_rest(stream);
    assert_non_null(strstr(events, "data: {\"error\":{\"message\":\"the server is about to end\""));
    assert_null(strstr(events, "[DONE]"));
    assert_true(clock_seconds() - begin < 60); /* all tokens would take minutes */
    free(events);
    close(stream);
    wait_ended(&s, 0);
}

static void check_second_signal(void *const *state)
{
    struct server s = serve(state, "$T/run/baseline/model --threads 1");
    int fd = send_and_see(&s, LONG(8000));

    kill(s.pid, SIGTERM);
    sleep_ms(1200);
    kill(s.pid, SIGTERM);
    wait_ended(&s, 128 + SIGTERM);
    close(fd);
}

static void test_end(void **state)
{
    must_run(state, MAKE_SLOW);
    check_finishes(state);
    check_grace(state);
    check_second_signal(state);
}

/* ---- the command line ---- */

static void test_bad_options(void **state)
{
    static const char *const rows[][2] = {
        {"", "MODEL_DIR is missing"},
        {"$T/none --port 0", "none"},
        {SERVED " b", "b: not understood"},
        {SERVED " --port 70000", "--port: a whole number from 0 to 65535"},
        {SERVED " --parallel 9", "--parallel: a whole number from 1 to 8"},
        {SERVED " --host 0.0.0.0", "--api-key-file is needed too"},
        {SERVED " --host 127.evil.invalid", "--api-key-file is needed too"},
        {SERVED " --host 127.0.0.1.evil.invalid", "--api-key-file is needed too"},
        {SERVED " --host [::1]", "written without brackets"},
        {SERVED " --host nowhere.invalid --api-key-file $T/key --port 0", "nowhere.invalid"},
        {SERVED " --api-key-file $T/none --port 0", "none"},
        {SERVED " --api-key-file $T/short --port 0", "a key is one line of 16 to 512"},
        {SERVED " --cors example.com", "--cors: an origin is needed"},
        {SERVED " --cors https://a.example/", "without a slash"},
        {SERVED " --cors https://", "--cors: an origin is needed"},
        {SERVED " --port 1 --port 2", "--port is given twice"},
        {SERVED " --cache q5", "--cache: \"q5\" is no kind of cache; there are f32, bf16"},
        {SERVED " --cache q5", "as in q8+q4 (rotated keys + latents) or q8+q4+rotate\n"},
        {SERVED " --cache ''", "--cache: \"\" is no kind of cache; there are f32, bf16"},
        {SERVED " --cache", "--cache: \"\" is no kind of cache; there are f32, bf16"},
        {SERVED " --port", "--port: a whole number from 0 to 65535 is needed, found \"\""},
        {SERVED " --host", "--host: its value is missing; see --help"},
        {SERVED " --template '' --port 0", "no chat template is named \"\"; there are "},
        {SERVED " --memory-limit 0.02 --port 0",
         ": lower max_tokens (--max-tokens) or --parallel, or raise --memory-limit\n"},
        {SERVED " --cache q4+exact", "--cache: \"q4+exact\" is for scoring only"},
        {SERVED " --cache kivi4k+kivi4v+exact", "is for scoring only"},
        {SERVED " --cache h2o:0.5", "--cache: \"h2o:0.5\" is for scoring only"},
        {SERVED " --cache q8 --cache q4", "--cache is given twice"},
        {SERVED " --cache q8+q4+rotate --port 0", "has latents that are rotated, and this model"},
        {SERVED " --template llama4 --port 0", "no chat template is named \"llama4\""},
    };

    if (!has_server()) skip();
    must_run(state, "echo 0123456789abcdef > $T/key; echo short > $T/short; chmod 600 $T/key");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char command[400];
        snprintf(command, sizeof command, "$B/mha2mla-serve %s", rows[i][0]);
        int rc = run(state, command);
        char *out = output(state), *line = strstr(out, "mha2mla-serve: error: ");
        if (rc != 1 || !line || !strstr(line, rows[i][1]) ||
            strchr(line, '\n') != line + strlen(line) - 1)
            fail_msg("%s: status %d, wanted '%s', got:\n%s", rows[i][0], rc, rows[i][1], out);
        free(out);
    }
    must_run(state, "$B/mha2mla-serve --version && $B/mha2mla-serve --help | grep -q api-key-file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        program_test(test_answers),       program_test(test_caches),      program_test(test_turns),
        program_test(test_last_position), program_test(test_together),    program_test(test_queue),
        program_test(test_end),           program_test(test_bad_options),
    };

    return cmocka_run_group_tests_name("serve", tests, NULL, NULL);
}
