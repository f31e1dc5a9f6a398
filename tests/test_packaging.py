"""What a wheel carries: every module, tasks, gin files and the built-in backbone; nothing else."""

import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ("prompt_tuning_jax", "tasks", "gin_configs")
METADATA = ("setup.py", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Built from a copy, so that nothing is written into the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "tests").mkdir()
    (source / "tests" / "test_nothing.py").write_text("")
    for name in METADATA:
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "--quiet", "--wheel-dir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def _files(folder: str, pattern: str) -> set[str]:
    """The checkout's files, by the path that they have in the wheel."""
    prefix = "" if folder.startswith("prompt_tuning_jax") else "prompt_tuning_jax/"
    return {
        prefix + path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_is_the_three_folders(wheel):
    wanted = set().union(*(_files(folder, "*.py") for folder in FOLDERS))
    wanted |= _files("gin_configs", "*.gin") | _files("prompt_tuning_jax/builtin", "*")
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == wanted


def test_the_wheel_has_what_a_run_needs_outside_the_checkout(wheel):
    packed = wheel.namelist()
    for name in ("tasks/__init__.py", "gin_configs/__init__.py", "launch.py", "t5.py"):
        assert f"prompt_tuning_jax/{name}" in packed
    for folder in ("models", "sizes", "runs"):
        prefix = f"prompt_tuning_jax/gin_configs/{folder}/"
        assert any(name.startswith(prefix) and name.endswith(".gin") for name in packed)
    assert any(name.startswith("prompt_tuning_jax/builtin/") for name in packed)


def test_the_metadata_names_the_licence_the_pythons_and_the_extras(wheel):
    (path,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = wheel.read(path).decode()
    assert "License-Expression: Apache-2.0" in metadata
    requires = next(line for line in metadata.splitlines() if line.startswith("Requires-Python:"))
    assert set(requires.split(": ")[1].split(",")) == {">=3.11", "<3.14"}
    for extra in ("tpu", "cuda", "test", "parity", "notebooks"):
        assert f"Provides-Extra: {extra}" in metadata


def test_every_constraint_is_one_exact_version():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    names = [pin.split("==")[0].lower() for pin in pins]
    assert all(pin.count("==") == 1 and "+" not in pin and "@" not in pin for pin in pins)
    assert len(set(names)) == len(names)
    for name in ("jax", "flax", "optax", "orbax-checkpoint", "seqio", "tensorflow-text", "pytest"):
        assert name in names
