"""The notebooks of examples/notebooks: they run from top to bottom, and what they carry is what they print."""

import json
import re

import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
MACHINE = re.compile(r"/(home|root|Users|tmp|work|mnt|usr|var|opt)/|[A-Z]:\\\\")


def cells(path, kind):
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def printed(cell):
    """What a cell printed, pictures left out."""
    return "".join(
        "".join(output.get("text", output.get("data", {}).get("text/plain", ""))) for output in cell.get("outputs", [])
    )


def test_there_are_three_of_them():
    assert [path.stem for path in NOTEBOOKS] == ["graph_to_classifier", "probing", "ten_minutes"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_carries_its_outputs_and_nothing_of_the_machine_that_made_them(path):
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert sum(bool(cell["outputs"]) for cell in code) > len(code) / 2
    for cell in code:
        assert not [output for output in cell["outputs"] if output["output_type"] == "error"]
        assert not [output for output in cell["outputs"] if output.get("name") == "stderr"]
        assert not MACHINE.search(printed(cell)), printed(cell)
    assert path.stat().st_size < 400_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_what_it_is_for_and_what_to_change_for_real_models(path):
    texts = ["".join(cell["source"]) for cell in cells(path, "markdown")]
    assert re.match(r"# .+\nAfter running this notebook you can ", texts[0])
    assert "roberta-large" in texts[-1]
    for text in texts:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (path.parent / target).exists(), target


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """One folder for all notebooks, as a person would have it: what one has trained the next one finds."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, output, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient").NotebookClient
    monkeypatch.setenv("OUT", str(output))
    notebook = nbformat.read(path, as_version=4)
    before = [printed(cell) for cell in cells(path, "code")]
    client(notebook, timeout=1800, resources={"metadata": {"path": str(path.parent)}}).execute()
    after = [printed(cell) for cell in notebook.cells if cell.cell_type == "code"]
    assert [bool(text) for text in after] == [bool(text) for text in before]
    told = "\n".join(after)
    if path.stem == "graph_to_classifier":
        assert "helps: +" in told
    elif path.stem == "ten_minutes":
        bare, untrained, fac = (int(share) for share in re.findall(r"(\d+) % of the neighbours", told))
        assert fac > 2 * max(bare, untrained)
        assert "equal states: True" in told
    else:
        before_, after_ = (re.findall(r"(.*) right: (\S+)", text) for text in (after[2], after[4]))
        assert not any(right in shown.split("___ .")[1] for shown, right in before_)
        assert any(right in shown.split("___ .")[1] for shown, right in after_)
