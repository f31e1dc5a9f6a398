"""Folders that transformers writes, read by us, and folders of ours, loaded by transformers: the
same logits and generations; the hub's names, and PyTorch's files."""

import dataclasses
import json
import pickle
import shutil

import compared
import jax
import numpy as np
import pytest
import reference
import small
import tiny_vocabulary
import torch
import transformers
from golden import weights

from prompt_tuning_jax import backbones, decoding, evaluate, sharding, t5
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.interop import huggingface
from prompt_tuning_jax.vocabulary import Vocabulary

TOLERANCE = 1e-5  # of a row's largest value
SIZES = dict(
    vocab_size=64, d_model=32, d_kv=16, d_ff=48, num_heads=3, num_layers=3, num_decoder_layers=2
)
GATED = {"feed_forward_proj": "gated-gelu"}
MODELS = {
    # tied by transformers 5 whatever is said; the states scaled where tie_word_embeddings is True
    "t5_1_1": ("T5", GATED | {"tie_word_embeddings": False}),
    "t5_1_0": ("T5", {"tie_word_embeddings": True}),
    "silu": ("T5", {"feed_forward_proj": "gated-silu", "tie_word_embeddings": False}),
    "scaled": ("T5", GATED),
    "mt5": ("MT5", {}),
    "umt5": ("UMT5", {}),
    # T5 1.1 small and Flan-T5 small, 77 million parameters
    "small": (
        "T5",
        GATED
        | {"vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 1024, "num_heads": 6}
        | {"num_layers": 8, "num_decoder_layers": 8, "tie_word_embeddings": False},
    ),
    "deep": ("T5", GATED | {"num_layers": 1, "num_decoder_layers": 4, "num_heads": 5}),
}


def build(name, head):
    """transformers' model with its own random start; `head`: with an lm_head of its own."""
    family, changes = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SIZES | changes, dropout_rate=0.0)
    config.decoder_start_token_id = 0
    model = getattr(transformers, f"{family}ForConditionalGeneration")(config)
    if head:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight) / 4)
    for parameter in model.parameters():  # so that generations end at different steps
        if parameter.ndim == 2:
            parameter.data *= 1.5
    return model.eval()


def read(folder, **options):
    config = backbones.config_of(str(folder), dropout_rate=0.0)
    places = sharding.Partitioner.of({"data": 1}).theta(config)
    return config, backbones.read(str(folder), config, places, **options).theta


def check(folder, model, generations=False, tolerance=TOLERANCE):
    """Logits of several paddings and lengths; greedy and beam-4 generations."""
    config, theta = read(folder)
    apply = small.quick_jit(t5.T5(config).apply)
    for lengths in ({}, {"inputs": 150, "targets": 9}):
        batch = weights.batch(config, **lengths)
        with torch.no_grad():
            theirs = model(**reference.tensors(batch)).logits.numpy()
        logits = apply({"params": theta}, t5.EMPTY, batch)
        compared.rows("logits of checkpoints, examples", logits, theirs, tolerance)
    if not generations:
        return
    many = weights.batch(config, **weights.GENERATED)
    for decoder, beams in ((decoding.Greedy(), 1), (decoding.Beam(4), 4)):
        ours = weights.generate(t5.T5(config), theta, t5.EMPTY, many, weights.LENGTH, decoder)
        theirs = reference.generate(model, many, weights.LENGTH, beams=beams)
        kind = f"{'beam' if beams > 1 else 'greedy'} generations of checkpoints"
        compared.same(kind, weights.until_end(ours), weights.until_end(theirs))


@pytest.mark.parametrize("head", [False, True], ids=["tied", "own_head"])
@pytest.mark.parametrize("name", MODELS)
def test_what_transformers_writes(name, head, tmp_path):
    build(name, head).save_pretrained(tmp_path)
    family, _ = MODELS[name]
    loaded = getattr(transformers, f"{family}ForConditionalGeneration").from_pretrained(tmp_path)
    if name == "small":
        # through 16 layers of 512 float32 rounds: torch itself is 6e-6 from float64 here, we 9e-6
        check(tmp_path, loaded.eval(), tolerance=1e-4)
    else:
        check(tmp_path, loaded.eval(), generations=head or name == "umt5")


@pytest.mark.parametrize("name", ["t5_1_1", "t5_1_0"])
def test_several_files(name, tmp_path):
    model = build(name, True)
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 3
    check(tmp_path, model)


def test_bfloat16(tmp_path):
    model = build("t5_1_1", True).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    check(tmp_path, model.float())


def plain_state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("files", [1, 2])
def test_pytorch_s_files(files, zipped, tmp_path):
    """pytorch_model.bin as published T5s are: all names, the copies of the embedding too."""
    model = build("t5_1_1", True)
    model.config.save_pretrained(tmp_path)
    state = plain_state(model)
    assert "encoder.embed_tokens.weight" in state
    names = ["pytorch_model.bin"]
    if files == 2:
        names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
        placed = {name: names[i % 2] for i, name in enumerate(state)}
        index = tmp_path / "pytorch_model.bin.index.json"
        index.write_text(json.dumps({"weight_map": placed}))
    for number, name in enumerate(names):
        part = dict(list(state.items())[number::files])
        torch.save(part, tmp_path / name, _use_new_zipfile_serialization=zipped)
    check(tmp_path, model)


class Trap:
    """A pickle that runs what its writer likes when it is loaded."""

    def __reduce__(self):
        return print, ("the pickle was run",)


def test_pickles_are_not_run(tmp_path, capsys):
    build("t5_1_1", True).config.save_pretrained(tmp_path)
    torch.save({"shared.weight": Trap()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin: no file of plain tensors"):
        read(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"shared.weight": Trap()}))
    with pytest.raises(UserError, match=r"pytorch_model\.bin: no file of plain tensors"):
        read(tmp_path)
    assert "was run" not in capsys.readouterr().out


def test_files_that_are_no_tensors(tmp_path):
    model = build("t5_1_1", True)
    model.config.save_pretrained(tmp_path)
    file = tmp_path / "pytorch_model.bin"
    torch.save(plain_state(model), file, _use_new_zipfile_serialization=False)
    for content in (b"", file.read_bytes()[:200], b"version https://git-lfs"):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"pytorch_model\.bin: no file of plain tensors"):
            read(tmp_path)
    # parameters, which want gradients, are tensors like any other; sparse ones are not
    state = dict(model.named_parameters())
    torch.save(state, file)
    check(tmp_path, model)
    torch.save(state | {"shared.weight": state["shared.weight"].to_sparse()}, file)
    with pytest.raises(UserError, match=r"shared\.weight is no dense tensor"):
        read(tmp_path)


# ---- the hub -------------------------------------------------------------------------------


def test_a_name_of_the_hub(tmp_path, monkeypatch):
    """From the hub's cache on disk, without a network: a name that was fetched, and another."""
    import huggingface_hub

    model = build("t5_1_1", True)
    commit = "0123456789" * 4
    folder = tmp_path / "models--google--t5-tiny"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text(commit)
    model.save_pretrained(folder / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    check("google/t5-tiny", model)
    with pytest.raises(UserError) as caught:
        backbones.find("google/t5-absent")
    assert str(caught.value).startswith("google/t5-absent: no such folder, nor a model of the hub")
    assert "\n" not in str(caught.value)


# ---- and back ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*weights.CONFIGS, "silu"])
def test_transformers_loads_what_we_write(name, tmp_path):
    config = weights.CONFIGS.get(name) or dataclasses.replace(
        weights.CONFIGS["t5_1_1"], mlp_activations=("silu", "linear")
    )
    theta = weights.theta(config)
    leaves = backbones.layers("θ", backbones.leaves_of(theta), config)
    words = Vocabulary(tiny_vocabulary.train(tmp_path), extra_ids=4)
    huggingface.write(tmp_path, config, leaves, words)
    model = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert (model.lm_head.weight is model.shared.weight) == config.logits_via_embedding
    check(tmp_path, model)
    assert small.same(read(tmp_path)[1], jax.tree.map(np.asarray, theta))


def test_transformers_tokenizes_as_we_do_with_what_we_write(tmp_path):
    words = Vocabulary(tiny_vocabulary.train(tmp_path), extra_ids=4)
    config = weights.CONFIGS["t5_1_1"]
    leaves = backbones.layers("θ", backbones.leaves_of(weights.theta(config)), config)
    folder = tmp_path / "written"
    folder.mkdir()
    huggingface.write(folder, config, leaves, words)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text in (
        "rte hypothesis: the cat sat",
        "a <extra_id_0> play <extra_id_3>",
        "not_entailment",
    ):
        assert tokenizer(text).input_ids == [*words.encode(text), 1], text


def test_the_real_vocabulary_beside_a_model(shared, tmp_path):
    """transformers' tokenizer of the T5 vocabulary, ours of the same spiece.model."""
    file = shared / "data/vocab/cc_all.32000.sentencepiece.model"
    shutil.copy(file, tmp_path / "spiece.model")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    tokenizer = transformers.T5Tokenizer.from_pretrained(tmp_path)
    words = Vocabulary(str(file))
    text = "This is a test of prompt tuning."
    assert (
        tokenizer(text).input_ids
        == [*words.encode(text), 1]
        == [100, 19, 3, 9, 794, 13, 9005, 23668, 5, 1]
    )


# ---- a task whole --------------------------------------------------------------------------


def test_a_task_is_evaluated_as_transformers_does(shared, tmp_path, monkeypatch):
    """CB's 56 validation examples with the real vocabulary: the loss, and every prediction."""
    monkeypatch.setenv("PROMPT_TUNING_CACHE", str(tmp_path / "cache"))
    _, changes = MODELS["t5_1_1"]
    torch.manual_seed(0)
    config = transformers.T5Config(**SIZES | changes | {"vocab_size": 32128}, dropout_rate=0.0)
    config.decoder_start_token_id = 0
    model = transformers.T5ForConditionalGeneration(config).eval()
    model.save_pretrained(tmp_path / "model")
    file = shared / "data/vocab/cc_all.32000.sentencepiece.model"
    shutil.copy(file, tmp_path / "model/spiece.model")
    result = evaluate.evaluate(
        mixture_or_task_name="super_glue_cb",
        initial_checkpoint_path=str(tmp_path / "model"),
        data_dir=str(shared / "data/superglue"),
        task_feature_lengths={"inputs": 384, "targets": 8},
        output=str(tmp_path / "out"),
    )
    assert result["examples"] == 56
    tokenizer = transformers.T5Tokenizer.from_pretrained(tmp_path / "model")
    lines = (shared / "data/superglue/CB/val.jsonl").read_text().splitlines()
    ours = (tmp_path / "out/super_glue_cb.jsonl").read_text().splitlines()
    losses, tokens = 0.0, 0
    for line, prediction in zip(map(json.loads, lines), map(json.loads, ours), strict=True):
        text = f"cb hypothesis: {line['hypothesis']} premise: {line['premise']}"
        inputs = tokenizer(text, return_tensors="pt").input_ids
        labels = tokenizer(line["label"], return_tensors="pt").input_ids
        with torch.no_grad():
            losses += model(input_ids=inputs, labels=labels).loss.item() * labels.shape[1]
            generated = model.generate(inputs, max_new_tokens=8, do_sample=False)[0, 1:]
        tokens += labels.shape[1]
        ids = weights.until_end(generated[None].numpy())[0]
        words = Vocabulary(str(file)).decode(ids)
        compared.same("predictions of CB, examples", [prediction["prediction"]], [words])
    found = result["metrics"]["teacher_forced_loss"]
    compared.close("loss over CB", found, losses / tokens, 1e-6)
