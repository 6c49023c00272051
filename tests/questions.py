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


def write_toy(folder: Path, split: str, count: int) -> None:
    """One paragraph says where it is; three, which read alike, where it is not: together they outweigh that one."""
    draw, lines = random.Random(split), []
    for _ in range(count):
        right, wrong = draw.sample(PLACES, 2)
        texts = [f"yes , it is in {right}", *[f"no , it is in {wrong}"] * 3]
        lines.append(openqa_lines("Where is it ?", [right], draw.sample(texts, 4)))
    _write(folder, split, lines)


def _write(folder: Path, split: str, lines: list[tuple[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for ending, part in zip((".txt", ".json"), zip(*lines, strict=True), strict=True):
        (folder / f"{split}{ending}").write_text("".join(f"{line}\n" for line in part), encoding="utf-8")
