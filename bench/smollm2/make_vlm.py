#!/usr/bin/env python3
"""A LLaVA whose language model is a text model and whose vision tower another LLaVA's.

    pip install numpy safetensors ml_dtypes
    python3 make_vlm.py LLAVA_DIR TEXT_DIR DIR

The projector is new (normal values, seed 0) and still to be trained. The text model's tokenizer and
embedding get one token more, <image>; its row is the mean of the others. Needs no torch.
"""
import json
import os
import sys

import ml_dtypes  # noqa: F401  (numpy learns bfloat16)
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

IMAGE = "<image>"


def read(path):
    with safe_open(path, "numpy") as f:
        return {k: f.get_tensor(k) for k in f.keys()}


def load(directory, name):
    with open(os.path.join(directory, name), encoding="utf-8") as f:
        return json.load(f)


def write(directory, name, value):
    with open(os.path.join(directory, name), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, indent=2)
        f.write("\n")


def main(llava, text, dest):
    os.makedirs(dest, exist_ok=True)
    config, text_config = load(llava, "config.json"), load(text, "config.json")
    tower = {k: v for k, v in read(f"{llava}/model.safetensors").items() if "vision_tower" in k}
    assert all(k.startswith("vision_tower.vision_model.") for k in tower), "another layout of names"

    image_id = text_config["vocab_size"]
    text_config["vocab_size"] = image_id + 1
    tensors = dict(tower)
    for name, w in read(f"{text}/model.safetensors").items():
        if name == "model.embed_tokens.weight":
            w = np.concatenate([w, w.mean(0, keepdims=True)])
        tensors[f"language_model.{name}"] = w
    width, tower_width = text_config["hidden_size"], config["vision_config"]["hidden_size"]
    rng = np.random.default_rng(0)
    for name, rows, cols in (("linear_1", width, tower_width), ("linear_2", width, width)):
        w = rng.standard_normal((rows, cols)) / np.sqrt(cols)
        tensors[f"multi_modal_projector.{name}.weight"] = w.astype(np.float32)
        tensors[f"multi_modal_projector.{name}.bias"] = np.zeros(rows, np.float32)
    save_file(tensors, f"{dest}/model.safetensors", {"format": "pt"})

    config.update(text_config=text_config, image_token_index=image_id,
                  tie_word_embeddings=text_config["tie_word_embeddings"],
                  pad_token_id=text_config["pad_token_id"])
    write(dest, "config.json", config)
    tokenizer = load(text, "tokenizer.json")
    tokenizer["added_tokens"].append({
        "id": image_id, "content": IMAGE, "single_word": False, "lstrip": False, "rstrip": False,
        "normalized": False, "special": True})
    write(dest, "tokenizer.json", tokenizer)
    write(dest, "preprocessor_config.json", load(llava, "preprocessor_config.json"))
    print(f"{dest}: {sum(t.size for t in tensors.values())} values, {IMAGE} is {image_id}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: make_vlm.py LLAVA_DIR TEXT_DIR DIR")
    main(*sys.argv[1:])
