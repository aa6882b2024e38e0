"""Writes golden.json: what transformers' models compute for small configs, with weights and pixels
that a formula gives, so that they need not be stored.

On Debian 12: apt-get install python3-torch python3-venv
/usr/bin/python3 -m venv --system-site-packages venv && venv/bin/pip install transformers==4.46.3 'numpy<2'
venv/bin/python tests/data/model/make_golden.py
"""

import json
import pathlib

import numpy as np
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
)

here = pathlib.Path(__file__).parent
VOCAB = 40
IMAGE = VOCAB - 1
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": VOCAB,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 12,
    "patch_size": 4,
    "num_channels": 3,
    "projection_dim": 16,
    "hidden_act": "quick_gelu",
}


def text(kind, **changes):
    return {"model_type": kind, **TEXT, **changes}


def llava(text_config, vision_changes=None, **changes):
    return {
        "model_type": "llava",
        "image_token_index": IMAGE,
        "image_seq_length": 9,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "projector_hidden_act": "gelu",
        "text_config": text_config,
        "vision_config": {**VISION, **(vision_changes or {})},
        **changes,
    }


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
# A letter is a token: t of text, i of a picture.
CASES = {
    "llava": (llava(text("llama")), "ttt" + 9 * "i" + "tttt" + 9 * "i" + "tt"),
    "llava, class token, last layer, GQA, biases": (
        llava(
            text("llama", num_key_value_heads=2, attention_bias=True),
            {"hidden_act": "gelu"},
            image_seq_length=10,
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
        ),
        10 * "i" + "ttttt",
    ),
    "llama": (text("llama", num_key_value_heads=2), 20 * "t"),
    "llama, theta, head_dim": (text("llama", rope_theta=500000.0, head_dim=16), 20 * "t"),
    "llama, linear": (text("llama", rope_scaling={"rope_type": "linear", "factor": 4.0}), 20 * "t"),
    "llama, llama3": (text("llama", rope_scaling=LLAMA3), 40 * "t"),
    "llama, dynamic": (
        text(
            "llama",
            max_position_embeddings=16,
            rope_scaling={"rope_type": "dynamic", "factor": 2.0},
        ),
        40 * "t",
    ),
    "qwen2": (text("qwen2", num_key_value_heads=2, tie_word_embeddings=True), 20 * "t"),
}


def wave(n, step, phase):
    return np.sin(step * np.arange(n, dtype=np.float64) + phase).astype(np.float32)


def fill(model):
    for name, p in model.named_parameters():
        values = 0.2 * wave(p.numel(), 0.7, sum(name.encode()))
        norm = p.ndim == 1 and "norm" in name and name.endswith("weight")
        values = values + 1 if norm else values
        p.data = torch.from_numpy(values.astype(np.float32)).reshape(p.shape)


def build(config):
    args = {"attn_implementation": "eager", **config}
    kinds = {
        "llava": (LlavaConfig, LlavaForConditionalGeneration),
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    }
    make_config, make_model = kinds[args.pop("model_type")]
    model = make_model(make_config(**args)).eval()
    fill(model)
    return model


def run(config, tokens):
    model = build(config)
    ids = [IMAGE if t == "i" else i * 7 % IMAGE for i, t in enumerate(tokens)]
    inputs = {"input_ids": torch.tensor([ids])}
    out = {"config": config, "ids": ids}
    if "i" in tokens:
        n = tokens.count("i") // config["image_seq_length"]
        v = config["vision_config"]
        shape = (n, v["num_channels"], v["image_size"], v["image_size"])
        inputs["pixel_values"] = torch.from_numpy(wave(int(np.prod(shape)), 0.3, 0)).reshape(shape)
        hidden = model.vision_tower(inputs["pixel_values"], output_hidden_states=True)
        features = hidden.hidden_states[config["vision_feature_layer"]]
        if config["vision_feature_select_strategy"] == "default":
            features = features[:, 1:]
        out["features"] = rounded(features)
    out["logits"] = rounded(model(**inputs).logits)
    return out


def rounded(values):
    return [float(f"{x:.7g}") for x in values.detach().flatten().tolist()]


golden = {name: run(*case) for name, case in CASES.items()}
lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(case)}" for name, case in golden.items())
(here / "golden.json").write_text("{\n" + lines + "\n}\n")
