"""Label lists."""

from __future__ import annotations

from pathlib import Path

from kadapter.data.jsonio import whole
from kadapter.storage.reading import read_json


def read_labels(path: str | Path) -> list[str]:
    """Label names in order from a JSON list, or from `{name: id}` with ids 0, 1, 2, ... (`relations.json`)."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; write the labels there as a JSON list or as {{name: id}}.")
    value = read_json(path, "give a list of labels or {name: id}.")
    if isinstance(value, dict):
        ids = [whole(i) for i in value.values()]
        known = [i for i in ids if i is not None]
        if len(known) < len(ids) or sorted(known) != list(range(len(ids))):
            raise ValueError(f"{path}: the ids are not 0 to {len(value) - 1}, each once; number the labels anew.")
        value = sorted(value, key=value.__getitem__)
    if not isinstance(value, list) or not value or not all(isinstance(label, str) for label in value):
        raise ValueError(f"{path} holds no labels; give a JSON list of names or {{name: id}}.")
    if len(set(value)) != len(value):
        raise ValueError(f"{path}: the label {next(v for v in value if value.count(v) > 1)!r} stands there twice.")
    return value
