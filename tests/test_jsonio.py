"""The JSON helpers: lists and lines are read alike, faults are named by place, writing is atomic."""

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from kadapter.data.jsonio import read_json, read_records, write_json, write_json_list, write_jsonl
from kadapter.storage import files


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def test_a_list_and_json_lines_give_the_same_records(tmp_path: Path) -> None:
    records = [{"a": "é"}, {"b": [1, None]}]
    write_json_list(tmp_path / "deep" / "list.json", iter(records))
    write_jsonl(tmp_path / "lines.jsonl", iter(records))
    assert [record for _, record in read_records(tmp_path / "deep" / "list.json")] == records
    assert list(read_records(tmp_path / "lines.jsonl")) == [(1, records[0]), (2, records[1])]
    assert (tmp_path / "deep" / "list.json").read_text("utf-8") == '[\n{"a": "é"},\n{"b": [1, null]}\n]\n'


def test_blank_lines_are_skipped_but_counted_and_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'\xef\xbb\xbf\n\n{"a": 1}\r\n\n{"a": "\xe2\x80\xa8"}')
    assert list(read_records(path)) == [(3, {"a": 1}), (5, {"a": "\u2028"})]


def test_json_lines_are_streamed_up_to_the_fault(tmp_path: Path) -> None:
    records = read_records(write(tmp_path / "a.jsonl", '{"a": 1}\n{"a"\n'))
    assert next(records) == (1, {"a": 1})
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2, column 5: broken JSON"):
        next(records)


def test_a_missing_file_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json: there is no such file; check the path"):
        list(read_records(tmp_path / "nowhere.json"))


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_a_list_is_streamed_whatever_its_blocks_and_faults_keep_their_place(tmp_path, monkeypatch, block) -> None:
    monkeypatch.setattr("kadapter.data.jsontext._BLOCK", block)
    path = write(tmp_path / "a.json", ' [{"é": "日本", "n": [1, 2.5]},\n\n {"b": {}},\n{"c": 1}  {"d": 2}]')
    records = read_records(path)
    assert list(islice(records, 3)) == [(1, {"é": "日本", "n": [1, 2.5]}), (2, {"b": {}}), (3, {"c": 1})]
    with pytest.raises(ValueError, match=r"a\.json, line 4, column 11: broken JSON \(Expecting '\]'\)"):
        next(records)
    for content, message in (
        (b'[{"a": "\xc3', "line 1: the byte at offset 8 is not UTF-8"),
        (b'[{"a": 1}\n] x', "line 2, column 3: broken JSON .Extra data"),
        (b'[{"a": 1},\n{"b": ', "line 2, column 7: broken JSON"),
    ):
        with pytest.raises(ValueError, match=message):
            list(read_records(write(tmp_path / "b.json", content)))


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf", b"[]"])
def test_an_empty_file_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"void\.json is (empty|an empty list); give "):
        list(read_records(write(tmp_path / "void.json", content)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": "\xff"}\n', "line 2: the byte at offset 16 is not UTF-8"),
        (b'\xef\xbb\xbf{"a": "\xff"}\n', "line 1: the byte at offset 10 is not UTF-8"),
        (b'\n[{"a": 1},\n{"b" 2}]', "line 3, column 6: broken JSON"),
        (b'{\n"a": 1}\n', "line 1: an object over several lines .* one object on each line: jq -c"),
        (b'[{"a": 1}, 7]', "record 2: 7 is not a JSON object"),
        (b'{"a": 1}\n["b"]\n', r'line 2: \["b"\] is not a JSON object'),
        (b"sent_id,text\n", "line 1: the file starts with 's'; give a JSON list"),
        (b'{"a": "\\ud800"}\n', "line 1: a .u escape is half of a surrogate pair"),
        (b"[" * 200_000, "line 1: unreadable JSON|line 1, column"),
        (b'{"a": ' + b"9" * 5000 + b"}", "line 1: unreadable JSON"),
    ],
)
def test_a_bad_file_is_refused_with_the_place(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=r"bad\.json, " + message):
        list(read_records(write(tmp_path / "bad.json", content)))


def test_a_folder_is_refused_for_reading_and_writing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder; give the path of a file"):
        list(read_records(tmp_path))
    with pytest.raises(ValueError, match="is a folder; give the path of a file to write"):
        write_json(tmp_path, {})


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = write(tmp_path / "out.json", "old")

    def records() -> Any:
        yield {"a": 1}
        raise RuntimeError("the source broke")

    for writer in (write_json_list, write_jsonl):
        with pytest.raises(RuntimeError, match="the source broke"):
            writer(path, records())
    assert os.listdir(tmp_path) == ["out.json"]
    assert path.read_text() == "old"


def test_an_empty_list_is_still_json_when_written(tmp_path: Path) -> None:
    write_json_list(tmp_path / "a.json", [])
    write_json(tmp_path / "b.json", {"ä": 1})
    assert (tmp_path / "a.json").read_text() == "[]\n"
    assert (tmp_path / "b.json").read_text("utf-8") == '{\n  "ä": 1\n}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"b": 2}', r"a\.json, line 2, column 1: broken JSON \(Extra data\)"),
        ('{"a":\n [1,', r"a\.json, line 2, column 5: broken JSON"),
        ("", "line 1, column 1: broken JSON"),
        ("[" * 100_000, "line 1: unreadable JSON"),
        ('["\\ud800"]', "half of a surrogate pair"),
        (b"[\xff]", "line 1: the byte at offset 1 is not UTF-8"),
    ],
)
def test_one_value_is_read_whole_or_refused_with_its_place(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert read_json(write(tmp_path / "good.json", '\ufeff{"a":\r\n ["é\u2028", 1]}\n')) == {"a": ["é\u2028", 1]}
    with pytest.raises(ValueError, match=message):
        read_json(write(tmp_path / "a.json", text))


@pytest.mark.parametrize("kind", ["atomic_writer", "scratch_folder"])
def test_what_a_killed_writer_left_is_removed_by_the_next_but_not_what_another_still_writes(tmp_path, kind):
    target = tmp_path / "rows"
    script = f"""
import sys, time
from pathlib import Path
from kadapter.storage.files import {kind}
with {kind}(Path(sys.argv[1])) as held:
    print("writing", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "writing\n"

    def write_again():
        with getattr(files, kind)(target):
            pass
        return len(list(tmp_path.glob(".rows.*.tmp")))

    assert write_again() == 1
    process.kill()
    process.communicate()
    assert len(list(tmp_path.glob(".rows.*.tmp"))) == 1
    assert write_again() == 0
    assert not list(tmp_path.glob(".*"))
