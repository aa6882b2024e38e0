"""Golden values of the published code of MHA2MLA-VLM, run as it stands on small random models.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 transformers==4.51.0 accelerate numpy
    venv/bin/python make_golden.py PEER [MODEL] [--full] [--out DIR]

PEER is a clone of JT-Ushio/MHA2MLA-VLM at the commit that peer.py names. MODEL is one of families.py:

llava (if none is named) writes beside this script, or into DIR:
    base/     the original: 4 query heads and 2 kv heads of 8 dims, so 4 RoPE pairs a head, 2 kept
    stage1/   the published code's save_pretrained of base with partial RoPE "mkl" by ranks.pth:
              random ranks [layers, kv heads, head size], saved as the published ones are
    stage2/   the same with factors of its MD-SVD (joint, a latent of 8 for each modality)
    golden.safetensors, with sample 0 a picture between text, sample 1 text alone:
        ids.N, labels.N [T] int32      labels.N[i]: what ids.N[i] is trained as, -100: nothing
        pixels.0 [3, S, S]
        CASE/logits.N [T, V]
        CASE/generated.N [12] int32    greedy behind ids.N
        CASE/loss [1]                  mean cross entropy of all labels of the samples
        CASE/grad.NAME                 its gradient, by the name in the file: of the first layer's
                                       q_proj, k_r_proj, kv_proj*, for stage1 and stage2 also of its
                                       o_proj, its norms and the projector; with --full of all
        CASE/factor.NAME               weights of kv_proj* that were made up for the case
        svd/NAME                       MD-SVD by its script: W_down_img.L [r, d], W_up_k_img.L, ...
                                       from calibration samples that families.py makes by formula
        weight/METHOD.NAME             its plain SVD of stage1's weights, first layer
    golden.json: trained parameters by set and stage, learning rates by steps, commit and versions

next-llama, q25, q25-tied, q25-wide: models of tests/data/vlm, converted likewise. Into DIR/MODEL (DIR
is this directory unless given) go ranks.pth; of next-llama and q25 golden.json, stage1/ and stage2/; and
golden.safetensors, which differs in this:
    pictures.N [k] int32               sample N's pictures, each a number in ../vlm/pictures-*.safetensors
    CASE/logits.N [12, V]              of the last 12 tokens, or of all if these are fewer
    CASE/generated.N [up to 12]        ends before a choice that is too close
    CASE/grad.NAME                     of all parameters: a matrix g [o, i] as its o sums over rows and
                                       its i sums over columns, weighted: g cos(1..i), cos(1..o) g
    no weight/

Cases: stage1 (mkl), high, low, uniform (start 1): partial RoPE. stage2: joint with the MD-SVD's factors.
split, only_key, only_value, none, and of the models in tests/data/vlm joint: stage 2 by that method,
factors with noise, so that the modalities differ. shared: one joint latent for both modalities (what its
patch_model makes of base). Everything is fp32 on the CPU; attention is "eager", Qwen's "sdpa", which is
what the published code patches.
"""
import argparse
import json
import os
import shutil
import types

import torch
import transformers
from safetensors.torch import save_file

from families import FAMILIES
from peer import COMMIT, open_peer, quiet

NEW, ROWS, MARGIN = 12, 12, 1e-3


def save(model, directory):
    shutil.rmtree(directory, ignore_errors=True)
    model.save_pretrained(directory)
    os.remove(os.path.join(directory, "generation_config.json"))
    file = os.path.join(directory, "model.safetensors")
    os.chmod(file, 0o644)
    if model.config.tie_word_embeddings and hasattr(model.config, "mha2mla"):
        save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, file, {"format": "pt"})


def load_base(kind):
    return kind.kind.from_pretrained("base", attn_implementation=kind.attention).eval()


def make_ranks(kind, path):
    text = load_base(kind).config.get_text_config()
    layers, heads, head = text.num_hidden_layers, text.num_key_value_heads, text.hidden_size // text.num_attention_heads
    g = torch.Generator().manual_seed(5)
    pairs = torch.stack([torch.randperm(head // 2, generator=g) for _ in range(layers * heads)])
    torch.save(pairs.repeat(1, 2).view(layers, heads, head).to(torch.uint8), path)


def low_rank(kind):
    return kind.latent // load_base(kind).config.get_text_config().num_key_value_heads


def run(model, sample, **more):
    ids = sample[0]  # without a cache: stage 2 of LLaVA-NeXT there makes one of a class that it does not import
    return model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None], use_cache=False, **sample[2], **more)


def generate(kind, model, sample):
    """Greedy; of LLaVA-1.5 all tokens, of the others those before a choice that hangs on rounding."""
    ids = sample[0]
    with torch.no_grad():
        got = model.generate(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None], **sample[2],
                             max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0,
                             return_dict_in_generate=True, output_logits=True)
    new = got.sequences[0][len(ids):]
    best = torch.stack([torch.topk(l[0], 2).values for l in got.logits])
    close = (best[:, 0] - best[:, 1] < MARGIN).nonzero()
    if kind.name != "llava" and len(close):
        new = new[:close[0]]
    assert kind.image not in new and len(new) > 3
    return new.int()


def sketch(g):
    """A matrix as weighted sums over its rows and over its columns."""
    if g.ndim == 1:
        return g
    g = g.flatten(1).double()
    rows, columns = (torch.cos(torch.arange(1, n + 1).double()) for n in g.shape)
    return torch.cat([g @ columns, rows @ g]).float()


def record(out, kind, case, model, samples, full):
    """Logits, greedy tokens, loss and gradients of a patched model."""
    total, count = 0, 0
    for n, s in enumerate(samples):
        out[f"{case}/generated.{n}"] = generate(kind, model, s)
        r = run(model, s, labels=s[1][None])
        here = int((s[1][1:] != -100).sum())
        logits = r.logits[0].detach()
        out[f"{case}/logits.{n}"] = logits if kind.name == "llava" else logits[-ROWS:].clone()
        total, count = total + r.loss * here, count + here  # its own loss: a mean over the sample
    model.zero_grad()
    (total / count).backward()
    out[f"{case}/loss"] = (total / count).detach()[None]
    for name, p in model.named_parameters():
        if p.grad is not None and (full or kind.keep_gradient(case, name)):
            out[f"{case}/grad.{name}"] = p.grad.clone() if kind.name == "llava" else sketch(p.grad)


def noise_factors(out, case, model, seed):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "kv_proj" in name:
                p.add_(0.3 * p.std() * torch.randn(p.shape, generator=g))
                out[f"{case}/factor.{name}"] = p.detach().clone()


def partial_case(peer, kind, out, args, samples, full):
    with peer.patched():
        model = load_base(kind)
        model, q, k = peer.patch_model(model, model.config.get_text_config(), args)
        peer.mha2mla_stage1(q, k)
        if args.partial_rope_version == "mkl":
            model.config.mha2mla = vars(args)
            save(model, "stage1")
        record(out, kind, "stage1" if args.partial_rope_version == "mkl" else args.partial_rope_version, model,
               samples, full)


def shared_case(peer, kind, out, args, samples, full):
    with peer.patched():
        model = load_base(kind)
        model, q, k = peer.patch_model(model, model.config.get_text_config(), args)
        peer.mha2mla_stage1(q, k)
        noise_factors(out, "shared", model, 20)
        record(out, kind, "shared", model, samples, full)


def run_md_svd(peer, kind):
    """Its script as it stands; only the data set and its template are ours."""
    module, samples = peer.code_run_svd_init, list(kind.calibration())
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
                                          shuffle=True, low_rank=low_rank(kind), seed=42))
    return torch.load("svd.pt")


def stage2_case(peer, kind, out, method, samples, svd, full):
    args = peer.arguments(peft_train="v2", partial_rope_version="mkl", rope_dim_for_mla=kind.rope,
                          qk_tensor_path="ranks.pth", svd_init_method=method, low_rank=low_rank(kind),
                          stage1_path="stage1", svd_init_weight_path="svd.pt" if svd else "")
    with peer.patched():
        model = peer.load_stage2_training(load_base(kind), args).eval()
        if svd:
            save(model, "stage2")
        else:
            noise_factors(out, method, model, 30 + len(method))
        record(out, kind, "stage2" if svd else method, model, samples, full)


def weight_svd(peer, out):
    from safetensors.torch import load_file
    w = load_file(os.path.join("stage1", "model.safetensors"))
    at = "language_model.model.layers.0.self_attn.kv_proj."
    for method in ("joint", "split", "only_key", "only_value"):
        p = peer.code_patch_func.svd_low_rank_approx(w[at + "up_k.weight"], None, w[at + "up_v.weight"],
                                                     None, 8, method)
        out.update({f"weight/{method}.{k}": v.detach().clone() for k, v in p.named_parameters()})


def trained_sets(peer, kind):
    """By stage and set: the names that its freezing leaves, the tower frozen as its configs ask."""
    out = {}
    for stage in ("stage1", "stage2"):
        for version in ("v2", "v3", "v4", "v5", "v6"):
            with peer.patched():
                model = peer.load_evaluation(stage) if stage == "stage2" else stage1_model(peer, kind)
                for p in kind.frozen(model):
                    p.requires_grad = False
                peer.code_utils.freeze_non_attn_weights(kind.decoder(model), version)
                for p in model.get_output_embeddings().parameters():
                    p.requires_grad = False
            out[f"{stage} {version}"] = [n for n, p in model.named_parameters() if p.requires_grad]
    return out


def stage1_model(peer, kind):
    args = mkl_arguments(peer, kind)
    model = load_base(kind)
    return peer.patch_model(model, model.config.get_text_config(), args)[0]


def mkl_arguments(peer, kind):
    return peer.arguments(peft_train="v4", partial_rope_version="mkl", rope_dim_for_mla=kind.rope,
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


def convert(peer, kind, out, full):
    samples = list(kind.samples())
    for n, (ids, labels, _, pictures) in enumerate(samples):
        out[f"ids.{n}"], out[f"labels.{n}"] = ids.int(), labels.int()
        out.update({f"{k}.{n}": v for k, v in pictures.items()})
    save(kind.make_base(), "base")
    make_ranks(kind, "ranks.pth")
    partial_case(peer, kind, out, mkl_arguments(peer, kind), samples, full)
    for version in ("high", "low", "uniform"):
        args = peer.arguments(partial_rope_version=version, rope_dim_for_mla=kind.rope, uniform_start_point=1,
                              svd_init_method="none", low_rank=0)
        partial_case(peer, kind, out, args, samples, full)
    svd = run_md_svd(peer, kind)
    out.update({f"svd/{k}.{l}": v for k, layers in svd.items() for l, v in layers.items()})
    stage2_case(peer, kind, out, "joint", samples, svd, full)
    for method in kind.factors:
        if method != "shared":
            stage2_case(peer, kind, out, method, samples, None, full)
    if "shared" in kind.factors:
        shared = peer.arguments(partial_rope_version="mkl", rope_dim_for_mla=kind.rope, qk_tensor_path="ranks.pth",
                                svd_init_method="joint", low_rank=low_rank(kind))
        shared_case(peer, kind, out, shared, samples, full)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peer")
    parser.add_argument("model", nargs="?", default="llava")
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--full", action="store_true")
    a = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    kind, out = FAMILIES[a.model], {}
    peer = open_peer(a.peer, kind.folder)
    directory = a.out if a.model == "llava" else os.path.join(a.out, a.model)
    os.makedirs(directory, exist_ok=True)
    os.chdir(directory)  # the published code opens qk_tensor_path and stage1_path from where it is started
    with quiet():
        convert(peer, kind, out, a.full)
        if a.model == "llava":
            weight_svd(peer, out)
        sets = trained_sets(peer, kind) if kind.checkpoints else None
    os.remove("svd.pt")
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "commit": COMMIT}
    save_file({k: v.contiguous() for k, v in out.items()}, "golden.safetensors",
              None if a.model == "llava" else versions)
    more = {"learning_rates": learning_rates(peer)} if a.model == "llava" else {}
    if kind.checkpoints:
        with open("golden.json", "w") as f:
            json.dump({"made_with": versions, "trained": sets, **more}, f, indent=0)
    if a.model != "llava":
        shutil.rmtree("base")
    for stage in ("stage1", "stage2"):
        if kind.checkpoints:
            shutil.copy("ranks.pth", stage)
        else:
            shutil.rmtree(stage)
    if a.model == "llava":
        os.remove("ranks.pth")
    print(a.model, len(out), "tensors,", os.path.getsize("golden.safetensors"), "bytes")


if __name__ == "__main__":
    main()
