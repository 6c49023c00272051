"""Who may import whom: floors, and imports only run down (docs/development.md)."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest
from conftest import ROOT

import kadapter

LIBRARY = ROOT / "kadapter"
# Floor by floor from the ground: what stands on one floor does not know its neighbour there.
FLOORS = (
    ("fields", "system", "auto"),
    ("shapes",),
    ("configuration", "console"),
    ("storage",),
    ("pictures",),
    ("models", "data"),
    ("training",),
    ("tasks",),
    ("inference", "probing"),
)
HEIGHT = {package: height for height, floor in enumerate(FLOORS) for package in floor}
MODULES = sorted(path for path in LIBRARY.rglob("*.py") if path.parent != LIBRARY or path.stem != "__init__")


def imports(path):
    """Full names of what a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def package(name):
    """Of "kadapter.models.heads.HEADS" the floor's part, "models"."""
    return name.split(".")[1]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(path.relative_to(LIBRARY).with_suffix("").parts))
def test_imports_only_run_down(path):
    own = path.relative_to(LIBRARY).with_suffix("").parts[0]
    below = {name for name, height in HEIGHT.items() if height < HEIGHT[own]}
    theirs = {package(name) for name in imports(path) if name.startswith("kadapter.")}
    assert theirs <= below | {own}


def test_every_part_of_the_library_has_its_floor():
    assert {path.relative_to(LIBRARY).with_suffix("").parts[0] for path in MODULES} <= HEIGHT.keys()
    assert not [name for path in MODULES for name in imports(path) if name.split(".")[0] in ("examples", "scripts")]


@pytest.mark.parametrize("folder", ["kadapter", "scripts"])
def test_no_file_imports_what_imports_it(folder):
    begin = ROOT if folder == "kadapter" else ROOT / folder
    files = {".".join(path.relative_to(begin).with_suffix("").parts): path for path in (ROOT / folder).rglob("*.py")}
    below = {
        name: {module for found in imports(path) for module in (found, found.rpartition(".")[0]) if module in files}
        for name, path in files.items()
    }
    assert any(below.values())
    TopologicalSorter(below).prepare()  # raises CycleError


def test_no_recipe_imports_another():
    recipes = {path.stem for path in (ROOT / "examples").glob("*.py")}
    for path in (ROOT / "examples").glob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & recipes


# Scripts that only prepare data; what converts models is no such.
OF_MODELS = ("convert_checkpoint", "convert_tf_bert")
OF_DATA = sorted(
    path.stem
    for pattern in (
        "clean_*",
        "convert_*",
        "create_*",
        "demo_*",
        "make_demo_data",
        "make_own*",
        "verbalize_*",
        "check_*",
    )
    for path in (ROOT / "scripts").glob(f"{pattern}.py")
    if path.stem not in OF_MODELS
)
WITHOUT_TORCH = """
import runpy, sys
from pathlib import Path

HEAVY = {"torch", "transformers", "datasets", "pandas", "sklearn", "matplotlib"}
scripts, folder = Path(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(scripts))

def start(name, *argv):
    sys.argv = [name, *map(str, argv)]
    try:
        runpy.run_path(str(scripts / f"{name}.py"), run_name="__main__")
    except SystemExit as end:
        assert not end.code, (name, end.code)
    assert not HEAVY & sys.modules.keys(), (name, HEAVY & sys.modules.keys())

for name in sys.argv[3:]:
    start(name, "--help")
start("make_demo_data", "--output_dir", folder)
start("check_data", "tacred", folder / "TACRED")
start("check_data", "openentity", folder / "OpenEntity")
import kadapter
assert "KAdapterModel" in dir(kadapter)
"""


def test_preparing_data_does_not_wait_for_torch(tmp_path):
    assert len(OF_DATA) > 15
    command = [sys.executable, "-c", WITHOUT_TORCH, str(ROOT / "scripts"), str(tmp_path / "demo"), *OF_DATA]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def test_every_public_name_is_found():
    for name in kadapter.__all__:
        assert getattr(kadapter, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Adapter'"):
        _ = kadapter.Adapter
