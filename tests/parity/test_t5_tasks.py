"""Our tasks against those of Google's t5 package: texts, what is scored, scores, token ids.

We read official files; t5 reads what TFDS's own builders make of the same files.
"""

import shutil

import made_up
import numpy as np
import pytest
import t5_package
import tfds_folder
from t5.data import postprocessors
from t5.data.mixtures import MixtureRegistry

from prompt_tuning_jax import data, scoring, tasks
from prompt_tuning_jax.vocabulary import Vocabulary

UNKNOWN = {"<unk>", "-1.0"}  # t5's targets of a record without a label
REAL = {
    "super_glue_rte": "RTE",
    "super_glue_cb": "CB",
    "super_glue_boolq": "BoolQ",
    "super_glue_wic": "WiC",
    "super_glue_axb": "AX-b",
    "glue_mrpc": "MRPC",
    "xquad_en": "xquad_en",
}
FEW_SHOT = ("super_glue_rte", "super_glue_cb", "super_glue_boolq", "super_glue_wic")


class Folders:
    """A folder of official files, and TFDS's data folder of the same, made when asked for."""

    def __init__(self, official, data_dir):
        self.official, self.data_dir = official, data_dir
        self._examples = {}

    def examples(self, name, split):
        """Ours and t5's examples of a split; their texts are found equal."""
        if (name, split) not in self._examples:
            self._examples[name, split] = self._compared(name, split)
        return self._examples[name, split]

    def _compared(self, name, split):
        data_set = t5_package.data_set(name)
        if not (self.data_dir / data_set.replace(":", "/")).is_dir():
            tfds_folder.prepare(data_set, self.official, self.data_dir)
        ours = sorted(tasks.get(name).examples(split, str(self.official)), key=place)
        theirs = t5_package.examples(name, split, self.data_dir)
        assert len(ours) == len(theirs)
        for our, their in zip(ours, theirs, strict=True):
            assert our["inputs"] == their["inputs_pretokenized"].decode()
            target = their["targets_pretokenized"].decode()
            if name == "super_glue_wsc" and split == "test":
                assert (our["targets"], our["referent"]) == ("", target)
            elif our["targets"] or target not in UNKNOWN:
                # TFDS has no labels of MRPC's test file
                assert our["targets"] == target or (name, target) == ("glue_mrpc", "<unk>")
        return ours, theirs


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made_up")
    return Folders(made_up.write(folder / "official"), folder / "tfds")


@pytest.fixture(scope="module")
def real(tmp_path_factory, shared):
    """SuperGLUE's files that there are (BoolQ's training file is FewGLUE's), MRPC, XQuAD."""
    folder = tmp_path_factory.mktemp("real")
    official = folder / "official"
    shutil.copytree(shared / "data/superglue", official)
    shutil.copytree(shared / "data/mrpc", official / "MRPC")
    shutil.copytree(shared / "data/xquad_en", official / "xquad_en")
    shutil.copy(shared / "data/fewglue/BoolQ/train.jsonl", official / "BoolQ")
    (official / "MRPC/mrpc_dev_ids.tsv").write_text("702876\t702977\n")  # the first pair
    return Folders(official, folder / "tfds")


@pytest.fixture(scope="module")
def few_shot(tmp_path_factory, shared):
    """FewGLUE, its 32 development examples as the validation split and as the test split."""
    folder = tmp_path_factory.mktemp("few_shot")
    shutil.copytree(shared / "data/fewglue", folder / "official")
    for file in (folder / "official").glob("*/dev32.jsonl"):
        for name in ("val.jsonl", "test.jsonl"):
            shutil.copy(file, file.with_name(name))
    return Folders(folder / "official", folder / "tfds")


@pytest.fixture(scope="module")
def mrpc_tested(tmp_path_factory, shared):
    """MRPC's labelled test file in the place of the training file, whose labels TFDS keeps."""
    folder = tmp_path_factory.mktemp("mrpc")
    shutil.copytree(shared / "data/mrpc", folder / "official/MRPC")
    test = folder / "official/MRPC/msr_paraphrase_test.txt"
    shutil.copy(test, test.with_name("msr_paraphrase_train.txt"))
    test.with_name("mrpc_dev_ids.tsv").write_text("1089874\t1089925\n")
    return Folders(folder / "official", folder / "tfds")


def place(example):
    """Where t5's examples have an example: in the order of its number or name."""
    idx = example.get("id", example["idx"])
    return (*(idx.values() if isinstance(idx, dict) else [idx]), example["targets"])


def said(name, example, rng):
    """A prediction: right, another label, or nonsense."""
    words = [*tasks.get(name).label_words, *example.get("answers", [])]
    right = example["targets"] or "x"
    odd = ["", "the", "Nonsense!", right.upper(), f"the {right}", right[:-1], "3.14", "nan?", "'s"]
    return str(rng.choice([right] * 9 + words + odd))


def check_scores(name, split, folders, tally, seed=0):
    """What metrics compare is equal for predictions and targets, and so are the metrics."""
    ours, theirs = folders.examples(name, split)
    task, reference = tasks.get(name), t5_package.task(name, split)
    rng = np.random.default_rng(seed)
    texts = [said(name, example, rng) for example in ours]
    predictions, targets = [], []
    for text, our, their in zip(texts, ours, theirs, strict=True):
        predicted = reference.postprocess_fn(text, example=their, is_target=False)
        assert task.postprocess(text, our) == predicted
        target = their["targets_pretokenized"].decode()
        wanted = reference.postprocess_fn(target, example=their, is_target=True)
        value = task.target(our) if task.target else task.postprocess(our["targets"], our)
        if name == "super_glue_multirc":
            value = value | {"group": value["group"][1]}
        assert value == wanted
        predictions.append(predicted)
        targets.append(wanted)
    tally("postprocessed predictions and targets", 2 * len(ours))
    expected = {}
    for metric in reference.metric_fns:
        expected |= metric(targets, predictions)
    assert expected
    scores = scoring.score(task, ours, texts)
    assert set(scores) == set(expected)
    difference = max(abs(scores[metric] - expected[metric]) for metric in scores)
    tally("scores (0-100) of tasks", len(scores), difference)
    assert difference < 1e-9
    return scores


MADE_UP = [
    (name, split)
    for name in t5_package.NAMES
    for split in tasks.get(name).source.splits
    if name != "xquad_en" or split == "validation"
]


@pytest.mark.parametrize(("name", "split"), MADE_UP)
def test_made_up_examples(written, tally, name, split):
    ours, _ = written.examples(name, split)
    tally("examples made up by us", len(ours))


@pytest.mark.parametrize("name", [n for n, s in MADE_UP if s == "validation"])
def test_made_up_scores(written, tally, name):
    split = "train" if name.startswith("glue") and name != "glue_mnli_mismatched" else "validation"
    if name == "glue_stsb":
        split = "train"
    for seed in range(5):
        check_scores(name, split, written, tally, seed)


@pytest.mark.parametrize("name", REAL)
def test_real_examples(real, tally, name):
    for split in tasks.get(name).source.splits:
        tally("examples of real data", len(real.examples(name, split)[0]))


@pytest.mark.parametrize("name", FEW_SHOT)
def test_few_shot_examples(few_shot, tally, name):
    for split in ("train", "validation"):
        tally("examples of real data", len(few_shot.examples(name, split)[0]))


def test_labels_of_mrpc_test_file(mrpc_tested, tally):
    ours, theirs = mrpc_tested.examples("glue_mrpc", "train")
    assert len(ours) == 1725
    assert [e["targets"] for e in ours] == [e["targets_pretokenized"].decode() for e in theirs]
    same = tasks.get("glue_mrpc").examples("validation", str(mrpc_tested.official))
    assert same == ours
    tally("examples of real data", len(ours))


@pytest.mark.parametrize("name", [name for name in REAL if name not in ("super_glue_axb",)])
def test_real_scores(real, tally, name):
    check_scores(name, "train" if name == "glue_mrpc" else "validation", real, tally)


@pytest.mark.parametrize("inputs", [512, 64])
@pytest.mark.parametrize("name", FEW_SHOT)
def test_tokens_of_real_examples(real, tally, name, inputs):
    lengths = {"inputs": inputs, "targets": 16}
    real.examples(name, "validation")
    theirs = t5_package.examples(name, "validation", real.data_dir, lengths)
    vocabulary = Vocabulary(t5_package.VOCABULARY)
    ours = data.tokenise(tasks.get(name), "validation", vocabulary, lengths, str(real.official))
    assert len(ours) == len(theirs)
    for index, their in enumerate(theirs):
        for feature, ids in zip(("inputs", "targets"), ours.pair(index, [0]), strict=True):
            np.testing.assert_array_equal(ids, their[feature])
    tally("tokenised inputs and targets", 2 * len(theirs))
    if name == "super_glue_boolq":
        assert (ours.cut["inputs"] > 100) == (inputs == 64)


@pytest.mark.parametrize("name", ["glue_mrpc_from_qqp", "glue_qqp_from_mrpc"])
def test_transfer(tally, name):
    # As google-research/prompt-tuning composes it: words replaced, then t5's postprocess.
    said_word, own_word = ("duplicate", "equivalent")[:: 1 if name == "glue_mrpc_from_qqp" else -1]
    task = tasks.get(name)
    words = (f"not_{own_word}", own_word)
    texts = ["duplicate", "equivalent", "not_duplicate", "not_equivalent", "", "not equivalent"]
    for text in texts:
        expected = postprocessors.string_label_to_class_id(
            text.replace(said_word, own_word), label_classes=words
        )
        assert task.postprocess(text, {}) == expected
    assert task.label_words == (f"not_{said_word}", said_word)
    tally("postprocessed predictions and targets", len(texts))


def test_rates_of_the_mixture():
    rates = MixtureRegistry.get("super_glue_v102_proportional")._task_to_rate
    ours = {task.name: rate for task, rate in tasks.mixture("super_glue_proportional")}
    theirs = {t5_package.NAMES.get(name): rates.get(t5_package.NAMES.get(name)) for name in ours}
    theirs["super_glue_wsc_v102_simple_eval"] = rates["super_glue_wsc_v102_simple_train"]
    assert {t5_package.NAMES[name]: rate for name, rate in ours.items()} == theirs
    # The rest of its examples is another corpus of pronouns.
    assert sum(rates.values()) - sum(ours.values()) == rates["dpr_v001_simple"]
