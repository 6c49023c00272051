"""scripts/convert_fewrel.py: FewRel to trex-rc."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import load_script

from kadapter.data.labels import read_labels
from kadapter.tasks.relations import read_relations

pytestmark = pytest.mark.usefixtures("unpainted")

FEWREL = load_script("scripts/convert_fewrel.py")
WORDS = ["Ann", "Lee", "left", "Oslo", "for", "Lee", "Bay", "."]


def record(head=((0, 1),), tail=((3,),), number=0, **changes):
    mentions = {"h": ["ann lee", f"Q{number}", list(map(list, head))], "t": ["oslo", "Q9", list(map(list, tail))]}
    return {"tokens": WORDS, **mentions, **changes}


def convert(tmp_path, relations, *flags):
    """Run the script and return the examples of all files and by split."""
    path = tmp_path / "fewrel.json"
    path.write_text(json.dumps(relations, indent=1))
    FEWREL.main(["--input", str(path), "--output_dir", str(tmp_path / "out"), *map(str, flags)])
    return {
        name: [json.loads(line) for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("cleaned", "train", "dev")
    }


def test_the_first_mentions_become_spans_with_inclusive_ends(tmp_path):
    some = [record(number=i) for i in range(60)]
    written = convert(
        tmp_path,
        {"P1": some, "P2": [record(head=((5, 6), (0,)), tail=((3,), (0,)))] * 50, "P3": some[:9]},
        "--min_examples",
        50,
    )
    assert written["cleaned"][0] == {
        "docid": "fewrel/P1/1",
        "relation": "P1",
        "token": WORDS,
        "subj_start": 0,
        "subj_end": 1,
        "subj_label": "Q0",
        "obj_start": 3,
        "obj_end": 3,
        "obj_label": "Q9",
    }
    assert (written["cleaned"][60]["subj_start"], written["cleaned"][60]["subj_end"]) == (5, 6)
    assert len({row["docid"] for row in written["cleaned"]}) == 119
    assert len(written["train"]) + len(written["dev"]) == 110  # P3 is rare
    labels = read_labels(tmp_path / "out" / "relations.json")
    assert labels == ["P1", "P2"]
    examples = list(read_relations(tmp_path / "out" / "train.jsonl", labels))
    assert len(examples) == len(written["train"])
    assert examples[0]["pieces"] == ["", "Ann Lee", "left", "Oslo", "for Lee Bay ."]


def test_mentions_that_cannot_be_marked_are_dropped_and_counted(tmp_path, capsys):
    some = [record(number=i) for i in range(40)]
    odd = [record(head=((0, 5),)), record(tail=((1,),)), record(tail=((1, 2),)), record(head=((1, 0),))]
    written = convert(tmp_path, {"P1": some + odd}, "--min_examples", 1, "--dev_fraction", 0.3)
    assert "kept 42, dropped for mention with a gap 1, dropped for crossing mentions 1" in capsys.readouterr().out
    assert [row["docid"] for row in written["cleaned"][40:]] == ["fewrel/P1/42", "fewrel/P1/44"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            record(head=((-1, 0),)),
            r'relation P1, record 2: \["ann lee", "Q0", \[\[-1, 0\]\]\] is not .* within 8 words',
        ),
        (record(tail=((8,),)), "record 2: .* within 8 words; mend it"),
        (record(tail=((),)), "record 2: .* is not"),
        (record(tail=()), "record 2: .* is not"),
        (record(tail=((0.5,),)), "record 2: .* is not"),
        (record(h=None), "record 2: null is not"),
        (record(h=["x", 3, [[0]]]), "record 2: .* is not"),
        (record(tokens=["a", 1]), "record 2: tokens is missing or no list of words"),
        (record(tokens=["\u200b", "", *WORDS[2:]]), "record 2: the mention .* is blank; mend it"),
        (7, "record 2: tokens is missing"),
    ],
)
def test_a_malformed_record_is_refused_with_its_place(tmp_path, bad, message):
    with pytest.raises((ValueError, OSError), match=rf"fewrel\.json.*{message}"):
        convert(tmp_path, {"P1": [record(), bad]})
    assert not list((tmp_path / "out").iterdir())


def test_files_of_another_form_and_relations_given_twice_are_refused(tmp_path):
    with pytest.raises((ValueError, OSError), match=r"fewrel\.json is not {relation: \[record, ...\]}"):
        convert(tmp_path, [record()])
    path = tmp_path / "again.json"
    path.write_text(json.dumps({"P1": [record()]}))
    with pytest.raises(
        (ValueError, OSError), match=r"again\.json: the relation P1 is in .*again\.json too; give each once"
    ):
        FEWREL.main(["--input", str(path), str(path), "--output_dir", str(tmp_path / "out")])


def test_a_choice_that_leaves_nothing_leaves_all_files_as_they_were(tmp_path):
    relations = {"P1": [record(number=i) for i in range(40)]}
    convert(tmp_path, relations, "--min_examples", 1, "--dev_fraction", 0.3)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert before.keys() == {
        "cleaned.jsonl",
        "train.jsonl",
        "dev.jsonl",
        "relations.json",
        *(f"{name}.{ending}" for name in ("relations", "lengths") for ending in ("png", "pdf")),
    }
    with pytest.raises(ValueError, match=r"cleaned\.jsonl: no relation has 50 examples; lower --min_examples"):
        convert(tmp_path, {"P1": relations["P1"][1:]}, "--min_examples", 50)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def hub(relation, number):
    """FewRel as hubs have it."""
    own = record(number=number)
    entities = {
        new: dict(zip(("text", "type", "indices"), own[old], strict=True))
        for old, new in (("h", "head"), ("t", "tail"))
    }
    return {"relation": relation, "tokens": WORDS, **entities, "names": ["a", "b"]}


def test_rows_of_hubs_give_what_fewrels_own_files_give(tmp_path):
    relations = {name: [record(number=i) for i in range(20)] for name in ("P1", "P2")}
    expected = convert(tmp_path, relations)
    rows = [hub(name, i) for name in relations for i in range(20)]
    flat = [
        {key: value for key, value in row.items() if not isinstance(value, dict)}
        | {f"{role}.{key}": value for role in ("head", "tail") for key, value in row[role].items()}
        for row in rows
    ]
    own = [{"relation": name, **one} for name, records in relations.items() for one in records]
    forms = {
        "a.json": rows,
        "flat.json": flat,
        "own.json": own,
        "columns.json": {k: [r[k] for r in rows] for k in rows[0]},
    }
    for name, value in forms.items():
        (tmp_path / name).write_text(json.dumps(value))
    (tmp_path / "shards").mkdir()
    for i, part in enumerate((rows[:30], rows[30:])):
        pq.write_table(pa.Table.from_pylist(part), tmp_path / "shards" / f"train_wiki-0000{i}-of-00002.parquet")
    for source in (*(tmp_path / name for name in forms), tmp_path / "shards"):
        FEWREL.main(["--input", str(source), "--output_dir", str(tmp_path / "other")])
        for name, examples in expected.items():
            written = (tmp_path / "other" / f"{name}.jsonl").read_text().splitlines()
            assert [json.loads(line) for line in written] == examples
    (tmp_path / "a.json").write_text(json.dumps([rows[0], {**rows[1], "head": {"text": "a", "type": "Q1"}}]))
    with pytest.raises(
        ValueError, match=r"a\.json, record 2: \[\"a\", \"Q1\", null\] is not .* within 8 words; mend it"
    ):
        FEWREL.main(["--input", str(tmp_path / "a.json"), "--output_dir", str(tmp_path / "other")])
