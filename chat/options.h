/* options.h - the command line of mha2mla-chat. */
#ifndef CHAT_OPTIONS_H
#define CHAT_OPTIONS_H

#include "talk/talker.h"

struct options {
    const char *model, *compare, *prompt;
    const char **images, **stops; /* owned lists */
    size_t n_images, n_stops;
    bool json;
    struct talker_options talker;
};

/* Returns false with *e empty if the program is already done (--help and the like). options_free is
 * to follow in any case. */
bool options_parse(struct options *o, int argc, char **argv, struct err *e);
void options_free(struct options *o);

#endif
