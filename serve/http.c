/* http.c - see http.h. */
#include "serve/http.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/units.h"
#include "serve/events.h"
#include "serve/guard.h"
#include "serve/page.h"
#include "serve/reply.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 32 };
enum { COMMENT = 10 };             /* seconds, at most, after which a silent stream has a comment */
enum { HELD = 8 * REQUEST_BYTES }; /* bytes of all bodies together */
enum { LOOK = 100, LAST_REPLIES = 5 * 1000 }; /* ms */

/* One request. */
struct exchange {
    struct http *h;
    struct MHD_Connection *connection;
    const struct route *route;
    char *body; /* [n] */
    size_t n, cap;
    struct job *job; /* NULL until the body is there */
    struct reply reply;
    struct events events;
    const char *allow; /* of 405: the method that a path takes */
    bool queued;       /* the job is on the desk */
    int status;
    double begin;
};

static const char *header(const struct exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

/* ---- sending ---- */

/* Headers that every reply has. */
static void add_headers(const struct exchange *x, struct MHD_Response *r)
{
    const char *origin = header(x, "Origin");

    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(r, "Cache-Control", "no-store");
    if (!x->h->o->cors) return;
    MHD_add_response_header(r, "Vary", "Origin");
    if (!origin || strcmp(origin, x->h->o->cors) != 0) return;
    MHD_add_response_header(r, "Access-Control-Allow-Origin", x->h->o->cors);
    MHD_add_response_header(r, "Access-Control-Allow-Headers", "Authorization, Content-Type");
    MHD_add_response_header(r, "Access-Control-Allow-Methods", "GET, POST");
}

static enum MHD_Result send_response(struct exchange *x, int status, struct MHD_Response *r)
{
    enum MHD_Result rc;

    if (!r) return MHD_NO;
    add_headers(x, r);
    x->status = status;
    rc = MHD_queue_response(x->connection, (unsigned)status, r);
    MHD_destroy_response(r);
    return rc;
}

/* A text, which is freed with the response. */
static struct MHD_Response *response_of(char *text, const char *type)
{
    struct MHD_Response *r =
        text ? MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE) : NULL;

    if (r) MHD_add_response_header(r, "Content-Type", type);
    return r;
}

static enum MHD_Result send_json(struct exchange *x, int status, char *text)
{
    return send_response(x, status, response_of(text, "application/json"));
}

static enum MHD_Result send_fault(struct exchange *x, const struct fault *f)
{
    struct err e;
    struct MHD_Response *r = response_of(reply_error(f, &e), "application/json");

    if (r && f->status == 503) MHD_add_response_header(r, "Retry-After", "5");
    if (r && f->status == 401) MHD_add_response_header(r, "WWW-Authenticate", "Bearer");
    if (r && f->status == 405) MHD_add_response_header(r, "Allow", x->allow);
    return send_response(x, f->status, r);
}

static enum MHD_Result refuse(struct exchange *x, int status, const char *why)
{
    struct fault f = {0};

    fault_set(&f, status, "", "%s", why);
    return send_fault(x, &f);
}

/* ---- what is asked for ---- */

static enum MHD_Result send_page(struct exchange *x)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(
        page_size, (void *)(uintptr_t)page_bytes, MHD_RESPMEM_PERSISTENT);

    if (!r) return MHD_NO;
    MHD_add_response_header(r, "Content-Type", "text/html; charset=utf-8");
    MHD_add_response_header(r, "X-Frame-Options", "DENY");
    MHD_add_response_header(r, "Content-Security-Policy",
                            "default-src 'none'; style-src 'unsafe-inline'; script-src "
                            "'unsafe-inline'; connect-src 'self'; img-src data: blob:; "
                            "base-uri 'none'; form-action 'none'");
    return send_response(x, 200, r);
}

static enum MHD_Result send_health(struct exchange *x)
{
    struct err e;

    return send_json(x, 200, mem_strdup("{\"status\":\"ok\"}\n", &e));
}

static enum MHD_Result send_models(struct exchange *x)
{
    char cache[CACHE_KIND_TEXT];
    struct err e;

    cache_kind_text(cache, &x->h->desk->talker.how_cached.kind);
    return send_json(x, 200, reply_models(x->h->model, cache, x->h->created, &e));
}

static enum MHD_Result begin_answer(struct exchange *x);

static const struct route {
    const char *path, *method;
    bool keyed, needs_model;
    enum MHD_Result (*send)(struct exchange *x);
} routes[] = {
    {"/", "GET", false, false, send_page},
    {"/health", "GET", false, true, send_health},
    {"/v1/models", "GET", true, true, send_models},
    {"/v1/chat/completions", "POST", true, true, begin_answer},
};
enum { ROUTES = sizeof routes / sizeof *routes };

/* ---- the answer ---- */

/* Whether the client has closed its end. */
static bool is_gone(struct exchange *x)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct pollfd at = {.fd = info ? info->connect_fd : -1, .events = POLLRDHUP};

    /* whether or not there are bytes before its end */
    return !info || (poll(&at, 1, 0) > 0 && at.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static void set_idle(struct exchange *x, unsigned seconds)
{
    MHD_set_connection_option(x->connection, MHD_CONNECTION_OPTION_TIMEOUT, seconds);
}

/* The whole answer at once. */
static enum MHD_Result send_answer(struct exchange *x)
{
    struct job *job = x->job;
    struct err e;

    set_idle(x, 0); /* waiting is no idleness of the client */
    while (!desk_wait(x->h->desk, job, SIZE_MAX, LOOK))
        if (is_gone(x)) return MHD_NO; /* the connection ends, and with it the job */
    set_idle(x, x->h->o->idle);
    if (job->fault.status) return send_fault(x, &job->fault);
    return send_json(x, 200, reply_answer(&x->reply, &job->answer, &e));
}

static ssize_t read_events(void *arg, uint64_t at, char *to, size_t most)
{
    struct exchange *x = arg;
    long n = 0;

    (void)at;
    while (n == 0) {
        if (x->events.stage != EVENTS_OVER && is_gone(x)) return MHD_CONTENT_READER_END_WITH_ERROR;
        n = events_read(&x->events, x->h->desk, x->job, to, most);
    }
    if (n > 0) return n;
    return n == EVENTS_ENDED ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
}

static enum MHD_Result send_events(struct exchange *x)
{
    enum { BLOCK = 16 << 10 };
    struct MHD_Response *r =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_events, x, NULL);
    double patience;

    if (!r) return MHD_NO;
    /* the library leaves a connection in which nothing is sent, as a silent client's */
    patience = x->h->o->idle / 3.0 < COMMENT ? x->h->o->idle / 3.0 : COMMENT;
    x->events = (struct events){.reply = &x->reply, .patience = patience, .last = clock_seconds()};
    MHD_add_response_header(r, "Content-Type", "text/event-stream");
    return send_response(x, 200, r);
}

static void free_body(struct exchange *x)
{
    atomic_fetch_sub(&x->h->held, (long long)x->n);
    free(x->body);
    x->body = NULL;
    x->n = 0;
}

/* The body is there. */
static enum MHD_Result begin_answer(struct exchange *x)
{
    struct desk *d = x->h->desk;
    struct err e;
    bool ok;

    x->job = mem_new(1, sizeof *x->job, "a request", &e);
    if (!x->job) return refuse(x, 500, e.msg);
    ok = desk_read(d, x->job, x->body ? x->body : "", x->n);
    free_body(x);
    if (!ok) return send_fault(x, &x->job->fault);
    reply_begin(&x->reply, x->job->request.model[0] ? x->job->request.model : x->h->model);
    x->queued = desk_put(d, x->job);
    if (!x->queued) return send_fault(x, &x->job->fault);
    return x->job->request.stream ? send_events(x) : send_answer(x);
}

/* ---- what a request must be ---- */

/* Another site's page asks whether it may. */
static enum MHD_Result send_preflight(struct exchange *x)
{
    return send_response(x, 204, MHD_create_response_from_buffer(0, "", MHD_RESPMEM_PERSISTENT));
}

/* The route of a path; NULL where the request is refused, which *rc says. */
static const struct route *find_route(struct exchange *x, const char *path, const char *method,
                                      enum MHD_Result *rc)
{
    struct fault f = {0};

    for (int i = 0; i < ROUTES; i++) {
        const struct route *r = &routes[i];
        if (strcmp(r->path, path) != 0) continue;
        if (strcmp(r->method, method) == 0) return r;
        if (strcmp(r->method, "GET") == 0 && strcmp(method, "HEAD") == 0) return r; /* no body */
        if (strcmp(method, "OPTIONS") == 0 && x->h->o->cors) return (*rc = send_preflight(x), NULL);
        fault_set(&f, 405, "", "%s takes %s", r->path, r->method);
        x->allow = r->method;
        return (*rc = send_fault(x, &f), NULL);
    }
    *rc =
        refuse(x, 404, "no such place: there are /, /health, /v1/models and /v1/chat/completions");
    return NULL;
}

static const char too_long[] = "the body has more than the 32 MiB that are read";
static const char too_much[] = "too much is being sent at the same time";

/* The headers of a request with a body. */
static bool check_body(struct exchange *x, enum MHD_Result *rc)
{
    const char *length = header(x, "Content-Length");

    if (!guard_json(header(x, "Content-Type")))
        return (*rc = refuse(x, 415, "Content-Type must be application/json"), false);
    if (length && strtoull(length, NULL, 10) > REQUEST_BYTES)
        return (*rc = refuse(x, 413, too_long), false);
    if (atomic_load(&x->h->held) > HELD) return (*rc = refuse(x, 503, too_much), false);
    return true;
}

/* Headers of which several, or one beside the other, may be read in two ways. */
struct framing {
    int hosts, lengths, codings;
};

static enum MHD_Result count_header(void *arg, enum MHD_ValueKind kind, const char *name,
                                    const char *value)
{
    struct framing *n = arg;

    (void)kind;
    (void)value;
    n->hosts += strcasecmp(name, "Host") == 0;
    n->lengths += strcasecmp(name, "Content-Length") == 0;
    n->codings += strcasecmp(name, "Transfer-Encoding") == 0;
    return MHD_YES;
}

static bool check_framing(struct exchange *x, enum MHD_Result *rc)
{
    struct framing n = {0};

    MHD_get_connection_values(x->connection, MHD_HEADER_KIND, count_header, &n);
    if (n.hosts <= 1 && n.lengths + n.codings <= 1) return true;
    *rc = refuse(x, 400,
                 n.hosts > 1 ? "more than one Host header"
                             : "a body has one Content-Length or one Transfer-Encoding");
    return false;
}

/* Looks at all but the body; false: the request is answered, as *rc says. */
static bool check_headers(struct exchange *x, const char *path, const char *method,
                          enum MHD_Result *rc)
{
    const struct http_options *o = x->h->o;

    if (!check_framing(x, rc)) return false;
    if (!guard_host(header(x, "Host"), o->names, o->n_names))
        return (*rc = refuse(x, 403, "the Host header names another server; --name allows a name"),
                false);
    x->route = find_route(x, path, method, rc);
    if (!x->route) return false;
    if (x->route->keyed && o->key && !guard_key(header(x, "Authorization"), o->key))
        return (*rc = refuse(x, 401, "a key is needed: Authorization: Bearer KEY"), false);
    if (x->route->needs_model && !atomic_load(&x->h->desk->loaded))
        return (*rc = refuse(x, 503, "Loading model"), false);
    return x->route->send != begin_answer || check_body(x, rc);
}

/* A body has become too long. The library can answer only at its end, so this writes the reply
 * itself, and the connection ends. */
static enum MHD_Result cut_short(struct exchange *x, int status, const char *why)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct fault f = {0};
    struct err e;
    char *body, *all;

    fault_set(&f, x->status = status, "", "%s", why);
    body = reply_error(&f, &e);
    all = body ? mem_printf(&e,
                            "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: "
                            "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                            status, status == 413 ? "Payload Too Large" : "Service Unavailable",
                            strlen(body), body)
               : NULL;
    if (all && info && send(info->connect_fd, all, strlen(all), MSG_NOSIGNAL) > 0)
        shutdown(info->connect_fd, SHUT_WR);
    free(body);
    free(all);
    return MHD_NO;
}

static enum MHD_Result add_body(struct exchange *x, const char *data, size_t *n)
{
    struct err e;

    if (x->n + *n > REQUEST_BYTES) return cut_short(x, 413, too_long);
    if (!mem_grow(&x->body, &x->cap, x->n + *n, 1, &e)) return MHD_NO;
    memcpy(x->body + x->n, data, *n);
    x->n += *n;
    if (atomic_fetch_add(&x->h->held, (long long)*n) > HELD - (long long)*n)
        return cut_short(x, 503, too_much); /* free_body takes it back */
    *n = 0;
    return MHD_YES;
}

/* ---- the library's calls ---- */

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data,
                                  size_t *n, void **own)
{
    struct exchange *x = *own;
    enum MHD_Result rc = MHD_YES;
    struct err e;

    (void)version;
    if (x && *n > 0) return add_body(x, data, n);
    if (x) return x->route->send(x);
    x = mem_new(1, sizeof *x, "a request", &e);
    if (!x) return MHD_NO;
    *own = x;
    *x = (struct exchange){.h = arg, .connection = connection, .begin = clock_seconds()};
    atomic_fetch_add(&x->h->active, 1);
    check_headers(x, path, method, &rc);
    return rc;
}

/* One line a request, which has nothing of what was said; left: its client did
 * not wait for the end. */
static void log_exchange(const struct exchange *x, bool left)
{
    const char *path = x->route ? x->route->path : "another request";
    const double seconds = clock_seconds() - x->begin;
    const struct answer *a = x->queued ? &x->job->answer : NULL;
    char held[UNIT_TEXT], original[UNIT_TEXT];

    if (left)
        log_line("%s: left by its client, %.1f s", path, seconds);
    else if (a && !x->job->fault.status)
        log_line(
            "%s: %d, %lld tokens in, %lld of them cached, %lld out, cache %s of %s, %s, %.1f s",
            path, x->status, (long long)a->prompt_tokens, (long long)a->kept_tokens,
            (long long)a->new_tokens, unit_bytes(held, (double)a->cache_bytes),
            unit_bytes(original, (double)a->original_bytes), a->cache_format, seconds);
    else
        log_line("%s: %d, %.1f s", path, a ? x->job->fault.status : x->status, seconds);
}

static void on_end(void *arg, struct MHD_Connection *connection, void **own,
                   enum MHD_RequestTerminationCode why)
{
    struct exchange *x = *own;
    const bool left =
        why != MHD_REQUEST_TERMINATED_COMPLETED_OK && why != MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN;

    (void)arg;
    (void)connection;
    if (!x) return;
    *own = NULL;
    if (x->queued) desk_drop(x->h->desk, x->job);
    log_exchange(x, x->queued && left);
    free_body(x);
    events_free(&x->events);
    if (x->job) job_free(x->job);
    free(x->job);
    atomic_fetch_sub(&x->h->active, 1);
    free(x);
}

/* Paths are compared as they are written: "/health%00" is no other name of one. */
static size_t keep_escapes(void *arg, struct MHD_Connection *connection, char *text)
{
    (void)arg;
    (void)connection;
    return strlen(text);
}

static void on_log(void *arg, const char *fmt, va_list ap)
{
    char text[256];

    (void)arg;
    vsnprintf(text, sizeof text, fmt, ap);
    text[strcspn(text, "\n")] = '\0';
    log_line("http: %s", text);
}

/* ---- listening ---- */

/* A socket that listens at an address; -1 on failure. */
static int listen_at(const char *host, int port, struct err *e)
{
    const struct addrinfo want = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *at;
    char service[16];
    int fd, one = 1, rc;

    snprintf(service, sizeof service, "%d", port);
    rc = getaddrinfo(host, service, &want, &at);
    if (rc != 0) {
        err_set(e, "--host %s: %s", host, gai_strerror(rc));
        return -1;
    }
    fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, at->ai_addr, at->ai_addrlen) != 0 || listen(fd, CONNECTIONS) != 0) {
        err_system(e, errno, "%s port %d: cannot be listened at; --port takes another", host, port);
        if (fd >= 0) close(fd);
        fd = -1;
    }
    freeaddrinfo(at);
    return fd;
}

static int port_of(int fd)
{
    struct sockaddr_storage at;
    socklen_t n = sizeof at;
    char service[16] = "0";

    if (getsockname(fd, (struct sockaddr *)&at, &n) != 0 ||
        getnameinfo((struct sockaddr *)&at, n, NULL, 0, service, sizeof service, NI_NUMERICSERV))
        return 0;
    return atoi(service);
}

bool http_open(struct http *h, const struct http_options *o, struct desk *desk, const char *model,
               struct err *e)
{
    const int fd = listen_at(o->host ? o->host : "127.0.0.1", o->port, e);

    *h = (struct http){.o = o, .desk = desk, .model = model, .created = time(NULL)};
    if (fd < 0) return false;
    h->port = port_of(fd);
    h->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION |
                                     MHD_USE_POLL | MHD_USE_ERROR_LOG,
                                 0, NULL, NULL, on_request, h, MHD_OPTION_EXTERNAL_LOGGER, on_log,
                                 NULL, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                                 (unsigned)CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, o->idle,
                                 MHD_OPTION_NOTIFY_COMPLETED, on_end, NULL,
                                 MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_END);
    if (h->daemon) return true;
    close(fd);
    return err_set(e, "the HTTP server cannot be started");
}

void http_close(struct http *h)
{
    const double begin = clock_seconds();
    int fd;

    if (!h->daemon) return;
    fd = MHD_quiesce_daemon(h->daemon);
    while (atomic_load(&h->active) > 0 && clock_seconds() - begin < LAST_REPLIES * 1e-3)
        usleep(10 * 1000);
    MHD_stop_daemon(h->daemon);
    if (fd >= 0) close(fd);
    h->daemon = NULL;
}
