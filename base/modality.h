/* modality.h - whether a token is text or stands for part of an image. Tokens of one modality come
 * in runs: spans. */
#ifndef BASE_MODALITY_H
#define BASE_MODALITY_H

#include <stdint.h>

enum modality { TEXT, IMAGE, MODALITIES };

/* The kind of a token: text; a row filled by a picture, whose embedding comes from the vision
 * tower; or a token next to pictures (<|vision_start|>), embedded as text but of modality IMAGE. */
enum token_kind { TOKEN_TEXT = TEXT, TOKEN_PLACE = IMAGE, TOKEN_AROUND };

/* The rows [begin, end) of a token stream. */
struct span {
    int64_t begin, end;
    enum modality modality;
};

#endif
