"""transformers' own common tests of models and configurations, run on ours: `make test-transformers`.

The source archive of the installed version of transformers carries them. It is fetched from the package index into a
temporary folder; what the archive lacks and these tests import stands in a few lines here (`STUBS`). `testers.py`
names our classes and, as controls, RoBERTa's own, which show what fails for reasons other than ours.

    python tests/transformers_suite/run.py [arguments of pytest]
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import transformers

HERE = Path(__file__).parent
TAKEN = ("test_modeling_common.py", "test_configuration_common.py")
STUBS = {
    # Tests of exporting and generating are mixed in from files that the archive lacks.
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    # Arguments that every configuration takes, none of them at its default.
    "utils/test_configuration_utils.py": (
        "config_common_kwargs = {'return_dict': False, 'output_hidden_states': True, 'output_attentions': True,\n"
        "    'dtype': 'float16', 'chunk_size_feed_forward': 5, 'problem_type': 'regression',\n"
        "    'id2label': {0: 'no', 1: 'yes', 2: 'both'}, 'label2id': {'no': 0, 'yes': 1, 'both': 2}}\n"
    ),
}


def fetch(folder: Path) -> Path:
    """The archive of the installed version of transformers, downloaded into `folder`."""
    wanted = f"transformers=={transformers.__version__}"
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*download, "--dest", str(folder), wanted], check=True)
    (archive,) = folder.glob("transformers-*.tar.gz")
    return archive


def lay_out(archive: Path, folder: Path) -> None:
    """A package `suite` in `folder`: their two files, the stubs and our testers."""
    suite = folder / "suite"
    with tarfile.open(archive) as opened:
        root = opened.next().name.partition("/")[0]
        for name in TAKEN:
            text = opened.extractfile(f"{root}/tests/{name}").read()
            (suite / name).parent.mkdir(parents=True, exist_ok=True)
            (suite / name).write_bytes(text)
    for name, text in STUBS.items():
        (suite / name).parent.mkdir(parents=True, exist_ok=True)
        (suite / name).write_text(text, encoding="utf-8")
    for place in {suite, *(path.parent for path in suite.rglob("*.py"))}:
        (place / "__init__.py").touch()
    (suite / "test_kadapter.py").write_text((HERE / "testers.py").read_text(encoding="utf-8"), encoding="utf-8")


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        lay_out(fetch(Path(folder)), Path(folder))
        (Path(folder) / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n", encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", f"{folder}/suite/test_kadapter.py", "--rootdir", folder]
        return subprocess.run(
            [*command, "-p", "no:cacheprovider", "-p", "no:warnings", *arguments], cwd=folder, check=False
        ).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
