"""The versions that the project declares: all that is imported, bounded on both sides, and pinned within the bounds."""

import ast
import json
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions

import pytest
from conftest import ROOT, load_script
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

LOWEST = load_script("scripts/lowest_versions.py")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CODE = ("kadapter", "examples", "scripts")
distributions_of = cache(packages_distributions)  # name to import -> what to install
NOT_IMPORTED = {  # why it is declared all the same
    "sentence-transformers": "a test imports it by name",
    "mypy": "make check",
    "ruff": "make check",
    "pytest-xdist": "make test: -n",
    "torchao": "transformers imports it: quantization_config",
    "bitsandbytes": "transformers imports it: quantization_config",
    "mkdocs-material": "make docs: the theme that mkdocs.yml names",
    "mkdocstrings": "make docs: a plugin that mkdocs.yml names",
    "mkdocstrings-python": "make docs: what that plugin reads Python with",
    "nbclient": "tests import it by name",
    "nbformat": "nbclient runs what it reads",
    "ipykernel": "nbclient starts it",
    "jupyterlab": "people open notebooks in it",
}
NOT_PINNED = {
    "tensorflow": "for one script, which says how to install it",
    "torchao": "transformers imports it wherever it is, which takes seconds; its tests are skipped where it is missing",
    "bitsandbytes": "its kernels take 125 MB; its tests are skipped where it is missing",
    "jupyterlab": "for people alone; nothing here needs it",
}


def requirements(lines):
    """Normalized name -> requirement."""
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


EXTRAS = {extra: requirements(lines) for extra, lines in PROJECT["optional-dependencies"].items()}
DEPENDENCIES = requirements(PROJECT["dependencies"])
ALL = {**DEPENDENCIES, **{name: one for extra in EXTRAS.values() for name, one in extra.items()}}


def source(path):
    """The Python code of a file; of a notebook that of its cells, without the lines for IPython."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    cells = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    return "\n".join(line.rstrip("\n") for cell in cells for line in cell if not line.startswith(("%", "!")))


@cache
def imported(code):
    """(top-level package, whether it is imported only in a function) of each import."""

    def visit(node, lazy):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0], lazy
        for child in ast.iter_child_nodes(node):
            yield from visit(child, lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    return set(visit(ast.parse(code), False))


def distributions(code, own):
    """(normalized distribution, whether only lazily) of what a file imports from other projects.

    own: names of modules of the project's own.
    """
    foreign = {pair for pair in imported(code) if pair[0] not in sys.stdlib_module_names and pair[0] not in own}
    return {
        (canonicalize_name(name), lazy) for module, lazy in foreign for name in distributions_of().get(module, [module])
    }


def undeclared(code, script, own=frozenset({"kadapter"})):
    """Distributions that a file imports without a declaration that reaches it.

    The library works with the dependencies alone, except for functions that need an extra. A script may need an
    extra as a whole.
    """
    extras = {name for extra in EXTRAS if script or extra != "dev" for name in EXTRAS[extra]}
    return {
        name
        for name, lazy in distributions(code, own)
        if name not in DEPENDENCIES and not (name in extras and (lazy or script))
    }


def files(*folders):
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".ipynb")]
    return sorted(path for path in paths if ".ipynb_checkpoints" not in path.parts)


def own_modules(path):
    """Names that need no declaration in a file: the library, files beside it, and what a notebook runs in."""
    runs_in = {"IPython"} if path.suffix == ".ipynb" else set()
    return {"kadapter", *(other.stem for other in path.parent.glob("*.py"))} | runs_in


@pytest.mark.parametrize("folder", CODE)
def test_whatever_is_imported_is_declared(folder):
    found = {path.name: undeclared(source(path), folder != "kadapter", own_modules(path)) for path in files(folder)}
    assert {name: missing for name, missing in found.items() if missing} == {}


@pytest.mark.parametrize(
    ("code", "script", "missing"),
    [
        ("import yaml", True, {"pyyaml"}),
        ("def f():\n    from yaml import safe_load", False, {"pyyaml"}),
        ("import os.path, numpy.linalg\nfrom sklearn import metrics\nfrom kadapter import x", False, set()),
        ("import spacy", False, {"spacy"}),
        ("try:\n    import spacy\nexcept ImportError:\n    pass", False, {"spacy"}),
        ("def f():\n    import spacy", False, set()),
        ("import spacy", True, set()),
        ("def f():\n    import pytest", False, {"pytest"}),
    ],
)
def test_an_import_needs_a_declaration_that_reaches_it(code, script, missing):
    assert undeclared(code, script) == missing


def test_whatever_is_declared_is_imported():
    used = {name for path in files(*CODE, "tests") for name, _ in distributions(source(path), own_modules(path))}
    assert set(ALL) - used == set(NOT_IMPORTED)


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_dependency_has_a_lower_and_an_upper_bound(name):
    assert sorted(bound.operator for bound in ALL[name].specifier) == ["<", ">="]


def test_the_pinned_versions_are_all_that_is_declared_and_within_the_bounds():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = requirements(line for line in lines if line and not line.startswith("#"))
    assert set(ALL) - set(pins) == set(NOT_PINNED)
    assert set(pins) <= set(ALL)
    for name, pin in pins.items():
        (bound,) = pin.specifier
        assert bound.operator == "=="
        assert ALL[name].specifier.contains(bound.version), f"{pin} is outside of {ALL[name]}"


def test_every_python_version_named_is_allowed():
    allowed = SpecifierSet(PROJECT["requires-python"])
    named = [line.rsplit(" ", 1)[1] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert named
    assert all(allowed.contains(version) for version in named)


# -- the lowest versions ----------------------------------------------------------------------------------------


def test_the_lowest_versions_are_the_lower_bounds(capsys):
    LOWEST.main(["sweep", "--override", "torch==2.13.0"])
    pins = requirements(capsys.readouterr().out.split())
    assert set(pins) == {*DEPENDENCIES, *EXTRAS["sweep"]}
    assert str(pins.pop("torch")) == "torch==2.13.0"
    for name, pin in pins.items():
        (version,) = [bound.version for bound in ALL[name].specifier if bound.operator == ">="]
        assert str(pin.specifier) == f"=={version}"


@pytest.mark.parametrize(
    ("arguments", "dependency", "message"),
    [
        (["speed"], "numpy>=1.26", "['speed'] are no extras of pyproject.toml"),
        (["--override", "torch==2.13"], "numpy>=1.26", "'torch==2.13' overrides no dependency; choose among ['numpy']"),
        (["--override", "numpy=1"], "numpy>=1.26", "numpy=1"),
        ([], "numpy<3", "'numpy<3' has no lowest version; give it one bound with >=."),
    ],
)
def test_what_has_no_lowest_version_is_named(tmp_path, monkeypatch, arguments, dependency, message):
    path = tmp_path / "pyproject.toml"
    path.write_text(f'[project]\ndependencies = ["{dependency}"]\n')
    monkeypatch.setattr(LOWEST, "PYPROJECT", path)
    with pytest.raises(SystemExit) as error:
        LOWEST.main(arguments)
    assert str(error.value).startswith("error: ")
    assert message in str(error.value)


# -- platforms --------------------------------------------------------------------------------------------------
