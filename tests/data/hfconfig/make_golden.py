"""Writes golden.json: what transformers makes of each config in this directory.

python3 -m venv venv && venv/bin/pip install torch==2.13.0 transformers==5.24.0
venv/bin/python tests/data/hfconfig/make_golden.py

Files with the name of a model are as it was published; NAME-saved5.json is the same as transformers
5 saves it (this script makes them); the others are for single settings.
"""

import json
import pathlib
import shutil
import tempfile

import torch
from transformers import AutoConfig

here = pathlib.Path(__file__).parent

TEXT = """model_type hidden_size intermediate_size num_hidden_layers num_attention_heads
num_key_value_heads vocab_size max_position_embeddings rms_norm_eps initializer_range hidden_act
bos_token_id eos_token_id pad_token_id""".split()
VISION = """model_type hidden_size intermediate_size num_hidden_layers num_attention_heads image_size
patch_size num_channels projection_dim layer_norm_eps hidden_act""".split()
WHOLE = """image_token_index image_seq_length vision_feature_layer vision_feature_select_strategy
projector_hidden_act multimodal_projector_bias""".split()


def text(config, tied):
    out = {key: getattr(config, key) for key in TEXT}
    heads = config.num_attention_heads
    out["head_dim"] = getattr(config, "head_dim", None) or config.hidden_size // heads
    qwen2 = config.model_type == "qwen2"  # its biases are fixed in the model's code
    out["qkv_bias"] = True if qwen2 else config.attention_bias
    out["o_bias"] = False if qwen2 else config.attention_bias
    out["mlp_bias"] = False if qwen2 else config.mlp_bias
    out["tie_word_embeddings"] = tied
    config.standardize_rope_params()  # the model calls it again: only then has the one beside priority
    rope = config.rope_parameters
    out["rope_theta"] = rope["rope_theta"]
    out["rope_type"] = rope["rope_type"]
    for key in ("factor", "low_freq_factor", "high_freq_factor", "attention_factor", "mscale",
                "mscale_all_dim", "beta_fast", "beta_slow"):
        out[key] = rope.get(key) or 0
    out["truncate"] = bool(rope["rope_type"] == "yarn" and rope.get("truncate", True))
    out["original_max_position_embeddings"] = rope.get("original_max_position_embeddings", 0)
    out["dtype"] = str(config.dtype or "").removeprefix("torch.")
    out["attention_dropout"] = config.attention_dropout or 0
    slides = qwen2 and "sliding_attention" in config.layer_types
    out["window"] = config.sliding_window if slides else 0
    out["pad_row"] = torch.nn.Embedding(config.vocab_size, 1, padding_idx=config.pad_token_id).padding_idx
    return out


def read(path):
    with tempfile.TemporaryDirectory() as d:
        shutil.copy(path, pathlib.Path(d) / "config.json")
        return AutoConfig.from_pretrained(d)


def golden(path):
    config = read(path)
    tied = config.tie_word_embeddings
    out = {"text": text(config.get_text_config(), tied)}
    if config.model_type == "llava":
        out["vision"] = {"attention_dropout": config.vision_config.attention_dropout}
        out["vision"] |= {key: getattr(config.vision_config, key) for key in VISION}
        out["whole"] = {key: getattr(config, key) for key in WHOLE}
        out["whole"]["dtype"] = str(config.dtype or "").removeprefix("torch.")
        out["whole"]["pad_token_id"] = getattr(config, "pad_token_id", None)
    return out


for name in ("llava-1.5-7b", "llama-3.2-1b", "qwen2.5-0.5b"):
    with tempfile.TemporaryDirectory() as d:
        read(here / f"{name}.json").save_pretrained(d)
        shutil.copy(pathlib.Path(d) / "config.json", here / f"{name}-saved5.json")
paths = sorted(p for p in here.glob("*.json") if p.name != "golden.json")
result = {p.name: golden(p) for p in paths}
(here / "golden.json").write_text(json.dumps(result, indent=1) + "\n")
