"""scripts/convert_redocred.py: Re-DocRED to trex-rc."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import load_script

pytestmark = pytest.mark.usefixtures("unpainted")

redocred_script = load_script("scripts/convert_redocred.py")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def mention(sent_id: int, start: int, end: int) -> dict[str, Any]:
    return {"sent_id": sent_id, "pos": [start, end], "name": "x", "type": "PER"}


def document(title: str, **changes: Any) -> dict[str, Any]:
    """Two sentences; entity 0 is in both, 1 and 2 in the first, 3 in the second across entity 0."""
    return {
        "title": title,
        "sents": [["Ann", "Lee", "met", "Bo", "in", "Rome", title], ["Lee", "Ann", "left", title]],
        "vertexSet": [
            [mention(1, 0, 2), mention(0, 0, 2)],
            [mention(0, 3, 4)],
            [mention(0, 5, 6)],
            [mention(1, 1, 3)],
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


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def convert_documents(tmp_path: Path, documents: list[Any], *options: str) -> dict[str, Any]:
    """Run the script and return what it wrote, by file stem."""
    write(tmp_path / "documents.json", json.dumps(documents))
    output = tmp_path / "out"
    arguments = ["--input", str(tmp_path / "documents.json"), "--output_dir", str(output)]
    redocred_script.main([*arguments, *options])
    assert {path.name for path in output.glob("*.png")} == {"relations.png", "lengths.png"}
    relations = json.loads((output / "relations.json").read_text("utf-8"))
    return {path.stem: lines(path) for path in output.glob("*.jsonl")} | {"relations": relations}


def test_documents_become_examples_with_inclusive_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = convert_documents(tmp_path, [document(f"T{number}") for number in range(8)], "--dev_fraction", "0.5")
    assert len(written["cleaned"]) == len(written["train"]) + len(written["dev"]) == 24
    assert written["cleaned"][0] == {
        "docid": "T0",
        "token": ["Ann", "Lee", "met", "Bo", "in", "Rome", "T0"],
        "relation": "P1",
        "subj_start": 0,
        "subj_end": 1,
        "obj_start": 3,
        "obj_end": 3,
        "subj_label": "T0#0",
        "obj_label": "T0#1",
    }
    assert list(written["relations"].items()) == [("P1", 0), ("P2", 1)]
    shown = capsys.readouterr().out
    for count in (
        "documents 8",
        "facts 48",
        "facts without a shared sentence 8",
        "sentences dropped for crossing spans 8",
        "exact duplicates dropped 8",
        "examples that share their spans with another relation 16",
        f"read 24, train {len(written['train'])}, dev {len(written['dev'])}, relations 2",
    ):
        assert count in shown


def test_documents_without_labels_are_counted_and_give_no_example(tmp_path: Path) -> None:
    bare = [document("A") | {"labels": None}, document("B") | {"labels": []}, document("C")]
    del bare[2]["labels"]
    path, counts = write(tmp_path / "a.json", json.dumps([*bare, document("D")])), Counter[str]()
    assert {example["docid"] for example in redocred_script.read_examples(path, counts)} == {"D"}
    assert (counts["documents"], counts["documents without labels"]) == (4, 3)
    write(path, json.dumps(bare))
    with pytest.raises(ValueError, match=r"a\.json: none of the 3 documents has labels; give an annotated file"):
        list(redocred_script.read_examples(path, Counter()))


def test_a_later_mention_is_used_where_the_first_overlaps(tmp_path: Path) -> None:
    entities = [[mention(0, 0, 2)], [mention(0, 6, 7), mention(0, 5, 6), mention(0, 1, 2)]]
    changes = {"vertexSet": entities, "labels": [{"r": "P1", "h": 1, "t": 0}]}
    documents = [document(f"T{number}", **changes) for number in range(8)]
    example = convert_documents(tmp_path, documents, "--dev_fraction", "0.5")["cleaned"][0]
    assert (example["subj_start"], example["subj_end"], example["obj_start"]) == (5, 5, 0)


def test_a_mention_within_the_other_is_kept_where_none_is_apart(tmp_path: Path) -> None:
    entities = [[mention(0, 0, 2)], [mention(0, 1, 3), mention(0, 1, 2)]]  # the first crosses, the second is within
    changes = {"vertexSet": entities, "labels": [{"r": "P1", "h": 1, "t": 0}]}
    path, counts = write(tmp_path / "a.json", json.dumps([document("T", **changes)])), Counter[str]()
    (example,) = redocred_script.read_examples(path, counts)
    spans = [example[f"{role}_{side}"] for role in ("subj", "obj") for side in ("start", "end")]
    assert (spans, counts["sentences dropped for crossing spans"]) == ([1, 1, 0, 1], 0)


def test_the_split_is_by_document_and_the_bytes_are_the_same_again(tmp_path: Path) -> None:
    documents = [document(f"T{number}") for number in range(40)]
    first = convert_documents(tmp_path, documents, "--dev_fraction", "0.25")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    titles = {stem: {example["docid"] for example in first[stem]} for stem in ("train", "dev")}
    assert not titles["train"] & titles["dev"]
    assert len(titles["train"] | titles["dev"]) == 40
    assert 3 <= len(titles["dev"]) <= 17
    convert_documents(tmp_path, documents, "--dev_fraction", "0.25")
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    other = convert_documents(tmp_path, documents, "--dev_fraction", "0.25", "--seed", "7")
    assert {example["docid"] for example in other["dev"]} != titles["dev"]


def test_rare_relations_are_dropped_and_frequent_ones_capped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = [document(f"T{number}") for number in range(9)]
    documents.append(document("T9", labels=[{"r": "rare", "h": 0, "t": 1}]))
    flags = ["--min_examples", "2", "--max_per_relation", "5", "--dev_fraction", "0.3"]
    written = convert_documents(tmp_path, documents, *flags)
    relations = [example["relation"] for example in written["train"] + written["dev"]]
    assert relations.count("P1") == relations.count("P2") == 5
    assert len(relations) == 10
    assert written["relations"] == {"P1": 0, "P2": 1}
    assert "dropped for --max_per_relation 17, dropped for rare relations 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"title": 3}, "'title' is missing or not a str"),
        ({"labels": 3}, "'labels' is missing or not a list"),
        ({"sents": [["a", 1]]}, "sentence 0 is not a list of words"),
        ({"vertexSet": [3]}, "entity 0 is not a list of mentions"),
        ({"vertexSet": [[mention(0, 3, 9)]]}, "entity 0 has the mention .*9"),
        ({"vertexSet": [[mention(2, 0, 1)]]}, "entity 0 has the mention"),
        ({"vertexSet": [[mention(-1, 0, 1)]]}, "entity 0 has the mention"),
        ({"vertexSet": [[{"sent_id": 0, "pos": [0.5, 1]}]]}, "entity 0 has the mention"),
        *(
            ({"vertexSet": [[{"sent_id": 0, "pos": pos}]]}, "entity 0 has the mention")
            for pos in ([0, True], [0], [0, 1, 2], None, "ab", {"0": 1, "1": 2}, [[0], [1]])
        ),
        ({"vertexSet": [[{"sent_id": False, "pos": [0, 1]}]]}, "entity 0 has the mention"),
        ({"sents": [["\u200b", " "]], "vertexSet": [[mention(0, 0, 2)]]}, "entity 0 has the mention .* which is blank"),
        ({"vertexSet": [["Ann"]]}, 'entity 0 has the mention "Ann"'),
        ({"labels": [{"r": "P1", "h": 0, "t": True}]}, "the label .* does not fit"),
        ({"labels": [{"r": "P1", "h": 0, "t": 4}]}, "the label .* does not fit; .* below 4"),
        ({"labels": [{"r": 1, "h": 0, "t": 1}]}, "the label .* does not fit"),
        ({"title": "A"}, "the title 'A' is used before, by record 1; remove"),
    ],
)
def test_a_bad_document_is_refused_with_its_record(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, OSError), match=r"documents\.json, record 2: " + message):
        convert_documents(tmp_path, [document("A"), document("B") | changes])
    assert not list((tmp_path / "out").iterdir())


def test_documents_that_cannot_be_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        (ValueError, OSError), match="3 examples split by document leave (train|dev) empty; give more of them"
    ):
        convert_documents(tmp_path, [document("A"), document("B", labels=[])])


def test_labels_as_columns_and_rows_of_parquet_give_the_same(tmp_path: Path) -> None:
    documents = [document(title) for title in "ABCDEFGHIJ"]
    expected = convert_documents(tmp_path, documents)
    names = {"head": "h", "tail": "t", "relation_id": "r"}
    columns = [
        one | {"labels": {new: [fact[old] for fact in one["labels"]] for new, old in names.items()}}
        for one in documents
    ]
    assert convert_documents(tmp_path, columns) == expected
    pq.write_table(pa.Table.from_pylist(columns), tmp_path / "train.parquet")
    redocred_script.main(["--input", str(tmp_path / "train.parquet"), "--output_dir", str(tmp_path / "parquet")])
    assert lines(tmp_path / "parquet" / "cleaned.jsonl") == expected["cleaned"]
    for labels in ({"head": [0], "tail": [1]}, {"head": [0], "tail": [1], "relation_id": []}, {"relation_id": "P1"}):
        with pytest.raises(
            ValueError, match=r"record 1: labels is .*; give relation_id, head and tail as lists of one"
        ):
            convert_documents(tmp_path, [document("A", labels=labels)])
    with pytest.raises(ValueError, match=r"record 1: the label .* does not fit"):
        convert_documents(tmp_path, [document("A", labels={"head": [0], "tail": [9], "relation_id": ["P1"]})])


def test_documents_are_taken_by_their_place(tmp_path: Path) -> None:
    documents = [document(f"T{number}") for number in range(1, 13)]
    written = convert_documents(tmp_path, documents, "--documents", "3-9", "--dev_fraction", "0.5")
    assert {example["docid"] for example in written["cleaned"]} == {f"T{number}" for number in range(3, 10)}
    with pytest.raises(ValueError, match=r"--documents ends with 13, but .*documents\.json holds 12; give those that"):
        convert_documents(tmp_path, documents, "--documents", "3-13")


@pytest.mark.parametrize("text", ["3", "0-4", "5-4", "a-b", "-3", "3-"])
def test_documents_that_are_no_range_are_refused(tmp_path: Path, capsys: Any, text: str) -> None:
    with pytest.raises(SystemExit):
        convert_documents(tmp_path, [document("A")], f"--documents={text}")
    assert f"--documents is {text!r}" in capsys.readouterr().err


def test_the_types_of_entities_are_written_for_entity_typing(tmp_path: Path) -> None:
    documents = [document(f"T{number}") for number in range(8)]
    documents[0]["vertexSet"][0][1]["type"] = "ORG"
    del documents[0]["vertexSet"][1][0]["type"]
    convert_documents(tmp_path, documents, "--dev_fraction", "0.5")
    types = json.loads((tmp_path / "out" / "types.json").read_text("utf-8"))
    assert types["T0#0"] == ["PER", "ORG"]
    assert "T0#1" not in types
    assert types["T7#3"] == ["PER"]
    assert len(types) == 4 * 8 - 1
    documents[1]["vertexSet"][2][0]["type"] = 7
    with pytest.raises(ValueError, match=r"record 2: entity 2 has the type 7; give a name, or none"):
        convert_documents(tmp_path, documents)
