/* llava.h - the parameters of the families that put a projector behind CLIP's tower. */
#ifndef MODEL_FAMILY_LLAVA_H
#define MODEL_FAMILY_LLAVA_H

#include "model/family/clip.h"

struct llava {                                       /* a model's tower */
    struct param *proj1, *proj1_b, *proj2, *proj2_b; /* the projector */
    struct clip clip;
};

#endif
