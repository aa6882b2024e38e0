"""Writes what transformers makes of each config in this directory: golden.json of llava, llama and
qwen2, golden-families.json of llava_next, mistral, qwen2_vl and qwen2_5_vl.

python3 -m venv venv && venv/bin/pip install torch==2.13.0 transformers==5.24.0
venv/bin/python tests/data/hfconfig/make_golden.py
python3 -m venv old && old/bin/pip install torch==2.13.0 transformers==4.51.0
old/bin/python tests/data/hfconfig/make_golden.py saved     # before; the same with 4.57.1

Files with the name of a model are as it was published; NAME-saved5.json is the same as transformers
5 saves it, and NAME-saved4.51.json and NAME-saved4.57.json as those do (this script makes them); the
others are for single settings. The published files of llava_next, qwen2_vl and qwen2_5_vl were not downloaded
but put together from copies and descriptions: of llama3-llava-next-8b the vocab_size is not certain.

For Qwen2-VL and Qwen2.5-VL the published file and that of 4.51 have the decoder's
keys at the top, that of 4.57 has them in text_config and some at the top too, that of 5 in text_config.

Of a missing sliding_window mistral makes 4096, of a null none; "window" is 0 for none. Where both
image_token_id and image_token_index are there, the first has priority. "tie_word_embeddings" of the
families is what a model does that is made from the config. Of llava_next transformers 5 obeys the key at
the top alone, 4.51 and 4.57 that in text_config alone: no file here has only the second.
"""

import copy
import json
import pathlib
import shutil
import sys
import tempfile

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

here = pathlib.Path(__file__).parent

TEXT = """model_type hidden_size intermediate_size num_hidden_layers num_attention_heads
num_key_value_heads vocab_size max_position_embeddings rms_norm_eps initializer_range hidden_act
bos_token_id eos_token_id pad_token_id""".split()
VISION = """model_type hidden_size intermediate_size num_hidden_layers num_attention_heads image_size
patch_size num_channels projection_dim layer_norm_eps hidden_act""".split()
VISION_QWEN = """depth hidden_size intermediate_size num_heads in_channels patch_size spatial_merge_size
temporal_patch_size window_size out_hidden_size fullatt_block_indexes tokens_per_second hidden_act""".split()
VISION_QWEN2 = """depth embed_dim hidden_size mlp_ratio num_heads in_channels patch_size spatial_merge_size
temporal_patch_size hidden_act""".split()
WHOLE = """image_token_index image_seq_length vision_feature_layer vision_feature_select_strategy
projector_hidden_act multimodal_projector_bias""".split()
WHOLE_QWEN = "image_token_id video_token_id vision_start_token_id vision_end_token_id".split()
FAMILIES = ("llava_next", "mistral", "qwen2_vl", "qwen2_5_vl")
SAVED = {"llava": ("llava-1.5-7b", "llama-3.2-1b", "qwen2.5-0.5b"),
         "families": ("llava-v1.6-vicuna-7b", "llava-v1.6-mistral-7b", "llama3-llava-next-8b", "qwen2.5-vl-3b",
                      "qwen2.5-vl-7b", "qwen2-vl-2b")}


def text(config, tied):
    out = {key: getattr(config, key) for key in TEXT}
    heads = config.num_attention_heads
    out["head_dim"] = getattr(config, "head_dim", None) or config.hidden_size // heads
    qwen2 = config.model_type in ("qwen2", "qwen2_vl_text", "qwen2_5_vl_text")  # biases are fixed in the model's code
    mistral = config.model_type == "mistral"  # as well
    out["qkv_bias"] = qwen2 or not mistral and config.attention_bias
    out["o_bias"] = False if qwen2 or mistral else config.attention_bias
    out["mlp_bias"] = False if qwen2 or mistral else config.mlp_bias
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
    slides = mistral or qwen2 and "sliding_attention" in config.layer_types
    out["window"] = config.sliding_window or 0 if slides else 0
    out["pad_row"] = torch.nn.Embedding(config.vocab_size, 1, padding_idx=config.pad_token_id).padding_idx
    return out


def read(path):
    with tempfile.TemporaryDirectory() as d:
        shutil.copy(path, pathlib.Path(d) / "config.json")
        return AutoConfig.from_pretrained(d)


def golden(path):
    config = read(path)
    out = {"text": text(config.get_text_config(), config.tie_word_embeddings)}
    if config.model_type == "llava":
        add_vision(out, config, VISION, WHOLE)
    return out


def add_vision(out, config, vision, whole):
    out["vision"] = {"attention_dropout": getattr(config.vision_config, "attention_dropout", 0)}
    out["vision"] |= {key: getattr(config.vision_config, key) for key in vision}
    out["whole"] = {key: getattr(config, key) for key in whole}
    out["whole"]["dtype"] = str(config.dtype or "").removeprefix("torch.")
    out["whole"]["pad_token_id"] = getattr(config, "pad_token_id", None)


def golden_of_family(path):
    config = read(path)
    out = {"text": text(config.get_text_config(), is_tied(config))}
    if config.model_type == "llava_next":
        add_vision(out, config, VISION, WHOLE + ["image_grid_pinpoints"])
    elif config.model_type in ("qwen2_vl", "qwen2_5_vl"):
        old = config.model_type == "qwen2_vl"
        add_vision(out, config, VISION_QWEN2 if old else VISION_QWEN, WHOLE_QWEN)
        if old:  # as Qwen2VLVisionBlock has it
            out["vision"]["intermediate_size"] = int(config.vision_config.embed_dim * config.vision_config.mlp_ratio)
        out["text"]["mrope_section"] = config.text_config.rope_parameters.get("mrope_section", [16, 24, 24])
        out["vision"]["rope_type"] = config.vision_config.rope_parameters["rope_type"]
        out["vision"]["rope_theta"] = config.vision_config.rope_parameters["rope_theta"]
    return out


def is_tied(config):
    """Whether a model of one layer has one matrix for both."""
    config = copy.deepcopy(config)
    for part in (config.get_text_config(), getattr(config, "vision_config", None)):
        if hasattr(part, "num_hidden_layers"):
            part.num_hidden_layers = 1
    kind = {"mistral": AutoModelForCausalLM}.get(config.model_type, AutoModelForImageTextToText)
    with torch.device("meta"):
        model = kind.from_config(config)
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


def save(names, end):
    for name in names:
        with tempfile.TemporaryDirectory() as d:
            shutil.copy(here / f"{name}.json", pathlib.Path(d) / "config.json")
            AutoConfig.from_pretrained(d).save_pretrained(d)
            saved = (pathlib.Path(d) / "config.json").read_text().replace(d, name)  # as _name_or_path
            (here / f"{name}-saved{end}.json").write_text(saved)


def main():
    if sys.argv[1:] == ["saved"]:
        save(SAVED["families"], transformers.__version__.rpartition(".")[0])
        return
    save(SAVED["llava"] + SAVED["families"], "5")
    results = {"golden.json": {}, "golden-families.json": {}}
    for path in sorted(p for p in here.glob("*.json") if p.name not in results):
        if json.loads(path.read_text())["model_type"] in FAMILIES:
            results["golden-families.json"][path.name] = golden_of_family(path)
        else:
            results["golden.json"][path.name] = golden(path)
    for name, result in results.items():
        (here / name).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
