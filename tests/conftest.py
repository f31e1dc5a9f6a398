"""Shared fixtures: where real data lies, and the count of golden tests skipped without it."""

import os
import pathlib

import pytest

SHARED = pathlib.Path(
    os.environ.get("PROMPT_TUNING_SHARED", pathlib.Path(__file__).parents[2] / "shared")
)
_NO_SHARED = "real data absent: set PROMPT_TUNING_SHARED or put shared/ beside the checkout"


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder that holds `data/` with files that are not ours; skips where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(_NO_SHARED)
    return SHARED


def pytest_terminal_summary(terminalreporter):
    reports = terminalreporter.stats.get("skipped", [])
    count = sum(_NO_SHARED in str(report.longrepr) for report in reports)
    terminalreporter.write_line(f"golden tests skipped for want of shared data: {count}")
