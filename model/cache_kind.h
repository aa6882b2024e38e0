/* cache_kind.h - what a KV cache holds of a token, and how: by its name, as in "f32", "q8+q4" or
 * "q8+q4+rotate". */
#ifndef MODEL_CACHE_KIND_H
#define MODEL_CACHE_KIND_H

#include "autograd/row_form.h"
#include "model/evict.h"
#include "model/model.h"

/* Rotated keys (of the original: keys), unrotated keys or their latents, and values or their
 * latents: the rows of a cache, see kv_cache.c. */
enum cache_row { CACHE_ROPE, CACHE_KEY, CACHE_VALUE, CACHE_ROWS };
extern const char *const cache_row_names[CACHE_ROWS];

struct cache_kind {
    const struct row_form *form[CACHE_ROWS];
    bool rotate; /* latents are transformed before they are packed (cache_rotation.h) */
    /* A token attends to those given with it, and to itself, as they are before they are packed: as
     * in transformers, where so nothing of a prompt's answer is lost until its second token. To
     * compare with only. */
    bool exact;
    struct evict evict; /* of an original's, as reals; .rule NULL: every token stays */
};

/* A name is that of the form of all rows, or of the rotated keys and, behind a +, of the others;
 * each further + is followed by the name of an option. Or it is that of a rule of eviction. */
#define CACHE_KIND_KEPT                                                                            \
    "f32, bf16, q8, q4, q2, quanto2, hqq4 and hqq2, as in q8+q4 (rotated keys + latents) or "      \
    "q8+q4+rotate"
#define CACHE_KIND_NAMES                                                                           \
    CACHE_KIND_KEPT "; and for evaluate.caches alone q8+exact and the like, kivi4k+kivi4v+exact, " \
                    "kivi2k+kivi2v+exact, and of the original alone " EVICT_NAMES
enum { CACHE_KIND_TEXT = 64 };
bool cache_kind_read(struct cache_kind *k, const char *name, struct err *e);
/* The same of a cache that is kept between turns: the kinds that are for
 * scoring only are refused. */
bool cache_kind_read_kept(struct cache_kind *k, const char *name, struct err *e);
const char *cache_kind_text(char text[CACHE_KIND_TEXT], const struct cache_kind *k);
struct cache_kind cache_kind_f32(void);

/* Whether some of its newest rows wait to be packed: such a cache cannot be rewound. */
bool cache_kind_waits(const struct cache_kind *k);

/* Whether a model's caches can be of that kind; else *e says why not. */
bool cache_kind_suits(const struct cache_kind *k, const struct model *m, struct err *e);

/* Bytes that one token that is held takes in all layers. */
int64_t cache_kind_bytes(const struct cache_kind *k, const struct model *m);

#endif
