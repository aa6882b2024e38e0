#!/usr/bin/env python3
"""Makes what tests/test_cache_golden.c reads: packed caches as others compute them.

    python3 -m venv V && V/bin/pip install torch==2.13.0 transformers==5.24.0 optimum-quanto==0.2.7 \\
        hqq==0.2.8.post1 safetensors numpy
    git clone https://github.com/jy-yuan/KIVI && git -C KIVI checkout 876b4d2
    V/bin/python make_golden.py KIVI/quant/new_pack.py

golden.safetensors has, for 96 rows x [96, 64] in fp32 (of bf16 values, as KIVI's wait in bf16 here),
    FORM.codes [96, 64] uint8, FORM.scale, FORM.least   x is about scale * code + least
by optimum-quanto (quanto4, quanto2: a group for each row, as QuantoQuantizedLayer has it with axis 0 and
heads of 64), by HQQ (hqq4, hqq2: each row by itself, so that each ends its rounds by itself, as ours do)
and by KIVI's torch code (kivi4k, kivi2k: a group for each channel and 32 rows; kivi4v, kivi2v: for 32
channels of a row); and for the model beside it, a Llama of 2 layers, by transformers in fp32,
    ids [41] int32              a prompt of 40 tokens, and the next one
    plain [2, 40]               logits of the prompt's last token and of the next one
    quanto4, quanto2 [2, 40]    the same with QuantizedCache("quanto", axis 0, groups of 64)
    quanto4.fp16, quanto2.fp16  the same where it rounds scale and shift to fp16, as our blocks hold them; the model
                                is one of which no key or value is near the middle between two codes then
HQQ's own cache stops its rounds for a whole tensor at a time, KIVI's needs a GPU: neither is here."""
import importlib.util
import os
import sys
import types

import torch
import transformers
from hqq.core.quantize import Quantizer
from optimum.quanto import MaxOptimizer, qint2, qint4, quantize_weight
from safetensors.torch import save_file
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, QuantizedCache

HERE = os.path.dirname(os.path.abspath(__file__))
ROWS, WIDTH, RUN, PROMPT, VOCAB = 96, 64, 32, 40, 40


def rows():
    """Of other sizes and means, and with outlying channels, as keys have."""
    g = torch.Generator().manual_seed(5)
    x = torch.randn(ROWS, WIDTH, generator=g)
    x = x * torch.logspace(-1.5, 1, ROWS)[:, None] + torch.randn(ROWS, 1, generator=g)
    x[:, ::17] *= 6
    return x.bfloat16().float()


def quanto(x, kind):
    scale, shift = MaxOptimizer()(x, kind, 0, WIDTH)
    q = quantize_weight(x, kind, 0, scale, shift, WIDTH)
    return q._data.unpack().reshape(ROWS, WIDTH), scale.reshape(-1), -shift.reshape(-1), q.dequantize()


def hqq(x, bits):
    codes, scale, least, back = [], [], [], []
    for row in x:
        q, meta = Quantizer.quantize(row[None], nbits=bits, axis=1, group_size=WIDTH, device="cpu",
                                     compute_dtype=torch.float32, bitpack=False)
        codes.append(q.reshape(-1))
        scale.append(meta["scale"].reshape(-1))
        least.append(-(meta["zero"] * meta["scale"]).reshape(-1))
        back.append(Quantizer.dequantize(q, meta).reshape(-1))
    return torch.stack(codes), torch.cat(scale), torch.cat(least), torch.stack(back)


def kivi_code(path):
    """Its file, without the kernels of triton in it."""
    triton = types.ModuleType("triton")
    triton.jit, triton.language = (lambda f: f), types.ModuleType("triton.language")
    triton.language.constexpr = int
    sys.modules.update({"triton": triton, "triton.language": triton.language})
    spec = importlib.util.spec_from_file_location("new_pack", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kivi(code, x, bits, keys):
    pack = code.quant_and_pack_kcache if keys else code.quant_and_pack_vcache
    packed, scale, least = pack(x[None, None].clone(), RUN, bits)
    codes = code.unpack_tensor(packed, bits, pack_dim=2 if keys else 3)[0, 0]
    return codes, scale.flatten(), least.flatten(), None


def check(name, x, codes, scale, least, back):
    """scale * code + least is what the other's own unpacking gives, and near x."""
    if back is not None:
        ours = scale[:, None] * codes.float() + least[:, None]
        # HQQ's is (code - zero) * scale
        assert (ours - back.reshape(ROWS, WIDTH)).abs().max() < 1e-5 * x.abs().max(), name
    return {f"{name}.codes": codes.to(torch.uint8).contiguous(), f"{name}.scale": scale.float().contiguous(),
            f"{name}.least": least.float().contiguous()}


def forms(path):
    x, code = rows(), kivi_code(path)
    out = {"x": x}
    for name, kind in (("quanto4", qint4), ("quanto2", qint2)):
        out |= check(name, x, *quanto(x, kind))
    for bits in (4, 2):
        out |= check(f"hqq{bits}", x, *hqq(x, bits))
        out |= check(f"kivi{bits}k", x, *kivi(code, x, bits, True))
        out |= check(f"kivi{bits}v", x, *kivi(code, x, bits, False))
    return out


class Rounded(MaxOptimizer):
    """Its scale and shift in fp16; and how near to the middle of two codes a value has come, in steps."""
    near = 1.0

    def __call__(self, x, kind, axis, group):
        scale, shift = (v.half().float() for v in super().__call__(x, kind, axis, group))
        q = (x.reshape(-1, group) + shift.reshape(-1, 1)) / scale.reshape(-1, 1)
        inside = (q > 0) & (q < 2**kind.bits - 1)
        self.near = min(self.near, ((q - q.floor() - 0.5).abs()[inside]).min().item())
        return scale, shift


def model(seed):
    torch.manual_seed(seed)
    config = LlamaConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                         head_dim=64, intermediate_size=48, vocab_size=VOCAB, max_position_embeddings=128,
                         bos_token_id=1, eos_token_id=2)
    m = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, p in m.named_parameters():  # attention that is neither even nor on one token
            if p.dim() == 2:
                p.normal_(0, 1 if "embed" in name else 0.25 if "lm_head" in name else 0.15)
            p.copy_(p.half().float())
    return m


def logits(m, ids, cache):
    with torch.no_grad():
        first = m(ids[None, :PROMPT], past_key_values=cache, use_cache=True).logits[0, -1]
        second = m(ids[None, PROMPT:], past_key_values=cache, use_cache=True).logits[0, -1]
    return torch.stack([first, second])


def packed(m, ids, bits, optimizer=None):
    cache = QuantizedCache("quanto", m.config, nbits=bits, axis_key=0, axis_value=0, q_group_size=64)
    for layer in cache.layers:
        layer.optimizer = optimizer or layer.optimizer
    return logits(m, ids, cache)


def clear_model(ids):
    """No value is within 2e-5 of a step of the middle: ten times what fp32 sums differ by."""
    for seed in range(100):
        m, rounded = model(seed), Rounded()
        out = {f"quanto{bits}.fp16": packed(m, ids, bits, rounded) for bits in (4, 2)}
        if rounded.near > 2e-5:
            print("seed", seed, "nearest", rounded.near)
            return m, out
    sys.exit("no such model")


def main():
    out = forms(sys.argv[1])
    ids = torch.randint(3, VOCAB, (PROMPT + 1,), generator=torch.Generator().manual_seed(1))
    out["ids"] = ids.int()
    m, rounded = clear_model(ids)
    out |= rounded
    out["plain"] = logits(m, ids, DynamicCache(config=m.config))
    for bits in (4, 2):
        out[f"quanto{bits}"] = packed(m, ids, bits)
    for name in ("quanto4", "quanto2", *rounded):
        print(name, "logits off by", (out[name] - out["plain"]).abs().amax(1).tolist())
    save_file(out, os.path.join(HERE, "golden.safetensors"),
              {"transformers": transformers.__version__, "torch": torch.__version__})
    m.half().save_pretrained(os.path.join(HERE, "llama"))
    os.unlink(os.path.join(HERE, "llama", "generation_config.json"))


main()
