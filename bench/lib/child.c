/* child.c - see child.h. */
#include "bench/lib/child.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

bool child_start(struct child *c, const char *name, const char *const *argv, struct err *e)
{
    int in[2], out[2];

    *c = (struct child){.name = name};
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
        return err_set(e, "%s: no pipe could be had", name);
    c->pid = fork();
    if (c->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* die with us */
        dup2(in[0], 0);
        dup2(out[1], 1);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    c->in = fdopen(in[1], "w");
    c->out = fdopen(out[0], "r");
    return (c->pid > 0 && c->in && c->out) || err_set(e, "%s: could not be started", name);
}

void child_end(struct child *c)
{
    if (c->in) fclose(c->in);
    if (c->out) fclose(c->out);
    if (c->pid > 0) waitpid(c->pid, NULL, 0);
    *c = (struct child){0};
}

/* Reads up to the line that begins with `word`; *rest gets what follows it. Facts are kept; other
 * lines (the trainer's log) are skipped. */
static bool wait_for(struct child *c, const char *word, char *rest, size_t size, struct err *e)
{
    char line[2048];
    size_t len = strlen(word);

    while (fgets(line, sizeof line, c->out)) {
        struct fact *f = &c->facts[c->n_facts];
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "error ", 6) == 0) return err_set(e, "%s: %s", c->name, line + 6);
        if (strncmp(line, word, len) == 0 && (line[len] == ' ' || !line[len])) {
            if (rest) snprintf(rest, size, "%s", line + len);
            return true;
        }
        if (c->n_facts < CHILD_FACTS && sscanf(line, "fact %31s %lf", f->name, &f->value) == 2)
            c->n_facts++;
    }
    return err_set(e, "%s: ended without an answer", c->name);
}

static bool say(struct child *c, const char *word, const char *what, struct err *e)
{
    fprintf(c->in, "%s %s\n", word, what);
    return fflush(c->in) == 0 || err_set(e, "%s: does not listen any more", c->name);
}

bool child_open(struct child *c, const char *work, struct err *e)
{
    c->n_facts = 0;
    return say(c, "open", work, e) && wait_for(c, "ready", NULL, 0, e);
}

bool child_step(struct child *c, int n, double *seconds, double *units, struct err *e)
{
    char text[128];

    snprintf(text, sizeof text, "%d", n);
    if (!say(c, "step", text, e) || !wait_for(c, "time", text, sizeof text, e)) return false;
    return sscanf(text, "%lf %lf", seconds, units) == 2 ||
           err_set(e, "%s: \"%s\" is no time", c->name, text);
}

bool child_close(struct child *c, struct err *e)
{
    return say(c, "close", "", e) && wait_for(c, "closed", NULL, 0, e);
}

const double *child_fact(const struct child *c, const char *name)
{
    for (int i = 0; i < c->n_facts; i++)
        if (strcmp(c->facts[i].name, name) == 0) return &c->facts[i].value;
    return NULL;
}
