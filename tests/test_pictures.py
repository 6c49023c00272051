"""One style for all pictures: PNG and PDF together, axes from 0 or visibly broken, nothing of it left behind."""

import sys

import matplotlib
import numpy as np
import pytest

from kadapter.pictures import (
    COLUMN,
    KNOWLEDGE,
    broken_scale,
    dots,
    in_words,
    level,
    name_rows,
    note,
    picture,
    scale,
    title,
)
from kadapter.storage.files import atomic_files


def test_a_picture_is_written_as_png_of_that_width_and_as_pdf_and_the_style_ends_with_it(tmp_path):
    size, before = matplotlib.rcParams["font.size"], "matplotlib.pyplot" in sys.modules
    with picture(tmp_path / "a.svg", COLUMN, 2) as (figure, panels):
        panels[0, 0].plot([1, 2], [3, 4])
        assert panels[0, 0].xaxis.label.get_size() == 8
        title(figure, "what is measured")
        note(figure, "what lines mean")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pdf", "a.png"]
    header = (tmp_path / "a.png").read_bytes()
    assert header[:4] == b"\x89PNG"
    assert int.from_bytes(header[16:20]) == 200 * COLUMN  # pixels
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    assert matplotlib.rcParams["font.size"] == size
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_the_same_picture_has_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        with picture(tmp_path / name) as (_, panels):
            panels[0, 0].plot([1, 2], [3, 4])
    for ending in ("png", "pdf"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_a_picture_that_belongs_to_other_files_appears_with_them_or_not_at_all(tmp_path):
    def draw(broken):
        with atomic_files("a set") as temporary:
            temporary(tmp_path / "table.md").write_text("table")
            with picture(tmp_path / "a.png", temporary=temporary) as (_, panels):
                panels[0, 0].plot([1, 2], [3, 4])
                if broken:
                    raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        draw(True)
    assert not list(tmp_path.iterdir())
    draw(False)
    assert {path.name for path in tmp_path.iterdir()} == {"a.pdf", "a.png", "table.md"}


def test_axes_begin_at_0_or_below_or_say_that_they_do_not(tmp_path):
    with picture(tmp_path / "a.png", columns=4) as (_, panels):
        first, second, third, fourth = panels[0]
        scale(first, "x", "per cent", [70, 80], top=100)
        assert first.get_xlim() == (0, 100)
        scale(second, "y", "per cent", [-10, 80, np.nan])
        assert second.get_ylim() == pytest.approx((-11, 86.4))
        broken_scale(third, "per cent", [70, 80])
        low, high = third.get_ylim()
        assert 0 < low < 70 < 80 < high
        assert len(third.lines) == 1  # the strokes
        broken_scale(fourth, "per cent", [10, 80])
        assert fourth.get_ylim()[0] == 0
        assert not fourth.lines


def test_a_row_has_a_dot_for_each_seed_and_a_line_at_their_mean(tmp_path):
    with picture(tmp_path / "a.png") as (_, panels):
        axes = panels[0, 0]
        dots(axes, 1, [80, 85, 90], KNOWLEDGE)
        level(axes, "x", 50, "chance")
        level(axes, "y", 1, "middle")
        name_rows(axes, ["none", "fac"])
        points, mean = axes.lines[:2]
        assert points.get_xdata().tolist() == [80, 85, 90]
        assert set(points.get_ydata()) == {1}
        assert set(mean.get_xdata()) == {85}
        assert axes.get_ylim() == (1.5, -0.5)  # from above to below


def test_settings_are_told_in_words_and_names_of_ones_own_stay():
    found = [in_words(name) for name in ("none, frozen", "fac", "kg_10", "fac-lin")]
    assert found == ["no adapter, frozen", "factual adapter", "kg_10", "factual and linguistic"]


def test_a_picture_says_nothing_in_the_log_of_a_run(tmp_path, caplog):
    caplog.set_level("INFO")
    with picture(tmp_path / "a.png") as (_, panels):
        panels[0, 0].set_title("Text, whose font goes into the PDF")
    assert caplog.text == ""
