/* http.h - the server's HTTP side, on libmicrohttpd: a thread for each connection, which checks a
 * request's headers, reads its body, puts a job on the desk and waits for it. The one file that
 * knows the library. */
#ifndef SERVE_HTTP_H
#define SERVE_HTTP_H

#include "serve/desk.h"

struct http_options {
    const char *host;         /* address or name to listen at; NULL: 127.0.0.1 */
    int port;                 /* 0: one that the system chooses */
    const char *const *names; /* [n_names] by which Host headers may call it, beside its own */
    size_t n_names;
    const char *key;  /* that requests must have; NULL: none is needed */
    const char *cors; /* the origin whose pages may read replies; NULL: no other's */
    unsigned idle;    /* seconds without a byte after which a client that sends a request is left */
};

struct http {
    const struct http_options *o;
    struct desk *desk;
    const char *model; /* its name in /v1/models */
    long long created;
    struct MHD_Daemon *daemon;
    int port;          /* that it listens at */
    atomic_int active; /* requests that are not answered to their end */
    atomic_llong held; /* bytes of bodies in memory */
};

/* Listens from then on. The pointers must outlive it. */
bool http_open(struct http *h, const struct http_options *o, struct desk *desk, const char *model,
               struct err *e);
/* Takes no more connections, waits until the replies in work are sent (some
 * seconds at most), ends. */
void http_close(struct http *h); /* fine on a zeroed struct */

#endif
