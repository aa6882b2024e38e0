/* rope_freq.c - the frequencies of RoPE, with the kinds of scaling used by Llama and Qwen2
 * checkpoints, in the precision in which transformers computes them (modeling_rope_utils.py): fp32
 * throughout. Pair i turns by position * f_i, f_i = theta^(-2i/dh), which scaling changes to
 *     linear    f_i / factor
 *     dynamic   f_i with theta * (factor length / max - (factor - 1))^(dh / (dh - 2))
 *     llama3    f_i / factor for long wavelengths, f_i for short ones, interpolated in between
 *     yarn      the same by the number of turns, with a linear ramp over the pair index */
#include "model/forward.h"

#include <math.h>

/* theta^(2i/dh). torch converts the exponent to fp32, so it is fp32 here. */
static float power(int64_t i, int64_t dh, double theta)
{
    float exponent = (float)(2 * i) / (float)dh;

    return (float)pow((double)(float)theta, (double)exponent);
}

static void plain(float *f, int64_t dh, double theta)
{
    for (int64_t i = 0; i < dh / 2; i++)
        f[i] = 1.0f / power(i, dh, theta);
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

/* The index, as a real number, of the pair that makes `turns` turns within the original positions:
 * theta^(-2i/dh) original = 2 pi turns. */
static double yarn_pair(const struct text_config *c, double turns)
{
    double original = (double)c->rope_scaling.original_max_position_embeddings;

    return (double)c->head_dim * log(original / (turns * 2 * M_PI)) / (2 * log(c->rope_theta));
}

static double yarn_factor(const struct text_config *c)
{
    const struct rope_scaling *s = &c->rope_scaling;

    return s->factor > 0
               ? s->factor
               : (double)c->max_position_embeddings / (double)s->original_max_position_embeddings;
}

/* YaRN (arXiv 2309.00071, 3.2): pairs that make many turns within the original positions keep their
 * frequency, those that make few have it divided by the factor, with a ramp in between. */
static void yarn(const struct text_config *c, float *f)
{
    const struct rope_scaling *s = &c->rope_scaling;
    double low = yarn_pair(c, s->beta_fast > 0 ? s->beta_fast : 32);
    double high = yarn_pair(c, s->beta_slow > 0 ? s->beta_slow : 1);
    float factor = (float)yarn_factor(c);

    if (s->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    if (low < 0) low = 0;
    if (high > (double)(c->head_dim - 1)) high = (double)(c->head_dim - 1);
    if (low == high) high += 0.001; /* transformers' guard against a division by 0 */
    for (int64_t i = 0; i < c->head_dim / 2; i++) {
        float ramp = ((float)i - (float)low) / (float)(high - low), keep;
        float slow = 1.0f / (factor * power(i, c->head_dim, c->rope_theta));

        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        keep = 1 - ramp;
        f[i] = slow * (1 - keep) + f[i] * keep;
    }
}

/* The attention factor for `factor` times as many positions (3.4). */
static double yarn_scale(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

double model_rope_scale(const struct text_config *c)
{
    const struct rope_scaling *s = &c->rope_scaling;
    double factor;

    if (s->type != ROPE_YARN) return 1;
    if (s->attention_factor > 0) return s->attention_factor;
    factor = yarn_factor(c);
    if (s->mscale > 0 && s->mscale_all_dim > 0)
        return yarn_scale(factor, s->mscale) / yarn_scale(factor, s->mscale_all_dim);
    return yarn_scale(factor, 1);
}

void model_inv_freq(const struct text_config *c, int64_t length, float *inv_freq)
{
    const struct rope_scaling *s = &c->rope_scaling;
    int64_t dh = c->head_dim, most = c->max_position_embeddings;
    double theta = c->rope_theta;

    if (s->type == ROPE_DYNAMIC && length > most) /* NTK-aware: theta grows with the sequence */
        theta *= pow(s->factor * (double)length / (double)most - (s->factor - 1),
                     (double)dh / (double)(dh - 2));
    plain(inv_freq, dh, theta);
    if (s->type == ROPE_LINEAR)
        for (int64_t i = 0; i < dh / 2; i++)
            inv_freq[i] /= (float)s->factor;
    if (s->type == ROPE_LLAMA3) llama3(s, inv_freq, dh / 2);
    if (s->type == ROPE_YARN) yarn(c, inv_freq);
}
