"""Several examples in a row: none lost or changed, none over a row's capacity, and the same step.

test_seqio.py compares names and values with seqio's packing.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import tiny_run
import tiny_vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st

from prompt_tuning_jax import data, packing, t5, training_step
from prompt_tuning_jax.batches import TrainingBatches
from prompt_tuning_jax.losses import NORMALIZATIONS, Loss
from prompt_tuning_jax.methods.full import Full
from prompt_tuning_jax.methods.lora import LoRA
from prompt_tuning_jax.methods.prefix import Prefix
from prompt_tuning_jax.methods.prompt import Prompt
from prompt_tuning_jax.optimizers import LearningRate, Optax
from prompt_tuning_jax.packing import Shape
from prompt_tuning_jax.vocabulary import Vocabulary

LENGTHS = {"inputs": 40, "targets": 6}
# input and target tokens of the examples of a batch
BATCHES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 6)), min_size=1, max_size=24)


def examples_of(sizes):
    """Examples of these lengths, no two tokens of which are equal."""
    ids = iter(range(1, 10_000))
    return [tuple(np.array([next(ids) for _ in range(n)], np.int32) for n in s) for s in sizes]


def segments(batch):
    """Every segment of a packed batch as its parts: {(row, segment): {name: values}}."""
    found = {}
    for row in range(len(batch["encoder_input_tokens"])):
        for side, names in {
            "encoder": ("encoder_input_tokens", "encoder_positions"),
            "decoder": (
                *("decoder_target_tokens", "decoder_input_tokens"),
                *("decoder_loss_weights", "decoder_positions"),
            ),
        }.items():
            ids = batch[f"{side}_segment_ids"][row]
            for segment in range(1, ids.max() + 1):
                parts = found.setdefault((row, segment), {})
                parts |= {name: batch[name][row][ids == segment].tolist() for name in names}
            for name in names:
                assert not batch[name][row][ids == 0].any()
    return found


@given(sizes=BATCHES, rows=st.integers(1, 24), inputs=st.integers(1, 60), count=st.integers(1, 9))
@settings(deadline=None)
def test_every_example_is_one_segment(sizes, rows, inputs, count):
    full = Shape(len(sizes), 40, 6, 1)
    pairs = examples_of(sizes)
    lengths = packing.lengths(pairs)
    assert lengths.tolist() == [list(size) for size in sizes]
    # the asked-for shape may be too small: then a row for each example
    asked = Shape(rows, inputs, 12, count)
    shape, places = packing.place(lengths, [asked], full)
    assert shape in (asked, full)
    batch = packing.batch(pairs, shape, places, prompts=range(100, 100 + len(pairs)))
    assert batch["encoder_input_tokens"].shape == (shape.rows, shape.inputs)
    assert batch["decoder_target_tokens"].shape == (shape.rows, shape.targets)
    assert batch["prompt_ids"].shape == (shape.rows, shape.segments)
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int32)}
    found = segments(batch)
    wanted = {(tuple(i.tolist()), tuple(t.tolist())): number for number, (i, t) in enumerate(pairs)}
    for (row, segment), parts in found.items():
        assert segment <= shape.segments
        targets = parts["decoder_target_tokens"]
        number = wanted.pop((tuple(parts["encoder_input_tokens"]), tuple(targets)))
        assert parts["encoder_positions"] == list(range(len(parts["encoder_input_tokens"])))
        assert parts["decoder_positions"] == list(range(len(targets)))
        assert parts["decoder_input_tokens"] == [0, *targets[:-1]]
        assert parts["decoder_loss_weights"] == [1] * len(targets)
        assert batch["prompt_ids"][row, segment - 1] == 100 + number
    assert not wanted


def test_a_batch_by_hand():
    pairs = [([5, 6, 1], [8, 1]), ([7, 1], [9, 9, 1]), ([4, 1], [3, 1])]
    pairs = [tuple(np.array(part) for part in pair) for pair in pairs]
    shape = Shape(2, 6, 4, 3)
    batch = packing.batch(pairs, shape, np.array([0, 1, 0]), [2, 0, 1])
    wanted = {
        "encoder_input_tokens": [[5, 6, 1, 4, 1, 0], [7, 1, 0, 0, 0, 0]],
        "encoder_segment_ids": [[1, 1, 1, 2, 2, 0], [1, 1, 0, 0, 0, 0]],
        "encoder_positions": [[0, 1, 2, 0, 1, 0], [0, 1, 0, 0, 0, 0]],
        "decoder_target_tokens": [[8, 1, 3, 1], [9, 9, 1, 0]],
        "decoder_input_tokens": [[0, 8, 0, 3], [0, 9, 9, 0]],
        "decoder_loss_weights": [[1, 1, 1, 1], [1, 1, 1, 0]],
        "decoder_segment_ids": [[1, 1, 2, 2], [1, 1, 1, 0]],
        "decoder_positions": [[0, 1, 0, 1], [0, 1, 2, 0]],
        "prompt_ids": [[2, 1, 0], [0, 0, 0]],
    }
    assert {name: array.tolist() for name, array in batch.items()} == wanted


# ---- shapes --------------------------------------------------------------------------------


@given(
    sample=st.lists(BATCHES, min_size=1, max_size=6),
    pack=st.booleans(),
    multiple=st.sampled_from([1, 2, 4]),
    prompt_rows=st.sampled_from([0, 20]),
)
@settings(deadline=None, max_examples=50)
def test_a_plan_s_shapes_are_few_and_legal(sample, pack, multiple, prompt_rows):
    size = packing._up(max(map(len, sample)), multiple)
    sample = [np.array([*batch, *[(1, 1)] * (size - len(batch))]) for batch in sample]
    full = Shape(size, 40, 6, 1)
    shapes = packing.plan(sample, full, row=40 * pack, multiple=multiple, prompt_rows=prompt_rows)
    assert 1 <= len(shapes) <= packing.SHAPES
    costs = [shape.cost(prompt_rows) for shape in shapes]
    assert costs == sorted(costs)
    for shape in shapes:
        assert shape.rows % multiple == 0 and shape.rows <= size and shape.inputs <= 40
        if not pack:
            assert (shape.rows, shape.segments) == (size, 1) and shape.targets <= 6
    for batch in sample:
        shape, rows = packing.place(batch, shapes, full)
        assert pack or shape in shapes
        for limit, used in (
            (shape.inputs, np.bincount(rows, batch[:, 0])),
            (shape.targets, np.bincount(rows, batch[:, 1])),
            (shape.segments, np.bincount(rows)),
        ):
            assert used.max() <= limit and len(used) <= shape.rows


def test_rows_are_filled():
    # examples of mean length 61.5: unpacked, half of what is computed is padding
    rng = np.random.default_rng(0)
    sample = [np.stack([rng.integers(4, 120, 32), np.full(32, 3)], 1) for _ in range(80)]
    full = Shape(32, 120, 8, 1)

    def share(row, prompt_rows=0):
        shapes = packing.plan(sample[:40], full, row=row, prompt_rows=prompt_rows)
        placed = [packing.place(lengths, shapes, full)[0] for lengths in sample[40:]]
        computed = sum(s.rows * (s.inputs + s.segments * prompt_rows) for s in placed)
        return sum(lengths[:, 0].sum() + 32 * prompt_rows for lengths in sample[40:]) / computed

    assert share(0) < 0.56
    assert share(240) > 0.87
    # segments are many enough, and not many more
    assert share(240, 50) > 0.85


def test_one_shape_where_all_examples_are_alike():
    sample = [np.tile([[10, 2]], (8, 1))] * 5
    assert packing.plan(sample, Shape(8, 16, 8, 1)) == (Shape(8, 16, 8, 1),)


# ---- batches of a run ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """80 examples, many of few tokens and few of many, whose first token tells them apart."""
    vocabulary = Vocabulary(tiny_vocabulary.train(tmp_path_factory.mktemp("words")), extra_ids=10)
    rng = np.random.default_rng(1)
    parts = {
        name: data.Ragged.of(
            [[3 + n, *rng.integers(3, 90, rng.geometric(1 / mean) - 1)] for n in range(80)]
        )
        for name, mean in {"inputs": 8, "targets": 1.5}.items()
    }
    task = data.Task("many", None, None)
    examples = [{"inputs": "", "targets": ""}] * 80
    return data.TokenSet(task, "train", vocabulary, LENGTHS, examples, **parts)


def batches(tokens, **settings):
    return TrainingBatches([(tokens, 1)], 16, 3, **settings)


def unpacked(batch):
    """The inputs and targets of a batch's examples, sorted."""
    if "prompt_ids" in batch:
        parts = segments(batch).values()
        found = [(p["encoder_input_tokens"], p["decoder_target_tokens"]) for p in parts]
    else:
        found = [
            ([n for n in inputs if n], [n for n in targets if n])
            for inputs, targets in zip(
                batch["encoder_input_tokens"].tolist(),
                batch["decoder_target_tokens"].tolist(),
                strict=True,
            )
        ]
    return sorted(found)


def test_a_packed_step_has_the_same_examples(tokens):
    plain, packed = batches(tokens), batches(tokens, pack=True)
    shapes = set()
    for step in range(40):
        whole = packed.batch(step)
        assert unpacked(whole) == unpacked(plain.batch(step))
        shapes.add(whole["encoder_input_tokens"].shape)
    assert 1 < len(shapes) <= packing.SHAPES + 1
    assert all(rows < 16 for rows, _ in shapes)


@pytest.mark.parametrize("pack", [False, True])
def test_hosts_have_the_rows_of_one_batch(tokens, pack):
    made = batches(tokens, pack=pack, multiple=4)
    # a resumed run does not see earlier steps
    for step in (0, 7, 1000):
        whole = batches(tokens, pack=pack, multiple=4).batch(step)
        for hosts in (1, 2, 4):
            parts = [made.batch(step, host, hosts) for host in range(hosts)]
            for name, rows in whole.items():
                np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), rows)


def test_bucketed_batches_keep_their_rows_and_lose_padding(tokens):
    made = batches(tokens)
    widths = set()
    for step in range(40):
        batch = made.batch(step)
        inputs = batch["encoder_input_tokens"]
        wanted = packing.batch(made._pairs(step), Shape(16, 40, 6, 1), np.arange(16))
        for name, array in batch.items():
            width = array.shape[1]
            np.testing.assert_array_equal(array, wanted[name][:, :width])
            assert not wanted[name][:, width:].any()
        assert inputs.shape[0] == 16 and inputs.shape[1] < 40
        widths.add(inputs.shape[1])
    assert len(widths) > 1


# ---- the same step -------------------------------------------------------------------------

SHAPES = {"unpacked": Shape(4, 8, 6, 1), "packed": Shape(2, 12, 9, 3)}
PLACES = {"unpacked": np.arange(4), "packed": np.array([0, 1, 1, 0])}
# rows of three, so that a row has fewer segments than it may have
PROMPTS = [0, 2, 1, 2]
METHODS = {
    "full": (Full(), 1),
    "lora": (LoRA(rank=2), 1),
    "prefix": (Prefix(length=3), 1),
    "prompt": (Prompt(3), 1),
    "three prompts": (Prompt(3, prompts=3), 3),
    "prompt apart": (Prompt(3, sees_input=False), 1),
    "three prompts apart": (Prompt(3, prompts=3, sees_input=False), 3),
}


def batch_of(kind, count):
    pairs = [(np.array(i), np.array(t)) for i, t in zip(small.INPUTS, small.TARGETS, strict=True)]
    prompts = [number % count for number in PROMPTS]
    batch = packing.batch(pairs, SHAPES[kind], PLACES[kind], prompts if kind == "packed" else None)
    return batch | ({} if kind == "packed" else {"prompt_ids": np.array(prompts)[:, None]})


@functools.cache
def step(name, kind, microbatches=1):
    """Gradient descent at rate 1 -> (the report, the gradient of every leaf)."""
    method, count = METHODS[name]
    frozen, taken = method.split(small.theta())
    tuned = small.init(method, small.theta(), seed=1)
    # no leaf at 0, where gradients of its partner vanish
    tuned = jax.tree.map(lambda a: a + 0.05 * np.cos(np.arange(a.size)).reshape(a.shape), tuned)
    tuned = tuned | {"theta": taken}
    axes = method.axes(small.CONFIG, method.abstract(small.CONFIG, small.theta()))
    tx = Optax("sgd", LearningRate(base_learning_rate=1.0)).build(axes)
    update = functools.partial(
        training_step.update,
        model=t5.T5(small.CONFIG, method),
        method=method,
        tx=tx,
        loss=Loss(z_loss=1e-2, label_smoothing=0.1),
        microbatches=microbatches,
        size=4 * 6,
    )
    state = {"tuned": tuned, "opt_state": tx.init(tuned), "step": jnp.int32(0)}
    batch = batch_of(kind, count)
    after, report = small.quick_jit(update)(state, frozen, batch, jax.random.key(0))
    moved = jax.tree.map(lambda old, new: np.asarray(old - new), tuned, after["tuned"])
    return jax.device_get(report), moved


@pytest.mark.parametrize("name", METHODS)
def test_packed_and_unpacked_steps_agree(name):
    (report, packed), (wanted, unpacked) = step(name, "packed"), step(name, "unpacked")
    for value in report:
        assert report[value] == pytest.approx(wanted[value], rel=1e-5), value
    assert report["target_tokens"] == sum(map(len, small.TARGETS))
    for (path, leaf), other in zip(
        jax.tree_util.tree_leaves_with_path(packed), jax.tree.leaves(unpacked), strict=True
    ):
        assert np.abs(other).max() > 1e-4, path
        small.close(leaf, other, 2e-5)


@pytest.mark.parametrize("factor", [*NORMALIZATIONS, None, 7.0])
def test_a_token_s_weight_is_the_same_packed(factor):
    loss, found = Loss(normalizing_factor=factor), {}
    for kind in ("packed", "unpacked"):
        batch = batch_of(kind, 1)
        weights, targets = loss.weights(batch, size=4 * 6), batch["decoder_target_tokens"]
        found[kind] = sorted(zip(targets[targets > 0], weights[targets > 0], strict=True))
    np.testing.assert_allclose(found["packed"], found["unpacked"], rtol=1e-6)
    assert np.min(found["packed"]) > 0


def test_microbatches_of_packed_rows_add_up():
    (report, parts), (wanted, whole) = (
        step("lora", "packed", microbatches=2),
        step("lora", "packed"),
    )
    assert report["objective"] == pytest.approx(wanted["objective"], rel=1e-5)
    jax.tree.map(small.close, parts, whole)


def test_a_sequence_s_average_is_its_own_in_a_packed_row():
    # two sequences of 1 and 3 tokens in one row, one of 2 in another
    batch = {
        "decoder_loss_weights": np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]),
        "decoder_segment_ids": np.array([[1, 2, 2, 2, 0], [1, 1, 0, 0, 0]]),
    }
    weights = Loss(normalizing_factor="AVERAGE_PER_SEQUENCE").weights(batch)
    wanted = np.array([[1, 1 / 3, 1 / 3, 1 / 3, 0], [1 / 2, 1 / 2, 0, 0, 0]]) / 3
    np.testing.assert_allclose(weights, wanted, rtol=1e-6)


# ---- a run ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return tiny_run.Job(tmp_path_factory.mktemp("job"))


def losses(folder):
    return [line["loss"] for line in tiny_run.metrics(folder) if line["kind"] == "train"]


def test_a_packed_run_is_the_unpacked_one_and_can_be_resumed(job):
    packed = {"PACK": True, "DROPOUT_RATE": 0.0, "EVAL_TASKS": [], "TRAIN_STEPS": 6}
    whole = job.train("packed", method="lora", **packed)
    plain = job.train("plain", method="lora", **packed | {"PACK": False})
    assert losses(whole) == pytest.approx(losses(plain), rel=1e-4)
    job.train("parts", method="lora", **packed | {"TRAIN_STEPS": 4})
    parts = job.train("parts", method="lora", **packed)
    assert losses(parts) == losses(whole)
    refused = job.run(
        "train", *tiny_run.training("lora"), MODEL_DIR="packed", **packed | {"PACK": False}
    )
    assert refused.status == 2 and "pack" in refused.err
