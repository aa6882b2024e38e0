/* pickle.c - see pickle.h. The opcodes are those of Python's Lib/pickletools.py, one table row
 * each. The machine has a stack of values and a memo of numbered ones. */
#include "model/files/pickle.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARK UINT32_MAX /* on the stack: start of the items of the next tuple, dict, ... */
#define NO_MEMO UINT32_MAX

struct machine {
    struct pickle *p;
    struct bytes in;
    const char *const *globals;
    uint32_t *stack, *memo;
    size_t depth, stack_cap, memos, memo_cap;
    bool done;
    struct err *e;
};

static bool broken(struct machine *m, const char *why)
{
    return err_set(m->e, "its pickle is damaged: %s", why);
}

/* The next n bytes; NULL with a message if fewer remain. */
static const uint8_t *take(struct machine *m, size_t n)
{
    const uint8_t *at = m->in.p;

    if (n > m->in.n) {
        broken(m, "it ends within a value");
        return NULL;
    }
    m->in = (struct bytes){at + n, m->in.n - n};
    return at;
}

static bool push(struct machine *m, uint32_t value)
{
    if (!mem_grow(&m->stack, &m->stack_cap, m->depth + 1, sizeof *m->stack, m->e)) return false;
    m->stack[m->depth++] = value;
    return true;
}

/* Whether the top n values exist, without a mark among them. */
static bool has(struct machine *m, size_t n)
{
    for (size_t i = 1; i <= n; i++)
        if (m->depth < i || m->stack[m->depth - i] == MARK)
            return broken(m, "it takes a value that is not there");
    return true;
}

static bool pop(struct machine *m, uint32_t *value)
{
    *value = 0;
    if (!has(m, 1)) return false;
    *value = m->stack[--m->depth];
    return true;
}

/* Adds a row and pushes it; pointers to rows become invalid. */
static bool add(struct machine *m, struct pickle_value v)
{
    struct pickle *p = m->p;

    if (p->values == PICKLE_VALUES)
        return err_set(m->e, "its pickle has more than %d values", PICKLE_VALUES);
    if (!mem_grow(&p->value, &p->value_cap, p->values + 1, sizeof *p->value, m->e)) return false;
    p->value[p->values] = v;
    return push(m, (uint32_t)p->values++);
}

/* Appends an item to row `to`. */
static bool append(struct machine *m, uint32_t to, uint32_t item)
{
    struct pickle *p = m->p;
    uint32_t at = (uint32_t)p->cells;

    if (p->cells == 2 * PICKLE_VALUES)
        return err_set(m->e, "its pickle has more than %d items", 2 * PICKLE_VALUES);
    if (!mem_grow(&p->cell, &p->cell_cap, p->cells + 1, sizeof *p->cell, m->e)) return false;
    p->cell[p->cells++] = (struct pickle_cell){.value = item};
    if (p->value[to].last) p->cell[p->value[to].last].next = at;
    if (!p->value[to].first) p->value[to].first = at;
    p->value[to].last = at;
    p->value[to].count++;
    return true;
}

/* ---- opcodes; `arg` comes from the row ---- */

static bool op_protocol(struct machine *m, int arg)
{
    const uint8_t *version = take(m, 1);

    (void)arg;
    return version &&
           (*version == 2 ||
            err_set(m->e, "its pickle is of protocol %d; torch.save writes 2", *version));
}

static bool op_constant(struct machine *m, int arg)
{
    return add(m, (struct pickle_value){.kind = (enum pickle_kind)arg});
}

static bool op_bool(struct machine *m, int arg)
{
    return add(m, (struct pickle_value){.kind = PICKLE_BOOL, .number = arg});
}

/* An integer of |arg| bytes, signed if arg is negative. */
static bool op_int(struct machine *m, int arg)
{
    const size_t n = (size_t)abs(arg);
    const uint8_t *p = take(m, n);
    uint64_t v = 0;

    if (!p) return false;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << 8 * i;
    if (arg < 0 && n && n < 8 && p[n - 1] >> 7) v |= UINT64_MAX << 8 * n;
    return add(m, (struct pickle_value){.kind = PICKLE_INT, .number = (int64_t)v});
}

/* A length byte and an integer of that size. */
static bool op_long(struct machine *m, int arg)
{
    const uint8_t *n = take(m, 1);

    (void)arg;
    if (n && *n > 8) return err_set(m->e, "its pickle has a number of %d bytes", *n);
    return n && op_int(m, -(int)*n);
}

static bool op_float(struct machine *m, int arg)
{
    (void)arg;
    return take(m, 8) && add(m, (struct pickle_value){.kind = PICKLE_FLOAT});
}

/* A length of `arg` bytes, and a text. */
static bool op_text(struct machine *m, int arg)
{
    const uint8_t *p = take(m, (size_t)arg);
    size_t n = 0;

    for (int i = arg; p && i-- > 0;)
        n = n << 8 | p[i];
    p = p ? take(m, n) : NULL;
    return p && add(m, (struct pickle_value){.kind = PICKLE_TEXT, .text = {p, n}});
}

/* "MODULE\nNAME\n" */
static bool op_global(struct machine *m, int arg)
{
    const size_t most = m->in.n < PICKLE_NAME ? m->in.n : PICKLE_NAME;
    const uint8_t *from = m->in.p, *line = memchr(from, '\n', most), *end;
    size_t n, module;

    (void)arg;
    end = line ? memchr(line + 1, '\n', most - (size_t)(line + 1 - from)) : NULL;
    if (!end) return broken(m, "the name of a function does not end");
    n = (size_t)(end + 1 - from);
    module = (size_t)(line - from);
    take(m, n);
    for (const char *const *g = m->globals; *g; g++)
        if (strlen(*g) == n && memcmp(*g, from, n) == 0)
            return add(m, (struct pickle_value){.kind = PICKLE_GLOBAL, .text = {from, n}});
    return err_set(m->e,
                   "its pickle calls %.*s.%.*s, which tensors do not need: save only "
                   "model.state_dict()",
                   (int)module, (const char *)from, (int)(n - module - 2), (const char *)line + 1);
}

static bool op_mark(struct machine *m, int arg)
{
    (void)arg;
    return push(m, MARK);
}

/* The number of values above the last mark. Amortised: each value is counted once, then popped. */
static bool count_to_mark(struct machine *m, size_t *n)
{
    for (*n = 0; *n < m->depth; (*n)++)
        if (m->stack[m->depth - 1 - *n] == MARK) return true;
    return broken(m, "it has no mark where it needs one");
}

/* Pops the top n values and appends them to row `to`. */
static bool append_top(struct machine *m, uint32_t to, size_t n)
{
    const size_t from = m->depth - n;

    for (size_t i = from; i < m->depth; i++)
        if (!append(m, to, m->stack[i])) return false;
    m->depth = from;
    return true;
}

/* Replaces the top n values by a new row of that kind that contains them. */
static bool gather(struct machine *m, enum pickle_kind kind, size_t n)
{
    uint32_t made;

    return add(m, (struct pickle_value){.kind = kind}) && pop(m, &made) && append_top(m, made, n) &&
           push(m, made);
}

static bool op_tuple(struct machine *m, int arg)
{
    return has(m, (size_t)arg) && gather(m, PICKLE_TUPLE, (size_t)arg);
}

/* Everything since the mark. */
static bool op_long_tuple(struct machine *m, int arg)
{
    size_t n;

    (void)arg;
    if (!count_to_mark(m, &n) || !gather(m, PICKLE_TUPLE, n)) return false;
    m->stack[m->depth - 2] = m->stack[m->depth - 1]; /* over the mark */
    m->depth--;
    return true;
}

/* Appends the top n values to the list or dict (arg: which) below them. */
static bool add_items(struct machine *m, int arg, size_t n, bool mark)
{
    const size_t step = arg == PICKLE_DICT ? 2 : 1, below = m->depth - n - mark;
    uint32_t to;

    if (below == 0 || m->stack[below - 1] == MARK) return broken(m, "items of nothing");
    to = m->stack[below - 1];
    if ((int)m->p->value[to].kind != arg || n % step)
        return broken(m, "items of something that has none");
    if (!append_top(m, to, n)) return false;
    m->depth -= mark;
    return true;
}

static bool op_items(struct machine *m, int arg)
{
    size_t n;

    return count_to_mark(m, &n) && add_items(m, arg, n, true);
}

static bool op_item(struct machine *m, int arg)
{
    const size_t n = arg == PICKLE_DICT ? 2 : 1;

    return has(m, n) && add_items(m, arg, n, false);
}

static const char ordered_dict[] = "collections\nOrderedDict\n";

/* A call with a tuple of arguments. An OrderedDict without arguments is a dict. */
static bool op_call(struct machine *m, int arg)
{
    const struct pickle_value *f, *args;

    (void)arg;
    if (!has(m, 2)) return false;
    f = &m->p->value[m->stack[m->depth - 2]];
    args = &m->p->value[m->stack[m->depth - 1]];
    if (f->kind != PICKLE_GLOBAL || args->kind != PICKLE_TUPLE)
        return broken(m, "it calls something that is not a function");
    if (args->count || !pickle_is(f, PICKLE_GLOBAL, ordered_dict)) return gather(m, PICKLE_CALL, 2);
    m->depth -= 2;
    return add(m, (struct pickle_value){.kind = PICKLE_DICT});
}

static bool op_outside(struct machine *m, int arg)
{
    (void)arg;
    return has(m, 1) && gather(m, PICKLE_OUTSIDE, 1);
}

/* An object's attributes, which a state_dict has (the versions of its modules): ignored. */
static bool op_attributes(struct machine *m, int arg)
{
    (void)arg;
    if (!has(m, 2)) return false;
    m->depth--;
    return true;
}

/* A memo index of `arg` bytes. Python numbers them consecutively; gaps, as only a forger makes,
 * cost nothing, since there are at most as many as values. */
static bool read_index(struct machine *m, int arg, size_t *index)
{
    const uint8_t *p = take(m, (size_t)arg);

    *index = 0;
    for (int i = arg; p && i-- > 0;)
        *index = *index << 8 | p[i];
    return p && (*index < PICKLE_VALUES || broken(m, "a number of its memory is too large"));
}

static bool op_remember(struct machine *m, int arg)
{
    size_t index;

    if (!read_index(m, arg, &index) || !has(m, 1)) return false;
    if (!mem_grow(&m->memo, &m->memo_cap, index + 1, sizeof *m->memo, m->e)) return false;
    while (m->memos <= index)
        m->memo[m->memos++] = NO_MEMO;
    m->memo[index] = m->stack[m->depth - 1];
    return true;
}

static bool op_recall(struct machine *m, int arg)
{
    size_t index;

    if (!read_index(m, arg, &index)) return false;
    if (index >= m->memos || m->memo[index] == NO_MEMO)
        return broken(m, "it recalls what it has not remembered");
    return push(m, m->memo[index]);
}

static bool op_stop(struct machine *m, int arg)
{
    (void)arg;
    if (!pop(m, &m->p->root)) return false;
    if (m->depth) return broken(m, "it ends with other than one value");
    m->done = true;
    return true;
}

static const struct {
    uint8_t code;
    bool (*run)(struct machine *m, int arg);
    int arg;
} ops[] = {
    {0x80, op_protocol, 0},
    {'}', op_constant, PICKLE_DICT},
    {']', op_constant, PICKLE_LIST},
    {')', op_constant, PICKLE_TUPLE},
    {'N', op_constant, PICKLE_NONE},
    {0x88, op_bool, 1},
    {0x89, op_bool, 0},
    {'J', op_int, -4},
    {'K', op_int, 1},
    {'M', op_int, 2},
    {0x8a, op_long, 0},
    {'G', op_float, 0},
    {'X', op_text, 4},
    {'U', op_text, 1},
    {'c', op_global, 0},
    {'(', op_mark, 0},
    {'t', op_long_tuple, 0},
    {0x85, op_tuple, 1},
    {0x86, op_tuple, 2},
    {0x87, op_tuple, 3},
    {'u', op_items, PICKLE_DICT},
    {'e', op_items, PICKLE_LIST},
    {'s', op_item, PICKLE_DICT},
    {'a', op_item, PICKLE_LIST},
    {'R', op_call, 0},
    {'Q', op_outside, 0},
    {'b', op_attributes, 0},
    {'q', op_remember, 1},
    {'r', op_remember, 4},
    {'h', op_recall, 1},
    {'j', op_recall, 4},
    {'.', op_stop, 0},
};

static bool step(struct machine *m)
{
    const uint8_t *code = take(m, 1);

    for (size_t i = 0; code && i < sizeof ops / sizeof *ops; i++)
        if (ops[i].code == *code) return ops[i].run(m, ops[i].arg);
    return code && err_set(m->e,
                           "its pickle has the opcode 0x%02x, which tensors by name have no "
                           "need of",
                           *code);
}

bool pickle_read(struct pickle *p, struct bytes in, const char *const *globals, struct err *e)
{
    struct machine m = {.p = p, .in = in, .globals = globals, .e = e};
    bool ok;

    *p = (struct pickle){.cells = 1};
    ok = mem_grow(&p->cell, &p->cell_cap, 1, sizeof *p->cell, e);
    while (ok && !m.done)
        ok = step(&m);
    if (ok && m.in.n) ok = broken(&m, "there is more after its end");
    free(m.stack);
    free(m.memo);
    if (!ok) pickle_free(p);
    return ok;
}

void pickle_free(struct pickle *p)
{
    free(p->value);
    free(p->cell);
    *p = (struct pickle){0};
}

const struct pickle_value *pickle_item(const struct pickle *p, const struct pickle_value *v,
                                       uint32_t i)
{
    uint32_t at = v->first;

    while (at && i-- > 0)
        at = p->cell[at].next;
    return at ? &p->value[p->cell[at].value] : NULL;
}

bool pickle_is(const struct pickle_value *v, enum pickle_kind kind, const char *want)
{
    const size_t n = strlen(want);

    return v && v->kind == kind && v->text.n == n && memcmp(v->text.p, want, n) == 0;
}
