"""scripts/results_table.py: rows, deviations and published numbers, and what it refuses."""

import json

import numpy as np
import pytest
from conftest import load_script

TABLE = load_script("scripts/results_table.py")


def write_run(folder, seed, adapters, f1, arguments=None):
    folder = folder / f"entity_type_batch-4_seed-{seed}_{adapters}"
    folder.mkdir(parents=True)
    arguments = {"seed": seed, "adapters": adapters, "output_dir": str(folder), **(arguments or {})}
    (folder / "args.json").write_text(json.dumps({"arguments": arguments}))
    scores = {"precision": f1 + 0.1, "recall": f1 - 0.1, "f1": f1}
    (folder / "metrics.json").write_text(json.dumps({"best": {"step": 1}, "test": scores}))
    lines = [{"split": "dev", "global_step": step, "metrics": {**scores, "f1": f1 * step / 20}} for step in (10, 20)]
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def runs(tmp_path):
    for seed, none, fac in ((1, 0.5, 0.6), (2, 0.52, 0.7), (3, 0.57, 0.8)):
        write_run(tmp_path / "runs", seed, "none", none)
        write_run(tmp_path / "runs", seed, "fac", fac)
    return tmp_path / "runs"


def test_runs_that_differ_in_the_seed_alone_make_a_row_with_mean_and_deviation(runs, tmp_path, capsys):
    rows = TABLE.main([str(runs), "--output", str(tmp_path / "out")])
    assert {row.label: sorted(row.seeds) for row in rows} == {"fac": [1, 2, 3], "none": [1, 2, 3]}
    expected = f"{100 * np.mean([0.6, 0.7, 0.8]):.2f} ± {100 * np.std([0.6, 0.7, 0.8], ddof=1):.2f}"
    table = (tmp_path / "out" / "table.md").read_text()
    assert expected in table
    assert table.strip() == capsys.readouterr().out.strip()
    for name in ("scores.png", "curves.png"):
        assert (tmp_path / "out" / name).read_bytes()[:4] == b"\x89PNG"


def test_published_numbers_stand_beside_ours_and_say_that_they_are(runs, tmp_path, capsys):
    flags = ["--beside", "openentity", "--format", "json", "--output", str(tmp_path / "out")]
    TABLE.main([str(runs), *flags])
    values = json.loads(capsys.readouterr().out)
    theirs = {value["run"]: value for value in values if value["published"]}
    assert theirs["K-Adapter F+L (paper)"]["f1"]["mean"] == pytest.approx(0.7761)
    assert sum(not value["published"] for value in values) == 2
    assert "| RoBERTa (paper) | – | 77.55 | 74.95 | 76.23 |" in (tmp_path / "out" / "table.md").read_text()


def test_every_published_number_is_a_score_in_per_cent_of_a_named_source():
    tables = json.loads(TABLE.PUBLISHED.read_text())
    low = tables.pop("lama")  # whose scores may be anything
    assert all(0 < row["p1"] < 50 and row["label"].endswith("(paper)") for rows in low.values() for row in rows)
    of_k_adapter, houlsby = (
        {"openentity", "figer", "tacred", "cosmosqa", "searchqa", "quasart"},
        {"glue", "mnli", "squad"},
    )
    assert set(tables) == of_k_adapter | houlsby | {"texts"}
    for task, splits in tables.items():
        for split, rows in splits.items():
            assert split == "others" or all(set(row) == set(rows[0]) for row in rows)
            for row in rows:
                sources = ("(paper)", "(README)") if task in of_k_adapter else ("(Houlsby)", "(README)")
                assert row["label"].endswith(sources)
                low = 25 if task in of_k_adapter else 2
                assert all(low < value <= 100 for name, value in row.items() if name != "label")


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        (["--split", "other"], ValueError, r"has no other \['precision', 'recall', 'f1'\]"),
        (["--metrics", "em"], ValueError, r"has no test \['em'\]"),
        (["--beside", "figer"], ValueError, r"published for figer, test: \['accuracy', 'macro_f1', 'f1'\]"),
    ],
)
def test_what_is_not_there_is_refused(runs, flags, error, message):
    with pytest.raises(error, match=message):
        TABLE.main([str(runs), *flags])


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="let a run finish first"):
        TABLE.main([str(tmp_path)])


def test_what_runs_trained_and_took_stands_beside_their_scores(runs, tmp_path, capsys):
    for path in runs.rglob("metrics.json"):
        report = json.loads(path.read_text())
        seed = int(path.parent.name.split("seed-")[1][0])
        many = "fac" in path.parent.name
        report |= {"trained_parameters": 20_000 if many else 300, "seconds": 10.0 + seed, "peak_memory_mib": 100}
        path.write_text(json.dumps(report))
    TABLE.main([str(runs), "--resources", "--output", str(tmp_path / "out")])
    head, _, fac, none = capsys.readouterr().out.strip().splitlines()
    assert head.endswith("| f1 | trained | seconds | MiB |")
    assert fac.endswith("| 20,000 | 12 | 100 |")
    assert none.endswith("| 300 | 12 | 100 |")
    assert (tmp_path / "out" / "parameters.png").read_bytes()[:4] == b"\x89PNG"


def test_several_tasks_are_each_judged_by_their_own_metric_and_have_a_panel_each(tmp_path, capsys):
    for task, score in (("CoLA", 0.3), ("RTE", 0.6)):
        for comment in ("size 8", "size 64"):
            arguments = {"task_name": task, "comment": comment}
            write_run(tmp_path / task / comment, 1, comment, score, arguments)
    for path in tmp_path.rglob("metrics.json"):
        report = json.loads(path.read_text())
        metric = "precision" if "CoLA" in str(path) else "f1"
        path.write_text(json.dumps({**report, "metric": metric, "trained_parameters": 300}))
    TABLE.main([str(tmp_path), "--metrics", "main", "--resources", "--output", str(tmp_path / "out")])
    rows = [line.split(" | ")[::2] for line in capsys.readouterr().out.strip().splitlines()[2:]]
    assert sorted(row[:2] for row in rows) == [
        ["| CoLA size 64", "40.00"],
        ["| CoLA size 8", "40.00"],
        ["| RTE size 64", "60.00"],
        ["| RTE size 8", "60.00"],
    ]
    assert (tmp_path / "out" / "parameters.png").read_bytes()[:4] == b"\x89PNG"
    path = next(tmp_path.rglob("metrics.json"))
    path.write_text(json.dumps({"test": {}}))
    with pytest.raises(ValueError, match=r"has no test \['main'\]"):
        TABLE.main([str(tmp_path), "--metrics", "main"])
