"""What flags and gin files bring to a command, and how a command ends."""

import ast
import os
import subprocess
import sys

import pytest
from house import BASE, MODEL_DIR, House
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prompt_tuning_jax import command_line


@pytest.fixture
def house(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return House(tmp_path, capsys)


# ---- what reaches the function -------------------------------------------------------------


def test_files_overrides_and_bare_words(house):
    assert house.result(BASE, MODEL_DIR) == {
        "model_dir": "/tmp/x",
        "train_steps": 100,
        "optimizer": "Sgd(rate=0.5, momentum=None)",
        "schedule": None,
        "extras": "()",
    }
    argv = [
        BASE,
        "--gin.MODEL_DIR",
        "runs/a-b_1",
        "--gin.RATE=1e-3",
        "--gin_bindings=TRAIN_STEPS=7",
    ]
    received = house.result(*argv)
    assert received["model_dir"] == "runs/a-b_1"
    assert received["train_steps"] == 7
    assert received["optimizer"] == "Sgd(rate=0.001, momentum=None)"


def test_later_files_and_later_overrides_win(house):
    house.write("second.gin", 'include "base.gin"\nTRAIN_STEPS = 200\n')
    assert house.result("--gin_file=second.gin", MODEL_DIR)["train_steps"] == 200
    assert house.result("--gin_file=second.gin", BASE, MODEL_DIR)["train_steps"] == 100
    steps = ["--gin.TRAIN_STEPS=3", "--gin.TRAIN_STEPS=4"]
    assert house.result("--gin_file=second.gin", MODEL_DIR, *steps)["train_steps"] == 4


def test_overrides_may_bind_parameters_and_reference_what_files_import(house):
    argv = [BASE, MODEL_DIR, "--gin.RATE=0.5", "--gin.train.Sgd.momentum=0.75"]
    assert house.result(*argv)["optimizer"] == "Sgd(rate=0.5, momentum=0.75)"
    house.write(
        "adam.gin",
        """
        from __gin__ import dynamic_registration
        from {package} import train
        OPTIMIZER = @train.Sgd()
        train.train.model_dir = "x"
        train.train.optimizer = %OPTIMIZER
        """,
    )
    argv = ["--gin_file=adam.gin", "--gin.OPTIMIZER=@train.Adam()", "--gin.train.Adam.rate=2.0"]
    assert house.result(*argv)["optimizer"] == "Adam(rate=2.0)"


def test_search_paths_and_the_folder_of_a_given_file(house):
    (house.folder / "elsewhere").mkdir()
    house.write("elsewhere/found.gin", 'include "beside.gin"\nTRAIN_STEPS = 8\n')
    house.write("elsewhere/beside.gin", 'include "base.gin"\n')
    argv = ["--gin_search_paths=nowhere,elsewhere", "--gin_file=found.gin", MODEL_DIR]
    assert house.result(*argv)["train_steps"] == 8
    assert house.result("--gin_file=elsewhere/found.gin", MODEL_DIR)["train_steps"] == 8


def test_a_folder_of_an_include_s_name_is_not_in_its_way(tmp_path):
    """MODEL_DIR=runs/a leaves a folder "runs" where the next command looks for runs/….gin."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "my.gin").write_text('include "runs/infer.gin"\n')
    command = [sys.executable, "-m", "prompt_tuning_jax.infer", "--gin_file=my.gin"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    # the includes were read
    assert done.stderr == "error: give an artifact (--artifact), a backbone (--backbone), or both\n"


def test_plain_flags_set_macros_to_strings(house):
    house.write(
        "evaluate.gin",
        """
        from __gin__ import dynamic_registration
        from {package} import evaluate
        ARTIFACT = %gin.REQUIRED
        INITIAL_CHECKPOINT_PATH = None
        evaluate.evaluate.artifact = %ARTIFACT
        evaluate.evaluate.backbone = %INITIAL_CHECKPOINT_PATH
        """,
    )
    gin_file = "--gin_file=evaluate.gin"
    # 12 and None are paths here, not a number and Python's None.
    argv = [gin_file, "--artifact=12", "--backbone", "None"]
    received = house.result(*argv, command="evaluate")
    assert received == {"artifact": "12", "backbone": "None"}
    assert "--artifact=…" in house.error(gin_file, command="evaluate")
    error = house.error(gin_file, "--artifact=a", "--split=test", command="evaluate")
    assert error.startswith("error: --split: nothing reads the macro SPLIT")


def test_the_operative_config_can_be_run_again(house):
    first = house.result(BASE, MODEL_DIR, "--gin.train.Sgd.momentum=0.75")
    assert house.result("--gin_file=config.gin") == first


def test_describe_leaves_out_what_waits_and_builds_only_what_it_names(house):
    house.write(
        "waiting.gin",
        """
        include "base.gin"
        from __gin__ import dynamic_registration
        from {package} import train
        RATE = %gin.REQUIRED
        train.train.extras = @train.Adam()
        train.Adam.rate = -1.0
        """,
    )
    waiting = "--gin_file=waiting.gin"
    assert house.result(waiting, command="describe") == {"train_steps": "100"}
    received = house.result(waiting, "--gin.RATE=2.0", command="describe")
    assert received == {"train_steps": "100", "optimizer": "Sgd(rate=2.0, momentum=None)"}
    error = house.error(waiting, "--gin.RATE=-2.0", command="describe")
    assert error == "error: rate must not be negative\n"


def test_bound_arguments_follow_scopes_and_macros(house):
    house.write(
        "nested.gin",
        """
        from __gin__ import dynamic_registration
        from {package} import train
        RATE = %gin.REQUIRED
        OPTIMIZER = @ours/train.Adam()
        train.train.optimizer = %OPTIMIZER
        train.train.train_steps = 3
        ours/train.Adam.rate = %RATE
        train.Adam.rate = 1.0
        """,
    )
    nested = "--gin_file=nested.gin"
    assert house.result(nested, command="describe") == {"train_steps": "3"}
    received = house.result(nested, "--gin.RATE=4.0", command="describe")
    assert received["optimizer"] == "Adam(rate=4.0)"


LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=LITERALS | st.text())
def test_python_literals_survive_the_command_line(value):
    (override,) = command_line.parse([f"--gin.X={value!r}"], {}).overrides
    name, text = override.text.split(" = ", 1)
    assert name == "X" and ast.literal_eval(text) == value


# ---- how a command ends --------------------------------------------------------------------


def test_errors_of_the_command(house):
    assert house.error(BASE, MODEL_DIR, "--gin.RATE=-1.0") == "error: rate must not be negative\n"
    error = house.error(BASE, "--gin.MODEL_DIR=missing")
    assert error == "error: No such file or directory: '/no/such/folder/data.tsv'\n"
    status, _, err = house.run(BASE, "--gin.MODEL_DIR=interrupt")
    assert status == 130 and "Traceback" not in err
    with pytest.raises(ZeroDivisionError):
        house.run(BASE, "--gin.MODEL_DIR=bug")


def test_a_reader_that_leaves_ends_the_command_quietly(house):
    reader, writer = os.pipe()
    os.close(reader)
    code = "import sys; from prompt_tuning_jax.launch import main; raise SystemExit("
    code += f"main('train', {[BASE, MODEL_DIR]!r}, package={house.package!r}))"
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_import_that_fails_inside_a_module_keeps_its_traceback(house):
    house.write(f"{house.package}/broken.py", "import not_installed_anywhere\n")
    house.write("broken.gin", 'include "base.gin"\nimport {package}.broken\n')
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        house.run("--gin_file=broken.gin", MODEL_DIR)


def test_help_lists_flags_and_the_names_of_a_file(house):
    status, out, err = house.run("--help", BASE)
    assert (status, err) == (0, "")
    assert "--gin_search_paths" in out
    assert "TRAIN_STEPS = 100" in out and "MODEL_DIR = (must be given)" in out
    _, out, _ = house.run("-h")
    assert "--gin.NAME=VALUE" in out


@pytest.mark.parametrize("argv", [["--help"], ["--gin_file=absent.gin"], ["--unknown=1"]])
def test_flags_and_missing_files_are_answered_before_jax_is_imported(argv):
    code = f"""
import sys
from prompt_tuning_jax.launch import main
main("train", {argv!r})
print(sorted({{"jax", "numpy", "flax", "tensorflow"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
