/* main.c - mha2mla-chat: talks to a model, and the one place that reports an error. */
#include "autograd/team.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/signals.h"
#include "base/watch.h"
#include "chat/console.h"

#include <stdio.h>

static bool run(const struct options *o, struct err *e)
{
    struct talker talkers[TALKERS] = {0};
    struct console c = {.o = o, .talkers = talkers, .n = o->compare ? 2 : 1};
    struct err changed;
    bool ok = signals_open(e) && talker_open(&talkers[0], o->model, &o->talker, NULL, e) &&
              (!o->compare || talker_open(&talkers[1], o->compare, &o->talker, &talkers[0], e)) &&
              (o->prompt ? console_once(&c, e) : console_chat(&c, e));

    console_close(&c);
    for (int i = TALKERS - 1; i >= 0; i--) /* the first lends its tape */
        talker_close(&talkers[i]);
    /* any failure may be due to a file that was changed meanwhile */
    return watch_check(&changed) ? ok : err_set(e, "%s", changed.msg);
}

int main(int argc, char **argv)
{
    struct options o = {0};
    struct err e = {0};
    bool ok = false, parsed = false;

    log_to_stderr();
    signals_no_resume();
    if (limits_stack(&e)) {
        team_wait_shortly(argv);
        parsed = options_parse(&o, argc, argv, &e);
        ok = parsed && run(&o, &e);
    }
    options_free(&o);
    if (fflush(stdout) != 0 || ferror(stdout))
        if (ok || !e.msg[0]) ok = err_set(&e, "standard output: cannot be written");
    if (!ok && e.msg[0]) {
        limits_name(&e);
        fprintf(stderr, "mha2mla-chat: error: %s\n", e.msg);
        if (!signals_came()) return 1;
    }
    return signals_came() ? 128 + signals_came() : 0;
}
