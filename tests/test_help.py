"""--help and --help_all of every program: short, complete, in groups, the program's own flags first."""

import argparse
import re
import subprocess
from dataclasses import fields

import pytest
from conftest import EXAMPLES, ROOT, SCRIPTS, parser_of

from kadapter.console import Number, Parser, absolute
from kadapter.training.arguments import DataArguments, TrainingArguments
from kadapter.training.model_arguments import PretrainingArguments, TaskArguments
from kadapter.training.sections import SECTIONS

RECIPES = [path for path in EXAMPLES if "parse_recipe(" in (ROOT / path).read_text(encoding="utf-8")]
SHARED = {f.name for g in (TaskArguments, PretrainingArguments, DataArguments, TrainingArguments) for f in fields(g)}


def shown(parser, everything, width, monkeypatch):
    """The lines of help in a window of that width."""
    monkeypatch.setenv("COLUMNS", str(width))
    return parser.format_help(everything=everything).splitlines()


def flags(parser):
    """The flags that a program has; those of the original that do nothing are not shown to anybody."""
    return [a for a in parser._actions if a.option_strings and a.help != argparse.SUPPRESS]


def headings(lines):
    """Heading -> the flags below it."""
    found, below = {}, None
    for line in lines:
        if re.fullmatch(r"\S.*:", line):
            below = found.setdefault(line[:-1], [])
        elif below is not None and (name := re.match(r"  (?:-h, )?--(\w+)", line)):
            below.append(name[1])
    return found


@pytest.mark.parametrize("path", [*EXAMPLES, *SCRIPTS])
def test_help_fits_on_two_screens_and_explains_every_flag(path, monkeypatch):
    parser = parser_of(path, monkeypatch)
    for width in (80, 100):
        assert len(shown(parser, False, width, monkeypatch)) <= 120
    unexplained = [action.dest for action in parser._actions if not action.help]
    assert not unexplained


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipes_help_shows_every_flag_in_a_named_group_and_its_own_first(path, monkeypatch):
    parser = parser_of(path, monkeypatch)
    lines = shown(parser, True, 100, monkeypatch)
    found = headings(lines)
    assert "options" not in found
    assert list(found)[-1] == "help"
    named = [name for names in found.values() for name in names]
    assert sorted(named) == sorted(
        action.option_strings[-1 if action.dest == "help" else 0][2:] for action in flags(parser)
    )
    for action in flags(parser):  # by every name that it has
        assert all(re.search(rf"{name}\b", "\n".join(lines)) for name in action.option_strings)
    own = [name for name in named if name not in SHARED | {"help", "help_all"}]
    assert own
    assert named[: len(own)] == own
    assert len(found) == len(set(found))


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipes_short_help_says_what_it_leaves_out(path, monkeypatch):
    parser = parser_of(path, monkeypatch)
    short, whole = (sum(headings(shown(parser, every, 80, monkeypatch)).values(), []) for every in (False, True))
    assert set(short) < set(whole)
    assert shown(parser, False, 80, monkeypatch)[-1] == (
        f"{len(whole) - len(short)} more flags, which few people need: --help_all."
    )
    assert {"data_dir", "model_name_or_path", "output_dir", "learning_rate", "do_train"} <= set(short)


def test_every_shared_flag_has_its_place_in_help_once():
    listed = [name for section in SECTIONS for name in section.names]
    assert sorted(listed) == sorted(SHARED)


def test_help_all_prints_and_ends(monkeypatch, capsys):
    parser = parser_of("examples/run_pretrain_lin_adapter.py", monkeypatch)
    monkeypatch.undo()
    for flag, is_there in (("--help", False), ("--help_all", True), ("--help-all", True)):
        with pytest.raises(SystemExit) as left:
            parser.parse_args([flag])
        assert left.value.code == 0
        assert ("--adapter_initializer_range" in capsys.readouterr().out) is is_there


def test_help_behind_a_run_scripts_values_shows_them(monkeypatch, capsys):
    parser = parser_of("examples/run_pretrain_lin_adapter.py", monkeypatch)
    monkeypatch.undo()
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        parser.parse_args(["--data_dir=x/y", "--learning_rate", "1e-4", "--freeze_bert", "no", "--seed=42", "--help"])
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "peak learning rate of AdamW (default: 5e-05; given: 0.0001)" in text
    assert "(required; given: x/y)" in text  # a path of the folder where the command is typed
    assert "(default: yes; given: no)" in text
    assert "order and dropout (default: 42)" in text


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(ROOT.glob("run_*_adapter.sh")), ids=lambda path: path.stem)
def test_a_run_scripts_help_fits_on_two_screens_too(path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = subprocess.run(["bash", path.name, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "given:" in done.stdout
    assert done.stdout.count("\n") <= 120


def test_help_shows_defaults_kinds_of_values_and_what_is_required(monkeypatch):
    parser = Parser("What it does,\nin two lines.\n\n    a command that is long\n\nMore.")
    parser.add_argument("--input", type=absolute, required=True, help="a file")
    group = parser.add_argument_group("numbers")
    group.add_argument("--count", "--number", type=Number(int, "[1, inf)"), default=3, help="how many, 100 % at most")
    group.add_argument("--kind", choices=("", "a", "b"), default="", help="of what")
    group.add_argument("--off", type=bool, nargs="?", default=False, metavar="yes|no", help="a switch")
    group.add_argument("--on", type=bool, nargs="?", default=True, metavar="yes|no", help="another")
    group.add_argument("--lengths", type=int, nargs="+", default=[1, 2], metavar="N", help="several")
    parser.leave_to_help_all("lengths")
    parser.prog = "it"
    lines = shown(parser, True, 80, monkeypatch)
    assert lines[0] == "usage: it --input PATH [flags]"
    assert lines[2:7] == ["What it does, in two lines.", "", "    a command that is long", "", "More."]
    told = [re.sub(" +", " ", line.strip()) for line in lines]
    assert "--input PATH a file (required)" in told
    assert "--count, --number N how many, 100 % at most (default: 3)" in told
    assert "--kind {a,b} of what" in told
    assert "--off a switch" in told
    assert "--on yes|no another (default: yes)" in told
    assert "--lengths N [N ...] several (default: 1 2)" in told
    short = [re.sub(" +", " ", line.strip()) for line in shown(parser, False, 80, monkeypatch)]
    assert "--count N how many, 100 % at most (default: 3)" in short
    assert not any("--lengths" in line for line in short)
    assert short[-1] == "1 more flags, which few people need: --help_all."
