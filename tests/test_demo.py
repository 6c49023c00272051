"""The demo's claim, on the demo itself: infused facts solve what fine-tuning alone cannot."""

import json

import pytest
from conftest import load_script


@pytest.mark.slow
def test_the_factual_adapter_leads_by_forty_points_and_the_linguistic_one_finds_more_heads(tmp_path):
    load_script("scripts/run_demo.py").main(["--output_dir", str(tmp_path)])
    rows = {row["run"]: row for row in json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))}
    assert set(rows) == {"none", "fac", "lin", "fac-lin"}
    assert all(len(row["seeds"]) == 3 for row in rows.values())
    assert rows["fac"]["f1"]["mean"] > rows["none"]["f1"]["mean"] + 0.40
    heads = {row["run"]: row for row in json.loads((tmp_path / "heads" / "table.json").read_text(encoding="utf-8"))}
    assert heads["lin"]["accuracy"]["mean"] > heads["none"]["accuracy"]["mean"]
    for name in ("table.md", "scores.png", "curves.png", "heads/scores.png"):
        assert (tmp_path / name).stat().st_size > 0
