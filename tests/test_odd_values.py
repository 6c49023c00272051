"""Readers on values that nobody expects: odd labels, wrong types in every field, numbers and nesting without end."""

import json
import random
import re

import pytest
from conftest import load_script

from kadapter.data.cleaned import read_cleaned
from kadapter.data.encoding import Encoding
from kadapter.data.jsonio import write_jsonl
from kadapter.shapes import IGNORE
from kadapter.tasks.check import check_folder, findings
from kadapter.tasks.dependencies import DependencyHeads, read_dependencies
from kadapter.tasks.entity_typing import read_entity_typing
from kadapter.tasks.glue import SST2, CoLA, read_glue
from kadapter.tasks.multiple_choice import read_cosmosqa
from kadapter.tasks.relations import read_relations
from kadapter.tasks.semeval import LABELS as SEMEVAL_LABELS
from kadapter.tasks.semeval import Semeval, _spans, read_semeval

COSMOSQA = load_script("scripts/convert_cosmosqa.py")
FEWREL = load_script("scripts/convert_fewrel.py")
UFET = load_script("scripts/convert_ufet.py")

# -- SemEval ----------------------------------------------------------------------------------------------------

# What the reader had before, as the oracle: right, but quadratic where tags stay open.
PAIRS = re.compile(r"(.*?)<e([12])>(.*?)</e\2>(.*?)<e([12])>(.*?)</e\5>(.*)", re.DOTALL)


def test_the_tags_of_a_sentence_are_those_that_a_pattern_finds():
    rng = random.Random(0)
    found = 0
    for _ in range(4000):
        parts = ["<e1>", "</e1>", "<e2>", "</e2>", *rng.choices(["a", "<e3>"], k=rng.randrange(8))]
        parts += rng.choices(["<e1>", "</e2>"], k=rng.randrange(3) // 2)
        rng.shuffle(parts)
        sentence = "".join(parts)
        match, once = (
            PAIRS.fullmatch(sentence),
            all(parts.count(f"<{side}e{i}>") == 1 for side in ("", "/") for i in (1, 2)),
        )
        if not once:
            assert not _spans(sentence)
        elif match and match[2] != match[5]:
            found += 1
            first, second = match.span(3), match.span(6)
            spans = [(first[0] - 4, first[1] - 4), (second[0] - 13, second[1] - 13)]  # without the tags before
            assert list(_spans(sentence)) == spans[:: 1 if match[2] == "1" else -1]
    assert found > 100


def test_tags_within_tags_nest_and_tags_that_cross_are_dropped_and_counted(tmp_path, tokenizer):
    lines = [
        "the <e1>Lord of <e2>York</e2></e1>",
        "<e2>a <e1>b</e1> c</e2>",
        "<e1>a <e2>b</e1> c</e2>",
        "<e2><e1>a</e1></e2>",
    ]
    rows = [f'{i}\t"{line} ."\nOther\n' for i, line in enumerate(lines, 1)]
    (tmp_path / "train.txt").write_text("\n".join(rows))
    examples = list(read_semeval(tmp_path / "train.txt", SEMEVAL_LABELS))
    task = Semeval(labels=SEMEVAL_LABELS)
    shown = [task.marked(example) for example in examples]
    assert shown[:2] == ["the @ Lord of ^ York ^ @ .", "^ a @ b @ c ^ ."]
    assert shown[3] == "@ ^ a ^ @ ."  # around the same words the subject is the outer one
    assert [example["fault"] for example in examples] == ["", "", "the mentions cross", ""]
    assert [feature.get("dropped", "") for feature in task.encode(examples, Encoding(tokenizer, 32))][2] != ""


def test_a_sentence_of_many_open_tags_is_refused_without_looking_for_pairs_forever(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text('1\t"' + "<e1>" * 200_000 + '"\nOther\n\n2\t"<e2>A</e2> of <e1>B</e1>."\nOther\n')
    faults = []
    (example,) = read_semeval(path, SEMEVAL_LABELS, on_error=lambda error: faults.append(str(error)))
    assert example["pieces"] == ["", "A", " of ", "B", "."]
    assert not example["subject_first"]
    assert len(faults) == 1
    assert "train.txt, line 1: " in faults[0]
    assert "is no example; write number, tab and the sentence with one <e1>...</e1> and one <e2>" in faults[0]


# -- CosmosQA ---------------------------------------------------------------------------------------------------

QUESTION = {"context": "c", "question": "q", **{f"answer{i}": "a" for i in range(4)}}


@pytest.mark.parametrize("label", [-1, "-1", -1.0, None])
def test_minus_one_and_null_keep_a_label_back(tmp_path, label):
    write_jsonl(tmp_path / "a.jsonl", [{**QUESTION, "label": label}, QUESTION])
    assert [row["label"] for row in read_cosmosqa(tmp_path / "a.jsonl", labelled=False)] == [IGNORE, IGNORE]
    with pytest.raises(ValueError, match=r'record 1: label is (-1|"-1"|-1\.0|null); it must be 0 to 3'):
        next(read_cosmosqa(tmp_path / "a.jsonl"))


def test_a_label_kept_back_and_a_label_do_not_go_together(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{**QUESTION, "label": -1}, {**QUESTION, "label": 2}])
    with pytest.raises(ValueError, match="record 2: some records have a label and some have none"):
        list(read_cosmosqa(tmp_path / "a.jsonl", labelled=False))


@pytest.mark.parametrize("blank", ["", " ", "\u200b", "\ufeff\n"])
def test_a_question_answer_or_context_that_nobody_sees_is_refused(tmp_path, blank):
    good = {**QUESTION, "label": 1}
    for key in QUESTION:
        write_jsonl(tmp_path / "a.jsonl", [good, {**good, key: blank}])
        with pytest.raises(ValueError, match=rf'record 2: {key} is ".*"; give a text'):
            list(read_cosmosqa(tmp_path / "a.jsonl"))
        row = ",".join(f'"{value}"' for value in {**good, key: blank, "id": "x"}.values())
        (tmp_path / "test.csv").write_text(",".join([*good, "id"]) + f"\n{row}\n")
        with pytest.raises(ValueError, match=rf"test\.csv, line 2: {key} is empty; give a text"):
            list(COSMOSQA.read_questions(tmp_path / "test.csv", True))


def test_a_whole_number_is_a_label_and_a_truth_value_is_none(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{**QUESTION, "label": label} for label in (1, "1", 1.0, 3.0)])
    assert [row["label"] for row in read_cosmosqa(tmp_path / "a.jsonl")] == [1, 1, 1, 3]
    for label in (True, False, 1.5, 4, -2, -100, "one", "", [1], {}):
        for labelled in (True, False):
            write_jsonl(tmp_path / "a.jsonl", [{**QUESTION, "label": label}])
            with pytest.raises(ValueError, match=rf"record 1: label is {re.escape(json.dumps(label))}; it must be"):
                list(read_cosmosqa(tmp_path / "a.jsonl", labelled=labelled))


@pytest.mark.parametrize("label", ["-1", "-1.0", ""])
def test_a_csv_of_labels_kept_back_becomes_questions_without(tmp_path, label):
    header = [*QUESTION, "id", "label"]
    (tmp_path / "test.csv").write_text(",".join(header) + "\n" + ",".join([*QUESTION.values(), "x", label]) + "\n")
    (row,) = COSMOSQA.read_questions(tmp_path / "test.csv", None)
    assert row == {**QUESTION, "id": "x"}
    with pytest.raises(ValueError, match=r"test\.csv, line 2: label is '.*'; it must be 0 to 3"):
        list(COSMOSQA.read_questions(tmp_path / "test.csv", True))


# -- dependencies -----------------------------------------------------------------------------------------------


def tree(heads, spans=None):
    """A record of as many one-letter words as heads, with those spans if they are given."""
    spans = spans or [(i, i + 1) for i in range(len(heads))]
    return {
        "sent": "abcdefgh",
        "tokens": [{str(i): {"start": start, "end": end}} for i, (start, end) in enumerate(spans, 1)],
        "pairs": [{"dependent_index": i, "governor_index": head} for i, head in enumerate(heads, 1)],
    }


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        (tree([2, 0, 2]), ""),
        (tree([0, 0, 2.0]), ""),
        (tree([0, 1, 1], [(0, 2), (0, 2), (2, 3)]), ""),  # "zum" is zu and dem
        (tree([0, 2, 1]), "a word is its own governor"),
        (tree([2, 1, 0]), "the governors run in a circle"),
        (tree([2, 3, 4, 2, 0]), "the governors run in a circle"),
        (tree([2, 0], [(0, 2), (1, 3)]), "words overlap or are not in order"),
        (tree([2, 0], [(0, 3), (1, 2)]), "words overlap or are not in order"),
        (tree([2, 0], [(2, 3), (0, 1)]), "words overlap or are not in order"),
    ],
)
def test_words_and_governors_that_are_no_tree_are_dropped_and_counted(tmp_path, tokenizer, record, fault):
    write_jsonl(tmp_path / "train.jsonl", [record, tree([0, 1])])
    task = DependencyHeads()
    examples = list(task.read(tmp_path / "train.jsonl", "train"))
    assert [example["fault"] for example in examples] == [fault, ""]
    features = task.encode(examples, Encoding(tokenizer, 32))
    assert [feature.get("dropped", "") for feature in features] == [fault, ""]
    write_jsonl(tmp_path / "dev.jsonl", [tree([0, 1])])
    reports = check_folder(task, tmp_path)
    said = findings(task, reports, 32)
    assert (f"1 records of train are left out: {fault} (the first is record 1)." in said) == bool(fault)


# -- any value in any field -------------------------------------------------------------------------------------

RELATION = {
    "id": "x",
    "token": ["a", "b", "c"],
    "relation": "P1",
    "subj_start": 0,
    "subj_end": 0,
    "obj_start": 1,
    "obj_end": 1,
}
ENTITY = {"sent": "We met Ana.", "start": 7, "end": 10, "labels": ["person"]}
TREE = {
    "sent": "ab",
    "tokens": [{"1": {"start": 0, "end": 1}}, {"2": {"start": 1, "end": 2}}],
    "pairs": [{"dependent_index": 1, "governor_index": 0}, {"dependent_index": 2, "governor_index": 1}],
}
EVIDENCE = {f"answer{i}_searched_evidence": {"basic": [{"text": "t"}]} for i in range(4)}
READERS = {
    "fac": (RELATION, lambda path, on_error: read_relations(path, ("P1",), on_error=on_error)),
    "cosmosqa": (
        {**QUESTION, "id": "x", "label": "1", **EVIDENCE},
        lambda path, on_error: read_cosmosqa(path, evidence=True, on_error=on_error),
    ),
    "openentity": (ENTITY, lambda path, on_error: read_entity_typing(path, ("person",), on_error)),
    "figer": (ENTITY, lambda path, on_error: read_entity_typing(path, None, on_error)),
    "lin": (TREE, read_dependencies),
}
DEEP, LONG = "[" * 100_000 + "]" * 100_000, "9" * 5000
# Each is wrong wherever it stands, but for numbers as ids.
VALUES = ["[[]]", '{"a": [1]}', "[" * 900 + "]" * 900, DEEP, LONG, "-" + "9" * 4000, '"\\ud800"', "true", "1.5", "NaN"]


def places(value, path=()):
    """Paths to all values in a value."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


def spoilt(record, place, value):
    """The record as JSON, with the JSON `value` at a place."""
    inner = record = json.loads(json.dumps(record))
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = "here"
    return json.dumps(record).replace('"here"', value)


@pytest.mark.parametrize("task", READERS)
def test_a_wrong_value_in_any_field_is_named_and_the_other_records_are_read(task, tmp_path):
    record, read = READERS[task]
    cases = [(place, value) for place in places(record) for value in VALUES]
    cases = [(place, value) for place, value in cases if place != ("id",) or value[0] in '[{"']
    good = [json.dumps({**record, "id": i}) for i in range(len(cases) + 1)]
    bad = [spoilt(record, *case) for case in cases]
    rows = [row for pair in zip(good, bad, strict=False) for row in pair] + good[-1:]
    for text in (f"[{', '.join(rows)}]", "\n".join(rows)):
        (tmp_path / "a.json").write_text(text)
        faults = list[ValueError]()
        examples = list(read(tmp_path / "a.json", faults.append))
        assert [example["record"] for example in examples] == list(range(1, len(rows) + 1, 2))
        for number, fault in zip(range(2, len(rows), 2), map(str, faults), strict=True):
            assert re.match(rf"{re.escape(str(tmp_path))}/a\.json, (record|line) {number}[:,]", fault)
            assert len(fault) - len(str(tmp_path)) < 400


def test_a_value_without_end_is_shown_with_its_key(tmp_path):
    for value, message in ((LONG, 'too long. in .*"start": 9999'), (DEEP, "nested too deeply. in .*sent")):
        (tmp_path / "a.json").write_text(f"[{json.dumps(ENTITY)},\n{spoilt(ENTITY, ('start',), value)}]")
        with pytest.raises(ValueError, match=rf"a\.json, record 2, line 2: unreadable JSON \(.*{message}"):
            list(read_entity_typing(tmp_path / "a.json", None))


def test_a_list_is_read_on_behind_a_bad_value_that_crosses_a_block(tmp_path):
    row = spoilt(ENTITY, ("start",), "[" * 700_000 + r'"]\"[",' + "1" + "]" * 700_000)
    (tmp_path / "a.json").write_text(f"[{json.dumps(ENTITY)}, {row}, {LONG}, {json.dumps(ENTITY)}, [{DEEP}]]")
    faults = list[str]()
    examples = list(read_entity_typing(tmp_path / "a.json", None, lambda error: faults.append(str(error))))
    assert [example["record"] for example in examples] == [1, 4]
    assert len(faults) == 3


def test_truth_values_are_no_ids(tmp_path):
    for value in (True, False):
        write_jsonl(tmp_path / "b.jsonl", [{**RELATION, "id": value}])
        with pytest.raises(ValueError, match=r"record 1: the id is (true|false); give a text or a number"):
            next(read_relations(tmp_path / "b.jsonl", ("P1",)))


def test_whole_floats_are_numbers_and_lists_are_no_ids(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{**ENTITY, "start": 7.0, "end": 10.0}])
    assert repr(next(read_entity_typing(tmp_path / "a.jsonl", None))["end"]) == "10"
    write_jsonl(tmp_path / "b.jsonl", [{**RELATION, "obj_start": 1.0, "obj_end": 1.0}])
    assert next(read_relations(tmp_path / "b.jsonl", ("P1",)))["pieces"] == ["", "a", "", "b", "c"]
    for changes, message in (
        ({"id": ["x"]}, r'record 1: the id is \["x"\]; give'),
        ({"relation": ["P1"]}, r'relation is \["P1"\]'),
    ):
        write_jsonl(tmp_path / "b.jsonl", [{**RELATION, **changes}])
        with pytest.raises(ValueError, match=message):
            next(read_relations(tmp_path / "b.jsonl", ("P1",)))


def test_all_bad_lines_are_listed_whatever_is_wrong_with_them(tmp_path):
    good = json.dumps(ENTITY).encode()
    rows = [good, b'{"sent": ', good, b"\xff", b"3", good]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(rows))
    faults = list[str]()
    examples = list(read_entity_typing(tmp_path / "a.jsonl", None, lambda error: faults.append(str(error))))
    assert [example["record"] for example in examples] == [1, 3, 6]
    assert [fault.partition("a.jsonl, ")[2][:6] for fault in faults] == ["line 2", "line 4", "line 5"]


def test_bad_lines_of_tables_and_of_semeval_are_listed_too(tmp_path):
    rows = [b"gj04\t1\t\tA.", b"gj04\t1\t\t\xff", b"gj04\t" + LONG.encode() + b"\t\tB.", b"gj04\t0\t\tC."]
    (tmp_path / "train.tsv").write_bytes(b"\n".join(rows))
    faults = list[str]()
    found = list(read_glue(tmp_path / "train.tsv", CoLA, on_error=lambda error: faults.append(str(error))))
    assert [row["record"] for row in found] == [1, 4]
    assert len(faults) == 2
    header = b"index\tsentence\tlabel\n"
    (tmp_path / "train.tsv").write_bytes(header + LONG.encode() + b"\ta\t1\n")
    (row,) = read_glue(tmp_path / "train.tsv", SST2)
    assert row["index"] == 0
    with pytest.raises(ValueError, match=r"train\.tsv, line 2: the index .9999"):
        list(read_glue(tmp_path / "train.tsv", SST2, labelled=False))
    assert max(map(len, faults)) - len(str(tmp_path)) < 300
    sentence = b'\t"<e1>A</e1> of <e2>B</e2>."\n'
    rows = [b"1" + sentence + b"Other\n", b"2" + sentence + b"\xff\n", LONG.encode() + sentence + b"Other\n"]
    rows += [b"4" + sentence + LONG.encode() + b"\n", b"1" + sentence + b"Other\n"]
    (tmp_path / "train.txt").write_bytes(b"\n".join(rows))
    faults.clear()
    examples = list(read_semeval(tmp_path / "train.txt", SEMEVAL_LABELS, on_error=lambda e: faults.append(str(e))))
    assert [example["record"] for example in examples] == [1, 7]
    assert [re.sub(r".*train.txt, (line \d+):.*", r"\1", fault) for fault in faults] == [
        "line 5",
        "line 4",
        "line 10",
        "line 13",
    ]
    assert max(map(len, faults)) - len(str(tmp_path)) < 400


# -- converters -------------------------------------------------------------------------------------------------


def test_names_of_a_cleaned_example_are_no_lists(tmp_path):
    names = {"docid": "d", "subj_label": "Q1", "obj_label": 2}
    write_jsonl(tmp_path / "a.jsonl", [{**RELATION, **names}])
    assert len(list(read_cleaned(tmp_path / "a.jsonl", "read"))) == 1
    write_jsonl(tmp_path / "a.jsonl", [{**RELATION, "docid": 7.0, "subj_label": 1.0, "obj_label": 2, "obj_end": 1.0}])
    ((_, example),) = read_cleaned(tmp_path / "a.jsonl", "read")
    assert repr([example[key] for key in ("docid", "subj_label", "obj_label", "obj_end")]) == "[7, 1, 2, 1]"
    for key, value in ((key, value) for key in names for value in (["Q1"], None, True, 7.5, {})):
        write_jsonl(tmp_path / "a.jsonl", [{**RELATION, **names, key: value}])
        with pytest.raises(ValueError, match=rf"a\.jsonl, record 1: {key} is {re.escape(json.dumps(value))}; give"):
            list(read_cleaned(tmp_path / "a.jsonl", "read"))
    write_jsonl(tmp_path / "a.jsonl", [{**RELATION, **names, "token": ["a", 1, "c"]}])
    with pytest.raises(ValueError, match=r"a\.jsonl, record 1: give token as a list of words"):
        list(read_cleaned(tmp_path / "a.jsonl", "read"))


def test_fewrel_takes_whole_floats_and_no_truth_values():
    words = ["a", "b", "c"]
    assert FEWREL.first_mention(["A", "Q1", [[1.0, 0]]], words) == ("Q1", [0, 1])
    assert repr(FEWREL.first_mention(["A", "Q1", [[1.0]]], words)[1]) == "[1]"
    for numbers in ([True], [0.5], [3], [-1], [[0]], ["0"], [], {}, None, 0):
        with pytest.raises(ValueError, match=r"is not \[name, id, "):
            FEWREL.first_mention(["A", "Q1", [numbers]], words)


@pytest.mark.parametrize("key", ["left_context_token", "mention_span", "right_context_token", "y_str"])
@pytest.mark.parametrize("value", ["null", "true", "[1]", '{"a": 1}', "[" * 900 + "]" * 900, DEEP, LONG, "7.0"])
def test_ufet_names_the_record_of_a_wrong_value(tmp_path, key, value):
    record = {"left_context_token": ["a"], "mention_span": "b", "right_context_token": ["c"], "y_str": ["person"]}
    (tmp_path / "train.json").write_text(f"{json.dumps(record)}\n{spoilt(record, (key,), value)}\n")
    with pytest.raises(ValueError, match=r"train\.json, (record|line) 2: ") as caught:
        list(UFET.read_examples(tmp_path / "train.json"))
    assert len(str(caught.value)) - len(str(tmp_path)) < 300
