"""The demo's claim, on the demo itself: each kind of knowledge solves what only it can solve."""

import json

import numpy as np
import pytest
from conftest import load_script


@pytest.mark.slow
def test_facts_type_new_names_and_syntax_tells_who_acts_and_the_control_without_knowledge_does_neither(tmp_path):
    load_script("scripts/run_demo.py").main(["--output_dir", str(tmp_path)])
    found = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert len(found["seeds"]) == 5
    typing, actors = (
        {setting: np.array(scores) for setting, scores in found["scores"][task].items()}
        for task in ("typing", "actors")
    )
    assert all(scores.shape == (5,) for scores in (*typing.values(), *actors.values()))
    assert typing["fac"].mean() >= 85
    assert typing["fac"].std(ddof=1) <= 3
    assert typing["both"].mean() >= typing["fac"].mean() - 3
    for control in ("none", "untrained"):
        assert abs(typing[control].mean() - 100 / 6) < 10
        assert actors["lin"].mean() >= actors[control].mean() + 20
        assert actors["fac"].mean() < actors[control].mean() + 20
    for asked in found["p1"]["domain adapter"]:  # in words in which the facts were stated, and in others
        assert found["p1"]["domain adapter"][asked] >= 60
        assert max(found["p1"][control][asked] for control in ("no adapter", "untrained adapter")) <= 5
    tested = (tmp_path / "data" / "OpenEntity" / "test.json").read_text(encoding="utf-8")
    assert len(json.loads(tested)) >= 300
    for name in ("table.md", "scores.png", "scores.pdf", "typing/curves.png"):
        assert (tmp_path / name).stat().st_size > 0
