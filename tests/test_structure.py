"""Who may import whom: the library's layers stay what they are."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

import kadapter

LIBRARY = ROOT / "kadapter"
MODELS = {"adapter", "fusion", "heads", "modeling", "original", "parts", "task_model"}


def imports(path):
    """Modules of kadapter that a file imports, without the package's name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "kadapter" else [node.module]
            )
            found |= {name.removeprefix("kadapter.") for name in names if name.startswith("kadapter.")}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def of(name):
    return imports(LIBRARY / f"{name}.py")


def ours(names):
    modules = {".".join(path.relative_to(LIBRARY).with_suffix("").parts) for path in LIBRARY.rglob("*.py")}
    return names & modules


def test_configuration_stands_on_nothing_of_ours_and_adapters_on_it_alone():
    assert not ours(of("configuration"))
    assert ours(of("adapter")) == ours(of("bottleneck")) == {"configuration"}
    assert ours(of("heads")) == {"configuration"}


@pytest.mark.parametrize("path", sorted((LIBRARY / "data").glob("*.py")), ids=lambda path: path.stem)
def test_data_imports_no_model(path):
    allowed = {"configuration", *(f"data.{other.stem}" for other in (LIBRARY / "data").glob("*.py"))}
    assert ours(imports(path)) <= allowed


def test_metrics_import_no_model_and_the_loop_knows_no_task_head_or_metric():
    assert ours(of("metrics")) <= {"configuration"}
    assert not of("training") & (MODELS | {"metrics", "task", "recipe", "fitting", "reports"})
    assert not of("batches") & MODELS


def test_nothing_of_the_library_imports_examples_or_scripts():
    for path in LIBRARY.rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & {"examples", "scripts"}, path


def test_no_recipe_imports_another():
    recipes = {path.stem for path in (ROOT / "examples").glob("*.py")}
    for path in (ROOT / "examples").glob("*.py"):
        assert not imports(path) & recipes


def test_preparing_data_does_not_wait_for_torch():
    script = """
import sys, kadapter.data.trex, kadapter.data.conllu, kadapter.data.subset
assert "torch" not in sys.modules and "KAdapterModel" in dir(kadapter)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_public_name_is_found():
    for name in kadapter.__all__:
        assert getattr(kadapter, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Adapter'"):
        _ = kadapter.Adapter
