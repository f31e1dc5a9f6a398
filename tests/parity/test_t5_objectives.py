"""Our objectives against those of Google's t5 package: masks, examples, lengths, split points."""

import json

import compared
import numpy as np
import pytest
import seqio
import tensorflow as tf
from t5.data import preprocessors
from t5_examples import T5_SIZE, Ids, runs, t5s_examples, windows

from prompt_tuning_jax.tasks import objectives, pretraining

FEATURE = seqio.Feature(seqio.PassThroughVocabulary(T5_SIZE), add_eos=True)
FEATURES = {"inputs": FEATURE, "targets": FEATURE}
SPANS = {
    "inputs_fn": preprocessors.noise_span_to_unique_sentinel,
    "targets_fn": preprocessors.nonnoise_span_to_unique_sentinel,
    "noise_mask_fn": preprocessors.random_spans_noise_mask,
}


def of_seeds(*seeds):
    return [tf.constant(seed, tf.int64) for seed in seeds]


def drawn_seeds(rng, count):
    return rng.integers(-(2**63), 2**63, (count, 2))


def test_masks():
    rng = np.random.default_rng(0)
    failed = 0
    for _ in range(1000):
        length = int(rng.choice([rng.integers(0, 40), rng.integers(0, 1200)]))
        density, mean = rng.uniform(0.02, 0.8), rng.uniform(1, 8)
        seeds = drawn_seeds(rng, 2)
        ours = pretraining.random_spans_noise_mask(length, seeds, density, mean)
        try:
            theirs = preprocessors.random_spans_noise_mask(length, density, of_seeds(*seeds), mean)
        except tf.errors.InvalidArgumentError:
            # more spans than kept tokens: ours has as many as can be
            failed += 1
            kept = length - ours.sum()
            assert np.rint(ours.sum() / mean) > kept == runs(ours)
            continue
        compared.same("masks of span corruption", [ours.tolist()], [theirs.numpy().tolist()])
    assert 0 < failed < 200


def test_examples_of_a_seed():
    rng = np.random.default_rng(1)
    for _ in range(1000):
        ids = rng.integers(3, 32000, rng.integers(1, 600)).astype(np.int32)
        [seed] = drawn_seeds(rng, 1)
        theirs = preprocessors.single_example_denoise(
            {"targets": tf.constant(ids)},
            *of_seeds(seed),
            output_features=FEATURES,
            noise_density=0.15,
            **SPANS,
        )
        inputs, targets = pretraining.denoise(ids, seed, Ids(T5_SIZE))
        ours = [(inputs.tolist(), targets.tolist())]
        expected = [(theirs["inputs"].numpy().tolist(), theirs["targets"].numpy().tolist())]
        compared.same("examples of span corruption", ours, expected)


@pytest.mark.parametrize(("density", "mean"), [(0.15, 3.0), (0.5, 3.0), (0.15, 1.0), (0.3, 8.0)])
def test_lengths(density, mean):
    sizes = range(8, 1100)
    theirs = [preprocessors.random_spans_helper(n, density, mean, 1, 1) for n in sizes]
    ours = [pretraining.span_corruption_lengths(n, density, mean) for n in sizes]
    compared.same("lengths of span corruption", ours, theirs)


def of_t5(preprocessor, file, lengths, seed):
    """What a preprocessor makes of tokenised documents, {"targets": ids} a line."""
    documents = [json.loads(line) for line in file.read_text().splitlines()]
    dataset = tf.data.Dataset.from_generator(
        lambda: documents, output_signature={"targets": tf.TensorSpec([None], tf.int32)}
    )
    with seqio.map_seed_manager(seed):
        rows = preprocessor(dataset, lengths, FEATURES).as_numpy_iterator()
        return [(row["inputs"].tolist(), row["targets"].tolist()) for row in rows]


def check_chain(file, lengths, seed):
    """t5's `span_corruption` from seqio's seed on: every example."""
    expected = of_t5(preprocessors.span_corruption, file, lengths, seed)
    ours = [(a.tolist(), b.tolist()) for a, b in t5s_examples(file, lengths, seed)]
    compared.same("examples of span corruption", ours, expected)
    return expected


def made_up(folder, rng):
    """A file of more documents than t5 joins."""
    documents = [rng.integers(3, 32000, rng.integers(1, 60)).tolist() for _ in range(300)]
    file = folder / "documents.jsonl"
    file.write_text("".join(json.dumps({"targets": ids}) + "\n" for ids in documents))
    return file


def test_the_whole_chain_of_c4(shared):
    file = shared / "data/span_corruption/tokenized_500.jsonl"
    assert len(check_chain(file, {"inputs": 512, "targets": 114}, 7)) > 400


def test_the_whole_chain_of_made_up_documents(tmp_path):
    rng = np.random.default_rng(2)
    for seed in (0, 2**31 - 9):
        file = made_up(tmp_path, rng)
        assert len(check_chain(file, {"inputs": 32, "targets": 16}, seed)) > 100


def test_pieces_of_prefix_lm(tmp_path):
    """t5 joins no documents for it."""
    lengths = {"inputs": 32, "targets": 32}
    file = made_up(tmp_path, np.random.default_rng(3))
    theirs = of_t5(preprocessors.prefix_lm, file, lengths, 0)
    ours = windows(file, objectives.PrefixLM(), lengths, together=1)
    whole = [inputs + targets for inputs, targets in theirs]
    compared.same("pieces of prefix LM", [window.tolist() for window in ours], whole)


@pytest.mark.parametrize("length", [1, 2, 3, 9])
def test_split_points(length):
    """Over many draws t5's prefixes and ours have the same lengths, every one that there can be."""
    document = np.arange(3, 3 + length, dtype=np.int32)
    lengths = {"inputs": 10, "targets": 10}
    dataset = tf.data.Dataset.from_tensors({"targets": document}).repeat(200)
    with seqio.map_seed_manager(0):
        theirs = preprocessors.prefix_lm(dataset, lengths, FEATURES).as_numpy_iterator()
        expected = {len(row["inputs"]) for row in theirs}
    rng = np.random.default_rng(0)
    ours = [pretraining.prefix_lm(document, rng, Ids(T5_SIZE), lengths) for _ in range(200)]
    found = {len(inputs) for inputs, _ in ours}
    compared.same("prefixes' lengths", sorted(found), sorted(expected))
    # one token is all target
    assert found == (set(range(1, length)) or {0})
