"""From the best spans of each paragraph to one answer for a question, and its scores.

Each span adds P(p | q) P(span | q, p) to the score of its text in SQuAD's normalised form, over all paragraphs and
windows (Lin et al., ACL 2018, section 3.4).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kadapter.data.answers import exact_match, f1_score, normalize_answer
from kadapter.shapes import IGNORE

HITS = (1, 3, 5)  # paragraphs that the selector puts first


class Answered(NamedTuple):
    """An answer with the paragraph that adds most to its score.

    text: as it stands there. score: its probability where paragraphs are weighed. start, end: in that paragraph, in
    characters, end exclusive.
    """

    text: str
    score: float
    paragraph: int
    start: int
    end: int


@dataclass(frozen=True)
class Windows:
    """What a question's sequences are, W of them, as `question_windows.question_features` has them.

    positions: [W, 3]. paragraphs: [W]. starts, ends: of all their paragraphs' tokens. labels: [3 places]. texts: the
    paragraphs themselves.
    """

    positions: np.ndarray
    paragraphs: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    labels: np.ndarray
    texts: Sequence[str]

    @classmethod
    def of(cls, feature: Mapping[str, Any], texts: Sequence[str]) -> Windows:
        names = ("paragraphs", "starts", "ends", "labels")
        columns = {name: np.asarray(feature[name]) for name in names}
        return cls(np.asarray(feature["positions"]).reshape(-1, 3), **columns, texts=texts)

    @property
    def bearing(self) -> set[int]:
        """The paragraphs in which an answer stands."""
        windows = self.labels[::3]
        return {int(self.paragraphs[window]) for window in windows if window != IGNORE}

    def ranked(self, selected: np.ndarray) -> list[tuple[int, float]]:
        """Paragraphs with P(p | q), that of their windows together, the likeliest first; `selected` [W] its log."""
        shares = np.zeros(len(self.texts))
        np.add.at(shares, self.paragraphs, np.exp(selected.astype(np.float64)))
        order = np.argsort(-shares, kind="stable")
        return [(int(number), float(shares[number])) for number in order]

    def answers(self, found: Mapping[str, np.ndarray], confidence: bool) -> list[Answered]:
        """All answers, the best first; one without text where the best spans show nothing.

        Args:
            found: "selected" [W] log P(p | q); "spans", "starts" and "ends" [W * best], as
                `question_heads.openqa_kept` keeps them.
            confidence: whether P(p | q) weighs paragraphs; else it is 1 / W.
        """
        count = len(self.paragraphs)
        weights = found["selected"].astype(np.float64) if confidence else np.full(count, -np.log(count))
        logs = weights[:, None] + found["spans"].reshape(count, -1)
        highest = logs.max()  # shares of it are ranked, however small it is
        scores, forms = defaultdict[str, float](float), dict[str, str]()
        parts = defaultdict[str, dict[int, float]](lambda: defaultdict(float))
        best = dict[tuple[str, int], tuple[float, int, int]]()
        for share, number, start, end in self._places(np.exp(logs - highest), found):
            text = self.texts[number][start:end]
            if text not in forms:
                forms[text] = normalize_answer(text) or text.lower()
            form = forms[text]
            scores[form] += share
            parts[form][number] += share
            best[form, number] = max(best.get((form, number), (-1.0, 0, 0)), (share, start, end))
        answers = []
        for form in sorted(scores, key=lambda form: -scores[form]):
            number = max(parts[form], key=parts[form].__getitem__)
            _, start, end = best[form, number]
            score = scores[form] * float(np.exp(highest))
            answers.append(Answered(self.texts[number][start:end], score, number, start, end))
        return answers or [Answered("", 0.0, 0, 0, 0)]

    def _places(self, shares: np.ndarray, found: Mapping[str, np.ndarray]) -> Iterator[tuple[float, int, int, int]]:
        """Share, paragraph, start and end of each span that shows something; `shares` [W, best]."""
        spans, first, last = (found[name].reshape(shares.shape) for name in ("spans", "starts", "ends"))
        begins = np.cumsum([0, *(self.positions[:, 2] - self.positions[:, 1] + 1)])[:-1]
        shift = begins - self.positions[:, 1]  # from a place in the sequence to one among all tokens
        for window, position in zip(*np.nonzero(np.isfinite(spans)), strict=True):
            number = int(self.paragraphs[window])
            start = int(self.starts[first[window, position] + shift[window]])
            end = int(self.ends[last[window, position] + shift[window]])
            said = self.texts[number][start:end]  # some tokenizers count blanks to the word behind them
            if text := said.strip():
                start += len(said) - len(said.lstrip())
                yield float(shares[window, position]), number, start, start + len(text)


def answer_scores(prediction: str, answers: Sequence[str], are_patterns: bool) -> dict[str, float]:
    """Exact match, and F1 where answers are texts."""
    found = {"exact_match": float(exact_match(prediction, answers, are_patterns))}
    return found if are_patterns else found | {"f1": f1_score(prediction, answers)}


def hit_scores(ranked: Sequence[tuple[int, float]], bearing: set[int]) -> dict[str, float]:
    """Whether one of the first 1, 3, 5 paragraphs bears an answer, and whether any does."""
    found = {f"hits_at_{k}": float(any(number in bearing for number, _ in ranked[:k])) for k in HITS}
    return found | {"answerable": float(bool(bearing))}
