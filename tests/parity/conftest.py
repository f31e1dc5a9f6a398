"""The parity tests need torch and t5, so `make parity` runs them; offline, on the CPU.

What they compared, and the largest difference that they saw, stands at the end of the run.
"""

import os
from collections.abc import Callable

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"

import compared  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)  # the models are tiny


@pytest.fixture(scope="session")
def tally() -> Callable[[str, int, float], None]:
    """`compared.note`."""
    return compared.note


def pytest_terminal_summary(terminalreporter):
    for kind, (count, largest) in compared.SEEN.items():
        terminalreporter.write_line(f"compared {count} {kind}: largest difference {largest:.3g}")
