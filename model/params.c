/* params.c - which parameters a model of given settings has: names, shapes, kinds. This is the one
 * place that knows Hugging Face's names for weights. */
#include "model/params.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct kv_method_info kv_methods[KV_METHODS] = {
    [KV_NONE] = {"none", false, false, false},
    [KV_JOINT] = {"joint", true, true, true},
    [KV_SPLIT] = {"split", true, true, false},
    [KV_ONLY_KEY] = {"only_key", true, false, false},
    [KV_ONLY_VALUE] = {"only_value", false, true, false},
};

const char *const param_kind_names[PARAM_KINDS] = {
    [PARAM_VISION] = "vision tower",
    [PARAM_PROJECTOR] = "projector",
    [PARAM_EMBED] = "embeddings",
    [PARAM_HEAD] = "lm_head",
    [PARAM_NORM] = "norms",
    [PARAM_MLP] = "mlp",
    [PARAM_Q] = "q_proj",
    [PARAM_Q_ROPE] = "q_proj (rope rows)",
    [PARAM_K] = "k_proj",
    [PARAM_V] = "v_proj",
    [PARAM_K_ROPE] = "k_r_proj",
    [PARAM_DOWN] = "down",
    [PARAM_UP_K] = "up_k",
    [PARAM_UP_V] = "up_v",
    [PARAM_O] = "o_proj",
};

/* Where transformers keeps the parts: before and since 4.52, in both with the tower's own prefix
 * and without it (5.x writes the latter); a model without its head; and models without pictures,
 * also as transformers reads them with one "model." too few or too many. */
const struct name_layout name_layouts[] = {
    {"language_model.model.", "language_model.lm_head.weight", "vision_tower.vision_model.",
     "multi_modal_projector."},
    {"language_model.model.", "language_model.lm_head.weight", "vision_tower.",
     "multi_modal_projector."},
    {"model.language_model.", "lm_head.weight", "model.vision_tower.vision_model.",
     "model.multi_modal_projector."},
    {"model.language_model.", "lm_head.weight", "model.vision_tower.",
     "model.multi_modal_projector."},
    {"language_model.", "lm_head.weight", "vision_tower.", "multi_modal_projector."},
    {"model.", "lm_head.weight", NULL, NULL},
    {"", "lm_head.weight", NULL, NULL},
    {"model.model.", "model.lm_head.weight", NULL, NULL},
    {NULL, NULL, NULL, NULL},
};

enum kv_method kv_method_find(const char *name)
{
    int i = 0;

    while (i < KV_METHODS && strcmp(kv_methods[i].name, name) != 0)
        i++;
    return (enum kv_method)i;
}

/* A parameter's place in the list, before its shape is known. */
static struct param *add(struct model *m, enum param_kind kind, const char *fmt, va_list ap)
{
    struct param *p = &m->params[m->n_params++];
    char name[512];

    CHECK(m->n_params <= m->cap_params);
    vsnprintf(name, sizeof name, fmt, ap);
    memset(p, 0, sizeof *p);
    p->name = strdup(name);
    if (!p->name) err_no_memory("a parameter's name");
    p->kind = kind;
    return p;
}

__attribute__((format(printf, 5, 6))) static struct param *
matrix(struct model *m, enum param_kind kind, int64_t rows, int64_t cols, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    struct param *p = add(m, kind, fmt, ap);
    va_end(ap);
    p->ndim = 2;
    p->dim[0] = rows;
    p->dim[1] = cols;
    p->t = tensor_leaf(DT_F32, rows, cols, NULL);
    return p;
}

__attribute__((format(printf, 4, 5))) static struct param *
vector(struct model *m, enum param_kind kind, int64_t n, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    struct param *p = add(m, kind, fmt, ap);
    va_end(ap);
    p->ndim = 1;
    p->dim[0] = n;
    p->t = tensor_leaf(DT_F32, 1, n, NULL);
    return p;
}

/* Narrows p to the rows [row0, row0 + rows) of the file's tensor (elements, for a vector). */
static struct param *part(struct param *p, int64_t row0, int64_t rows)
{
    p->row0 = row0;
    if (p->ndim == 1)
        p->t.cols = rows;
    else
        p->t.rows = rows;
    return p;
}

static void declare_query(struct model *m, struct attn *a, const char *prefix)
{
    const struct text_config *c = &m->cfg.text;
    int64_t H = c->num_attention_heads, d = c->hidden_size, all = H * c->head_dim;
    int64_t cut = m->state == ATTN_FULL ? all : H * m->rope_dim;

    for (int i = 0; i < 2 * (m->state == ATTN_FULL ? 1 : 2); i++) { /* weights, then biases */
        int k = m->state == ATTN_FULL ? 0 : i % 2;
        bool bias = i >= (m->state == ATTN_FULL ? 1 : 2);
        enum param_kind kind = m->state != ATTN_FULL && k == 0 ? PARAM_Q_ROPE : PARAM_Q;
        int64_t row0 = k ? cut : 0, rows = k ? all - cut : cut;
        if (!bias)
            a->q[k] = part(matrix(m, kind, all, d, "%sq_proj.weight", prefix), row0, rows);
        else if (c->qkv_bias)
            a->q_b[k] = part(vector(m, kind, all, "%sq_proj.bias", prefix), row0, rows);
    }
}

static void declare_set(struct model *m, struct kv_set *s, const char *prefix)
{
    const struct text_config *c = &m->cfg.text;
    const struct kv_method_info *method = &kv_methods[m->state == ATTN_MLA ? m->method : KV_NONE];
    int64_t G = c->num_key_value_heads, d = c->hidden_size, dc = c->head_dim - m->rope_dim;
    int64_t in_k = method->key ? m->latent : d, in_v = method->value ? m->latent : d;

    if (method->joint) {
        s->down[0] = s->down[1] = matrix(m, PARAM_DOWN, m->latent, d, "%sdown_kv.weight", prefix);
    } else {
        if (method->key)
            s->down[0] = matrix(m, PARAM_DOWN, m->latent, d, "%sdown_k.weight", prefix);
        if (method->value)
            s->down[1] = matrix(m, PARAM_DOWN, m->latent, d, "%sdown_v.weight", prefix);
    }
    s->up_k = matrix(m, PARAM_UP_K, G * dc, in_k, "%sup_k.weight", prefix);
    s->up_v = matrix(m, PARAM_UP_V, G * c->head_dim, in_v, "%sup_v.weight", prefix);
    if (!c->qkv_bias) return;
    s->up_k_b = vector(m, PARAM_UP_K, G * dc, "%sup_k.bias", prefix);
    s->up_v_b = vector(m, PARAM_UP_V, G * c->head_dim, "%sup_v.bias", prefix);
}

static void declare_attention(struct model *m, struct attn *a, const char *prefix)
{
    const struct text_config *c = &m->cfg.text;
    int64_t G = c->num_key_value_heads, d = c->hidden_size, dh = c->head_dim;
    char set[300];

    declare_query(m, a, prefix);
    if (m->state == ATTN_FULL) {
        a->k = matrix(m, PARAM_K, G * dh, d, "%sk_proj.weight", prefix);
        a->v = matrix(m, PARAM_V, G * dh, d, "%sv_proj.weight", prefix);
        if (c->qkv_bias) {
            a->k_b = vector(m, PARAM_K, G * dh, "%sk_proj.bias", prefix);
            a->v_b = vector(m, PARAM_V, G * dh, "%sv_proj.bias", prefix);
        }
    } else {
        a->k = matrix(m, PARAM_K_ROPE, G * m->rope_dim, d, "%sk_r_proj.weight", prefix);
        if (c->qkv_bias)
            a->k_b = vector(m, PARAM_K_ROPE, G * m->rope_dim, "%sk_r_proj.bias", prefix);
        if (model_sets(m) == 1) {
            snprintf(set, sizeof set, "%skv_proj.", prefix);
            declare_set(m, &a->set[TEXT], set);
        } else {
            for (int i = 0; i < MODALITIES; i++) {
                snprintf(set, sizeof set, "%skv_proj_%s.", prefix, i == TEXT ? "text" : "img");
                declare_set(m, &a->set[i], set);
            }
        }
    }
    a->o = matrix(m, PARAM_O, d, c->num_attention_heads * dh, "%so_proj.weight", prefix);
    if (c->o_bias) a->o_b = vector(m, PARAM_O, d, "%so_proj.bias", prefix);
}

static void declare_text(struct model *m)
{
    const struct text_config *c = &m->cfg.text;
    const char *text = m->layout->text;
    int64_t d = c->hidden_size, f = c->intermediate_size;

    m->embed = matrix(m, PARAM_EMBED, c->vocab_size, d, "%sembed_tokens.weight", text);
    for (int64_t i = 0; i < c->num_hidden_layers; i++) {
        struct layer *l = &m->layers[i];
        char prefix[256], attn[280];
        snprintf(prefix, sizeof prefix, "%slayers.%d.", text, (int)i);
        snprintf(attn, sizeof attn, "%sself_attn.", prefix);
        l->norm1 = vector(m, PARAM_NORM, d, "%sinput_layernorm.weight", prefix);
        declare_attention(m, &l->attn, attn);
        l->norm2 = vector(m, PARAM_NORM, d, "%spost_attention_layernorm.weight", prefix);
        l->gate = matrix(m, PARAM_MLP, f, d, "%smlp.gate_proj.weight", prefix);
        l->up = matrix(m, PARAM_MLP, f, d, "%smlp.up_proj.weight", prefix);
        l->down = matrix(m, PARAM_MLP, d, f, "%smlp.down_proj.weight", prefix);
        if (!c->mlp_bias) continue;
        l->gate_b = vector(m, PARAM_MLP, f, "%smlp.gate_proj.bias", prefix);
        l->up_b = vector(m, PARAM_MLP, f, "%smlp.up_proj.bias", prefix);
        l->down_b = vector(m, PARAM_MLP, d, "%smlp.down_proj.bias", prefix);
    }
    m->norm = vector(m, PARAM_NORM, d, "%snorm.weight", text);
    m->head = c->tie_word_embeddings
                  ? m->embed
                  : matrix(m, PARAM_HEAD, c->vocab_size, d, "%s", m->layout->head);
}

static void declare_vision_layer(struct model *m, struct vision_layer *l, const char *p)
{
    const struct vision_config *c = &m->cfg.vision;
    int64_t d = c->hidden_size, f = c->intermediate_size;
    const enum param_kind K = PARAM_VISION;
    struct {
        struct param **w, **b;
        int64_t out, in;
        const char *name;
    } rows[] = {{&l->k, &l->k_b, d, d, "self_attn.k_proj"},
                {&l->v, &l->v_b, d, d, "self_attn.v_proj"},
                {&l->q, &l->q_b, d, d, "self_attn.q_proj"},
                {&l->o, &l->o_b, d, d, "self_attn.out_proj"},
                {&l->norm1, &l->norm1_b, 0, d, "layer_norm1"},
                {&l->fc1, &l->fc1_b, f, d, "mlp.fc1"},
                {&l->fc2, &l->fc2_b, d, f, "mlp.fc2"},
                {&l->norm2, &l->norm2_b, 0, d, "layer_norm2"}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t out = rows[i].out;
        *rows[i].w = out ? matrix(m, K, out, rows[i].in, "%s%s.weight", p, rows[i].name)
                         : vector(m, K, rows[i].in, "%s%s.weight", p, rows[i].name);
        *rows[i].b = vector(m, K, out ? out : rows[i].in, "%s%s.bias", p, rows[i].name);
    }
}

static void declare_vision(struct model *m)
{
    const struct vision_config *c = &m->cfg.vision;
    const char *pre = m->layout->vision, *proj = m->layout->projector;
    int64_t d = c->hidden_size, text = m->cfg.text.hidden_size,
            side = c->image_size / c->patch_size;
    struct vision *v = &m->vision;

    v->class_embedding = vector(m, PARAM_VISION, d, "%sembeddings.class_embedding", pre);
    v->patch = matrix(m, PARAM_VISION, d, c->num_channels * c->patch_size * c->patch_size,
                      "%sembeddings.patch_embedding.weight", pre);
    v->patch->ndim = 4;
    v->patch->dim[1] = c->num_channels;
    v->patch->dim[2] = v->patch->dim[3] = c->patch_size;
    v->position =
        matrix(m, PARAM_VISION, side * side + 1, d, "%sembeddings.position_embedding.weight", pre);
    v->pre = vector(m, PARAM_VISION, d, "%spre_layrnorm.weight", pre);
    v->pre_b = vector(m, PARAM_VISION, d, "%spre_layrnorm.bias", pre);
    for (int64_t i = 0; i < c->num_hidden_layers; i++) {
        char prefix[256];
        snprintf(prefix, sizeof prefix, "%sencoder.layers.%d.", pre, (int)i);
        declare_vision_layer(m, &v->layers[i], prefix);
    }
    v->post = vector(m, PARAM_VISION, d, "%spost_layernorm.weight", pre);
    v->post_b = vector(m, PARAM_VISION, d, "%spost_layernorm.bias", pre);
    v->proj1 =
        matrix(m, PARAM_PROJECTOR, text, hf_feature_width(&m->cfg), "%slinear_1.weight", proj);
    v->proj2 = matrix(m, PARAM_PROJECTOR, text, text, "%slinear_2.weight", proj);
    if (!m->cfg.multimodal_projector_bias) return;
    v->proj1_b = vector(m, PARAM_PROJECTOR, text, "%slinear_1.bias", proj);
    v->proj2_b = vector(m, PARAM_PROJECTOR, text, "%slinear_2.bias", proj);
}

bool params_declare(struct model *m, struct err *e)
{
    int64_t L = m->cfg.text.num_hidden_layers,
            Lv = m->has_vision ? m->cfg.vision.num_hidden_layers : 0;

    m->cap_params = 32 + 28 * L + 16 * Lv;
    m->n_params = 0;
    m->params = mem_new((size_t)m->cap_params, sizeof *m->params, "the list of parameters", e);
    m->layers = mem_new((size_t)L, sizeof *m->layers, "the list of layers", e);
    m->vision.layers = mem_new((size_t)Lv, sizeof *m->vision.layers, "the tower's layers", e);
    if (!m->params || !m->layers || !m->vision.layers) return false;
    declare_text(m);
    if (m->has_vision) declare_vision(m);
    return true;
}

bool model_set_query_pairs(struct model *m, struct err *e)
{
    int64_t L = m->cfg.text.num_hidden_layers, H = m->cfg.text.num_attention_heads;
    int64_t G = m->cfg.text.num_key_value_heads, kept = m->rope_dim / 2;

    m->q_pairs = mem_new((size_t)(L * H * kept), sizeof *m->q_pairs, "the queries' RoPE pairs", e);
    if (!m->q_pairs) return false;
    for (int64_t l = 0; l < L; l++)
        for (int64_t h = 0; h < H; h++)
            memcpy(m->q_pairs + (l * H + h) * kept, m->pairs + (l * G + h / (H / G)) * kept,
                   (size_t)kept * sizeof *m->pairs);
    return true;
}

bool param_alloc(struct param *p, enum dtype dtype, struct err *e)
{
    p->own = mem_new((size_t)tensor_count(&p->t), dtype_size(dtype), p->name, e);
    if (!p->own) return false;
    p->t.data = p->own;
    p->t.dtype = dtype;
    return true;
}

bool param_own(struct param *p, struct err *e)
{
    struct tensor was = p->t;
    void *moved = p->own; /* in the file's dtype */

    if (p->own && p->t.dtype == DT_F32) return true;
    if (!param_alloc(p, DT_F32, e)) {
        p->own = moved;
        return false;
    }
    tensor_to_real(&was, 0, tensor_count(&was), p->own);
    free(moved);
    return true;
}

void params_free(struct param *params, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        free(params[i].name);
        free(params[i].own);
        free(params[i].t.grad);
    }
    free(params);
}

bool model_train(struct model *m, unsigned kinds, struct err *e)
{
    for (int64_t i = 0; i < m->n_params; i++) {
        struct param *p = &m->params[i];
        free(p->t.grad);
        p->t.grad = NULL;
        p->t.needs_grad = kinds >> p->kind & 1;
        if (!p->t.needs_grad) continue;
        if (!param_own(p, e)) return false;
        p->t.grad = mem_new((size_t)tensor_count(&p->t), sizeof(real), p->name, e);
        if (!p->t.grad) return false;
    }
    return true;
}

/* What one token adds to the cache in a layer: rotated key, unrotated key or its latent, value or
 * its latent. */
int64_t model_cache_values(const struct model *m)
{
    const struct text_config *c = &m->cfg.text;
    const struct kv_method_info *method = &kv_methods[m->state == ATTN_MLA ? m->method : KV_NONE];
    int64_t G = c->num_key_value_heads, dc = c->head_dim - m->rope_dim;
    int64_t key = method->key ? m->latent : G * dc;
    int64_t value = method->joint ? 0 : method->value ? m->latent : G * c->head_dim;

    return m->state == ATTN_FULL ? model_cache_values_full(m) : G * m->rope_dim + key + value;
}

int64_t model_cache_values_full(const struct model *m)
{
    return 2 * m->cfg.text.num_key_value_heads * m->cfg.text.head_dim;
}

int64_t model_image_tokens(const struct model *m)
{
    return hf_image_tokens(&m->cfg);
}
