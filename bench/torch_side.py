"""PyTorch's side of the measurements beside each other: the protocol of bench/side.c, the kinds of work of
bench/lib/work.h. bench/venv.sh makes the environment."""

import gc
import os
import resource
import sys
import time

import torch
import torch.nn.functional as F

SMALL = 16 << 20  # bytes of a model that every way is tried with


def fact(name, value):
    print("fact", name, "%.17g" % value)


def ways(a):
    """How a model may be computed in the row's dtype; torch_model.WAYS says what the names mean. Where the CPU has no
    instructions for bf16, PyTorch multiplies it in plain loops: on a Zen 3 (AVX2) x w^T runs at 10 GFLOP/s and the
    gradient of x at 0.3 to 0.9, where fp32 has 80, so that a step of 7B's shapes would take 15 minutes or more. Operands
    rounded and multiplied in fp32 are the fastest there, without a trial."""
    if a["dtype"] == "f32":
        return ["f32"]
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return ["autocast", "weights"]
    size = sum(os.path.getsize(os.path.join(a["model"], n)) for n in os.listdir(a["model"]))
    return ["rounded"] if size > SMALL else ["rounded", "autocast", "weights"]


def quickest(names, make):
    """make(name) for the name whose second run took the shortest; facts say how long each one's did."""
    seconds = {}
    for name in names if len(names) > 1 else ():
        work = make(name)
        work.run()
        begin = time.perf_counter()
        work.run()
        seconds[name] = time.perf_counter() - begin
        fact("trial_" + name + "_s", seconds[name])
        del work
        gc.collect()
    return make(min(names, key=seconds.get) if seconds else names[0])


class Step:
    """A stage-2 step: loss, gradients, their norm, AdamW (rate 0, as on our side)."""

    def __init__(self, a, way):
        from torch_model import Batch, Model, WAYS
        self.model, self.batch = Model(a["model"], WAYS[way]), Batch(a["batch"])
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.adamw = torch.optim.AdamW(self.trained, lr=0.0, betas=(0.9, 0.95), weight_decay=0.0, fused=True)

    def facts(self):
        loss, norm = self.step()
        fact("check", loss)
        fact("norm", norm)

    def step(self):
        loss = self.model.loss(self.batch)
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.trained])
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        return loss.item(), norm.item()

    def run(self):
        self.step()
        return self.batch.tokens


def values(n, salt):
    return ((torch.arange(n) * 7919 + salt) % 2001).float() / 1000 - 1


class Tower:
    """A tower of transformers: CLIP's up to the layer that LLaVA reads, Qwen2.5-VL's with its merger. Nothing is trained:
    by "weights" all of it is bf16."""

    def __init__(self, a, way):
        from torch_model import Tensors, rounded
        t = Tensors(a["model"])
        if t.config["model_type"] == "qwen2_5_vl":
            prefix = "visual."
            self.make_qwen(t.config, a)
        else:
            prefix = "vision_tower.vision_model."
            self.make_clip(t.config)
        state = {name: prefix + name.removeprefix("vision_model.") for name in self.tower.state_dict()}
        self.tower.load_state_dict({k: t.get(v) for k, v in state.items() if "position_ids" not in k})
        self.autocast = way == "autocast"
        if way == "weights":
            self.tower, self.pixels = self.tower.bfloat16(), self.pixels.bfloat16()
        for m in self.tower.modules() if way == "rounded" else ():  # weights of a bf16 file are rounded already
            if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Conv3d)):
                m.register_forward_pre_hook(lambda m, x: rounded(x[0]))

    def make_clip(self, config):
        from transformers import CLIPVisionConfig, CLIPVisionModel
        c = dict(config["vision_config"])
        c["num_hidden_layers"] += 1 + config["vision_feature_layer"]
        self.tower = CLIPVisionModel(CLIPVisionConfig(**c, attn_implementation="sdpa")).eval()
        side = c["image_size"]
        self.pixels = values(3 * side * side, 1).view(1, 3, side, side)
        self.more, self.read = {"output_hidden_states": True}, lambda out: out.hidden_states[-1][:, 1:]

    def make_qwen(self, config, a):
        from transformers import Qwen2VLImageProcessorPil
        from transformers.models.qwen2_5_vl import configuration_qwen2_5_vl, modeling_qwen2_5_vl
        c = configuration_qwen2_5_vl.Qwen2_5_VLVisionConfig(**config["vision_config"], attn_implementation="sdpa")
        self.tower = modeling_qwen2_5_vl.Qwen2_5_VisionTransformerPretrainedModel(c).eval()
        picture = torch.zeros(3, int(a["height"]), int(a["width"]))
        inputs = Qwen2VLImageProcessorPil.from_pretrained(a["model"])(picture, return_tensors="pt")
        self.pixels = values(inputs["pixel_values"].numel(), 1).view_as(inputs["pixel_values"])
        self.more, self.read = {"grid_thw": inputs["image_grid_thw"]}, lambda out: out.pooler_output

    def facts(self):
        fact("check", self.features().abs().mean(dtype=torch.float64).item())

    @torch.inference_mode()
    def features(self):
        with torch.autocast("cpu", torch.bfloat16, self.autocast):
            return self.read(self.tower(self.pixels, **self.more))

    def run(self):
        self.features()
        return 1


class Attention:
    """Forward and backward of causal attention alone."""

    def __init__(self, a):
        n, self.heads, w = int(a["length"]), int(a["heads"]), int(a["width"])
        self.qkv = [values(n * self.heads * w, i).view(n, self.heads, w).requires_grad_() for i in range(3)]
        self.head, self.labels = values(2 * self.heads * w, 3).view(2, -1), torch.zeros(n, dtype=torch.long)
        fact("check", self.step())

    def step(self):
        q, k, v = (x.transpose(0, 1)[None] for x in self.qkv)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        loss = F.cross_entropy(F.linear(out[0].transpose(0, 1).flatten(1), self.head), self.labels)
        loss.backward()
        for x in self.qkv:
            x.grad = None
        return loss.item()

    def run(self):
        self.step()
        return len(self.labels)


class Mdsvd:
    """The published recipe (MHA2MLA-VLM at 69a3c6e), fp32 as published: covariance of the inputs by modality, its
    SVD, the SVD of the weight in that basis, two inverses."""

    def __init__(self, a):
        from safetensors import safe_open
        with safe_open(a["file"], "pt") as f:
            self.w, self.x = f.get_tensor("w").float(), {m: f.get_tensor("x_" + m).float() for m in ("text", "image")}
        self.rank, self.factors = int(a["rank"]), {}

    @torch.inference_mode()
    def run(self):
        for m, x in self.x.items():
            u, s, _ = torch.linalg.svd(x.T @ x / len(x))
            root = torch.diag(torch.sqrt(s))
            up, s, down = torch.linalg.svd(self.w @ u @ root, full_matrices=False)
            s = torch.diag(torch.sqrt(s[:self.rank]))
            self.factors[m] = up[:, :self.rank] @ s, s @ down[:self.rank] @ torch.linalg.inv(root) @ torch.linalg.inv(u)
        return 1

    @torch.inference_mode()
    def finish(self):
        """The share of the outputs' energy that is lost, in double."""
        w = self.w.double()
        for m, (up, down) in self.factors.items():
            x = self.x[m].double()
            second, lost = x.T @ x, w - up.double() @ down.double()
            fact("error_" + m, (((lost @ second) * lost).sum() / ((w @ second) * w).sum()).item())


class Images:
    """Pillow and transformers' CLIPImageProcessorPil, a thread for each of ours."""

    def __init__(self, a):
        from concurrent.futures import ThreadPoolExecutor
        from transformers import CLIPImageProcessorPil
        self.processor = CLIPImageProcessorPil.from_pretrained(a["model"])
        self.paths = sorted(os.path.join(a["dir"], n) for n in os.listdir(a["dir"]) if a["kind"] in n)
        self.pool = ThreadPoolExecutor(int(a.get("threads", "2")))
        fact("check", torch.stack(self.pixels()).abs().mean(dtype=torch.float64).item())

    def one(self, path):
        from PIL import Image
        with Image.open(path) as image:
            return self.processor(image, return_tensors="pt")["pixel_values"][0]

    def pixels(self):
        return list(self.pool.map(self.one, self.paths))

    def run(self):
        self.pixels()
        return len(self.paths)


def open_model(kind):
    """A kind of work that can be computed in several ways: the quickest one."""
    def opened(a):
        work = quickest(ways(a), lambda way: kind(a, way))
        work.facts()
        return work
    return opened


WORKS = {"step": open_model(Step), "tower": open_model(Tower), "attention": Attention, "mdsvd": Mdsvd, "images": Images}


def main():
    sys.stdout.reconfigure(line_buffering=True)
    work = None
    for line in sys.stdin:
        command, *words = line.split()
        if command == "open":
            args = dict(word.split("=", 1) for word in words[1:])
            torch.set_num_threads(int(args.get("threads", "2")))
            work = WORKS[words[0]](args)
            print("ready")
        elif command == "step":
            begin, units = time.perf_counter(), 0
            for _ in range(int(words[0])):
                units += work.run()
            print("time %.9f %.17g" % (time.perf_counter() - begin, units))
        elif command == "close":
            fact("peak_mib", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            if hasattr(work, "finish"):
                work.finish()
            work = None
            print("closed")
        else:
            sys.exit("error %s: open, step or close is needed" % command)


main()
