/* serve_run.h - a running mha2mla-serve for a test, and questions to it. Include after tmpdir.h. */
#ifndef TESTS_SERVE_RUN_H
#define TESTS_SERVE_RUN_H

#include "base/base64.h"
#include "tests/http_client.h"
#include "tests/program.h"

#include <cjson/cJSON.h>

#define SERVED "configs/quickstart/model"

struct server {
    pid_t pid;
    int port;
};

/* Where libmicrohttpd is missing, the server is not built. */
static inline bool has_server(void)
{
    char path[1200];

    snprintf(path, sizeof path, "%s/mha2mla-serve", build_dir());
    if (access(path, X_OK) == 0) return true;
    print_message("# skipped: mha2mla-serve is not built: libmicrohttpd is missing\n");
    return false;
}

/* Starts it at a port that the system chooses, and waits until it answers. T/url: what it printed;
 * T/err: its log. */
static inline struct server serve(void *const *state, const char *options)
{
    struct server s = {0};
    char command[1000];

    if (!has_server()) skip();
    must_run(state, "rm -f $T/url");
    snprintf(command, sizeof command, "exec $B/mha2mla-serve %s --port 0 > $T/url 2> $T/err",
             options);
    s.pid = start(*state, command);
    for (int i = 0; i < 1500; i++, sleep_ms(20)) {
        FILE *fp = fopen(tmpdir_path(state, "url"), "r");
        int found = fp ? fscanf(fp, "http://%*[^:]:%d/", &s.port) : 0;
        char *reply;
        bool ready;
        if (fp) fclose(fp);
        if (found != 1) continue;
        reply = http_talk(s.port, "GET", "/health", HTTP_HOST, NULL);
        ready = http_status(reply) == 200;
        if (!ready && !strstr(reply, "{\"error\":{\"message\":\"Loading model\",\"type\":"
                                     "\"unavailable_error\",\"param\":null,\"code\":503}}"))
            fail_msg("while it loads: %s", reply);
        free(reply);
        if (ready) return s;
    }
    fail_msg("no server: %s", slurp(tmpdir_path(state, "err"), NULL));
    return s;
}

static inline void end_server(struct server *s, int status)
{
    kill(s->pid, SIGTERM);
    assert_int_equal(finish(s->pid), status);
}

static inline const char *string_of(const cJSON *o, const char *key)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItem(o, key));

    if (!s) fail_msg("no %s", key);
    return s;
}

/* The number at a path such as "usage.total_tokens". */
static inline double number_of(const cJSON *o, const char *path)
{
    char part[60];

    for (const char *dot; o && (dot = strchr(path, '.')); path = dot + 1) {
        snprintf(part, sizeof part, "%.*s", (int)(dot - path), path);
        o = cJSON_GetObjectItem(o, part);
    }
    o = cJSON_GetObjectItem(o, path);
    if (!cJSON_IsNumber(o)) fail_msg("no number %s", path);
    return o->valuedouble;
}

/* Sends a question; the reply is to be read from the socket. */
static inline int send_ask(const struct server *s, const char *body)
{
    char *request = http_request("POST", "/v1/chat/completions", HTTP_HOST HTTP_JSON, body);
    int fd = http_connect(s->port);

    assert_true(http_send(fd, request, strlen(request)));
    free(request);
    return fd;
}

/* The JSON of a reply with that status. */
static inline cJSON *receive_json(int fd, int status)
{
    char *reply = http_rest(fd);
    cJSON *o;

    if (http_status(reply) != status) fail_msg("wanted %d: %s", status, reply);
    assert_non_null(strstr(reply, "\r\nContent-Type: application/json\r\n"));
    o = cJSON_Parse(http_body(reply));
    if (!o) fail_msg("no JSON: %s", reply);
    free(reply);
    close(fd);
    return o;
}

static inline cJSON *ask_json(const struct server *s, const char *body, int status)
{
    return receive_json(send_ask(s, body), status);
}

/* A picture of the test's directory as a data URL, in new memory. */
static inline char *picture_url(void *const *state, const char *name)
{
    size_t n;
    char *bytes = slurp(tmpdir_path(state, name), &n), *digits, *url;
    struct err e;

    digits = base64_encode((uint8_t *)bytes, n, &e);
    assert_non_null(digits);
    assert_true(asprintf(&url, "data:image/png;base64,%s", digits) > 0);
    free(bytes);
    free(digits);
    return url;
}

#endif
