"""The notebook runs, and what it shows is what it computes."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

NOTEBOOK = ROOT / "scripts" / "create_subdataset-relation-classification.ipynb"


@pytest.mark.slow
def test_the_notebook_prints_what_it_was_saved_with(tmp_path):
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert not any(output["output_type"] == "error" for output in outputs)
    code = "\n".join("".join(cell["source"]) for cell in cells)
    code = code.replace("from IPython.display import Image", "def Image(path, width): return path.stat()")
    assert code.count("../") == 3
    code = code.replace("../", f"{tmp_path}/").replace("\n", "\n    ")
    # Worker processes read a script again, as they do not with a notebook.
    (tmp_path / "notebook.py").write_text(f'if __name__ == "__main__":\n    {code}\n', encoding="utf-8")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "scripts")])
    found = subprocess.run(
        [sys.executable, str(tmp_path / "notebook.py")],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    saved = [line for output in outputs if output["output_type"] == "stream" for line in output["text"]]
    assert found.stdout.splitlines() == "".join(saved).splitlines()
