/* files.c - see files.h. */
#include "bench/lib/files.h"
#include "base/file.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool files_options(struct bench_files *f, const struct bench_option *known, int argc, char **argv,
                   struct err *e)
{
    for (int i = 1; i < argc; i++) {
        const struct bench_option *o = known;
        if (strcmp(argv[i], "--short") == 0) {
            f->brief = true;
            continue;
        }
        while (o->name && strcmp(o->name, argv[i]) != 0)
            o++;
        if (!o->name || i + 1 == argc)
            return err_set(e, "%s: unknown, or without a value (see %s)", argv[i], f->source);
        *o->text = argv[++i];
    }
    return true;
}

char *files_expand(const struct bench_files *f, const char *text, struct err *e)
{
    char *out = NULL;
    size_t size;
    FILE *fp = open_memstream(&out, &size);
    int part = -1; /* of {A|B}: 0 or 1 while inside */

    if (!fp) {
        err_set(e, "out of memory");
        return NULL;
    }
    for (; *text; text++) {
        bool json = *text == '{' && text[1] == '"';
        if (*text == '{' && !json)
            part = 0;
        else if (*text == '|' && part == 0)
            part = 1;
        else if (*text == '}' && part >= 0)
            part = -1;
        else if (part >= 0 && part != f->brief)
            continue;
        else if (*text == '@')
            fputs(f->work, fp);
        else if (*text == '$')
            fputs(f->programs, fp);
        else
            fputc(*text, fp);
    }
    fclose(fp);
    return out;
}

bool files_shell(const struct bench_files *f, const char *text, struct err *e)
{
    char *command = files_expand(f, text, e);
    bool ok = command && (system(command) == 0 || err_set(e, "failed: %s", command));

    free(command);
    return ok;
}

bool files_prepare(const struct bench_files *f, const struct preparation *p, int n, struct err *e)
{
    bool ok = file_mkdirs(f->work, e);

    for (int i = 0; ok && i < n; i++) {
        char *made = files_expand(f, p[i].made, e),
             *command = mem_printf(e, "%s >/dev/null", p[i].command);
        bool there;
        ok = made && command && file_there(made, &there, e);
        if (ok && !there) {
            fprintf(stderr, "making %s\n", made);
            ok = files_shell(f, command, e);
        }
        free(made);
        free(command);
    }
    return ok;
}
