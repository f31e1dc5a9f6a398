"""Each thing that a command refuses before it runs: one line, exit status 2, the nearest name."""

import pytest
from house import BASE, GIN, MODEL_DIR, House


@pytest.fixture
def house(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return House(tmp_path, capsys)


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
        ([BASE, "--gin.WORD=none"], "mean None? As a text: --gin.WORD='\"none\"'"),
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
    house.write("adam.gin", GIN.replace("train.Adam.rate = 0.25", "train.Adam.rate = %ADAM"))
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
