"""Our tasks' texts and scores against those of Google's t5 package, in golden/t5_tasks.json.

Made anew by `PYTHONPATH=tests .venv-parity/bin/python tests/parity/make_t5_golden.py`; `make
parity` compares much more, but needs t5.
"""

import json
import pathlib

import made_up
import pytest

from prompt_tuning_jax import scoring, tasks

GOLDEN = json.loads(
    pathlib.Path(__file__).with_name("golden").joinpath("t5_tasks.json").read_text()
)
# t5's targets where a test split has no label; ours are "".
UNKNOWN = {"<unk>", "-1.0"}


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return str(made_up.write(tmp_path_factory.mktemp("official")))


@pytest.mark.parametrize("name", GOLDEN["examples"])
def test_examples(official, name):
    for split, expected in GOLDEN["examples"][name].items():
        examples = tasks.get(name).examples(split, official)
        assert [example["inputs"] for example in examples] == [inputs for inputs, _ in expected]
        for example, (_, target) in zip(examples, expected, strict=True):
            if name == "super_glue_wsc" and split == "test":
                assert (example["targets"], example["referent"]) == ("", target)
            elif target not in UNKNOWN:
                assert example["targets"] == target
            else:
                # TFDS drops the labels of MRPC's test file, which here is the validation split.
                assert example["targets"] == "" or name == "glue_mrpc"


@pytest.mark.parametrize("name", GOLDEN["scores"])
def test_scores(official, name):
    expected = GOLDEN["scores"][name]
    task = tasks.get(name)
    examples = task.examples(expected["split"], official)
    examples *= len(expected["texts"]) // len(examples)
    pairs = zip(expected["texts"], examples, strict=True)
    assert [task.postprocess(text, example) for text, example in pairs] == expected["predictions"]
    scores = scoring.score(task, examples, expected["texts"])
    assert scores == pytest.approx(expected["metrics"], abs=1e-9)
    assert set(task.selection) <= scores.keys()
