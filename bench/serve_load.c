/* serve_load.c - mha2mla-serve under load: clients that ask about pictures one
 * question after the other,
 *     build/bench/serve_load MODEL_DIR REQUESTS PICTURE.png...
 * once one client, then eight; for each the tokens a second, how long answers take, and the
 * server's memory after a tenth of the requests and at the end. Fails where a request fails, or
 * where the memory has grown by more than a tenth. */
#include "base/base64.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "bench/lib/measure.h"

#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <netinet/in.h>
#include <omp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CLIENTS = 8, REPLY = 1 << 16 };

struct load {
    pid_t pid;
    int port;
    char **bodies; /* [n_bodies] requests, in turn */
    int n_bodies, requests;
    double *seconds; /* [requests] that each took */
    long tokens, errors;
    double early, late; /* MiB of the server */
};

/* ---- the server ---- */

static bool start_server(struct load *l, const char *model, struct err *e)
{
    char path[1024];
    int from[2];
    FILE *out;
    bool found;

    snprintf(path, sizeof path, "%s/mha2mla-serve", getenv("BUILD") ? getenv("BUILD") : "build");
    if (pipe(from) != 0) return err_set(e, "no pipe can be made");
    l->pid = fork();
    if (l->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(from[1], STDOUT_FILENO);
        if (!freopen("/dev/null", "w", stderr)) _exit(127);
        execl(path, path, model, "--port", "0", (char *)NULL);
        _exit(127);
    }
    close(from[1]);
    out = fdopen(from[0], "r");
    found = out && fscanf(out, "http://127.0.0.1:%d/", &l->port) == 1;
    if (out) fclose(out);
    return found || err_set(e, "%s does not start with %s", path, model);
}

static double server_mib(const struct load *l)
{
    char path[64], line[256];
    double kib = 0;
    FILE *fp;

    snprintf(path, sizeof path, "/proc/%d/status", (int)l->pid);
    fp = fopen(path, "r");
    while (fp && fgets(line, sizeof line, fp))
        if (sscanf(line, "RssAnon: %lf", &kib) == 1) break;
    if (fp) fclose(fp);
    return kib / 1024;
}

/* ---- requests ---- */

/* The body of the reply to one request, in text[REPLY]; NULL if none came. */
static const char *talk(int port, const char *request, char *text)
{
    const struct sockaddr_in at = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const size_t all = strlen(request);
    size_t n = 0, sent = 0;
    ssize_t k = connect(fd, (const struct sockaddr *)&at, sizeof at) == 0;

    while (k > 0 && sent < all) {
        k = send(fd, request + sent, all - sent, MSG_NOSIGNAL);
        sent += k > 0 ? (size_t)k : 0;
    }
    while (k > 0 && n < REPLY - 1 && (k = recv(fd, text + n, REPLY - 1 - n, 0)) > 0)
        n += (size_t)k;
    text[n] = '\0';
    close(fd);
    text = strstr(text, "\r\n\r\n");
    return text ? text + 4 : NULL;
}

/* How many tokens the answer has; below 0: there is none. */
static long ask(const struct load *l, int i)
{
    char *text = malloc(REPLY);
    const char *body = text ? talk(l->port, l->bodies[i % l->n_bodies], text) : NULL;
    cJSON *o = body ? cJSON_Parse(body) : NULL;
    const cJSON *n = cJSON_GetObjectItem(cJSON_GetObjectItem(o, "usage"), "completion_tokens");
    const long tokens = cJSON_IsNumber(n) ? (long)n->valuedouble : -1;

    cJSON_Delete(o);
    free(text);
    return tokens;
}

static void await_model(const struct load *l)
{
    for (int i = 0; i < 6000 && ask(l, 0) < 0; i++)
        usleep(100 * 1000);
}

/* All requests by so many clients; the seconds that it took. */
static double run(struct load *l, int clients)
{
    const double begin = clock_seconds();
    long tokens = 0, errors = 0;

#pragma omp parallel for schedule(dynamic, 1) num_threads(clients) reduction(+ : tokens, errors)
    for (int i = 0; i < l->requests; i++) {
        const double asked = clock_seconds();
        const long n = ask(l, i);
        l->seconds[i] = clock_seconds() - asked;
        tokens += n > 0 ? n : 0;
        errors += n < 0;
        if (i == l->requests / 10) l->early = server_mib(l);
    }
    l->late = server_mib(l);
    l->tokens = tokens;
    l->errors = errors;
    return clock_seconds() - begin;
}

/* A question about a picture, as a request. */
static char *request_of(const char *picture, struct err *e)
{
    char *bytes, *digits, *body = NULL, *all = NULL;
    size_t n;

    if (!file_read(picture, 8 << 20, &bytes, &n, e)) return NULL;
    digits = base64_encode((uint8_t *)bytes, n, e);
    if (digits)
        body = mem_printf(e,
                          "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
                          "\"image_url\":{\"url\":\"data:image/png;base64,%s\"}},{\"type\":"
                          "\"text\",\"text\":\"What does the picture show?\"}]}]}",
                          digits);
    if (body)
        all = mem_printf(e,
                         "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: "
                         "close\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                         strlen(body), body);
    free(bytes);
    free(digits);
    free(body);
    return all;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static bool measure(struct load *l, int clients, struct err *e)
{
    const double seconds = run(l, clients);
    double *v = l->seconds;

    qsort(v, (size_t)l->requests, sizeof *v, compare);
    printf(
        "%d client%s: %d requests, %ld errors, %ld tokens in %.1f s: %.0f tokens/s; an answer "
        "takes %.3f s (median), %.3f s (95 %%); memory %.1f MiB after a tenth, %.1f at the end\n",
        clients, clients > 1 ? "s" : "", l->requests, l->errors, l->tokens, seconds,
        (double)l->tokens / seconds, v[l->requests / 2], v[l->requests * 95 / 100], l->early,
        l->late);
    fflush(stdout);
    if (l->errors) return err_set(e, "%ld requests have failed", l->errors);
    return l->late <= 1.1 * l->early ||
           err_set(e, "the server's memory has grown from %.1f to %.1f MiB", l->early, l->late);
}

static bool open_load(struct load *l, char **argv, int argc, struct err *e)
{
    l->requests = atoi(argv[2]);
    l->n_bodies = argc - 3;
    if (l->requests < 10) return err_set(e, "REQUESTS: at least 10 are needed");
    l->bodies = mem_new((size_t)l->n_bodies, sizeof *l->bodies, "requests", e);
    l->seconds = mem_new((size_t)l->requests, sizeof *l->seconds, "requests", e);
    if (!l->bodies || !l->seconds) return false;
    for (int i = 0; i < l->n_bodies; i++)
        if (!(l->bodies[i] = request_of(argv[3 + i], e))) return false;
    return start_server(l, argv[1], e);
}

int main(int argc, char **argv)
{
    struct load l = {0};
    struct err e = {0};
    bool ok;

    if (argc < 4) {
        fprintf(stderr, "usage: serve_load MODEL_DIR REQUESTS PICTURE.png...\n");
        return 1;
    }
    ok = open_load(&l, argv, argc, &e);
    if (ok) await_model(&l);
    ok = ok && measure(&l, 1, &e) && measure(&l, CLIENTS, &e);
    if (l.pid > 0) {
        kill(l.pid, SIGTERM);
        waitpid(l.pid, NULL, 0);
    }
    for (int i = 0; l.bodies && i < l.n_bodies; i++)
        free(l.bodies[i]);
    free(l.bodies);
    free(l.seconds);
    if (!ok) fprintf(stderr, "serve_load: error: %s\n", e.msg);
    return !ok;
}
