"""Every notebook runs from its first cell to its last."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path):
    notebook = NotebookClient(nbformat.read(path, as_version=4), timeout=300).execute()
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    assert any("image/png" in out.get("data", {}) for out in outputs), "no picture was drawn"
    # twenty rows, each with its five nearest pieces and their cosines
    listed = outputs[-1]["text"].splitlines()
    assert len(listed) == 20
    cosines = [[float(word) for word in line.split()[2::2]] for line in listed]
    assert all(len(row) == 5 and row == sorted(row, reverse=True) for row in cosines)
