"""The tasks' metrics against values worked out by hand."""

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompt_tuning_jax.tasks import answers, groups, metrics

# true 0 0 0 1 1 2, predicted 0 0 1 1 -1 0: label 0 has F1 2*2/(3+3), 1 has 2*1/(2+2), 2 has 0.
TARGETS, PREDICTIONS = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, -1, 0]


def test_labels():
    mean_f1 = functools.partial(metrics.mean_f1, num_classes=3)
    assert metrics.accuracy(TARGETS, PREDICTIONS) == {"accuracy": 50.0}
    assert mean_f1(TARGETS, PREDICTIONS) == {
        "mean_3class_f1": pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)
    }
    assert mean_f1([0, 0], [-1, -1]) == {"mean_3class_f1": 0.0}
    assert metrics.exact_match(["a b", "c"], ["a b", "c "]) == {"exact_match": 50.0}


def test_f1_counts_an_invalid_prediction_as_wrong():
    # As predicted 1 1 0 0 1: two right of three predicted, two of three true.
    assert metrics.f1([1, 1, 1, 0, 0], [1, 1, -1, 0, 5]) == {"f1": pytest.approx(200 / 3)}
    assert metrics.f1([0, 0], [0, 0]) == {"f1": 0.0}


@pytest.mark.parametrize(
    ("targets", "predictions", "value"),
    [
        # two labels: (2*2 - 1*1) / sqrt(3*3*3*3) with 2 true positives and negatives, 1 false each
        ([1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 1], 100 / 3),
        ([1, 0], [0, 1], -100),
        ([1, 0, 1, 0], [1, 1, 1, 1], 0),
        # three labels: (2*3 - 1*1 - 1*1 - 1*1) / (9 - 3)
        ([0, 1, 2], [0, 1, 2], 100),
        ([0, 1, 2], [1, 2, 0], -50),
        # an invalid prediction is one more label: (2*3 - 2) / sqrt((9 - 5) * (9 - 3))
        ([0, 0, 1], [0, -1, 1], 100 * (2 * 3 - 2 * 1 - 1 * 1) / 24**0.5),
    ],
)
def test_matthews(targets, predictions, value):
    result = metrics.matthews_corrcoef(targets, predictions)
    assert result == {"matthews_corrcoef": pytest.approx(value)}


def test_correlations():
    assert metrics.pearson_corrcoef([1, 2, 3], [2, 4, 6]) == {
        "pearson_corrcoef": pytest.approx(100)
    }
    # deviations -1 0 1 and -1 1 0: 1 / sqrt(2 * 2)
    assert metrics.pearson_corrcoef([1, 2, 3], [1, 3, 2]) == {"pearson_corrcoef": pytest.approx(50)}
    # a tie has the mean of its ranks: 1 2.5 2.5 4 against 1 2 3 4, 4.5 / sqrt(4.5 * 5)
    assert metrics.spearman_corrcoef([0.1, 3, 3, 9], [1, 2, 3, 4]) == {
        "spearman_corrcoef": pytest.approx(100 * 4.5 / (4.5 * 5) ** 0.5)
    }
    # no number in T5 where one side is constant
    assert metrics.pearson_corrcoef([1, 2], [-1, -1]) == {"pearson_corrcoef": 0.0}
    assert metrics.spearman_corrcoef([1, 2], [-1, -1]) == {"spearman_corrcoef": 0.0}


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2))
def test_ranks_alone_count_for_spearman(pairs):
    targets, predictions = map(list, zip(*pairs, strict=True))
    moved = [target**3 + 1 for target in targets]
    assert metrics.spearman_corrcoef(moved, predictions) == metrics.spearman_corrcoef(
        targets, predictions
    )


def grouped(*pairs):
    return [{"value": value, "group": group} for value, group in pairs]


def valued(*values):
    return [{"value": value} for value in values]


def test_groups():
    targets = grouped((1, "a"), (0, "a"), (1, "b"), (1, "c"))
    predictions = valued(1, 0, 1, 0)
    assert groups.group_exact_match(targets, predictions) == {"exact_match": pytest.approx(200 / 3)}
    assert groups.of_values(metrics.accuracy)(targets, predictions) == {"accuracy": 75.0}
    # the first of each group: right, right, wrong
    assert groups.of_first(metrics.accuracy)(targets, predictions) == {
        "accuracy": pytest.approx(200 / 3)
    }


def test_gender_parity():
    targets = grouped((0, 1), (0, 1), (1, 2), (0, 2), (0, 3), (0, 3), (0, 4))
    predictions = valued(1, 1, 1, 0, -1, -1, 0)
    assert groups.gender_parity(targets, predictions) == {"gender_parity": pytest.approx(100 / 3)}
    assert groups.gender_parity(grouped((0, 1)), valued(0)) == {"gender_parity": 0.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  cat's hat.", "cats hat"),
        ("An apple, a pear", "apple pear"),
        ("a.b", "ab"),
        ("theatre", "theatre"),
        ("«Ghent» — a city", "«ghent» — city"),
        ("the", ""),
    ],
)
def test_normalised_answers(text, expected):
    assert answers.normalised(text) == expected


def test_squad():
    # "cat sat" and "big cat": one common word of two each
    targets = [["The cat sat.", "dog"], ["x"], ["a b c d", "b c"]]
    predictions = ["big cat", "X!", "b"]
    assert answers.squad(targets, predictions) == {
        "em": pytest.approx(100 / 3),
        "f1": pytest.approx(100 * (1 / 2 + 1 + 2 / 3) / 3),
    }
    # two empty answers are equal and share no word
    assert answers.squad([["the"]], ["a"]) == {"em": 100.0, "f1": 0.0}


def test_words_are_counted_as_often_as_they_are_there():
    assert answers.squad([["no no no"]], ["no no"]) == {"em": 0.0, "f1": pytest.approx(80)}
