/* main.c - mha2mla-serve: answers over HTTP, and the one place that reports an error. */
#include "autograd/team.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/signals.h"
#include "base/watch.h"
#include "serve/guard.h"
#include "serve/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the model is called: the last two parts of its path, as "stage2/model". */
static const char *name_of(const char *dir)
{
    const char *at = dir + strlen(dir);

    for (int parts = 0; at > dir; at--)
        if (at[-1] == '/' && at[0] && ++parts == 2) break;
    return at;
}

static void say_served(const char *model, const struct desk *desk)
{
    char cache[CACHE_KIND_TEXT];

    log_line("%s: is served, with a cache in %s", model,
             cache_kind_text(cache, &desk->talker.how_cached.kind));
}

/* Whoever started it reads where it listens from standard output. */
static bool say_where(const struct options *o, const struct http *h, struct err *e)
{
    const char *host = o->host ? o->host : "127.0.0.1";

    printf(strchr(host, ':') ? "http://[%s]:%d/\n" : "http://%s:%d/\n", host, h->port);
    return (fflush(stdout) == 0 && !ferror(stdout)) ||
           err_set(e, "standard output: cannot be written");
}

static bool run(const struct options *o, struct err *e)
{
    static struct desk desk;
    char *key = NULL;
    struct http h = {0};
    struct err changed;
    bool ok;

    signals_patience(o->grace);
    desk_open(&desk, o->queue);
    ok = signals_open(e) && (!o->key_file || guard_read_key(o->key_file, &key, e));
    const struct http_options how = {.host = o->host,
                                     .port = (int)o->port,
                                     .names = o->names,
                                     .n_names = o->n_names,
                                     .key = key,
                                     .cors = o->cors,
                                     .idle = o->idle};
    ok = ok && http_open(&h, &how, &desk, name_of(o->model), e) && say_where(o, &h, e) &&
         desk_load(&desk, o->model, &o->talker, e);
    if (ok) say_served(o->model, &desk);
    if (ok) desk_work(&desk);
    http_close(&h);
    desk_close(&desk);
    free(key);
    /* any failure may be due to a file that was changed meanwhile */
    return watch_check(&changed) ? ok : err_set(e, "%s", changed.msg);
}

int main(int argc, char **argv)
{
    struct options o = {0};
    struct err e = {0};
    bool ok = false;

    log_to_stderr();
    signals_no_resume();
    if (limits_stack(&e)) {
        team_wait_shortly(argv);
        ok = options_parse(&o, argc, argv, &e) && run(&o, &e);
    }
    options_free(&o);
    if (ok && signals_asked()) log_line("ended by %s", signals_name(signals_asked()));
    if (ok || !e.msg[0]) return 0;
    limits_name(&e);
    fprintf(stderr, "mha2mla-serve: error: %s\n", e.msg);
    return 1;
}
