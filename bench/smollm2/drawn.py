#!/usr/bin/env python3
"""Texts drawn from the model itself, to calibrate and train on when no other text is at hand.

    pip install torch==2.13.0 transformers==5.24.0
    python3 drawn.py MODEL BATCHES OUT.jsonl

Each begins with a token drawn evenly from the vocabulary and goes on with what the model says at
temperature 1, for TOKENS; special tokens are not drawn, so that none ends sooner. The seed is fixed.
"""
import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedTokenizerFast

TOKENS, ROWS = 508, 96


@torch.inference_mode()
def draw(model, special, rng):
    plain = torch.tensor([i for i in range(model.config.vocab_size) if i not in special])
    ids = [plain[torch.randint(len(plain), (ROWS, 1), generator=rng)]]
    cache = DynamicCache(config=model.config)
    while len(ids) < TOKENS:
        logits = model(ids[-1], past_key_values=cache, logits_to_keep=1).logits[:, -1]
        logits[:, list(special)] = -torch.inf
        ids.append(torch.multinomial(torch.softmax(logits, -1), 1, generator=rng))
    return torch.cat(ids, 1).tolist()


def main(path, batches, out):
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{path}/tokenizer.json")
    special = {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    rng, n = torch.Generator().manual_seed(1), 0
    with open(out, "w", encoding="utf-8") as f:
        for _ in range(int(batches)):
            for ids in draw(model, special, rng):
                text = tokenizer.decode(ids, skip_special_tokens=False)
                f.write(json.dumps({"id": f"drawn-{n}", "text": text}, ensure_ascii=False) + "\n")
                n += 1
            f.flush()
            print(f"{n} texts, {time.process_time():.0f} s", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: drawn.py MODEL BATCHES OUT.jsonl")
    main(*sys.argv[1:])
