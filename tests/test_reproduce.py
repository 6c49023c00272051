"""scripts/reproduce.py: the commands of a table, what it lacks, and a whole table with tiny models."""

import json
import shlex

import pytest
from conftest import DEMO_BACKBONE, SMALL, load_script

from kadapter import AdapterConfig, KAdapterModel

reproduce = load_script("scripts/reproduce.py")


def test_a_table_is_a_command_for_each_setting_and_seed(tmp_path, capsys):
    flags = ["--table", "2", "--only", "openentity", "--seeds", "1,2", "--output", str(tmp_path), "--print"]
    reproduce.main([*flags, "--", "--bf16", "True"])
    lines = capsys.readouterr().out.splitlines()
    lacking = [line for line in lines if line.startswith("# missing: ")]
    assert any("fac-adapter/pytorch_model.bin: the authors' adapters" in line for line in lacking)
    commands = [shlex.split(line) for line in lines if line not in lacking]
    assert len(commands) == 5 * 2
    assert all("--learning_rate" in command and "--bf16" in command for command in commands)
    assert len({command[-1] for command in commands}) == 10
    both = next(command for command in commands if "/K-Adapter-F+L/" in command[-1])
    assert sum("pytorch_model.bin" in word for word in both) == 2
    none = next(command for command in commands if "/RoBERTa/" in command[-1])
    assert not any("pytorch_model.bin" in word for word in none)


def test_what_is_missing_is_listed_before_anything_runs(tmp_path):
    flags = ["--table", "4", "--data", str(tmp_path), "--fac", str(tmp_path / "fac"), "--output", str(tmp_path / "out")]
    with pytest.raises(FileNotFoundError, match=r"3 things are missing.*fac: .*TACRED: licensed, catalog"):
        reproduce.main([*flags, "--lin", str(tmp_path / "lin")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--table", "4", "--only", "figer"], "--only names 'figer'; table 4 has tacred"),
        (["--table", "9"], "invalid choice: '9'"),
        (["--table", "4", "--seeds", "1,1"], "names a seed twice"),
    ],
)
def test_flags_that_cannot_be_are_refused(flags, message, capsys):
    with pytest.raises(SystemExit):
        reproduce.main(flags)
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_whole_table_is_made_and_stands_beside_the_published_one(world, tmp_path, capsys):
    shape = AdapterConfig(adapter_list=(0, 1), adapter_size=16, num_attention_heads=2, intermediate_size=24)
    model = KAdapterModel.from_pretrained(DEMO_BACKBONE, adapters={"fac": shape, "lin": shape})
    for name in ("fac", "lin"):
        model.save_adapter(tmp_path / name, name)
    flags = [
        "--table",
        "2",
        "--only",
        "openentity",
        "--seeds",
        "1",
        "--data",
        str(world),
        "--output",
        str(tmp_path / "o"),
    ]
    flags += ["--fac", str(tmp_path / "fac"), "--lin", str(tmp_path / "lin"), "--multitask", str(DEMO_BACKBONE)]
    flags += ["--model_name_or_path", str(DEMO_BACKBONE), "--", *SMALL.split(), "--max_steps", "2"]
    rows = reproduce.main(flags)
    assert [row["setting"] for row in rows] == [
        *("RoBERTa", "K-Adapter without knowledge", "K-Adapter F", "K-Adapter L", "K-Adapter F+L"),
        "RoBERTa + multitask",
    ]
    assert [row["published"]["f1"] for row in rows] == [76.23, 76.17, 77.53, 76.89, 77.61, 76.97]
    for row in rows:
        (report,) = (tmp_path / "o" / "openentity").glob(
            f"runs/{row['setting'].replace(' ', '-')}/seed-1/*/metrics.json"
        )
        assert row["ours"]["f1"] == [pytest.approx(100 * json.loads(report.read_text())["test"]["f1"])]
    assert "| openentity, test | RoBERTa + multitask | f1 |" in capsys.readouterr().out
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "o").rglob("checkpoint-*/state.json")}
    assert len(stamps) >= 6
    assert reproduce.main(flags) == rows
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "o").rglob("checkpoint-*/state.json")} == stamps
