"""What all programs of `examples/` and `scripts/` share: their command lines, and how they end.

Nothing heavy is imported here, so that scripts that only prepare data do not wait for torch.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

DEBUG = "KADAPTER_DEBUG"  # set to anything but "" and "0", it shows tracebacks
LONGEST = 600  # characters of a message of several lines that are shown
WIDEST = 100  # characters of a line of help

# What a user can mend. Other exceptions are defects of the program, whose traceback is what helps.
EXPECTED = (ValueError, OSError, FloatingPointError, ImportError, MemoryError)
EXPECTED_NAMES = ("OutOfMemoryError", "SafetensorError")  # of torch and safetensors, which are not imported for this


# -- ending -----------------------------------------------------------------------------------------------------


def run(main: Callable[[], Any]) -> None:
    """Run a program; an expected mistake ends it with one line on stderr and exit code 1, without a traceback.

    Of several processes that torchrun started, the main one alone prints it. All of them leave it to torchrun, whose
    summary so names a mistake of another process too.
    """
    try:
        main()
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.code, str):
            raise
        if os.environ.get(DEBUG, "0") not in ("", "0") or not _is_expected(error):
            raise
        end(one_line(error), 1)


def _is_expected(error: BaseException) -> bool:
    return isinstance(error, (*EXPECTED, SystemExit)) or type(error).__name__ in EXPECTED_NAMES


def one_line(error: BaseException) -> str:
    """An error's message in one line; of a long one with several lines, which transformers writes, the beginning."""
    lines = [" ".join(line.split()) for line in str(error).strip().splitlines()]
    message = " ".join(line for line in lines if line) or type(error).__name__
    if len(lines) > 1 and len(message) > LONGEST:
        message = f"{message[:LONGEST].rsplit(' ', 1)[0]} ... ({DEBUG}=1 shows all)"
    return message.removeprefix("error: ")


def end(message: str, code: int) -> NoReturn:
    """Leave the program with that message and exit code."""
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):  # the form is that of torch.distributed.elastic
        details = {"py_callstack": message, "timestamp": str(int(time.time()))}
        Path(path).write_text(json.dumps({"message": {"message": message, "extraInfo": details}}), encoding="utf-8")
    if os.environ.get("RANK", "0") == "0":
        print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


# -- flags ------------------------------------------------------------------------------------------------------


class Help(argparse.RawDescriptionHelpFormatter):
    """How help is printed: what each value is, its default, and paragraphs that fit the window.

    Lines that are indented, which are commands, stay as they were written. A switch that is off is shown by its name
    alone; one that is on, with what turns it off.
    """

    aliases = True  # whether a flag's other names are shown
    given: dict[str, Any] = {}  # values that stand before --help, such as those of a run script

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=32, width=min(shutil.get_terminal_size().columns - 2, WIDEST))

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        blocks = (block for block in re.split(r"\n\s*\n", text.strip("\n")) if block.strip())
        return "\n\n".join(
            block if re.search(r"^\s", block, re.MULTILINE) else textwrap.fill(block, width) for block in blocks
        )

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        if action.nargs == 0 or action.default is False:
            value = ""
        elif action.default is True:
            value = value.strip("[]")
        names = action.option_strings if self.aliases or action.nargs == 0 else action.option_strings[:1]
        return f"{', '.join(names)} {value}".rstrip()

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        if isinstance(action.type, Number):
            return "N" if action.type.kind is int else "X"
        names: dict[Any, str] = {
            absolute: "PATH",
            local_path: "PATH",
            hub_or_path: "NAME|PATH",
            named_source: "NAME=PATH",
        }
        return names.get(action.type, "TEXT")

    def _metavar_formatter(self, action: argparse.Action, default_metavar: str) -> Any:
        if action.metavar is None and action.choices is not None:
            shown = "{" + ",".join(str(choice) for choice in action.choices if choice != "") + "}"
            return lambda size: (shown,) * size
        return super()._metavar_formatter(action, default_metavar)

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default, given = action.help or "", action.default, self.given.get(action.dest, action.default)
        notes = []
        none = default is False or default in (None, "", argparse.SUPPRESS) or default in ([], ())
        if action.required and action.option_strings:
            notes = ["required"]
        elif not (none or action.nargs == 0 or "default" in text):
            notes = [f"default: {_shown(default)}"]
        if given != default:
            notes.append(f"given: {_shown(given)}")
        return f"{text} ({'; '.join(notes)})".lstrip().replace("%", "%%") if notes else text


def _shown(value: Any) -> str:
    """A flag's value as it would be typed."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(map(_shown, value))
    return str(value).removeprefix(f"{Path.cwd()}{os.sep}") or '""'


class ShowHelp(argparse.Action):
    """--help: the flags that most people need, with the values that stand before it on the command line."""

    everything = False

    def __call__(self, parser: Any, namespace: argparse.Namespace, *_: Any) -> None:
        print(parser.format_help(self.everything, vars(namespace)), end="")
        parser.exit()


class HelpAll(ShowHelp):
    """--help_all: help with the flags that --help leaves out."""

    everything = True


class Parser(argparse.ArgumentParser):
    """argparse with the habits of our programs.

    `--learning-rate` is `--learning_rate`; a beginning of a flag is not the flag; a mistyped flag is answered with the
    one that was probably meant. `--help` names the required flags in its first line, groups come in the order in which
    they were made, and flags that few people need are shown by `--help_all` (`leave_to_help_all`). `where` begins the
    message about a mistake where the flags do not come from the command line.
    """

    def __init__(self, description: str | None = None, where: str = "", add_help: bool = True, **options: Any):
        super().__init__(description=description, formatter_class=Help, allow_abbrev=False, add_help=False, **options)
        if add_help:
            self.add_argument("-h", "--help", action=ShowHelp, nargs=0, help="show this help message and exit")
        self._mistyped: list[str] = []
        self._where = where
        self._rare: set[str] = set()

    def leave_to_help_all(self, *names: str) -> None:
        """Flags, without their dashes, that --help does not show."""
        if names and not self._rare:
            self.add_argument("--help_all", action=HelpAll, nargs=0, help="show every flag and exit")
        self._rare.update(names)

    def format_help(self, everything: bool = False, given: dict[str, Any] | None = None) -> str:
        formatter: Any = self._get_formatter()
        formatter.aliases, formatter.given = everything, given or {}
        required = [action for action in self._actions if action.required and action.option_strings]
        rest = [action for action in self._actions if not action.option_strings]
        named = [formatter._format_action_invocation(action) for action in required]
        usage = [self.prog, *named, "[flags]", *(formatter._format_args(action, action.dest) for action in rest)]
        formatter.add_text(f"usage: {' '.join(usage)}")
        formatter.add_text(self.description)
        for group in sorted(self._action_groups, key=_is_help):
            formatter.start_section("help" if _is_help(group) else group.title)
            formatter.add_text(group.description)
            formatter.add_arguments(a for a in group._group_actions if everything or a.dest not in self._rare)
            formatter.end_section()
        if hidden := len(self._rare) * (not everything):
            formatter.add_text(f"{hidden} more flags, which few people need: --help_all.")
        formatter.add_text(self.epilog)
        return formatter.format_help()

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        self._mistyped = []
        return super().parse_known_args(list(self._spelled(sys.argv[1:] if args is None else args)), namespace)

    def _spelled(self, args: Sequence[str]) -> Iterator[str]:
        """The arguments, with flags spelled as they were defined; remembers flags that there are not."""
        flags = True
        for text in args:
            flags = flags and text != "--"
            if flags and text.startswith("--"):
                name, equals, value = text.partition("=")
                known = f"--{name[2:].replace('-', '_')}"
                if name not in self._option_string_actions and known in self._option_string_actions:
                    text = f"{known}{equals}{value}"
                elif name not in self._option_string_actions and " " not in name:
                    self._mistyped.append(name)
            yield text

    def error(self, message: str) -> NoReturn:
        """Exit code 2 and one line, without argparse's list of 80 flags but with those that were probably meant."""
        message = re.sub(r"^argument (--\w+)\S*: it is ", r"\1 is ", message)
        shown = [
            name
            for name, action in self._option_string_actions.items()
            if action.help != argparse.SUPPRESS and name.startswith("--")
        ]
        for name in self._mistyped:
            if near := difflib.get_close_matches(f"--{name[2:].replace('-', '_')}", shown, n=1):
                message += f"; there is no {name}, did you mean {near[0]}?"
        end(self._where + message, 2)


def _is_help(group: argparse._ArgumentGroup) -> bool:
    shown = (action for action in group._group_actions if action.help != argparse.SUPPRESS)
    return all(isinstance(action, ShowHelp) for action in shown)


# -- values of flags --------------------------------------------------------------------------------------------

INTERVAL = re.compile(r"(?:(-?\d+) or )?([\[(])(\S+), (\S+)([\])])")


def outside(value: float, within: str) -> str:
    """What a number must be, where it lies outside of an interval; "" where it does not.

    Args:
        within: such as "[0, 1)", "(0, inf)", or "-1 or [1, inf)", where -1 is a value of its own. No interval holds
            nan or, since it is open there, inf.
    """
    match = INTERVAL.fullmatch(within)
    assert match is not None, within
    also, opening, low, high, closing = match.groups()
    above = value >= float(low) if opening == "[" else value > float(low)
    below = value <= float(high) if closing == "]" else value < float(high)
    if (above and below) or (also is not None and value == float(also)):
        return ""
    if high != "inf":
        rule = f"in {opening}{low}, {high}{closing}"
    elif value == float("inf") or value != value:
        rule = "a finite number" + (f" of {low} or more" if opening == "[" else f" above {low}")
    else:
        rule = f"{low} or more" if opening == "[" else f"above {low}"
    return f"it must be {rule}" + (f", or {also}" if also is not None else "")


@dataclass(frozen=True)
class Number:
    """A flag's type: a number within an interval (see `outside`)."""

    kind: type
    within: str

    def __call__(self, text: str) -> float:
        try:
            value = self.kind(text)
        except ValueError:
            what = "whole number" if self.kind is int else "number"
            raise argparse.ArgumentTypeError(f"it is {text!r}; it must be a {what}") from None
        if wrong := outside(value, self.within):
            raise argparse.ArgumentTypeError(f"it is {text}; {wrong}")
        return value


SEED = Number(int, "[0, 4294900000]")  # numpy's end at 2^32, and processes add their rank
COUNT = Number(int, "[1, inf)")
SHARE = Number(float, "(0, 1)")


def absolute(text: str) -> Path:
    """A flag's type: a local path, absolute, with ~ at its start as the home folder.

    A link keeps its own name; the folder that it lies in is the real one, so that one place has one path.
    """
    if not text:
        raise argparse.ArgumentTypeError("it is empty; give a path")
    given = Path(os.path.expanduser(text))
    return given.resolve() if given.name in ("", "..") else given.parent.resolve() / given.name


def local_path(text: str) -> str:
    """A flag's type: as `absolute`, for what is kept as text; "" stays, for none."""
    return str(absolute(text)) if text else ""


def hub_or_path(text: str) -> str:
    """A flag's type: a hub name stays as it is; what is there, or begins with ".", "/" or "~", is a local path."""
    return local_path(text) if text.startswith((".", "/", "~")) or (text and Path(text).exists()) else text


def named_source(text: str) -> str:
    """A flag's type: name=place."""
    name, equals, where = text.partition("=")
    return f"{name}{equals}{hub_or_path(where)}"
