"""Our exports of LLaVA-NeXT, Qwen2-VL and Qwen2.5-VL in other programs. By hand, beside the tests:

    old/bin/python check_export.py originals WORK        # transformers 4.51.0
    MHA2MLA_EXPORTS=WORK build/tests/test_vlm_export
    any/bin/python check_export.py baseline WORK         # 4.51.0, 4.57.1, 5.24.0, one after the other
    any/bin/python check_export.py remote WORK          # 4.57.1, 5.24.0: by the modeling file of the exports
    old/bin/python check_export.py published WORK PEER NAME   # next-llama, q25, q25-wide, q25-tied

The environments are those of ../peer/make_golden.py (old; also with pillow), of make_models.py (5.24.0),
and old's with 4.57.1. PEER is a clone of the published code, see ../peer/peer.py.

`originals` writes the small models of this directory as transformers 4.51.0 saves them, which is the
layout of the published files: WORK/NAME/original. Our test program exports each as a trained baseline and
with converted attention, with the logits that it computes. Here they are opened, nothing may be missing or
unexpected, and logits must agree to 5e-6 of the largest, as those of the originals: the weights are the
same bits, and sums are taken in another order. With baselines also the processors: the pixels of all golden
pictures.
"""
import json
import os
import shutil
import sys

import torch
import transformers
from safetensors.torch import load_file

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = ("next-llama", "next-mistral", "next-qwen2", "q25", "q25-wide", "q25-tied", "q2", "q2-tied")
VERSION = tuple(int(x) for x in transformers.__version__.split(".")[:2])


def originals(work):
    sys.path.insert(0, os.path.join(HERE, "..", "peer"))
    from families import FAMILIES
    for name in NAMES:
        FAMILIES[name].numbers = ()  # nothing to compare with
        to = os.path.join(work, name, "original")
        FAMILIES[name].make_base().save_pretrained(to)
        os.remove(os.path.join(to, "generation_config.json"))
        shutil.copy(os.path.join(HERE, name, "preprocessor_config.json"), to)
        print(to)


def inputs(name, pictures, ids, numbers):
    out = {"input_ids": ids[None], "attention_mask": torch.ones_like(ids)[None]}
    qwen = name.startswith("q")
    if qwen and VERSION >= (5, 0):
        out["mm_token_type_ids"] = (ids == 60).int()[None]
    if not numbers:
        return out
    pixels = [pictures[f"pixels.{k}"] for k in numbers]
    if qwen:
        out["image_grid_thw"] = torch.stack([pictures[f"grid.{k}"] for k in numbers]).long()
        out["pixel_values"] = torch.cat(pixels)
        return out
    out["image_sizes"] = torch.tensor([pictures[f"picture.{k}"].shape[:2] for k in numbers])
    out["pixel_values"] = torch.zeros(len(pixels), max(map(len, pixels)), *pixels[0].shape[1:])
    for to, p in zip(out["pixel_values"], pixels):
        to[:len(p)] = p
    return out


def pictures_of(name):
    return load_file(os.path.join(HERE, f"pictures-{'qwen' if name.startswith('q') else 'next'}.safetensors"))


def compare(name, directory, model):
    """The largest difference of logits, relative to the largest."""
    golden, pictures = load_file(os.path.join(HERE, name, "golden.safetensors")), pictures_of(name)
    ours = load_file(os.path.join(directory, "logits.safetensors"))
    worst = 0
    for n in range(6):
        if name.startswith("q") and n == 3 and VERSION < (5, 0):
            continue  # a picture without its start token has positions of text there
        numbers = golden[f"pictures.{n}"].tolist() if f"pictures.{n}" in golden else []
        if name.startswith("q"):
            (model.model if VERSION >= (4, 52) else model).rope_deltas = None
        with torch.no_grad():
            got = model(**inputs(name, pictures, golden[f"ids.{n}"].long(), numbers), use_cache=False).logits[0]
        want = ours["logits"][ours["begin"][n]:ours["begin"][n + 1]]
        worst = max(worst, ((got - want).abs().max() / want.abs().max()).item())
    assert worst < 5e-6, (directory, worst)
    return worst


def processor_of(name, directory):
    if VERSION >= (5, 0):
        from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
        kinds = Qwen2VLImageProcessorPil, LlavaNextImageProcessorPil
    else:
        from transformers import LlavaNextImageProcessor, Qwen2VLImageProcessor
        kinds = Qwen2VLImageProcessor, LlavaNextImageProcessor
    return kinds[not name.startswith("q")].from_pretrained(directory)


def compare_pixels(name, directory):
    """How many pictures were compared, and how many of them have the same bits."""
    from PIL import Image
    processor, pictures, count, same = processor_of(name, directory), pictures_of(name), 0, 0
    for k in range(sum(key.startswith("picture.") for key in pictures)):
        picture = pictures[f"picture.{k}"].numpy()
        if VERSION < (4, 53) and (min(picture.shape[:2]) < 8 or not name.startswith("q")):
            continue  # refuses short sides; loses odd rests of tiles
        if VERSION < (5, 0) and min(picture.shape[:2]) in (1, 3):
            continue  # takes so short a side for that of the colours
        got = processor(Image.fromarray(picture), return_tensors="pt")
        pixels = got["pixel_values"] if name.startswith("q") else got["pixel_values"][0]
        want = pictures[f"pixels.{k}"]
        assert pixels.shape == want.shape and (pixels - want).abs().max() < 1e-6, (directory, k)
        count, same = count + 1, same + torch.equal(pixels, want)
    return count, same


def baseline(work):
    for name in NAMES:
        directory = os.path.join(work, name, "baseline")
        with open(os.path.join(directory, "config.json")) as f:
            kind = getattr(transformers, json.load(f)["architectures"][0])
        model, info = kind.from_pretrained(directory, torch_dtype=torch.float32, output_loading_info=True,
                                           attn_implementation="eager")
        assert not any(info.values()), info
        count, same = compare_pixels(name, directory)
        print(f"{transformers.__version__} {name}: logits {compare(name, directory, model.eval()):.1e}, "
              f"bits of {same} of {count} pictures are the same", flush=True)


def remote(work):
    for name in NAMES:
        for stage in ("stage1", "stage2"):
            directory = os.path.join(work, name, stage)
            model, info = transformers.AutoModelForImageTextToText.from_pretrained(
                directory, trust_remote_code=True, torch_dtype=torch.float32, output_loading_info=True)
            assert not any(info.values()), info
            print(f"{transformers.__version__} {name} {stage}: logits {compare(name, directory, model.eval()):.1e}",
                  flush=True)


def published(work, clone, name):
    sys.path.insert(0, os.path.join(HERE, "..", "peer"))
    from families import FAMILIES
    from peer import open_peer
    kind = FAMILIES[name]
    peer = open_peer(clone, kind.folder)
    for stage in ("stage1", "stage2"):
        directory = os.path.join(work, name, stage)
        os.chdir(directory)  # where the paths in its config.json lead from
        with peer.patched():
            print(f"published {name} {stage}: logits {compare(name, directory, peer.load_evaluation('.')):.1e}",
                  flush=True, file=sys.stderr)
        if stage == "stage1":  # and as what stage 2 is trained from
            with peer.patched():
                args = peer.arguments(svd_init_method="joint", low_rank=4, svd_init_weight_path="", stage1_path=".",
                                      partial_rope_version="mkl", rope_dim_for_mla=4)
                base = kind.kind(kind.kind.config_class.from_pretrained(os.path.join(work, name, "original")))
                peer.load_stage2_training(base, args)


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    mode, where, *rest = sys.argv[1:]
    {"originals": originals, "baseline": baseline, "remote": remote, "published": published}[mode](
        os.path.abspath(where), *[os.path.abspath(r) if os.path.isdir(r) else r for r in rest])
