"""Readers on values that nobody expects: odd labels, wrong types in every field, numbers and nesting without end."""

import json
import random
import re

import pytest
from conftest import load_script

from kadapter.configuration import IGNORE
from kadapter.data.jsonio import write_jsonl
from kadapter.tasks.multiple_choice import read_cosmosqa
from kadapter.tasks.semeval import LABELS as SEMEVAL_LABELS
from kadapter.tasks.semeval import _entities, read_semeval

COSMOSQA = load_script("scripts/convert_cosmosqa.py")

# -- SemEval ----------------------------------------------------------------------------------------------------

# What the reader had before, as the oracle: right, but quadratic where tags stay open.
PAIRS = re.compile(r"(.*?)<e([12])>(.*?)</e\2>(.*?)<e([12])>(.*?)</e\5>(.*)", re.DOTALL)


def test_the_tags_of_a_sentence_are_those_that_a_pattern_finds():
    rng = random.Random(0)
    found = 0
    for _ in range(4000):
        parts = rng.choices(["<e1>", "</e1>", "<e2>", "</e2>", "a", "<e3>"], k=rng.randrange(4, 16))
        sentence, tags = "".join(parts), _entities("".join(parts))
        match = PAIRS.fullmatch(sentence)
        found += match is not None
        assert len(tags) == (4 if match else 0)
        if match:
            ends = [match.start(3), match.start(4) - len("</e1>"), match.start(6), match.start(7) - len("</e1>")]
            assert [tags[0].end(), tags[1].start(), tags[2].end(), tags[3].start()] == ends
    assert found > 400


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
