"""Golden values of the published code of MHA2MLA-VLM, run as it stands on small random LLaVA-1.5 models.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 transformers==4.51.0 accelerate numpy
    venv/bin/python make_golden.py PEER [--full] [--out DIR]

PEER is a clone of JT-Ushio/MHA2MLA-VLM at the commit that peer.py names. Writes beside this script (or
into DIR):
    base/     the original: 4 query heads and 2 kv heads of 8 dims, so 4 RoPE pairs a head, 2 kept
    stage1/   the published code's save_pretrained of base with partial RoPE "mkl" by ranks.pth:
              random ranks [layers, kv heads, head size], saved as the published ones are
    stage2/   the same with factors of its MD-SVD (joint, a latent of 8 for each modality)
    golden.safetensors, with sample 0 a picture between text, sample 1 text alone:
        ids.N, labels.N [T] int32      labels.N[i]: what ids.N[i] is trained as, -100: nothing
        pixels.0 [3, S, S]
        CASE/logits.N [T, V]
        CASE/generated.N [12] int32    greedy behind ids.N
        CASE/loss [1]                  mean cross entropy of all labels of the two samples
        CASE/grad.NAME                 its gradient, by the name in the file: of the first layer's
                                       q_proj, k_r_proj, kv_proj*, for stage1 and stage2 also of its
                                       o_proj, its norms and the projector; with --full of all
        CASE/factor.NAME               weights of kv_proj* that were made up for the case
        svd/NAME                       MD-SVD by its script: W_down_img.L [r, d], W_up_k_img.L, ...
                                       from calibration samples that calibration() makes by formula
        weight/METHOD.NAME             its plain SVD of stage1's weights, first layer
    golden.json: trained parameters by set and stage, learning rates by steps, commit and versions

Cases: stage1 (mkl), high, low, uniform (start 1): partial RoPE. stage2: joint with the MD-SVD's factors.
split, only_key, only_value, none: stage 2 by that method, factors with noise, so that the modalities
differ. shared: one joint latent for both modalities (what its patch_model makes of base).
Everything is fp32 on the CPU, attention "eager".
"""
import argparse
import json
import math
import os
import shutil
import types

import torch
import transformers
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from peer import COMMIT, open_peer, quiet

IMAGE, ROPE, RANK, LAYERS, KV_HEADS, HEAD = 39, 4, 4, 2, 2, 8
SVD_SAMPLES, SVD_TEXT = 48, 12
FACTORS = ("split", "only_key", "only_value", "none", "shared")


def make_config():
    text = LlamaConfig(hidden_size=32, intermediate_size=8, num_hidden_layers=LAYERS, vocab_size=40,
                       num_attention_heads=4, num_key_value_heads=KV_HEADS, rms_norm_eps=1e-5,
                       max_position_embeddings=128, tie_word_embeddings=False)
    vision = CLIPVisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=2,
                              num_attention_heads=2, image_size=8, patch_size=4, projection_dim=16)
    c = LlavaConfig(text_config=text, vision_config=vision, image_token_index=IMAGE, image_seq_length=4,
                    vision_feature_layer=-2, vision_feature_select_strategy="default")
    c._attn_implementation = "eager"
    return c


def make_base(directory):
    model = LlavaForConditionalGeneration(make_config())
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
        model.language_model.lm_head.weight[IMAGE] = 0  # never generated: there it would be an image
    save(model, directory)


def save(model, directory):
    shutil.rmtree(directory, ignore_errors=True)
    model.save_pretrained(directory)
    os.remove(os.path.join(directory, "generation_config.json"))
    os.chmod(os.path.join(directory, "model.safetensors"), 0o644)


def load_base(directory):
    return LlavaForConditionalGeneration.from_pretrained(directory, attn_implementation="eager").eval()


def make_ranks(path):
    g = torch.Generator().manual_seed(5)
    pairs = torch.stack([torch.randperm(HEAD // 2, generator=g) for _ in range(LAYERS * KV_HEADS)])
    torch.save(pairs.repeat(1, 2).view(LAYERS, KV_HEADS, HEAD).to(torch.uint8), path)


def make_samples():
    g = torch.Generator().manual_seed(3)
    out = []
    for before, tokens, after in ((3, 4, 9), (0, 0, 11)):
        ids = torch.randint(1, IMAGE, (before + tokens + after,), generator=g)
        ids[before: before + tokens] = IMAGE
        labels = torch.full_like(ids, -100)
        labels[-5:] = ids[-5:]
        labels[before + tokens + 1] = ids[before + tokens + 1]
        pixels = torch.randn(3, 8, 8, generator=g) if tokens else None
        out.append((ids, labels, pixels))
    return out


def calibration():
    """Samples that tests/test_peer.c makes by the same formulas: a picture, then text."""
    out = []
    for n in range(SVD_SAMPLES):
        text = [1 + (7 * n * n + 11 * i * i + 3 * n * i + 5 * i) % 38 for i in range(SVD_TEXT)]
        pixels = [math.sin(0.37 * j * (n % 7 + 1) + n) for j in range(3 * 8 * 8)]
        out.append({"input_ids": torch.tensor([[IMAGE] * 4 + text]),
                    "pixel_values": torch.tensor(pixels, dtype=torch.float64).float().view(1, 3, 8, 8)})
    return out


def run(model, sample, **more):
    ids, _, pixels = sample
    if pixels is not None:
        more["pixel_values"] = pixels[None]
    return model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None], **more)


def keep_gradient(case, name, full):
    if full or case.startswith("stage") and "projector" in name:
        return True
    if not name.startswith("language_model.model.layers.0."):
        return False
    if case.startswith("stage"):
        return "self_attn" in name or "norm" in name
    return "q_proj" in name or "k_r_proj" in name or "kv_proj" in name and case in FACTORS


def record(out, case, model, samples, full):
    """Logits, greedy tokens, loss and gradients of a patched model."""
    total, count = 0, 0
    for n, s in enumerate(samples):
        ids, labels, pixels = s
        more = {} if pixels is None else {"pixel_values": pixels[None]}
        with torch.no_grad():
            got = model.generate(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None], **more,
                                 max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
        out[f"{case}/generated.{n}"] = got[0][len(ids):].int()
        assert IMAGE not in got[0][len(ids):]
        r = run(model, s, labels=labels[None])
        here = int((labels[1:] != -100).sum())
        out[f"{case}/logits.{n}"] = r.logits[0].detach()
        total, count = total + r.loss * here, count + here  # its own loss: a mean over the sample
    model.zero_grad()
    (total / count).backward()
    out[f"{case}/loss"] = (total / count).detach()[None]
    for name, p in model.named_parameters():
        if p.grad is not None and keep_gradient(case, name, full):
            out[f"{case}/grad.{name}"] = p.grad.clone()


def noise_factors(out, case, model, seed):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "kv_proj" in name:
                p.add_(0.3 * p.std() * torch.randn(p.shape, generator=g))
                out[f"{case}/factor.{name}"] = p.detach().clone()


def partial_case(peer, out, args, samples, full):
    with peer.patched():
        model = load_base("base")
        model, q, k = peer.patch_model(model, model.config.get_text_config(), args)
        peer.mha2mla_llama(q, k)
        if args.partial_rope_version == "mkl":
            model.config.mha2mla = vars(args)
            save(model, "stage1")
        record(out, "stage1" if args.partial_rope_version == "mkl" else args.partial_rope_version, model,
               samples, full)


def shared_case(peer, out, args, samples, full):
    with peer.patched():
        model = load_base("base")
        model, q, k = peer.patch_model(model, model.config.get_text_config(), args)
        peer.mha2mla_llama(q, k)
        noise_factors(out, "shared", model, 20)
        record(out, "shared", model, samples, full)


def run_md_svd(peer):
    """Its script as it stands; only the data set and its template are ours."""
    module, samples = peer.code_run_svd_init, calibration()
    module.load_dataset = lambda p: (samples, None)
    module.get_model_tokenizer = lambda p: (
        types.SimpleNamespace(model_meta=types.SimpleNamespace(template=None)), None)
    template = types.SimpleNamespace(set_mode=lambda mode: None, encode=lambda s: s,
                                     data_collator=lambda batch: batch[0])
    module.get_template = lambda t, p: template
    module.tqdm = lambda it, **more: it
    with peer.patched():
        module.main(types.SimpleNamespace(base_model="", stage1_path="stage1", dataset_path="",
                                          output_path="svd.pt", total_num=len(samples), batch_size=1,
                                          shuffle=True, low_rank=RANK, seed=42))
    return torch.load("svd.pt")


def stage2_case(peer, out, method, samples, svd, full):
    args = peer.arguments(peft_train="v2", partial_rope_version="mkl", rope_dim_for_mla=ROPE,
                          qk_tensor_path="ranks.pth", svd_init_method=method, low_rank=RANK,
                          stage1_path="stage1", svd_init_weight_path="svd.pt" if svd else "")
    with peer.patched():
        model = peer.load_stage2_training(load_base("base"), args).eval()
        if svd:
            save(model, "stage2")
        else:
            noise_factors(out, method, model, 30 + len(method))
        record(out, "stage2" if svd else method, model, samples, full)


def weight_svd(peer, out):
    from safetensors.torch import load_file
    w = load_file(os.path.join("stage1", "model.safetensors"))
    at = "language_model.model.layers.0.self_attn.kv_proj."
    for method in ("joint", "split", "only_key", "only_value"):
        p = peer.code_patch_func.svd_low_rank_approx(w[at + "up_k.weight"], None, w[at + "up_v.weight"],
                                                     None, RANK * KV_HEADS, method)
        out.update({f"weight/{method}.{k}": v.detach().clone() for k, v in p.named_parameters()})


def trained_sets(peer):
    """By stage and set: the names that its freezing leaves, the tower frozen as its configs ask."""
    out = {}
    for stage in ("stage1", "stage2"):
        for version in ("v2", "v3", "v4", "v5", "v6"):
            with peer.patched():
                model = peer.load_evaluation(stage) if stage == "stage2" else stage1_model(peer)
                for p in model.vision_tower.parameters():
                    p.requires_grad = False
                peer.code_utils.freeze_non_attn_weights(model.language_model, version)
                for p in model.language_model.lm_head.parameters():
                    p.requires_grad = False
            out[f"{stage} {version}"] = [n for n, p in model.named_parameters() if p.requires_grad]
    return out


def stage1_model(peer):
    args = mkl_arguments(peer)
    model = load_base("base")
    return peer.patch_model(model, model.config.get_text_config(), args)[0]


def mkl_arguments(peer):
    return peer.arguments(peft_train="v4", partial_rope_version="mkl", rope_dim_for_mla=ROPE,
                          qk_tensor_path="ranks.pth", svd_init_method="none", low_rank=0)


def learning_rates(peer):
    """Its scheduler at 2e-3 for a number of steps, with the shares of its configs and with others."""
    out = []
    for steps, warm, start, tail, style in [
            (n, 0.1, 0.9, 0.1, "1-sqrt") for n in (10, 15, 19, 30, 64, 95, 150)] + [
            (40, 0.2, 0.7, 0.3, "linear"), (37, 0.2, 0.7, 0.3, "cosine"), (20, 0.1, 1.0, 0.0, "1-sqrt")]:
        kwargs = {"lr_warmup_steps": warm, "lr_warmup_style": "linear", "lr_decay_starting_step": start,
                  "lr_decay_steps": tail, "lr_decay_style": style, "min_decay_lr": 1e-5}
        kwargs = peer.code_utils.convert_ratio_to_steps(kwargs, steps)
        opt = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
        scheduler = peer.code_lr_scheduler.lr_scheduler_builder(opt, types.SimpleNamespace(**kwargs), steps)
        rates = []
        for _ in range(steps):
            rates.append(opt.param_groups[0]["lr"])
            opt.step()
            scheduler.step()
        out.append({"steps": steps, "warmup": warm, "decay": tail, "style": style, "lr": rates})
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peer")
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--full", action="store_true")
    a = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    peer = open_peer(a.peer)
    os.makedirs(a.out, exist_ok=True)
    os.chdir(a.out)  # the published code opens qk_tensor_path and stage1_path from where it is started
    out, samples = {}, make_samples()
    for n, (ids, labels, pixels) in enumerate(samples):
        out[f"ids.{n}"], out[f"labels.{n}"] = ids.int(), labels.int()
        if pixels is not None:
            out[f"pixels.{n}"] = pixels
    with quiet():
        make_base("base")
        make_ranks("ranks.pth")
        partial_case(peer, out, mkl_arguments(peer), samples, a.full)
        for version in ("high", "low", "uniform"):
            args = peer.arguments(partial_rope_version=version, rope_dim_for_mla=ROPE,
                                  uniform_start_point=1, svd_init_method="none", low_rank=0)
            partial_case(peer, out, args, samples, a.full)
        svd = run_md_svd(peer)
        out.update({f"svd/{k}.{l}": v for k, layers in svd.items() for l, v in layers.items()})
        stage2_case(peer, out, "joint", samples, svd, a.full)
        for method in FACTORS[:-1]:
            stage2_case(peer, out, method, samples, None, a.full)
        shared = peer.arguments(partial_rope_version="mkl", rope_dim_for_mla=ROPE,
                                qk_tensor_path="ranks.pth", svd_init_method="joint", low_rank=RANK)
        shared_case(peer, out, shared, samples, a.full)
        weight_svd(peer, out)
        sets = trained_sets(peer)
    save_file({k: v.contiguous() for k, v in out.items()}, "golden.safetensors")
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "commit": COMMIT}
    with open("golden.json", "w") as f:
        json.dump({"made_with": versions, "trained": sets, "learning_rates": learning_rates(peer)}, f, indent=0)
    os.remove("svd.pt")
    shutil.copy("ranks.pth", "stage1")
    shutil.move("ranks.pth", "stage2/ranks.pth")
    print(len(out), "tensors")


if __name__ == "__main__":
    main()
