/* rng.h - random numbers that are the same on every machine: xoshiro256** seeded by splitmix64
 * (Blackman and Vigna, 2018). The state is plain data, so a checkpoint can copy it. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t s[4];
};

/* Streams with different `stream` numbers under one seed are independent of each other. */
void rng_seed(struct rng *r, uint64_t seed, uint64_t stream);
uint64_t rng_u64(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n); /* uniform in 0..n-1 without bias; n > 0 */
double rng_uniform(struct rng *r);             /* [0, 1), 53 bits */
double rng_normal(struct rng *r);              /* mean 0, variance 1 (Box-Muller, no state kept) */

/* The i-th number of stream `key` (splitmix64), without drawing those before it: for work divided
 * among threads. A number serves as the key of another stream: rng_at(rng_at(seed, step),
 * tensor). */
static inline uint64_t rng_at(uint64_t key, uint64_t i)
{
    uint64_t z = key + (i + 1) * 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A uniformly random permutation of 0..n-1 (Fisher-Yates). */
void rng_permutation(struct rng *r, int64_t *p, int64_t n);

#endif
