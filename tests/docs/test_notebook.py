"""docs/tutorial.ipynb: short cells, outputs that a reader sees on a code host, and it runs from nothing.

Its outputs are made anew by `jupyter execute --inplace docs/tutorial.ipynb`.
"""

import json
import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tutorial.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]


def text_of(cells):
    """All that the cells printed."""
    return "".join(line for cell in cells for output in cell["outputs"] for line in output.get("text", ()))


def test_the_notebook_keeps_its_outputs_and_is_small():
    pictures = [output for cell in CODE for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert len(pictures) == 3 and NOTEBOOK.stat().st_size < 300_000
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    assert not any(output["output_type"] == "error" for cell in CODE for output in cell["outputs"])
    assert "/tmp/" not in NOTEBOOK.read_text() and "/home/" not in NOTEBOOK.read_text()


def test_cells_are_short():
    assert max(len(cell["source"]) for cell in CODE) <= 24
    assert all(len(line.rstrip("\n")) <= 120 for cell in CODE for line in cell["source"])


def claims(printed):
    """Difference of exact step and CVODES [K], and per cent of the steps that are integrated as used and without."""
    difference = float(re.search(r"largest difference of T: ([\d.]+) K", printed)[1])
    used, alone = re.search(r"integrated: (\d+)% of the steps as it is used, (\d+)% with", printed).groups()
    return difference, int(used), int(alone)


@pytest.mark.slow
def test_the_notebook_runs_from_nothing(tmp_path):
    """Two minutes."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources).execute()
    printed = text_of(cell for cell in notebook.cells if cell.cell_type == "code")
    for difference, used, alone in (claims(printed), claims(text_of(CODE))):
        assert difference < 0.1 and used > 50 > alone
    assert "finished: 30 steps" in printed and (tmp_path / "runs/tutorial/flame/manifest.json").is_file()
