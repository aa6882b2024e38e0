/* request_parts.h - what the files of request.h share. */
#ifndef SERVE_REQUEST_PARTS_H
#define SERVE_REQUEST_PARTS_H

#include "serve/request.h"

/* Takes the messages of a request as its conversation. */
bool request_messages(struct request *q, const cJSON *item, struct fault *f);

/* The machine is at fault, as f->why says; returns false. */
bool fault_of_machine(struct fault *f);

#endif
