"""Every reader, given spoilt files: it reads them, or refuses them with one line; a small form of
benchmarks/fuzz.py, and a plain test for each kind of fault that it found."""

import gzip
import hashlib
import json
import random
import struct
import sys

import numpy as np
import pytest
import readers
from flax.serialization import msgpack_serialize
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from prompt_tuning_jax import (
    artifacts,
    backbones,
    charsmap,
    errors,
    gin_files,
    infer,
    numpy_files,
    plots,
    prompt_init,
    run_dir,
    strict_json,
    t5,
    token_cache,
)
from prompt_tuning_jax import settings as our_settings
from prompt_tuning_jax.command_line import Override
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.method import Chain
from prompt_tuning_jax.tasks.lines import TextFile
from prompt_tuning_jax.vocabulary import MOST_SENTINELS, Vocabulary


def examples(count):
    """So many, the same ones in every run, however slow the machine is."""
    return settings(max_examples=count, deadline=None, database=None, derandomize=True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The valid files of each reader, made once."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = readers.made(name, tmp_path_factory.mktemp("reader"))
        return made[name]

    return of


@pytest.mark.parametrize("name", readers.READERS)
def test_spoilt_files_are_read_or_refused(name, folders):
    folder, reader = folders(name), readers.READERS[name]
    for file, _ in readers.files(reader, folder)[:3]:
        assert readers.outcome(lambda file=file: reader.use(folder, file), []) == "read"

    @examples(10 if name.startswith("T5X") else 30)
    @given(st.integers(0, 2**32))
    def check(seed):
        how = readers.attempt(reader, folder, random.Random(seed))
        assert how in ("read", "refused"), how

    check()


@pytest.mark.parametrize("name", [n for n in readers.READERS if not n.startswith("T5X")])
def test_any_bytes_are_read_or_refused(name, folders):
    folder, reader = folders(name), readers.READERS[name]

    @examples(12)
    @given(st.integers(0, 2**32), st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
    def check(seed, content):
        how = readers.attempt(reader, folder, random.Random(seed), content)
        assert how in ("read", "refused"), how

    check()


# ---- what was found, a kind each -----------------------------------------------------------------
@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 5000 + "]" * 5000, '{"a":' * 200 + "1" + "}" * 200, '["\\ud800"]']
)
def test_json_that_no_recursion_or_file_name_takes(text):
    with pytest.raises(ValueError, match="100 deep|half a character"):
        strict_json.loads(text)


def test_json_at_the_limit_is_read():
    text = "[" * 99 + '"\\u00e9"' + "]" * 99
    assert strict_json.loads(text) == json.loads(text)


def npy(header, data=b"\0" * 16, version=1):
    text = header.encode()
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + data


GOOD = "{'descr': '<f4', 'fortran_order': %s, 'shape': %s}"


@pytest.mark.parametrize(
    "content",
    [
        npy(GOOD % (False, (2**40, 2**20))),  # an exabyte, not to be allocated
        npy(GOOD % (False, (-1, -4))),
        npy(GOOD % (False, (2**63, 2**63))),
        npy(GOOD % (False, "(" * 5000)),
        npy(GOOD % (False, "-" * 5000 + "1")),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}"),
        npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,)}"),
        npy(GOOD % (False, (4,)))[:60],
        npy(GOOD % (False, (4,)), b"\0" * 15),
        b"\x93NUMPY\x01",
        b"",
    ],
)
def test_npy_files_that_are_none(content, tmp_path):
    with pytest.raises(ValueError, match="\\w"):
        numpy_files.parsed(content)
    (tmp_path / "prompt.npy").write_bytes(content)
    with pytest.raises(UserError, match="prompt.npy: not a NumPy array"):
        prompt_init.File(str(tmp_path / "prompt.npy")).read(None, ())


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i8", "|b1"])
def test_npy_files_are_read_as_numpy_reads_them(order, dtype, tmp_path):
    want = np.asarray(np.arange(6).reshape(2, 3), dtype, order=order)
    np.save(tmp_path / "x.npy", want)
    read = numpy_files.parsed((tmp_path / "x.npy").read_bytes())
    assert np.array_equal(read, want) and read.dtype == want.dtype


def test_a_prompt_too_large_for_float32_is_refused(tmp_path):
    np.save(tmp_path / "prompt.npy", np.full((2, 3), 1e300))
    with pytest.raises(UserError, match="infinite"):
        prompt_init.File(str(tmp_path / "prompt.npy")).read(None, ())


def changed_json(file, *path, to):
    """Sets a value far down in a JSON file."""
    content = json.loads(file.read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    file.write_text(json.dumps(content))


@pytest.fixture
def artifact(tmp_path):
    """A folder of prompt tuning's, and how to write its tensors anew."""
    return readers.made("artifact", tmp_path) / "prompt"


def signed(folder, header, data):
    """Puts a safetensors file of that header into an artifact, with its checksum."""
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + data
    (folder / "tuned.safetensors").write_bytes(content)
    changed_json(folder / "artifact.json", "sha256", to=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("lengths",), {"inputs": None, "targets": 2}),
        (("lengths",), {"inputs": 2}),
        (("backbone", "path"), ["x"]),
        (("backbone", "vocabulary_file"), 7),
        (("backbone", "config", "num_heads"), "2"),
        (("backbone", "config", "emb_dim"), 10**30),
        (("backbone", "config", "mlp_activations"), ["jit"]),
        (("sentinel",), "no"),
        (("method", "settings", "prompts"), "1"),
        (("method", "settings", "length"), True),
        (("method", "settings", "sees_input"), None),
        (("task",), "\ud800"),
    ],
    ids=str,
)
def test_artifacts_with_values_of_the_wrong_type(path, value, artifact):
    changed_json(artifact / "artifact.json", *path, to=value)
    with pytest.raises(UserError, match="artifact.json: "):
        artifacts.read(artifact)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "I16", "U16"])
def test_artifacts_with_tensors_of_odd_types(dtype, artifact):
    size = 1 if dtype == "F8_E4M3" else 2
    header = {"shared/prompt": {"dtype": dtype, "shape": [4 // size], "data_offsets": [0, 4]}}
    signed(artifact, header, b"\0" * 4)
    with pytest.raises(UserError, match="tuned.safetensors: "):
        artifacts.read(artifact)


@pytest.mark.parametrize("names", [("shared/a", "shared/a/b"), ("shared",), ("shared/", "x")])
def test_artifacts_with_names_that_make_no_tree(names, artifact):
    one = {"dtype": "F32", "shape": [1]}
    header = {n: one | {"data_offsets": [4 * i, 4 * i + 4]} for i, n in enumerate(names)}
    signed(artifact, header, b"\0" * 4 * len(names))
    with pytest.raises(UserError, match="tuned.safetensors: |: no artifact"):
        read = artifacts.read(artifact)
        artifacts.fit(read, artifacts.shapes(read, readers.CONFIG))


def test_an_artifact_s_prompt_of_another_rank_starts_nothing(tmp_path):
    folder = readers.made("prompt file", tmp_path) / "prompt"
    header = {"shared/prompt": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}
    signed(folder, header, b"\0" * 4)
    with pytest.raises(UserError, match="holds no prompt"):
        prompt_init.File(str(folder)).read(None, ())


@pytest.mark.parametrize(
    "name",
    [
        "prompt_tuning_jax.tasks.seqio_registry.X",  # would load TensorFlow
        "prompt_tuning_jax.\0.X",
        "prompt_tuning_jax..methods.X",
        "prompt_tuning_jax.methods.lora.Method",  # another module's
    ],
)
def test_settings_import_nothing_but_methods(name, monkeypatch):
    module = "prompt_tuning_jax.tasks.seqio_registry"
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(UserError):
        our_settings.decode({"class": name, "settings": {}})
    assert module not in sys.modules


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("lora.LoRA", {"targets": ["cross"]}, "no weight matrix is called 'cross'"),
        ("full.Full", {"leaves": ["absent/.*"]}, "matches no parameter"),
        ("full.Full", {"leaves": ["(", ".*"]}, "no regular expression"),
        ("full.Full", {"leaves": [".*", "([a-z/]+)+!"]}, "one behind a bracket"),
        ("full.Full", {"leaves": [".*" * 20 + "!"]}, "more than four of"),
        ("prompt.Prompt", {"start": {"a": 1}}, "unhashable"),
    ],
)
def test_settings_that_do_not_go_with_the_model_name_the_artifact(name, settings, said, artifact):
    method = {"class": f"prompt_tuning_jax.methods.{name}", "settings": settings}
    changed_json(artifact / "artifact.json", "method", to=method)
    with pytest.raises(UserError, match=f"artifact.json: .*{said}"):
        artifacts.shapes(artifacts.read(artifact), readers.CONFIG)


def test_a_chain_is_of_methods():
    with pytest.raises(UserError, match="is not a Method"):
        Chain(({"class": "x"},))


# ---- vocabulary ----
def model(folder):
    file = readers.made("SentencePiece model", folder) / "tiny.model"
    return file, sentencepiece_model_pb2.ModelProto.FromString(file.read_bytes())


def test_a_table_that_leads_out_of_itself_is_not_followed(tmp_path):
    """SentencePiece would read other memory, or crash the process."""
    file, content = model(tmp_path)
    table = content.normalizer_spec.precompiled_charsmap
    charsmap.check(table)
    charsmap.check(b"")
    units = np.frombuffer(table[4:1028], "<u4").copy()
    far, beyond = units.copy(), units.copy()
    far[0] = 0x3FFFFF << 10
    beyond[np.flatnonzero(units >> 31)[:1]] = 0xFFFFFFFF
    for spoilt in (
        table[:4] + far.tobytes() + table[1028:],
        table[:4] + beyond.tobytes() + table[1028:],
        table[:-1],
        table[:2000],
        struct.pack("<I", 2**32 - 1) + table[4:],
        b"\1",
    ):
        content.normalizer_spec.precompiled_charsmap = spoilt
        file.write_bytes(content.SerializeToString())
        with pytest.raises(UserError, match="no SentencePiece model"):
            Vocabulary(str(file), 10)


@pytest.mark.parametrize("extra_ids", [-1, MOST_SENTINELS + 1, 10**12])
def test_numbers_of_sentinels(extra_ids, tmp_path):
    file, _ = model(tmp_path)
    with pytest.raises(UserError, match="EXTRA_IDS"):
        Vocabulary(str(file), extra_ids)


# ---- backbones ----
@pytest.mark.parametrize("name", ["../words/words.model", "/etc/passwd", "..", "", "a\0b", 7])
def test_a_backbone_names_nothing_outside_its_folder(name, tmp_path):
    folder = readers.made("own backbone", tmp_path) / "b"
    changed_json(folder / "backbone.json", "vocabulary", "file", to=name)
    with pytest.raises(UserError, match=r"backbone\.json"):
        backbones.find(str(folder))


@pytest.mark.parametrize("name", ["../../outside.safetensors", "/dev/zero", "..", ""])
def test_an_index_names_nothing_outside_its_folder(name, tmp_path):
    folder = readers.made("Hugging Face folder", tmp_path) / "three"
    index = folder / "model.safetensors.index.json"
    changed_json(index, "weight_map", "shared.weight", to=name)
    with pytest.raises(UserError, match=r"index\.json.* is no name of a file in its folder"):
        backbones.find(str(folder))


@pytest.mark.parametrize("folder", ["own backbone/b", "Hugging Face folder/one"])
def test_a_billion_layers_are_not_counted_through(folder, tmp_path):
    reader, _, name = folder.partition("/")
    place = readers.made(reader, tmp_path) / name
    if name == "b":
        changed_json(place / "backbone.json", "config", "num_encoder_layers", to=10**9)
    else:
        changed_json(place / "config.json", "num_layers", to=10**9)
    with pytest.raises(UserError, match="missing parameters|more layers than"):
        found = backbones.find(str(place))
        backbones.layers(str(place), found.leaves, backbones.config_of(found))


@pytest.mark.parametrize("path", ["..", "x/..", "", "/"])
def test_a_t5x_index_names_nothing_outside_its_folder(path, tmp_path):
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": path}, "path": path}
    index = {"optimizer": {"target": {"token_embedder": {"embedding": spec}}}}
    (tmp_path / "checkpoint").write_bytes(msgpack_serialize(index))
    with pytest.raises(UserError, match="no index of a T5X checkpoint"):
        backbones.find(str(tmp_path))


def test_a_description_of_an_array_that_is_nested_too_deeply(tmp_path):
    """tensorstore's parser would end the process."""
    folder = readers.made("T5X arrays", tmp_path) / "arrays"
    file = folder / "target.token_embedder.embedding/.zarray"
    file.write_text(file.read_text()[:-1] + ',"x":' + '{"a":' * 100_000 + "1" + "}" * 100_001)
    with pytest.raises(UserError, match="embedding/.zarray: cannot be read"):
        backbones.find(str(folder))


@pytest.mark.parametrize(
    "sizes",
    [{"relpos_buckets": 2}, {"relpos_buckets": 512}, {"vocab_size": 0}, {"mlp_dim": 2**40}]
    + [{"mlp_activations": ("Module",)}, {"logits_via_embedding": 1}, {"dtype": "float99"}],
    ids=str,
)
def test_sizes_that_are_none(sizes):
    with pytest.raises(UserError, match=next(iter(sizes))):
        t5.T5Config(**sizes)


# ---- caches ----
def test_a_spoilt_token_cache_is_no_cache(tmp_path):
    words = readers.vocabulary(tmp_path / "words")
    want = token_cache.encode(readers.TEXTS, words, tmp_path)
    (file,) = (tmp_path / "tokens").glob("*.npz")
    values, offsets = want.values, want.offsets
    for made in (
        {"values": values, "offsets": offsets[::-1]},
        {"values": np.full_like(values, words.vocab_size), "offsets": offsets},
        {"values": values.astype(np.float32), "offsets": offsets},
        {"values": values[None], "offsets": offsets},
        {"values": values},
    ):
        with file.open("wb") as target:
            np.savez(target, **made)
        again = token_cache.encode(readers.TEXTS, words, tmp_path)
        assert np.array_equal(again.values, values) and again.values.dtype == np.int32
        assert np.array_equal(again.offsets, offsets)


@pytest.mark.parametrize("text", ["[" * 100_000, "[[0,0,0,0],[8,0,-3,0]]", "[[0,0,0,0],[1e400,0]]"])
def test_spoilt_places_in_a_corpus_are_none(text, tmp_path):
    folder = readers.made("places in a corpus", tmp_path)
    (file,) = (folder / "corpora").glob("*.json")
    file.write_text(text)
    readers._use_windows(folder, file)


# ---- lines ----
@pytest.mark.parametrize("line", ['{"inputs": ' + "[" * 100_000, '{"inputs": "\\ud800"}'])
def test_infer_refuses_what_it_could_not_encode(line, tmp_path):
    (tmp_path / "x.jsonl").write_text("good\n" + line + "\n")
    with open(tmp_path / "x.jsonl") as file, pytest.raises(UserError, match="x:2: not JSON"):
        list(infer._texts(file, "x", None))


def test_a_damaged_archive_of_no_utf_8_is_one_error(tmp_path):
    content = gzip.compress(b"good\n" * 3000 + b"\xff\xfe\n" + b"more\n" * 30_000)
    (tmp_path / "x.jsonl.gz").write_bytes(content[:-12])
    file = TextFile(str(tmp_path / "x.jsonl.gz"), "label_text", ("a", "b"))
    with pytest.raises(UserError, match="x.jsonl.gz"):
        list(file.records())


# ---- a run's folder ----
BROKEN = [b"5", b"[]", b'{"step": "x"}', b'{"step": null}', b"\xff\xfe", b"[" * 100_000, b'{"st']


@pytest.mark.parametrize("line", BROKEN, ids=lambda line: repr(line[:15]))
def test_broken_lines_of_metrics(line, tmp_path):
    good = b'{"kind": "train", "step": 1, "loss": 2.5}'
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([good, line, good]) + b"\n")
    assert run_dir.reports(tmp_path / "metrics.jsonl", 3) == [good.decode()] * 2
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: "):
        plots.read_metrics(tmp_path, "train")


@pytest.mark.parametrize("text", ["[" * 100_000, "\xff", '"x"'])
def test_broken_settings_of_a_run(text, tmp_path):
    (tmp_path / "settings.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="settings.json"):
        run_dir.RunDir(str(tmp_path), {"a": 1})


# ---- gin ----
@pytest.mark.parametrize("value", ["{[]: 1}", "-" * 9000 + "1", "[" * 4000 + "]" * 4000])
def test_gin_values_that_python_cannot_take(value, tmp_path):
    (tmp_path / "x.gin").write_text(f"A = {value}\n")
    with pytest.raises(UserError, match="x.gin"):
        gin_files.read([str(tmp_path / "x.gin")], [], [""])
    with pytest.raises(UserError, match="--gin.A"):
        gin_files.read([], [Override("--gin.A", f"A = {value}")], [""])


def test_a_message_is_one_line_that_a_terminal_shows_as_it_is():
    shown = errors.line(UserError("a\x1b[2J\nb \ud800 é"))
    assert shown == "a\\x1b[2J b \\ud800 é"
