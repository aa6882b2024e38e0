"""Our exports of small models of every family, in every state of attention, in transformers. By hand, in the
project's root, with environments of torch 2.13.0 and pillow beside transformers 4.57.6 or 5.24.0:

    mkdir WORK && MHA2MLA_EXPORTS=WORK build/tests/test_transformers
    any/bin/python tests/export/compare.py WORK [NAME ...]

Each directory of WORK, or those that begin with a NAME, is opened by its own modeling file; no tensor may be
missing, left over or of another shape. Then, beside what our program computed (ours.safetensors):
    logits    of all positions of all samples, in one pass without a cache, and with one
    absorbed  the logits of each generated token from the cache, and those of one pass over the whole answer
    tokens    greedy, 12 after each prompt: the same ids, alone and (text) in a batch padded on the left
    bytes     of the cache's tensors after that: the same number
    beams     two beams give the same with a cache as without: the modalities follow when it is reordered
    saved     what save_pretrained writes opens again and gives the same logits
The differences printed are relative to the largest logit. 1e-5 is allowed, twice what the originals have in
tests/data/vlm/check_export.py: the weights are the same bits, sums are taken in another order, and a product
through a latent has one factor more. 2e-5 for the cross-head bases, which are random: with their scales scores
are differences of larger numbers. The one model above 1e-5, llava.cross-only_key, is off its own result in
double precision by 9.1e-6 here and by 4.4e-6 in transformers."""
import json
import os
import re
import sys
import tempfile
import traceback

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

VERSION = tuple(int(x) for x in transformers.__version__.split(".")[:2])
NEW = 12


def limit(directory):
    return 2e-5 if ".cross-" in directory else 1e-5


def older(directory, to):
    """The same directory as transformers before 5 would have saved it, which 4.57 needs: RoPE's settings,
    and the names of CLIP's tensors."""
    weights = load_file(os.path.join(directory, "model.safetensors"))
    save_file({re.sub(r"^((model\.)?vision_tower\.)(?!vision_model\.)", r"\1vision_model.", k): v
               for k, v in weights.items()}, os.path.join(to, "model.safetensors"), {"format": "pt"})
    for name in os.listdir(directory):
        if name not in ("config.json", "model.safetensors"):
            os.symlink(os.path.abspath(os.path.join(directory, name)), os.path.join(to, name))
    with open(os.path.join(directory, "config.json")) as f:
        config = json.load(f)
    text = config.get("text_config", config)
    rope = text.pop("rope_parameters", None)
    if rope:
        text["rope_theta"] = rope.pop("rope_theta")
        if "mrope_section" in rope:
            rope["type"] = rope.pop("rope_type")
        text["rope_scaling"] = None if rope == {"rope_type": "default"} else rope
    with open(os.path.join(to, "config.json"), "w") as f:
        json.dump(config, f)


def open_model(directory, **how):
    if VERSION < (5, 0):
        with tempfile.TemporaryDirectory() as to:
            older(directory, to)
            return open_directory(to, **how)
    return open_directory(directory, **how)


def open_directory(directory, **how):
    with open(os.path.join(directory, "config.json")) as f:
        loader = getattr(transformers, *json.load(f)["auto_map"])
    how = {"dtype": torch.float32} | how
    model, info = loader.from_pretrained(directory, trust_remote_code=True, output_loading_info=True, **how)
    assert not any(info.values()), (directory, info)
    assert type(model).__name__.startswith("Mha2mla")
    return model.eval()


def pictures_of(kind, golden, pictures, n):
    """What a processor would give beside the ids."""
    if f"pixels.{n}" in golden:
        return {"pixel_values": golden[f"pixels.{n}"][None]}
    numbers = golden[f"pictures.{n}"].tolist() if f"pictures.{n}" in golden else []
    if not numbers:
        return {}
    pixels, out = [pictures[f"pixels.{k}"] for k in numbers], {}
    if kind.startswith("qwen"):
        grid = torch.stack([pictures[f"grid.{k}"] for k in numbers]).long()
        return {"image_grid_thw": grid, "pixel_values": torch.cat(pixels)}
    out["image_sizes"] = torch.tensor([pictures[f"picture.{k}"].shape[:2] for k in numbers])
    out["pixel_values"] = torch.zeros(len(pixels), max(map(len, pixels)), *pixels[0].shape[1:])
    for to, p in zip(out["pixel_values"], pixels):
        to[:len(p)] = p
    return out


def inputs(model, ids, more):
    for module in model.modules():  # the RoPE of type dynamic remembers the longest text
        if hasattr(module, "original_max_seq_len"):
            module.register_buffer("inv_freq", module.original_inv_freq, persistent=False)
            module.max_seq_len_cached = module.original_max_seq_len
    kind, out = model.config.model_type, {"input_ids": ids[None], "attention_mask": torch.ones_like(ids)[None]}
    if kind.startswith("qwen2_"):
        model.model.rope_deltas = None
        if VERSION >= (5, 0):
            out["mm_token_type_ids"] = (ids == model.config.image_token_id).int()[None]
    return out | more


def difference(got, want):
    return ((got - want).abs().max() / want.abs().max()).item()


def image_tokens(model):
    return torch.tensor(model.config.mha2mla["modeling"]["image_tokens"])


def odd_start(model, ids):
    """A picture without its start token has positions of text in Qwen-VL before transformers 5."""
    if VERSION >= (5, 0) or not model.config.model_type.startswith("qwen2_"):
        return False
    places = ids == model.config.image_token_id
    first = places & ~torch.cat([torch.tensor([False]), places[:-1]])
    before = torch.cat([torch.tensor([-1]), ids[:-1]])
    return bool((before[first] != model.config.vision_start_token_id).any())


def cache_name(model):
    return sys.modules[type(model).__module__].CACHE


def generate(model, given, **how):
    return model.generate(**given, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0,
                          return_dict_in_generate=True, **how)


def no_stop(model):
    """Our tokens were generated without one."""
    model.generation_config.eos_token_id = None
    return model


def compare_sample(model, n, ours, golden, more, found):
    ids, prompt = golden[f"ids.{n}"].long(), golden[f"prompt.{n}"].long()
    if odd_start(model, ids):
        found["left out"] += 1
        return
    want = ours[f"logits.{n}"]
    for cached in (False, True):
        got = model(**inputs(model, ids, more), use_cache=cached).logits[0]
        found["logits"] = max(found["logits"], difference(got, want))
    given = inputs(model, prompt, more)
    out = generate(model, given, output_logits=True)
    new = out.sequences[0, len(prompt):]
    found["tokens"] += (new == ours[f"generated.{n}"].long()).sum().item()
    found["of"] += NEW
    cache = out[cache_name(model)]
    found["bytes"] += sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))
    assert cache.nbytes() and type(cache).__name__ == "LatentCache"
    if found["dynamic"] or torch.isin(new, image_tokens(model)).any():
        return  # keys keep the rotation of a shorter text; a place without a picture is refused
    whole = model(**inputs(model, out.sequences[0], more), use_cache=False).logits[0, len(prompt) - 1:-1]
    found["absorbed"] = max(found["absorbed"], difference(torch.cat(out.logits), whole))


def compare_batch(model, ours, golden, found):
    """All prompts of a text model at once, padded on the left."""
    prompts = [golden[f"prompt.{n}"].long() for n in range(9) if f"prompt.{n}" in golden]
    most = max(map(len, prompts))
    ids, mask = torch.zeros(len(prompts), most).long(), torch.zeros(len(prompts), most).long()
    for i, p in enumerate(prompts):
        ids[i, most - len(p):], mask[i, most - len(p):] = p, 1
    out = generate(model, {"input_ids": ids, "attention_mask": mask})
    for n in range(len(prompts)):
        found["tokens"] += (out.sequences[n, most:] == ours[f"generated.{n}"].long()).sum().item()
        found["of"] += NEW


def compare_beams(model, prompt, more):
    one, two = (generate(model, inputs(model, prompt, more), num_beams=2, use_cache=cached,
                         suppress_tokens=image_tokens(model).tolist() or None) for cached in (True, False))
    assert torch.equal(one.sequences, two.sequences)


def compare_saved(model, prompt, more):
    with tempfile.TemporaryDirectory() as directory:
        model.generation_config.eos_token_id = None
        model.save_pretrained(directory)
        again = open_model(directory)
        want, got = (m(**inputs(m, prompt, more)).logits for m in (model, again))
        assert difference(got, want) < 1e-5


def compare(directory):
    model = no_stop(open_model(directory))
    with safe_open(os.path.join(directory, "ours.safetensors"), "pt") as f:
        meta, ours = f.metadata(), {k: f.get_tensor(k) for k in f.keys()}
    golden = load_file(meta["golden"])
    pictures = load_file(meta["pictures"]) if meta["pictures"] else {}
    found = {"logits": 0, "absorbed": 0, "tokens": 0, "of": 0, "bytes": 0, "left out": 0, "dynamic": "dynamic" in directory}
    name = os.path.basename(directory)
    with torch.no_grad():
        for n in range(sum(k.startswith("generated.") for k in ours)):
            more = pictures_of(model.config.model_type, golden, pictures, n)
            compare_sample(model, n, ours, golden, more, found)
        if "vision_config" not in model.config.to_dict() and not found["dynamic"]:
            compare_batch(model, ours, golden, found)
        n = 2 if "pixels.2" in golden else 0
        last = golden[f"prompt.{n}"].long(), pictures_of(model.config.model_type, golden, pictures, n)
        if not odd_start(model, last[0]):
            if not found["dynamic"]:
                compare_beams(model, *last)
            compare_saved(model, *last)
    assert found["logits"] < limit(name) and found["absorbed"] < limit(name), (name, found)
    assert found["tokens"] == found["of"] and found["of"], (name, found)
    if not found["left out"]:
        assert found["bytes"] == ours["cache_bytes"].item(), (name, found, ours["cache_bytes"])
    return found


def main(work, *names):
    most, failed = {}, 0
    for name in sorted(os.listdir(work)):
        if not os.path.exists(os.path.join(work, name, "ours.safetensors")) or not name.startswith(tuple(names or [""])):
            continue
        try:
            found = compare(os.path.join(work, name))
        except Exception:
            traceback.print_exc()
            print(f"{name}: failed", flush=True)
            failed += 1
            continue
        print(f"{name}: logits {found['logits']:.1e}, absorbed {found['absorbed']:.1e}, {found['tokens']} tokens, "
              f"{found['bytes']} bytes" + (f", {found['left out']} samples left out" if found["left out"] else ""),
              flush=True)
        for key in found:
            most[key] = max(most.get(key, 0), found[key]) if key in ("logits", "absorbed") else \
                most.get(key, 0) + found[key]
    most.pop("dynamic", None)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}: {most}")
    sys.exit(1 if failed or not most else 0)


def quiet():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    if hasattr(transformers.logging, "disable_progress_bar"):
        transformers.logging.disable_progress_bar()


if __name__ == "__main__":
    quiet()
    main(*sys.argv[1:])
