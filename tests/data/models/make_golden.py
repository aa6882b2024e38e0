"""Golden values of small random models, as transformers computes them.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 transformers==5.24.0 safetensors numpy
    venv/bin/python make_golden.py

Writes one directory for each model beside this script: config.json and the weights as transformers
saves them, and golden.safetensors:
    ids.N, labels.N [T] int32   sample N; labels.N[i] is what ids.N[i] is trained as, -100: nothing
    pixels.N [3, S, S]          its picture, as the processor would hand it over
    logits.N [T, V]             of every position
    hidden.N.L [T, d]           of sample 0: the embeddings (L 0), each layer, the last after the norm
    generated.N                 greedy, from the first half of sample N, 12 tokens, with a cache
    loss [1]                    mean cross entropy of all labelled tokens of the samples
    grad.NAME                   of that loss, by the name in the weights' file
    losses [5], lr [5]          five AdamW steps on the same samples with the published schedule
    after.NAME                  the weights after them
Everything is fp32 on the CPU, attention "eager". The metadata says the versions.
llava-4.51 and llava-4.52 hold the weights of llava under the names of earlier transformers.
"""
import json
import math
import os
import shutil

import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, CLIPVisionConfig, LlamaConfig, LlavaConfig,
                          LlavaForConditionalGeneration, Qwen2Config)

HERE = os.path.dirname(os.path.abspath(__file__))
IMAGE = 57
transformers.logging.set_verbosity_error()

# warm-up 2 of 5 steps, constant, 1 - sqrt over the last 2: every part of the schedule is met
STEPS, WARM, TAIL, PEAK = 5, 2, 2, 2e-3


def published_lr(step):
    if step <= WARM:
        return PEAK * step / WARM
    if step < STEPS - TAIL:
        return PEAK
    return PEAK * (1 - math.sqrt((step - (STEPS - TAIL)) / TAIL))


def llava():
    text = LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, vocab_size=64,
                       num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=128,
                       rms_norm_eps=1e-5, tie_word_embeddings=False)
    vision = CLIPVisionConfig(hidden_size=24, intermediate_size=40, num_hidden_layers=3,
                              num_attention_heads=2, image_size=12, patch_size=4, projection_dim=16)
    return LlavaConfig(text_config=text, vision_config=vision, image_token_index=IMAGE,
                       image_seq_length=9, vision_feature_layer=-2,
                       vision_feature_select_strategy="default", tie_word_embeddings=False)


def llama():
    return LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, vocab_size=64,
                       num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
                       rms_norm_eps=1e-5, tie_word_embeddings=True, rope_parameters={
                           "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0,
                           "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                           "original_max_position_embeddings": 16})


def qwen2():
    return Qwen2Config(hidden_size=32, intermediate_size=48, num_hidden_layers=2, vocab_size=64,
                       num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
                       rms_norm_eps=1e-6, tie_word_embeddings=False)


def make_model(config):
    config._attn_implementation = "eager"
    if config.model_type == "llava":
        model = LlavaForConditionalGeneration(config)
    else:
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    g = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1:
                p.normal_(0, 0.6 / math.sqrt(p[0].numel()) if "embed" not in name else 0.5, generator=g)
            elif "norm" in name and name.endswith("weight"):
                p.copy_(1 + 0.2 * torch.randn(p.shape, generator=g))
            else:
                p.normal_(0, 0.2, generator=g)
    return model.float().eval()


def samples(config, rng):
    """Three samples of different lengths; the labels are the last third and a stretch before."""
    out = []
    for n, (before, after) in enumerate([(3, 20), (0, 11), (7, 15)]):
        picture = config.model_type == "llava" and n != 1
        tokens = 9 if picture else 0
        ids = list(rng.integers(3, 50, before)) + [IMAGE] * tokens + list(rng.integers(3, 50, after))
        labels = [-100] * len(ids)
        for i in list(range(len(ids) - after // 3, len(ids))) + ([before + tokens + 2] if n == 0 else []):
            labels[i] = ids[i]
        pixels = torch.tensor(rng.normal(size=(3, 12, 12)), dtype=torch.float32) if picture else None
        out.append((torch.tensor(ids), torch.tensor(labels), pixels))
    return out


def run(model, sample, **more):
    ids, _, pixels = sample
    if pixels is not None:
        more["pixel_values"] = pixels[None]
    return model(input_ids=ids[None], **more)


def loss_of(model, batch):
    total, count = 0, 0
    for s in batch:
        logits = run(model, s).logits[0]
        labels = s[1][1:]
        total = total + torch.nn.functional.cross_entropy(logits[:-1], labels, ignore_index=-100,
                                                          reduction="sum")
        count += int((labels != -100).sum())
    return total / count


def file_names(model, directory):
    """The weights file's name of each parameter, found by value: transformers renames on saving."""
    saved = {}
    for f in sorted(os.listdir(directory)):
        if f.endswith(".safetensors") and f != "golden.safetensors":
            saved.update(load_file(os.path.join(directory, f)))
    names = {}
    for name, p in model.named_parameters():
        same = [k for k, v in saved.items() if v.shape == p.shape and torch.equal(v, p.detach())]
        assert len(same) == 1, (name, same)
        names[name] = same[0]
    assert len(names) == len(saved), set(saved) - set(names.values())
    return names


def other_layouts(directory):
    """The same weights under the names of transformers before 4.52, in two shards, and of 4.52."""
    layouts = {"4.51": ("language_model.model.", "language_model.lm_head.", "vision_tower.vision_model.",
                        "multi_modal_projector."),
               "4.52": ("model.language_model.", "lm_head.", "model.vision_tower.vision_model.",
                        "model.multi_modal_projector.")}
    mine = ("language_model.model.", "language_model.lm_head.", "vision_tower.", "multi_modal_projector.")
    tensors = load_file(os.path.join(directory, "model.safetensors"))
    for version, names in layouts.items():
        out = os.path.join(HERE, f"llava-{version}")
        shutil.rmtree(out, ignore_errors=True)
        os.makedirs(out)
        shutil.copy(os.path.join(directory, "config.json"), out)
        named = {}
        for key, value in tensors.items():
            part = [i for i in range(4) if key.startswith(mine[i])]
            assert len(part) == 1, key
            named[names[part[0]] + key[len(mine[part[0]]):]] = value
        if version == "4.52":
            save_file(named, os.path.join(out, "model.safetensors"), {"format": "pt"})
            continue
        index = {"metadata": {}, "weight_map": {}}
        for shard in range(2):
            file = f"model-0000{shard + 1}-of-00002.safetensors"
            keys = [k for i, k in enumerate(sorted(named)) if i % 2 == shard]
            save_file({k: named[k] for k in keys}, os.path.join(out, file), {"format": "pt"})
            index["weight_map"].update({k: file for k in keys})
        with open(os.path.join(out, "model.safetensors.index.json"), "w") as f:
            json.dump(index, f, indent=1)


def golden(name, config):
    directory = os.path.join(HERE, name)
    shutil.rmtree(directory, ignore_errors=True)
    model = make_model(config)
    model.save_pretrained(directory)
    for f in os.listdir(directory):
        if f not in ("config.json", "model.safetensors"):
            os.remove(os.path.join(directory, f))
    names = file_names(model, directory)
    batch = samples(config, numpy.random.default_rng(11))
    out = {}
    with torch.no_grad():
        for n, s in enumerate(batch):
            r = run(model, s, output_hidden_states=True)
            out[f"ids.{n}"] = s[0].int()
            out[f"labels.{n}"] = s[1].int()
            if s[2] is not None:
                out[f"pixels.{n}"] = s[2]
            out[f"logits.{n}"] = r.logits[0]
            if n == 0:
                for i, h in enumerate(r.hidden_states):
                    out[f"hidden.{i}"] = h[0]
            half = s[0][: len(s[0]) - len(s[0]) // 4]
            more = {"pixel_values": s[2][None]} if s[2] is not None else {}
            ids = [model.generate(input_ids=half[None], attention_mask=torch.ones_like(half[None]),
                                  max_new_tokens=12, do_sample=False, use_cache=cached,
                                  eos_token_id=None, pad_token_id=0, **more)[0][len(half):]
                   for cached in (True, False)]
            assert torch.equal(*ids)
            out[f"prompt.{n}"] = half.int()
            out[f"generated.{n}"] = ids[0].int()
    loss = loss_of(model, batch)
    out["loss"] = loss.detach()[None]
    model.zero_grad()
    loss.backward()
    for k, p in model.named_parameters():
        if p.grad is not None:
            out[f"grad.{names[k]}"] = p.grad.clone()
    opt = torch.optim.AdamW(model.parameters(), lr=PEAK, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    losses = []
    for step in range(STEPS):
        for group in opt.param_groups:
            group["lr"] = published_lr(step)
        opt.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        losses.append(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
    out["losses"] = torch.stack(losses)
    out["lr"] = torch.tensor([published_lr(s) for s in range(STEPS)])
    for k, p in model.named_parameters():
        if p.grad is not None:
            out[f"after.{names[k]}"] = p.detach().clone()
    save_file({k: v.contiguous() for k, v in out.items()}, os.path.join(directory, "golden.safetensors"),
              {"torch": torch.__version__, "transformers": transformers.__version__})
    print(name, len(out), "tensors; loss", float(out["loss"]), "->", float(losses[-1]),
          "generated", out["generated.0"].tolist())
    return directory


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(1)
    for name, config in (("llava", llava()), ("llama", llama()), ("qwen2", qwen2())):
        directory = golden(name, config)
        if name == "llava":
            other_layouts(directory)
