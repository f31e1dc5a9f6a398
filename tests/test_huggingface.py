"""Hugging Face's folders, as transformers lays them out: read, refused, and written.

`make parity` has transformers itself write and read them.
"""

import dataclasses
import json
import shutil

import ml_dtypes
import numpy as np
import pytest
import small
import tiny_vocabulary
from huggingface_state import to_state
from safetensors.numpy import load_file, save_file

from prompt_tuning_jax import backbones, fingerprint, sharding
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.interop import huggingface
from prompt_tuning_jax.vocabulary import Vocabulary

T5_1_1 = small.CONFIG
T5_1_0 = dataclasses.replace(small.CONFIG, mlp_activations=("relu",), logits_via_embedding=True)
CONFIGS = {
    "t5_1_1": T5_1_1,
    "t5_1_0": T5_1_0,
    "silu": dataclasses.replace(small.CONFIG, mlp_activations=("silu", "linear")),
}
MLP = {"gelu": "gated-gelu", "relu": "relu", "silu": "gated-silu"}
HEAD = "lm_head.weight"


def facts(config, **changes):
    """config.json of a published T5; a change to None leaves the field out."""
    published = {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "d_model": config.emb_dim,
        "d_kv": config.head_dim,
        "d_ff": config.mlp_dim,
        "num_heads": config.num_heads,
        "num_layers": config.num_encoder_layers,
        "num_decoder_layers": config.num_decoder_layers,
        "vocab_size": config.vocab_size,
        "feed_forward_proj": MLP[config.mlp_activations[0]],
        "relative_attention_num_buckets": config.relpos_buckets,
        "tie_word_embeddings": config.logits_via_embedding,
        "layer_norm_epsilon": 1e-06,
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "dropout_rate": 0.1,
    }
    return {name: value for name, value in (published | changes).items() if value is not None}


def lay_out(folder, config=T5_1_1, theta=None, files=1, add=(), **changes):
    """A folder of `files` safetensors with θ's tensors and those of `add`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(facts(config, **changes)))
    state = to_state(small.theta(config) if theta is None else theta, config) | dict(add)
    state = {k: np.ascontiguousarray(v) for k, v in state.items() if v is not None}
    if files == 1:
        save_file(state, folder / "model.safetensors", {"format": "pt"})
        return folder
    placed = {}
    for number in range(files):
        name = f"model-{number + 1:05}-of-{files:05}.safetensors"
        part = dict(list(sorted(state.items()))[number::files])
        save_file(part, folder / name, {"format": "pt"})
        placed |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 0}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def read(folder, config=None):
    config = config or backbones.config_of(str(folder))
    places = sharding.Partitioner.of({"data": 1}).theta(config)
    return backbones.read(str(folder), config, places)


def refused(folder, config=None):
    with pytest.raises(UserError) as caught:
        read(folder, config)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    return str(caught.value)


# ---- reading -------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_value_comes_back(name, files, tmp_path):
    config, theta = CONFIGS[name], small.theta(CONFIGS[name])
    folder = lay_out(tmp_path / "model", config, files=files)
    assert backbones.config_of(str(folder)).architecture() == config.architecture()
    backbone = read(folder, config)
    assert small.same(backbone.theta, theta)
    assert backbone.fingerprint == fingerprint.of(theta)


def test_half_precision_files(tmp_path):
    for dtype in (np.float16, ml_dtypes.bfloat16):
        state = {k: v.astype(dtype) for k, v in to_state(small.theta(), T5_1_1).items()}
        theta = read(lay_out(tmp_path / np.dtype(dtype).name, add=state)).theta
        rounded = small.theta()["encoder"]["layers"]["mlp"]["wo"]["kernel"].astype(dtype)
        got = theta["encoder"]["layers"]["mlp"]["wo"]["kernel"]
        np.testing.assert_array_equal(got, rounded.astype(np.float32))


def test_what_old_files_hold_beside_the_parameters(tmp_path):
    """Copies of the embedding, and a table of distances that nothing reads."""
    theta = small.theta(T5_1_0)
    embedding = theta["token_embedder"]["embedding"]
    copies = {f"{stack}.embed_tokens.weight": embedding for stack in ("encoder", "decoder")}
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    add = copies | {HEAD: embedding, unused: np.ones((32, 4), np.float32)}
    assert small.same(read(lay_out(tmp_path / "t5_1_0", T5_1_0, add=add)).theta, theta)
    other = {"encoder.embed_tokens.weight": embedding + 1}
    message = refused(lay_out(tmp_path / "other", T5_1_0, add=other))
    assert "encoder.embed_tokens.weight is not shared.weight" in message


def head(folder):
    theta = read(folder).theta
    return np.asarray(theta["decoder"]["logits_dense"]["kernel"])


def test_heads_tied_or_not_and_scaled_or_not(tmp_path):
    """What multiplies the decoder's states, in every form that transformers has written."""
    embedding = small.theta()["token_embedder"]["embedding"]
    own = small.theta()["decoder"]["logits_dense"]["kernel"]
    fresh = {"tie_word_embeddings": True, "scale_decoder_outputs": False}
    # published T5 1.1: a head of its own; transformers 5 writes both fields
    np.testing.assert_array_equal(head(lay_out(tmp_path / "published")), own)
    np.testing.assert_array_equal(head(lay_out(tmp_path / "fresh", **fresh)), own)
    # transformers 5's fresh T5 1.1 and mT5: the embedding, not scaled
    tied = head(lay_out(tmp_path / "tied", add={HEAD: None}, **fresh))
    np.testing.assert_array_equal(tied, embedding.T)
    mt5 = {"model_type": "mt5", "tie_word_embeddings": True, "feed_forward_proj": None}
    np.testing.assert_array_equal(
        head(lay_out(tmp_path / "mt5", add={HEAD: None}, **mt5)), embedding.T
    )
    np.testing.assert_array_equal(head(lay_out(tmp_path / "own_mt5", **mt5)), own)
    # a head of its own with scaled states: the scale goes into the kernel
    scaled = head(lay_out(tmp_path / "scaled", tie_word_embeddings=None))
    np.testing.assert_array_equal(scaled, own * np.float32(16**-0.5))


def test_the_vocabulary_beside_it(tmp_path):
    folder = lay_out(tmp_path / "model")
    with pytest.raises(UserError, match="no vocabulary beside it: give VOCABULARY_FILE"):
        backbones.vocabulary(str(folder))
    model = tiny_vocabulary.train(tmp_path)
    shutil.copy(model, folder / "spiece.model")
    assert backbones.vocabulary(str(folder)) == Vocabulary(model, 100)
    (folder / "tokenizer_config.json").write_text('{"extra_ids": 4}')
    assert backbones.vocabulary(str(folder)) == Vocabulary(model, 4)


def test_another_architecture(tmp_path):
    folder = lay_out(tmp_path / "model")
    message = refused(folder, dataclasses.replace(T5_1_1, mlp_dim=24))
    assert "mlp_dim = 20 there, 24 asked" in message


# ---- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bart"}, "model_type is 'bart', not t5, mt5 or umt5"),
        ({"model_type": None}, "model_type is None"),
        ({"feed_forward_proj": "gelu"}, "feed_forward_proj is 'gelu', not relu, gated-gelu"),
        ({"relative_attention_max_distance": 64}, "max_distance is 64, T5's is 128"),
        ({"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon is 1e-05, T5's is 1e-06"),
        ({"decoder_start_token_id": 2}, "decoder_start_token_id is 2, T5's is 0"),
        ({"num_layers": "2"}, "num_layers is '2', not a positive number"),
        ({"d_kv": 0}, "d_kv is 0, not a positive number"),
        ({"feed_forward_proj": ["relu"]}, "feed_forward_proj is ['relu'], not relu"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false', not true or false"),
        ({"num_heads": None}, "num_heads is None, not a positive number"),
    ],
)
def test_other_models_and_settings(changes, message, tmp_path):
    assert message in refused(lay_out(tmp_path / "model", **changes))


def test_tensors_are_accounted_for(tmp_path):
    wo = "encoder.block.1.layer.1.DenseReluDense.wo.weight"
    message = refused(lay_out(tmp_path / "missing", add={wo: None}))
    assert "1 missing parameters: encoder/layers_1/mlp/wo/kernel" in message
    message = refused(lay_out(tmp_path / "extra", add={"encoder.bias": np.ones(3)}))
    assert "1 extra parameters: encoder.bias" in message
    message = refused(lay_out(tmp_path / "turned", add={wo: np.ones((20, 16), np.float32)}))
    assert "encoder/layers_1/mlp/wo/kernel (16, 20), wanted (20, 16)" in message


def test_no_embedding_at_all(tmp_path):
    none = {"shared.weight": None, HEAD: None}
    message = refused(lay_out(tmp_path / "model", add=none))
    wanted = "2 missing parameters: decoder/logits_dense/kernel, token_embedder/embedding"
    assert wanted in message


def test_an_embedding_under_its_copy_s_name(tmp_path):
    embedding = small.theta()["token_embedder"]["embedding"]
    add = {"shared.weight": None, "encoder.embed_tokens.weight": embedding}
    assert small.same(read(lay_out(tmp_path / "model", add=add)).theta, small.theta())


def test_copies_are_compared_whole(tmp_path):
    """One value of one row makes another embedding, and another head."""
    config = dataclasses.replace(T5_1_0, vocab_size=500)
    other = small.theta(config)["token_embedder"]["embedding"].copy()
    other[301, 5] += 1
    add = {"decoder.embed_tokens.weight": other}
    assert "is not shared.weight" in refused(lay_out(tmp_path / "copy", config, add=add))
    kernel = head(lay_out(tmp_path / "head", config, add={HEAD: other}))
    np.testing.assert_array_equal(kernel, other.T * np.float32(16**-0.5))


def test_a_tensor_in_two_files_is_the_index_s(tmp_path):
    folder = lay_out(tmp_path / "model", files=2)
    first, second = sorted(folder.glob("model-*.safetensors"))
    name, values = next(iter(load_file(first).items()))
    save_file(load_file(second) | {name: values + 1}, second)
    assert small.same(read(folder).theta, small.theta())


def test_numbers_that_are_no_weights(tmp_path):
    name = "encoder.final_layer_norm.weight"
    message = refused(lay_out(tmp_path / "int8", add={name: np.ones(16, np.int8)}))
    assert f"{name} is I8, not F64, F32, F16, BF16" in message
    folder = lay_out(tmp_path / "float8")
    header, content = {"__metadata__": {"format": "pt"}}, b""
    for key, value in load_file(folder / "model.safetensors").items():
        kind, data = ("F8_E4M3", b"8" * 16) if key == name else ("F32", value.tobytes())
        span = [len(content), len(content) + len(data)]
        header[key] = {"dtype": kind, "shape": list(value.shape), "data_offsets": span}
        content += data
    text = json.dumps(header).encode()
    whole = len(text).to_bytes(8, "little") + text + content
    (folder / "model.safetensors").write_bytes(whole)
    assert f"{name} is F8_E4M3" in refused(folder)


def test_broken_files(tmp_path):
    folder = lay_out(tmp_path / "model", files=2)
    second = folder / "model-00002-of-00002.safetensors"
    tensors = load_file(second)
    save_file(dict(list(tensors.items())[1:]), second)
    assert f"no {next(iter(tensors))} in it, where the index has it" in refused(folder)
    second.write_bytes(b"not tensors")
    assert f"{second}: cannot be read" in refused(folder)
    second.unlink()
    assert f"{second}: cannot be read" in refused(folder)
    for content in ("{", "{}", "[]"):
        (folder / "model.safetensors.index.json").write_text(content)
        assert "not an index of tensors" in refused(folder)
    (folder / "model.safetensors.index.json").unlink()
    assert "config.json, but neither model.safetensors nor pytorch_model.bin" in refused(folder)
    (folder / "config.json").write_text("[")
    assert "not a configuration" in refused(folder)


def test_what_needs_torch_or_the_hub_says_so(tmp_path):
    """Neither is installed where these tests run."""
    folder = lay_out(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError) as caught:
        read(folder)
    assert str(caught.value) == (
        f"{folder}/pytorch_model.bin: reading it needs torch; safetensors do not"
    )
    with pytest.raises(UserError, match="google/t5-nowhere: no such folder.*huggingface_hub"):
        backbones.find("google/t5-nowhere")


# ---- writing -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return Vocabulary(tiny_vocabulary.train(tmp_path_factory.mktemp("words")), extra_ids=4)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_written_folder_is_that_of_transformers(name, words, tmp_path):
    config, theta = CONFIGS[name], small.theta(CONFIGS[name])
    leaves = backbones.layers("θ", backbones.leaves_of(theta), config)
    huggingface.write(tmp_path, config, leaves, words)
    written, wanted = load_file(tmp_path / "model.safetensors"), to_state(theta, config)
    assert written.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_array_equal(written[key], value)
    described = json.loads((tmp_path / "config.json").read_text())
    assert described == described | facts(config, dropout_rate=config.dropout_rate)
    assert small.same(read(tmp_path, config).theta, theta)
    assert backbones.vocabulary(str(tmp_path)) == words


def test_a_model_that_transformers_has_not(words, tmp_path):
    config = dataclasses.replace(T5_1_1, relpos_per_layer=True)
    with pytest.raises(UserError, match="has no relpos_per_layer = True"):
        huggingface.write(tmp_path, config, {}, words)
