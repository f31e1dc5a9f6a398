"""Tokens, their cache, batches as a function of the step. test_seqio.py compares with seqio."""

import collections
import dataclasses
import logging

import numpy as np
import pytest
import tiny_vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st

from prompt_tuning_jax import cache, data
from prompt_tuning_jax.batches import EvaluationSet, TrainingBatches
from prompt_tuning_jax.errors import UserError
from prompt_tuning_jax.tasks.sources import Generated
from prompt_tuning_jax.tasks.task import LabelId, Task
from prompt_tuning_jax.vocabulary import Vocabulary

LENGTHS = {"inputs": 12, "targets": 4}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    return Vocabulary(tiny_vocabulary.train(tmp_path_factory.mktemp("vocabulary")), extra_ids=10)


@pytest.fixture(scope="module", autouse=True)
def cache_dir(tmp_path_factory):
    """No test reads or writes the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("PROMPT_TUNING_CACHE", str(folder))
        yield folder


def task_of(pairs, name="made_up", **settings):
    """A task whose records are examples already."""
    records = [{"inputs": inputs, "targets": targets} for inputs, targets in pairs]
    source = Generated("made up", lambda split: records)
    return Task(
        name,
        source,
        lambda record: [{key: record[key] for key in ("inputs", "targets")}],
        **settings,
    )


def numbered(vocabulary, size, name="numbered"):
    """A set whose n-th example's inputs are one token, 3 + n: batches then show who was drawn."""
    task = task_of([(f"{n}", "a") for n in range(size)], name)
    few = data.tokenise(task, "train", vocabulary, LENGTHS)
    tokens = data.Ragged.of([[3 + n] for n in range(size)])
    return data.TokenSet(few.task, "train", vocabulary, LENGTHS, few.examples, tokens, few.targets)


def drawn(batch):
    return (batch["encoder_input_tokens"][:, 0] - 3).tolist()


def test_tokens_end_with_eos_within_their_length(vocabulary):
    long = "a good film with a fine song and a dull play"
    tokens = data.tokenise(task_of([("a cat", "a"), (long, long)]), "train", vocabulary, LENGTHS)
    inputs, targets = tokens.pair(0, [0])
    assert inputs.tolist() == [*vocabulary.encode("a cat"), 1]
    assert targets.tolist() == [*vocabulary.encode("a"), 1]
    inputs, targets = tokens.pair(1, [0])
    assert inputs.tolist() == [*vocabulary.encode(long)[:11], 1]
    assert targets.tolist() == [*vocabulary.encode(long)[:3], 1]


def test_exactly_as_long_as_the_length_is_not_cut(vocabulary):
    text = "a cat"
    size = len(vocabulary.encode(text))
    task = task_of([(text, text)])
    for length, cut in ((size, 1), (size + 1, 0)):
        lengths = {"inputs": length, "targets": length}
        tokens = data.tokenise(task, "train", vocabulary, lengths)
        assert tokens.cut == {"inputs": cut, "targets": cut}


def test_cut_inputs_are_counted_cold_and_warm(vocabulary, caplog, tmp_path):
    task = task_of([("a good film with a fine song", "a"), ("a cat", "a")])
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            data.tokenise(task, "train", vocabulary, LENGTHS, cache_dir=tmp_path)
        assert caplog.messages == [
            "1 of 2 inputs of made_up/train were longer than 12 tokens and cut"
        ]


def test_batch_by_hand(vocabulary):
    task = task_of([("a cat", "True")])
    tokens = data.tokenise(task, "train", vocabulary, LENGTHS)
    ((batch, examples),) = EvaluationSet(tokens, batch_size=2).batches()
    cat, true = vocabulary.encode("a cat"), vocabulary.encode("True")[:3]
    assert examples.tolist() == [0]
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int32)}

    def padded(ids, length):
        return ids + [0] * (length - len(ids))

    assert batch["encoder_input_tokens"].tolist() == [padded([*cat, 1], 8), [0] * 8]
    assert batch["decoder_target_tokens"].tolist() == [padded([*true, 1], 4), [0] * 4]
    assert batch["decoder_input_tokens"].tolist() == [padded([0, *true, 1], 5)[:4], [0] * 4]
    assert batch["decoder_loss_weights"].tolist() == [padded([1] * (len(true) + 1), 4), [0] * 4]


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_cache_is_read(vocabulary, tmp_path):
    task = task_of([("a cat", "True"), ("", "False")])
    cold = data.tokenise(task, "train", vocabulary, LENGTHS, cache_dir=tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in files(tmp_path)}
    warm = data.tokenise(task, "train", vocabulary, LENGTHS, cache_dir=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in files(tmp_path)} == kept != {}
    for feature in ("inputs", "targets"):
        for part in ("values", "offsets"):
            array = getattr(getattr(cold, feature), part)
            np.testing.assert_array_equal(getattr(getattr(warm, feature), part), array)
            assert getattr(getattr(warm, feature), part).dtype == array.dtype


def test_cache_goes_by_content(vocabulary, tmp_path):
    def inputs(text, vocabulary=vocabulary):
        tokens = data.tokenise(
            task_of([(text, "True")]), "train", vocabulary, LENGTHS, cache_dir=tmp_path
        )
        return tokens.inputs[0].tolist()

    assert inputs("a cat") == vocabulary.encode("a cat")
    assert inputs("a mat") == vocabulary.encode("a mat")
    # Without the sentinels the same text is other tokens.
    other = Vocabulary(vocabulary.model_file, extra_ids=0)
    assert inputs("<extra_id_0>") == [vocabulary.sentinel(0)]
    assert inputs("<extra_id_0>", other) == other.encode("<extra_id_0>")


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other"])
def test_damaged_cache_is_made_anew(vocabulary, tmp_path, damage):
    task = task_of([("a cat", "True"), ("a fine song", "False")])
    whole = data.tokenise(task, "train", vocabulary, LENGTHS, cache_dir=tmp_path)
    for path in files(tmp_path):
        content = bytearray(path.read_bytes())
        if damage == "flipped":
            content[150] ^= 255
        elif damage == "other":
            np.savez(path, values=np.zeros(3, np.int32), offsets=np.array([0, 3]))
            content = bytearray(path.read_bytes())
        path.write_bytes({"empty": b"", "cut": content[:-30]}.get(damage, content))
    again = data.tokenise(task, "train", vocabulary, LENGTHS, cache_dir=tmp_path)
    assert again.inputs.values.tolist() == whole.inputs.values.tolist()
    assert again.targets.offsets.tolist() == whole.targets.offsets.tolist()
    for path in files(tmp_path):
        assert len(np.load(path)["offsets"]) == 3


def test_cache_that_cannot_be_written_is_done_without(vocabulary, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    task = task_of([("a cat", "True")])
    tokens = data.tokenise(task, "train", vocabulary, LENGTHS, cache_dir=tmp_path / "file")
    assert tokens.inputs[0].tolist() == vocabulary.encode("a cat")
    assert "token cache not written" in caplog.text


def test_a_write_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        cache.write(tmp_path / "taken", b"content")
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]
    cache.write(tmp_path / "new" / "file", b"content")
    assert (tmp_path / "new" / "file").read_bytes() == b"content"
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "file"]


@pytest.mark.parametrize("lengths", [{"inputs": 5}, {"inputs": 5, "targets": 1}, {}])
def test_bad_lengths(vocabulary, lengths):
    with pytest.raises(UserError, match="give inputs and targets 2 tokens or more"):
        data.tokenise(task_of([("a cat", "a")]), "train", vocabulary, lengths)


def test_tokens_of_another_vocabulary_are_refused(vocabulary):
    task = task_of([("a cat", "True")], vocabulary_digest="0" * 64)
    with pytest.raises(UserError, match="made_up has another vocabulary than .*tiny.model"):
        data.tokenise(task, "train", vocabulary, LENGTHS)


@given(
    size=st.integers(1, 40),
    batch_size=st.integers(1, 50),
    seed=st.integers(0, 2**40),
    steps=st.integers(1, 12),
)
@settings(deadline=None)
def test_each_example_once_an_epoch(vocabulary, size, batch_size, seed, steps):
    batches = TrainingBatches([(numbered(vocabulary, size), 1)], batch_size, seed)
    order = [n for step in range(steps) for n in drawn(batches.batch(step))]
    for start in range(0, len(order) - size + 1, size):
        assert sorted(order[start : start + size]) == list(range(size))


def test_epochs_and_seeds_differ(vocabulary):
    tokens = numbered(vocabulary, 50)
    first, second = (drawn(TrainingBatches([(tokens, 1)], 50, 3).batch(s)) for s in (0, 1))
    other = drawn(TrainingBatches([(tokens, 1)], 50, 4).batch(0))
    assert first != second and first != other and first != sorted(first)


@given(step=st.integers(0, 10**6), seed=st.integers(0, 9), hosts=st.sampled_from([1, 2, 3, 6]))
@settings(deadline=None, max_examples=25)
def test_a_batch_is_a_function_of_seed_and_step(vocabulary, step, seed, hosts):
    mixture = [(numbered(vocabulary, 7), 2), (numbered(vocabulary, 40), 1)]
    resumed = TrainingBatches(mixture, 12, seed).batch(step)
    running = TrainingBatches(mixture, 12, seed)
    for before in range(max(step - 2, 0), step):
        running.batch(before)
    parts = [running.batch(step, host, hosts) for host in range(hosts)]
    for name, rows in resumed.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), rows)


def test_hosts_must_share_evenly(vocabulary):
    batches = TrainingBatches([(numbered(vocabulary, 7), 1)], 12, 0)
    with pytest.raises(UserError, match="batch size 12 does not divide among 5 processes"):
        batches.batch(0, 0, 5)


def who(vocabulary, rates, steps, batch_size=512):
    """How often each task of a mixture is drawn; their examples are 0, 1, ..., one a task."""
    sets = []
    for number, rate in enumerate(rates):
        tokens = numbered(vocabulary, 1, f"task{number}")
        sets.append((dataclasses.replace(tokens, inputs=data.Ragged.of([[3 + number]])), rate))
    batches = TrainingBatches(sets, batch_size, 0)
    counts = collections.Counter(n for step in range(steps) for n in drawn(batches.batch(step)))
    return [counts[number] for number in range(len(rates))]


def test_rates_hold_exactly_over_a_block(vocabulary):
    counts = who(vocabulary, [1, 2.5, 0.001], steps=128)
    expected = np.array([1, 2.5, 0.001]) / 3.501 * 65536
    assert sum(counts) == 65536
    np.testing.assert_allclose(counts, expected, atol=1)


def test_rates_hold_roughly_from_the_start(vocabulary):
    counts = who(vocabulary, [3, 1], steps=8)
    # 4,096 draws; four standard deviations.
    np.testing.assert_allclose(counts, [3072, 1024], atol=4 * (4096 * 3 / 16) ** 0.5)


def test_a_rare_task_has_its_turn(vocabulary):
    assert who(vocabulary, [1e9, 1, 1], steps=128)[1:] == [1, 1]


def test_each_task_of_a_mixture_keeps_its_own_epochs(vocabulary):
    sets = [(numbered(vocabulary, 5), 1), (numbered(vocabulary, 9), 1)]
    shifted = dataclasses.replace(sets[1][0], inputs=data.Ragged.of([[60 + n] for n in range(9)]))
    batches = TrainingBatches([sets[0], (shifted, 1)], 64, 0)
    order = [n for step in range(10) for n in drawn(batches.batch(step))]
    for size, own in ((5, [n for n in order if n < 57]), (9, [n - 57 for n in order if n >= 57])):
        assert len(own) > 200
        for start in range(0, len(own) - size + 1, size):
            assert sorted(own[start : start + size]) == list(range(size))


def test_proportional_rates_are_sizes(vocabulary):
    big, small = numbered(vocabulary, 60), numbered(vocabulary, 20)
    small = dataclasses.replace(small, inputs=data.Ragged.of([[80 + n] for n in range(20)]))
    mixture = [(big, "proportional"), (small, "proportional")]
    batches = TrainingBatches(mixture, 512, 1)
    share = np.mean([n < 77 for step in range(8) for n in drawn(batches.batch(step))])
    assert abs(share - 0.75) < 4 * (3 / 16 / 4096) ** 0.5


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), "equal", None])
def test_bad_rates(vocabulary, rate):
    with pytest.raises(UserError, match="task numbered: rate .* is no positive number"):
        TrainingBatches([(numbered(vocabulary, 2), rate)], 2, 0)


def labelled(vocabulary, count):
    words = ("bad", "good")
    pairs = [(f"{n}", words[n % 3 == 0]) for n in range(count)]
    task = task_of(pairs, label_words=words, postprocess=LabelId(words))
    tokens = data.tokenise(task, "train", vocabulary, LENGTHS)
    ids = data.Ragged.of([[3 + n] for n in range(count)])
    return dataclasses.replace(tokens, inputs=ids)


def test_k_shot_takes_k_of_each_label(vocabulary):
    tokens = labelled(vocabulary, 30)
    chosen = {}
    for seed in range(3):
        batch = TrainingBatches([(tokens, 1)], 8, seed, k_shot=4).batch(0)
        numbers = drawn(batch)
        assert len(set(numbers)) == 8
        assert sum(n % 3 == 0 for n in numbers) == 4
        # And no others, ever after.
        later = TrainingBatches([(tokens, 1)], 8, seed, k_shot=4).batch(99)
        assert sorted(drawn(later)) == sorted(numbers)
        chosen[seed] = frozenset(numbers)
    assert len(set(chosen.values())) == 3


def test_k_shot_of_free_text_is_per_task(vocabulary):
    batches = TrainingBatches([(numbered(vocabulary, 20), 1)], 5, 0, k_shot=5)
    assert sorted(drawn(batches.batch(0))) == sorted(drawn(batches.batch(7)))


@pytest.mark.parametrize("k_shot", [0, 11])
def test_bad_k_shot(vocabulary, k_shot):
    with pytest.raises(
        UserError, match=f"k_shot {k_shot}: task made_up allows 1 to .*0, the number"
    ):
        TrainingBatches([(labelled(vocabulary, 30), 1)], 8, 0, k_shot=k_shot)


def test_negative_seed(vocabulary):
    with pytest.raises(UserError, match="seed -1: must not be negative"):
        TrainingBatches([(numbered(vocabulary, 2), 1)], 2, -1)


def reverse_or_not(ids, rng, vocabulary, lengths):
    """An objective that shows what it is called with."""
    assert lengths == LENGTHS and vocabulary.extra_ids == 10
    return (ids[::-1], ids) if rng.integers(2) else (ids, ids[::-1])


def test_objective_is_drawn_anew_each_time(vocabulary):
    document = "a good film with a fine song"
    task = task_of([("", document)], objective=reverse_or_not)
    tokens = data.tokenise(task, "train", vocabulary, LENGTHS)
    assert tokens.cut == {"inputs": 0, "targets": 0}
    rows = TrainingBatches([(tokens, 1)], 32, 0).batch(5)["encoder_input_tokens"].tolist()
    ids = vocabulary.encode(document)
    assert len(ids) > 12
    forwards, backwards = [*ids[:11], 1], [*ids[::-1][:11], 1]
    assert {tuple(row) for row in rows} == {tuple(forwards), tuple(backwards)}
    again = TrainingBatches([(tokens, 1)], 32, 0).batch(5)["encoder_input_tokens"].tolist()
    assert again == rows
    # Evaluation draws the same each time.
    evaluation = EvaluationSet(tokens, 1)
    assert evaluation.batch(0)["encoder_input_tokens"].tolist() == (
        evaluation.batch(0)["encoder_input_tokens"].tolist()
    )


@given(size=st.integers(1, 30), batch_size=st.integers(1, 12))
@settings(deadline=None)
def test_evaluation_sees_each_example_once(vocabulary, size, batch_size):
    evaluation = EvaluationSet(numbered(vocabulary, size), batch_size)
    seen = []
    for batch, examples in evaluation.batches():
        real = len(examples)
        assert batch["encoder_input_tokens"].shape == (batch_size, 8)
        assert not batch["encoder_input_tokens"][real:].any()
        assert not batch["decoder_loss_weights"][real:].any()
        assert drawn(batch)[:real] == examples.tolist()
        seen += examples.tolist()
    assert sorted(seen) == list(range(size))
    assert len(evaluation) == -(-size // batch_size)


def test_hosts_share_an_evaluation_batch(vocabulary):
    evaluation = EvaluationSet(numbered(vocabulary, 7), 4)
    for index in range(2):
        parts = [evaluation.batch(index, host, 2) for host in range(2)]
        for name, rows in evaluation.batch(index).items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), rows)


def test_first_examples(vocabulary):
    tokens = numbered(vocabulary, 7)
    few = tokens.first(3)
    assert (len(few), len(few.inputs), len(few.targets)) == (3, 3, 3)
    assert few.inputs.values.tolist() == [3, 4, 5]
    assert len(tokens.first(99)) == 7
    with pytest.raises(UserError, match="0 examples of numbered/train: take at least one"):
        tokens.first(0)
