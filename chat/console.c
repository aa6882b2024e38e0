/* console.c - see console.h. */
#include "chat/console.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plural.h"
#include "base/signals.h"
#include "chat/show.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- answers ---- */

static bool print_line(const char *text, struct err *e)
{
    printf("%s\n", text);
    return (fflush(stdout) == 0 && !ferror(stdout)) ||
           err_system(e, errno, "standard output: cannot be written");
}

/* One model's answer to its conversation. */
static bool answer_one(const struct console *c, struct talker *t, struct err *e)
{
    const bool json = c->o->json;
    struct answer a;
    char *object = NULL, *line = NULL;
    bool ok;

    if (!json && c->n > 1) printf("%s: ", t->dir);
    if (!answer_make(t, json ? NULL : stdout, &a, e)) return false;
    ok = !json || (object = show_json(&a, t->dir, e));
    ok = ok && print_line(json ? object : "", e) &&
         (line = show_line(&a, c->n > 1 ? t->dir : NULL, e));
    if (ok) log_line("%s%s", line, a.finish == FINISH_INTERRUPTED ? ", interrupted" : "");
    free(object);
    free(line);
    answer_free(&a);
    return ok;
}

/* All models answer a question about the pictures that were named for it; text NULL: the last one
 * again. After a failure no model's conversation has it. */
static bool ask(struct console *c, const char *text, struct err *e)
{
    struct talk_mark before[TALKERS];
    bool ok = true;

    for (int i = 0; i < c->n; i++)
        before[i] = talk_mark(&c->talkers[i].talk);
    for (int i = 0; ok && text && i < c->n; i++)
        ok = talk_ask(&c->talkers[i].talk, text, c->images, c->n_images, e);
    for (int i = 0; ok && i < c->n; i++)
        ok = answer_one(c, &c->talkers[i], e);
    for (int i = 0; !ok && i < c->n; i++)
        talk_back(&c->talkers[i].talk, before[i]);
    while (ok && text && c->n_images > 0)
        free((char *)(uintptr_t)c->images[--c->n_images]);
    return ok;
}

static bool add_image(struct console *c, const char *path, struct err *e)
{
    if (!mem_grow(&c->images, &c->cap_images, c->n_images + 1, sizeof *c->images, e)) return false;
    c->images[c->n_images] = mem_strdup(path, e);
    return c->images[c->n_images] && ++c->n_images;
}

enum { LINE_LIMIT = 64 << 20 }; /* bytes, as a sample may have */

/* Those of the command line. */
static bool first_images(struct console *c, struct err *e)
{
    for (size_t i = 0; i < c->o->n_images; i++)
        if (!add_image(c, c->o->images[i], e)) return false;
    return true;
}

bool console_once(struct console *c, struct err *e)
{
    const bool piped = strcmp(c->o->prompt, "-") == 0;
    char *text = NULL;
    size_t n;
    bool ok =
        first_images(c, e) && (!piped || file_read_stream("/dev/stdin", LINE_LIMIT, &text, &n, e));

    if (ok && piped && strlen(text) != n)
        ok = err_set(e, "standard input: has a zero byte at offset %zu", strlen(text));
    ok = ok && ask(c, piped ? text : c->o->prompt, e);
    free(text);
    return ok;
}

/* ---- commands ---- */

static bool do_image(struct console *c, const char *arg, struct err *e)
{
    struct image_info look;

    if (!*arg) return err_set(e, "/image: needs the path of a picture");
    return image_look(arg, &look, e) && add_image(c, arg, e);
}

static bool do_clear(struct console *c, const char *arg, struct err *e)
{
    bool ok = true;

    (void)arg;
    for (int i = 0; ok && i < c->n; i++)
        ok = talker_clear(&c->talkers[i], e);
    while (c->n_images > 0)
        free((char *)(uintptr_t)c->images[--c->n_images]);
    return ok;
}

static bool do_retry(struct console *c, const char *arg, struct err *e)
{
    (void)arg;
    for (int i = 0; i < c->n; i++)
        if (!talk_forget_answer(&c->talkers[i].talk))
            return err_set(e, "/retry: nothing has been answered");
    return ask(c, NULL, e);
}

static bool do_stats(struct console *c, const char *arg, struct err *e)
{
    (void)arg;
    (void)e;
    for (int i = 0; i < c->n; i++) {
        const struct talker *t = &c->talkers[i];
        const struct talk_mark said = talk_mark(&t->talk);
        const long long held = t->cache.length ? (long long)t->cache.length[0] : 0;
        const long long values = (long long)model_cache_values(&t->m);
        const long long full = (long long)model_cache_values_full(&t->m);
        log_line(
            "%s: %d turn%s, %d picture%s, %lld of %lld tokens cached; a token has %lld values in "
            "each of %lld layers, the original's %lld",
            t->dir, said.turns, plural(said.turns), said.images, plural(said.images), held,
            (long long)t->o.max_length, values, (long long)t->m.cfg.text.num_hidden_layers, full);
    }
    return true;
}

static bool do_save(struct console *c, const char *arg, struct err *e)
{
    if (!*arg) return err_set(e, "/save: needs the name of a new file");
    return talk_save(&c->talkers[0].talk, arg, e);
}

static bool do_help(struct console *c, const char *arg, struct err *e);

static bool do_quit(struct console *c, const char *arg, struct err *e)
{
    (void)arg;
    (void)e;
    return c->quit = true;
}

static const struct command {
    const char *name, *argument, *about;
    bool (*run)(struct console *c, const char *arg, struct err *e);
} commands[] = {
    {"/image", "PATH", "a picture for the next question; may be repeated", do_image},
    {"/clear", "", "begins a new conversation", do_clear},
    {"/retry", "", "answers the last question again", do_retry},
    {"/stats", "", "how long the conversation is, and what its cache holds", do_stats},
    {"/save", "FILE", "writes the conversation as LLaVA JSON, which training reads", do_save},
    {"/help", "", "shows this", do_help},
    {"/quit", "", "leaves; so does Ctrl-D", do_quit},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static bool do_help(struct console *c, const char *arg, struct err *e)
{
    (void)c;
    (void)arg;
    (void)e;
    for (int i = 0; i < COMMANDS; i++)
        log_line("%-7s %-5s %s", commands[i].name, commands[i].argument, commands[i].about);
    log_line("Ctrl-C ends an answer; at the prompt it leaves.");
    return true;
}

static bool obey(struct console *c, char *line, struct err *e)
{
    char *arg = line + strcspn(line, " ");
    const size_t n = (size_t)(arg - line);

    arg += strspn(arg, " ");
    for (int i = 0; i < COMMANDS; i++) {
        const struct command *k = &commands[i];
        if (strlen(k->name) != n || memcmp(k->name, line, n) != 0) continue;
        if (*arg && !*k->argument)
            return err_set(e, "%s: takes nothing, found %.60s", k->name, arg);
        return k->run(c, arg, e);
    }
    return err_set(e, "%.*s: no such command; /help lists them", (int)(n < 60 ? n : 60), line);
}

/* ---- the chat ---- */

/* What has come and is not taken yet. */
struct input {
    char *text; /* [n] */
    size_t n, cap;
    size_t seen; /* bytes in which there is no line break */
    bool ended;  /* no more comes, or a signal came */
};

static bool read_more(struct input *in, struct err *e)
{
    enum { PATIENCE = 100, BLOCK = 1 << 16 }; /* ms between two looks for a signal; bytes */
    struct pollfd from = {.fd = STDIN_FILENO, .events = POLLIN};
    ssize_t n;

    while (poll(&from, 1, PATIENCE) == 0 && !signals_came()) {
    }
    if (signals_came()) return in->ended = true;
    if (!mem_grow(&in->text, &in->cap, in->n + BLOCK, 1, e)) return false;
    n = read(STDIN_FILENO, in->text + in->n, BLOCK - 1);
    if (n < 0 && errno != EINTR) return err_system(e, errno, "standard input");
    in->ended = n == 0;
    in->n += n > 0 ? (size_t)n : 0;
    return true;
}

/* The next line is in->text[0 .. *n), without its end, of *taken bytes in all; none is left, or a
 * signal came: *taken is 0. */
static bool next_line(struct input *in, size_t *n, size_t *taken, struct err *e)
{
    char *end = NULL;

    if (isatty(STDIN_FILENO)) fputs("> ", stderr);
    while (!(end = in->n ? memchr(in->text + in->seen, '\n', in->n - in->seen) : NULL) &&
           !in->ended) {
        in->seen = in->n;
        if (in->n > LINE_LIMIT)
            return err_set(e, "standard input: a line has more than the %d bytes that are allowed",
                           LINE_LIMIT);
        if (!read_more(in, e)) return false;
    }
    *taken = end ? (size_t)(end - in->text) + 1 : signals_came() ? 0 : in->n;
    *n = end ? *taken - 1 : *taken;
    while (*n > 0 && in->text[*n - 1] == '\r')
        --*n;
    if (*taken) in->text[*n] = '\0'; /* read_more has left room */
    return true;
}

static bool take_line(struct console *c, char *line, size_t n, struct err *e)
{
    if (strlen(line) != n) return err_set(e, "a zero byte in a line");
    if (*line == '/') return obey(c, line, e);
    return !*line || ask(c, line, e);
}

/* A slip of somebody at a terminal is told and forgotten; so is an answer that a SIGINT ended
 * before its first token, wherever the questions come from. */
static bool forgive(struct err *e)
{
    if (e->machine || !(isatty(STDIN_FILENO) || signals_came() == SIGINT)) return false;
    log_line("%s", e->msg);
    return true;
}

bool console_chat(struct console *c, struct err *e)
{
    struct input in = {.text = NULL};
    size_t n = 0, taken = 1;
    bool ok = first_images(c, e);

    while (ok && !c->quit && (ok = next_line(&in, &n, &taken, e)) && taken) {
        ok = take_line(c, in.text, n, e) || forgive(e);
        if (signals_came() && signals_came() != SIGINT) break;
        signals_forget();
        in.n -= taken;
        memmove(in.text, in.text + taken, in.n);
        in.seen = 0;
    }
    free(in.text);
    return ok;
}

void console_close(struct console *c)
{
    while (c->n_images > 0)
        free((char *)(uintptr_t)c->images[--c->n_images]);
    free(c->images);
}
