"""Writes tests/golden/t5_tasks.json, what t5 makes of made-up data, for tests/test_t5_golden.py.

make .venv-parity/installed
PYTHONPATH=tests .venv-parity/bin/python tests/parity/make_t5_golden.py
"""

import importlib.metadata
import json
import pathlib
import tempfile

import made_up
import numpy as np
import t5_package
import tfds_folder

from prompt_tuning_jax import tasks

FILE = pathlib.Path(__file__).parents[1] / "golden/t5_tasks.json"
ROUNDS = 4
NONSENSE = ["", "the", "Nonsense!", "the same", "3.14"]


def scored(name: str, split: str, examples: list[dict]) -> dict:
    """Predictions for `ROUNDS` copies of the examples, what t5 compares of them, its metrics."""
    reference = t5_package.task(name, split)
    rng = np.random.default_rng(0)
    examples = ROUNDS * examples
    right = [example["targets_pretokenized"].decode() for example in examples]
    texts = [str(rng.choice([text] * len(right) + right + NONSENSE)) for text in right]
    pairs = list(zip(texts, right, examples, strict=True))
    predictions = [reference.postprocess_fn(t, example=e, is_target=False) for t, _, e in pairs]
    targets = [reference.postprocess_fn(t, example=e, is_target=True) for _, t, e in pairs]
    values: dict[str, float] = {}
    for metric in reference.metric_fns:
        values |= {key: float(value) for key, value in metric(targets, predictions).items()}
    return {"texts": texts, "predictions": predictions, "metrics": values}


if __name__ == "__main__":
    packages = ("t5", "seqio", "tensorflow-datasets", "scikit-learn", "scipy")
    made_by = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    golden: dict = {"made_by": made_by, "examples": {}, "scores": {}}
    with tempfile.TemporaryDirectory() as folder:
        official = made_up.write(pathlib.Path(folder, "official"))
        data_dir = pathlib.Path(folder, "tfds")
        for name in t5_package.NAMES:
            tfds_folder.prepare(t5_package.data_set(name), official, data_dir)
            splits = tasks.get(name).source.splits
            for split in splits:
                examples = t5_package.examples(name, split, data_dir)
                texts = [
                    [
                        example[f"{feature}_pretokenized"].decode()
                        for feature in ("inputs", "targets")
                    ]
                    for example in examples
                ]
                golden["examples"].setdefault(name, {})[split] = texts
            # t5 scores WSC's validation split alone
            split = splits[0] if name != "super_glue_wsc" else "validation"
            if t5_package.task(name, split).metric_fns:
                examples = t5_package.examples(name, split, data_dir)
                golden["scores"][name] = {"split": split} | scored(name, split, examples)
    FILE.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
