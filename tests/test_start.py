"""A second start: what was compiled is loaded, and nothing is different for it."""

import json

import jax
import pytest
import tiny_run

from prompt_tuning_jax import cache

# Runs a command, then prints how many programs it compiled and how many it found.
_COUNTED = """
import collections, json, sys
import jax.monitoring
from prompt_tuning_jax.launch import main

events = collections.Counter()
jax.monitoring.register_event_listener(lambda name, **_: events.update([name]))
assert main("train", sys.argv[1:]) == 0
place = "/jax/compilation_cache/"
counts = [events[place + name] for name in ("compile_requests_use_cache", "cache_hits")]
print(json.dumps(counts))
"""


@pytest.fixture
def place():
    """JAX's setting of where compiled programs lie; None within, as it was after."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update(names[0], None)
    yield lambda: jax.config.jax_compilation_cache_dir
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_warm_start_compiles_nothing_and_ends_in_the_same_bits(tmp_path):
    job = tiny_run.Job(tmp_path)
    ends, counts = [], []
    for name in ("cold", "warm"):
        flags = [*tiny_run.training(), "--gin.TRAIN_STEPS=4", f"--gin.MODEL_DIR={name}"]
        env = {"JAX_COMPILATION_CACHE_DIR": "", "PROMPT_TUNING_CACHE": str(tmp_path / "cache")}
        done = job.python("-c", _COUNTED, *flags, **env)
        assert done.returncode == 0, done.stderr
        counts.append(json.loads(done.stdout.splitlines()[-1]))
        artifact = (tmp_path / name / "artifact" / "tuned.safetensors").read_bytes()
        ends.append((tiny_run.metrics(tmp_path / name), artifact))
    (asked, found), warm = counts
    assert asked > found and warm[0] == warm[1] > 0
    assert any((tmp_path / "cache" / "compiled").iterdir())
    assert ends[0] == ends[1]


def test_where_compiled_programs_are_kept(place, monkeypatch, tmp_path):
    monkeypatch.setenv("PROMPT_TUNING_CACHE", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", "/the/users/own")
    cache.keep_compiled()
    assert place() == "/the/users/own"
    jax.config.update("jax_compilation_cache_dir", None)
    cache.keep_compiled()
    assert place() == str(tmp_path / "compiled") and (tmp_path / "compiled").is_dir()


def test_a_folder_that_cannot_be_written_costs_a_line(place, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PROMPT_TUNING_CACHE", str(tmp_path / "file"))
    cache.keep_compiled()
    assert place() is None
    assert [r.getMessage()[:30] for r in caplog.records] == ["compiled programs are not kept"]
