"""PEFT + transformers + torch at the work of `peer_work.py`; `peers.py` runs it."""

from __future__ import annotations

import peer_work
import torch
from peft import PromptTuningConfig, TaskType, get_peft_model
from transformers import T5Config, T5ForConditionalGeneration


def checkpoint(work: peer_work.Work):
    """Writes a T5 1.1 small of random values."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=peer_work.V,
        d_model=peer_work.D,
        d_kv=peer_work.K,
        d_ff=peer_work.F,
        num_layers=peer_work.L,
        num_decoder_layers=peer_work.L,
        num_heads=peer_work.H,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        dropout_rate=0.1,
        decoder_start_token_id=0,
    )
    model = T5ForConditionalGeneration(config)
    # transformers 5 ties a T5's logits to it whatever is asked for: as it starts, every token would
    # predict itself, and all generated ones were the decoder's start
    model.shared.weight.data *= 0.05
    model.save_pretrained(work.checkpoint)
    peer_work.report()


def start(work: peer_work.Work):
    """The checkpoint's model, the prompt in front where there is one."""
    model = T5ForConditionalGeneration.from_pretrained(work.checkpoint)
    if work.prompt:
        given = {"task_type": TaskType.SEQ_2_SEQ_LM, "num_virtual_tokens": work.prompt}
        model = get_peft_model(model, PromptTuningConfig(**given))
        table = model.prompt_encoder["default"].embedding.weight
        # PEFT makes two prompts for a T5; its forward pass reads the first
        table.data[: work.prompt] = torch.from_numpy(work.rows())
    return model


def batch_of(work: peer_work.Work) -> dict[str, torch.Tensor]:
    inputs, targets = (torch.from_numpy(a) for a in work.tokens())
    return {"input_ids": inputs, "attention_mask": torch.ones_like(inputs), "labels": targets}


def training(work: peer_work.Work):
    model = start(work).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.3)
    batch = batch_of(work)
    ready = peer_work.age()

    def call():
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    times = peer_work.seconds(call, work.repeats)
    peer_work.report(train=times, compile_s=0.0, start_s=ready)


@torch.inference_mode()
def evaluation(work: peer_work.Work):
    model, batch = start(work).eval(), batch_of(work)
    loss = model(**batch).loss.item()
    times = peer_work.seconds(lambda: model(**batch).loss.item(), work.repeats)
    peer_work.report(evaluate=times, loss=loss)


@torch.inference_mode()
def generation(work: peer_work.Work):
    model, batch = start(work).eval(), batch_of(work)
    del batch["labels"]
    exact = {"max_new_tokens": work.targets, "min_new_tokens": work.targets, "do_sample": False}
    # without the token that decoding begins with
    ids = model.generate(**batch, **exact)[:, 1:].tolist()
    times = peer_work.seconds(lambda: model.generate(**batch, **exact).tolist(), work.repeats)
    peer_work.report(generate=times, ids=ids)


@torch.inference_mode()
def products(work: peer_work.Work):
    def make(a, b):
        a, b = torch.from_numpy(a), torch.from_numpy(b)
        out = torch.matmul(a, b)
        return lambda: torch.matmul(a, b, out=out)

    peer_work.report(products=peer_work.product_times(work, make))


if __name__ == "__main__":
    work = peer_work.work_of(peer_work.arguments().parse_args())
    jobs = {"train": training, "evaluate": evaluation, "generate": generation}
    (jobs | {"products": products, "checkpoint": checkpoint})[work.what](work)
