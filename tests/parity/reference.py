"""The same model in transformers: our θ in, logits, losses and generations out."""

import huggingface_state
import numpy as np
import peft
import torch
import transformers

from prompt_tuning_jax.t5 import T5Config

FAMILIES = {
    "t5": (transformers.T5Config, transformers.T5ForConditionalGeneration),
    "mt5": (transformers.MT5Config, transformers.MT5ForConditionalGeneration),
}


def build(config: T5Config, theta: dict, family: str = "t5") -> torch.nn.Module:
    """transformers' model with our weights, float32, dropout off."""
    make_config, make_model = FAMILIES[family]
    gated = {("gelu", "linear"): "gated-gelu", ("relu",): "relu"}
    model = make_model(
        make_config(
            vocab_size=config.vocab_size,
            d_model=config.emb_dim,
            d_kv=config.head_dim,
            d_ff=config.mlp_dim,
            num_heads=config.num_heads,
            num_layers=config.num_encoder_layers,
            num_decoder_layers=config.num_decoder_layers,
            feed_forward_proj=gated[config.mlp_activations],
            tie_word_embeddings=config.logits_via_embedding,
            decoder_start_token_id=0,
            dropout_rate=0.0,
            attn_implementation="eager",
        )
    )
    tied = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}
    if config.logits_via_embedding:
        tied.add("lm_head.weight")
    else:
        # a fresh transformers model ties it, whatever its configuration says
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    state = {k: torch.tensor(v) for k, v in huggingface_state.to_state(theta, config).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert set(missing) == tied and not unexpected
    return model.eval()


def prompted(config: T5Config, theta: dict, rows: np.ndarray, submodules: int = 1):
    """PEFT's prompt tuning with our rows [P,D] -> (its model, its embedding of prompts).

    By default PEFT has two submodules for T5 and [2P,D], of which the second half (the decoder's)
    is never used; with one, its prompt is ours.
    """
    settings = peft.PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM",
        num_virtual_tokens=len(rows),
        num_transformer_submodules=submodules,
    )
    model = peft.get_peft_model(build(config, theta), settings)
    embedding = model.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        embedding[: len(rows)] = torch.tensor(rows)
    return model, embedding


def apart(model, rows: torch.Tensor, batch: dict[str, np.ndarray]) -> torch.Tensor:
    """The loss with rows [P,D] in front of every input, which see each other and no input."""
    given = tensors(batch)
    embedded = model.encoder.embed_tokens(given["input_ids"])
    front = rows.expand(len(embedded), *rows.shape)
    mask = torch.cat([torch.ones(front.shape[:2]).long(), given["attention_mask"]], 1)
    # [B,P+T,P+T]: keys that are real, and for queries that are rows, rows
    seen = mask[:, None, :].repeat(1, mask.shape[1], 1).bool()
    seen[:, : len(rows), len(rows) :] = False
    added = torch.where(seen[:, None], 0.0, torch.finfo(torch.float32).min)
    states = model.encoder(inputs_embeds=torch.cat([front, embedded], 1), attention_mask=added)
    return model(encoder_outputs=states, attention_mask=mask, labels=given["labels"]).loss


def tensors(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Our batch under transformers' names; padding targets are its -100."""
    tokens, targets = batch["encoder_input_tokens"], batch["decoder_target_tokens"]
    return {
        "input_ids": torch.tensor(tokens).long(),
        "attention_mask": torch.tensor(tokens > 0).long(),
        "labels": torch.tensor(np.where(targets > 0, targets, -100)).long(),
    }


def generate(model, batch, length: int, beams: int = 1, alpha: float = 1.0) -> np.ndarray:
    """Generated ids [B,<=length] without the start token."""
    given = {k: v for k, v in tensors(batch).items() if k != "labels"}
    # transformers 5.23 makes its cache as deep as the encoder
    depths = model.config.num_layers, model.config.num_decoder_layers
    out = model.generate(
        **given,
        max_new_tokens=length,
        num_beams=beams,
        do_sample=False,
        early_stopping=False,
        length_penalty=alpha,
        use_cache=depths[1] <= depths[0],
    )
    return out[:, 1:].numpy()
