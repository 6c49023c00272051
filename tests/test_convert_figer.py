"""scripts/convert_figer.py: FIGER's gold file as released."""

import json
from pathlib import Path

import pytest
from conftest import load_script

FIGER = load_script("scripts/convert_figer.py")


def test_figers_gold_file_becomes_one_example_a_mention(tmp_path: Path) -> None:
    mentions = "At\tO\nAnn\tB-/person\nLee\tI-/person\nBo\tB-/person,/person/artist\nYu\tI-/person/artist,/person\n"
    text = mentions + "\t\n.\tO\n\nOslo\tB-/location\n"
    (tmp_path / "exp.label").write_text(text)
    FIGER.main(["--input", str(tmp_path / "exp.label"), "--output", str(tmp_path / "test.json")])
    rows = json.loads((tmp_path / "test.json").read_text())
    assert [row["sent"][row["start"] : row["end"]] for row in rows] == ["Ann Lee", "Bo Yu", "Oslo"]
    assert rows[1]["labels"] == ["/person", "/person/artist"]
    assert rows[0]["sent"] == "At Ann Lee Bo Yu"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Ann B-/person\n", "line 1: 'Ann B-/person' is not a word and O, B-/type or I-/type, separated by a tab"),
        ("At\tO\nLee\tI-/person\n", "line 2: 'I-/person' follows 'O'"),
        ("Ann\tB-/person\nOslo\tI-/location\n", "line 2: 'I-/location' follows 'B-/person'"),
        ("At\tO\n", "holds no mention"),
    ],
)
def test_a_broken_figer_file_is_refused_and_nothing_is_written(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "exp.label").write_text(text)
    with pytest.raises((ValueError, OSError), match=message):
        FIGER.main(["--input", str(tmp_path / "exp.label"), "--output", str(tmp_path / "test.json")])
    assert not (tmp_path / "test.json").exists()
