"""Releases of the tasks' data to the forms of the readers: UFET, TACRED and Re-TACRED, CosmosQA, SemEval."""

import csv
import json
import random
import zipfile

import pytest
from conftest import load_script

from kadapter.data.labels import read_labels
from kadapter.tasks.entity_typing import OPENENTITY_LABELS, read_entity_typing
from kadapter.tasks.multiple_choice import TEXT_KEYS, read_cosmosqa
from kadapter.tasks.relations import TACRED_LABELS, read_relations
from kadapter.tasks.semeval import LABELS, read_semeval

UFET = load_script("scripts/convert_ufet.py")
TACRED = load_script("scripts/convert_tacred.py")
COSMOSQA = load_script("scripts/convert_cosmosqa.py")
SEMEVAL = load_script("scripts/convert_semeval.py")


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def convert(script, tmp_path, *flags):
    """Run a converter from `in` to `out`."""
    script.main(["--input", str(tmp_path / "in"), "--output_dir", str(tmp_path / "out"), *map(str, flags)])


# -- UFET -------------------------------------------------------------------------------------------------------


def ufet(**changes):
    words = {"left_context_token": ["In", "Oslo", ","], "right_context_token": ["sang", "."]}
    return {"annot_id": "a:1", **words, "mention_span": "Ann Lee", "y_str": ["singer", "person", "entity"], **changes}


def test_ufets_words_become_a_sentence_with_offsets_and_the_nine_labels_in_their_order(tmp_path, capsys):
    rows = [ufet(), ufet(left_context_token=[]), ufet(right_context_token=[], y_str=["star", "woman"])]
    write(tmp_path / "in" / "dev.json", "".join(json.dumps(row) + "\n" for row in rows))
    convert(UFET, tmp_path)
    first, second, third = read_entity_typing(tmp_path / "out" / "dev.json", OPENENTITY_LABELS)
    assert first["sent"] == "In Oslo , Ann Lee sang ."
    assert second["sent"] == "Ann Lee sang ."
    assert third["sent"] == "In Oslo , Ann Lee"
    assert [row["sent"][row["start"] : row["end"]] for row in (first, second, third)] == ["Ann Lee"] * 3
    assert [row["labels"] for row in (first, third)] == [["person", "entity"], []]
    assert "dev.json: 3 examples, 1 without any of the 9 labels" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["dev.json"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mention_span": " "}, "record 2: mention_span is . ."),
        ({"left_context_token": "In Oslo"}, "record 2: left_context_token is .In Oslo.; give a list of words"),
        ({"y_str": [1]}, r"record 2: y_str is \[1\]"),
    ],
)
def test_a_broken_ufet_record_is_refused(tmp_path, changes, message):
    write(tmp_path / "in" / "train.json", json.dumps(ufet()) + "\n" + json.dumps(ufet(**changes)))
    with pytest.raises((ValueError, OSError), match=rf"train\.json, {message}"):
        convert(UFET, tmp_path)
    assert not (tmp_path / "out").exists()


# -- TACRED -----------------------------------------------------------------------------------------------------


@pytest.fixture
def tacred(world, tmp_path):
    """The demo world's TACRED in LDC's form, by split."""
    splits = {}
    for split in ("train", "dev", "test"):
        rows = json.loads((world / "TACRED" / f"{split}.json").read_text())
        more = {"docid": "D1", "subj_type": "PERSON", "obj_type": "CITY", "stanford_pos": [], "stanford_head": []}
        splits[split] = [{**row, **more, "id": f"{split}{i}"} for i, row in enumerate(rows)]
        write(tmp_path / "in" / f"{split}.json", splits[split])
    return splits


def test_tacred_keeps_the_keys_that_are_read(tacred, tmp_path, capsys):
    convert(TACRED, tmp_path)
    shown = capsys.readouterr().out
    assert f"dev.json: {len(tacred['dev'])} examples, officially 22,631 examples" in shown
    for split, rows in tacred.items():
        written = json.loads((tmp_path / "out" / f"{split}.json").read_text())
        assert written == [{key: row[key] for key in TACRED.KEYS} for row in rows]
        before, after = (list(read_relations(tmp_path / d / f"{split}.json", TACRED_LABELS)) for d in ("in", "out"))
        assert before == after
    assert not (tmp_path / "out" / "labels.json").exists()


def test_patches_relabel_leave_out_and_give_the_labels(tacred, tmp_path, capsys):
    for split, rows in tacred.items():
        patch = {row["id"]: "per:identity" if i % 2 else "no_relation" for i, row in enumerate(rows[2:])}
        write(tmp_path / "patch" / f"{split}_id2label.json", patch | {"zz": "org:city_of_branch", "gone": "per:age"})
    convert(TACRED, tmp_path, "--patch", tmp_path / "patch")
    labels = read_labels(tmp_path / "out" / "labels.json")
    assert labels == ["no_relation", "org:city_of_branch", "per:age", "per:identity"]
    examples = list(read_relations(tmp_path / "out" / "dev.json", labels))
    assert [example["relation"] for example in examples[:3]] == ["no_relation", "per:identity", "no_relation"]
    written = json.loads((tmp_path / "out" / "dev.json").read_text())
    assert [row["id"] for row in written] == [row["id"] for row in tacred["dev"][2:]]
    shown = capsys.readouterr().out
    assert f"2 left out, not in the patch, {len(written)} examples, 2 ids of the patch are not in" in shown
    assert "dev.json, first gone, officially 19,584 examples" in shown


def test_broken_tacred_is_refused(tacred, tmp_path):
    write(tmp_path / "in" / "train.json", [{**tacred["train"][0], "relation": "per:sister"}])
    with pytest.raises(
        (ValueError, OSError), match=r"train\.json, record 1: relation 'per:sister' is not among the 46 labels"
    ):
        convert(TACRED, tmp_path)
    write(tmp_path / "in" / "train.json", [{key: value for key, value in tacred["train"][0].items() if key != "id"}])
    with pytest.raises((ValueError, OSError), match=r"record 1: the keys \['id'\] are missing"):
        convert(TACRED, tmp_path)
    write(tmp_path / "patch" / "train_id2label.json", ["per:age"])
    with pytest.raises((ValueError, OSError), match=r"train_id2label\.json is not {id: relation}"):
        convert(TACRED, tmp_path, "--patch", tmp_path / "patch")
    assert not (tmp_path / "out" / "train.json").exists()


def test_tacrevs_patches_relabel_some_and_leave_the_rest(tacred, tmp_path, capsys):
    for split in ("dev", "test"):
        patch = [{"id": f"{split}{i}", "relation": "no_relation" if i else "org:parents"} for i in range(3)]
        write(tmp_path / "patch" / f"{split}_patch.json", [*patch, {"id": "gone", "relation": "per:age"}])
    convert(TACRED, tmp_path, "--patch", tmp_path / "patch")
    shown = capsys.readouterr().out
    assert "1 ids of the patch are not in" in shown
    for split, rows in tacred.items():
        written = json.loads((tmp_path / "out" / f"{split}.json").read_text())
        given = ["org:parents", "no_relation", "no_relation"] if split != "train" else []
        assert [row["relation"] for row in written] == given + [row["relation"] for row in rows[len(given) :]]
    assert not (tmp_path / "out" / "labels.json").exists()  # TACRED's own labels
    write(tmp_path / "patch" / "dev_patch.json", [{"id": "a"}])
    with pytest.raises(ValueError, match=r"dev_patch\.json, record 1: .* is no id, given once, with a relation"):
        convert(TACRED, tmp_path, "--patch", tmp_path / "patch")


def test_files_that_are_patched_already_are_taken(tacred, tmp_path, capsys):
    for split, rows in tacred.items():
        write(
            tmp_path / "in" / f"{split}.json",
            [{**rows[0], "relation": "per:identity"}, {**rows[1], "relation": "per:age"}],
        )
    convert(TACRED, tmp_path)
    labels = read_labels(tmp_path / "out" / "labels.json")
    assert len(labels) == 40
    assert labels[0] == "no_relation"
    assert "org:city_of_branch" in labels
    assert "org:parents" not in labels
    assert [e["relation"] for e in read_relations(tmp_path / "out" / "dev.json", labels)] == ["per:identity", "per:age"]
    assert "dev.json: 2 examples, officially 19,584 examples" in capsys.readouterr().out
    write(tmp_path / "in" / "test.json", [{**tacred["test"][0], "relation": "org:parents"}])
    with pytest.raises(
        ValueError, match=r"holds relations of Re-TACRED \(per:identity\) and of TACRED alone \(org:par"
    ):
        convert(TACRED, tmp_path)


def test_a_patch_on_files_that_are_patched_already_changes_nothing(tacred, tmp_path):
    for split, rows in tacred.items():
        write(tmp_path / "patch" / f"{split}_id2label.json", {row["id"]: "per:identity" for row in rows[1:]})
    convert(TACRED, tmp_path, "--patch", tmp_path / "patch")
    once = files_in(tmp_path / "out")
    (tmp_path / "in").rename(tmp_path / "before")
    (tmp_path / "out").rename(tmp_path / "in")
    (tmp_path / "in" / "labels.json").unlink()
    convert(TACRED, tmp_path, "--patch", tmp_path / "patch")
    assert files_in(tmp_path / "out") == once


def test_tacreds_splits_are_taken_in_other_forms_and_under_tacrevs_names(tacred, tmp_path):
    convert(TACRED, tmp_path)
    expected = files_in(tmp_path / "out")
    (tmp_path / "in" / "dev.json").rename(tmp_path / "in" / "dev_rev.json")
    (tmp_path / "in" / "test.json").unlink()
    write(tmp_path / "in" / "test.jsonl", "".join(json.dumps(row) + "\n" for row in tacred["test"]))
    convert(TACRED, tmp_path)
    assert files_in(tmp_path / "out") == expected
    write(tmp_path / "in" / "test.json", tacred["test"])
    with pytest.raises(ValueError, match=r"holds the test split more than once: test\.json and test\.jsonl"):
        convert(TACRED, tmp_path)


@pytest.mark.parametrize("script", [TACRED, UFET])
def test_a_release_is_not_overwritten(script, tmp_path):
    with pytest.raises((ValueError, OSError), match="is --input; write elsewhere"):
        script.main(["--input", str(tmp_path), "--output_dir", str(tmp_path / "x" / "..")])


# -- CosmosQA ---------------------------------------------------------------------------------------------------

HEADER = ["id", *TEXT_KEYS, "label"]
HARD = {"context": 'He said "no", twice.\nThen, nothing.', "answer1": 'The "end"', "question": "Why , then ?"}


def questions(number=4, **changes):
    plain = [{key: f"{key} {i}" for key in HEADER} | {"label": str(i % 4)} for i in range(number)]
    return [{**row, **HARD, **changes} if i == 1 else row for i, row in enumerate(plain)]


def write_csv(path, rows, header=HEADER):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def test_csv_with_quotes_commas_and_newlines_becomes_questions(tmp_path, capsys):
    write_csv(tmp_path / "in" / "train.csv", questions())
    write_csv(tmp_path / "in" / "valid.csv", [{**row, "context": "x" * 200_000} for row in questions()])
    write_csv(tmp_path / "in" / "test.csv", questions(), HEADER[:-1])
    convert(COSMOSQA, tmp_path)
    for split, expected in (("train", HEADER), ("test", HEADER[:-1])):
        rows = [json.loads(line) for line in (tmp_path / "out" / f"{split}.jsonl").read_text().splitlines()]
        assert rows == [{key: row[key] for key in expected} for row in questions()]
    train, valid = (list(read_cosmosqa(tmp_path / "out" / f"{split}.jsonl")) for split in ("train", "valid"))
    assert [row["label"] for row in train] == [0, 1, 2, 3]
    assert train[1]["context"] == HARD["context"]
    assert len(valid[0]["context"]) == 200_000
    assert len(list(read_cosmosqa(tmp_path / "out" / "test.jsonl", labelled=False))) == 4
    shown = capsys.readouterr().out
    assert "train.jsonl: 4 questions, 4 contexts, labels" in shown
    assert "valid.jsonl: 4 questions, 1 contexts, labels" in shown
    assert "test.jsonl: 4 questions, 4 contexts, no labels" in shown


def test_a_test_file_keeps_its_labels_or_has_none_at_all(tmp_path):
    write_csv(tmp_path / "in" / "test.csv", questions())
    convert(COSMOSQA, tmp_path)
    assert [row["label"] for row in read_cosmosqa(tmp_path / "out" / "test.jsonl")] == [0, 1, 2, 3]
    write_csv(tmp_path / "in" / "test.csv", [{**row, "label": ""} for row in questions()])
    convert(COSMOSQA, tmp_path)
    assert {row["label"] for row in read_cosmosqa(tmp_path / "out" / "test.jsonl", labelled=False)} == {-100}
    write_csv(
        tmp_path / "in" / "test.csv", [{**row, "label": "2" if row["label"] == "3" else ""} for row in questions()]
    )
    with pytest.raises((ValueError, OSError), match=r"test\.csv, line 6: label is '2'; rows before have none"):
        convert(COSMOSQA, tmp_path)


HEAD, ROW = ",".join(HEADER), "1,c,q,a,b,c,d,0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1: the columns \['id', 'context', .* are missing"),
        (f"{HEAD}\n", "holds no question"),
        (f"{HEAD[:-6]}\n1,c,q,a,b,c,d\n", r"line 1: the columns \['label'\] are missing; give the header id,context"),
        (f'{HEAD}\n1,"c\nc",q,a,b,c,d,0\n2,c,q\n', "line 4: 3 fields for 8 columns"),
        (f"{HEAD}\n{ROW}\n2,c,q,a,b,c,d,4\n", "line 3: label is '4'; it must be 0 to 3"),
        (f"{HEAD}\n{ROW}\n2,c,q,a,b,c,d,\n", "line 3: label is ''; it must be 0 to 3"),
        (f"{HEAD}\n{ROW}\n{ROW}\n", "line 3: the id '1' stands at 2 already"),
        (f'{HEAD}\n{ROW}\n2,"c,q,a,b,c,d,0\n3,c,q,a,b,c,d,0\n', "line 3: broken csv .unexpected end of data"),
        (f'{HEAD}\n1,"c" c,q,a,b,c,d,0\n', "line 2: broken csv .*mend the quotes"),
    ],
)
def test_a_broken_csv_is_refused_with_its_line(tmp_path, text, message):
    write(tmp_path / "in" / "train.csv", text)
    with pytest.raises((ValueError, OSError), match=rf"train\.csv.*{message}"):
        convert(COSMOSQA, tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("script", "name"), [(COSMOSQA, "valid.csv"), (UFET, "dev.json")])
def test_a_folder_without_the_release_is_refused(script, name, tmp_path):
    with pytest.raises((ValueError, OSError), match=rf"in holds no .*{name}"):
        convert(script, tmp_path)


# -- SemEval ----------------------------------------------------------------------------------------------------

FOLDERS = {"TRAIN_FILE.TXT": "SemEval2010_task8_training", "TEST_FILE_FULL.TXT": "SemEval2010_task8_testing_keys"}


@pytest.fixture
def semeval(tmp_path):
    """A release with 40 and 5 examples in CRLF, and beside them what is not to be read."""
    rng = random.Random(0)
    for name, number in (("TRAIN_FILE.TXT", 40), ("TEST_FILE_FULL.TXT", 5)):
        blocks = [
            f'{i}\t"The <e1>cat{i}</e1> sat on the <e2>mat</e2>."\r\n{rng.choice(LABELS)}\r\nComment:\r\n\r\n'
            for i in range(number)
        ]
        path = tmp_path / "in" / FOLDERS[name] / name
        path.parent.mkdir(parents=True)
        path.write_bytes("".join(blocks).encode())
    write(tmp_path / "in" / "SemEval2010_task8_testing" / "TEST_FILE.txt", "no labels")
    return tmp_path


def read(path, *part):
    """What the recipe reads, without the line numbers."""
    return [{**example, "record": 0} for example in read_semeval(path, LABELS, *part)]


def test_semevals_release_is_taken_as_it_is_from_folder_and_archive(semeval, capsys):
    convert(SEMEVAL, semeval)
    for name, split in (("TRAIN_FILE.TXT", "train"), ("TEST_FILE_FULL.TXT", "test")):
        source = semeval / "in" / FOLDERS[name] / name
        assert (semeval / "out" / f"{split}.txt").read_bytes() == source.read_bytes().replace(b"\r", b"")
    assert "test.txt: 5 examples" in capsys.readouterr().out
    with zipfile.ZipFile(semeval / "all.zip", "w") as archive:
        for path in (semeval / "in").rglob("*.*"):
            archive.write(path, f"SemEval2010_task8_all_data/{path.relative_to(semeval / 'in')}")
        archive.writestr("__MACOSX/._TRAIN_FILE.TXT", b"\0")
    SEMEVAL.main(["--input", str(semeval / "all.zip"), "--output_dir", str(semeval / "zip")])
    for name in ("train.txt", "test.txt"):
        assert (semeval / "zip" / name).read_bytes() == (semeval / "out" / name).read_bytes()
    assert {path.name for path in (semeval / "zip").iterdir()} == {"train.txt", "test.txt"}


def test_dev_is_what_the_recipe_would_hold_out(semeval):
    convert(SEMEVAL, semeval, "--dev_fraction", 0.2, "--seed", 7)
    source = semeval / "in" / FOLDERS["TRAIN_FILE.TXT"] / "TRAIN_FILE.TXT"
    train, dev = (read(semeval / "out" / f"{split}.txt") for split in ("train", "dev"))
    assert (len(train), len(dev)) == (32, 8)
    assert train == read(source, "train", 0.2, 7)
    assert dev == read(source, "dev", 0.2, 7)
    with pytest.raises(
        (ValueError, OSError), match=r"dev\.txt is part of train\.txt; remove it or give --dev_fraction"
    ):
        convert(SEMEVAL, semeval)


def test_what_is_no_release_of_semeval_is_refused(semeval):
    with pytest.raises((ValueError, OSError), match="is neither a folder nor a zip archive"):
        SEMEVAL.main(["--input", str(semeval / "no"), "--output_dir", str(semeval / "out")])
    with pytest.raises((ValueError, OSError), match="--dev_fraction 0.001 leaves train or dev empty"):
        convert(SEMEVAL, semeval, "--dev_fraction", 0.001)
    write(semeval / "in" / "copy" / "TRAIN_FILE.TXT", "")
    with pytest.raises((ValueError, OSError), match=r"in holds 2 files named TRAIN_FILE\.TXT"):
        convert(SEMEVAL, semeval)
    (semeval / "in" / "copy" / "TRAIN_FILE.TXT").unlink()
    test = semeval / "in" / FOLDERS["TEST_FILE_FULL.TXT"] / "TEST_FILE_FULL.TXT"
    test.write_text(test.read_text().replace("</e2>", "", 1))
    with pytest.raises((ValueError, OSError), match=r"TEST_FILE_FULL\.TXT, line 1: .* is no example"):
        convert(SEMEVAL, semeval)
    assert not (semeval / "out").exists()


# -- splits belong together -------------------------------------------------------------------------------------


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_later_split_that_is_broken_leaves_all_earlier_ones_as_they_were(tacred, tmp_path):
    write(tmp_path / "ufet" / "in" / "train.json", json.dumps(ufet()))
    write(tmp_path / "ufet" / "in" / "test.json", json.dumps(ufet()))
    write_csv(tmp_path / "cosmosqa" / "in" / "train.csv", questions())
    write_csv(tmp_path / "cosmosqa" / "in" / "valid.csv", questions())
    (tmp_path / "tacred").mkdir()
    (tmp_path / "in").rename(tmp_path / "tacred" / "in")
    for script, name, last in (
        (UFET, "ufet", "test.json"),
        (COSMOSQA, "cosmosqa", "valid.csv"),
        (TACRED, "tacred", "test.json"),
    ):
        folder = tmp_path / name
        convert(script, folder)
        before = files_in(folder / "out")
        first = folder / "in" / ("train.csv" if name == "cosmosqa" else "train.json")
        first.write_text(first.read_text().replace("In", "At").replace("context 0", "other").replace("D1", "D2"))
        good = (folder / "in" / last).read_text()
        (folder / "in" / last).write_text("{")
        with pytest.raises(ValueError, match=last):
            convert(script, folder)
        assert files_in(folder / "out") == before
        (folder / "in" / last).write_text(good)
        convert(script, folder)
        assert files_in(folder / "out").keys() == before.keys()
        assert files_in(folder / "out") != before


def test_semeval_whose_second_file_cannot_be_written_is_as_it_was(semeval, monkeypatch):
    convert(SEMEVAL, semeval)
    before, write_examples = files_in(semeval / "out"), SEMEVAL.write_examples

    def full(source, examples, target):
        if target.name == "test.txt":
            raise OSError(28, "No space left on device")
        write_examples(source, examples[1:], target)

    monkeypatch.setattr(SEMEVAL, "write_examples", full)
    with pytest.raises(OSError, match=r"test\.txt cannot be written: No space left on device .*make room"):
        convert(SEMEVAL, semeval)
    assert files_in(semeval / "out") == before
