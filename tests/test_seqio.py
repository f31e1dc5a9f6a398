"""Our data against seqio's: same ids, batches and scores; our tasks in seqio and seqio's here."""

import json
import sys
import textwrap

import made_up
import numpy as np
import pytest
import tiny_vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st

seqio = pytest.importorskip("seqio")
import tensorflow as tf  # noqa: E402

from prompt_tuning_jax import data, packing, scoring, tasks  # noqa: E402
from prompt_tuning_jax.batches import EvaluationSet  # noqa: E402
from prompt_tuning_jax.errors import UserError  # noqa: E402
from prompt_tuning_jax.tasks import pretraining, sentinel, seqio_adapter  # noqa: E402
from prompt_tuning_jax.tasks.sources import Generated  # noqa: E402
from prompt_tuning_jax.tasks.task import Task  # noqa: E402
from prompt_tuning_jax.vocabulary import Vocabulary  # noqa: E402

LENGTHS = {"inputs": 40, "targets": 6}
CB = [
    {"premise": "she said that it rains", "hypothesis": "it rains", "label": "entailment"},
    {"premise": "a cat was on a mat. " * 9, "hypothesis": "a dog was", "label": "neutral"},
    {"premise": "it never rains", "hypothesis": "it rains", "label": "contradiction"},
]


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    return tiny_vocabulary.train(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def cb_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cb")
    for file in ("train.jsonl", "val.jsonl"):
        lines = [json.dumps(record | {"idx": i}) for i, record in enumerate(CB)]
        (folder / file).write_text("\n".join(lines))
    return str(folder)


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """seqio's registries start empty in each test, and nobody's cache is touched."""
    monkeypatch.setattr(seqio.TaskRegistry, "_REGISTRY", {})
    monkeypatch.setattr(seqio.MixtureRegistry, "_REGISTRY", {})
    monkeypatch.setenv("PROMPT_TUNING_CACHE", str(tmp_path / "cache"))


def t5_file(shared):
    return str(shared / "data/vocab/cc_all.32000.sentencepiece.model")


TEXTS = [
    "",
    " ",
    "This is a test of prompt tuning.",
    "<extra_id_0> then <extra_id_99>, glued<extra_id_1>",
    "brûlée ﬁne ２ \u2028 日本語 🙂 \t tab",
    "  two  spaces\nand a line ",
    "a \u2047 b",
]


def check_vocabulary(file, extra_ids, texts=TEXTS):
    ours = Vocabulary(file, extra_ids)
    theirs = seqio.SentencePieceVocabulary(file, extra_ids)
    assert (ours.vocab_size, ours.pad_id, ours.eos_id, ours.unk_id) == (
        theirs.vocab_size,
        theirs.pad_id,
        theirs.eos_id,
        theirs.unk_id,
    )
    for text in texts:
        assert ours.encode(text) == theirs.encode(text)
        assert ours.encode(text) == theirs.encode_tf(text).numpy().tolist()
    rng = np.random.default_rng(0)
    for size in range(30):
        ids = rng.integers(0, ours.vocab_size + 20, size).tolist()
        if size % 3 == 0:
            ids[size // 2 : size // 2] = [1]
        assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize("extra_ids", [0, 10])
def test_tiny_vocabulary(tiny_file, extra_ids):
    check_vocabulary(tiny_file, extra_ids)


def test_t5_vocabulary(shared):
    # of these several segmentations are equally likely; versions of SentencePiece differ in them
    ties = ["C BBB) in", "cost 310 000 000 0000", "310000000000", "B---- in", "(****) and"]
    check_vocabulary(t5_file(shared), 100, [*TEXTS, *ties])


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@settings(deadline=None)
def test_any_text(tiny_file, text):
    check_vocabulary(tiny_file, 3, [text])


def check_batches(name, file, lengths, folder, split, extra_ids=100):
    """Every evaluation batch is what seqio's converter makes of the task in seqio."""
    task = tasks.get(name)
    seqio_adapter.register(task, file, extra_ids, data_dir=folder)
    converter = seqio.EncDecFeatureConverter(pack=False)
    dataset = seqio.get_dataset(name, lengths, converter, split)
    theirs = list(dataset.as_numpy_iterator())
    tokens = data.tokenise(task, split, Vocabulary(file, extra_ids), lengths, folder)
    assert len(theirs) == len(tokens)
    for batch, examples in EvaluationSet(tokens, 16).batches():
        rows = [theirs[example] for example in examples]
        assert batch.keys() == rows[0].keys()
        for feature in batch:
            expected = np.stack([row[feature] for row in rows])
            assert batch[feature].dtype == expected.dtype
            # what is trimmed is padding
            width = batch[feature].shape[1]
            np.testing.assert_array_equal(batch[feature][: len(rows)], expected[:, :width])
            assert not expected[:, width:].any()


@pytest.mark.parametrize("name", ["super_glue_cb", "sentinel_super_glue_cb"])
def test_batches_of_a_tiny_task(tiny_file, cb_folder, name):
    check_batches(name, tiny_file, LENGTHS, cb_folder, "train", extra_ids=10)


@pytest.mark.parametrize(
    "name", ["super_glue_rte", "taskless_super_glue_rte", "sentinel_super_glue_rte"]
)
def test_batches_of_rte(shared, name):
    folder = str(shared / "data/superglue")
    check_batches(name, t5_file(shared), {"inputs": 128, "targets": 4}, folder, "validation")


def test_packed_rows():
    """Packed as seqio packs them, the same examples give the same batch; prompt_ids are ours."""
    rng = np.random.default_rng(0)
    sizes = [(rng.integers(1, 15), rng.integers(1, 6)) for _ in range(30)]
    pairs = [tuple(rng.integers(3, 90, n).astype(np.int32) for n in size) for size in sizes]
    spec = tf.TensorSpec([None], tf.int32)
    dataset = tf.data.Dataset.from_generator(
        lambda: ({"inputs": inputs, "targets": targets} for inputs, targets in pairs),
        output_signature={"inputs": spec, "targets": spec},
    )
    rows = list(
        seqio.EncDecFeatureConverter(pack=True)(
            dataset, {"inputs": 40, "targets": 12}
        ).as_numpy_iterator()
    )
    theirs = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    counts = theirs["encoder_segment_ids"].max(1)
    assert counts.sum() == len(pairs) and counts.max() > 2
    # seqio's segments in the order of its rows
    shape = packing.Shape(len(rows), 40, 12, int(counts.max()))
    whole = {tuple(inputs.tolist()): (inputs, targets) for inputs, targets in pairs}
    assert len(whole) == len(pairs)
    found = [
        whole[tuple(row["encoder_input_tokens"][row["encoder_segment_ids"] == n + 1].tolist())]
        for row, count in zip(rows, counts, strict=True)
        for n in range(count)
    ]
    ours = packing.batch(found, shape, np.repeat(np.arange(len(rows)), counts), [0] * len(found))
    assert ours.keys() == theirs.keys() | {"prompt_ids"}
    for name, expected in theirs.items():
        assert ours[name].dtype == expected.dtype
        np.testing.assert_array_equal(ours[name], expected)


def check_scores(name, file, folder, split, other_texts, extra_ids=100):
    """`scoring.score` is what seqio's Evaluator makes of the same predictions.

    Of a task with the sentinel, seqio has it before each of them.
    """
    task = tasks.get(name)
    seqio_adapter.register(task, file, extra_ids, data_dir=folder)
    examples = task.examples(split, folder)
    vocabulary = Vocabulary(file, extra_ids)
    rng = np.random.default_rng(1)
    texts = [
        example["targets"] if rng.random() < 0.6 else rng.choice([*task.label_words, *other_texts])
        for example in examples
    ]
    ids = [[*sentinel.beginning(task, vocabulary), *vocabulary.encode(str(t))] for t in texts]
    evaluator = seqio.Evaluator(name, seqio.EncDecFeatureConverter(pack=False), split)
    padded = np.zeros((len(ids), max(map(len, ids)) + 1), np.int32)
    for row, tokens in enumerate(ids):
        padded[row, : len(tokens) + 1] = [*tokens, 1]

    def predict(dataset, model_feature_shapes=None):
        return [(int(i), padded[i]) for i, _ in dataset.as_numpy_iterator()]

    theirs, _ = evaluator.evaluate(compute_metrics=True, predict_fn=predict)
    said = [vocabulary.decode(row[task.sentinel :]) for row in padded]
    ours = scoring.score(task, examples, said)
    assert ours == pytest.approx(theirs.result()[name])
    assert any(0 < value < 100 for value in ours.values())


@pytest.mark.parametrize("name", ["super_glue_cb", "sentinel_super_glue_cb"])
def test_scores_of_a_tiny_task(tiny_file, cb_folder, name):
    check_scores(name, tiny_file, cb_folder, "train", ["rains"], extra_ids=10)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("super_glue_cb", "superglue"), ("super_glue_rte", "superglue"), ("glue_sst2", "sst2")],
)
def test_scores(shared, name, folder):
    folder = str(shared / "data" / folder)
    check_scores(name, t5_file(shared), folder, "validation", ["", "Neutral", "what else"])


@pytest.fixture(scope="module")
def made_up_folder(tmp_path_factory):
    return str(made_up.write(tmp_path_factory.mktemp("official")))


@pytest.mark.parametrize(
    "name",
    [
        "super_glue_multirc",
        "super_glue_record",
        "super_glue_wsc",
        "taskless_super_glue_copa",
        "glue_stsb",
        "squad",
        "sentinel_squad",
        "mrqa_drop",
    ],
)
def test_batches_and_scores_of_made_up_data(shared, made_up_folder, monkeypatch, name):
    file, lengths = t5_file(shared), {"inputs": 64, "targets": 8}
    check_batches(name, file, lengths, made_up_folder, "validation")
    monkeypatch.setattr(seqio.TaskRegistry, "_REGISTRY", {})
    others = ["", "Bob", "the dog", "x"]
    check_scores(name, file, made_up_folder, "validation", others)


def test_registry_has_every_task(tiny_file, cb_folder, monkeypatch):
    monkeypatch.setenv("PROMPT_TUNING_VOCABULARY", tiny_file)
    monkeypatch.setenv("PROMPT_TUNING_DATA_DIR", cb_folder)
    monkeypatch.delitem(sys.modules, "prompt_tuning_jax.tasks.seqio_registry", raising=False)
    import prompt_tuning_jax.tasks.seqio_registry  # noqa: F401

    assert set(tasks.names()) <= set(seqio.TaskRegistry.names())
    mixture = seqio.get_mixture_or_task("super_glue_proportional")
    rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
    assert rates == tasks.mixtures()["super_glue_proportional"]
    mixture = seqio.get_mixture_or_task("sentinel_super_glue_proportional")
    assert {task.name: mixture.get_rate(task) for task in mixture.tasks} == {
        f"sentinel_{name}": rate for name, rate in rates.items()
    }
    task = seqio.get_mixture_or_task("super_glue_cb")
    assert task.output_features["inputs"].vocabulary.vocab_size == Vocabulary(tiny_file).vocab_size
    example = next(task.get_dataset(None, "train", shuffle=False).as_numpy_iterator())
    text = "cb hypothesis: it rains premise: she said that it rains"
    assert example["inputs_pretokenized"].decode() == text
    assert example["inputs"].tolist() == [*Vocabulary(tiny_file).encode(text), 1]
    assert json.loads(example["example"])["idx"] == 0


def test_objective_in_seqio(tiny_file):
    document = "a good film with a fine song and a dull play . " * 4
    source = Generated("documents", lambda split: [{"text": document}] * 4)
    task = Task(
        "spans",
        source,
        lambda record: [{"inputs": "", "targets": record["text"]}],
        objective=pretraining.span_corruption,
    )
    registered = seqio_adapter.register(task, tiny_file, 10)
    vocabulary = Vocabulary(tiny_file, 10)
    ids = vocabulary.encode(document)
    lengths = {"inputs": 2 * len(ids), "targets": 2 * len(ids)}

    def read(seed):
        dataset = registered.get_dataset(lengths, "train", shuffle=False, seed=seed)
        return [
            (row["inputs"].tolist(), row["targets"].tolist()) for row in dataset.as_numpy_iterator()
        ]

    rows = read(0)
    for inputs, targets in rows:
        assert inputs[-1] == targets[-1] == 1
        # Each token of the document is in one of the two, the sentinels in both.
        kept = [i for i in inputs[:-1] + targets[:-1] if i < vocabulary.pieces]
        assert sorted(kept) == sorted(ids)
        assert vocabulary.sentinel(0) in inputs and vocabulary.sentinel(0) in targets
    assert len({str(row) for row in rows}) > 1
    assert read(0) == rows


MODULE = """
    import numpy as np
    import seqio
    import tensorflow as tf

    FEATURE = seqio.Feature(seqio.SentencePieceVocabulary({file!r}, 10), add_eos={add_eos})

    def read(split, shuffle_files=False, seed=None):
        rows = {{"inputs": ["a cat", "it rains"], "targets": ["mat", "play"]}}
        rows["answers"] = [["mat", "cat"], ["play", "song"]]
        return tf.data.Dataset.from_tensor_slices(rows)

    @seqio.map_over_dataset
    def twice(example):
        example["inputs"] = tf.concat([example["inputs"], example["inputs"]], 0)
        return example

    def answer(text, example, is_target):
        if is_target:
            return [a.decode() for a in example["answers"]]
        return text.lower()

    def hits(targets, predictions):
        found = [p in t for t, p in zip(targets, predictions)]
        return {{"hits": 100 * np.mean(found)}}

    seqio.TaskRegistry.add(
        {name!r},
        source=seqio.FunctionDataSource(read, splits=["validation"]),
        preprocessors=[
            seqio.preprocessors.tokenize, twice, seqio.preprocessors.append_eos_after_trim
        ],
        output_features={{"inputs": FEATURE, "targets": FEATURE}},
        postprocess_fn=answer,
        metric_fns=[hits],
    )
"""


def own_module(folder, monkeypatch, file, name, add_eos=True):
    """Writes a module that registers the task `name` with seqio -> the module's name."""
    monkeypatch.syspath_prepend(folder)
    text = textwrap.dedent(MODULE).format(file=file, name=name, add_eos=add_eos)
    (folder / f"of_{name}.py").write_text(text)
    return f"of_{name}"


def test_task_that_a_user_has_in_seqio(tiny_file, tmp_path, monkeypatch):
    task = tasks.get("theirs", own_module(tmp_path, monkeypatch, tiny_file, "theirs"))
    vocabulary = Vocabulary(tiny_file, 10)
    tokens = data.tokenise(task, "validation", vocabulary, LENGTHS)
    # What its preprocessors did to the tokens is kept.
    cat = vocabulary.encode("a cat")
    assert tokens.pair(0, [0])[0].tolist() == [*cat, *cat, 1]
    assert tokens.pair(0, [0])[1].tolist() == [*vocabulary.encode("mat"), 1]
    twin = data.tokenise(
        tasks.get("sentinel_theirs", "of_theirs"), "validation", vocabulary, LENGTHS
    )
    assert twin.pair(0, [0])[0].tolist() == [*cat, *cat, 1]
    assert twin.pair(0, [0])[1].tolist() == [vocabulary.sentinel(0), *vocabulary.encode("mat"), 1]
    assert [example["inputs"] for example in tokens.examples] == ["a cat", "it rains"]
    json.dumps(tokens.examples)
    scores = scoring.score(task, tokens.examples, ["CAT", "cat"])
    assert scores == {"hits": 50.0, "mean": 50.0}
    assert scoring.selection(task, scores) == 50.0
    with pytest.raises(UserError, match="task theirs has no split 'train'; it has validation"):
        task.examples("train")


def test_user_task_with_another_vocabulary(tiny_file, tmp_path, monkeypatch):
    task = tasks.get("foreign", own_module(tmp_path, monkeypatch, tiny_file, "foreign"))
    other = tiny_vocabulary.train(tmp_path, vocab_size=50)
    with pytest.raises(UserError, match="task foreign has another vocabulary than"):
        data.tokenise(task, "validation", Vocabulary(other, 10), LENGTHS)


def test_user_task_without_metrics(tiny_file, tmp_path, monkeypatch):
    module = own_module(tmp_path, monkeypatch, tiny_file, "silent")
    path = tmp_path / f"{module}.py"
    path.write_text(path.read_text().replace("metric_fns=[hits]", "metric_fns=[]"))
    task = tasks.get("silent", module)
    assert scoring.score(task, task.examples("validation"), ["a", "b"]) == {}
    assert scoring.selection(task, {"teacher_forced_accuracy": 7.0}) == 7.0


def test_user_task_that_needs_lengths(tiny_file, tmp_path, monkeypatch):
    module = own_module(tmp_path, monkeypatch, tiny_file, "lengthy")
    path = tmp_path / f"{module}.py"
    cut = 'def twice(example, sequence_length):\n    sequence_length["inputs"] + 1'
    path.write_text(path.read_text().replace("def twice(example):", cut))
    task = tasks.get("lengthy", module)
    with pytest.raises(UserError, match="seqio task lengthy: .*subscriptable"):
        task.examples("validation")


def test_user_task_without_eos(tiny_file, tmp_path, monkeypatch):
    module = own_module(tmp_path, monkeypatch, tiny_file, "endless", add_eos=False)
    with pytest.raises(UserError, match="seqio task endless: its features must be"):
        tasks.get("endless", module)
    with pytest.raises(UserError, match="no task 'nameless'; there are"):
        tasks.get("nameless", module)
