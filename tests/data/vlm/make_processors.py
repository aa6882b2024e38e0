"""Processor configs of LLaVA-NeXT and Qwen2.5-VL, and what transformers makes of them.

    python3 -m venv old && old/bin/pip install torch==2.13.0 transformers==4.51.0 pillow==13.0.0
    old/bin/python make_processors.py saved  # the same with 4.57.1
    python3 -m venv venv && venv/bin/pip install torch==2.13.0 transformers==5.24.0 numpy==2.4.6 \\
        pillow==13.0.0                       # no torchvision
    venv/bin/python make_processors.py

Writes a directory processor/NAME for each, with a preprocessor_config.json or, as transformers 5 saves a
whole processor, a processor_config.json. next-hub and qwen-hub are as published (put together from copies,
not downloaded), those with saved4.51 and so on as that version saves them, the others have single
settings. processors.json says of each NAME what 5.24 makes of it: {"error": the exception's first
line} where it refuses the config or the picture, else
    min_pixels, max_pixels, patch_size, merge_size, temporal_patch_size                          (Qwen)
    base [height, width] of the first tile, tile (the side of all of them), pinpoints [[H, W]]   (NeXT)
    do_resize, do_rescale, do_normalize, resample, rescale_factor, image_mean, image_std
    shape, sha256   of the floats of a picture of 61 x 97 (h x w), drawn as make_pixels.py says
Qwen's qwen-saved5-processor is qwen-saved5 put where such a file has it: the class needs torchvision.
4.51 and 4.57 (their Pillow classes) obey min_pixels and max_pixels alone: of a file with size only, as 5
saves it, they make 3136 and 1003520.
"""
import hashlib
import json
import os
import shutil
import sys
import tempfile

import transformers
from transformers import AutoImageProcessor

HERE = os.path.dirname(os.path.abspath(__file__))
CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]

QWEN_HUB = {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
            **CLIP, "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}
NEXT_HUB = {"aspect_ratio_setting": "anyres", "crop_size": {"height": 336, "width": 336}, "do_center_crop": True,
            "do_convert_rgb": True, "do_normalize": True, "do_pad": True, "do_rescale": True, "do_resize": True,
            "image_grid_pinpoints": PINPOINTS, "image_processor_type": "LlavaNextImageProcessor", **CLIP,
            "processor_class": "LlavaNextProcessor", "resample": 3, "rescale_factor": 0.00392156862745098,
            "size": {"shortest_edge": 336}}


def qwen(**changes):
    out = {key: value for key, value in QWEN_HUB.items() if key not in ("min_pixels", "max_pixels")}
    return {**out, **changes}


def next_(*without, **changes):
    return {key: value for key, value in {**NEXT_HUB, **changes}.items() if key not in without}


CASES = {
    "qwen-hub": QWEN_HUB,
    "qwen-neither": qwen(),
    "qwen-size": qwen(size={"shortest_edge": 6272, "longest_edge": 200704}),
    "qwen-both": qwen(size={"shortest_edge": 6272, "longest_edge": 200704}, min_pixels=12544, max_pixels=401408),
    "qwen-min": qwen(min_pixels=25088),
    "qwen-max": qwen(max_pixels=4704),
    "qwen-min-and-size": qwen(min_pixels=25088, size={"shortest_edge": 6272, "longest_edge": 200704}),
    "qwen-inside": qwen(size={"min_pixels": 6272, "max_pixels": 200704}),
    "qwen-half": qwen(size={"longest_edge": 200704}),
    "qwen-half-and-min": qwen(size={"longest_edge": 200704}, min_pixels=25088),
    "qwen-side": qwen(size={"height": 56, "width": 84}),
    "qwen-crossed": qwen(min_pixels=401408, max_pixels=12544),
    # what the torchvision processors of 4.5x save: a null for all that is not set
    "qwen-nulls": qwen(crop_size=None, data_format="channels_first", default_to_square=True, device=None,
                       disable_grouping=None, do_center_crop=None, do_convert_rgb=True, do_normalize=True, do_pad=None,
                       do_rescale=True, do_resize=True, image_processor_type="Qwen2VLImageProcessorFast",
                       input_data_format=None, max_pixels=None, min_pixels=None, pad_size=None, resample=3,
                       rescale_factor=0.00392156862745098, return_tensors=None,
                       size={"longest_edge": 12845056, "shortest_edge": 3136}),
    "qwen-other": qwen(min_pixels=256, max_pixels=65536, patch_size=4, merge_size=3, resample=2, do_normalize=False),
    "next-hub": NEXT_HUB,
    "next-sides": next_(size={"height": 336, "width": 336}),
    "next-numbers": next_(size=336, crop_size=336),
    "next-fast": next_(image_processor_type="LlavaNextImageProcessorFast"),
    "next-no-size": next_("size", "crop_size"),
    "next-no-crop-size": next_("crop_size"),
    "next-no-pinpoints": next_("image_grid_pinpoints"),
    "next-pinpoints": next_(image_grid_pinpoints=[[672, 336], [336, 672], [672, 672]]),
    "next-no-setting": next_("aspect_ratio_setting", "do_pad"),
    "next-small": next_(size={"shortest_edge": 12}, crop_size={"height": 12, "width": 12},
                        image_grid_pinpoints=[[12, 24], [24, 12], [24, 24], [36, 12], [12, 36]]),
    "next-bilinear": next_(resample=2, do_normalize=False)}
PUBLISHED = ("qwen-hub", "next-hub")


def directory(name):
    out = os.path.join(HERE, "processor", name)
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    return out


def write(name, file, config):
    with open(os.path.join(directory(name), file), "w") as f:
        json.dump(config, f, indent=1)
        f.write("\n")


def save(end):
    """As this version saves the published files."""
    for name in PUBLISHED:
        with tempfile.TemporaryDirectory() as d:
            with open(os.path.join(d, "preprocessor_config.json"), "w") as f:
                json.dump(CASES[name], f)
            options = {} if transformers.__version__.startswith("5") else {"use_fast": False}
            AutoImageProcessor.from_pretrained(d, **options).save_pretrained(directory(name[:5] + "saved" + end))


def save_whole():
    from transformers import LlavaNextProcessor, PreTrainedTokenizerFast
    where = lambda name: os.path.join(HERE, "processor", name)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=os.path.join(HERE, "..", "tokenizer", "metaspace.json"))
    image_processor = AutoImageProcessor.from_pretrained(where("next-hub"))
    out = directory("next-saved5-processor")
    LlavaNextProcessor(image_processor, tokenizer, patch_size=14, vision_feature_select_strategy="default",
                       num_additional_image_tokens=1).save_pretrained(out)
    for file in os.listdir(out):
        if file != "processor_config.json":
            os.remove(os.path.join(out, file))
    saved = json.load(open(os.path.join(where("qwen-saved5"), "preprocessor_config.json")))
    write("qwen-saved5-processor", "processor_config.json",
          {"image_processor": saved, "processor_class": "Qwen2_5_VLProcessor"})


def effective(name):
    from make_pixels import drawn
    try:
        p = AutoImageProcessor.from_pretrained(os.path.join(HERE, "processor", name))
        pixels = p(drawn(61, 97), return_tensors="np")["pixel_values"]
    except Exception as e:
        return {"error": f"{type(e).__name__}: {str(e).splitlines()[0]}"}
    if type(p).__name__.startswith("Qwen"):
        out = {"min_pixels": p.size["shortest_edge"], "max_pixels": p.size["longest_edge"]}
        out |= {key: getattr(p, key) for key in ("patch_size", "merge_size", "temporal_patch_size")}
    else:
        size, crop = p.size, p.crop_size
        base = [size["height"], size["width"]] if size.get("height") else [size["shortest_edge"]] * 2
        out = {"base": base, "tile": crop["height"], "pinpoints": p.image_grid_pinpoints}
        pixels = pixels[0]
    out |= {key: getattr(p, key) for key in ("do_resize", "do_rescale", "do_normalize", "resample", "rescale_factor",
                                             "image_mean", "image_std")}
    return out | {"resample": int(out["resample"]), "image_mean": list(out["image_mean"]),
                  "image_std": list(out["image_std"]), "shape": list(pixels.shape),
                  "sha256": hashlib.sha256(pixels.tobytes()).hexdigest()}


def main():
    if sys.argv[1:] == ["saved"]:
        save(transformers.__version__.rpartition(".")[0])
        return
    for name, config in CASES.items():
        write(name, "preprocessor_config.json", config)
    save("5")
    save_whole()
    result = {name: effective(name) for name in sorted(os.listdir(os.path.join(HERE, "processor")))}
    with open(os.path.join(HERE, "processors.json"), "w") as f:
        json.dump(result, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
