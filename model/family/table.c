/* table.c - the families. */
#include "model/family/family.h"

const struct family *const families[] = {&family_llava, &family_llama, &family_qwen2, NULL};
