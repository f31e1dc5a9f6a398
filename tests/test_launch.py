"""Flags, gin files and their errors, on a small package with commands of its own.

What a command received is printed by its function as JSON, so that expectations are plain values.
"""

import ast
import itertools
import json
import subprocess
import sys
import textwrap

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prompt_tuning_jax import command_line, launch

_COUNT = itertools.count()
_TRAIN = """
import dataclasses, json
from prompt_tuning_jax import launch
from prompt_tuning_jax.errors import UserError

@dataclasses.dataclass(frozen=True)
class Sgd:
    rate: float = 0.1
    momentum: float | None = None

    def __post_init__(self):
        if self.rate < 0:
            raise UserError("rate must not be negative")

@dataclasses.dataclass(frozen=True)
class Adam:
    rate: float

def constant(value: float = 1.0):
    return value

def train(*, model_dir: str, train_steps: int = 1, optimizer=None, schedule=None, extras=()):
    if model_dir == "interrupt":
        raise KeyboardInterrupt
    if model_dir == "bug":
        train_steps / 0
    if model_dir == "missing":
        open("/no/such/folder/data.tsv")
    print(json.dumps({
        "model_dir": model_dir, "train_steps": train_steps, "optimizer": str(optimizer),
        "schedule": schedule() if schedule else None, "extras": str(extras),
    }))
    with open("config.gin", "w") as file:
        file.write(launch.operative_config())
"""
_DESCRIBE = """
import json

def describe(*, train_steps: int, optimizer=None):
    print(json.dumps({"train_steps": train_steps, "optimizer": str(optimizer)}))
"""
_EVALUATE = """
import json

def evaluate(*, artifact: str, backbone: str | None = None):
    print(json.dumps({"artifact": artifact, "backbone": backbone}))
"""
_GIN = """
from __gin__ import dynamic_registration
from {package} import train

MODEL_DIR = %gin.REQUIRED
TRAIN_STEPS = 100
RATE = 0.5

train.train:
    model_dir = %MODEL_DIR
    train_steps = %TRAIN_STEPS
    optimizer = @train.Sgd()
train.Sgd.rate = %RATE
train.Adam.rate = 0.25
"""


class House:
    """A package with commands, a gin file, and a way to run them in the current folder."""

    def __init__(self, folder, capsys):
        self.folder, self.capsys = folder, capsys
        self.package = f"house{next(_COUNT)}"  # gin never forgets a function: new names each time
        package = folder / self.package
        package.mkdir()
        for name, text in ("train", _TRAIN), ("describe", _DESCRIBE), ("evaluate", _EVALUATE):
            (package / f"{name}.py").write_text(text)
        self.write("base.gin", _GIN)

    def write(self, name, text):
        (self.folder / name).write_text(textwrap.dedent(text).replace("{package}", self.package))

    def run(self, *argv, command="train"):
        status = launch.main(command, argv, package=self.package)
        out, err = self.capsys.readouterr()
        return status, out, err

    def result(self, *argv, command="train"):
        status, out, err = self.run(*argv, command=command)
        assert (status, err) == (0, "")
        return json.loads(out)

    def error(self, *argv, command="train"):
        status, out, err = self.run(*argv, command=command)
        assert (status, out) == (2, "")
        assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
        return err


@pytest.fixture
def house(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return House(tmp_path, capsys)


BASE = "--gin_file=base.gin"
MODEL_DIR = "--gin.MODEL_DIR=/tmp/x"


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
    assert house.result(waiting, command="describe") == {"train_steps": 100, "optimizer": "None"}
    received = house.result(waiting, "--gin.RATE=2.0", command="describe")
    assert received["optimizer"] == "Sgd(rate=2.0, momentum=None)"
    house.error(waiting, "--gin.RATE=-2.0", command="describe")
    assert "train_steps" in house.error(
        waiting, "--gin.TRAIN_STEPS=%gin.REQUIRED", command="describe"
    )


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


# ---- what is refused, each in one line ------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--gin_fil=base.gin"], "unknown flag --gin_fil; did you mean --gin_file?"),
        (["--artifact=x"], "unknown flag --artifact"),
        (["base.gin"], "unexpected argument 'base.gin'"),
        (["--gin_file"], "--gin_file needs a value"),
        (["--gin_file", "--gin.A=1"], "--gin_file needs a value"),
        ([], "train needs --gin_file=PATH"),
        ([BASE, "--gin.MODEL_DIR=a b"], "--gin.MODEL_DIR=a b: not a gin value"),
        ([BASE, "--gin.TRAIN_STEPS=12x"], "--gin.TRAIN_STEPS=12x: not a gin value"),
        ([BASE, "--gin.FLAG=false"], "--gin.FLAG=false: did you mean False?"),
        ([BASE, "--gin.MODEL-DIR=x"], "--gin.MODEL-DIR"),
        ([BASE, "--gin_bindings=MODEL_DIR"], "--gin_bindings"),
    ],
)
def test_bad_flags(house, argv, said):
    assert said in house.error(*argv)


def test_a_missing_file_names_the_places_and_the_nearest_packaged_file(house, tmp_path):
    error = house.error("--gin_search_paths=elsewhere", "--gin_file=nothing/like/it.gin")
    assert "no gin file nothing/like/it.gin in the current folder, elsewhere, " in error
    house.write("second.gin", '\ninclude "sizes/absent.gin"\n')
    assert "second.gin:2: no gin file sizes/absent.gin" in house.error("--gin_file=second.gin")
    assert str(tmp_path) in house.error(f"--gin_file={tmp_path}/absent.gin")


def test_unreadable_files(house):
    (house.folder / "binary.gin").write_bytes(b"A = '\xff\xfe'\n")
    assert "binary.gin: not a text file" in house.error("--gin_file=binary.gin")
    (house.folder / "folder.gin").mkdir()
    assert "no gin file folder.gin" in house.error("--gin_file=folder.gin")
    house.write("loop.gin", 'include "loop.gin"\n')
    assert "loop.gin includes itself" in house.error("--gin_file=loop.gin")


@pytest.mark.parametrize(
    ("line", "number"), [("A = = 1", 3), ("A = [1,", None), ("train.train.x", 3), ("A = 'x", 3)]
)
def test_bad_syntax(house, line, number):
    house.write("bad.gin", f"\n\n{line}\n")
    error = house.error("--gin_file=bad.gin")
    assert f"bad.gin:{number or ''}" in error and "gin syntax" in error


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("from {package} import trian", "no module {package}.trian; did you mean {package}.train?"),
        ("import {package}x.train", "no module {package}x"),
        ("trian.train.seed = 1", "trian is not imported; did you mean train?"),
        ("train.trian.seed = 1", "train has no trian; did you mean train?"),
        ("train.train.optimizer = @train.Sdg()", "train has no Sdg; did you mean Sgd?"),
        (
            "train.train.model_dri = 1",
            "train.train has no parameter model_dri; did you mean model_dir?",
        ),
        ("train.Sgd.zzz = 1", "train.Sgd has no parameter zzz; it has rate, momentum"),
        ("train.json.x = 1", "train.json is no function or class"),
        (
            "train.train.train_steps = %TRAIN_STEP",
            "the macro TRAIN_STEP is not defined; did you mean TRAIN_STEPS?",
        ),
        ("TRAIN_STEP = 10", "nothing reads the macro TRAIN_STEP; did you mean TRAIN_STEPS?"),
        ("A = %B\nB = 1", "nothing reads the macro A"),
        ("train.train.train_steps = 'ten'", "train.train.train_steps must be int, not 'ten'"),
        ("train.train.train_steps = True", "must be int, not True"),
        ("train.Sgd.momentum = [1]", "must be None or float, not [1]"),
        ("TRAIN_STEPS = 1.5", "TRAIN_STEPS (train_steps) must be int, not 1.5"),
        ("train.train.schedule = %gin.REQUIRED", "give --gin.train.train.schedule=…"),
    ],
)
def test_bad_names_and_values_in_a_file(house, line, said):
    lines = ["from __gin__ import dynamic_registration", "from {package} import train"]
    house.write("bad.gin", "\n".join([*lines, 'include "base.gin"', line]))
    error = house.error("--gin_file=bad.gin", MODEL_DIR)
    assert said.replace("{package}", house.package) in error
    assert "bad.gin:4" in error


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("TRAIN_STEP=10", "nothing reads the macro TRAIN_STEP; did you mean TRAIN_STEPS?"),
        ("train.train.train_step=10", "no parameter train_step; did you mean train_steps?"),
        ("train.Adam.rate=1.0", "nothing that runs reads train.Adam.rate"),
        (
            "other/train.train.train_steps=1",
            "nothing that runs reads other/train.train.train_steps",
        ),
        ("tarin.train.train_steps=1", "tarin is not imported; did you mean train?"),
        ("TRAIN_STEPS=%STEPS", "the macro STEPS is not defined"),
        ("TRAIN_STEPS=ten", "TRAIN_STEPS (train_steps) must be int, not 'ten'"),
    ],
)
def test_overrides_that_nothing_reads_or_that_do_not_fit(house, flag, said):
    error = house.error(BASE, MODEL_DIR, f"--gin.{flag}")
    assert error.startswith(f"error: --gin.{flag.partition('=')[0]}: ") and said in error


def test_a_parameter_bound_anew_leaves_its_macro_unread_without_complaint(house):
    house.write(
        "fixed.gin",
        """
        include "base.gin"
        from __gin__ import dynamic_registration
        from {package} import train
        train.train.train_steps = 5
        """,
    )
    assert house.result("--gin_file=fixed.gin", MODEL_DIR)["train_steps"] == 5
    argv = [BASE, MODEL_DIR, "--gin.train.train.train_steps=6"]
    assert house.result(*argv)["train_steps"] == 6
    # but the command line may not set a macro in vain
    error = house.error("--gin_file=fixed.gin", MODEL_DIR, "--gin.TRAIN_STEPS=7")
    assert "--gin.TRAIN_STEPS: nothing that runs reads TRAIN_STEPS" in error


def test_a_macro_of_a_configurable_that_does_not_run(house):
    house.write("adam.gin", _GIN.replace("train.Adam.rate = 0.25", "train.Adam.rate = %ADAM"))
    with (house.folder / "adam.gin").open("a") as file:
        file.write("ADAM = 0.25\n")  # a file may configure alternatives
    assert house.result("--gin_file=adam.gin", MODEL_DIR)["model_dir"] == "/tmp/x"
    error = house.error("--gin_file=adam.gin", MODEL_DIR, "--gin.ADAM=0.5")
    assert "--gin.ADAM: nothing that runs reads ADAM" in error


def test_reachable_through_scopes_lists_and_functions_passed_on(house):
    house.write(
        "scoped.gin",
        """
        from __gin__ import dynamic_registration
        from {package} import train
        RATE = 3.0
        ALL = [@train.Adam(), {"b": @second/train.Adam()}]
        train.train.model_dir = "x"
        train.train.extras = %ALL
        train.train.schedule = @late/train.constant
        train.Adam.rate = %RATE
        second/train.Adam.rate = 4.0
        late/train.constant.value = 5.0
        """,
    )
    scoped = "--gin_file=scoped.gin"
    received = house.result(scoped)
    assert received["extras"] == "[Adam(rate=3.0), {'b': Adam(rate=4.0)}]"
    assert received["schedule"] == 5.0
    argv = [
        "--gin.RATE=6.0",
        "--gin.second/train.Adam.rate=7.0",
        "--gin.late/train.constant.value=8",
    ]
    received = house.result(scoped, *argv)
    assert received["extras"] == "[Adam(rate=6.0), {'b': Adam(rate=7.0)}]"
    assert received["schedule"] == 8
    # A macro's references run in a scope of the macro's name.
    assert "rate=9.0" in house.result(scoped, "--gin.ALL/train.Adam.rate=9.0")["extras"]
    assert "third/" in house.error(scoped, "--gin.third/train.Adam.rate=1.0")


def test_missing_values_are_listed_together(house):
    error = house.error(BASE, "--gin.TRAIN_STEPS=%gin.REQUIRED")
    assert "--gin.MODEL_DIR=…" in error and "--gin.TRAIN_STEPS=…" in error
    house.write("empty.gin", "from __gin__ import dynamic_registration\n")
    assert "--gin.train.train.model_dir=…" in house.error("--gin_file=empty.gin")


def test_a_class_built_without_an_argument_that_it_needs(house):
    house.write(
        "adam.gin",
        """
        from __gin__ import dynamic_registration
        from {package} import train
        train.train.model_dir = "x"
        train.train.optimizer = @train.Adam()
        """,
    )
    assert "give --gin.train.Adam.rate=…" in house.error("--gin_file=adam.gin")


def test_a_file_that_names_functions_without_dynamic_registration(house):
    house.write("plain.gin", "import {package}.train\ntrain.model_dir = 'x'\n")
    assert "plain.gin:2: the file must begin with" in house.error("--gin_file=plain.gin")
    house.write("macros.gin", "TRAIN_STEPS = 11\n")
    received = house.result(BASE, "--gin_file=macros.gin", MODEL_DIR)
    assert received["train_steps"] == 11


# ---- how a command ends --------------------------------------------------------------------


def test_errors_of_the_command(house):
    assert house.error(BASE, MODEL_DIR, "--gin.RATE=-1.0") == "error: rate must not be negative\n"
    error = house.error(BASE, "--gin.MODEL_DIR=missing")
    assert error == "error: No such file or directory: '/no/such/folder/data.tsv'\n"
    status, _, err = house.run(BASE, "--gin.MODEL_DIR=interrupt")
    assert status == 130 and "Traceback" not in err
    with pytest.raises(ZeroDivisionError):
        house.run(BASE, "--gin.MODEL_DIR=bug")


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
