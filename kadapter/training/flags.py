"""Flags: fields of a dataclass as an argparse group, with their kinds and ranges; and parsing them.

Every flag of the original's run scripts is accepted with its meaning, or named with the reason why it does nothing.
"""

from __future__ import annotations

import argparse
import logging
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, Field, field, fields
from pathlib import Path
from typing import Any

from kadapter.console import Number, Parser, outside
from kadapter.fields import types_of
from kadapter.training.sections import SECTIONS

logger = logging.getLogger(__name__)

# Flags of the original that no longer do anything, and why.
OBSOLETE = {
    "model_type": "the model's own configuration tells its family",
    "config_name": "the configuration is read with the model",
    "do_lower_case": "the tokenizer's own configuration tells it",
    "fp16_opt_level": "--fp16 is torch's own mixed precision, without apex",
    "local_rank": "torchrun tells each process its rank",
    "server_ip": "attach a debugger with python -m debugpy instead",
    "server_port": "attach a debugger with python -m debugpy instead",
    "eval_all_checkpoints": "the checkpoint chosen on dev is evaluated",
    "test_mode": "it tested the original's freezing",
    "my_model_name": "--comment names a run",
    "report_steps": "--logging_steps says how often the loss is logged",
    "meta_bertmodel": "give the backbone as --model_name_or_path",
    "predict_batch_size": "--eval_batch_size serves prediction too",
    "iterations_per_loop": "it was for TPUs",
    **dict.fromkeys(
        ("use_tpu", "tpu_name", "tpu_zone", "gcp_project", "master", "num_tpu_cores"), "accelerate finds the devices"
    ),
}


def flag(
    help: str,
    default: Any = MISSING,
    aliases: tuple[str, ...] = (),
    choices: Any = None,
    factory: Any = MISSING,
    within: str | None = None,
    type: Callable[[str], Any] | None = None,
    metavar: str | None = None,
) -> Any:
    """A field that is a flag.

    Args:
        help: what the flag does, with its unit, as --help shows it.
        default, factory, choices: as in `dataclasses.field` and argparse.
        aliases: other names of the flag, such as the original's.
        within: the range of a number, such as "[0, inf)" (`kadapter.console.outside`).
        type: converts the text, where the field's own type does not: `local_path`, `hub_or_path`.
        metavar: name of the value in help; None: chosen by its type (`kadapter.console.Help`).
    """
    metadata = {
        "help": help,
        "aliases": aliases,
        "choices": choices,
        "within": within,
        "type": type,
        "metavar": metavar,
    }
    if factory is not MISSING:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def boolean(text: str) -> bool:
    """False for "", false, 0, no and none; true for true, 1 and yes; in any case of letters.

    The original takes any text but "" as true.
    """
    lowered = text.strip().lower()
    if lowered in ("", "false", "0", "no", "none"):
        return False
    if lowered in ("true", "1", "yes"):
        return True
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false; write True, False or ''")


def check_ranges(group: Any) -> None:
    """Raise ValueError where a number is outside of its flag's range, also in a group that was made in Python."""
    for f in fields(group):
        value, within = getattr(group, f.name), f.metadata["within"]
        if within and value is not None and (wrong := outside(value, within)):
            raise ValueError(f"--{f.name} is {value}; {wrong}.")


def add_arguments(parser: Parser, groups: list[type]) -> None:
    """Add the flags of dataclasses, made of `flag`s, as argparse groups.

    Flags that `SECTIONS` does not list are the program's own: they come first, under the first line of their
    dataclass' docstring.
    """
    shared = {name for section in SECTIONS for name in section.names}
    for group in groups:
        own = [f for f in fields(group) if f.name not in shared]
        _add_section(parser, (group.__doc__ or "").strip().splitlines()[0].rstrip("."), [(group, f) for f in own])
    found = {f.name: (group, f) for group in groups for f in fields(group)}
    for section in SECTIONS:
        _add_section(parser, section.title, [found[name] for name in section.names if name in found])
    parser.leave_to_help_all(*(name for section in SECTIONS for name in section.rare if name in found))


def _add_section(parser: argparse.ArgumentParser, title: str, flags: list[tuple[type, Field[Any]]]) -> None:
    """One argparse group; a field's type is found in the dataclass that it is of."""
    target = parser.add_argument_group(title)
    for group, f in flags:
        kind, options = types_of(group)[f.name], {"help": f.metadata["help"]}
        if isinstance(kind, types.UnionType):
            kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
        if typing.get_origin(kind) is list:
            options.update(type=f.metadata["type"], action="append", default=[], metavar=f.metadata["metavar"])
        elif kind is bool:
            options.update(type=boolean, nargs="?", const=True, default=f.default, metavar="yes|no")
        else:
            required = f.default is MISSING
            within, convert = f.metadata["within"], f.metadata["type"] or kind
            options.update(type=Number(kind, within) if within else convert, metavar=f.metadata["metavar"])
            options.update(default=None if required else f.default, required=required, choices=f.metadata["choices"])
        target.add_argument(f"--{f.name}", *f.metadata["aliases"], **options)


def parse(
    description: str | None, groups: list[type], argv: list[str] | None = None, where: str = "", **defaults: Any
) -> list[Any]:
    """Parse a command line into one instance of each group; a recipe's own defaults go into `defaults`.

    A mistake ends the program with argparse's message before any work starts; the message begins with `where`.
    """
    parser = Parser(description, where=where)
    add_arguments(parser, groups)
    for name in OBSOLETE:
        parser.add_argument(f"--{name}", nargs="?", default=None, const="", help=argparse.SUPPRESS)
    parser.set_defaults(**defaults | ({"adapter_list": None} if "adapter_list" in defaults else {}))
    namespace = vars(parser.parse_args(argv))
    if namespace.get("adapter_list", "") is None:
        namespace["adapter_list"] = _own_taps(
            defaults["adapter_list"], parser.get_default("model_name_or_path"), namespace["model_name_or_path"]
        )
    for name, reason in OBSOLETE.items():
        if namespace[name] is not None:
            logger.warning("--%s is accepted but does nothing: %s.", name, reason)
    try:
        return [group(**{f.name: namespace[f.name] for f in fields(group)}) for group in groups]
    except ValueError as error:
        parser.error(str(error))


def _own_taps(taps: str, backbone: str, given: str) -> str:
    """A recipe's own taps, which are of its own backbone; with another one they follow its depth."""
    if Path(given).name == Path(backbone).name:
        return taps
    logger.warning("taps follow the depth of %s: %s are of %s; --adapter_list gives others.", given, taps, backbone)
    return ""
