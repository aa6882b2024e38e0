/* table.c - the families. */
#include "model/family/family.h"

const struct family *const families[] = {&family_llava,   &family_llava_next, &family_llama,
                                         &family_mistral, &family_qwen2,      NULL};
