#!/usr/bin/env python3
"""How long the hidden state of a text's first token becomes, in the original and in conversions.

    pip install numpy==2.4.6 safetensors==0.8.0 tokenizers==0.23.3
    python3 sinks.py MODEL CALIB.jsonl [SVD_MODEL ...]

A first token sees itself alone, so that its state needs no attention but its own value. Shown are
"/" and "ock", the percentiles over the tokens with which pieces of CALIB begin, and those over 1,000
drawn from the vocabulary with a fixed seed.
"""
import json
import sys

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

SHOWN, DRAWN, LAYERS = ("/", "ock"), 1000, (8, 12)


def rms_norm(x, gain):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * gain


def lengths(config, base, own, ids):
    """[layers, ids]: behind each layer. `own` are the tensors that a conversion has changed."""
    def get(name):
        return (own if name in own else base)[name].astype(np.float32)

    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    x, out = get("model.embed_tokens.weight")[ids], []
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        a, m = p + "self_attn.", p + "mlp."
        h = rms_norm(x, get(p + "input_layernorm.weight"))
        if a + "kv_proj.up_v.weight" in own:
            v = h @ get(a + "kv_proj.down_kv.weight").T @ get(a + "kv_proj.up_v.weight").T
        else:
            v = h @ get(a + "v_proj.weight").T
        v = np.repeat(v.reshape(len(ids), groups, -1), heads // groups, 1).reshape(len(ids), -1)
        x = x + v @ get(a + "o_proj.weight").T
        h = rms_norm(x, get(p + "post_attention_layernorm.weight"))
        gate = h @ get(m + "gate_proj.weight").T
        up = h @ get(m + "up_proj.weight").T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ get(m + "down_proj.weight").T
        out.append(np.linalg.norm(x, axis=1))
    return np.array(out)


def named(values, digits):
    return ", ".join(f"{t} {v:.{digits}f}" for t, v in zip(SHOWN, values))


def show(what, values, digits):
    least, low, half, most = (f"{v:.{digits}f}" for v in np.percentile(values, (0, 1, 50, 100)))
    print(f"  {what}: least {least}, one in a hundred below {low}, half {half}, most {most}")


def main(model, calib, converted):
    with open(f"{model}/config.json", encoding="utf-8") as f:
        config = json.load(f)
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    base = load_file(f"{model}/model.safetensors")
    special = {i for i, t in tokenizer.get_added_tokens_decoder().items() if t.special}
    plain = [i for i in range(tokenizer.get_vocab_size()) if i not in special]
    with open(calib, encoding="utf-8") as f:
        begun = sorted({tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids[0]
                        for line in f})
    drawn = list(np.random.default_rng(0).choice(plain, DRAWN, replace=False))
    ids = np.array([tokenizer.token_to_id(t) for t in SHOWN] + begun + drawn)
    first = len(SHOWN)
    original = lengths(config, base, {}, ids)
    for layer in LAYERS:
        print(f"original, behind layer {layer}: {named(original[layer, :first], 0)}")
        show(f"{len(begun)} first tokens", original[layer, first:-DRAWN], 0)
        show(f"{DRAWN} of the vocabulary", original[layer, -DRAWN:], 0)
    for path in converted:
        share = lengths(config, base, load_file(f"{path}/model.safetensors"), ids) / original
        layer = LAYERS[-1]
        print(f"{path}, behind layer {layer}, as a share: {named(share[layer, :first], 2)}")
        show(f"{DRAWN} of the vocabulary", share[layer, -DRAWN:], 2)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: sinks.py MODEL CALIB.jsonl [SVD_MODEL ...]")
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
