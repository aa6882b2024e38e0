/* http_client.h - a plain HTTP client over a socket, for the tests of the server. Include after
 * cmocka's headers. */
#ifndef TESTS_HTTP_CLIENT_H
#define TESTS_HTTP_CLIENT_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* A socket that is connected; -1 if it is refused. */
static inline int http_connect_to(const char *address, int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    const struct timeval limit = {.tv_sec = 600}; /* for a server that hangs, not for a slow one */
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0 && inet_pton(AF_INET, address, &at.sin_addr) == 1);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) == 0) return fd;
    close(fd);
    return -1;
}

static inline int http_connect(int port)
{
    int fd = http_connect_to("127.0.0.1", port);

    assert_true(fd >= 0);
    return fd;
}

/* Sends all of it; false if the other end no longer reads. */
static inline bool http_send(int fd, const void *data, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = send(fd, (const char *)data + at, n - at, MSG_NOSIGNAL);
        if (k <= 0) return false;
        at += (size_t)k;
    }
    return true;
}

/* All that comes until the other end closes, terminated, in new memory. */
static inline char *http_rest(int fd)
{
    size_t n = 0, cap = 1 << 16;
    char *text = malloc(cap);
    ssize_t k;

    assert_non_null(text);
    while ((k = recv(fd, text + n, cap - n - 1, 0)) > 0) {
        n += (size_t)k;
        if (cap - n < 2) text = realloc(text, cap *= 2);
        assert_non_null(text);
    }
    text[n] = '\0';
    return text;
}

/* A request without a body or with one; headers: lines that end in \r\n. In new memory. */
static inline char *http_request(const char *method, const char *path, const char *headers,
                                 const char *body)
{
    char *text = NULL;
    int n = asprintf(&text, "%s %s HTTP/1.1\r\nConnection: close\r\n%s", method, path, headers);

    assert_true(n > 0);
    if (body) {
        char *all = NULL;
        assert_true(asprintf(&all, "%sContent-Length: %zu\r\n\r\n%s", text, strlen(body), body) >
                    0);
        free(text);
        return all;
    }
    text = realloc(text, (size_t)n + 3);
    assert_non_null(text);
    return strcat(text, "\r\n");
}

#define HTTP_HOST "Host: localhost\r\n"
#define HTTP_JSON "Content-Type: application/json\r\n"

/* The whole reply to one request, in new memory. */
static inline char *http_talk(int port, const char *method, const char *path, const char *headers,
                              const char *body)
{
    char *request = http_request(method, path, headers, body), *reply;
    int fd = http_connect(port);

    http_send(fd, request, strlen(request)); /* it may answer before all was sent */
    reply = http_rest(fd);
    close(fd);
    free(request);
    return reply;
}

static inline char *http_ask(int port, const char *body)
{
    return http_talk(port, "POST", "/v1/chat/completions", HTTP_HOST HTTP_JSON, body);
}

static inline int http_status(const char *reply)
{
    int status = 0;

    sscanf(reply, "HTTP/1.1 %d", &status);
    return status;
}

/* Takes the frames of a chunked body out, in place; false where the last one is missing. */
static inline bool http_unchunk(char *body)
{
    char *to = body;
    long n = 1;

    while (*body && (n = strtol(body, &body, 16)) > 0 && strncmp(body, "\r\n", 2) == 0 &&
           strlen(body + 2) >= (size_t)n + 2) {
        memmove(to, body + 2, (size_t)n);
        to += n;
        body += n + 4;
    }
    *to = '\0';
    return n == 0;
}

static inline const char *http_body(const char *reply)
{
    const char *at = strstr(reply, "\r\n\r\n");

    if (!at) fail_msg("no reply: '%s'", reply);
    return at + 4;
}

#endif
