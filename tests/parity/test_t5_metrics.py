"""Our metrics and answer texts against those of Google's t5 package, on random ones."""

import functools

import numpy as np
import pytest
from t5.data import postprocessors, preprocessors
from t5.evaluation import metrics as theirs
from t5.evaluation import qa_utils

from prompt_tuning_jax.tasks import answers, metrics, qa, similarity, winograd

MATTHEWS = theirs.sklearn_metrics_wrapper(
    "matthews_corrcoef", metric_post_process_fn=lambda value: 100 * value
)
LABELS = {  # ours, t5's, number of labels
    "accuracy": (metrics.accuracy, theirs.accuracy, 3),
    "f1": (metrics.f1, theirs.f1_score_with_invalid, 2),
    "mean_2class_f1": (
        functools.partial(metrics.mean_f1, num_classes=2),
        theirs.mean_multiclass_f1(num_classes=2),
        2,
    ),
    "mean_3class_f1": (
        functools.partial(metrics.mean_f1, num_classes=3),
        theirs.mean_multiclass_f1(num_classes=3),
        3,
    ),
    "matthews of 2": (metrics.matthews_corrcoef, MATTHEWS, 2),
    "matthews of 3": (metrics.matthews_corrcoef, MATTHEWS, 3),
}
ROUNDS = 60
# one of them is nothing: two spaces follow each other
WORDS = "a an the The cat's cat hat. hat, Bob Bob's bunny fuzzy  its your - $3.50 (b) é".split(" ")


def compare(ours, reference, targets, predictions):
    mine, expected = ours(list(targets), list(predictions)), reference(targets, predictions)
    assert set(mine) == set(expected)
    return max(abs(mine[name] - expected[name]) for name in mine)


@pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.UndefinedMetricWarning", "ignore::UserWarning"
)
@pytest.mark.parametrize("name", LABELS)
def test_labels(tally, name):
    ours, reference, labels = LABELS[name]
    rng = np.random.default_rng(0)
    for size in range(1, ROUNDS + 1):
        targets = rng.integers(0, labels, size)
        # -1 is what is no label; the first rounds have one label alone, or none that is valid
        predictions = rng.integers(-1, labels if size > 5 else 0, size)
        difference = compare(ours, reference, targets.tolist(), predictions.tolist())
        assert difference < 1e-9
        tally("scores (0-100) of random predictions", 1, difference)


@pytest.mark.parametrize("name", ["pearson_corrcoef", "spearman_corrcoef"])
def test_correlations(tally, name):
    rng = np.random.default_rng(0)
    for size in range(3, ROUNDS):
        # a few values, so that there are ties, and -1 for what is no number
        targets = rng.integers(0, 26, size) / 5
        predictions = np.where(rng.random(size) < 0.1, -1, rng.integers(0, 26, size) / 5)
        difference = compare(
            getattr(metrics, name), getattr(theirs, name), targets.tolist(), predictions.tolist()
        )
        assert difference < 1e-9
        tally("scores (0-100) of random predictions", 1, difference)


def some_text(rng) -> str:
    return " ".join(rng.choice(WORDS, rng.integers(0, 5)))


def test_squad(tally):
    rng = np.random.default_rng(0)
    for _ in range(ROUNDS):
        targets = [[some_text(rng) for _ in range(rng.integers(1, 4))] for _ in range(20)]
        predictions = [some_text(rng) for _ in range(20)]
        difference = compare(answers.squad, theirs.squad, targets, predictions)
        assert difference < 1e-9
        tally("scores (0-100) of random predictions", 1, difference)


def test_texts_of_answers(tally):
    rng = np.random.default_rng(0)
    characters = [chr(code) for code in (*range(1, 128), 0x85, 0xA0, 0xE9, 0x2019, 0x2028, 0x1F642)]
    texts = [some_text(rng) for _ in range(200)]
    texts += ["".join(rng.choice(characters, 40)) for _ in range(300)]
    padded = preprocessors._pad_punctuation(np.array(texts, object)).numpy()
    for text, reference in zip(texts, padded, strict=True):
        assert qa.padded(text) == reference.decode()
        assert answers.normalised(text) == qa_utils.normalize_squad(text)
    tally("texts of questions and answers", 2 * len(texts))


def test_names_of_referents(tally):
    rng = np.random.default_rng(0)
    found = set()
    for _ in range(4000):
        text, referent = some_text(rng), some_text(rng)
        expected = postprocessors.wsc_simple(text, example={"targets_pretokenized": referent})
        found.add(expected)
        assert winograd.names_referent(text, {"referent": referent}) == expected
    assert found == {-1, 0, 1}
    tally("predictions of a referent", 4000)


def test_numbers_out_of_texts(tally):
    texts = ["3.4", " 3.4 ", "-1", "0", "5.0", "three", "", "1e2", "1_0", "3,4", "3.4.", "+2"]
    for text in texts:
        assert similarity.number(text, {}) == postprocessors.string_to_float(text)
    tally("postprocessed predictions and targets", len(texts))
