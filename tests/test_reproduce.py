"""scripts/reproduce.py: the commands of a table, what it lacks, and the report."""

import argparse
import json
import re
import shlex

import pytest
from conftest import ROOT, load_script
from documents import parse, program_of

reproduce = load_script("scripts/reproduce.py")
tables = load_script("scripts/paper_tables.py")
report = load_script("scripts/reproduce_report.py")
PUBLISHED = json.loads((ROOT / "scripts" / "published.json").read_text(encoding="utf-8"))


def printed(capsys, *flags):
    """What is missing, and the commands, that --print prints."""
    reproduce.main([*map(str, flags), "--print"])
    lines = capsys.readouterr().out.splitlines()
    lacking = [line for line in lines if line.startswith("# missing: ")]
    return lacking, [shlex.split(line) for line in lines if line not in lacking]


def test_a_table_is_a_command_for_each_line_and_seed(tmp_path, capsys):
    flags = ["--table", "2", "--only", "openentity", "--seeds", "1,2", "--output", tmp_path]
    lacking, commands = printed(capsys, *flags, "--print", "--", "--bf16", "True")
    assert any("fac-adapter/pytorch_model.bin: The authors' adapters" in line for line in lacking)
    assert len(commands) == 5 * 2
    assert all("--learning_rate" in command and "--bf16" in command for command in commands)
    assert len({command[-1] for command in commands}) == 10
    both = next(command for command in commands if "/K-Adapter-F+L/" in command[-1])
    assert sum("pytorch_model.bin" in word for word in both) == 2
    none = next(command for command in commands if "/RoBERTa/" in command[-1])
    assert not any("pytorch_model.bin" in word for word in none)
    lin = next(command for command in commands if "/K-Adapter-L/" in command[-1])
    assert lin.index("--warmup_steps=1000") > lin.index("--warmup_steps")  # the README's, and the last one wins
    _, few = printed(capsys, *flags, "--lines", "RoBERTa", "K-Adapter F+L", "--print", "--", "--bf16", "True")
    assert few == [command for command in commands if re.search("/RoBERTa/|/K-Adapter-F.L/", command[-1])]


@pytest.mark.parametrize("table", tables.TABLES)
def test_every_command_of_every_table_is_one_that_its_recipe_takes(table, tmp_path, capsys, monkeypatch):
    more = ["--multitask", "output/multitask"] if table in "234" else []
    _, commands = printed(capsys, "--table", table, "--seeds", "1", "--output", tmp_path, *more)
    done = set()
    for command in commands:
        if command[0] == "bash":
            text = (ROOT / command[1]).read_text()
            (recipe,) = re.findall(r'examples/(\w+\.py)"', text)
            own = shlex.split(text[text.index(recipe) + len(recipe) + 1 :].replace("\\\n", " "))[:-1]
            words = ["python", f"examples/{recipe}", *own, *command[2:]]
        else:
            words = ["python", *command[1:]]
        path, arguments = program_of(words)
        if str(arguments) not in done:
            parse(path, arguments, monkeypatch)
        done.add(str(arguments))
    assert done


def test_what_is_missing_is_listed_before_anything_runs(tmp_path):
    flags = ["--table", "4", "--data", str(tmp_path), "--fac", str(tmp_path / "fac"), "--output", str(tmp_path / "out")]
    expected = r"3 things are missing.*fac: The authors' adapters.*TACRED, licensed.*by hand.*no SHA-256 known"
    with pytest.raises(FileNotFoundError, match=expected):
        reproduce.main([*flags, "--lin", str(tmp_path / "lin")])
    assert not (tmp_path / "out").exists()
    with pytest.raises(
        FileNotFoundError, match=r"1 things are missing.*CoLA, .*RTE: GLUE's nine tasks; python scripts/ge"
    ):
        reproduce.main(["--table", "glue", "--data", str(tmp_path), "--output", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--table", "4", "--only", "figer"], "--only names 'figer'; table 4 has tacred"),
        (
            ["--table", "4", "--lines", "ERNIE"],
            "--lines names 'ERNIE'; table 4 has RoBERTa, K-Adapter without knowledge",
        ),
        (["--table", "9"], "invalid choice: '9'"),
        (["--table", "4", "--seeds", "1,1"], "names a seed twice"),
        (["--table", "texts"], "this table cannot be reproduced here. Adapter-BERT, table 2 (17 sets of texts)"),
        (["--table", "glue", "--multitask", "x"], "--multitask is a line of the tables 2, 3 and 4, not of glue"),
        ([], "name a --table, or give --list"),
    ],
)
def test_flags_that_cannot_be_are_refused(flags, message, capsys):
    with pytest.raises(SystemExit):
        reproduce.main(flags)
    assert message in capsys.readouterr().err


def test_the_list_tells_runs_what_is_missing_and_what_cannot_be_had(capsys, tmp_path):
    reproduce.main(["--list", "--data", str(tmp_path)])
    out = capsys.readouterr().out
    assert "--table 2: K-Adapter, table 2: entity typing; 30 runs; 4 things are missing" in out
    assert "not here: ELMo, no masked language model of transformers" in out
    assert "not here: Adapter-BERT, table 2 (17 sets of texts)" in out


def test_every_published_line_is_run_or_said_why_not():
    args = argparse.Namespace(data=ROOT, fac="f", lin="l", multitask="m", model_name_or_path="x", table="")
    told = set()
    for table in tables.TABLES.values():
        for experiment in table.make(args):
            made = {line.row for line in experiment.lines}
            for view in experiment.views:
                for row in PUBLISHED.get(view.task, {}).get(view.split, []):
                    name = report.name_of(row["label"])
                    assert view.why or name in made or name in (table.not_here or {}), (view, name)
                told.add((view.task, view.split))
    everything = {(task, split) for task, splits in PUBLISHED.items() for split in splits}
    untold = {(task, split) for task, split in everything - told if split != "others" and task != "lama"}
    assert untold == {("texts", "test")}  # which --table texts refuses with the reason


def test_every_published_number_stands_in_the_page_with_its_line_and_source():
    page = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in page.splitlines() if line.startswith("|")
    ]
    for task, splits in PUBLISHED.items():
        for published in (row for part in splits.values() for row in part):
            name, _, source = published["label"].rpartition(" (")
            source = {"Houlsby)": "Houlsby et al."}.get(source, source.rstrip(")"))
            numbers = {value for key, value in published.items() if key != "label"}
            found = [
                row for row in rows if row[0] == name and row[1].startswith(source) and numbers <= set(map(number, row))
            ]
            assert found, f"{task}: {published}"
            assert found[0][-1] != ""  # which command, or why none


def number(cell):
    return float(cell) if re.fullmatch(r"[\d.]+", cell) else None


# -- the report ---------------------------------------------------------------------------------------------------


def entries(failed=(), left_out=(), **changes):
    line = tables.Line("Adapters 64", [])
    other = tables.Line("Adapters 64", [], "20 epochs")
    lines = {
        "lines": [line, other, tables.Line("Alone", [])],
        "views": [tables.View("glue", "test", "dev", {"RTE": "accuracy"})],
    }
    experiment = tables.Experiment("RTE", [], "glue", ROOT, **{**lines, **changes})
    runs = {"metric": "accuracy", "trained_parameters": 2, "parameters": 100}
    reports = {
        "Adapters 64": [{**runs, "dev": {"accuracy": value}} for value in (0.5, 0.6)],
        "Adapters 64, 20 epochs": [{**runs, "dev": {"accuracy": value}} for value in (0.7, 0.8)],
        "Alone": [{**runs, "dev": {"accuracy": 0.4}}] * 2,
    }
    reports = {name: [] if name in failed else own for name, own in reports.items() if name not in left_out}
    return report.reported(experiment, reports, PUBLISHED, tables.TABLES["glue"])


def test_of_several_ways_to_a_line_the_best_on_dev_stands_beside_the_published_number():
    found = {entry.setting: entry for entry in entries()}
    best = found["Adapters 64"]
    assert best.ours["RTE"] == pytest.approx([70, 80])
    assert best.variant == "20 epochs"
    assert best.published == {"RTE": 68.8}
    assert best.trained == 2.0
    assert found["Alone"].published == {}
    text = report.markdown(list(found.values()), tables.TABLES["glue"])
    assert "| RTE, dev | Adapters 64 (20 epochs) | RTE | 75.00 ± 7.07 | ± 63.53 | 68.80, Houlsby | +6.20 |" in text
    assert "do not compare" not in text
    assert "- These runs have mine, the published ones bert-large-uncased" in report.markdown(
        [best], tables.TABLES["glue"], "mine"
    )
    assert "| RTE, dev | Alone | RTE | 40.00 ± 0.00 | ± 0.00 | – | – |" in text
    assert "| RTE, dev | BERT-large | RTE 70.10 | no run of this script makes it |" in text


def test_what_failed_is_left_out_of_the_means_and_named_and_what_was_not_asked_for_too():
    found = {entry.setting: entry for entry in entries(failed=("Adapters 64", "Adapters 64, 20 epochs"))}
    assert (found["Adapters 64"].ours, found["Adapters 64"].why) == ({}, "all its runs failed")
    (one,) = [entry for entry in entries(failed=("Adapters 64, 20 epochs",)) if entry.setting == "Adapters 64"]
    assert one.ours["RTE"] == pytest.approx([50, 60])
    left_out = entries(left_out=("Adapters 64", "Adapters 64, 20 epochs"))
    (one,) = [entry for entry in left_out if entry.setting == "Adapters 64"]
    assert one.why == "left out by --lines"
    text = report.markdown([one], tables.TABLES["glue"], failed={"RTE, Alone with seed 1": "exit 1, see log.txt"})
    assert "Failed, and left out of the means:\n\n- RTE, Alone with seed 1: exit 1, see log.txt" in text


def test_what_may_not_be_compared_is_published_and_not_run():
    (entry, *_) = entries(views=[tables.View("cosmosqa", "test", "test", why="the labels are kept back")])
    assert (entry.ours, entry.why) == ({}, "the labels are kept back")
    others = [
        one for one in entries(views=[tables.View("tacred", "test", "dev", {"f1": "accuracy"})]) if "another" in one.why
    ]
    assert [one.setting for one in others][:2] == ["C-GCN", "BERT-base"]


def test_precision_recall_and_f1_of_published_lines_fit_together_but_for_one():
    odd = []
    for task, splits in PUBLISHED.items():
        for rows in splits.values():
            for row in rows:
                if "precision" in row:
                    expected = 2 * row["precision"] * row["recall"] / (row["precision"] + row["recall"])
                    odd += [(task, row["label"])] if abs(expected - row["f1"]) > 0.05 else []
    assert odd == [("openentity", "K-Adapter without knowledge (paper)")]  # the paper's own, which the table remarks
