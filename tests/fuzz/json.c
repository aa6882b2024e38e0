/* json.c - settings, and Hugging Face's configs. What was read must survive being
 * written and read again. */
#include "base/json/jsonc.h"
#include "data/picture/processor.h"
#include "model/config/hfgeneration.h"
#include "tests/fuzz/target.h"
#include "train/config.h"
#include "train/recipes.h"

#include <stdlib.h>
#include <string.h>

/* A document printed and read again has the same values, and prints the same. */
void fuzz_jsonc(const uint8_t *data, size_t n)
{
    static const struct jsonc_rules loose = {.zeros = true}, strict = {.plain = true};
    struct jsonc doc, again;
    struct err e = {0};
    char *text, *twice;

    if (jsonc_parse_as(&doc, "d", (const char *)data, n, &strict, &e))
        jsonc_close(&doc);
    else
        fuzz_failed(&e);
    if (!jsonc_parse_as(&doc, "d", (const char *)data, n, &loose, &e)) {
        fuzz_failed(&e);
        return;
    }
    for (size_t i = 0; i < doc.npos; i++)
        if (cJSON_IsString(doc.pos[i].item)) {
            size_t len;
            free(jsonc_string(&doc, doc.pos[i].item, &len, &e));
        }
    text = jsonc_print(doc.root, n & 1, &e);
    /* infinite numbers print as null; otherwise a double is always close to its digits */
    CHECK(text && jsonc_parse_as(&again, "again", text, strlen(text), &loose, &e));
    twice = jsonc_print(again.root, n & 1, &e);
    CHECK(twice && strcmp(text, twice) == 0);
    free(text);
    free(twice);
    jsonc_close(&doc);
    jsonc_close(&again);
}

static void round_trip(const struct config *c)
{
    struct config again;
    struct jsonc doc;
    struct err e = {0};
    char *text = schema_dump(&config_schema, c, &e), *diff;

    CHECK(text && jsonc_parse(&doc, "dump", text, strlen(text), &e));
    CHECK(schema_load_doc(&config_schema, &again, &doc, NULL, 0, &e));
    diff = schema_dump_diff(&config_schema, c, &again, false, &e);
    CHECK(diff && diff[0] == '\0');
    free(diff);
    free(text);
    jsonc_close(&doc);
    schema_free(&config_schema, &again);
}

/* The recipes, if they can be made, and their points. */
static void make_points(struct config *c)
{
    struct err e = {0};

    if (!recipes_open(c, &e)) {
        fuzz_failed(&e);
        return;
    }
    for (int64_t i = 0; i < config_points(c) && i < 100; i++) {
        const struct point p = config_point(c, i);
        CHECK(p.recipe < recipes_count(c) && p.name[0] && p.stage1[0]);
    }
}

void fuzz_config(const uint8_t *data, size_t n)
{
    struct config c;
    struct jsonc doc;
    struct err e = {0};
    bool ok = jsonc_parse(&doc, "c.json", (const char *)data, n, &e);

    if (ok) {
        ok = schema_load_doc(&config_schema, &c, &doc, NULL, 0, &e);
        jsonc_close(&doc);
    }
    if (!ok) {
        fuzz_failed(&e);
        return;
    }
    round_trip(&c);
    make_points(&c);
    recipes_close(&c);
}

/* Several settings, one per line, on top of the minimum that a config needs. */
void fuzz_set(const uint8_t *data, size_t n)
{
    enum { SETS = 8 };
    const char *sets[SETS] = {"run.dir=r", "data.train=[{\"path\":\"t\"}]"};
    char *text = malloc(n + 1), *save = NULL;
    struct config c;
    struct err e = {0};
    size_t k = 2;

    CHECK(text);
    memcpy(text, data, n);
    text[n] = '\0';
    for (char *s = strtok_r(text, "\n", &save); s && k < SETS; s = strtok_r(NULL, "\n", &save))
        sets[k++] = s;
    if (schema_load(&config_schema, &c, NULL, sets, k, &e)) {
        if (n % 8 == 0) round_trip(&c); /* slow compared with the rest, and `config` does it too */
        make_points(&c);
        recipes_close(&c);
    } else {
        fuzz_failed(&e);
    }
    free(text);
}

void fuzz_hfconfig(const uint8_t *data, size_t n)
{
    struct hf_config c, copy;
    struct err e = {0};

    if (!hf_config_parse(&c, (const char *)data, n, "config.json", &e)) {
        fuzz_failed(&e);
        return;
    }
    CHECK(hf_config_copy(&copy, &c, &e));
    CHECK(hf_has_vision(&copy) == hf_has_vision(&c));
    CHECK(!hf_has_vision(&c) || hf_feature_width(&copy) == hf_feature_width(&c));
    CHECK(memcmp(&copy.vision, &c.vision, sizeof c.vision) == 0 || c.vision.model_type);
    hf_config_free(&copy);
    hf_config_free(&c);
}

void fuzz_generation(const uint8_t *data, size_t n)
{
    static const char config[] = "{\"model_type\":\"llama\"}";
    struct hf_config c;
    struct hf_generation g;
    struct err e = {0};

    CHECK(hf_config_parse(&c, config, sizeof config - 1, "config.json", &e));
    fuzz_file("generation_config.json", data, n);
    if (hf_generation_read(&g, fuzz_dir(), &c, &e))
        hf_generation_free(&g);
    else
        fuzz_failed(&e);
    hf_config_free(&c);
}

/* What was saved equals what was read, to the last bit. */
void fuzz_processor(const uint8_t *data, size_t n)
{
    struct processor p, again;
    struct err e = {0};

    fuzz_file("preprocessor_config.json", data, n);
    if (!processor_load(&p, fuzz_dir(), &e)) {
        fuzz_failed(&e);
        return;
    }
    CHECK(processor_save(&p, NULL, fuzz_dir(), &e) && processor_load(&again, fuzz_dir(), &e));
    CHECK(memcmp(p.mean, again.mean, sizeof p.mean) == 0);
    CHECK(p.rescale_factor == again.rescale_factor && p.height == again.height);
}
