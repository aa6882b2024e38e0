/* console.h - questions and answers: one, or a chat with commands. */
#ifndef CHAT_CONSOLE_H
#define CHAT_CONSOLE_H

#include "chat/options.h"

enum { TALKERS = 2 };
struct console {
    const struct options *o;
    struct talker *talkers; /* [n]: the model, and the one of --compare */
    int n;
    const char **images; /* [n_images] of the next question; owned copies */
    size_t n_images, cap_images;
    bool quit;
};

/* Answers -p, then is done. */
bool console_once(struct console *c, struct err *e);
/* Reads questions and commands from standard input until /quit or its end. */
bool console_chat(struct console *c, struct err *e);
void console_close(struct console *c);

#endif
