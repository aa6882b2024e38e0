/* rope_freq.c - the frequencies of RoPE with the kinds of scaling that Llama checkpoints use, in
 * the precision in which transformers computes them (modeling_rope_utils.py): fp32 throughout. */
#include "model/forward.h"

#include <math.h>

/* theta^(-2i/dh). torch raises a python float to an fp32 tensor: the exponent is fp32. */
static void plain(float *f, int64_t dh, double theta)
{
    for (int64_t i = 0; i < dh / 2; i++) {
        float exponent = (float)(2 * i) / (float)dh;
        f[i] = 1.0f / (float)pow((double)(float)theta, (double)exponent);
    }
}

static void llama3(const struct rope_scaling *s, float *f, int64_t pairs)
{
    double original = (double)s->original_max_position_embeddings;
    double low = original / s->low_freq_factor, high = original / s->high_freq_factor;

    for (int64_t i = 0; i < pairs; i++) {
        double wave = 2 * M_PI / (double)f[i];
        double smooth =
            (original / wave - s->low_freq_factor) / (s->high_freq_factor - s->low_freq_factor);
        if (wave > low)
            f[i] = (float)((double)f[i] / s->factor);
        else if (wave >= high)
            f[i] = (float)((1 - smooth) * (double)f[i] / s->factor + smooth * (double)f[i]);
    }
}

double model_inv_freq(const struct text_config *c, int64_t length, float *inv_freq)
{
    const struct rope_scaling *s = &c->rope_scaling;
    int64_t dh = c->head_dim, most = c->max_position_embeddings;
    double theta = c->rope_theta;

    if (s->type == ROPE_DYNAMIC && length > most) /* NTK-aware: the base grows with the sequence */
        theta *= pow(s->factor * (double)length / (double)most - (s->factor - 1),
                     (double)dh / (double)(dh - 2));
    plain(inv_freq, dh, theta);
    if (s->type == ROPE_LINEAR)
        for (int64_t i = 0; i < dh / 2; i++)
            inv_freq[i] /= (float)s->factor;
    if (s->type == ROPE_LLAMA3) llama3(s, inv_freq, dh / 2);
    return 1;
}
