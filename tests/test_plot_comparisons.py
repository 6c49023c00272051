"""scripts/plot_comparisons.py: several comparisons in one picture."""

import json

import pytest
from conftest import load_script
from matplotlib.image import imread

PLOT = load_script("scripts/plot_comparisons.py")
SCORES = {
    "none": [0.2, 0.3],
    "untrained": [0.3, 0.3],
    "fac": [0.5, 0.6],
    "mixed": [0.3, 0.2],
    "all together": [0.6, 0.7],
}


def comparison(folder, scores=SCORES, frozen=True):
    folder.mkdir()
    rows = [{"setting": name + ", frozen" * frozen, "metric": "f1", "scores": found} for name, found in scores.items()]
    (folder / "comparison.json").write_text(json.dumps({"seeds": [1, 2], "settings": rows, "verdict": []}))
    return folder


def test_each_comparison_is_a_panel_and_controls_stand_first(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(PLOT, "dots", lambda axes, row, values, colour: drawn.append((row, values, colour)))
    one, two = comparison(tmp_path / "one"), comparison(tmp_path / "two", {"fac": [0.8], "none": [0.1]})
    flags = ["--output", str(tmp_path / "picture.png"), "--control", "mixed", "--name", "mixed=shuffled labels"]
    PLOT.main([f"A = one={one}", f"Two={two}", *flags, "--title", "Scores"])
    grey, blue = PLOT.CONTROL, PLOT.KNOWLEDGE
    assert [(row, colour) for row, _, colour in drawn] == [
        *((row, grey) for row in range(3)),
        *((row, blue) for row in (3, 4)),
        (0, grey),
        (3, blue),
    ]
    assert drawn[0][1] == pytest.approx([20, 30])
    assert drawn[2][1] == pytest.approx([30, 20])  # the control, before fac
    assert imread(tmp_path / "picture.png").shape[1] > 1000
    assert (tmp_path / "picture.pdf").stat().st_size > 1000


def test_settings_with_a_frozen_and_a_trained_backbone_keep_their_names_apart(tmp_path):
    folder = comparison(tmp_path / "a", {"fac": [0.1], "fac, frozen": [0.2]}, frozen=False)
    assert PLOT.read_panel(f"a={folder}").scores == {"fac": [0.1], "fac, frozen": [0.2]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "the panel is 'nothing'; write name=folder"),
        ("name={0}/nowhere", r"nowhere.comparison\.json"),
        ("name={0}/empty", r"comparison\.json holds no settings with scores; run compare\.py again"),
    ],
)
def test_what_is_no_comparison_is_refused(tmp_path, text, message):
    comparison(tmp_path / "empty", {})
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        PLOT.read_panel(text.format(tmp_path))


def test_names_of_another_form_are_refused():
    with pytest.raises(ValueError, match="--name has 'fac'; write setting=words"):
        PLOT.named_words(["fac"])
