"""PEFT's side of padding.py: answers each line "FILE.npz" on standard input with a step's seconds.

Prompt tuning of a T5 1.1 small of random values by transformers and PEFT, on the CPU, float32. The
first argument is the number of prompt rows, the second into how many parts a batch is cut, whose
gradients are added. Each file has "inputs" [B,T] and "targets" [B,U].
"""

import json
import sys
import time

import numpy as np
import peft
import torch
import transformers

config = transformers.T5Config(
    vocab_size=32128,
    d_model=512,
    d_kv=64,
    d_ff=1024,
    num_heads=6,
    num_layers=8,
    feed_forward_proj="gated-gelu",
    tie_word_embeddings=False,
    decoder_start_token_id=0,
    dropout_rate=0.0,
)
# one submodule: with its default of two, half of a T5 prompt's rows are never used
settings = peft.PromptTuningConfig(
    task_type="SEQ_2_SEQ_LM", num_virtual_tokens=int(sys.argv[1]), num_transformer_submodules=1
)
model = peft.get_peft_model(transformers.T5ForConditionalGeneration(config), settings).train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.3)
for line in sys.stdin:
    arrays = np.load(line.strip())
    inputs, targets = (torch.tensor(arrays[name]).long() for name in ("inputs", "targets"))
    start, used = time.monotonic(), time.process_time()
    optimizer.zero_grad()
    # -100: what transformers leaves out of its loss
    labels = targets.masked_fill(targets == 0, -100)
    parts = int(sys.argv[2])
    for ids, wanted in zip(inputs.chunk(parts), labels.chunk(parts), strict=True):
        out = model(input_ids=ids, attention_mask=(ids > 0).long(), labels=wanted)
        (out.loss / parts).backward()
    optimizer.step()
    print(json.dumps([time.monotonic() - start, time.process_time() - used]), flush=True)
