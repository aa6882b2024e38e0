"""Golden values of small random LLaVA-NeXT, Qwen2-VL and Qwen2.5-VL models, as transformers computes them.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 transformers==5.24.0 safetensors \\
        numpy==2.4.6 pillow==13.0.0          # no torchvision: pictures go Pillow's way
    venv/bin/python make_models.py           # or with the names of those that are to be made

Writes beside this script:
  next-llama, next-mistral, next-qwen2    LLaVA-NeXT with each of its decoders
  q25, q25-tied, q25-wide                 Qwen2.5-VL: windows that do not divide evenly; tied, in a
                                          bf16 file; sections of several pairs each
  q2, q2-tied                             Qwen2-VL; tied, sections of several pairs, another activation, in
                                          a bf16 file
    a directory each: config.json, preprocessor_config.json, model.safetensors, golden.safetensors
  variants/q25-NAME.safetensors           q25's weights under another config.json (metadata "config";
                                          "of" says whose weights): other windows, other full blocks
  pictures-next.safetensors               the pictures of all samples, and what the processor of the
  pictures-qwen.safetensors               directories makes of them

pictures-*.safetensors, picture K:
    picture.K [h, w, 3] uint8   as a file would be decoded
    pixels.K                    NeXT: [tiles, 3, S, S], the base tile first; Qwen: [rows, c*t*p*p]
    tokens.K [1] int32          how many it becomes in the text
    best.K [2] int32            NeXT: the best resolution, height and width
    grid.K [3] int32            Qwen: 1, rows and columns of patches
golden.safetensors, and variants with samples 0 and 2:
    ids.N, labels.N [T] int32   sample N; labels.N[i] is what ids.N[i] is trained as, -100: nothing
    pictures.N [k] int32        its pictures in their order, each a K of above; missing: it has none
    positions.N [3, T] int32    Qwen: get_rope_index, each token's time, height and width
    delta.N [1] int32           Qwen: what a later token's place in the sequence differs by
    features.K                  the vision tower's of picture K. NeXT: what the projector gets,
                                [tiles, n*n, w]. Qwen: the rows that the merger gets, [rows, w], in
                                the order of pixels.K (the tower itself works in window order)
    packed.K [tokens, d]        NeXT: behind the projector, unpadded, with the newline rows
    merged.K [tokens, d]        Qwen: behind the merger
    logits.N [T, V]             of every position
    hidden.L [T, d]             of sample 0: the embeddings (L 0), each layer, the last after the norm
    prompt.N                    sample N without its answer
    generated.N, uncached.N     greedy from there, 12 tokens, with a cache and without
and for the models in directories, as tests/data/models has them, of all parameters, tower included:
    loss, grad.NAME, losses, lr, after.NAME
Everything is fp32 on the CPU, attention "eager"; the tied Qwens' weights are made fp32 first. Each sample
is computed alone. mm_token_type_ids is always passed: without it transformers gives Qwen's pictures
positions of text, and no error.
"""
import collections
import copy
import json
import os
import shutil
import sys
import tempfile

import numpy
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from transformers import (CLIPVisionConfig, LlamaConfig, LlavaNextConfig, LlavaNextForConditionalGeneration,
                          MistralConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Config,
                          Qwen2VLConfig, Qwen2VLForConditionalGeneration)
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.vision_utils import get_vision_window_index

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "models"))
import make_golden as models  # noqa: E402

NEW = 12  # tokens of a generated answer

# of the weights: the answers are varied, no choice in them is a close one, and none is a picture's token
SEEDS = {"next-llama": 11, "next-mistral": 17, "next-qwen2": 75, "q25": 7, "q25-tied": 2, "q25-wide": 1,
         "q2": 2, "q2-tied": 2}


# ---- the families ----

class Next:
    """LLaVA-NeXT with tiles of 12 x 12 pixels and 3 x 3 patches."""
    name, kind, processor = "next", LlavaNextForConditionalGeneration, LlavaNextImageProcessorPil
    pinpoints = [[12, 24], [24, 12], [24, 24], [36, 12], [12, 36]]
    settings = {"aspect_ratio_setting": "anyres", "crop_size": {"height": 12, "width": 12}, "do_center_crop": True,
                "do_convert_rgb": True, "do_normalize": True, "do_pad": True, "do_rescale": True, "do_resize": True,
                "image_grid_pinpoints": pinpoints, "image_mean": [0.48145466, 0.4578275, 0.40821073],
                "image_processor_type": "LlavaNextImageProcessor",
                "image_std": [0.26862954, 0.26130258, 0.27577711], "processor_class": "LlavaNextProcessor",
                "resample": 3, "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 12}}
    vocab, image, start, end = 48, 47, None, None
    never = [47]
    # height and width; the tokens that follow from them
    sizes = [(24, 40, 37), (57, 33, 39), (9, 50, 19), (12, 12, 24), (50, 7, 27), (1, 60, 16), (30, 30, 51),
             (60, 1, 12), (100, 99, 51)]

    @classmethod
    def samples(cls):
        """Parts: a number of text tokens, or [a picture]. The number after them is the answer's length."""
        yield [3, [0], 20], 7
        yield [11], 4
        yield [4, [1], 5, [2], 3, [3], 14], 6  # three pictures
        yield [[4], 6, [5], 8], 8              # a picture first, and one just before the answer
        yield [[6], 1, [7], 6], 6              # one without a single column left
        yield [5, [8], 7], 7

    @staticmethod
    def process(processor, picture):
        out = processor(picture, return_tensors="pt")
        best = transformers.image_processing_utils.select_best_resolution(picture.size[::-1], Next.pinpoints)
        return {"pixels": out["pixel_values"][0], "best": torch.tensor(best).int()}

    @staticmethod
    def inputs(pictures, ids):
        return {"pixel_values": torch.cat([p["pixels"] for p in pictures]),
                "image_sizes": torch.tensor([p["picture"].shape[:2] for p in pictures])}

    @staticmethod
    def tower(model, pictures):
        """For each picture: what the projector gets, and what takes the place of its tokens."""
        seen = []
        hook = model.model.multi_modal_projector.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        packed = model.get_image_features(**Next.inputs(pictures, None)).pooler_output
        hook.remove()
        features = torch.split(seen[0], [len(p["pixels"]) for p in pictures])
        return [{"features": f, "packed": p} for f, p in zip(features, packed)]


class Qwen:
    """Qwen2.5-VL with patches of 4 x 4 pixels."""
    name, kind, processor = "qwen", Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil
    settings = {"do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
                "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_processor_type": "Qwen2VLImageProcessor",
                "image_std": [0.26862954, 0.26130258, 0.27577711], "max_pixels": 2560, "merge_size": 2,
                "min_pixels": 256, "patch_size": 4, "processor_class": "Qwen2_5_VLProcessor", "resample": 3,
                "rescale_factor": 0.00392156862745098, "temporal_patch_size": 2}
    vocab, image, start, end = 64, 60, 58, 59
    never = [60, 61]
    sizes = [(24, 40, 15), (57, 33, 28), (9, 50, 6), (12, 20, 4), (4, 4, 4), (3, 600, 29), (100, 90, 36)]

    @classmethod
    def samples(cls):
        """As above; a picture stands between the start and the end token unless it is (bare)."""
        yield [3, [0], 20], 7
        yield [11], 4
        yield [4, [1], 5, [2], 3, [3], 14], 6
        yield [(4,), 6, [5], 8], 8
        yield [2, [3], [1], 9], 6  # two pictures with nothing but end and start between them
        yield [5, [6], 7], 7

    @staticmethod
    def process(processor, picture):
        out = processor(picture, return_tensors="pt")
        return {"pixels": out["pixel_values"], "grid": out["image_grid_thw"][0].int()}

    @staticmethod
    def inputs(pictures, ids):
        out = {"mm_token_type_ids": (ids == Qwen.image).int()[None]}
        if pictures:
            out["pixel_values"] = torch.cat([p["pixels"] for p in pictures])
            out["image_grid_thw"] = torch.stack([p["grid"] for p in pictures]).long()
        return out

    @staticmethod
    def pixel_order(visual, grids, rows):
        """The tower's rows, which are in window order."""
        order, _ = get_vision_window_index(grids, spatial_merge_size=visual.spatial_merge_size,
                                           window_size=visual.window_size, patch_size=visual.patch_size)
        return rows.view(len(order), -1, rows.shape[1])[torch.argsort(order)].reshape(rows.shape)

    @classmethod
    def tower(cls, model, pictures):
        """For each picture: the rows before the merger in the order of the pixels, and those after it."""
        visual = model.model.visual
        inputs = Qwen.inputs(pictures, torch.zeros(1))
        grids = inputs["image_grid_thw"]
        out = visual(inputs["pixel_values"], grid_thw=grids)
        rows = cls.pixel_order(visual, grids, out.last_hidden_state)
        assert torch.allclose(visual.merger(rows), out.pooler_output, atol=1e-5)
        lengths = grids.prod(1).tolist()
        merged = torch.split(out.pooler_output, [n // 4 for n in lengths])
        return [{"features": f, "merged": m} for f, m in zip(torch.split(rows, lengths), merged)]

    @staticmethod
    def positions(model, sample):
        inputs = Qwen.inputs(sample.pictures, sample.ids)
        positions, delta = model.model.get_rope_index(sample.ids[None], inputs["mm_token_type_ids"],
                                                      inputs.get("image_grid_thw"))
        return {"positions": positions[:, 0].int(), "delta": delta[0].int()}


class Qwen2VL(Qwen):
    """Qwen2-VL with the same pictures."""
    kind = Qwen2VLForConditionalGeneration
    settings = {**Qwen.settings, "processor_class": "Qwen2VLProcessor"}

    @staticmethod
    def pixel_order(visual, grids, rows):
        return rows


# ---- the models ----

def next_config(text, act="quick_gelu", **more):
    vision = CLIPVisionConfig(hidden_size=12, intermediate_size=20, num_hidden_layers=3, num_attention_heads=2,
                              image_size=12, patch_size=4, projection_dim=16, hidden_act=act)
    return LlavaNextConfig(text_config=text, vision_config=vision, image_token_index=Next.image,
                           image_grid_pinpoints=Next.pinpoints, image_seq_length=9, vision_feature_layer=-2,
                           vision_feature_select_strategy="default", **more)


def qwen_parts(text, sections):
    """The settings of the text, and those of the whole that are no choice."""
    text = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": Qwen.vocab,
            "rms_norm_eps": 1e-6, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": sections}, **text}
    return text, {"image_token_id": 60, "video_token_id": 61, "vision_start_token_id": 58, "vision_end_token_id": 59}


def qwen_config(text, sections, vision, tied=False):
    """`tied` also says that the weights' file is bf16, here and below."""
    text, whole = qwen_parts(text, sections)
    vision = {"depth": 4, "hidden_size": 16, "intermediate_size": 20, "num_heads": 2, "patch_size": 4,
              "window_size": 24, "fullatt_block_indexes": [1, 3], "out_hidden_size": text["hidden_size"],
              "tokens_per_second": 2, **vision}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied, **whole)


def qwen2_config(text, sections, vision, tied=False):
    text, whole = qwen_parts(text, sections)
    vision = {"depth": 3, "embed_dim": 16, "mlp_ratio": 2, "num_heads": 2, "patch_size": 4,
              "hidden_size": text["hidden_size"], **vision}
    return Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied, **whole)


def configs():
    small = {"hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": Next.vocab, "max_position_embeddings": 256, "bos_token_id": 1,
             "eos_token_id": 2, "rms_norm_eps": 1e-5}
    rope = lambda theta: {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}
    return {
        "next-llama": next_config(LlamaConfig(**small, **rope(5e5))),
        "next-mistral": next_config(MistralConfig(**small, **rope(1e6), sliding_window=None, head_dim=10)),
        "next-qwen2": next_config(Qwen2Config(**small, **rope(1e6), tie_word_embeddings=True), act="gelu",
                                  multimodal_projector_bias=False, tie_word_embeddings=True),
        "q25": qwen_config({"hidden_size": 24, "num_attention_heads": 3, "num_key_value_heads": 1}, [1, 1, 2], {}),
        "q25-tied": qwen_config({"num_attention_heads": 4, "num_key_value_heads": 2}, [2, 1, 1],
                                {"depth": 3, "window_size": 16, "fullatt_block_indexes": [2]}, tied=True),
        "q25-wide": qwen_config({"num_attention_heads": 2, "num_key_value_heads": 1}, [2, 3, 3],
                                {"depth": 2, "num_heads": 1, "fullatt_block_indexes": [1]}),
        "q2": qwen2_config({"hidden_size": 24, "num_attention_heads": 3, "num_key_value_heads": 1}, [1, 1, 2], {}),
        "q2-tied": qwen2_config({"num_attention_heads": 2, "num_key_value_heads": 1}, [2, 3, 3],
                                {"depth": 2, "num_heads": 1, "mlp_ratio": 3, "hidden_act": "gelu"}, tied=True)}


def variants(config):
    """NAME: q25's config.json with other windows."""
    out = {}
    other = {"full-none": {"fullatt_block_indexes": []}, "full-all": {"fullatt_block_indexes": [0, 1, 2, 3]},
             "window-8": {"window_size": 8}, "window-400": {"window_size": 400}}
    for name, changes in other.items():
        out["q25-" + name] = copy.deepcopy(config)
        out["q25-" + name]["vision_config"].update(changes)
    return out


def family_of(name):
    return Next if name.startswith("next") else Qwen if name.startswith("q25") else Qwen2VL


def make_model(family, config, seed):
    config._attn_implementation = "eager"
    model = models.draw_weights(family.kind(config), seed)
    with torch.no_grad():  # so small a row wins no greedy choice; as embeddings these rows are not used
        model.lm_head.weight[family.never] *= 0.1
    return model


def read_model(family, directory):
    model, info = family.kind.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager",
                                              output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


# ---- pictures and samples ----

def draw(h, w, rng):
    """Smooth in x and y, with noise, and edges at both ends of the range."""
    y, x, c = numpy.mgrid[0:h, 0:w, 0:3]
    v = 0.5 + 0.5 * numpy.sin(x * 0.31 + c) * numpy.cos(y * 0.23 - c) + 0.4 * (rng.random((h, w, 3)) - 0.5)
    return numpy.clip(v * 256, 0, 255).astype("u1")


def pictures(family):
    rng = numpy.random.default_rng(5)
    processor = family.processor.from_dict(dict(family.settings))
    out = []
    for h, w, tokens in family.sizes:
        picture = draw(h, w, rng)
        out.append({"picture": torch.tensor(picture), "tokens": torch.tensor([tokens]).int(),
                    **family.process(processor, Image.fromarray(picture))})
    return out


Sample = collections.namedtuple("Sample", "ids labels pictures numbers answer family")


def samples(family, all_pictures):
    rng = numpy.random.default_rng(11)
    text = lambda n: list(rng.integers(3, family.image - (2 if family.start else 0), n))
    out = []
    for parts, answer in family.samples():
        ids, numbers, first = [], [], None
        for part in parts:
            if isinstance(part, int):
                ids += text(part)
                continue
            tokens = [family.image] * all_pictures[part[0]]["tokens"].item()
            marked = family.start and isinstance(part, list)
            ids += [family.start] + tokens + [family.end] if marked else tokens
            first = len(ids) if first is None else first
            numbers.append(part[0])
        labels = [-100] * (len(ids) - answer) + ids[-answer:]
        if len(out) == 0:
            labels[first + 2] = ids[first + 2]  # a stretch before the answer, as of an earlier turn
        out.append(Sample(torch.tensor(ids), torch.tensor(labels), [all_pictures[k] for k in numbers], numbers,
                          answer, family))
    return out


# ---- what they compute ----

def run(model, sample, **more):
    if sample.pictures:
        more |= sample.family.inputs(sample.pictures, sample.ids)
    model.model.rope_deltas = None  # Qwen: no memory of the last sample
    return model(input_ids=sample.ids[None], **more)


def generate(model, sample, prompt, cached):
    more = sample.family.inputs(sample.pictures, prompt) if sample.pictures else {}
    model.model.rope_deltas = None
    out = model.generate(input_ids=prompt[None], attention_mask=torch.ones_like(prompt[None]), max_new_tokens=NEW,
                         do_sample=False, use_cache=cached, eos_token_id=None, pad_token_id=0, **more)
    return out[0][len(prompt):].int()


def check_choices(model, sample, prompt, generated):
    """Each token is the best one of the whole sequence computed anew, and leads by far more than rounding."""
    assert len(set(generated.tolist())) > 1 and not set(generated.tolist()) & set(sample.family.never), generated
    for i in range(len(generated)):
        logits = run(model, sample._replace(ids=torch.cat([prompt, generated[:i].long()]))).logits[0, -1]
        best = torch.topk(logits, 2)
        assert best.indices[0] == generated[i] and best.values[0] - best.values[1] > 1e-3, (i, best)


def answers(family, model, all_pictures, batch):
    out = {}
    with torch.no_grad():
        for k, p in enumerate(all_pictures):
            for key, value in family.tower(model, [p])[0].items():
                out[f"{key}.{k}"] = value
            assert len(out[f"{key}.{k}"]) == p["tokens"]
        for k, one in enumerate(family.tower(model, all_pictures)):  # beside others the same
            for key, value in one.items():
                assert torch.allclose(value, out[f"{key}.{k}"], atol=1e-5), (k, key)
        for n, s in batch.items():
            r = run(model, s, output_hidden_states=n == 0)
            out[f"ids.{n}"] = s.ids.int()
            out[f"labels.{n}"] = s.labels.int()
            if s.numbers:
                out[f"pictures.{n}"] = torch.tensor(s.numbers).int()
            if issubclass(family, Qwen):
                for key, value in family.positions(model, s).items():
                    out[f"{key}.{n}"] = value
                given = run(model, s, position_ids=out[f"positions.{n}"].long()[:, None])
                assert torch.equal(given.logits, r.logits)  # they are the positions that it works with
            out[f"logits.{n}"] = r.logits[0]
            if n == 0:
                assert len(r.hidden_states) == model.config.get_text_config().num_hidden_layers + 1
                text = s.ids != family.image
                embeddings = model.get_input_embeddings()(s.ids)
                assert torch.equal(r.hidden_states[0][0][text], embeddings[text])
                assert torch.equal(model.lm_head(r.hidden_states[-1]), r.logits)
                for i, h in enumerate(r.hidden_states):
                    out[f"hidden.{i}"] = h[0]
            prompt = s.ids[:-s.answer]
            out[f"prompt.{n}"] = prompt.int()
            out[f"generated.{n}"] = generate(model, s, prompt, True)
            out[f"uncached.{n}"] = generate(model, s, prompt, False)
            assert torch.equal(out[f"generated.{n}"], out[f"uncached.{n}"])
            check_choices(model, s, prompt, out[f"generated.{n}"])
    return out


# ---- the files ----

def write(path, out, **more):
    out = {k: v.detach().clone().contiguous() for k, v in out.items()}
    save_file(out, path, {"torch": torch.__version__, "transformers": transformers.__version__, **more})
    print(os.path.relpath(path, HERE), len(out), "tensors,", os.path.getsize(path), "bytes", flush=True)


def trained_model(name, config, all_pictures):
    family = family_of(name)
    directory = os.path.join(HERE, name)
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    model = make_model(family, config, SEEDS[name])
    models.save(model.to(torch.bfloat16) if name in ("q25-tied", "q2-tied") else model, directory)
    with open(os.path.join(directory, "preprocessor_config.json"), "w") as f:
        json.dump(family.settings, f, indent=2)
        f.write("\n")
    model = read_model(family, directory)
    names = models.file_names(model, directory)
    batch = samples(family, all_pictures)
    out = answers(family, model, all_pictures, dict(enumerate(batch)))
    out |= models.training(model, batch, names, run)
    print(name, "loss", float(out["loss"]), "->", float(out["losses"][-1]))
    write(os.path.join(directory, "golden.safetensors"), out)


def variant(name, config, all_pictures):
    with tempfile.TemporaryDirectory() as d:
        shutil.copy(os.path.join(HERE, "q25", "model.safetensors"), d)
        text = json.dumps(config)
        with open(os.path.join(d, "config.json"), "w") as f:
            f.write(text)
        batch = samples(Qwen, all_pictures)
        out = answers(Qwen, read_model(Qwen, d), all_pictures, {n: batch[n] for n in (0, 2)})
    os.makedirs(os.path.join(HERE, "variants"), exist_ok=True)
    write(os.path.join(HERE, "variants", f"{name}.safetensors"), out, of="q25", config=text)


def main(wanted):
    of = {}
    for family in (Next, Qwen):
        of[family] = pictures(family)
        write(os.path.join(HERE, f"pictures-{family.name}.safetensors"),
              {f"{key}.{k}": v for k, p in enumerate(of[family]) for key, v in p.items()})
    of[Qwen2VL] = of[Qwen]
    for name, config in configs().items():
        if not wanted or name in wanted:
            trained_model(name, config, of[family_of(name)])
    for name, config in variants(json.load(open(os.path.join(HERE, "q25", "config.json")))).items():
        if not wanted or name in wanted:
            variant(name, config, of[Qwen])


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(1)
    main(sys.argv[1:])
