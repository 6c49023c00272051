"""Mentions: nested and crossing ones, blank ones, and files whose ends are misread."""

import json
import random

import pytest
from conftest import load_script

from kadapter.data.encoding import Encoding, marker, tokenize_pieces
from kadapter.data.jsonio import write_json, write_jsonl
from kadapter.data.spans import is_blank, nested, spans_cross
from kadapter.data.subset import SubsetOptions, make_subset
from kadapter.tasks.entity_typing import EntityTyping, read_entity_typing
from kadapter.tasks.relations import Tacred, TrexRelations, encode_relations, read_relations

CHECK = load_script("scripts/check_data.py")
FAC = load_script("examples/run_pretrain_fac_adapter.py")
TACRED = load_script("scripts/convert_tacred.py")
TYPES = load_script("scripts/create_subdataset-entity-typing.py")
WORDS = ["The", "University", "of", "Oxford", "Press", "stands", "in", "Oxford", "."]


def relation(subject, object_, words=WORDS, **more):
    """A record with those inclusive spans."""
    ends = zip(("subj_start", "subj_end", "obj_start", "obj_end"), (*subject, *object_), strict=True)
    return {"token": list(words), "relation": "P1", **dict(ends), **more}


def read(tmp_path, *rows, **options):
    write_jsonl(tmp_path / "train.jsonl", rows)
    return list(read_relations(tmp_path / "train.jsonl", ["P1"], **options))


# -- two mentions in one sentence -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "object_", "text"),
    [
        ((1, 4), (3, 3), "The @ University of # Oxford # Press @ stands in Oxford ."),
        ((3, 3), (1, 4), "The # University of @ Oxford @ Press # stands in Oxford ."),
        ((1, 4), (1, 1), "The @ # University # of Oxford Press @ stands in Oxford ."),
        ((4, 4), (1, 4), "The # University of Oxford @ Press @ # stands in Oxford ."),
        ((7, 7), (7, 7), "The University of Oxford Press stands in @ # Oxford # @ ."),
        ((1, 4), (7, 7), "The @ University of Oxford Press @ stands in # Oxford # ."),
        ((8, 8), (0, 0), "# The # University of Oxford Press stands in Oxford @ . @"),
    ],
)
def test_markers_nest_and_no_word_stands_twice(tmp_path, tokenizer, subject, object_, text):
    (example,) = read(tmp_path, relation(subject, object_))
    task = TrexRelations(labels=("P1",))
    assert task.marked(example) == text
    marks = {sign: marker(tokenizer, sign, bare=True) for sign in "@#"}
    for causal in (False, True):
        (feature,) = task.encode([example], Encoding(tokenizer, 64, causal))
        parts = text.replace("@", "\0@\0").replace("#", "\0#\0").split("\0")
        tokens = [marks.get(part) or tokenize_pieces(tokenizer, [part])[0] for part in parts]
        assert feature["input_ids"][1:-1] == sum(tokens, [])
        for sign, position in zip("@#", feature["positions"], strict=True):
            places = [i for i, token in enumerate(feature["input_ids"]) if token == marks[sign][0]]
            assert position == places[-1 if causal else 0]


def test_a_window_holds_all_markers_of_nested_mentions(tmp_path, tokenizer):
    words = ["well"] * 60 + WORDS + ["well"] * 20
    (example,) = read(tmp_path, relation((61, 64), (63, 63), words))
    (whole,) = encode_relations([example], tokenizer, 400, ["P1"])
    (cut,) = encode_relations([example], tokenizer, 40, ["P1"], keep_markers=True)
    (lost,) = encode_relations([example], tokenizer, 40, ["P1"])
    assert len(cut["input_ids"]) == 40
    assert cut["note"]
    assert not whole["note"]
    assert lost["dropped"] == "a marker lies beyond max_seq_length"
    for one, other in zip(cut["positions"], whole["positions"], strict=True):
        assert cut["input_ids"][one : one + 5] == whole["input_ids"][other : other + 5]


def test_crossing_mentions_are_dropped_and_counted_unless_the_originals_text_is_asked_for(tmp_path, tokenizer):
    rows = [relation((1, 3), (2, 4)), relation((2, 4), (1, 3)), relation((1, 2), (3, 4))]
    task = TrexRelations(labels=("P1",))
    examples = read(tmp_path, *rows)
    features = task.encode(examples, Encoding(tokenizer, 64))
    assert [feature.get("dropped", "") for feature in features] == ["the mentions cross", "the mentions cross", ""]
    doubled = read(tmp_path, rows[0], original_spans=True)[0]
    assert doubled["pieces"] == ["The", "University of Oxford", "", "of Oxford Press", "stands in Oxford ."]
    assert task.encode([doubled], Encoding(tokenizer, 64))[0].get("dropped", "") == ""
    inner = read(tmp_path, relation((1, 4), (3, 3)), original_spans=True)[0]
    assert inner["pieces"][3:] == ["Oxford", "Press stands in Oxford ."]


def test_how_two_spans_lie_to_each_other():
    for one in [(a, b) for a in range(5) for b in range(a + 1, 6)]:
        for other in [(a, b) for a in range(5) for b in range(a + 1, 6)]:
            mine, theirs = set(range(*one)), set(range(*other))
            assert nested(one, other) == (mine <= theirs or theirs <= mine)
            assert spans_cross(one, other) == (bool(mine & theirs) and not nested(one, other))


def test_cleaned_examples_whose_mentions_cross_are_dropped_and_counted(tmp_path):
    names = {"docid": "d", "subj_label": "Q1", "obj_label": "Q2"}
    apart = [relation((i % 3, i % 3), (4, 4), **names) for i in range(40)]
    crossing, within = relation((1, 3), (2, 4), **names), relation((1, 4), (3, 3), **names)
    write_jsonl(tmp_path / "cleaned.jsonl", [crossing, *apart, within, crossing])
    options = {"min_examples": 1, "dev_fraction": 0.3}
    report = make_subset(tmp_path / "cleaned.jsonl", tmp_path / "out", SubsetOptions(**options))
    assert (report["read"], report["dropped"]["the mentions cross"]) == (43, 2)
    assert report["train"].total() + report["dev"].total() == 41
    report = make_subset(tmp_path / "cleaned.jsonl", tmp_path / "out", SubsetOptions(**options, original_spans=True))
    assert (report["read"], report["train"].total() + report["dev"].total()) == (43, 43)


def test_tacred_is_converted_with_whole_numbers_whatever_its_ends(tmp_path):
    more = {"id": "a", "docid": "d", "relation": "no_relation", "subj_type": "X", "obj_type": "Y"}
    rows = [relation((1.0, 4.0), (3, 3.0)) | more, relation((1, 3), (2, 4)) | more | {"id": "b"}]
    (tmp_path / "in").mkdir()
    for name, far in (("inclusive", 0), ("exclusive", 1)):
        given = [{**row, "subj_end": row["subj_end"] + far, "obj_end": row["obj_end"] + far} for row in rows]
        for split in ("train", "dev", "test"):
            write_json(tmp_path / "in" / f"{split}.json", given)
        out = tmp_path / name
        TACRED.main(["--input", str(tmp_path / "in"), "--output_dir", str(out), "--spans", name])
        (row,) = json.loads((out / "train.json").read_text())  # the other one's mentions cross
        assert repr([row[key] for key in ("subj_start", "subj_end", "obj_start", "obj_end")]) == "[1, 4, 3, 3]"


# -- blank mentions ---------------------------------------------------------------------------------------------

BLANK = [
    "",
    " ",
    "\u00a0",
    "\u200b",
    "\u200e\u200f",
    "\u202a\u202e",
    "\ufeff",
    "\u2060 \u00ad",
    "\u3164",
    "\ufe0f",
    "\x00",
]


@pytest.mark.parametrize("blank", BLANK)
def test_mentions_that_nobody_sees_are_refused_with_the_record(tmp_path, blank):
    assert is_blank(blank)
    faults = []
    words = ["Ana", blank, "met", "Bob"]
    rows = [relation((0, 0), (3, 3), words), relation((0, 0), (1, 1), words), relation((1, 1), (3, 3), words)]
    assert len(read(tmp_path, *rows, on_error=lambda error: faults.append(str(error)))) == 1
    assert [fault.partition("train.jsonl, ")[2][:8] for fault in faults] == ["record 2", "record 3"]
    assert "the mention of obj_start 1 and obj_end 1 is blank" in faults[0]
    write_jsonl(tmp_path / "a.jsonl", [{"sent": f"a{blank}b", "start": 1, "end": 1 + len(blank), "labels": []}])
    with pytest.raises(ValueError, match=r"a\.jsonl, record 1: the mention from 1 to \d+ is empty"):
        list(read_entity_typing(tmp_path / "a.jsonl", None))


@pytest.mark.parametrize("text", ["a", "\u200ba", ".", "👩\u200d👧", "\u0301", "é", "中"])
def test_what_can_be_seen_is_not_blank(text):
    assert not is_blank(text)


def test_types_that_are_no_names_are_refused_with_their_entity(tmp_path):
    write_jsonl(tmp_path / "c.jsonl", [relation((0, 0), (3, 3), docid="d", subj_label="Q1", obj_label="Q2")])
    for value in (7, None, True, ["person"], {}, "", "\u200b"):
        write_json(tmp_path / "types.json", {"Q1": ["person"], "Q9": ["person", value]})
        command = ["--input", tmp_path / "c.jsonl", "--output_dir", tmp_path / "o", "--types", tmp_path / "types.json"]
        with pytest.raises(ValueError, match=r"types\.json: the types of 'Q9' hold .*; give names"):
            TYPES.main([*map(str, command)])


# -- files whose ends are misread -------------------------------------------------------------------------------

NAMES = [f"{first}{last}" for first in ("Ana", "Bo", "Cy", "Dee", "Ed", "Flo") for last in ("ra", "ni", "vic", "son")]
SPEECH = "was born in the town of and later moved to with a friend who lived by the river ,"
FILLING = SPEECH.split()


def sentence(rng):
    """Words with two names of one to three words in them; their spans, ends exclusive."""
    words, spans = [], []
    for _ in range(2):
        words += rng.choices(FILLING, k=rng.randrange(1, 6))
        name = rng.sample(NAMES, rng.choice((1, 1, 2, 3)))
        spans.append((len(words), len(words) + len(name)))
        words += name
    return [*words, *rng.choices(FILLING, k=3), "."], spans


def corpus(count, far, seed=0):
    """Records of relations whose ends are inclusive, plus `far`."""
    rng = random.Random(seed)
    sentences = [sentence(rng) for _ in range(count)]
    return [relation(*((start, end - 1 + far) for start, end in spans), words) for words, spans in sentences]


def typing(count, far, seed=0):
    """Records of typing whose ends are exclusive, plus `far`."""
    rng, rows = random.Random(seed), []
    for _ in range(count):
        words, ((first, last), _) = sentence(rng)
        start = len(" ".join(words[:first])) + 1
        end = start + len(" ".join(words[first:last])) + far
        rows.append({"sent": " ".join(words), "start": start, "end": end, "labels": ["person"]})
    return rows


def finding(task, rows, tmp_path):
    write_jsonl(tmp_path / "train.jsonl", rows)
    signs = task.signs()
    for example in task.read(tmp_path / "train.jsonl", "train"):
        signs.add(example)
    return signs.finding()


@pytest.mark.parametrize("count", [8, 100, 1000])
def test_ends_that_lie_a_word_too_far_are_seen(tmp_path, count):
    task = TrexRelations(labels=("P1",))
    assert finding(task, corpus(count, 0), tmp_path) == ""
    found = finding(task, corpus(count, 1), tmp_path)
    assert f"of {2 * count:,} mentions (" in found
    assert "their ends seem to be exclusive; look at some and give --spans exclusive" in found
    mended = TrexRelations(labels=("P1",), spans="exclusive")
    assert list(mended.read(tmp_path / "train.jsonl", "train")) == read(tmp_path, *corpus(count, 0))
    assert mended.signs() is None


@pytest.mark.parametrize("count", [8, 100, 1000])
def test_offsets_that_lie_a_character_off_are_seen(tmp_path, count):
    task, mended = EntityTyping(), EntityTyping(spans="inclusive")
    assert finding(task, typing(count, 0), tmp_path) == ""
    assert "end within a word, such as" in (found := finding(task, typing(count, -1), tmp_path))
    assert found.endswith("their ends seem to be inclusive; look at some and give --spans inclusive")
    assert finding(mended, typing(count, -1), tmp_path) == ""
    examples = list(mended.read(tmp_path / "train.jsonl", "train"))
    assert [example["end"] for example in examples] == [row["end"] for row in typing(count, 0)]
    assert "end with a blank or punctuation" in finding(task, typing(count, 1), tmp_path)
    assert "leave --spans inclusive out" in finding(mended, typing(count, 0), tmp_path)


@pytest.mark.parametrize(
    ("before", "unit", "more"), [("é ", "bytes", 1), ("😀 ", "UTF-16 units", 1), ("“é ", "bytes", 3)]
)
def test_offsets_in_other_units_are_seen_however_few_they_are(tmp_path, before, unit, more):
    far = more + len(before)
    moved = [
        {**row, "sent": before + row["sent"], "start": row["start"] + far, "end": row["end"] + far}
        for row in typing(40, 0)
    ]
    right = [{**row, "start": row["start"] - more, "end": row["end"] - more} for row in moved]
    assert finding(EntityTyping(), right + typing(500, 0), tmp_path) == ""
    found = finding(EntityTyping(), moved[:3] + typing(500, 0), tmp_path)
    assert f"between words if offsets count {unit}; count characters" in found
    assert "in record 1," in found
    wrong = [{**row, "start": row["start"] + 2, "end": row["end"] + 2} for row in typing(50, 0)]
    assert "begin within a word" in finding(EntityTyping(), wrong, tmp_path)


def test_scripts_without_blanks_and_files_of_two_records_give_no_alarm(tmp_path):
    rows = [{"sent": "安娜住在牛津大学附近", "start": 4, "end": 8, "labels": []}] * 50
    assert finding(EntityTyping(), rows, tmp_path) == ""
    assert finding(EntityTyping(), typing(2, -1), tmp_path) == ""


def test_ends_that_leave_the_sentence_name_the_flag(tmp_path):
    with pytest.raises(ValueError, match=r"obj_end 9 do not .*inclusive \(--spans exclusive reads them as exclusive\)"):
        read(tmp_path, relation((0, 0), (8, 9)))
    with pytest.raises(
        ValueError, match=r"obj_start 3 and obj_end 3 do not lie in the 9 words; .* \(leave --spans exclusive out"
    ):
        read(tmp_path, relation((0, 1), (3, 3)), spans="exclusive")


def test_a_check_says_what_looks_wrong_and_always_shows_mentions(tmp_path, capsys):
    write_json(tmp_path / "relations.json", {"P1": 0})
    write_jsonl(tmp_path / "train.jsonl", corpus(30, 1))
    write_jsonl(tmp_path / "dev.jsonl", corpus(30, 0, seed=1))
    CHECK.main(["fac", str(tmp_path)])
    shown = capsys.readouterr().out.splitlines()
    (said,) = [line for line in shown if "exclusive" in line]
    assert said.startswith("note: of train, ")
    for split in ("train", "dev"):
        (first, *rest) = [line for line in shown if line.startswith(f"{split}, record ")]
        assert len(rest) == 2
        assert first.count("@") == first.count("#") == 2
    write_jsonl(tmp_path / "dev.jsonl", corpus(30, 1, seed=1))
    CHECK.main(["fac", str(tmp_path), "--spans", "exclusive"])
    assert "note: of train" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        CHECK.main(["semeval", str(tmp_path), "--spans", "exclusive"])
    assert "--spans is not for semeval" in capsys.readouterr().err


def test_a_recipe_warns_once_of_a_misread_file_and_reads_it_with_the_flag(run, tmp_path, caplog):
    write_json(tmp_path / "relations.json", {"P1": 0, "P2": 1})
    write_jsonl(tmp_path / "train.jsonl", corpus(30, 1))
    write_jsonl(tmp_path / "dev.jsonl", corpus(30, 1, seed=1))
    for _ in range(2):  # the second time from the store
        caplog.clear()
        run(FAC, "--prepare_only", "--data_dir", tmp_path)
        found = [record.getMessage() for record in caplog.records if "seem to be exclusive" in record.getMessage()]
        assert len(found) == 2
        assert "train.jsonl: " in found[0]
        assert " of 60 mentions (" in found[0]
        assert "in record " in found[0]
    caplog.clear()
    run(FAC, "--prepare_only", "--data_dir", tmp_path, "--spans", "exclusive")
    assert "exclusive" not in caplog.text


def test_a_task_that_is_saved_keeps_how_ends_are_read():
    assert Tacred(labels=("no_relation",), spans="exclusive").options()["spans"] == "exclusive"
