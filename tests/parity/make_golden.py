"""Writes tests/golden/*.npz, what transformers and PEFT compute, for tests/test_golden.py.

    make .venv-parity/installed
    PYTHONPATH=tests .venv-parity/bin/python tests/parity/make_golden.py

Weights and inputs come from golden/weights.py, so only results are stored.
"""

import importlib.metadata
import pathlib

import numpy as np
import reference
import torch
from golden import weights
from transformers.models.t5.modeling_t5 import T5Attention

FOLDER = pathlib.Path(__file__).parents[1] / "golden"


def model_values(config) -> dict[str, np.ndarray]:
    """Logits, loss and generations of the plain model, loss and gradient of a prompt."""
    theta, rows, batch = weights.theta(config), weights.prompt(config), weights.batch(config)
    model = reference.build(config, theta)
    with torch.no_grad():
        plain = model(**reference.tensors(batch))
    prompted, embedding = reference.prompted(config, theta, rows)
    prompted.zero_grad()
    loss = prompted(**reference.tensors(batch)).loss
    loss.backward()
    apart = torch.tensor(rows, requires_grad=True)
    apart_loss = reference.apart(model, apart, weights.batch(config))
    apart_loss.backward()
    many = weights.batch(config, **weights.GENERATED)
    return {
        "logits": plain.logits.numpy(),
        "loss": plain.loss.numpy(),
        "prompt_loss": loss.detach().numpy(),
        "prompt_gradient": embedding.grad.numpy(),
        "apart_loss": apart_loss.detach().numpy(),
        "apart_gradient": apart.grad.numpy(),
        "greedy": reference.generate(model, many, weights.LENGTH),
        "beam": reference.generate(model, many, weights.LENGTH, beams=4, alpha=1.0),
    }


def bucket_values() -> dict[str, np.ndarray]:
    """T5's bucket of every distance from -300 to 300, in both kinds of stack."""
    distance = torch.arange(-300, 301)
    return {
        name: T5Attention._relative_position_bucket(distance, name == "bidirectional").numpy()
        for name in ("bidirectional", "causal")
    }


if __name__ == "__main__":
    packages = ("torch", "transformers", "peft")
    made_by = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    values = {name: model_values(config) for name, config in weights.CONFIGS.items()}
    for name, arrays in (values | {"buckets": bucket_values()}).items():
        small = {
            k: a.astype(np.int16 if a.dtype.kind == "i" else np.float32) for k, a in arrays.items()
        }
        np.savez_compressed(FOLDER / f"{name}.npz", made_by=made_by, **small)
