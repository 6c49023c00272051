"""The table and the picture of scripts/run_demo.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from demo_facts import OTHER, SAME

from kadapter.data.jsonio import write_json
from kadapter.pictures import CONTROL, KNOWLEDGE, PAGE, PER_CENT, dots, level, name_rows, note, picture, scale, title
from kadapter.storage.files import atomic_files

SETTINGS = {
    "none": "no adapter",
    "untrained": "untrained adapter",
    "fac": "factual adapter",
    "lin": "linguistic adapter",
    "both": "both adapters",
}
WAYS = {
    "bare state": "no adapter",
    "untrained domain, add": "untrained adapter",
    "domain, trained concat and head": "domain adapter",
}  # of probe_lama.py
WORDINGS = {SAME: "in words in which they were stated", OTHER: "in other words"}  # relation -> how its facts are asked


@dataclass(frozen=True)
class Question:
    """A task of the demo: `metric` of metrics.json, in words, and what guessing gives, in per cent."""

    heading: str
    metric: str
    words: str
    chance: float
    guess: str


QUESTIONS = {
    "typing": Question("Facts: the type of a new name", "best_type", "right, of 6 types", 100 / 6, "chance"),
    "actors": Question("Syntax: which name acts", "f1", "right, of 2 names", 50, "chance"),
}
Scores = Mapping[str, Mapping[str, Sequence[float]]]  # question -> setting -> per cent, one for each seed
P1 = Mapping[str, Mapping[str, float]]  # setting in words -> relation of `WORDINGS` -> per cent


def asked(report: Mapping[str, Any], value: str = "p1") -> dict[str, dict[str, float]]:
    """Setting in words -> relation of `WORDINGS` -> P@1 of its facts, or another value of probe.json."""
    found = {label.partition(": ")[2]: groups for label, groups in report["scores"].items()}
    relations = {words: found[way]["own facts"]["relations"] for way, words in WAYS.items()}
    return {words: {one: own[one][value] for one in WORDINGS} for words, own in relations.items()}


def markdown(scores: Scores, p1: P1, facts: Mapping[str, float]) -> str:
    """Means and sample deviations over seeds; P@1 of the one domain adapter."""
    lines = [
        f"| adapters | {' | '.join(f'{one.heading}: {one.words}' for one in QUESTIONS.values())} |",
        "|---|---|---|",
    ]
    for setting, words in SETTINGS.items():
        cells = [f"{np.mean(found[setting]):.1f} ± {np.std(found[setting], ddof=1):.1f}" for found in scores.values()]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    lines.append(f"| guessing | {' | '.join(f'{one.chance:.1f}' for one in QUESTIONS.values())} |")
    heads = [f"{facts[one]} asked {words}" for one, words in WORDINGS.items()]
    lines += ["", f"| stated facts, first word right | {' | '.join(heads)} |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {words} | {own[SAME]:.1f} | {own[OTHER]:.1f} |" for words, own in p1.items())])


def draw(scores: Scores, p1: P1, path: Path, temporary: Any) -> None:
    """A panel for each question with a dot for each seed, and one for the facts that were asked as sentences."""
    with picture(path, PAGE, 2.5, temporary, columns=3, width_ratios=[1, 1, 0.7]) as (figure, panels):
        for axes, (name, question) in zip(panels[0], QUESTIONS.items(), strict=False):
            for row, setting in enumerate(SETTINGS):
                dots(axes, row, scores[name][setting], CONTROL if setting in ("none", "untrained") else KNOWLEDGE)
            name_rows(axes, list(SETTINGS.values()) if name == "typing" else [""] * len(SETTINGS))
            level(axes, "x", question.chance, question.guess)
            scale(axes, "x", f"{question.words}, {PER_CENT}", [], top=100)
            axes.set_title(question.heading, pad=14)
        axes = panels[0, 2]
        for row, (words, own) in enumerate(p1.items()):
            axes.plot(
                [own[OTHER]], [row], "D", color=KNOWLEDGE if words == "domain adapter" else CONTROL, clip_on=False
            )
        name_rows(axes, list(p1))
        scale(axes, "x", f"first word right, {PER_CENT}", [], top=100)
        axes.set_title("Facts, in other words", pad=14)
        title(figure, "What frozen adapters add to a frozen RoBERTa in an invented world")
        seeds = len(scores["typing"]["none"])
        note(figure, f"Test data. Dot: one of {seeds} seeds; line: their mean; diamond: one adapter. Dashed: guessing.")


def write(scores: Scores, report: Mapping[str, Any], about: Mapping[str, Any], output: Path) -> str:
    """table.md, table.json, scores.png and scores.pdf; the table."""
    p1 = asked(report)
    facts = next(iter(asked(report, "facts").values()))
    table = markdown(scores, p1, facts)
    with atomic_files("the demo's results") as temporary:
        temporary(output / "table.md").write_text(table + "\n", encoding="utf-8")
        write_json(temporary(output / "table.json"), {**about, "scores": scores, "p1": p1, "facts": facts})
        draw(scores, p1, output / "scores.png", temporary)
    return table
