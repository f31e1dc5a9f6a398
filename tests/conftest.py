"""Shared fixtures: where real data lies, and the count of golden tests skipped without it."""

import os
import pathlib
import subprocess
import sys

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


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_users(tmp_path_factory):
    """Nothing is read that an earlier session, or another version, left behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPT_TUNING_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def eight_devices(tmp_path_factory) -> pathlib.Path:
    """A folder of what on_eight_devices.py found in a process of 8 simulated devices."""
    folder = tmp_path_factory.mktemp("eight_devices")
    script = pathlib.Path(__file__).with_name("on_eight_devices.py")
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, script, folder], env=os.environ | flags, check=True)
    return folder


def pytest_terminal_summary(terminalreporter):
    reports = terminalreporter.stats.get("skipped", [])
    count = sum(_NO_SHARED in str(report.longrepr) for report in reports)
    terminalreporter.write_line(f"golden tests skipped for want of shared data: {count}")
