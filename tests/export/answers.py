"""The answers of a run's `evaluate`, given by transformers from the exported model. By hand, in the
environments of compare.py:

    any/bin/python tests/export/answers.py RUN/POINT/stage2

Prompts, pictures, expected and given answers are those of answers.jsonl there; texts are tokenised and
pictures prepared by what transformers makes of the files beside the weights. Greedy, one sample at a time:
the texts must be the same, and the bytes of all caches together those of scores.json."""
import json
import os
import sys

import torch
import transformers
from PIL import Image
from transformers import AutoTokenizer

VERSION = tuple(int(x) for x in transformers.__version__.split(".")[:2])
PILLOW = {"llava": "CLIP", "llava_next": "LlavaNext", "qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2VL"}


def image_processor(kind, directory):
    """The one that resizes with Pillow, as ours does bit for bit."""
    name = PILLOW[kind] + "ImageProcessor" + ("Pil" if VERSION >= (5, 0) else "")
    return getattr(transformers, name).from_pretrained(directory)


def places(model, text, pixels):
    """The text with as many image tokens as transformers counts for the picture."""
    config, kind = model.config, model.config.model_type
    if kind == "llava":
        n = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
    elif kind == "llava_next":
        n = model.model.get_image_features(pixels["pixel_values"], pixels["image_sizes"])
        n = sum(len(f) for f in (n if isinstance(n, (list, tuple)) else n.pooler_output))
    else:
        n = int(pixels["image_grid_thw"].prod()) // config.vision_config.spatial_merge_size ** 2
    mark = "<|image_pad|>" if kind.startswith("qwen") else "<image>"
    return text.replace(mark, mark * n)


def answer(model, tokenizer, processor, line):
    given = {}
    text = line["prompt"]
    if line.get("image"):
        given = dict(processor(Image.open(line["image"]).convert("RGB"), return_tensors="pt"))
        text = places(model, text, given)
    tokens = tokenizer(text, return_tensors="pt", add_special_tokens=not text.startswith(tokenizer.bos_token or " "))
    given |= {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
    if VERSION >= (5, 0) and model.config.model_type.startswith("qwen2_"):
        given["mm_token_type_ids"] = (tokens["input_ids"] == model.config.image_token_id).int()
    out = model.generate(**given, max_new_tokens=40, do_sample=False, return_dict_in_generate=True)
    new = out.sequences[0, given["input_ids"].shape[1]:]
    return tokenizer.decode(new, skip_special_tokens=True).strip(), out[sys.modules[type(model).__module__].CACHE].nbytes()


def main(step):
    directory = os.path.join(step, "model")
    with open(os.path.join(directory, "config.json")) as f:
        loader = getattr(transformers, *json.load(f)["auto_map"])
    model = loader.from_pretrained(directory, trust_remote_code=True, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    kind = model.config.model_type
    processor = image_processor(kind, directory) if kind in PILLOW else None
    same = total = held = 0
    with open(os.path.join(step, "answers.jsonl")) as f, torch.no_grad():
        for line in map(json.loads, f):
            got, bytes_held = answer(model, tokenizer, processor, line)
            same, total, held = same + (got == line["answer"].strip()), total + 1, held + bytes_held
            if got != line["answer"].strip():
                print(f"{line['id']}: {got!r}, ours {line['answer']!r}")
    with open(os.path.join(step, "scores.json")) as f:
        ours = json.load(f)["cache_bytes"]
    print(f"transformers {transformers.__version__}, {kind}: {same} of {total} answers are ours; {held} bytes of "
          f"cache, ours {ours}")
    sys.exit(same != total or held != ours)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    main(*sys.argv[1:])
