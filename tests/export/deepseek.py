"""Exports as DeepseekV3ForCausalLM in transformers, without code of ours. By hand, in the project's root, in
the environments of compare.py and with its WORK:

    any/bin/python tests/export/deepseek.py WORK [NAME ...]

Writes each model of WORK that has such a form (build/mha2mla-train --deepseek) to a temporary directory; no
tensor may be missing, left over or of another shape. Then, beside what our program computed for the model
itself (ours.safetensors):
    logits    of all positions of all samples, without a cache and with one
    tokens    greedy, 12 after each prompt: the same ids
    cache     with transformers 5, which keeps latents: r + R values a token and layer, as --deepseek says
    bf16      the largest difference when all is computed in bf16, for information
The differences are relative to the largest logit; 1e-5 is allowed, and 2e-5 where compare.py allows that."""
import os
import re
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file

from compare import NEW, VERSION, difference, generate, inputs, limit, no_stop, quiet

PROGRAM = "build/mha2mla-train"


def write(directory, to):
    """The values cached a token and layer, rotated and latent; None if the model has no such form."""
    done = subprocess.run([PROGRAM, "--deepseek", directory, to], capture_output=True, text=True)
    if done.returncode:
        assert "cannot be a DeepseekV3ForCausalLM" in done.stderr and not os.path.exists(to), done.stderr
        return None
    own, rotated, latent = re.search(r"DeepseekV3ForCausalLM, (\d+) .*?(\d+)\) and (\d+)", done.stdout).groups()
    print(f"{os.path.basename(directory)}: {rotated} rotated values as {own}, {latent} latent ones", end="")
    return int(own) + int(latent)


def compare(directory, to, values):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(to, dtype=torch.float32,
                                                                    output_loading_info=True)
    assert not any(info.values()), info
    assert type(model) is transformers.DeepseekV3ForCausalLM
    model = no_stop(model.eval())
    with safe_open(os.path.join(directory, "ours.safetensors"), "pt") as f:
        golden, ours = load_file(f.metadata()["golden"]), {k: f.get_tensor(k) for k in f.keys()}
    most = 0
    for n in range(sum(k.startswith("generated.") for k in ours)):
        ids, prompt = golden[f"ids.{n}"].long(), golden[f"prompt.{n}"].long()
        for cached in (False, True):
            got = model(**inputs(model, ids, {}), use_cache=cached).logits[0]
            most = max(most, difference(got, ours[f"logits.{n}"]))
        out = generate(model, inputs(model, prompt, {}))
        assert torch.equal(out.sequences[0, len(prompt):], ours[f"generated.{n}"].long())
        if VERSION >= (5, 0):
            held = sum(t.numel() for layer in out.past_key_values.layers for t in (layer.keys, layer.values))
            assert held == values * model.config.num_hidden_layers * (len(prompt) + NEW - 1), held
    assert most < limit(directory), (directory, most)
    rough = model.bfloat16()(**inputs(model, golden["ids.0"].long(), {})).logits[0].float()
    print(f": logits {most:.1e}; in bf16 {difference(rough, ours['logits.0']):.1e}", flush=True)
    return most


def main(work, *names):
    found = []
    for name in sorted(os.listdir(work)):
        if not name.startswith(tuple(names or [""])):
            continue
        with tempfile.TemporaryDirectory() as to, torch.no_grad():
            values = write(os.path.join(work, name), os.path.join(to, "m"))
            if values:
                found.append(compare(os.path.join(work, name), os.path.join(to, "m"), values))
    print(f"transformers {transformers.__version__}, torch {torch.__version__}: {len(found)} models, "
          f"logits {max(found, default=0):.1e}")
    sys.exit(not found)


if __name__ == "__main__":
    quiet()
    main(*sys.argv[1:])
