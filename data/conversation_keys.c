/* conversation_keys.c - the vocabulary of data sets: names used by LLaVA, ShareGPT4V,
 * LLaVA-OneVision, InternVL, Cambrian and the formats of LLaMA-Factory, ms-swift, axolotl and
 * OpenAI. The most common come first. */
#include "data/conversation_parts.h"

#include <string.h>

#define HARMLESS(name)                                                                             \
    {                                                                                              \
        name, KEY_HARMLESS                                                                         \
    }
#define UNREAD(name)                                                                               \
    {                                                                                              \
        name, KEY_UNREAD                                                                           \
    }

const struct key sample_keys[] = {
    {"id", KEY_ID},
    {"image", KEY_PICTURES},
    {"conversations", KEY_TURNS},
    {"messages", KEY_TURNS},
    {"text", KEY_PLAIN},
    {"images", KEY_PICTURES},
    {"system", KEY_SYSTEM},
    UNREAD("video"),
    UNREAD("videos"),
    UNREAD("audio"),
    UNREAD("audios"),
    UNREAD("speech"),
    {"metric", KEY_SCORED},
    {"answers", KEY_SCORED},
    {"choices", KEY_SCORED},
    {"group", KEY_SCORED},
    {"context", KEY_SCORED},
    {"contexts", KEY_SCORED},
    {"label", KEY_SCORED},
    {"continuation", KEY_SCORED},
    UNREAD("tools"),
    UNREAD("functions"),
    HARMLESS("source"),
    HARMLESS("data_source"),
    HARMLESS("dataset"),
    HARMLESS("dataset_name"),
    HARMLESS("origin"),
    HARMLESS("split"),
    HARMLESS("subset"),
    HARMLESS("task"),
    HARMLESS("task_name"),
    HARMLESS("task_type"),
    HARMLESS("type"),
    HARMLESS("category"),
    HARMLESS("categories"),
    HARMLESS("subcategory"),
    HARMLESS("domain"),
    HARMLESS("topic"),
    HARMLESS("tags"),
    HARMLESS("lang"),
    HARMLESS("language"),
    HARMLESS("license"),
    HARMLESS("url"),
    HARMLESS("image_url"),
    HARMLESS("image_id"),
    HARMLESS("img_id"),
    HARMLESS("coco_id"),
    HARMLESS("question_id"),
    HARMLESS("sample_id"),
    HARMLESS("uuid"),
    HARMLESS("uid"),
    HARMLESS("idx"),
    HARMLESS("index"),
    HARMLESS("hash"),
    HARMLESS("md5"),
    HARMLESS("sha256"),
    HARMLESS("width"),
    HARMLESS("height"),
    HARMLESS("width_list"),
    HARMLESS("height_list"),
    HARMLESS("image_width"),
    HARMLESS("image_height"),
    HARMLESS("image_size"),
    HARMLESS("image_sizes"),
    HARMLESS("resolution"),
    HARMLESS("model"),
    HARMLESS("model_name"),
    HARMLESS("created"),
    HARMLESS("date"),
    HARMLESS("timestamp"),
    HARMLESS("version"),
    HARMLESS("metadata"),
    HARMLESS("meta"),
    HARMLESS("score"),
    HARMLESS("quality"),
    HARMLESS("rating"),
    HARMLESS("difficulty"),
    HARMLESS("length"),
    HARMLESS("num_tokens"),
    HARMLESS("num_turns"),
    {NULL, KEY_UNKNOWN},
};

const struct key turn_keys[] = {
    {"from", KEY_ROLE},       {"value", KEY_TEXT},     {"role", KEY_ROLE},
    {"content", KEY_TEXT},    {"image", KEY_PICTURES}, {"images", KEY_PICTURES},
    {"loss", KEY_LEARNT},     {"weight", KEY_LEARNT},  {"train", KEY_LEARNT},
    {"training", KEY_LEARNT}, UNREAD("video"),         UNREAD("videos"),
    UNREAD("audio"),          UNREAD("audios"),        UNREAD("tool_calls"),
    UNREAD("function_call"),  HARMLESS("id"),          HARMLESS("idx"),
    HARMLESS("index"),        HARMLESS("turn"),        HARMLESS("turn_id"),
    HARMLESS("model"),        HARMLESS("lang"),        HARMLESS("language"),
    HARMLESS("created"),      HARMLESS("timestamp"),   {NULL, KEY_UNKNOWN},
};

const struct key part_keys[] = {
    {"type", KEY_TYPE},          {"text", KEY_TEXT},     {"image", KEY_PICTURES},
    {"image_url", KEY_PICTURES}, {"path", KEY_PICTURES}, {"url", KEY_PICTURES},
    {NULL, KEY_UNKNOWN},
};

const struct key picture_keys[] = {
    {"path", KEY_PICTURES}, {"url", KEY_PICTURES}, {"image", KEY_PICTURES}, {"type", KEY_HARMLESS},
    HARMLESS("width"),      HARMLESS("height"),    HARMLESS("detail"),      {NULL, KEY_UNKNOWN},
};

const struct speaker speakers[] = {
    {.name = "human", .role = ROLE_USER},
    {.name = "gpt", .role = ROLE_ASSISTANT},
    {.name = "user", .role = ROLE_USER},
    {.name = "assistant", .role = ROLE_ASSISTANT},
    {.name = "system", .role = ROLE_SYSTEM},
    {.name = "model", .role = ROLE_ASSISTANT},
    {.name = "chatgpt", .role = ROLE_ASSISTANT},
    {.name = "bot", .role = ROLE_ASSISTANT},
    {.name = "developer", .role = ROLE_SYSTEM},
    {.name = "tool", .unread = true},
    {.name = "tools", .unread = true},
    {.name = "tool_call", .unread = true},
    {.name = "tool_response", .unread = true},
    {.name = "function", .unread = true},
    {.name = "function_call", .unread = true},
    {.name = "function_response", .unread = true},
    {.name = "observation", .unread = true},
    {.name = "ipython", .unread = true},
    {.name = NULL},
};

const char *const unread_marks[] = {
    "<video>",       "<audio>",          "<speech>",
    "<|video_pad|>", "<|video|>",        "<|VIDEO|>",
    "<|audio_pad|>", "<|audio|>",        "<|AUDIO|>",
    "<|audio_bos|>", "<|image_pad|>",    "<|image|>",
    "<|image_1|>",   "<|vision_start|>", "<|vision_end|>",
    "<IMG_CONTEXT>", "<ImageHere>",      "<image_placeholder>",
    "<bbox>",        "<ref-object>",     NULL,
};

enum key_use key_use(const struct key *keys, const char *name)
{
    for (; keys->name; keys++)
        if (strcmp(keys->name, name) == 0) return keys->use;
    return KEY_UNKNOWN;
}
