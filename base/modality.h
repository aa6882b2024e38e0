/* modality.h - what a token stands for. Tokens of one modality come in runs: spans. */
#ifndef BASE_MODALITY_H
#define BASE_MODALITY_H

#include <stdint.h>

enum modality { TEXT, IMAGE, MODALITIES };

/* The rows [begin, end) of a token stream. */
struct span {
    int64_t begin, end;
    enum modality modality;
};

#endif
