"""The models of make_golden.py: how each is built for transformers 4.51.0, its samples and their inputs.

llava is made here, from nothing. The others are the models of tests/data/vlm, written as 4.51.0 reads
them, with their pictures and some of their samples; a vision family's `more` is what model() takes
beside the ids.
"""
import json
import math
import os

import torch
from safetensors.torch import load_file
from transformers import (CLIPVisionConfig, CONFIG_MAPPING, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration,
                          LlavaNextConfig, LlavaNextForConditionalGeneration,
                          Qwen2_5_VLForConditionalGeneration, Qwen2VLForConditionalGeneration)

VLM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "vlm")


class Llava:
    name, folder, kind, attention = "llava", "llava", LlavaForConditionalGeneration, "eager"
    image, text, aligner = 39, "language_model.model.", ("multi_modal_projector.",)
    rope, latent, factors, checkpoints = 4, 8, ("split", "only_key", "only_value", "none", "shared"), True
    svd_samples, svd_text = 48, 12

    @classmethod
    def make_base(cls):
        text = LlamaConfig(hidden_size=32, intermediate_size=8, num_hidden_layers=2, vocab_size=40,
                           num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5,
                           max_position_embeddings=128, tie_word_embeddings=False)
        vision = CLIPVisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=2,
                                  num_attention_heads=2, image_size=8, patch_size=4, projection_dim=16)
        c = LlavaConfig(text_config=text, vision_config=vision, image_token_index=cls.image, image_seq_length=4,
                        vision_feature_layer=-2, vision_feature_select_strategy="default")
        c._attn_implementation = "eager"
        model = cls.kind(c)
        g = torch.Generator().manual_seed(17)
        with torch.no_grad():
            for name, p in model.named_parameters():
                scale = 1.5 if "q_proj" in name or "k_proj" in name else 0.7
                if p.ndim > 1:
                    p.normal_(0, 0.5 if "embed" in name else scale / math.sqrt(p[0].numel()), generator=g)
                elif "norm" in name and name.endswith("weight"):
                    p.copy_(1 + 0.2 * torch.randn(p.shape, generator=g))
                else:
                    p.normal_(0, 0.2, generator=g)
            model.language_model.lm_head.weight[cls.image] = 0  # never generated: there it would be an image
        return model

    @classmethod
    def samples(cls):
        """(ids, labels, more, what the golden file has of its pictures)"""
        g = torch.Generator().manual_seed(3)
        for before, tokens, after in ((3, 4, 9), (0, 0, 11)):
            ids = torch.randint(1, cls.image, (before + tokens + after,), generator=g)
            ids[before: before + tokens] = cls.image
            labels = torch.full_like(ids, -100)
            labels[-5:] = ids[-5:]
            labels[before + tokens + 1] = ids[before + tokens + 1]
            pixels = torch.randn(3, 8, 8, generator=g) if tokens else None
            yield (ids, labels, {"pixel_values": pixels[None]}, {"pixels": pixels}) if tokens else (ids, labels, {}, {})

    @classmethod
    def calibration(cls):
        """Samples that tests/test_peer_svd.c makes by the same formulas: a picture, then text."""
        for n in range(cls.svd_samples):
            pixels = [math.sin(0.37 * j * (n % 7 + 1) + n) for j in range(3 * 8 * 8)]
            yield {"input_ids": torch.tensor([[cls.image] * 4 + svd_text(n, cls.svd_text, 38)]),
                   "pixel_values": torch.tensor(pixels, dtype=torch.float64).float().view(1, 3, 8, 8)}

    @staticmethod
    def decoder(model):
        return model.language_model

    @staticmethod
    def frozen(model):
        """What its configs of ms-swift freeze: the tower."""
        return model.vision_tower.parameters()

    @classmethod
    def keep_gradient(cls, case, name):
        if case.startswith("stage") and name.startswith(cls.aligner):
            return True
        if not name.startswith(cls.text + "layers.0."):
            return False
        if case.startswith("stage"):
            return "self_attn" in name or "norm" in name
        return "q_proj" in name or "k_r_proj" in name or "kv_proj" in name and case in cls.factors


def svd_text(n, count, ids):
    return [1 + (7 * n * n + 11 * i * i + 3 * n * i + 5 * i) % ids for i in range(count)]


class Vlm:
    """A model of tests/data/vlm."""
    rope, latent, factors = None, 8, ("joint",)
    svd_samples, svd_text = 48, 24

    @classmethod
    def settings(cls):
        with open(os.path.join(VLM, cls.name, "config.json")) as f:
            c = json.load(f)
        for key in ("dtype", "transformers_version", "architectures", "model_type"):
            c.pop(key)
        text, vision = c.pop("text_config"), c.pop("vision_config")
        return c, text, vision

    @classmethod
    def make_base(cls):
        c = cls.config()
        c._attn_implementation = cls.attention
        model = cls.kind(c)
        weights = load_file(os.path.join(VLM, cls.name, "model.safetensors"))
        missing, extra = model.load_state_dict({cls.rename(k): v.float() for k, v in weights.items()}, strict=False)
        assert not extra and all(c.tie_word_embeddings and k.endswith("lm_head.weight") for k in missing), missing
        model.tie_weights()
        cls.check(model.eval())
        return model

    @classmethod
    def check(cls, model):
        """It is the model of transformers 5.24, which made the golden file beside it."""
        golden = load_file(os.path.join(VLM, cls.name, "golden.safetensors"))
        for n, (ids, _, more, _) in zip(cls.numbers, cls.samples()):
            with torch.no_grad():
                logits = model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None], **more).logits[0]
            want = golden[f"logits.{n}"]
            assert (logits - want).abs().max() < 5e-6 * want.abs().max(), (cls.name, n)

    @classmethod
    def samples(cls):
        golden = load_file(os.path.join(VLM, cls.name, "golden.safetensors"))
        pictures = load_file(os.path.join(VLM, f"pictures-{cls.pictures}.safetensors"))
        for n in cls.numbers:
            numbers = golden.get(f"pictures.{n}", torch.tensor([], dtype=torch.int32))
            more = cls.inputs(pictures, numbers.tolist()) if len(numbers) else {}
            yield (golden[f"ids.{n}"].long(), golden[f"labels.{n}"].long(), more,
                   {"pictures": numbers} if len(numbers) else {})

    @classmethod
    def calibration(cls):
        """Samples that tests/test_peer_vlm.c makes by the same formulas: a picture, then text."""
        pictures = load_file(os.path.join(VLM, f"pictures-{cls.pictures}.safetensors"))
        count = sum(k.startswith("picture.") for k in pictures)
        for n in range(cls.svd_samples):
            tokens = pictures[f"tokens.{n % count}"].item()
            ids = cls.around([cls.image] * tokens) + svd_text(n, cls.svd_text, cls.texts)
            yield {"input_ids": torch.tensor([ids]), **cls.inputs(pictures, [n % count])}

    @classmethod
    def keep_gradient(cls, case, name):
        return True


class Next(Vlm):
    folder, kind, attention, pictures, numbers = "llavanext", LlavaNextForConditionalGeneration, "eager", "next", (0, 1, 3)
    image, texts, text = 47, 46, "language_model.model."
    aligner = ("multi_modal_projector.", "image_newline")
    decoder, frozen = Llava.decoder, Llava.frozen

    @classmethod
    def config(cls):
        c, text, vision = cls.settings()
        text["rope_theta"] = text.pop("rope_parameters")["rope_theta"]
        text.pop("layer_types", None)
        kind = CONFIG_MAPPING[text.pop("model_type")]
        return LlavaNextConfig(text_config=kind(**text), vision_config=CLIPVisionConfig(**vision), **c)

    @staticmethod
    def rename(name):
        return name.replace("vision_tower.", "vision_tower.vision_model.")

    @staticmethod
    def around(ids):
        return ids

    @staticmethod
    def inputs(pictures, numbers):
        tiles = [pictures[f"pixels.{k}"] for k in numbers]
        pixels = torch.zeros(len(tiles), max(map(len, tiles)), *tiles[0].shape[1:])
        for p, t in zip(pixels, tiles):
            p[:len(t)] = t
        return {"pixel_values": pixels,
                "image_sizes": torch.tensor([pictures[f"picture.{k}"].shape[:2] for k in numbers])}


class Qwen(Vlm):
    folder, kind, attention, pictures = "qwen2_5_vl", Qwen2_5_VLForConditionalGeneration, "sdpa", "qwen"
    # not sample 3: a picture without its start token gets positions of text in 4.51.0
    numbers, image, texts, text, aligner = (0, 1, 4), 60, 57, "model.", ("visual.merger.",)

    @classmethod
    def config(cls):
        c, text, vision = cls.settings()
        rope = text.pop("rope_parameters")
        for key in ("layer_types", "model_type", "sliding_window", "pad_token_id"):
            text.pop(key)
        for key in ("rope_parameters", "model_type"):
            vision.pop(key)
        return cls.kind.config_class(vision_config=vision, **c, **text, rope_theta=rope["rope_theta"],
                                     rope_scaling={"type": "mrope", "mrope_section": rope["mrope_section"]})

    @staticmethod
    def rename(name):
        return name

    @staticmethod
    def around(ids):
        return [58] + ids + [59]

    @staticmethod
    def inputs(pictures, numbers):
        return {"pixel_values": torch.cat([pictures[f"pixels.{k}"] for k in numbers]),
                "image_grid_thw": torch.stack([pictures[f"grid.{k}"] for k in numbers]).long()}

    @staticmethod
    def decoder(model):
        return model.model

    @staticmethod
    def frozen(model):
        return [p for name, p in model.visual.named_parameters() if not name.startswith("merger.")]


FAMILIES = {
    "llava": Llava,
    "next-llama": type("NextLlama", (Next,), {"name": "next-llama", "rope": 4, "checkpoints": True}),
    # of no use to the published code, which takes no other decoder there: for check_export.py only
    "next-mistral": type("NextMistral", (Next,), {"name": "next-mistral"}),
    "next-qwen2": type("NextQwen2", (Next,), {"name": "next-qwen2"}),
    "q25": type("Q25", (Qwen,), {"name": "q25", "rope": 4, "checkpoints": True}),
    # two kv heads whose ranks differ; 4.51.0 saves a tied model without lm_head.weight, which the
    # published code's strict loading then misses: no checkpoints
    "q25-tied": type("Q25Tied", (Qwen,), {"name": "q25-tied", "rope": 4, "checkpoints": False}),
    "q25-wide": type("Q25Wide", (Qwen,), {"name": "q25-wide", "rope": 8, "checkpoints": False}),
    # not in the published code: for check_export.py only
    "q2": type("Q2", (Qwen,), {"name": "q2", "kind": Qwen2VLForConditionalGeneration}),
    "q2-tied": type("Q2Tied", (Qwen,), {"name": "q2-tied", "kind": Qwen2VLForConditionalGeneration}),
}
