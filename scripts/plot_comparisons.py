r"""One picture of several comparisons: a panel for each, a row for each setting, a dot for each seed.

    python scripts/plot_comparisons.py --output docs/few_shot.png --title "Few examples of real text, backbone frozen" \
        "Relations of unseen documents, 5 each=output/unseen-5" "Types of entities, 20 each=output/types-20"

What stands behind a panel's name is a folder of scripts/compare.py with its comparison.json; settings keep the order of
the first. The one of --control is grey, as none and untrained are. --name says in words what a setting is.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kadapter.console import Parser, absolute, run
from kadapter.pictures import CONTROL, KNOWLEDGE, PAGE, dots, in_words, name_rows, note, per_cent, picture, scale, title
from kadapter.storage.reading import read_object

CONTROLS = ("none", "untrained")


@dataclass(frozen=True)
class Panel:
    """A comparison: its name, its metric, and the scores of each setting."""

    name: str
    metric: str
    scores: Mapping[str, Sequence[float]]


def read_panel(text: str) -> Panel:
    """The comparison of name=folder.

    Raises:
        FileNotFoundError, ValueError: it is not of that form, there is none, or it holds no settings.
    """
    name, equals, folder = text.rpartition("=")
    if not (name and equals and folder):
        raise ValueError(f"the panel is {text!r}; write name=folder.")
    path = absolute(folder) / "comparison.json"
    settings: list[dict[str, Any]] = read_object(path, "run compare.py again.", ["settings"])["settings"]
    try:
        labels = [setting["setting"].removesuffix(", frozen") for setting in settings]
        if len(set(labels)) < len(labels):  # on a frozen backbone and on a trained one
            labels = [setting["setting"] for setting in settings]
        scores = {label: list(setting["scores"]) for label, setting in zip(labels, settings, strict=True)}
        return Panel(name, str(settings[0]["metric"]), scores)
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ValueError(f"{path} holds no settings with scores; run compare.py again.") from None


def draw(path: Path, panels: Sequence[Panel], control: str, words: Mapping[str, str], headline: str) -> None:
    """Write the picture; every panel's axis ends at 100 per cent, so that panels can be compared."""
    rows = list(dict.fromkeys(label for panel in panels for label in panel.scores))
    rows.sort(key=lambda label: label.split(", ")[0] not in (*CONTROLS, control))
    with picture(path, PAGE, 0.2 * len(rows) + 1.2, columns=len(panels), sharey=True) as (figure, axes):
        for panel, place in zip(panels, axes[0], strict=True):
            name_rows(place, [words.get(label) or in_words(label) for label in rows])
            for row, label in enumerate(rows):
                is_control = label.split(", ")[0] in (*CONTROLS, control)
                if label in panel.scores:
                    values = [100 * score for score in panel.scores[label]]
                    dots(place, row, values, CONTROL if is_control else KNOWLEDGE)
            place.set_title(textwrap.fill(panel.name, 75 // len(panels)))
            scale(place, "x", per_cent(panel.metric), [100.0], top=100)
        note(figure, "dot: a seed; line: their mean; grey: without knowledge")
        title(figure, headline)


def named_words(texts: Sequence[str]) -> dict[str, str]:
    """What setting=words say.

    Raises:
        ValueError: one is not of that form.
    """
    found = {}
    for text in texts:
        setting, equals, words = text.partition("=")
        if not (setting and equals and words):
            raise ValueError(f"--name has {text!r}; write setting=words.")
        found[setting] = words
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("panels", nargs="+", metavar="NAME=FOLDER", help="the comparisons, from left to right")
    parser.add_argument("--output", type=absolute, required=True, help="the picture; PNG and PDF are written")
    parser.add_argument("--title", default="", help="what is measured")
    parser.add_argument("--control", default="", help="the adapter that holds no knowledge, as compare.py was told")
    parser.add_argument("--name", action="append", default=[], metavar="SETTING=WORDS", help="what a row is called")
    args = parser.parse_args(argv)
    draw(args.output, [read_panel(text) for text in args.panels], args.control, named_words(args.name), args.title)


if __name__ == "__main__":
    run(main)
