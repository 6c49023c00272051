"""What data come in: every form gives the examples of the plain file, and what is of none is called by its kind."""

import csv
import gzip
import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from kadapter.data.jsonio import read_records, write_json_list, write_jsonl
from kadapter.data.splits import files_of, missing, split_path
from kadapter.data.tables import read_rows, read_texts
from kadapter.storage import reading
from kadapter.storage.reading import read_json, read_lines
from kadapter.tasks.check import check_folder
from kadapter.tasks.dependencies import read_dependencies
from kadapter.tasks.entity_typing import OpenEntity, read_entity_typing
from kadapter.tasks.masked_lm import read_text
from kadapter.tasks.multiple_choice import read_cosmosqa
from kadapter.tasks.relations import Tacred, TrexRelations, read_relations
from kadapter.tasks.semeval import LABELS as SEMEVAL_LABELS
from kadapter.tasks.semeval import Semeval, read_semeval

WORDS = ["Ana", "Li", "met", "Bob", "—", '"é"', "."]
RELATIONS = [
    {
        "id": f"x{i}",
        "token": WORDS,
        "relation": f"P{i % 2}",
        "subj_start": 0,
        "subj_end": 1,
        "obj_start": 3,
        "obj_end": 3,
    }
    for i in range(7)
]
TYPES = [{"sent": "We met Ana, Bob.", "start": 7, "end": 10, "labels": ["person", "entity"]} for _ in range(7)]
QUESTIONS = [
    {"id": f"q{i}", "context": 'He said "no",\nthen left.', "question": "Why?", "label": i % 4}
    | {f"answer{j}": f"7, {j}" for j in range(4)}
    for i in range(7)
]
TREES = [
    {
        "sent": "ab c",
        "tokens": [{"1": {"start": 0, "end": 2}}, {"2": {"start": 3, "end": 4}}],
        "pairs": [{"dependent_index": 1, "governor_index": 0}, {"dependent_index": 2, "governor_index": 1}],
    }
    for _ in range(7)
]
READERS = {
    "fac": (RELATIONS, partial(read_relations, labels=["P0", "P1"])),
    "openentity": (TYPES, partial(read_entity_typing, labels=["person", "entity"])),
    "cosmosqa": (QUESTIONS, read_cosmosqa),
    "lin": (TREES, read_dependencies),
}


def packed(write, path, records):
    """The records as `write` does, then compressed as the path says."""
    plain = path.with_name("plain")
    write(plain, records)
    content = plain.read_bytes()
    plain.unlink()
    with gzip.open(path, "wb") if path.suffix == ".gz" else pa.output_stream(str(path), compression="zstd") as file:
        file.write(content)


def write_csv(path, records):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*records[0]])
        writer.writeheader()
        writer.writerows({k: v if isinstance(v, str) else json.dumps(v) for k, v in r.items()} for r in records)


def write_tsv(path, records):
    rows = [[v if isinstance(v, str) else json.dumps(v) for v in record.values()] for record in records]
    path.write_text("\n".join("\t".join(row) for row in [[*records[0]], *rows]) + "\n", encoding="utf-8")


def write_value(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")


def columns(records):
    return {key: [record[key] for record in records] for key in records[0]}


def write_shards(write, ending, path, records):
    """Seven records in three shards, in a folder of that name."""
    path.mkdir()
    for i, part in enumerate((records[:3], records[3:4], records[4:])):
        write(path / f"train-{i:05d}-of-00003{ending}", part)


def write_parquet(path, records):
    pq.write_table(pa.Table.from_pylist(records), path, row_group_size=2)


FORMS = {
    "train.json": write_json_list,
    "train.jsonl": write_jsonl,
    "train.json.gz": partial(packed, write_json_list),
    "train.jsonl.gz": partial(packed, write_jsonl),
    "train.jsonl.zst": partial(packed, write_jsonl),
    "train.csv": write_csv,
    "train.csv.gz": partial(packed, write_csv),
    "train.parquet": write_parquet,
    "train.arrow": lambda path, records: pyarrow.feather.write_feather(pa.Table.from_pylist(records), path),
    "wrapped.json": lambda path, records: write_value(path, {"version": 1.5, "data": records, "more": {"a": [1]}}),
    "split.json": lambda path, records: write_value(path, {"train": records}),
    "columns.json": lambda path, records: write_value(path, columns(records)),
    "pandas.json": lambda path, records: write_value(
        path, {key: dict(enumerate(values)) for key, values in columns(records).items()}
    ),
    "lines": partial(write_shards, write_jsonl, ".jsonl"),
    "packed": partial(write_shards, partial(packed, write_jsonl), ".jsonl.gz"),
    "parquet": partial(write_shards, write_parquet, ".parquet"),
    "saved": lambda path, records: datasets.Dataset.from_list(records).save_to_disk(str(path), num_shards=2),
}


def without_places(examples):
    return [{key: value for key, value in example.items() if key != "record"} for example in examples]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("task", READERS)
def test_every_form_gives_the_examples_of_the_plain_file(tmp_path, task, form):
    records, read = READERS[task]
    write_json_list(tmp_path / "plain.json", records)
    FORMS[form](tmp_path / form, records)
    found = list(read(tmp_path / form))
    assert without_places(found) == without_places(read(tmp_path / "plain.json"))
    numbers = [example["record"] for example in found]
    assert sorted(set(numbers)) == numbers  # of shards too each has its own


def test_tabs_part_columns_and_quotes_are_text(tmp_path):
    write_tsv(tmp_path / "train.tsv", RELATIONS)
    assert len(list(read_relations(tmp_path / "train.tsv", ["P0", "P1"]))) == 7
    (tmp_path / "a.tsv").write_text('text\tlabel\n"Yes", he said.\t1\n')
    assert [row.record for row in read_rows(tmp_path / "a.tsv")] == [{"text": '"Yes", he said.', "label": 1}]
    (tmp_path / "a.tsv").write_text('text\tlabel\n"a ""b"" c"\t1\n')
    with pytest.raises(ValueError, match=r"a\.tsv, line 2: .* is quoted as in csv, but quotes are text in \.tsv; save"):
        list(read_rows(tmp_path / "a.tsv"))


def test_a_pattern_names_shards_and_their_numbers_go_on(tmp_path):
    write_shards(write_jsonl, ".jsonl", tmp_path / "shards", RELATIONS)
    rows = list(read_rows(tmp_path / "shards" / "train-*.jsonl"))
    assert [row.number for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert rows[4].where.endswith("train-00002-of-00003.jsonl, record 1")
    assert [row.record for row in rows] == RELATIONS


def test_classes_of_datasets_are_given_by_their_names(tmp_path):
    features = datasets.Features({"label": datasets.ClassLabel(names=["no", "yes"]), "tags": [datasets.ClassLabel(2)]})
    data = datasets.Dataset.from_dict({"label": [1, 0, -1, None], "tags": [[0, 1]] * 4}, features)
    data.save_to_disk(str(tmp_path / "saved"))
    data.to_parquet(str(tmp_path / "a.parquet"))
    for path in (tmp_path / "saved", tmp_path / "a.parquet"):
        assert [row.record["label"] for row in read_rows(path)] == ["yes", "no", None, None]
        assert [row.record["tags"] for row in read_rows(path)] == [["0", "1"]] * 4


def test_a_record_that_stands_alone_is_no_table_of_columns(tmp_path):
    one = {
        "tokens": ["Ana", "left"],
        "mentions": [{"start": 0, "end": 1, "labels": ["p"]}, {"start": 1, "end": 2, "labels": []}],
    }
    write_jsonl(tmp_path / "a.json", [one])
    assert [example["sent"] for example in read_entity_typing(tmp_path / "a.json", None)] == ["Ana left"] * 2
    for one in ({"a": ["x", "y"], "b": ["z"]}, {"a": {"b": 2}}, {"a": []}, {}, {"a": {"0": 1}, "b": {"1": 1}}):
        write_jsonl(tmp_path / "b.json", [one])
        assert list(read_records(tmp_path / "b.json")) == [(1, one)]


@pytest.mark.parametrize("block", [1, 3, 7])
def test_a_wrapped_list_is_streamed_whatever_its_blocks(tmp_path, monkeypatch, block):
    monkeypatch.setattr("kadapter.data.jsontext._BLOCK", block)
    path = tmp_path / "a.json"
    path.write_text('{"version": 12345, "ok": true, "data" : [ {"a": 1},\n {"a": "é"}], "n": 12}\n', encoding="utf-8")
    assert list(read_records(path)) == [(1, {"a": 1}), (2, {"a": "é"})]
    path.write_text('{"train": [{"a": 1}], "test": [{"a": 2}]}')
    with pytest.raises(
        ValueError, match=r"a\.json holds the lists 'train' and 'test'; give a file of its own for each"
    ):
        list(read_records(path))
    path.write_text('{"data": [{"a": 1}, {"a": 2]}')
    with pytest.raises(ValueError, match=r"a\.json, line 1, column 28: broken JSON"):
        list(read_records(path))


# -- records of other corpora -------------------------------------------------------------------------------------


def opennre(i, **changes):
    entities = {"h": {"name": "ana li", "id": "Q1", "pos": [0, 2]}, "t": {"name": "bob", "id": "Q2", "pos": [3, 4]}}
    return {"token": WORDS, **entities, "relation": f"P{i % 2}", **changes}


def as_text(record, words=WORDS):
    """The same with a text and character offsets."""
    starts = [len(" ".join(words[:i])) + bool(i) for i in range(len(words))]
    entities = {
        key: {
            **record[key],
            "pos": [starts[record[key]["pos"][0]], starts[last := record[key]["pos"][1] - 1] + len(words[last])],
        }
        for key in ("h", "t")
    }
    return {"text": " ".join(words), **entities, "relation": record["relation"]}


def test_opennres_records_are_those_of_trex_with_exclusive_ends(tmp_path):
    write_jsonl(tmp_path / "plain.jsonl", RELATIONS)
    write_jsonl(tmp_path / "train.txt", [opennre(i) for i in range(7)])
    write_jsonl(tmp_path / "text.txt", [as_text(opennre(i)) for i in range(7)])
    expected = list(read_relations(tmp_path / "plain.jsonl", ["P0", "P1"]))
    assert list(read_relations(tmp_path / "train.txt", ["P0", "P1"])) == expected
    assert list(read_relations(tmp_path / "text.txt", ["P0", "P1"])) == expected
    write_parquet(tmp_path / "a.parquet", [opennre(i) for i in range(7)])
    assert list(read_relations(tmp_path / "a.parquet", ["P0", "P1"])) == expected


def test_a_mention_within_a_word_of_a_text_is_taken_as_it_stands(tmp_path):
    record = {"text": "Ana's  friend Bob-Li.", "h": {"pos": [0, 3]}, "t": {"pos": [14, 17]}, "relation": "P0"}
    write_jsonl(tmp_path / "a.jsonl", [record])
    (example,) = read_relations(tmp_path / "a.jsonl", ["P0"])
    assert example["pieces"] == ["", "Ana", "'s friend", "Bob", "-Li."]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"h": {"pos": [0, 0]}}, r"the pos of h is \[0, 0\] in 7 words; it is \[start, end\], .* the end exclusive"),
        ({"t": {"pos": [6, 8]}}, r"the pos of t is \[6, 8\] in 7 words"),
        ({"t": {"pos": [[3], [4]]}}, r"the pos of t is \[\[3\], \[4\]\]"),
        ({"t": {"pos": [3, True]}}, r"the pos of t is \[3, true\]"),
        ({"t": {}}, "the pos of t is null"),
        ({"token": "Ana met"}, 'text and token are null and "Ana met"; give text as a text, or token as a list'),
        ({"token": None}, "text and token are null and null"),
        ({"text": ["Ana"]}, r"text and token are \["),
        ({"text": "Ana  Bob", "h": {"pos": [3, 5]}}, "a mention of .* is blank"),
        ({"relation": 2}, "relation is 2, but the 2 labels are numbered from 0"),
    ],
)
def test_a_bad_record_of_opennre_is_named_and_the_others_are_read(tmp_path, changes, message):
    write_jsonl(tmp_path / "a.jsonl", [opennre(0), opennre(1) | changes, opennre(2)])
    with pytest.raises(ValueError, match=r"a\.jsonl, record 2: " + message):
        list(read_relations(tmp_path / "a.jsonl", ["P0", "P1"]))
    faults = []
    assert len(list(read_relations(tmp_path / "a.jsonl", ["P0", "P1"], on_error=faults.append))) == 2
    assert len(faults) == 1


def test_tacred_and_semeval_take_opennres_records_too(tmp_path):
    labels = ["no_relation", "Cause-Effect(e2,e1)"]
    for folder in ("tacred", "semeval"):
        for split in ("train", "val"):
            (tmp_path / folder).mkdir(exist_ok=True)
            rows = [opennre(i, relation=labels[folder == "semeval"]) for i in range(4)]
            write_jsonl(tmp_path / folder / f"{split}.txt", rows)
    tacred = Tacred.for_folder(tmp_path / "tacred")
    found = list(tacred.read(tacred.path(tmp_path / "tacred", "dev"), "dev"))
    assert [example["pieces"] for example in found] == [["", "Ana Li", "met", "Bob", '— "é" .']] * 4
    semeval = Semeval.for_folder(tmp_path / "semeval")
    for split in ("train", "dev"):  # all of each, as there is a dev file
        found = list(semeval.read(semeval.path(tmp_path / "semeval", split), split))
        assert [example["pieces"] for example in found] == [["", "Ana Li", " met ", "Bob", ' — "é" .']] * 4


def test_semeval_s_forms_give_the_examples_of_the_official_file(tmp_path):
    sentences = ["The <e1>cause</e1>, of <e2>it</e2>.", "A <e2>b c</e2> in <e1>d</e1>"]
    rows = []
    (tmp_path / "train.txt").write_text(
        "".join(f'{i}\t"{sentence}"\nCause-Effect(e2,e1)\nComment:\n\n' for i, sentence in enumerate(sentences, 1))
    )
    for sentence in sentences:
        places, plain = {}, ""
        for part in re.split(r"(</?e[12]>)", sentence):
            if re.fullmatch("</?e[12]>", part):
                places[part] = len(plain)
            else:
                plain += part
        spans = {key: {"pos": [places[f"<e{i}>"], places[f"</e{i}>"]]} for i, key in ((1, "h"), (2, "t"))}
        rows.append({"text": plain, **spans, "relation": "Cause-Effect(e2,e1)"})
    write_jsonl(tmp_path / "opennre.txt", rows)
    names = datasets.Features(
        {"sentence": datasets.Value("string"), "relation": datasets.ClassLabel(names=[*SEMEVAL_LABELS])}
    )
    tagged = {"sentence": sentences, "relation": ["Cause-Effect(e2,e1)"] * 2}
    datasets.Dataset.from_dict(tagged, names).to_parquet(str(tmp_path / "hub.parquet"))
    expected = without_places(read_semeval(tmp_path / "train.txt", SEMEVAL_LABELS))
    assert len(expected) == 2
    for name in ("opennre.txt", "hub.parquet"):
        assert without_places(read_semeval(tmp_path / name, SEMEVAL_LABELS)) == expected
    write_jsonl(tmp_path / "bad.jsonl", [{**rows[0], "relation": 3}])
    with pytest.raises(
        ValueError, match=r"bad\.jsonl, record 1: sentence and relation are .*3; give a text and the name"
    ):
        list(read_semeval(tmp_path / "bad.jsonl", SEMEVAL_LABELS))


def test_semeval_holds_dev_out_of_train_in_every_form(tmp_path):
    rows = [opennre(0, relation="Other", token=[*WORDS, str(i)]) for i in range(20)]
    write_parquet(tmp_path / "train-00000-of-00001.parquet", rows)
    task = Semeval.for_folder(tmp_path)
    found = {split: list(task.read(task.path(tmp_path, split), split)) for split in ("train", "dev")}
    assert {split: len(examples) for split, examples in found.items()} == {"train": 18, "dev": 2}
    assert {example["record"] for examples in found.values() for example in examples} == {*range(1, 21)}


def test_numbers_of_relations_go_by_the_file_of_labels(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [{**RELATIONS[i], "relation": number} for i, number in enumerate((1, 0.0))])
    (tmp_path / "T_REx_pred2ic.json").write_text('{"P37": 1, "P47": 0}')
    task = TrexRelations.for_folder(tmp_path)
    assert [example["relation"] for example in task.read(tmp_path / "train.jsonl", "train")] == ["P37", "P47"]
    with pytest.raises(ValueError, match="record 1: relation is 1; give the name of one"):
        list(Tacred.for_folder(tmp_path).read(tmp_path / "train.jsonl", "train"))  # whose numbers would those be?
    own = tmp_path / "own.json"
    own.write_text('["no_relation", "per:age"]')
    found = Tacred.for_folder(tmp_path, own).read(tmp_path / "train.jsonl", "train")
    assert [example["relation"] for example in found] == ["per:age", "no_relation"]
    (tmp_path / "relations.json").write_text('["P37", "P47"]')
    with pytest.raises(ValueError, match="relations.json and T_REx_pred2ic.json, which differ; remove one, or give"):
        TrexRelations.for_folder(tmp_path)
    (tmp_path / "relations.json").write_text('["P47", "P37"]')
    assert TrexRelations.for_folder(tmp_path).labels == ("P47", "P37")


def test_mentions_in_tokens_make_an_example_each(tmp_path):
    words = ["We", "met", "Ana", "Li", "."]
    mentions = [{"start": 2, "end": 4, "labels": ["/person"]}, {"start": 0.0, "end": 1.0, "labels": []}]
    rows = [{"tokens": words, "mentions": mentions, "senid": 0}, {"tokens": words, "mentions": []}]
    write_jsonl(tmp_path / "train.json", rows)
    found = list(read_entity_typing(tmp_path / "train.json", None))
    assert [example["sent"][example["start"] : example["end"]] for example in found] == ["Ana Li", "We"]
    assert [example["labels"] for example in found] == [["/person"], []]
    for bad, message in (
        ({"start": 2, "end": 2, "labels": []}, "mention 1: start and end are 2 and 2 in 5 words; .* exclusive"),
        ({"start": 4, "end": 6, "labels": []}, "mention 1: start and end are 4 and 6"),
        ({"start": 2, "labels": []}, r"mention 1: the keys \['end'\] are missing"),
        ("Ana", 'mention 1: "Ana" is not an object'),
        ({"start": 2, "end": 3, "labels": "p"}, 'labels is "p"; give a list of names'),
    ):
        write_jsonl(tmp_path / "bad.json", [{"tokens": words, "mentions": [bad]}])
        with pytest.raises(ValueError, match=r"bad\.json, record 1(, |: )" + message):
            list(read_entity_typing(tmp_path / "bad.json", None))


@pytest.mark.parametrize(
    ("record", "script"),
    [
        ({"mention_span": "a", "y_str": [], "left_context_token": []}, "convert_ufet"),
        ({"title": "a", "sents": [], "vertexSet": []}, "convert_redocred"),
        ({"tokens": ["a"], "h": ["a", "Q1", [[0]]], "t": ["a", "Q1", [[0]]]}, "convert_fewrel"),
        ({"docid": "a", "words_boundaries": [], "triples": []}, "clean_T_REx"),
    ],
)
def test_a_corpus_that_must_be_converted_is_recognised(tmp_path, record, script):
    write_json_list(tmp_path / "train.json", [record])
    for read in (partial(read_relations, labels=["P0"]), partial(read_entity_typing, labels=None)):
        with pytest.raises(ValueError, match=rf"train\.json, record 1: .* it looks like .*scripts/{script}\.py"):
            list(read(tmp_path / "train.json"))
    write_value(tmp_path / "train.json", {"P1": [record], "P2": [record]})
    with pytest.raises(ValueError, match=r"train\.json holds lists of records under .P1., .P2.; .*convert_fewrel"):
        list(read_rows(tmp_path / "train.json"))


def test_plain_text_is_a_line_a_row_and_a_column_of_texts_is_text(tmp_path):
    (tmp_path / "a.txt").write_text('One {.\n\n{"text": \nTwo\n')
    assert [(row.number, row.record["text"]) for row in read_rows(tmp_path / "a.txt")] == [
        (1, "One {."),
        (3, '{"text": '),
        (4, "Two"),
    ]
    write_parquet(tmp_path / "a.parquet", [{"text": "One {.\n"}, {"text": '{"text": \nTwo'}])
    lines = [line for example in read_text(tmp_path / "a.parquet") for line in example["lines"]]
    assert (
        lines
        == [line for example in read_text(tmp_path / "a.txt") for line in example["lines"]]
        == ["One {.", '{"text":', "Two"]
    )
    (tmp_path / "b.txt").write_text('{"a": 1}\nx\n')
    assert [line for _, line in read_texts(tmp_path / "b.txt")] == ['{"a": 1}', "x"]  # text for whoever wants text
    write_parquet(tmp_path / "b.parquet", [{"title": "x"}])
    with pytest.raises(ValueError, match=r"b\.parquet, row 1: text is null; give a column of that name"):
        list(read_texts(tmp_path / "b.parquet"))


# -- where splits lie ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other", ["train.jsonl", "train.parquet", "train.csv.gz", "train-00000-of-00001.parquet", "train"]
)
def test_a_split_that_is_there_twice_is_refused_with_both_names(tmp_path, other):
    write_json_list(tmp_path / "train.json", RELATIONS)
    form = "parquet" if other == "train" else other.replace("-00000-of-00001", "")
    FORMS[form](tmp_path / other, RELATIONS)
    (tmp_path / "relations.json").write_text('["P0", "P1"]')
    task = TrexRelations.for_folder(tmp_path)
    with pytest.raises(ValueError, match="holds the train split more than once: ") as caught:
        task.path(tmp_path, "train")
    assert "train.json" in str(caught.value)
    assert other.partition("00000")[0] in str(caught.value)
    assert any("more than once" in fault for fault in check_folder(task, tmp_path)["train"].faults)


def test_dev_has_several_names_but_one_of_them_at_a_time(tmp_path):
    write_jsonl(tmp_path / "validation.jsonl", TYPES)
    assert OpenEntity.for_folder(tmp_path).path(tmp_path, "dev") == tmp_path / "validation.jsonl"
    write_jsonl(tmp_path / "dev.jsonl", TYPES)
    with pytest.raises(ValueError, match=r"dev split more than once: dev\.jsonl and validation\.jsonl"):
        split_path(tmp_path, "dev")
    for name in (
        "train.conllu.json",
        "train.json.lock",
        ".train.json",
        "train_a.json",
        "trainer.json",
        "train.json.bak",
    ):
        (tmp_path / name).write_text("{}")
    assert split_path(tmp_path, "train") == tmp_path / "train.json"
    assert not files_of(tmp_path / "train.json")


def test_a_missing_split_is_said_with_what_lies_there_instead(tmp_path):
    for i in range(10):
        (tmp_path / f"{i}.json").write_text("[]")
    (tmp_path / "sub").mkdir()
    assert (
        missing(tmp_path / "train.json")
        == f"{tmp_path} holds " + ", ".join(f"{i}.json" for i in range(8)) + " and 3 more."
    )
    assert missing(tmp_path / "no" / "train.json") == f"There is no folder {tmp_path / 'no'}."
    task = OpenEntity.for_folder(tmp_path)
    assert "0.json" in check_folder(task, tmp_path)["train"].faults[0]


def test_shards_that_are_not_whole_or_not_of_one_set_are_refused(tmp_path):
    write_shards(write_jsonl, ".jsonl", tmp_path / "train", RELATIONS)
    (tmp_path / "train" / "train-00001-of-00003.jsonl").unlink()
    with pytest.raises(ValueError, match="holds 2 shards of 3: train-00000-of-00003.jsonl, train-00002-of-00003.jsonl"):
        list(read_rows(tmp_path / "train"))
    write_jsonl(tmp_path / "train" / "other.jsonl", RELATIONS)
    with pytest.raises(ValueError, match="no shards of one split; give one file"):
        files_of(tmp_path / "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is a folder without data files"):
        list(read_rows(tmp_path / "empty"))
    datasets.DatasetDict({"train": datasets.Dataset.from_list(TYPES)}).save_to_disk(str(tmp_path / "dict"))
    with pytest.raises(ValueError, match=r"dict holds several splits \(\['train'\]\); give the folder of one"):
        list(read_rows(tmp_path / "dict"))
    task = OpenEntity.for_folder(tmp_path / "dict")
    assert len(list(task.read(task.path(tmp_path / "dict", "train"), "train"))) == 7
    next((tmp_path / "dict" / "train").glob("*.arrow")).unlink()
    with pytest.raises(ValueError, match="lacks data-00000-of-00001.arrow; save the data set again"):
        files_of(tmp_path / "dict" / "train")


# -- what is not taken ---------------------------------------------------------------------------------------------

KINDS = {
    "gzip": (gzip.compress(b'{"a": 1}'), r"is compressed with gzip; name it .*a\.json\.gz"),
    "zip": (b"PK\x03\x04 something", "is a zip archive or a spreadsheet; unpack it"),
    "bzip2": (b"BZh91AY&SY", "is compressed with bzip2; unpack it: bzip2 -dc"),
    "parquet": (b"PAR1 something PAR1", r"is Parquet; name it .*a\.parquet"),
    "arrow": (b"ARROW1\0\0 something", r"is Arrow; name it .*a\.arrow"),
    "utf16": ('{"a": 1}'.encode("utf-16"), "is text in UTF-16; save it as UTF-8: iconv -f UTF-16 -t UTF-8 "),
    "utf16be": ('{"a": 1}'.encode("utf-16-be"), "is text in UTF-16BE; save it as UTF-8: iconv"),
    "utf16le": ('{"a": 1}'.encode("utf-16-le"), "is text in UTF-16LE"),
    "pickle": (b"\x80\x04\x95something", "is a pickle of Python"),
    "pretty": (b'{\n "a": 1\n}\n', r"a\.json, line 1: an object over several lines .pretty-printed JSON.; .* jq -c \."),
    "pretties": (b'{\n "a": 1\n}\n{\n "a": 2\n}\n', r"a\.json, line 1: an object over several lines"),
    "together": (
        b'{"a": 1}{"a": 2}\n',
        r"line 1, column 9: broken JSON .*several objects stand on the line; .* jq -c \.",
    ),
    "lists": (b'[{"a": 1}]\n[{"a": 2}]\n', r"line 2: .*a second list follows; .*jq -c '\.\[\]'"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_of_another_kind_is_called_by_it_with_the_command_that_helps(tmp_path, kind):
    content, message = KINDS[kind]
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read_records(tmp_path / "a.json"))
    if not kind.startswith(("pretty", "pretties")):  # which one value may be
        with pytest.raises(ValueError, match=re.escape(str(tmp_path / "a.json"))):
            read_json(tmp_path / "a.json")


def test_json_lines_in_the_place_of_one_value_are_recognised(tmp_path):
    (tmp_path / "labels.json").write_text('"a"\n"b"\n')
    with pytest.raises(ValueError, match=r"labels\.json, line 2, column 1: broken JSON .* JSON lines, .*jq -s \. "):
        read_json(tmp_path / "labels.json")


def test_a_name_that_promises_another_kind_is_refused(tmp_path):
    for name, content, message in (
        ("a.json.gz", b'[{"a": 1}]', r"a\.json\.gz is not compressed with gzip, as its name says; .*without \.gz"),
        ("a.json.zst", b'[{"a": 1}]', r"a\.json\.zst is not compressed with zstd"),
        ("a.json.gz", b"", "is empty; fetch it again"),
        ("a.json.gz", gzip.compress(b'[{"a": 1}]' * 999)[:-9], "cannot be unpacked .*; fetch it again"),
        ("a.json.gz", gzip.compress(gzip.compress(b"[]")), "is compressed with gzip.*what is packed in it"),
        ("a.parquet", b'[{"a": 1}]', r"a\.parquet cannot be read .*; fetch or write the file again"),
        ("a.arrow", b'[{"a": 1}]', r"a\.arrow cannot be read"),
        ("a.parquet.gz", gzip.compress(b"PAR1"), "is compressed twice"),
        ("a.csv", b"a;b\n1;2\n", "line 1: columns seem to be separated by ';'"),
        ("a.csv", b"a,a\n1,2\n", "line 1: the column 'a' stands there twice"),
        ("a.csv", b"", r"a\.csv is empty; give a header"),
        ("a.csv", b"a,b\n", r"a\.csv holds no rows"),
        ("a.csv", b'a,b\n1,"2\n', r"a\.csv, line 2: broken csv"),
        ("a.csv", b"a,b\n1\n", r"a\.csv, line 2: 1 fields for 2 columns"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            list(read_rows(tmp_path / name))


def test_bad_rows_are_named_in_every_form_and_the_others_are_read(tmp_path):
    bad = [RELATIONS[0], {**RELATIONS[1], "relation": "P9"}, RELATIONS[2]]
    for form, place in (
        ("train.csv", "line 3"),
        ("train.parquet", "row 2"),
        ("train.jsonl.gz", "record 2"),
        ("columns.json", "record 2"),
    ):
        FORMS[form](tmp_path / form, bad)
        faults = []
        found = list(read_relations(tmp_path / form, ["P0", "P1"], on_error=faults.append))
        assert len(found) == 2
        assert str(faults[0]).startswith(f"{tmp_path / form}, {place}: relation 'P9' is not among")


def test_dates_and_bytes_of_parquet_can_be_shown(tmp_path):
    table = pa.table(
        {**{key: [value] for key, value in TYPES[0].items() if key != "sent"}, "sent": pa.array([b"\xff"])}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet, row 1: sent, start and end are .*xff.*; give a text"):
        list(read_entity_typing(tmp_path / "a.parquet", None))


# -- memory ---------------------------------------------------------------------------------------------------------


def test_a_line_without_end_is_refused_without_holding_it(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LONGEST", 1000)
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n' + "x" * 5000 + '\n{"a": 2}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: longer than 0 MiB; write one record on each line"):
        list(read_records(path))
    faults = []
    assert list(read_records(path, faults.append)) == [(1, {"a": 1}), (3, {"a": 2})]
    assert len(faults) == 1
    assert [number for number, _ in read_lines(path, faults.append)] == [1, 3]


def test_a_value_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_WHOLE", 100)
    monkeypatch.setattr("kadapter.data.jsonobject._WHOLE", 100)
    write_value(tmp_path / "a.json", columns(RELATIONS))
    with pytest.raises(ValueError, match=r"a\.json begins with an object of more than 0 MiB; write one object on"):
        list(read_records(tmp_path / "a.json"))
    with pytest.raises(ValueError, match=r"a\.json holds more than 0 MiB in one JSON value"):
        read_json(tmp_path / "a.json")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak of one process is read there")
@pytest.mark.parametrize("content", ["zeros", "blanks", "list"])
def test_a_bomb_does_not_fill_the_memory(tmp_path, content):
    path = tmp_path / "bomb.json.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write({"zeros": b"", "blanks": b"", "list": b'[{"a": "'}[content])
        for _ in range(600):
            file.write({"zeros": b"{", "blanks": b" ", "list": b"x"}[content] * (1 << 20))
    script = f"""
from kadapter.data.tables import read_rows
try:
    list(read_rows({str(path)!r}))
except ValueError as error:
    print(str(error)[:300])
(peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak) >> 10)  # not resource's, which counts what this process had before it started another
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "bomb.json.gz" in shown
    assert int(shown.split()[-1]) < 400  # MiB; the file unpacked has 600
