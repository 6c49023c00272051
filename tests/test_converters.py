"""The converters: CoNLL-U to find_head, Re-DocRED to trex-rc, and the JSON helpers below them."""

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kadapter.data.conllu import SentenceError, read_conllu, to_find_head
from kadapter.data.jsonio import read_records, write_json, write_json_list, write_jsonl

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


def load_script(name: str) -> ModuleType:
    """Import a script by its path, since scripts/ is not a package."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


dependency_script = load_script("create_dependency_dataset")
redocred_script = load_script("convert_redocred")


def row(number: int | str, form: str, head: int | str, misc: str = "_") -> str:
    return f"{number}\t{form}\t_\t_\t_\t_\t{head}\t_\t_\t{misc}\n"


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def slices(record: dict[str, Any]) -> list[str]:
    """The text of each word of a find_head record, cut out by its span."""
    spans = [token[str(number)] for number, token in enumerate(record["tokens"], start=1)]
    return [record["sent"][span["start"] : span["end"]] for span in spans]


def convert_one(tmp_path: Path, text: str) -> dict[str, Any]:
    (sentence,) = read_conllu(write(tmp_path / "one.conllu", text))
    return to_find_head(sentence)


# --- jsonio ---


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
        (b'{\n"a": 1}\n', "line 1, column 2: broken JSON .* one complete object a line"),
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


# --- conllu ---


def test_a_sentence_becomes_spans_and_one_pair_a_word(tmp_path: Path) -> None:
    text = "# sent_id = s1\n# text = Dogs bark.\n"
    text += row(1, "Dogs", 2) + row(2, "bark", 0, "SpaceAfter=No") + row(3, ".", 2)
    assert convert_one(tmp_path, text) == {
        "sent": "Dogs bark.",
        "tokens": [
            {"1": {"start": 0, "end": 4}},
            {"2": {"start": 5, "end": 9}},
            {"3": {"start": 9, "end": 10}},
        ],
        "pairs": [
            {"dependent_index": 1, "governor_index": 2},
            {"dependent_index": 2, "governor_index": 0},
            {"dependent_index": 3, "governor_index": 2},
        ],
    }


def test_the_text_comment_decides_the_spacing(tmp_path: Path) -> None:
    record = convert_one(
        tmp_path, "# text = a   a\u3000b\n" + row(1, "a", 0) + row(2, "a", 1) + row(3, "b", 1)
    )
    assert record["sent"] == "a   a\u3000b"
    assert slices(record) == ["a", "a", "b"]
    assert record["tokens"][1] == {"2": {"start": 4, "end": 5}}


def test_without_a_text_comment_the_text_is_rebuilt(tmp_path: Path) -> None:
    words = row(1, "10 000", 2) + row(2, "Euro", 0, "Gloss=x|SpaceAfter=No") + row(3, "!", 2)
    record = convert_one(tmp_path, words)
    assert record["sent"] == "10 000 Euro!"
    assert slices(record) == ["10 000", "Euro", "!"]


@pytest.mark.parametrize("comment", ["", "# text = I don't.\n"])
def test_a_multiword_token_is_split_where_its_words_make_it_up(tmp_path: Path, comment: str) -> None:
    words = row(1, "I", 2) + row("2-3", "don't", "_", "SpaceAfter=No")
    words += row(2, "do", 0) + row(3, "n't", 2) + row(4, ".", 2)
    record = convert_one(tmp_path, comment + words)
    assert record["sent"] == "I don't."
    assert slices(record) == ["I", "do", "n't", "."]


def test_a_fused_token_gives_each_word_the_whole_surface_span(tmp_path: Path) -> None:
    words = row("1-2", "zum", "_") + row(1, "zu", 3) + row(2, "dem", 3) + row(3, "Haus", 0)
    record = convert_one(tmp_path, words)
    assert record["sent"] == "zum Haus"
    assert slices(record) == ["zum", "zum", "Haus"]


def test_empty_nodes_are_skipped_and_several_roots_kept(tmp_path: Path) -> None:
    words = row("0.1", "x", "_") + row(1, "a", 0) + row("1.1", "_", "_") + row(2, "b", 0)
    record = convert_one(tmp_path, words)
    assert record["sent"] == "a b"
    assert [pair["governor_index"] for pair in record["pairs"]] == [0, 0]


@pytest.mark.parametrize(
    ("lines", "reason", "message"),
    [
        (row(1, "a", "_"), "head is not a number", "line 2, .*: word 1 'a' has the head '_'"),
        (row(1, "a", "²"), "head is not a number", "word 1 'a' has the head '²'"),
        (row(1, "a", 2), "head out of range", "word 1 'a' has the head 2 in a sentence of 1 words"),
        (row(1, "a", 1), "cycle", "from word 1 'a' leads back"),
        (row(1, "a", 0) + row(2, "b", 3) + row(3, "c", 2), "cycle", "from word 2 'b' leads back"),
        ("1 a _ _ 0\n", "broken line", "line 4, .*: 1 tab-separated columns instead of 10"),
        (row(1, " ", 0), "broken line", "word 1 has no form"),
        (row(1, "a", 0) + row(3, "b", 1), "word numbering", "line 5, .*'3' where 2 is due"),
        (row("1-2", "ab", "_") + row(1, "a", 0), "word numbering", "multiword token 1-2 'ab' overlaps"),
        (row("2-1", "ab", "_") + row(1, "a", 0) + row(2, "b", 1), "word numbering", "token 2-1"),
        ("", "no words", "only comments"),
        ("# text = a c\n" + row(1, "a", 0) + row(2, "b", 1), "text does not match", "'b' .* at character 2 "),
        ("# text = a b\n" + row(1, "a", 0), "text does not match", "' b' follows the last word"),
        ("# text = a\n" + row(1, "a", 0) + row(2, "b", 1), "text does not match", "'b' .* where '' stands"),
    ],
)
def test_a_bad_sentence_is_refused_with_place_and_reason(
    tmp_path: Path, lines: str, reason: str, message: str
) -> None:
    path = write(tmp_path / "bad.conllu", "\n# sent_id = s7\n# note\n" + lines + "\n")
    with pytest.raises(SentenceError, match=r"bad\.conllu, line \d+, sentence 's7': ") as caught:
        list(read_conllu(path))
    assert caught.value.reason.startswith(reason)
    caught.match(message)


def test_reading_goes_on_after_a_bad_sentence_when_asked_to(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conllu", row(1, "a", 9) + "\n \n\r\n" + row(1, "b", 0))
    errors: list[SentenceError] = []
    sentences = list(read_conllu(path, on_error=errors.append))
    assert [(sentence.line, sentence.text) for sentence in sentences] == [(5, "b")]
    assert [error.reason for error in errors] == ["head out of range"]
    assert "a sentence without sent_id" in str(errors[0])


def test_a_treebank_that_is_empty_or_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"void\.conllu is empty"):
        list(read_conllu(write(tmp_path / "void.conllu", "\n\n")))
    with pytest.raises(ValueError, match="line 1: the byte at offset 2 is not UTF-8"):
        list(read_conllu(write(tmp_path / "latin.conllu", b"# \xe9\n"), on_error=lambda error: None))


forms = st.text(st.characters(codec="utf-8", exclude_characters="\t\n"), min_size=1, max_size=6).filter(
    lambda form: form == form.strip() and form.strip() != ""
)


@st.composite
def treebank_sentences(draw: st.DrawFn) -> tuple[str, list[str], list[int]]:
    """CoNLL-U text with the surface form and the head of each word; heads always point backwards."""
    lines, text = "", ""
    expected: list[str] = []
    heads: list[int] = []
    for _ in range(draw(st.integers(1, 8))):
        parts = draw(st.lists(forms, min_size=1, max_size=3))
        fused = len(parts) > 1 and draw(st.booleans())
        surface = draw(forms) if fused else "".join(parts)
        space = draw(st.booleans())
        misc = "_" if space else "SpaceAfter=No"
        first = len(heads) + 1
        if len(parts) > 1:
            lines += row(f"{first}-{first + len(parts) - 1}", surface, "_", misc)
        for number, part in enumerate(parts, start=first):
            heads.append(draw(st.integers(0, number - 1)))
            lines += row(number, part, heads[-1], misc if len(parts) == 1 else "_")
        whole = surface != "".join(parts)
        expected.extend([surface] * len(parts) if whole else parts)
        text += surface + (" " if space else "")
    comment = f"# text = {text}\n" if draw(st.booleans()) else ""
    return comment + lines, expected, heads


@settings(max_examples=200, deadline=None)
@given(sentence=treebank_sentences())
def test_slicing_the_sentence_never_loses_a_word(
    tmp_path_factory: pytest.TempPathFactory, sentence: tuple[str, list[str], list[int]]
) -> None:
    text, expected, heads = sentence
    record = convert_one(tmp_path_factory.getbasetemp(), text)
    assert slices(record) == expected
    assert [pair["governor_index"] for pair in record["pairs"]] == heads
    assert [pair["dependent_index"] for pair in record["pairs"]] == list(range(1, len(heads) + 1))


# --- scripts/create_dependency_dataset.py ---


@pytest.mark.parametrize("style", ["json", "jsonl"])
def test_the_dependency_script_keeps_the_good_and_counts_the_bad(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], style: str
) -> None:
    first = write(tmp_path / "1.conllu", row(1, "a", 0) + "\n" + row(1, "b", 4) + "\n" + row(1, "c", 5))
    second = write(tmp_path / "2.conllu", row(1, "d", 0) + row(2, "e", 1) + row(3, "f", 1))
    output = tmp_path / "new" / "out"
    arguments = ["--input", str(first), str(second), "--output", str(output), "--format", style]
    dependency_script.main([*arguments, "--max_words", "2"])
    shown = capsys.readouterr()
    assert "read 4, kept 1, dropped 3 (head out of range 2, too long 1)" in shown.out
    assert shown.out.count("\n") == 1
    assert shown.err.count("dropped: ") == 2
    assert [record["sent"] for _, record in read_records(output)] == ["a"]


def test_the_dependency_script_writes_nothing_without_a_good_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "1.conllu", row(1, "a", 1))
    with pytest.raises(SystemExit, match=r"error: no sentence could be used, .*\(read 1, kept 0, .*cycle 1"):
        dependency_script.main(["--input", str(path), "--output", str(tmp_path / "out.json")])
    assert os.listdir(tmp_path) == ["1.conllu"]


def test_the_dependency_script_refuses_bad_files_and_options(tmp_path: Path) -> None:
    path = write(tmp_path / "1.conllu", row(1, "a", 0))
    with pytest.raises(SystemExit, match=r"error: .*gone\.conllu: there is no such file"):
        dependency_script.main(["--input", str(tmp_path / "gone.conllu"), "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="2"):
        dependency_script.main(["--input", str(path), "--output", str(path)])
    with pytest.raises(SystemExit, match="2"):
        dependency_script.main(["--input", str(path), "--output", str(tmp_path / "o"), "--max_words", "0"])
    assert path.read_text() == row(1, "a", 0)


# --- scripts/convert_redocred.py ---


def mention(sent_id: int, start: int, end: int) -> dict[str, Any]:
    return {"sent_id": sent_id, "pos": [start, end], "name": "x", "type": "PER"}


def document(title: str, **changes: Any) -> dict[str, Any]:
    """Two sentences; entity 0 is in both, 1 and 2 in the first, 3 in the second inside entity 0."""
    return {
        "title": title,
        "sents": [["Ann", "Lee", "met", "Bo", "in", "Rome", title], ["Lee", "Ann", "left", title]],
        "vertexSet": [
            [mention(1, 0, 2), mention(0, 0, 2)],
            [mention(0, 3, 4)],
            [mention(0, 5, 6)],
            [mention(1, 1, 2)],
        ],
        "labels": [
            {"r": "P1", "h": 0, "t": 1, "evidence": []},
            {"r": "P2", "h": 0, "t": 1, "evidence": []},
            {"r": "P1", "h": 0, "t": 1, "evidence": []},
            {"r": "P1", "h": 2, "t": 0, "evidence": []},
            {"r": "P3", "h": 0, "t": 3, "evidence": []},
            {"r": "P4", "h": 1, "t": 3, "evidence": []},
        ],
    } | changes


def convert_documents(tmp_path: Path, documents: list[Any], *options: str) -> dict[str, Any]:
    """Run the script and return what it wrote, by file stem."""
    write(tmp_path / "documents.json", json.dumps(documents))
    output = tmp_path / "out"
    arguments = ["--input", str(tmp_path / "documents.json"), "--output_dir", str(output)]
    redocred_script.main([*arguments, *options])
    return {path.stem: json.loads(path.read_text("utf-8")) for path in output.iterdir()}


def test_documents_become_examples_with_inclusive_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = convert_documents(tmp_path, [document("A"), document("B")], "--dev_fraction", "0.5")
    assert len(written["train"]) == len(written["dev"]) == 3
    title = written["train"][0]["docid"]
    assert written["train"][0] == {
        "docid": title,
        "token": ["Ann", "Lee", "met", "Bo", "in", "Rome", title],
        "relation": "P1",
        "subj_start": 0,
        "subj_end": 1,
        "obj_start": 3,
        "obj_end": 3,
        "subj_label": f"{title}#0",
        "obj_label": f"{title}#1",
    }
    assert list(written["relations"].items()) == [("P1", 0), ("P2", 1)]
    shown = capsys.readouterr().out
    for count in (
        "documents 2",
        "facts 12",
        "facts without a shared sentence 2",
        "sentences dropped for overlapping spans 2",
        "exact duplicates dropped 2",
        "examples that share their spans with another relation 4",
        "train examples 3",
    ):
        assert f"{count}," in shown


def test_a_later_mention_is_used_where_the_first_overlaps(tmp_path: Path) -> None:
    entities = [[mention(0, 0, 2)], [mention(0, 6, 7), mention(0, 5, 6), mention(0, 1, 2)]]
    changes = {"vertexSet": entities, "labels": [{"r": "P1", "h": 1, "t": 0}]}
    written = convert_documents(tmp_path, [document("A", **changes), document("B", **changes)])
    (example,) = written["train"]
    assert (example["subj_start"], example["subj_end"], example["obj_start"]) == (5, 5, 0)


def test_the_split_is_by_document_and_the_bytes_are_the_same_again(tmp_path: Path) -> None:
    documents = [document(f"T{number}") for number in range(20)]
    first = convert_documents(tmp_path, documents, "--dev_fraction", "0.25")
    before = [(tmp_path / "out" / f"{stem}.json").read_bytes() for stem in sorted(first)]
    titles = {stem: {example["docid"] for example in first[stem]} for stem in ("train", "dev")}
    assert not titles["train"] & titles["dev"]
    assert len(titles["dev"]) == 5
    second = convert_documents(tmp_path, documents, "--dev_fraction", "0.25")
    assert before == [(tmp_path / "out" / f"{stem}.json").read_bytes() for stem in sorted(second)]
    other = convert_documents(tmp_path, documents, "--dev_fraction", "0.25", "--seed", "7")
    assert {example["docid"] for example in other["dev"]} != titles["dev"]


def test_rare_relations_are_dropped_and_frequent_ones_capped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = [document(f"T{number}") for number in range(6)]
    documents.append(document("T6", labels=[{"r": "rare", "h": 0, "t": 1}]))
    written = convert_documents(tmp_path, documents, "--min_examples", "2", "--max_per_relation", "5")
    relations = [example["relation"] for example in written["train"] + written["dev"]]
    assert relations.count("P1") == relations.count("P2") == 5
    assert len(relations) == 10
    assert written["relations"] == {"P1": 0, "P2": 1}
    shown = capsys.readouterr().out
    assert "relations dropped as too rare 1, examples dropped with rare relations 1," in shown
    assert "examples dropped over --max_per_relation 8," in shown


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"title": 3}, "'title' is missing or not a str"),
        ({"labels": None}, "'labels' is missing or not a list"),
        ({"sents": [["a", 1]]}, "sentence 0 is not a list of words"),
        ({"vertexSet": [3]}, "entity 0 is not a list of mentions"),
        ({"vertexSet": [[mention(0, 3, 9)]]}, "entity 0 has the mention .*9"),
        ({"vertexSet": [[mention(2, 0, 1)]]}, "entity 0 has the mention"),
        ({"vertexSet": [[mention(-1, 0, 1)]]}, "entity 0 has the mention"),
        ({"vertexSet": [[{"sent_id": 0, "pos": [0.0, 1.0]}]]}, "entity 0 has the mention"),
        ({"vertexSet": [["Ann"]]}, "entity 0 has the mention 'Ann'"),
        ({"labels": [{"r": "P1", "h": 0, "t": 4}]}, "the label .* does not fit; .* below 4"),
        ({"labels": [{"r": 1, "h": 0, "t": 1}]}, "the label .* does not fit"),
        ({"title": "A"}, "the title 'A' is used before"),
    ],
)
def test_a_bad_document_is_refused_with_its_record(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SystemExit, match=r"error: .*documents\.json, record 2: " + message):
        convert_documents(tmp_path, [document("A"), document("B") | changes])
    assert not (tmp_path / "out").exists()


def test_documents_that_cannot_be_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="1 documents with examples cannot be split"):
        convert_documents(tmp_path, [document("A"), document("B", labels=[])])
    with pytest.raises(SystemExit, match="2"):
        convert_documents(tmp_path, [document("A")], "--dev_fraction", "1")
