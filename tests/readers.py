"""Every place that reads bytes from outside: valid files for it, and its use as the next step does.

`READERS[name]` makes files in a folder and reads them. `attempt` spoils one (mutations.py), uses
what is there and says how that ended: "read", "refused" (our `UserError`, in one line that names a
file), or what went wrong.
"""

import atexit
import contextlib
import dataclasses
import functools
import gzip
import hashlib
import io
import json
import pathlib
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator

import jax
import made_up
import mutations
import numpy as np
import small
import t5x_files
import tiny_vocabulary
from huggingface_state import to_state
from safetensors.numpy import save, save_file

from prompt_tuning_jax import (
    artifacts,
    backbones,
    errors,
    fingerprint,
    infer,
    launch,
    plots,
    prompt_init,
    run_dir,
    t5,
    token_cache,
)
from prompt_tuning_jax.interop import tensor_files
from prompt_tuning_jax.method import Chain
from prompt_tuning_jax.methods.full import Full
from prompt_tuning_jax.methods.lora import LoRA
from prompt_tuning_jax.methods.prefix import Prefix
from prompt_tuning_jax.methods.prompt import Prompt
from prompt_tuning_jax.tasks import corpora, glue, objectives, qa, super_glue, text_files
from prompt_tuning_jax.vocabulary import Vocabulary
from prompt_tuning_jax.window_stream import WindowStream
from prompt_tuning_jax.windows import Windows

CONFIG = dataclasses.replace(
    small.CONFIG,
    vocab_size=128,
    emb_dim=8,
    num_heads=2,
    head_dim=4,
    num_encoder_layers=1,
    num_decoder_layers=1,
    mlp_dim=8,
)
THETA = small.theta(CONFIG)
EXTRA_IDS = 10
TEXTS = [
    "a good film with a fine song",
    "it rains ; ｆｕｌｌ <extra_id_1> \x85 ½ end",
    "",
    "é" * 30,
]


@dataclasses.dataclass(frozen=True)
class Reader:
    """make(folder): writes valid files; kinds: of the files to spoil, pattern -> kind;
    use(folder, file): reads them, `file` being the one that was spoilt; mend(folder): makes right
    again what would be noticed before anything else, a checksum."""

    make: Callable[[pathlib.Path], object]
    kinds: dict[str, str]
    use: Callable[[pathlib.Path, pathlib.Path], object]
    mend: Callable[[pathlib.Path], object] | None = None


def files(reader: Reader, folder: pathlib.Path) -> list[tuple[pathlib.Path, str]]:
    """The files that a reader's inputs are made of, and their kinds."""
    found = {}
    for pattern, kind in reader.kinds.items():
        found |= {file: kind for file in sorted(folder.glob(pattern)) if file.is_file()}
    assert found
    return sorted(found.items())


def attempt(
    reader: Reader, folder: pathlib.Path, rng: random.Random, content=None, kept=None
) -> str:
    """Spoils a file of the folder (`content`: what it then holds), reads, puts it back.

    kept: a file to write what is tried into, for when the process does not survive it."""
    file, kind = rng.choice(files(reader, folder))
    good = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    try:
        with contextlib.suppress(UnicodeEncodeError):
            file.write_bytes(
                mutations.spoilt(rng, good[file], kind) if content is None else content
            )
        if reader.mend is not None and rng.random() < 0.8:
            with contextlib.suppress(
                ValueError, KeyError, TypeError, AttributeError, RecursionError
            ):
                reader.mend(folder)
        if kept is not None:
            kept.write_bytes(f"{file.relative_to(folder)}\n".encode() + file.read_bytes())
        return outcome(lambda: reader.use(folder, file), [str(folder), file.name])
    finally:
        for f in [f for f in folder.rglob("*") if f.is_file() and f not in good]:
            f.unlink()
        for f, held in good.items():
            if not f.is_file() or f.read_bytes() != held:
                f.write_bytes(held)


def outcome(use: Callable[[], object], names: list[str]) -> str:
    """ "read", "refused" or what happened instead."""
    try:
        use()
    except errors.UserError as error:
        line = errors.line(error)
        if not any(name in line for name in names):
            return f"names no file: {line:.300}"
        if not line.isprintable():
            return f"not one printable line: {line!r:.300}"
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.200} ({_where(error)})"
    return "read"


def _where(error: BaseException) -> str:
    place, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "prompt_tuning_jax" in name or "/tasks/" in name:
            place = f"{pathlib.Path(name).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


# ---- what is common ------------------------------------------------------------------------------
@functools.cache
def _vocabulary_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return pathlib.Path(tiny_vocabulary.train(pathlib.Path(folder))).read_bytes()


def vocabulary(folder: pathlib.Path) -> Vocabulary:
    """A small vocabulary, whose file is put into the folder."""
    file = folder / "words.model"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_vocabulary_bytes())
    return Vocabulary(str(file), EXTRA_IDS)


def _try_words(words: Vocabulary) -> None:
    for text in TEXTS:
        ids = words.encode(text)
        assert all(0 <= i < words.vocab_size for i in ids)
        words.decode(ids)
    words.decode(range(2, min(words.vocab_size, 300)))
    for token in range(0, min(words.vocab_size, 300)):
        words.piece(token)


def _try_backbone(path: str) -> None:
    """As the predictor does, without the devices."""
    found = backbones.find(path)
    config = backbones.config_of(found)
    if found.vocabulary is not None:
        words = backbones.vocabulary(found)
        backbones.check_vocabulary(words, config)
        _try_words(words)
    leaves = backbones.layers(found.path, found.leaves, config)
    backbones.confirm(found, fingerprint.of_leaves(leaves))
    _abstract_logits(config, repr(config))


@functools.lru_cache(64)
def _abstract_logits(config: t5.T5Config, key: str, method=None) -> None:
    shapes = t5.abstract_params(config)
    model = t5.T5(config) if method is None else t5.T5(config, method)
    tuned = t5.EMPTY if method is None else method.abstract(config, shapes)
    batch = {name: value for name, value in small.batch().items() if "loss" not in name}
    params = (
        shapes if method is None else method.join(jax.eval_shape(method.split, shapes)[0], tuned)
    )
    jax.eval_shape(lambda p, t: model.apply({"params": p}, t, batch), params, tuned)


# ---- artifacts and prompts -----------------------------------------------------------------------
METHODS = {
    "prompt": Prompt(length=3),
    "prefix": Prefix(length=2, hidden=0),
    "lora": LoRA(rank=2),
    "full": Full((".*norm/scale", "token_embedder/.*")),
    "chain": Chain((Prompt(length=2), LoRA(rank=1, targets=("query",)))),
}


def _make_artifacts(folder):
    mark = fingerprint.of(THETA)
    own = {"path": "folder", "fingerprint": mark, "config": CONFIG.architecture()}
    facts = {"backbone": own, "task": "x", "tasks": ["x"], "step": 3, "metrics": {"accuracy": 1.0}}
    facts |= {"lengths": {"inputs": 8, "targets": 4}, "sentinel": False}
    for name, method in METHODS.items():
        _, taken = method.split(THETA)
        start = method.read(None, ())
        tuned = small.init(method, THETA, CONFIG, start) | {"theta": taken}
        artifacts.save_artifact(folder / name, method, tuned, facts)


def _sign_artifacts(folder):
    for name in METHODS:
        file = folder / name / "artifact.json"
        facts = json.loads(file.read_text())
        tensors = (folder / name / "tuned.safetensors").read_bytes()
        digest = hashlib.sha256(tensors).hexdigest()
        if facts["sha256"] != digest:
            file.write_text(json.dumps(facts | {"sha256": digest}))


def _use_artifact(folder, file):
    read = artifacts.read(file.parent)
    own = read.facts["backbone"]
    artifacts.check_backbone(read, fingerprint.of(THETA), CONFIG)
    tuned = artifacts.fit(read, artifacts.shapes(read, CONFIG))
    frozen, _ = read.method.split(THETA)
    read.method.join(frozen, tuned)
    _abstract_logits(CONFIG, repr(read.method), read.method)
    for path in (own.get("path"), own.get("vocabulary_file")):
        assert path is None or isinstance(path, str)
    lengths = read.facts.get("lengths", {"inputs": 1, "targets": 1})
    assert min(lengths["inputs"], lengths["targets"]) >= 1
    assert read.facts.get("sentinel") in (None, True, False)


def _make_prompts(folder):
    rows = np.random.default_rng(0).standard_normal((3, CONFIG.emb_dim)).astype(np.float32)
    np.save(folder / "prompt.npy", rows)
    facts = {"backbone": {"path": "x", "fingerprint": "0", "config": CONFIG.architecture()}}
    tuned = t5.EMPTY | {"shared": {"prompt": rows[None]}}
    artifacts.save_artifact(folder / "prompt", Prompt(length=3), tuned, facts)


def _use_prompt(folder, file):
    start = prompt_init.File(str(file if file.suffix == ".npy" else file.parent))
    read = start.read(None, ())
    rows = start.rows(jax.random.key(0), 3, THETA["token_embedder"]["embedding"], read)
    assert rows.shape == (3, CONFIG.emb_dim) and np.isfinite(rows).all()


def _sign_prompt(folder):
    file, tensors = folder / "prompt/artifact.json", folder / "prompt/tuned.safetensors"
    digest = hashlib.sha256(tensors.read_bytes()).hexdigest()
    facts = json.loads(file.read_text())
    if facts["sha256"] != digest:
        file.write_text(json.dumps(facts | {"sha256": digest}))


# ---- backbones -----------------------------------------------------------------------------------
def _make_own(folder):
    words = vocabulary(folder.parent / "words")
    backbones.write(
        str(folder / "b"), "made", CONFIG, backbones.leaves_of(THETA), words, "bfloat16"
    )
    backbones.write(str(folder / "i"), "made", CONFIG, backbones.leaves_of(THETA), words, "int8")


def _make_t5x(folder):
    flat = t5x_files.unstacked(THETA)
    t5x_files.write(folder / "arrays", flat)
    t5x_files.write(folder / "inline", flat, inline=("",))
    t5x_files.write(folder / "scanned", t5x_files.scanned(THETA, heads=2), older=True)


def _make_orbax(folder):
    flat = t5x_files.unstacked(THETA)
    t5x_files.write_orbax(folder / "ocdbt", flat)
    t5x_files.write_orbax(folder / "zarr", flat, use_ocdbt=False)


def _top(folder: pathlib.Path, file: pathlib.Path) -> str:
    return str(folder / file.relative_to(folder).parts[0])


def _make_huggingface(folder):
    facts = {
        "model_type": "t5",
        "d_model": CONFIG.emb_dim,
        "d_kv": CONFIG.head_dim,
        "d_ff": CONFIG.mlp_dim,
        "num_heads": CONFIG.num_heads,
        "num_layers": CONFIG.num_encoder_layers,
        "num_decoder_layers": CONFIG.num_decoder_layers,
        "vocab_size": CONFIG.vocab_size,
        "feed_forward_proj": "gated-gelu",
        "relative_attention_num_buckets": CONFIG.relpos_buckets,
        "tie_word_embeddings": False,
        "layer_norm_epsilon": 1e-06,
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }
    state = {k: np.ascontiguousarray(v) for k, v in to_state(THETA, CONFIG).items()}
    for name, parts in (("one", 1), ("three", 3)):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(facts))
        (folder / name / "spiece.model").write_bytes(_vocabulary_bytes())
        tokenizer = {"tokenizer_class": "T5Tokenizer", "extra_ids": EXTRA_IDS}
        (folder / name / "tokenizer_config.json").write_text(json.dumps(tokenizer))
        placed = {}
        for number in range(parts):
            file = (
                f"model-{number + 1:05}-of-00003.safetensors" if parts > 1 else "model.safetensors"
            )
            part = dict(sorted(state.items())[number::parts])
            save_file(part, folder / name / file, {"format": "pt"})
            placed |= dict.fromkeys(part, file)
        if parts > 1:
            index = {"metadata": {"total_size": 0}, "weight_map": placed}
            (folder / name / "model.safetensors.index.json").write_text(json.dumps(index))
    # what a name that leads out of the folder would find
    save_file(state, folder.parent / "outside.safetensors", {"format": "pt"})


def _make_tensors(folder):
    tensors = {"a": np.ones((2, 3), np.float32), "b/c": np.zeros(4, np.float16), "d": np.float32(1)}
    (folder / "x.safetensors").write_bytes(save({k: np.array(v) for k, v in tensors.items()}))


def _use_tensors(folder, file):
    for leaf in tensor_files.read(file).values():
        assert leaf.whole().shape == leaf.shape


# ---- vocabulary and caches -----------------------------------------------------------------------
def _use_vocabulary(folder, file):
    _try_words(Vocabulary(str(file), EXTRA_IDS))


def _make_vocabulary(folder):
    (folder / "tiny.model").write_bytes(_vocabulary_bytes())
    import io as _io

    import sentencepiece

    for name, options in (("bpe", {"model_type": "bpe"}), ("bytes", {"byte_fallback": True})):
        model = _io.BytesIO()
        sizes = {"vocab_size": 90} if name == "bpe" else {"vocab_size": 330}
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(tiny_vocabulary.SENTENCES * 5),
            model_writer=model,
            hard_vocab_limit=False,
            minloglevel=2,
            **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
            **sizes,
            **options,
        )
        (folder / f"{name}.model").write_bytes(model.getvalue())


def _make_cache(folder):
    token_cache.encode(TEXTS, vocabulary(folder.parent / "words"), folder)


def _use_cache(folder, file):
    words = vocabulary(folder.parent / "words")
    tokens = token_cache.encode(TEXTS, words, folder)
    assert len(tokens) == len(TEXTS) and tokens.lengths.min() >= 0
    rows = [tokens[row] for row in range(len(tokens))]
    assert all(row.dtype == np.int32 and row.ndim == 1 for row in rows)
    ids = np.concatenate(rows)
    assert ((ids >= 0) & (ids < words.vocab_size)).all()
    assert sum(map(len, rows)) == len(tokens.values)


def _windows(folder) -> Windows:
    text = folder.parent / "windows.txt"
    if not text.exists():
        text.write_text("\n".join(f"a good film {n} with a fine song" for n in range(60)))
    texts = corpora.Texts(train=str(text), document="line", together=2, shuffled=8)
    task = corpora.Corpus("own", texts, objectives.PrefixLM())
    return Windows(task, "train", vocabulary(folder.parent / "words"), {"inputs": 6, "targets": 6})


def _use_windows(folder, file):
    stream = WindowStream(_windows(folder), [3], str(folder))
    try:
        for number in (0, 20, 90):
            assert stream.window(number).dtype == np.int32
    finally:
        stream._thread.shutdown()


def _make_windows(folder):
    _use_windows(folder, folder)


# ---- tasks ---------------------------------------------------------------------------------------
TASKS = super_glue.TASKS | glue.TASKS | qa.TASKS


@functools.cache
def _task_files(folder: pathlib.Path) -> dict[str, list[tuple[str, str]]]:
    """File -> the tasks and splits that read it."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, task in TASKS.items():
        source = task.source
        source = getattr(source, "source", source)  # WSC's is wrapped
        for split in task.source.splits:
            with contextlib.suppress(errors.UserError):
                for file in _files_of(source, split, folder):
                    found.setdefault(file, []).append((name, split))
    return found


def _files_of(source, split: str, folder: pathlib.Path) -> Iterator[str]:
    file = source._find(split, str(folder))
    if file is not None:
        yield str(pathlib.Path(file.path))


def _use_task(folder, file):
    readers = _task_files(folder).get(str(file))
    if not readers:
        readers = [("glue_mrpc", "validation")]  # the one that lists ids
    for name, split in readers[:2]:
        task = TASKS[name]
        examples = task.examples(split, str(folder))
        for example in examples:
            example["inputs"].encode(), example["targets"].encode()
            json.dumps(example["idx"])
        if split != "test":
            _scored(task, examples)


def _scored(task, examples):
    target = task.target or (lambda e: task.postprocess(e["targets"], e))
    targets = [target(e) for e in examples]
    said = [task.postprocess(e["targets"], e) for e in examples]
    for metric in task.metrics:
        for value in metric(targets, said).values():
            float(value)


def _make_text(folder):
    rows = [("a good film", "0"), ('He said "no"', "1"), ("é \u2028 x", "0")]
    (folder / "x.jsonl").write_text(
        "".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in rows)
    )
    (folder / "x.tsv").write_text("text\tlabel\n" + "".join(f"{t}\t{n}\n" for t, n in rows))
    (folder / "x.csv").write_text('text,label\n"a, ""b""",0\n"two\nlines",1\n')
    (folder / "y.csv.gz").write_bytes(gzip.compress((folder / "x.csv").read_bytes(), mtime=0))
    (folder / "z.jsonl.gz").write_bytes(gzip.compress((folder / "x.jsonl").read_bytes(), mtime=0))
    (folder / "labels.txt").write_text("0 a good film\n1 a bad play\n")


def _use_text(folder, file):
    format = "label_text" if file.name == "labels.txt" else None
    task = text_files.Text("own", str(file), format=format, label_words={"0": "good", "1": "bad"})
    _scored(task, task.examples("train"))
    free = text_files.Text("own", str(file), format=format, targets="{text}")
    words = vocabulary(folder.parent / "words")
    for example in free.examples("train"):
        words.encode(example["inputs"])


def _make_corpus(folder):
    (folder / "a.txt").write_text("Chapter one\r\n\r\nIt rained,\nand rained.\n\nThe end")
    (folder / "b.jsonl").write_text('{"text": "one\\n\\ntwo"}\n\n{"text": "three", "url": 1}\n')
    (folder / "c.txt.gz").write_bytes(gzip.compress((folder / "a.txt").read_bytes(), mtime=0))
    (folder / "d.json.gz").write_bytes(gzip.compress((folder / "b.jsonl").read_bytes(), mtime=0))


def _use_corpus(folder, file):
    words = vocabulary(folder.parent / "words")
    for document in corpora.DOCUMENTS:
        source = corpora.Texts(train=str(file), document=document)
        for shard in source.shards("train"):
            shard.state()
            for text in shard.texts():
                words.encode(text)


def _make_infer(folder):
    (folder / "texts.jsonl").write_text('{"inputs": "a film"}\nplain é text\n\n{"inputs": "x"}\n')
    lines = [{"inputs": "a", "prompt": "one"}, {"inputs": "b", "prompt": "two", "more": [1]}]
    (folder / "named.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _use_infer(folder, file):
    words = vocabulary(folder.parent / "words")
    names = ["one", "two"] if file.name == "named.jsonl" else None
    with open(file, encoding="utf-8") as lines:
        for record in infer._texts(lines, str(file), names):
            words.encode(record["inputs"])
            json.dumps(record, ensure_ascii=False).encode()


# ---- a run's folder ------------------------------------------------------------------------------
IDENTITY = {"method": Prompt(length=3), "model": CONFIG, "batch_size": 8, "tasks": ["a", "b"]}


def _make_run(folder):
    run = run_dir.RunDir(str(folder), IDENTITY)
    run.open()
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(5):
            file.write(json.dumps({"kind": "train", "step": step, "loss": 1.5}) + "\n")
            file.write(json.dumps({"kind": "eval/x", "step": step, "accuracy": 50.0}) + "\n")


def _use_run(folder, file):
    if file.name == "settings.json":
        run_dir.RunDir(str(folder), IDENTITY).open()
        return
    outcomes = []
    for kind, value in (("train", "loss"), ("eval/x", "accuracy")):
        try:
            read = plots.read_metrics(folder, kind, value)
            np.asarray(read["step"], np.float64), np.asarray(read[value], np.float64)
        except errors.UserError as error:
            outcomes.append(error)
    # a run goes on whatever its metrics hold
    for line in run_dir.reports(file, 3):
        assert json.loads(line)["step"] <= 3
    if outcomes:
        raise outcomes[0]


# ---- gin -----------------------------------------------------------------------------------------
PACKAGE = "fuzzed_house"
_COMMAND = """
import dataclasses

@dataclasses.dataclass(frozen=True)
class Sgd:
    rate: float = 0.1

def train(*, model_dir: str, train_steps: int = 1, optimizer=None, extras=(), words=None):
    pass
"""
_GIN = """
from __gin__ import dynamic_registration
from fuzzed_house import train

include "part.gin"

MODEL_DIR = "somewhere"
TRAIN_STEPS = 100
LENGTHS = {"inputs": 40, "targets": [1, 2.5, None]}

train.train:
    model_dir = %MODEL_DIR
    train_steps = %TRAIN_STEPS
    optimizer = @train.Sgd()
    extras = [%LENGTHS, "a" "b", ("x", True)]
    words = @deep/train.Sgd
"""
_PART = """
from __gin__ import dynamic_registration
from fuzzed_house import train

RATE = 0.5
train.Sgd.rate = %RATE
deep/train.Sgd.rate = 1e-3
"""


def _make_gin(folder):
    (folder / "base.gin").write_text(_GIN)
    (folder / "part.gin").write_text(_PART)


def _house(folder: pathlib.Path) -> None:
    if PACKAGE not in sys.modules:
        package = folder.parent / "house" / PACKAGE
        package.mkdir(parents=True)
        (package / "train.py").write_text(_COMMAND)
        sys.path.insert(0, str(package.parent))


def _launched(folder: pathlib.Path, argv: list[str]) -> None:
    """A command as `launch.main` runs it; its one line as the UserError that it was."""
    _house(folder)
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        status = launch.main("train", argv, package=PACKAGE)
    if status == 2:
        lines = err.getvalue().splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), lines
        raise errors.UserError(lines[0])
    assert status == 0, status


def _use_gin(folder, file):
    places = [f"--gin_file={folder}/base.gin", f"--gin_search_paths={folder}"]
    try:
        _launched(folder, places)
    except errors.UserError as error:
        if "a value is missing: give --gin." not in str(error):  # names the flag that gives it
            raise


def _make_flags(folder):
    _make_gin(folder)
    flags = ["--gin.TRAIN_STEPS=5", '--gin.LENGTHS={"a": [1, 2]}', "--gin.deep/train.Sgd.rate=0.25"]
    flags += ["--gin_bindings=MODEL_DIR=/tmp/x", "--gin.RATE=1e-3"]
    (folder / "flags.json").write_text(json.dumps(flags))


def _use_flags(folder, file):
    try:
        flags = json.loads(file.read_text())
        assert isinstance(flags, list)
    except (ValueError, RecursionError, AssertionError):  # a shell would have no flags either
        flags = [file.read_bytes().decode(errors="surrogateescape")]
    flags = [str(flag).replace("\0", "") for flag in flags]
    places = [f"--gin_file={folder}/base.gin", f"--gin_search_paths={folder}"]
    try:
        _launched(folder, [*places, *flags])
    except errors.UserError as error:
        text = str(error)  # it is the flag that must be named
        named = any(part in text for part in ("--", "unexpected argument", "part.gin"))
        raise errors.UserError(f"{text} {folder if named else ''}") from None


READERS = {
    "artifact": Reader(
        _make_artifacts,
        {"*/artifact.json": "json", "*/tuned.safetensors": "safetensors"},
        _use_artifact,
        _sign_artifacts,
    ),
    "prompt file": Reader(
        _make_prompts,
        {"prompt.npy": "npy", "prompt/*.json": "json", "prompt/*.safetensors": "safetensors"},
        _use_prompt,
        _sign_prompt,
    ),
    "own backbone": Reader(
        _make_own,
        {"*/*.json": "json", "*/*.safetensors": "safetensors", "*/*.model": "model"},
        lambda folder, file: _try_backbone(_top(folder, file)),
    ),
    "Hugging Face folder": Reader(
        _make_huggingface,
        {"*/*.json": "json", "*/*.safetensors": "safetensors", "*/*.model": "model"},
        lambda folder, file: _try_backbone(_top(folder, file)),
    ),
    "safetensors": Reader(_make_tensors, {"*.safetensors": "safetensors"}, _use_tensors),
    "T5X index": Reader(
        _make_t5x,
        {"*/checkpoint": "msgpack"},
        lambda folder, file: _try_backbone(_top(folder, file)),
    ),
    "T5X arrays": Reader(
        _make_t5x,
        {"*/*/.zarray": "json", "*/*/[0-9]*": "raw"},
        lambda folder, file: _try_backbone(_top(folder, file)),
    ),
    "T5X through Orbax": Reader(
        _make_orbax,
        {"*/**/_METADATA": "json", "*/**/*": "raw", "*/**/.zarray": "json"},
        lambda folder, file: _try_backbone(_top(folder, file)),
    ),
    "SentencePiece model": Reader(_make_vocabulary, {"*.model": "model"}, _use_vocabulary),
    "token cache": Reader(_make_cache, {"tokens/*.npz": "npz"}, _use_cache),
    "places in a corpus": Reader(_make_windows, {"corpora/*.json": "json"}, _use_windows),
    "benchmark files": Reader(
        made_up.write,
        {"**/*.jsonl": "jsonl", "**/*.tsv": "tsv", "**/*.txt": "tsv", "**/*.json": "json"}
        | {"**/*.jsonl.gz": "jsonl.gz"},
        _use_task,
    ),
    "own text files": Reader(
        _make_text,
        {"*.jsonl": "jsonl", "*.tsv": "tsv", "*.csv": "csv", "*.txt": "txt"}
        | {"*.csv.gz": "csv.gz", "*.jsonl.gz": "jsonl.gz"},
        _use_text,
    ),
    "corpus files": Reader(
        _make_corpus,
        {"*.txt": "txt", "*.jsonl": "jsonl", "*.txt.gz": "txt.gz", "*.json.gz": "jsonl.gz"},
        _use_corpus,
    ),
    "lines for infer": Reader(_make_infer, {"*.jsonl": "jsonl"}, _use_infer),
    "run's settings and metrics": Reader(
        _make_run, {"settings.json": "json", "metrics.jsonl": "jsonl"}, _use_run
    ),
    "gin files": Reader(_make_gin, {"*.gin": "gin"}, _use_gin),
    "gin flags": Reader(_make_flags, {"flags.json": "json"}, _use_flags),
}


@functools.cache
def _valid(name: str) -> pathlib.Path:
    """A folder that is made once and left alone."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="readers"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "valid").mkdir()
    READERS[name].make(folder / "valid")
    return folder


def made(name: str, folder: pathlib.Path) -> pathlib.Path:
    """A new folder with a reader's valid files, in `folder`, where more is put beside it."""
    shutil.copytree(_valid(name), folder, dirs_exist_ok=True)
    return folder / "valid"
