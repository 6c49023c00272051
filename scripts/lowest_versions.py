"""Print the lowest versions of the direct dependencies that pyproject.toml allows, as requirements for pip.

    python scripts/lowest_versions.py sweep parse graph dev --override torch==2.13.0

`make test-lowest` runs the fast tests with them. Named are the extras that count too.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def lowest(requirement: str) -> str:
    """Pin a requirement to its lower bound: "numpy==1.26" for "numpy>=1.26,<3".

    Raises:
        ValueError: the requirement does not say what its lowest version is.
    """
    parsed = Requirement(requirement)
    bounds = [bound.version for bound in parsed.specifier if bound.operator in (">=", "==")]
    if len(bounds) != 1:
        raise ValueError(f"{requirement!r} has no lowest version; give it one bound with >=.")
    return f"{parsed.name}=={bounds[0]}"


def lowest_versions(project: dict, extras: Sequence[str] = (), overrides: Sequence[str] = ()) -> list[str]:
    """One pinned requirement for each direct dependency, in the order of the file.

    Args:
        project: the table [project] of a pyproject.toml.
        extras: names of the extras whose dependencies are wanted too.
        overrides: requirements that stand for those of the same names, whatever the file says.

    Raises:
        ValueError: an unknown extra, an override of what is no dependency, a requirement without a lower bound.
    """
    optional = project.get("optional-dependencies", {})
    if unknown := sorted(set(extras) - set(optional)):
        raise ValueError(f"{unknown} are no extras of pyproject.toml; choose among {sorted(optional)}.")
    wanted = [*project["dependencies"], *(name for extra in extras for name in optional[extra])]
    pins = {canonicalize_name(Requirement(one).name): lowest(one) for one in wanted}
    for override in overrides:
        name = canonicalize_name(Requirement(override).name)
        if name not in pins:
            raise ValueError(f"{override!r} overrides no dependency; choose among {sorted(pins)}.")
        pins[name] = override
    return list(pins.values())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", help="extras whose dependencies are wanted too")
    parser.add_argument("--override", action="append", default=[], help="name==version instead of the lowest one")
    args = parser.parse_args(argv)
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    try:
        print(*lowest_versions(project, args.extras, args.override), sep="\n")
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
