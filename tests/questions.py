"""Invented questions in the form of thunlp/OpenQA, for several test files."""

import random
from pathlib import Path

from kadapter.data.openqa import openqa_lines

PLACES = ["Oslo", "Rome", "Paris", "Lima", "Cairo", "Delhi", "Quito", "Minsk"]
NAMES = [f"{first} {last}" for first in ("Ann", "Ben", "Cleo", "Dan") for last in ("Lee", "Moss", "Reed", "Stone")]


def write_questions(folder: Path, split: str, count: int, paragraphs: int = 4, seed: int = 0) -> None:
    """Who lives where: one paragraph is of the name that is asked for, the others are of other names."""
    draw, lines = random.Random(f"{seed} {split}"), []
    for _ in range(count):
        names = draw.sample(NAMES, paragraphs)
        texts = [f"{name} lives in {draw.choice(PLACES)}, as everybody knows." for name in names]
        asked = draw.randrange(paragraphs)
        answer = texts[asked].split()[4].strip(",")
        lines.append(openqa_lines(f"Where does {names[asked]} live ?", [answer], texts))
    _write(folder, split, lines)


def write_toy(folder: Path, split: str, count: int, paragraphs: int = 4) -> None:
    """Four places, of which one is true: each paragraph by itself reads the same, so that only a selector can tell."""
    draw, lines = random.Random(split), []
    for _ in range(count):
        places, right = draw.sample(PLACES, paragraphs), draw.randrange(paragraphs)
        texts = [f"{'yes' if i == right else 'no'} , it is in {place}" for i, place in enumerate(places)]
        lines.append(openqa_lines("Where is it ?", [places[right]], texts))
    _write(folder, split, lines)


def _write(folder: Path, split: str, lines: list[tuple[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for ending, part in zip((".txt", ".json"), zip(*lines, strict=True), strict=True):
        (folder / f"{split}{ending}").write_text("".join(f"{line}\n" for line in part), encoding="utf-8")
