"""What users do with an exported model in transformers beside `generate`. By hand, in the project's root, in
the environments of compare.py with accelerate beside them, and with its WORK:

    any/bin/python tests/export/usage.py WORK NAME [NAME ...]

For each of these directories, 1e-5 relative to the largest logit unless said:
    placed    device_map="cpu" gives the same bits
    pieces    a prompt in two parts over a cache, the second of several tokens, gives what one pass does
    padded    samples of different lengths in one batch, padded on either side, give what each gives alone
    bf16      opened in bf16: logits and cache are bf16, and logits within 20 % of fp32 (weights and bases are
              random; 4.57.6 and 5.24.0 give 1 to 10 %)
    copied    copy.deepcopy gives a model with the same bits
    beside    (where WORK's model is of a directory) the original opens as transformers' own class afterwards
    trained   the loss has a gradient for every tensor of attention, the same with and without checkpointing of
              layers; a step of SGD lowers it
    pipeline  (text) answers as `generate` does, after save_pretrained, with a tokenizer of words for ids"""
import copy
import os
import sys
import tempfile

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers

from compare import VERSION, cache_name, difference, inputs, no_stop, odd_start, open_model, pictures_of, quiet

LIMIT = 1e-5


def samples(model, directory):
    """The inputs of each sample, which are not padded."""
    with safe_open(os.path.join(directory, "ours.safetensors"), "pt") as f:
        meta = f.metadata()
    golden = load_file(meta["golden"])
    pictures = load_file(meta["pictures"]) if meta["pictures"] else {}
    out = []
    for n in range(3):
        ids = golden[f"ids.{n}"].long()
        if not odd_start(model, ids):
            out.append((ids, pictures_of(model.config.model_type, golden, pictures, n)))
    return out


def logits(model, ids, more, **how):
    return model(**inputs(model, ids, more), **how).logits[0]


def check_placed(directory, model, given):
    placed = open_model(directory, device_map="cpu").eval()
    assert torch.equal(logits(placed, *given[0]), logits(model, *given[0]))


def check_pieces(model, given):
    for ids, more in given:
        if more:
            continue  # a picture cannot be cut
        cut = len(ids) // 2
        first = model(**inputs(model, ids[:cut], more), use_cache=True)
        cache = first[cache_name(model)]
        at = {} if VERSION >= (5, 0) else {"cache_position": torch.arange(cut, len(ids))}
        second = model(input_ids=ids[None, cut:], **{cache_name(model): cache}, **at)
        assert difference(torch.cat([first.logits, second.logits], 1)[0], logits(model, ids, more)) < LIMIT


def together(model, given, left):
    """All samples as one batch: inputs, and where each lies."""
    most = max(len(ids) for ids, _ in given)
    rows, mask, places = torch.zeros(len(given), most).long(), torch.zeros(len(given), most).long(), []
    for i, (ids, _) in enumerate(given):
        at = most - len(ids) if left else 0
        rows[i, at:at + len(ids)], mask[i, at:at + len(ids)] = ids, 1
        places.append(slice(at, at + len(ids)))
    more = {}
    with_pictures = [m for _, m in given if m]
    for key in (with_pictures or [{}])[0]:
        parts = [m[key] for m in with_pictures]
        if key == "pixel_values" and parts[0].ndim == 5:  # tiles, of which another picture has more
            tiles = max(p.shape[1] for p in parts)
            parts = [torch.cat([p, p.new_zeros(len(p), tiles - p.shape[1], *p.shape[2:])], 1) for p in parts]
        more[key] = torch.cat(parts)
    out = inputs(model, rows[0], more) | {"input_ids": rows, "attention_mask": mask}
    if "mm_token_type_ids" in out:
        out["mm_token_type_ids"] = (rows == model.config.image_token_id).int()
    return out, places


def check_padded(model, given):
    for left in (True, False):
        batch, places = together(model, given, left)
        got = model(**batch).logits
        for i, at in enumerate(places):
            assert difference(got[i, at], logits(model, *given[i])) < LIMIT, (left, i)


def check_bf16(directory, model, given):
    rough, (ids, more) = no_stop(open_model(directory, dtype=torch.bfloat16).eval()), given[0]
    more = {k: v.bfloat16() if v.is_floating_point() else v for k, v in more.items()}
    got = logits(rough, ids, more)
    assert got.dtype == torch.bfloat16
    found = difference(got.float(), logits(model, *given[0]))
    assert found < 0.2, found
    out = rough.generate(**inputs(rough, ids, more), max_new_tokens=4, do_sample=False, pad_token_id=0,
                         suppress_tokens=model.config.mha2mla["modeling"]["image_tokens"] or None,
                         return_dict_in_generate=True)
    cache = out[cache_name(model)]
    assert all(layer.keys.dtype == layer.values.dtype == torch.bfloat16 for layer in cache.layers)


def check_copied(model, given):
    want = logits(model, *given[0])
    other = copy.deepcopy(model)
    assert torch.equal(logits(other, *given[-1]), logits(model, *given[-1]))
    assert torch.equal(logits(other, *given[0]), want)


def check_beside(directory, model):
    with safe_open(os.path.join(directory, "ours.safetensors"), "pt") as f:
        original = os.path.dirname(f.metadata()["golden"])
    if VERSION >= (5, 0) and os.path.exists(os.path.join(original, "config.json")):
        loader = getattr(transformers, *model.config.auto_map)
        own = loader.from_pretrained(original, **({"key_mapping": model._names} if model._names else {}))
        assert type(own).__module__.startswith("transformers."), type(own)


def loss_of(model, given):
    """Both forward passes come before the backward one."""
    return sum(model(**inputs(model, ids, more), labels=ids[None]).loss for ids, more in (given[0], given[-1]))


def check_trained(model, given):
    gradients = []
    model = copy.deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        with torch.enable_grad():
            loss = loss_of(model, given)
            loss.backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    for name, p in model.named_parameters():
        if "self_attn." in name and "vision" not in name:
            assert name in gradients[0] and gradients[0][name].isfinite().all(), name
    for name, g in gradients[0].items():
        assert torch.allclose(g, gradients[1][name], rtol=1e-4, atol=1e-6), name
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    assert loss_of(model, given) < loss


def words(ids):
    return " ".join(f"w{i}" for i in ids.tolist())


def check_pipeline(model, given):
    vocabulary = {f"w{i}": i for i in range(model.config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    prompt = words(given[0][0])
    with tempfile.TemporaryDirectory() as at:
        model.save_pretrained(at)
        fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0", pad_token="w0")
        if VERSION >= (5, 0):
            pipe = transformers.pipeline("text-generation", model=at, tokenizer=fast, trust_remote_code=True,
                                         device_map="cpu")
        else:  # whose settings a saved copy does not have: compare.py
            pipe = transformers.pipeline("text-generation", model=open_model(at), tokenizer=fast)
        got = pipe(prompt, max_new_tokens=5, do_sample=False, return_full_text=False)[0]["generated_text"]
        batch = pipe([prompt, words(given[0][0][:5])], max_new_tokens=5, do_sample=False, batch_size=2,
                     return_full_text=False)
    out = model.generate(**inputs(model, given[0][0], {}), max_new_tokens=5, do_sample=False, pad_token_id=0)
    assert got.strip() == words(out[0, len(given[0][0]):]), got
    assert batch[0][0]["generated_text"] == got


def check(directory):
    model = no_stop(open_model(directory).eval())
    given = samples(model, directory)
    checks = [("placed", lambda: check_placed(directory, model, given)), ("pieces", lambda: check_pieces(model, given)),
              ("padded", lambda: check_padded(model, given)), ("bf16", lambda: check_bf16(directory, model, given)),
              ("copied", lambda: check_copied(model, given)), ("trained", lambda: check_trained(model, given)),
              ("beside", lambda: check_beside(directory, model))]
    if "vision_config" not in model.config.to_dict():
        checks.append(("pipeline", lambda: check_pipeline(model, given)))
    failed = []
    for name, run in checks:
        try:
            run()
        except Exception as e:
            failed.append(f"{name} ({type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''})")
            if os.environ.get("TRACE"):
                raise
    print(f"{os.path.basename(directory)}: " + ("failed: " + ", ".join(failed) if failed else f"{len(checks)} uses"),
          flush=True)
    return not failed


def main(work, *names):
    with torch.no_grad():
        done = [check(os.path.join(work, name)) for name in names]
    print(f"transformers {transformers.__version__}, torch {torch.__version__}: {sum(done)} of {len(done)} models")
    sys.exit(not done or not all(done))


if __name__ == "__main__":
    quiet()
    main(*sys.argv[1:])
