"""Training on a mesh of eight devices is training on one: every method, every kind of sharding."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import on_meshes
import pytest
import small


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("meshes")
    script = pathlib.Path(__file__).with_name("on_meshes.py")
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, script, folder], env=os.environ | flags, check=True)
    return folder


@pytest.mark.parametrize(
    ("mesh", "name"),
    [(mesh, name) for mesh, (*_, names) in on_meshes.MESHES.items() for name in names],
)
def test_a_mesh_is_one_device(trained, mesh, name):
    one, found = (np.load(trained / f"{m} {name}.npz") for m in ("one", mesh))
    assert found["losses"].shape == (on_meshes.STEPS,) and sorted(found) == sorted(one)
    small.close(found["losses"][0], one["losses"][0], 1e-6)
    for path in one:
        small.close(found[path], one[path], 1e-4)
