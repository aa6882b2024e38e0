/* trie.c - finds many strings in a text at once, in time linear in the text: an automaton after
 * Aho and Corasick (1975). Text and strings are read back to front: a string that ends at some
 * point of the backward reading begins there in the text, so that each position gets the longest
 * string beginning there. Reading forward, a long string that fails late would have to be reread
 * from the next position. */
#include "base/mem.h"
#include "data/tokenizer/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

#define NODES_MAX ((size_t)4 << 20) /* 80 MB; real files have a few thousand tokens of 20 bytes */

/* The child of `node` for a byte, or -1. */
static int32_t trie_child(const struct trie *t, int32_t node, unsigned char byte)
{
    int32_t at = t->v[node].child;

    while (at >= 0 && t->v[at].byte != byte)
        at = t->v[at].sibling;
    return at;
}

static bool trie_node(struct trie *t, unsigned char byte, struct err *e)
{
    if (t->n == NODES_MAX)
        return err_set(e, "the added tokens have more than %zu bytes", NODES_MAX);
    if (!mem_grow(&t->v, &t->cap, t->n + 1, sizeof *t->v, e)) return false;
    t->v[t->n++] = (struct trie_node){-1, -1, 0, -1, byte};
    return true;
}

bool trie_add(struct trie *t, const char *s, size_t n, int32_t added, struct err *e)
{
    int32_t node = 0;

    if (t->n == 0 && !trie_node(t, 0, e)) return false;
    for (size_t i = n; i-- > 0;) {
        unsigned char byte = (unsigned char)s[i];
        int32_t next = trie_child(t, node, byte);

        if (next < 0) {
            if (!trie_node(t, byte, e)) return false;
            next = (int32_t)t->n - 1; /* under NODES_MAX */
            t->v[next].sibling = t->v[node].child;
            t->v[node].child = next;
        }
        node = next;
    }
    if (t->v[node].added >= 0)
        return err_set(e, "two added tokens are spelled \"%.*s\" (after normalisation)",
                       (int)(n < 80 ? n : 80), s);
    t->v[node].added = added;
    t->last[(unsigned char)s[n - 1]] = true;
    return true;
}

/* The node after one more byte: the longest suffix of what was read that begins a string. */
static int32_t trie_step(const struct trie *t, int32_t node, unsigned char byte)
{
    int32_t next;

    while ((next = trie_child(t, node, byte)) < 0 && node > 0)
        node = t->v[node].fail;
    return next < 0 ? 0 : next;
}

bool trie_finish(struct trie *t, struct err *e)
{
    int32_t *queue = mem_new(t->n, sizeof *queue, "added tokens", e);
    size_t end = 0;

    if (!queue) return false;
    if (t->n > 0) queue[end++] = 0;
    for (size_t i = 0; i < end; i++) { /* nearer to the root first: their `fail` is used below */
        int32_t node = queue[i];

        for (int32_t k = t->v[node].child; k >= 0; k = t->v[k].sibling) {
            struct trie_node *child = &t->v[k];

            child->fail = node > 0 ? trie_step(t, t->v[node].fail, child->byte) : 0;
            if (child->added < 0) child->added = t->v[child->fail].added;
            queue[end++] = k;
        }
    }
    free(queue);
    return true;
}

bool trie_find(const struct trie *t, const char *s, size_t n, struct hits *out, struct err *e)
{
    int32_t node = 0;

    out->n = 0;
    if (t->n == 0) return true;
    for (size_t i = n; i-- > 0;) {
        unsigned char byte = (unsigned char)s[i];

        if (node == 0 && !t->last[byte]) continue;
        node = trie_step(t, node, byte);
        if (t->v[node].added < 0) continue;
        if (!mem_grow(&out->v, &out->cap, out->n + 1, sizeof *out->v, e)) return false;
        out->v[out->n++] = (struct hit){(uint32_t)i, t->v[node].added}; /* texts are under 2^30 */
    }
    return true;
}
