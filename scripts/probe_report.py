"""Tables, tests and the picture of scripts/probe_lama.py.

Shapes: F = facts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paired_tests import Difference, difference_of_averages

from kadapter.data.jsonio import read_json
from kadapter.pictures import COLUMN, CONTROL, KNOWLEDGE, PER_CENT, name_rows, note, picture, scale, title
from kadapter.probing.facts import Fact
from kadapter.probing.ranking import Ranked
from kadapter.probing.scores import Group, average, interval, score

GAP = "___"  # in sentences for people
PUBLISHED = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Answers:
    """The facts, whether each belongs to LAMA-UHN (None: none does), and what each model and setting answered."""

    facts: Sequence[Fact]
    in_uhn: Sequence[bool] | None
    groups: Sequence[Group]
    ranked: Mapping[str, Ranked]

    @property
    def base(self) -> str:
        """The first model in its first setting, which the others are compared with."""
        return next(iter(self.ranked))

    def p1(self, label: str, group: Group) -> float:
        """The average P@1 over relations, in per cent."""
        ranks = self.ranked[label].ranks
        return average([score(ranks[numbers]) for numbers in group.members.values()]).p1


def differences(answers: Answers) -> dict[str, dict[str, Difference]]:
    """Label -> group -> difference of the average P@1 from the base, in points."""
    right = {label: one.ranks == 1 for label, one in answers.ranked.items()}
    return {
        label: {
            group.name: difference_of_averages(right[answers.base], own, list(group.members.values()))
            for group in answers.groups
        }
        for label, own in right.items()
        if label != answers.base
    }


# -- tables -----------------------------------------------------------------------------------------------------


def markdown(answers: Answers, compared: Mapping[str, Mapping[str, Difference]], about: Mapping[str, Any]) -> str:
    """Averages over relations for each model and setting, with the test against the first."""
    header = ["facts", "relations", "model: state that the head reads", "P@1", "P@10", "MRR", "P@1 over the first", "p"]
    lines = [f"| {' | '.join(['', *header])} |", "|---|---|---|---|---|---|---|---|---|"]
    for group in answers.groups:
        for i, (label, one) in enumerate(answers.ranked.items()):
            means = average([score(one.ranks[numbers]) for numbers in group.members.values()])
            first = [group.name, f"{means.facts:,}", str(means.relations)] if not i else ["", "", ""]
            cells = [f"{means.p1:.2f}", f"{means.p10:.2f}", f"{means.mrr:.4f}"]
            found = compared.get(label, {}).get(group.name)
            test = (
                [f"{found.points:+.2f} [{found.low:+.2f}, {found.high:+.2f}]", f"{found.p_value:.4f}"]
                if found
                else ["", ""]
            )
            lines.append(f"| {' | '.join([*first, label, *cells, *test])} |")
    lines += [
        "",
        "P@1, P@10: share of facts whose right word is the first, or among the first ten, of all words, in per cent; "
        "MRR: mean of 1 / rank. All are averaged over relations without weights.",
        "Differences: of the average P@1, in points; 95 % interval by paired bootstrap over each relation's facts, p "
        "by a two-sided permutation test. No correction for several comparisons.",
    ]
    return "\n".join([*lines, about["uhn"]] if answers.in_uhn is not None else lines)


def by_relation(answers: Answers) -> str:
    """A row for each relation of each group, with every setting's P@1."""
    labels = list(answers.ranked)
    lines = [f"| facts | relation | number | {' | '.join(labels)} |", "|---" * (len(labels) + 3) + "|"]
    for group in answers.groups:
        for relation, numbers in group.members.items():
            cells = [f"{score(answers.ranked[label].ranks[numbers]).p1:.2f}" for label in labels]
            lines.append(f"| {group.name} | {relation} | {len(numbers):,} | {' | '.join(cells)} |")
    return "\n".join(["P@1 by relation, in per cent.", "", *lines])


def published(answers: Answers) -> str:
    """Published P@1 of the collections asked; "" where there is none."""
    found = {
        name: rows for name, rows in read_json(PUBLISHED)["lama"].items() if name in {g.name for g in answers.groups}
    }
    if not found:
        return ""
    lines = [f"| published P@1 | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    for row in next(iter(found.values())):
        cells = [f"{other['p1']:.1f}" for rows in found.values() for other in rows if other["label"] == row["label"]]
        lines.append(f"| {row['label']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rows(answers: Answers, label: str) -> Iterator[dict[str, Any]]:
    """What a model answered to each fact; `label` is the right word, as in the rows of all tasks."""
    ranked = answers.ranked[label]
    for i, fact in enumerate(answers.facts):
        row: dict[str, Any] = {"collection": fact.collection, "relation": fact.relation, "subject": fact.subject}
        row |= {"text": fact.sentence(GAP), "label": fact.object, "predicted": ranked.top[i][0]}
        row |= {"rank": int(ranked.ranks[i])}
        shares = (round(float(share), 6) for share in ranked.probabilities[i])
        row |= {"top": dict(zip(ranked.top[i], shares, strict=True))}
        yield row if answers.in_uhn is None else {**row, "uhn": answers.in_uhn[i]}


# -- picture ----------------------------------------------------------------------------------------------------


def plot(answers: Answers, path: Path, temporary: Callable[[Path], Path]) -> None:
    """A panel for each collection: a dot for each setting at its P@1, with a 95 % interval."""
    labels = list(answers.ranked)
    shown = [group for group in answers.groups if ", " not in group.name]  # not the parts of T-REx
    width, height = max(COLUMN, 0.06 * max(map(len, labels)) + 1.7 * len(shown)), 0.25 * len(labels) + 1.1
    with picture(path, width, height, temporary, columns=len(shown), sharey=True) as (figure, panels):
        for axes, group in zip(panels[0], shown, strict=True):
            values = [answers.p1(label, group) for label in labels]
            ends = [interval(group, answers.ranked[label].ranks) for label in labels]
            for row, (label, value) in enumerate(zip(labels, values, strict=True)):
                colour = CONTROL if row == 0 or "untrained" in label else KNOWLEDGE
                axes.plot(ends[row], [row, row], "-", color=colour, marker="", linewidth=2)
                axes.plot([value], [row], "o", color=colour, markersize=5, clip_on=False)
            name_rows(axes, labels)
            scale(axes, "x", f"P@1, {PER_CENT}", [1.0, *(end for pair in ends for end in pair)])
            axes.set_title(f"{group.name}, {sum(map(len, group.members.values())):,} facts")
        title(figure, "Facts whose right word comes first")
        note(figure, "dot: average over relations; line: 95 % interval by bootstrap over facts")
