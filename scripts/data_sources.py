"""Where data and weights are had: sources.json, one table for get_data.py and reproduce.py.

What is in it was read, not tried: addresses are those that `stated_by` names, sizes and SHA-256 those that `recorded`
names. Nobody here could fetch them to see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kadapter.data.jsonio import read_json
from kadapter.storage.errors import shown_bytes

SOURCES = Path(__file__).with_name("sources.json")
RAW = "raw"  # below the data folder: what was fetched, before it is converted


@dataclass(frozen=True)
class Part:
    """One file to fetch.

    bytes, sha256: None where unknown. recorded: who says so.
    name: its place in the folder of raw files; "" takes the address's last part.
    to: "raw", or "folder" where recipes read it as it is.
    unpack: of an archive `into`, `under` and `strip` as `kadapter.storage.download.unpack`; None leaves it packed.
    """

    url: str
    bytes: int | None
    sha256: str | None
    recorded: str = ""
    name: str = ""
    to: str = "raw"
    unpack: Mapping[str, Any] | None = None

    @property
    def filename(self) -> str:
        return self.name or self.url.rpartition("/")[2]


@dataclass(frozen=True)
class DataSource:
    """What to fetch for a data folder, and how to make it of that.

    folder: below --output, where recipes look by default.
    steps: commands of this repository, with {raw} and {folder}; by_hand: sentences for what nobody may automate.
    check: kind of check and folder below `folder`, by which get_data.py verifies it.
    """

    name: str
    title: str
    folder: str
    licence: str
    stated_by: str
    check: Sequence[Sequence[str]]
    size: str = ""
    files: Sequence[Part] = ()
    steps: Sequence[Sequence[str]] = ()
    by_hand: Sequence[str] = field(default=())

    @property
    def shown_size(self) -> str:
        """Of what is fetched, as far as it is known."""
        if self.size:
            return self.size
        known = [part.bytes for part in self.files]
        return shown_bytes(sum(n for n in known if n is not None)) if None not in known else "unknown"

    @property
    def is_verifiable(self) -> bool:
        """Whether the SHA-256 of every file is known."""
        return bool(self.files) and all(part.sha256 for part in self.files)

    def place(self, data: Path) -> Path:
        """Its folder, of which `data` is the folder of all data."""
        return Path(data, self.folder).resolve()

    def raw(self, data: Path) -> Path:
        return data / RAW / self.name

    def how(self) -> str:
        """One sentence for who lacks it."""
        way = "by hand" if self.by_hand else f"python scripts/get_data.py {self.name}"
        known = "SHA-256 known" if self.is_verifiable else "no SHA-256 known"
        size = self.shown_size.partition(";")[0]
        return f"{self.title}; {way} ({self.stated_by}); {size}, {known}, licence: {self.licence}"


def load_sources(path: Path = SOURCES) -> dict[str, DataSource]:
    """Name -> source."""
    found = {}
    for name, values in read_json(path).items():
        files = [Part(**part) for part in values.get("files", [])]
        found[name] = DataSource(**{**values, "name": name, "files": files})
    return found
