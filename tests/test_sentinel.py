"""Span corruption + sentinel: ids by hand, seqio's and our batches, scores, a run from gin."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run
import tiny_vocabulary

import prompt_tuning_jax
from prompt_tuning_jax import data, sharding, t5, tasks
from prompt_tuning_jax.decoding import Greedy
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.evaluate import Evaluation
from prompt_tuning_jax.tasks import sentinel
from prompt_tuning_jax.vocabulary import Vocabulary

CB = [
    {"premise": "it rains", "hypothesis": "it rains", "label": "entailment"},
    {"premise": "it rains", "hypothesis": "a cat sat", "label": "neutral"},
    {"premise": "it rains", "hypothesis": "it is fine", "label": "contradiction"},
]
LENGTHS = {"inputs": 64, "targets": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cb")
    for file in ("train.jsonl", "val.jsonl"):
        lines = [json.dumps(record | {"idx": i}) for i, record in enumerate(CB)]
        (folder / file).write_text("\n".join(lines))
    return str(folder)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    return Vocabulary(tiny_vocabulary.train(tmp_path_factory.mktemp("vocabulary")), 10)


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPT_TUNING_CACHE", str(tmp_path / "cache"))


def test_targets_alone_begin_with_the_last_id(folder, vocabulary):
    plain, twin = (
        data.tokenise(tasks.get(name), "train", vocabulary, LENGTHS, folder)
        for name in ("taskless_super_glue_cb", "sentinel_taskless_super_glue_cb")
    )
    assert twin.examples == plain.examples
    for row, record in enumerate(CB):
        inputs, targets = twin.pair(row, [0])
        assert inputs.tolist() == plain.pair(row, [0])[0].tolist()
        last = vocabulary.vocab_size - 1
        assert targets.tolist() == [last, *vocabulary.encode(record["label"]), 1]
        assert vocabulary.piece(last) == "▁<extra_id_0>"


def test_t5s_ids(shared, folder):
    file = shared / "data/vocab/cc_all.32000.sentencepiece.model"
    task = tasks.get("sentinel_super_glue_cb")
    lengths = {"inputs": 64, "targets": 4}
    tokens = data.tokenise(task, "train", Vocabulary(str(file)), lengths, folder)
    assert [tokens.pair(row, [0])[1].tolist() for row in range(3)] == [
        [32099, 3, 35, 1],  # ▁|en|tail|ment, cut
        [32099, 7163, 1],  # ▁neutral
        [32099, 27252, 1],  # ▁contradiction
    ]
    assert tokens.cut["targets"] == 1


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<extra_id_0> positive", "positive"),
        ("<extra_id_0>positive", "positive"),
        ("positive", "positive"),
        ("<extra_id_0>", ""),
        ("", ""),
        ("<extra_id_1> positive", "<extra_id_1> positive"),
        ("a <extra_id_0> b", "a <extra_id_0> b"),
    ],
)
def test_predictions_without_it(text, rest):
    assert sentinel.without(text) == rest


@dataclasses.dataclass(frozen=True)
class Saying:
    """A decoder that says label after label, whatever it reads."""

    def __call__(self, model, theta, tuned, batch, length, rng, labels):
        rows = jnp.arange(batch["encoder_input_tokens"].shape[0])
        return labels[rows % len(labels)]


def test_scores_are_those_of_the_task(folder, vocabulary, tmp_path):
    found = {}
    for name in ("super_glue_cb", "sentinel_super_glue_cb"):
        evaluation = Evaluation(
            data.tokenise(tasks.get(name), "validation", vocabulary, LENGTHS, folder),
            batch_size=2,
            partitioner=sharding.Partitioner.of(),
            decoder=Saying(),
        )
        with tiny_run.quickly():
            metrics = evaluation.run(
                t5.T5(tiny_run.CONFIG),
                jax.tree.map(jnp.asarray, tiny_run.random_theta()),
                t5.EMPTY,
                tmp_path,
                tmp_path / name,
            )
        lines = (tmp_path / f"{name}.jsonl").read_text()
        said = [json.loads(line)["prediction"] for line in lines.splitlines()]
        # the shortest alone, the others in a batch; of the three labels the first two are said
        assert said == ["entailment", "entailment", "contradiction"]
        forced = [metrics.pop(f"teacher_forced_{what}") for what in ("loss", "accuracy")]
        found[name] = metrics, lines, (tmp_path / name / "CB.jsonl").read_text(), forced
    plain, twin = found.values()
    assert twin[:3] == plain[:3]
    assert plain[0]["accuracy"] == pytest.approx(200 / 3)
    assert twin[3] != plain[3]


def test_label_words_need_room_for_it(folder, vocabulary):
    longest = max(len(vocabulary.encode(word)) for word in tasks.get("super_glue_cb").label_words)
    lengths = {"inputs": 64, "targets": longest + 1}
    given = {"batch_size": 2, "partitioner": sharding.Partitioner.of()}
    Evaluation(
        data.tokenise(tasks.get("super_glue_cb"), "train", vocabulary, lengths, folder), **given
    )
    twin = data.tokenise(tasks.get("sentinel_super_glue_cb"), "train", vocabulary, lengths, folder)
    with pytest.raises(UserError, match=f"its label words need {longest + 2} tokens"):
        Evaluation(twin, **given)


def test_names():
    rates = {task.name: rate for task, rate in tasks.mixture("super_glue_proportional")}
    twins = dict(tasks.mixture("sentinel_super_glue_proportional"))
    assert {task.name: rate for task, rate in twins.items()} == {
        f"sentinel_{name}": rate for name, rate in rates.items()
    }
    assert all(task.sentinel for task in twins)
    with pytest.raises(UserError, match="no task 'super_glue_bolq'; did you mean super_glue_boolq"):
        tasks.get("sentinel_super_glue_bolq")
    with pytest.raises(UserError, match="task demo_span_corruption: pre-training has no answers"):
        tasks.get("sentinel_demo_span_corruption")


def test_a_vocabulary_without_sentinels(folder, vocabulary):
    bare = Vocabulary(vocabulary.model_file, 0)
    with pytest.raises(UserError, match="no sentinel 0"):
        data.tokenise(tasks.get("sentinel_super_glue_cb"), "train", bare, LENGTHS, folder)


TASK = """
from __gin__ import dynamic_registration
from prompt_tuning_jax.tasks import sentinel
from prompt_tuning_jax.tasks import text_files

MIXTURE_OR_TASK_NAME = @sentinel.twin()
sentinel.twin.task = @text_files.Text()
"""


def test_a_run_says_it_and_predictions_do_not(tmp_path, monkeypatch):
    job = tiny_run.Job(tmp_path)
    (job.folder / "twin.gin").write_text(TASK)
    run = job.train("tuned", "--gin_file=twin.gin", method="full", EVAL_PERIOD=12)
    texts = ["review: a fine play", "review: a dull film"]
    (job.folder / "texts.txt").write_text("\n".join(texts))
    done = job.ok("infer", "--artifact=tuned/artifact", "--input=texts.txt", BATCH_SIZE=8)
    predictions = [json.loads(line)["prediction"] for line in done.out.splitlines()]
    monkeypatch.chdir(job.folder)
    loaded = prompt_tuning_jax.load("tuned/artifact")
    batch = {"encoder_input_tokens": np.zeros((2, 40), np.int32)}
    for row, text in enumerate(texts):
        ids = [*loaded.vocabulary.encode(text), 1]
        batch["encoder_input_tokens"][row, : len(ids)] = ids
    with tiny_run.quickly():
        said = loaded.decode(Greedy(), 4, batch, jax.random.split(jax.random.key(0), 2))
    assert said[:, 0].tolist() == [loaded.vocabulary.vocab_size - 1] * 2
    assert [loaded.vocabulary.decode(ids[1:].tolist()) for ids in said] == predictions
    assert set(predictions) <= {"good", "bad"}
    evaluated = (run / "predictions/12/sentinel_reviews.jsonl").read_text().splitlines()
    assert {json.loads(line)["prediction"] for line in evaluated} <= {"good", "bad"}
