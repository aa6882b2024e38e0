/* options.h - the command line of mha2mla-serve. */
#ifndef SERVE_OPTIONS_H
#define SERVE_OPTIONS_H

#include "serve/http.h"

struct options {
    const char *model, *host, *key_file, *cors;
    const char **names; /* [n_names], an owned list */
    size_t n_names;
    int64_t port, queue;
    unsigned idle; /* seconds */
    double grace;  /* seconds */
    struct talker_options talker;
};

/* Returns false with *e empty if the program is already done (--help and the like). options_free is
 * to follow in any case. */
bool options_parse(struct options *o, int argc, char **argv, struct err *e);
void options_free(struct options *o);

#endif
