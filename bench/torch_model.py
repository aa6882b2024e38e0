"""A stage-2 model of mha2mla-train in plain PyTorch, for bench/torch_side.py: the same weights from the same
directory, F.scaled_dot_product_attention, gradients only where something is trained, logits and the last layer's MLP
only for rows with a label, and no padding but inside of attention (causal, so that it needs no mask)."""

import json
import os
from typing import Callable, NamedTuple

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn


class Tensors:
    """Tensors of a model's directory by name, those of its base where it has only what was changed."""

    def __init__(self, directory):
        self.config = json.load(open(os.path.join(directory, "config.json"), encoding="utf-8"))
        self.files = {}
        for d in [self.config.get("mha2mla", {}).get("base"), directory]:
            for name in sorted(os.listdir(d)) if d else []:
                if name.endswith(".safetensors"):
                    f = safe_open(os.path.join(d, name), "pt")
                    self.files.update({key: f for key in f.keys()})

    def get(self, name, dtype=torch.float32):
        return self.files[name].get_tensor(name).to(dtype)

    def has(self, name):
        return name in self.files


class Batch:
    """bench/lib/stored.h: what is looked up again and again is made once."""

    def __init__(self, path):
        with safe_open(path, "pt") as f:
            t = {key: f.get_tensor(key) for key in f.keys()}
        self.features, self.labels, self.rows = t["features"], t["label_ids"].long(), t["label_rows"].long()
        self.tokens = len(t["ids"])
        modality = t["modality"]
        self.text, self.image = (modality == 0).nonzero()[:, 0], (modality == 1).nonzero()[:, 0]
        self.text_ids = t["ids"][self.text].long()
        self.order = torch.argsort(torch.cat([self.text, self.image]))  # from text, then image to the batch's rows
        lengths = t["begin"].diff()
        self.samples, self.longest = len(lengths), int(lengths.max())
        sample = torch.repeat_interleave(torch.arange(self.samples), lengths)
        self.positions = torch.arange(self.tokens) - t["begin"][sample]
        self.padded = sample * self.longest + self.positions
        self.whole = self.samples * self.longest == self.tokens

    def pad(self, x):
        """[T, heads, width] to [samples, heads, longest, width]."""
        if not self.whole:
            x = x.new_zeros(self.samples * self.longest, *x.shape[1:]).index_copy(0, self.padded, x)
        return x.view(self.samples, self.longest, *x.shape[1:]).transpose(1, 2)

    def unpad(self, x):
        x = x.transpose(1, 2).reshape(self.samples * self.longest, -1)
        return x if self.whole else x[self.padded]


def rounded(x):
    """To bf16 and back: an operand as our products in bf16 take it."""
    return x.bfloat16().float()


class Way(NamedTuple):
    """How a step computes: what frozen weights are kept in, what flows between layers, a product. Trained weights are
    fp32 in all (AdamW's steps are smaller than what bf16 resolves) and cast for the product."""
    frozen: torch.dtype
    stream: torch.dtype
    linear: Callable
    autocast: bool = False


WAYS = {
    "f32": Way(torch.float32, torch.float32, F.linear),
    "autocast": Way(torch.bfloat16, torch.float32, F.linear, True),
    "weights": Way(torch.bfloat16, torch.bfloat16, lambda x, w, b=None: F.linear(x, w.to(x.dtype), b)),
    # frozen weights of a bf16 file are rounded already
    "rounded": Way(torch.float32, torch.float32,
                   lambda x, w, b=None: F.linear(rounded(x), rounded(w) if w.requires_grad else w, b)),
}


def weight(tensors, name, dtype, train=False, rows=slice(None)):
    return nn.Parameter(tensors.get(name, torch.float32 if train else dtype)[rows].contiguous(), requires_grad=train)


class Layer(nn.Module):
    def __init__(self, t, prefix, c, rope_dim, pairs, way):
        super().__init__()
        dtype, self.linear = way.frozen, way.linear
        self.c, self.rope_dim, self.eps = c, rope_dim, c["rms_norm_eps"]
        self.heads = c["num_attention_heads"]
        self.head_dim = c["hidden_size"] // self.heads
        a, cut = prefix + "self_attn.", self.heads * rope_dim
        self.q_rope = weight(t, a + "q_proj.weight", dtype, True, slice(0, cut))
        self.q_rest = weight(t, a + "q_proj.weight", dtype, False, slice(cut, None))
        self.k_rope = weight(t, a + "k_r_proj.weight", dtype, True)
        for part in ("down_kv", "up_k", "up_v"):
            for modality in ("text", "img"):
                self.register_parameter(f"{part}_{modality}", weight(t, f"{a}kv_proj_{modality}.{part}.weight", dtype, True))
        self.o = weight(t, a + "o_proj.weight", dtype)
        self.norm1 = weight(t, prefix + "input_layernorm.weight", way.stream)
        self.norm2 = weight(t, prefix + "post_attention_layernorm.weight", way.stream)
        self.gate, self.up, self.down = (weight(t, f"{prefix}mlp.{n}_proj.weight", dtype) for n in ("gate", "up", "down"))
        self.register_buffer("pairs", torch.tensor(pairs))  # [kv heads, rope_dim / 2]

    def rotate(self, x, cos, sin):
        a, b = x.view(len(x), self.heads, self.rope_dim).chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def by_modality(self, parts, name):
        return [self.linear(x, getattr(self, f"{name}_{m}")) for x, m in zip(parts, ("text", "img"))]

    def forward(self, x, batch, cos, sin, rows):
        h = F.rms_norm(x, x.shape[-1:], self.norm1, self.eps)
        cos, sin = cos[:, self.pairs].to(h.dtype), sin[:, self.pairs].to(h.dtype)
        latent = self.by_modality([h[batch.text], h[batch.image]], "down_kv")
        up_k, up_v = (torch.cat(self.by_modality(latent, n))[batch.order].view(len(h), self.heads, -1) for n in ("up_k", "up_v"))
        q = torch.cat([self.rotate(self.linear(h, self.q_rope), cos, sin),
                       self.linear(h, self.q_rest).view(len(h), self.heads, -1)], -1)
        k = torch.cat([self.rotate(self.linear(h, self.k_rope), cos, sin), up_k], -1)
        h = batch.unpad(F.scaled_dot_product_attention(batch.pad(q), batch.pad(k), batch.pad(up_v), is_causal=True))
        if rows is not None:
            x, h = x[rows], h[rows]
        x = x + self.linear(h, self.o)
        h = F.rms_norm(x, x.shape[-1:], self.norm2, self.eps)
        return x + self.linear(F.silu(self.linear(h, self.gate)) * self.linear(h, self.up), self.down)


class Model(nn.Module):
    def __init__(self, directory, way):
        super().__init__()
        self.way, dtype = way, way.frozen
        t = Tensors(directory)
        c, m = t.config["text_config"], t.config["mha2mla"]
        text, head = next((a, b) for a, b in (("language_model.model.", "language_model."), ("model.language_model.", ""))
                          if t.has(a + "embed_tokens.weight"))
        projector = "multi_modal_projector." if head else "model.multi_modal_projector."
        self.embed = weight(t, text + "embed_tokens.weight", dtype)
        tied = t.config.get("tie_word_embeddings")
        self.head = self.embed if tied else weight(t, head + "lm_head.weight", dtype)
        self.projector = nn.ParameterList(weight(t, f"{projector}linear_{i}.{n}", dtype) for i in (1, 2) for n in ("weight", "bias"))
        self.norm, self.eps = weight(t, text + "norm.weight", way.stream), c["rms_norm_eps"]
        self.layers = nn.ModuleList(Layer(t, f"{text}layers.{i}.", c, m["rope_dim_for_mla"], m["rope_pairs"][i], way)
                                    for i in range(c["num_hidden_layers"]))
        head_dim = c["hidden_size"] // c["num_attention_heads"]
        self.inv_freq = 1 / c["rope_theta"] ** (torch.arange(0, head_dim, 2).float() / head_dim)

    def loss(self, batch):
        with torch.autocast("cpu", torch.bfloat16, self.way.autocast):
            return self.loss_as_set(batch)

    def loss_as_set(self, batch):
        (w1, b1, w2, b2), linear, stream = self.projector, self.way.linear, self.way.stream
        image = linear(F.gelu(linear(batch.features.to(stream), w1, b1)), w2, b2)
        x = torch.cat([F.embedding(batch.text_ids, self.embed).to(stream), image.to(stream)])[batch.order]
        angle = batch.positions.float()[:, None] * self.inv_freq
        cos, sin = angle.cos(), angle.sin()
        for i, layer in enumerate(self.layers):
            x = layer(x, batch, cos, sin, batch.rows if i == len(self.layers) - 1 else None)
        logits = linear(F.rms_norm(x, x.shape[-1:], self.norm, self.eps), self.head)
        return F.cross_entropy(logits.float(), batch.labels)
