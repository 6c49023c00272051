"""scripts/check_data.py on the demo world and on spoilt copies of it."""

import json
import shutil

import pytest
from conftest import DEMO_BACKBONE, load_script

from kadapter.tasks import TASKS
from kadapter.tasks.check import check_folder
from kadapter.tasks.glue import GLUE

CHECK = load_script("scripts/check_data.py")
FOLDERS = {
    "fac": "trex-rc",
    "lin": "find_head",
    "mlm": "text",
    "openentity": "OpenEntity",
    "figer": "FIGER",
    "tacred": "TACRED",
    "semeval": "semeval2010_task8",
    "cosmosqa": "cosmosQA",
    "classification": "classification",
    "tagging": "tagging",
    "searchqa": "questions",
    "quasart": "questions",
    "squad": "squad",
}


@pytest.fixture
def typing_folder(tmp_path, world):
    return shutil.copytree(world / "OpenEntity", tmp_path / "OpenEntity")


def change(path, function):
    rows = json.loads(path.read_text())
    path.write_text(json.dumps(function(rows)))
    return rows


def main(capsys, *argv):
    """What is printed, and the exit code."""
    try:
        CHECK.main([str(part) for part in argv])
        code = 0
    except SystemExit as error:
        code = error.code
    return capsys.readouterr().out, code


@pytest.mark.parametrize("task", FOLDERS)
def test_the_demo_data_of_every_task_are_sound(task, world, capsys):
    out, code = main(capsys, task, world / FOLDERS[task])
    assert code == 0, out
    head, train, *_ = out.splitlines()
    assert head.split() == ["split", "examples", "bad", "labels", "repeated"]
    report = check_folder(TASKS[task].for_folder(world / FOLDERS[task]), world / FOLDERS[task])["train"]
    assert train.split()[:3] == ["train", f"{report.examples:,}", "0"]
    assert report.examples > (0 if task == "mlm" else 10)  # a group of lines is one
    assert not report.doubt
    shown = sum(line.startswith(("train, record ", "dev, record ", "test, record ")) for line in out.splitlines())
    assert shown >= 3 * (task in ("fac", "openentity", "figer", "tacred", "semeval"))


def test_every_bad_record_is_listed_and_the_good_ones_are_counted(typing_folder, capsys):
    def spoil(rows):
        rows[0]["start"], rows[3]["labels"] = 10_000, ["nonsense"]
        del rows[5]["end"]
        return rows

    rows = change(typing_folder / "train.json", spoil)
    out, code = main(capsys, "openentity", typing_folder)
    assert code == 1
    assert f"{len(rows) - 3:,}    3" in out
    errors = [line for line in out.splitlines() if line.startswith("error: ")]
    assert [line.split("train.json, ")[1].split(":")[0] for line in errors] == ["record 1", "record 4", "record 6"]
    assert "nonsense" in errors[1]


def test_examples_of_dev_that_stand_in_train_are_said(typing_folder, capsys):
    train = json.loads((typing_folder / "train.json").read_text())
    other = {**train[1], "labels": [label for label in ("person", "event") if label not in train[1]["labels"]][:1]}
    change(typing_folder / "dev.json", lambda rows: [*rows, train[0], other, other])
    out, code = main(capsys, "openentity", typing_folder)
    assert code == 0
    assert "note: 3 examples of dev stand in train too" in out
    assert "of dev repeat" not in out  # the same answer twice
    change(typing_folder / "dev.json", lambda rows: [*rows, train[1]])
    assert (
        "note: 1 examples of dev repeat an earlier input with another answer."
        in main(capsys, "openentity", typing_folder)[0]
    )


def test_a_size_that_is_not_the_release_s_is_said(typing_folder, capsys):
    row = json.loads((typing_folder / "train.json").read_text())[0]
    change(typing_folder / "train.json", lambda _: [{**row, "sent": row["sent"] + " " * i} for i in range(1998)])
    out, _ = main(capsys, "openentity", typing_folder)
    assert "note: train has" not in out
    assert "note: dev has" in out
    assert "not 1,998 (OpenEntity)." in out


def test_tasks_of_glue_are_checked_too(tmp_path, capsys):
    assert set(TASKS) == {*FOLDERS, "et", *(task.name for task in GLUE)}
    rows = ["gj04\t1\t\tIt rains.", "gj04\t2\t\tIt snow.", "gj04\t0\t*\tIt snow.", "gj04\t1", "gj04\t1\t\tIt snow."]
    (tmp_path / "train.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "dev.tsv").write_text("\n".join(rows[:1]) + "\n")
    out, code = main(capsys, "CoLA", tmp_path)
    assert code == 1
    assert "train         3    1       2         1" in out
    assert "train.tsv, line 2: the label '2' is not 0, 1; mend it" in out
    for note in (
        "1 records of train are left out: columns are missing (the first is record 4)",
        "1 examples of dev stand in train too",
    ):
        assert f"note: {note}" in out
    assert "note: 1 examples of train repeat an earlier input with another answer." in out


def test_a_missing_split_and_broken_json_are_errors(typing_folder, capsys):
    (typing_folder / "dev.json").unlink()
    (typing_folder / "test.json").write_text('[{"sent": "a", ')
    out, code = main(capsys, "openentity", typing_folder)
    assert code == 1
    assert "dev.json is missing; put the dev split there." in out
    assert "test.json, line 1, column 16: broken JSON" in out


def test_a_label_kept_back_is_no_label(world, tmp_path, capsys):
    folder = shutil.copytree(world / "cosmosQA", tmp_path / "cosmosQA")
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    (folder / "test.jsonl").write_text("\n".join(json.dumps({**row, "label": -1}) for row in rows))
    out, code = main(capsys, "cosmosqa", folder)
    assert code == 0
    assert "labels that never stand" not in out


def test_lengths_are_those_of_the_recipe_s_sequences(world, tmp_path, capsys, tokenizer):
    folder = world / "find_head"
    corpus = TASKS["lin"].for_folder(folder)
    lengths = list(check_folder(corpus, folder, tokenizer)["dev"].lengths)
    rows = json.loads((folder / "dev.json").read_text())
    words = [
        [row["sent"][t[str(i)]["start"] : t[str(i)]["end"]] for i, t in enumerate(row["tokens"], 1)] for row in rows
    ]
    plain = {"add_special_tokens": False}
    assert lengths == [2 + sum(len(tokenizer(f" {word}", **plain)["input_ids"]) for word in line) for line in words]
    cut = sorted(lengths)[-3] - 1
    share = sum(length > cut for length in lengths) / len(lengths)
    out, code = main(
        capsys, "lin", folder, "--tokenizer", DEMO_BACKBONE, "--max_seq_length", cut, "--plot", tmp_path / "lengths.png"
    )
    assert code == 0
    assert out.splitlines()[2].endswith(f"{share:.1%}")
    assert (tmp_path / "lengths.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_without_tokenizer_and_a_folder_without_labels_are_refused(world, tmp_path, capsys):
    with pytest.raises(SystemExit):
        CHECK.main(["lin", str(world / "find_head"), "--plot", str(tmp_path / "a.png")])
    assert "give --tokenizer too" in capsys.readouterr().err
    for task, name in (("fac", "relations"), ("et", "labels")):
        with pytest.raises((ValueError, OSError), match=rf"{name}\.json is missing"):
            CHECK.main([task, str(tmp_path)])


def test_labels_are_refused_where_a_task_has_its_own(world):
    with pytest.raises((ValueError, OSError), match="--labels is not for semeval, whose labels are its own"):
        CHECK.main(["semeval", str(world / FOLDERS["semeval"]), "--labels", "labels.json"])


def test_columns_of_ones_own_files_may_be_named(tmp_path, capsys):
    rows = "".join(f"a text,a title {i},{'xy'[i % 2]}\n" for i in range(40))
    (tmp_path / "train.csv").write_text("text,title,label\n" + rows)
    out, code = main(capsys, "classification", tmp_path, "--text_column", "title")
    assert code == 0, out
    assert "train        36    0       2         0" in out
    with pytest.raises(ValueError, match="give --text_column"):
        CHECK.main(["classification", str(tmp_path)])
    with pytest.raises(SystemExit):
        CHECK.main(["tagging", str(tmp_path), "--text_column", "title"])
    assert "--text_column is not for tagging; leave it out" in capsys.readouterr().err
