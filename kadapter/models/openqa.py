"""Open-domain question answering: a selector over a question's paragraphs and a reader of each (Lin et al., ACL 2018,
https://aclanthology.org/P18-1161, on whose framework the paper's SearchQA and Quasar-T stand).

All probabilities are logarithms, of float32 or wider. A window of a long paragraph counts as a paragraph of its own.

Shapes: B = questions, R = paragraphs of all questions, S = tokens of a sequence, N = places where answers stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from kadapter.shapes import IGNORE

MODES = ("reader", "selector", "all")
MARGINALS = ("sum", "max")
KL_WEIGHT = 0.5  # of the selector's own loss, where both are trained
BEST_SPANS = 10  # of each paragraph


@dataclass(frozen=True)
class Reading:
    """How a head is trained and read; it belongs to a run and is not saved with the weights.

    mode: "reader" trains the reader alone, on paragraphs that bear an answer; "selector" the selector alone; "all"
        both.
    marginal: how the places of answers in a paragraph are combined, "sum" or "max".
    confidence: whether P(p | q) weighs paragraphs; else all weigh the same. The reader alone has none.
    max_answer_tokens: of a span that is answered.
    """

    mode: str = "all"
    marginal: str = "sum"
    confidence: bool = True
    max_answer_tokens: int = 15

    @property
    def selects(self) -> bool:
        """Whether the selector is trained and counts."""
        return self.mode == "selector" or (self.mode == "all" and self.confidence)

    @property
    def reads(self) -> bool:
        return self.mode != "selector"


class Places(NamedTuple):
    """Where answers stand.

    paragraph: [N] number of the paragraph among all R. start, end: [N] tokens of its sequence, both inclusive.
    """

    paragraph: torch.Tensor
    start: torch.Tensor
    end: torch.Tensor


class Bearing(NamedTuple):
    """The M paragraphs in which an answer stands.

    paragraph: [M] among all R, rising. question: [M] among those K questions that have such a paragraph, rising.
    questions: K. of_place: [N] for each place the number of its paragraph among these M.
    """

    paragraph: torch.Tensor
    question: torch.Tensor
    questions: int
    of_place: torch.Tensor


# -- probabilities ----------------------------------------------------------------------------------------------


def grouped(scores: torch.Tensor, group_sizes: torch.Tensor) -> torch.Tensor:
    """Scores [R] of all paragraphs as a table [B, most paragraphs], -inf where a question has fewer.

    Args:
        group_sizes: [B] paragraphs of each question, at least one.
    """
    most = int(group_sizes.max())
    present = torch.arange(most, device=scores.device) < group_sizes[:, None]
    return scores.new_full(present.shape, -torch.inf).masked_scatter(present, scores)


def paragraph_mask(spans: torch.Tensor, size: int) -> torch.Tensor:
    """[R, 2] first and last tokens of paragraphs -> [R, size], which tokens of the sequence are the paragraph's."""
    tokens = torch.arange(size, device=spans.device)
    return (tokens >= spans[:, :1]) & (tokens <= spans[:, 1:])


def selector_log_probs(scores: torch.Tensor) -> torch.Tensor:
    """log P(p | q), a softmax over the paragraphs of each question: [B, most paragraphs] as `grouped` gives them."""
    return _wide(scores).log_softmax(1)


def reader_log_probs(logits: torch.Tensor) -> torch.Tensor:
    """log P_start and log P_end, softmaxes over the tokens of each paragraph.

    Args:
        logits: [R, S, 2], -inf outside of the paragraph.
    """
    return _wide(logits).log_softmax(1)


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values if values.dtype == torch.float64 else values.float()


def answer_log_probs(log_probs: torch.Tensor, places: Places, bearing: Bearing, marginal: str) -> torch.Tensor:
    """log P(a | q, p) of the paragraphs that bear an answer: P_start · P_end, summed over its places or the largest.

    Args:
        log_probs: [R, S, 2] as `reader_log_probs` gives them.

    Returns:
        [M]; in all other paragraphs the probability is 0.
    """
    found = log_probs[places.paragraph, places.start, 0] + log_probs[places.paragraph, places.end, 1]
    combine = log_sum_exp if marginal == "sum" else group_max
    return combine(found, bearing.of_place, len(bearing.paragraph))


def divergence(log_selected: torch.Tensor, bearing: Bearing) -> torch.Tensor:
    """KL(uniform over the paragraphs that bear an answer || P(p | q)) of each question that has some, [K].

    Args:
        log_selected: [R] log P(p | q).
    """
    sizes = torch.bincount(bearing.question, minlength=bearing.questions)
    return -mean_of(log_selected[bearing.paragraph], bearing) - sizes.to(log_selected.dtype).log()


def question_losses(logits: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, reading: Reading) -> torch.Tensor:
    """The loss of each question in whose paragraphs an answer stands, [K].

    - reader: the mean of −log P(a | q, p) over the paragraphs that bear an answer.
    - selector: KL(uniform over these || P(p | q)).
    - all: −log Σ P(p | q) P(a | q, p) + 0.5 KL; without confidence P(p | q) is 1 / n, and there is no KL.

    Args:
        logits: [R, S, 2] of start and end, -inf outside of each paragraph.
        scores: [B, most paragraphs] of the selector, as `grouped` gives them.
        labels: as `places_of` takes them.
    """
    present = ~scores.isneginf()
    sizes = present.sum(1)
    places = places_of(labels, sizes)
    bearing = bearing_paragraphs(places, sizes)
    log_selected = selector_log_probs(scores)[present]  # [R]
    if reading.mode == "selector":
        return divergence(log_selected, bearing)
    log_answers = answer_log_probs(reader_log_probs(logits), places, bearing, reading.marginal)
    if reading.mode == "reader":
        return -mean_of(log_answers, bearing)
    if not reading.confidence:
        log_selected = -sizes.to(log_answers.dtype).log()[questions_of(sizes)]
    joint = log_sum_exp(log_selected[bearing.paragraph] + log_answers, bearing.question, bearing.questions)
    return -joint + (KL_WEIGHT * divergence(log_selected, bearing) if reading.confidence else 0)


def best_spans(log_probs: torch.Tensor, count: int, max_tokens: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The likeliest spans of each paragraph that are not longer than `max_tokens`.

    Args:
        log_probs: [R, S, 2] as `reader_log_probs` gives them.

    Returns:
        log P(span | q, p), first token, last token, each [R, count], the likeliest first; where a paragraph has fewer
        spans, the logarithm is -inf.
    """
    rows, size = log_probs.shape[:2]
    longest = min(max_tokens, size)
    ends = torch.nn.functional.pad(log_probs[..., 1], (0, longest - 1), value=-torch.inf)
    spans = (log_probs[..., 0, None] + ends.unfold(1, longest, 1)).flatten(1)  # [R, S * longest]
    if spans.shape[1] < count:
        spans = torch.nn.functional.pad(spans, (0, count - spans.shape[1]), value=-torch.inf)
    found, index = spans.topk(count, dim=1)
    start = index // longest
    return found, start, torch.where(found.isinf(), start, start + index % longest)


# -- groups -----------------------------------------------------------------------------------------------------


def questions_of(group_sizes: torch.Tensor) -> torch.Tensor:
    """[B] sizes -> [R], the number of each paragraph's question."""
    return torch.repeat_interleave(torch.arange(len(group_sizes), device=group_sizes.device), group_sizes)


def places_of(labels: torch.Tensor, group_sizes: torch.Tensor) -> Places:
    """The places that `labels` [B, 3n] tell: paragraph within the question, start, end, and so on; IGNORE fills up."""
    found = labels.view(len(labels), -1, 3)
    question, number = (found[..., 0] != IGNORE).nonzero(as_tuple=True)
    begins = group_sizes.cumsum(0) - group_sizes
    paragraph, start, end = found[question, number].unbind(-1)
    return Places(begins[question] + paragraph, start, end)


def bearing_paragraphs(places: Places, group_sizes: torch.Tensor) -> Bearing:
    """The paragraphs with an answer, and their questions."""
    paragraph, of_place = torch.unique(places.paragraph, return_inverse=True)
    questions, question = torch.unique(questions_of(group_sizes)[paragraph], return_inverse=True)
    return Bearing(paragraph, question, len(questions), of_place)


def log_sum_exp(values: torch.Tensor, group: torch.Tensor, count: int) -> torch.Tensor:
    """log Σ exp of `values` [N] within each of `count` groups, none of them empty; [count]."""
    most = group_max(values.detach(), group, count)
    shifted = (values - most[group]).exp()
    return most + torch.zeros_like(most).index_add(0, group, shifted).log()


def group_max(values: torch.Tensor, group: torch.Tensor, count: int) -> torch.Tensor:
    """The largest of `values` [N] within each of `count` groups, [count]; equal ones share its gradient."""
    empty = values.new_full((count,), -torch.inf)
    return empty.scatter_reduce(0, group, values, "amax", include_self=False)


def mean_of(values: torch.Tensor, bearing: Bearing) -> torch.Tensor:
    """The mean of `values` [M] within each question, [K]."""
    sizes = torch.bincount(bearing.question, minlength=bearing.questions).to(values.dtype)
    return values.new_zeros(bearing.questions).index_add(0, bearing.question, values) / sizes
