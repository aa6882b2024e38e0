/* params.c - which parameters a model of given settings has: names, shapes, kinds. This is the one
 * place that knows Hugging Face's names for a decoder's weights. Shapes are [out, in], with the
 * letters of model.h and f for the MLP's width:
 *
 *     embed_tokens, lm_head   [V, d]       FULL           k_proj, v_proj   [G*dh, d]
 *     norms                   [d]          PARTIAL, MLA   k_r_proj         [K*dr, d]
 *     gate_proj, up_proj      [f, d]                      up_k             [G*dc, d or r]
 *     down_proj               [d, f]                      up_v             [G*dh, d or r]
 *     q_proj                  [H*(dr+dc), d]  MLA         down_kv, _k, _v  [r, d]
 *     o_proj                  [d, H*dh]
 *
 * Biases have the rows of their weight. The rows of q_proj: all H*dr rotated ones, then the others
 * (FULL: as in the file). up_* has r columns if there is a latent, else d. */
#include "model/params.h"
#include "base/mem.h"
#include "model/family/family.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const kv_method_names[KV_METHODS] = {KV_METHOD_NAMES};
const struct kv_method_info kv_methods[KV_METHODS] = {
    [KV_NONE] = {false, false, false},      [KV_JOINT] = {true, true, true},
    [KV_SPLIT] = {true, true, false},       [KV_ONLY_KEY] = {true, false, false},
    [KV_ONLY_VALUE] = {false, true, false},
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

/* Appends a parameter, whose shape the caller sets. */
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

struct param *param_matrix(struct model *m, enum param_kind kind, int64_t rows, int64_t cols,
                           const char *fmt, ...)
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

struct param *param_vector(struct model *m, enum param_kind kind, int64_t n, const char *fmt, ...)
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

struct param *param_part(struct param *p, int64_t row0, int64_t rows)
{
    p->row0 = row0;
    if (p->ndim == 1)
        p->t.cols = rows;
    else
        p->t.rows = rows;
    return p;
}

/* q_proj is one parameter in FULL, otherwise two: its rotated and its unrotated rows. */
static void declare_query(struct model *m, struct attn *a, int64_t dr, const char *prefix)
{
    const struct text_config *c = &m->cfg.text;
    int64_t H = c->num_attention_heads, d = c->hidden_size;
    int64_t cut = H * dr, all = cut + H * model_nope_dim(m); /* FULL: cut */

    for (int i = 0; i < 2 * (m->state == ATTN_FULL ? 1 : 2); i++) { /* weights, then biases */
        int k = m->state == ATTN_FULL ? 0 : i % 2;
        bool bias = i >= (m->state == ATTN_FULL ? 1 : 2);
        enum param_kind kind = m->state != ATTN_FULL && k == 0 ? PARAM_Q_ROPE : PARAM_Q;
        int64_t row0 = k ? cut : 0, rows = k ? all - cut : cut;
        if (!bias)
            a->q[k] =
                param_part(param_matrix(m, kind, all, d, "%sq_proj.weight", prefix), row0, rows);
        else if (c->qkv_bias)
            a->q_b[k] = param_part(param_vector(m, kind, all, "%sq_proj.bias", prefix), row0, rows);
    }
}

/* The factors of one modality, or of all: see struct kv_set. */
static void declare_set(struct model *m, struct kv_set *s, int64_t r, const char *prefix)
{
    const struct text_config *c = &m->cfg.text;
    const struct kv_method_info *method = &kv_methods[m->state == ATTN_MLA ? m->method : KV_NONE];
    int64_t G = c->num_key_value_heads, d = c->hidden_size, dc = model_nope_dim(m);
    int64_t in_k = method->key ? r : d, in_v = method->value ? r : d;

    if (method->joint) {
        s->down[0] = s->down[1] = param_matrix(m, PARAM_DOWN, r, d, "%sdown_kv.weight", prefix);
    } else {
        if (method->key) s->down[0] = param_matrix(m, PARAM_DOWN, r, d, "%sdown_k.weight", prefix);
        if (method->value)
            s->down[1] = param_matrix(m, PARAM_DOWN, r, d, "%sdown_v.weight", prefix);
    }
    s->up_k = param_matrix(m, PARAM_UP_K, G * dc, in_k, "%sup_k.weight", prefix);
    s->up_v = param_matrix(m, PARAM_UP_V, G * c->head_dim, in_v, "%sup_v.weight", prefix);
    if (!c->qkv_bias) return;
    s->up_k_b = param_vector(m, PARAM_UP_K, G * dc, "%sup_k.bias", prefix);
    s->up_v_b = param_vector(m, PARAM_UP_V, G * c->head_dim, "%sup_v.bias", prefix);
}

static void declare_attention(struct model *m, int64_t l, const char *prefix)
{
    const struct text_config *c = &m->cfg.text;
    int64_t G = c->num_key_value_heads, d = c->hidden_size, dh = c->head_dim;
    int64_t dr = model_rope_dim(m, l), rotated = model_rope_keys(m) * dr, r = model_latent(m, l);
    struct attn *a = &m->layers[l].attn;
    char set[300];

    declare_query(m, a, dr, prefix);
    if (m->state == ATTN_FULL) {
        a->k = param_matrix(m, PARAM_K, G * dh, d, "%sk_proj.weight", prefix);
        a->v = param_matrix(m, PARAM_V, G * dh, d, "%sv_proj.weight", prefix);
        if (c->qkv_bias) {
            a->k_b = param_vector(m, PARAM_K, G * dh, "%sk_proj.bias", prefix);
            a->v_b = param_vector(m, PARAM_V, G * dh, "%sv_proj.bias", prefix);
        }
    } else {
        a->k = param_matrix(m, PARAM_K_ROPE, rotated, d, "%sk_r_proj.weight", prefix);
        if (c->qkv_bias) a->k_b = param_vector(m, PARAM_K_ROPE, rotated, "%sk_r_proj.bias", prefix);
        if (model_sets(m) == 1) {
            snprintf(set, sizeof set, "%skv_proj.", prefix);
            declare_set(m, &a->set[TEXT], r, set);
        } else {
            for (int i = 0; i < MODALITIES; i++) {
                snprintf(set, sizeof set, "%skv_proj_%s.", prefix, i == TEXT ? "text" : "img");
                declare_set(m, &a->set[i], r, set);
            }
        }
    }
    a->o = param_matrix(m, PARAM_O, d, c->num_attention_heads * dh, "%so_proj.weight", prefix);
    if (c->o_bias) a->o_b = param_vector(m, PARAM_O, d, "%so_proj.bias", prefix);
}

static void declare_text(struct model *m)
{
    const struct text_config *c = &m->cfg.text;
    const char *text = m->layout->text;
    int64_t d = c->hidden_size, f = c->intermediate_size;

    m->embed = param_matrix(m, PARAM_EMBED, c->vocab_size, d, "%sembed_tokens.weight", text);
    for (int64_t i = 0; i < c->num_hidden_layers; i++) {
        struct layer *l = &m->layers[i];
        char prefix[256], attn[280];
        snprintf(prefix, sizeof prefix, "%slayers.%d.", text, (int)i);
        snprintf(attn, sizeof attn, "%sself_attn.", prefix);
        l->norm1 = param_vector(m, PARAM_NORM, d, "%sinput_layernorm.weight", prefix);
        declare_attention(m, i, attn);
        l->norm2 = param_vector(m, PARAM_NORM, d, "%spost_attention_layernorm.weight", prefix);
        l->gate = param_matrix(m, PARAM_MLP, f, d, "%smlp.gate_proj.weight", prefix);
        l->up = param_matrix(m, PARAM_MLP, f, d, "%smlp.up_proj.weight", prefix);
        l->down = param_matrix(m, PARAM_MLP, d, f, "%smlp.down_proj.weight", prefix);
        if (!c->mlp_bias) continue;
        l->gate_b = param_vector(m, PARAM_MLP, f, "%smlp.gate_proj.bias", prefix);
        l->up_b = param_vector(m, PARAM_MLP, f, "%smlp.up_proj.bias", prefix);
        l->down_b = param_vector(m, PARAM_MLP, d, "%smlp.down_proj.bias", prefix);
    }
    m->norm = param_vector(m, PARAM_NORM, d, "%snorm.weight", text);
    m->head = c->tie_word_embeddings
                  ? m->embed
                  : param_matrix(m, PARAM_HEAD, c->vocab_size, d, "%s", m->layout->head);
}

bool params_declare(struct model *m, struct err *e)
{
    int64_t L = m->cfg.text.num_hidden_layers, Lv = m->cfg.vision.num_hidden_layers;

    m->cap_params = 32 + 28 * L + 16 * Lv;
    m->n_params = 0;
    m->params = mem_new((size_t)m->cap_params, sizeof *m->params, "the list of parameters", e);
    m->layers = mem_new((size_t)L, sizeof *m->layers, "the list of layers", e);
    if (!m->params || !m->layers) return false;
    declare_text(m);
    return !m->cfg.family->declare || m->cfg.family->declare(m, e);
}

/* q_pairs [L, H, dr/2]: query head h has the pairs of the rotated key h / (H/K). */
bool model_set_query_pairs(struct model *m, struct err *e)
{
    int64_t L = m->cfg.text.num_hidden_layers, H = m->cfg.text.num_attention_heads;
    int64_t K = model_rope_keys(m), all = model_pairs_before(m, L);

    m->q_pairs = mem_new((size_t)(H * all), sizeof *m->q_pairs, "the queries' RoPE pairs", e);
    if (!m->q_pairs) return false;
    for (int64_t l = 0; l < L; l++) {
        const int64_t before = model_pairs_before(m, l), kept = model_rope_dim(m, l) / 2;
        for (int64_t h = 0; h < H; h++)
            memcpy(m->q_pairs + H * before + h * kept, m->pairs + K * before + h / (H / K) * kept,
                   (size_t)kept * sizeof *m->pairs);
    }
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

/* What one token adds to a layer's cache: see the table in kv_cache.c. */
void model_cache_widths(const struct model *m, int64_t l, int64_t width[3])
{
    const struct text_config *c = &m->cfg.text;
    const struct kv_method_info *how = &kv_methods[m->state == ATTN_MLA ? m->method : KV_NONE];
    const int64_t G = c->num_key_value_heads, r = model_latent(m, l);

    width[0] = model_rope_keys(m) * model_rope_dim(m, l);
    width[1] = how->key ? r : G * model_nope_dim(m);
    width[2] = how->joint ? 0 : how->value ? r : G * c->head_dim;
}

int64_t model_cache_values(const struct model *m)
{
    const int64_t L = m->cfg.text.num_hidden_layers;
    int64_t sum = 0, width[3];

    for (int64_t l = 0; l < L; l++) {
        model_cache_widths(m, l, width);
        sum += width[0] + width[1] + width[2];
    }
    return sum / L;
}

int64_t model_cache_values_full(const struct model *m)
{
    return 2 * m->cfg.text.num_key_value_heads * m->cfg.text.head_dim;
}
