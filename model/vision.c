/* vision.c - the CLIP vision tower up to the last layer that LLaVA reads; where it reads several,
 * their outputs lie side by side. Attention is full within each picture; pictures lie one behind
 * the other. */
#include "model/forward.h"

#include <math.h>

static struct tensor *of(struct param *p)
{
    return p ? &p->t : NULL;
}

static struct tensor *vision_layer(struct model *m, struct tape *t, struct vision_layer *l,
                                   struct tensor *x, const struct attention_sample *samples,
                                   int64_t n)
{
    const struct vision_config *c = &m->cfg.vision;
    int64_t H = c->num_attention_heads, dh = c->hidden_size / H;
    struct tensor *h = op_layernorm(t, x, of(l->norm1), of(l->norm1_b), c->layer_norm_eps);
    struct attention a = {.part[0] = {.q = op_linear(t, h, of(l->q), of(l->q_b), NULL),
                                      .k = op_linear(t, h, of(l->k), of(l->k_b), NULL),
                                      .width = dh},
                          .parts = 1,
                          .v = op_linear(t, h, of(l->v), of(l->v_b), NULL),
                          .heads = H,
                          .groups = H,
                          .v_width = dh,
                          .samples = samples,
                          .n_samples = n,
                          .scale = 1 / sqrt((double)dh)};

    x = op_linear(t, op_attention(t, &a), of(l->o), of(l->o_b), x);
    h = op_layernorm(t, x, of(l->norm2), of(l->norm2_b), c->layer_norm_eps);
    h = op_activation(t, op_linear(t, h, of(l->fc1), of(l->fc1_b), NULL), c->hidden_act);
    return op_linear(t, h, of(l->fc2), of(l->fc2_b), x);
}

/* A layer's output without the class tokens, unless they are wanted. */
static struct tensor *features_of(struct model *m, struct tape *t, struct tensor *x, int64_t n,
                                  int64_t patches)
{
    int64_t rows = patches + 1;
    int32_t *index;

    if (m->cfg.vision_feature_full) return x;
    index = tape_new_array(t, int32_t, n * patches);
    for (int64_t i = 0; i < n * patches; i++)
        index[i] = (int32_t)(i / patches * rows + 1 + i % patches);
    return op_select_rows(t, x, NULL, index, n * patches);
}

struct tensor *model_vision(struct model *m, struct tape *t, struct tensor *pixels)
{
    const struct vision_config *c = &m->cfg.vision;
    struct vision *v = &m->vision;
    int64_t n = pixels->rows, side = c->image_size / c->patch_size, P = side * side, rows = P + 1;
    int64_t layers = hf_vision_layers(&m->cfg);
    int32_t *with_class = tape_new_array(t, int32_t, n * rows);
    struct attention_sample *samples = tape_new_array(t, struct attention_sample, n);
    struct tensor **state = tape_new_array(t, struct tensor *, layers + 1), *all = NULL;
    struct tensor *x = op_patch_embed(t, pixels, of(v->patch), NULL, c->num_channels, c->image_size,
                                      c->patch_size);

    for (int64_t i = 0; i < n; i++) {
        samples[i] = (struct attention_sample){i * rows, (i + 1) * rows, i * rows, (i + 1) * rows};
        with_class[i * rows] = -1;
        for (int64_t j = 0; j < P; j++)
            with_class[i * rows + 1 + j] = (int32_t)(i * P + j);
    }
    x = op_select_rows(t, x, of(v->class_embedding), with_class, n * rows);
    x = op_layernorm(t, op_add(t, x, of(v->position)), of(v->pre), of(v->pre_b), c->layer_norm_eps);
    state[0] = x;
    for (int64_t i = 0; i < layers; i++)
        state[i + 1] = vision_layer(m, t, &v->layers[i], state[i], samples, n);
    for (int i = 0; i < m->cfg.feature_count; i++) {
        x = features_of(m, t, state[hf_feature_layer(&m->cfg, i)], n, P);
        all = all ? op_join(t, all, x) : x;
    }
    return all;
}
