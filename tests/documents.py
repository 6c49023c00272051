"""The documentation as programs: its code blocks, and the shell's blocks as the calls that they make."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT, load_script

DOCUMENTS = [ROOT / "README.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PLACEHOLDER = "…"  # stands for what the reader fills in
# Programs that a documented command may call beside our own, which the tests do not start.
OTHERS = ("accelerate", "cd", "cp", "dask", "git", "jupyter", "mkdocs", "sbatch", "srun", "unzip")
SHELL = ("bash", "basename", "cat", "dirname", "env", "head", "ls", "mkdir", "realpath")  # what run scripts call
RECORD = f"""#!{sys.executable} -S
import json, os, sys
name = os.path.basename(sys.argv[0])
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
"""
# A run script that starts many programs, one after the other, whose results the next ones read, is not followed.
BASH = """#!/bin/sh
case "$1" in
    run_own_knowledge_example.sh) exec bash-recorded "$@" ;;
    *) exec /bin/bash "$@" ;;
esac
"""


@dataclass(frozen=True)
class Block:
    """One code block of a document."""

    document: Path
    language: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(language: str) -> list[Block]:
    """The blocks of one language in all documents, in order."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            found.append(Block(document, match[1], match[2], text.count("\n", 0, match.start()) + 2))
    return [block for block in found if block.language == language]


def calls(block: Block, folder: Path) -> list[list[str]]:
    """What a block of the shell starts, as the programs' names and arguments; nothing of it is really started.

    The block is run by bash itself, with variables and loops, in the project's folder. Programs are replaced by one
    that only writes down how it was called; a program that is not known here is an error.
    """
    programs = folder / "programs"
    programs.mkdir()
    for name in ("python", "python3", "pip", "make", "bash-recorded", *OTHERS):
        (programs / name).write_text(RECORD)
        (programs / name).chmod(0o755)
    for name in SHELL[1:]:
        (programs / name).symlink_to(str(shutil.which(name)))
    (programs / "bash").write_text(BASH)
    (programs / "bash").chmod(0o755)
    text = "source() { :; }\ncd() { :; }\n" + re.sub(r"(?<![\w/])\.venv/bin/", "", block.text)
    record = folder / "calls"
    record.touch()
    environment = {"PATH": str(programs), "PYTHON": str(programs / "python"), "CALLS": str(record), "HOME": str(folder)}
    done = subprocess.run(
        ["/bin/bash", "-eu", "-c", text], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"{block}: {done.stderr}"
    return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]


class Parsed(Exception):
    """Ends a program as soon as its command line is read."""


def parse(path: str, arguments: list[str], monkeypatch) -> None:
    """Read a command line with the program's own parser, recipes' checks across flags included.

    Raises:
        AssertionError: it is refused, with the program's own words.
    """
    module = load_script(path)
    assert "main" in vars(module), f"{path} is no program"

    def then_stop(real):
        def call(*args, **options):
            raise Parsed(real(*args, **options))

        return call

    monkeypatch.chdir(ROOT)
    with monkeypatch.context() as patch:
        if hasattr(module, "parse_recipe"):
            patch.setattr(module, "parse_recipe", then_stop(module.parse_recipe))
        else:
            from kadapter.console import Parser

            patch.setattr(Parser, "parse_args", then_stop(Parser.parse_args))
        try:
            module.main(
                [
                    text
                    for before, text in zip(["", *arguments], arguments, strict=False)
                    if text != PLACEHOLDER or (before.startswith("--") and "=" not in before)
                ]
            )
        except Parsed:
            return
        except SystemExit as error:
            raise AssertionError(f"{path} refuses its flags (exit code {error.code})") from error
    raise AssertionError(f"{path} reads no flags")


def program_of(call: list[str]) -> tuple[str, list[str]] | None:
    """Our program that a call starts, directly or through torchrun, as path and arguments; None for another one."""
    for i, text in enumerate(call):
        path = Path(os.path.normpath(ROOT / text))
        if text.endswith(".py") and path.parent in (ROOT / "examples", ROOT / "scripts"):
            return str(path.relative_to(ROOT)), call[i + 1 :]
    return None
