"""Where the right word stands among the candidates, for each fact, model and setting.

Shapes: F = facts, B = batch, S = sequence, C = candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from kadapter.probing.facts import Fact, Facts
from kadapter.probing.models import Probed
from kadapter.probing.vocabulary import token_table

TOP = 10  # words that are kept of each answer


@dataclass(frozen=True)
class Ranked:
    """What a setting answered.

    ranks: [F] from 1. A candidate with the same score counts as ahead, so that a model that scores all alike finds
        nothing.
    top: [F, up to TOP] the likeliest words.
    probabilities: [F, up to TOP] of these, among all candidates.
    """

    ranks: np.ndarray
    top: list[list[str]]
    probabilities: np.ndarray


@dataclass(frozen=True)
class Query:
    """A sentence in tokens, and the place of its gap."""

    ids: list[int]
    gap: int


def encode(tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact]) -> list[Query]:
    """The facts' sentences with the tokenizer's mask token for the gap.

    Some tokenizers would make a token of the blank before the gap, which a word in its place has in itself: these get
    the sentence without that blank, as in LAMA's own code for RoBERTa.

    Raises:
        ValueError: a mask token stands before the gap, in the subject.
    """
    mask = str(tokenizer.mask_token)
    apart = len(tokenizer.tokenize(f"a {mask}")) > len(tokenizer.tokenize(f"a{mask}"))
    for fact in facts:
        if mask in fact.before:
            raise ValueError(f"the subject {fact.subject!r} holds the mask token {mask}; remove it from the data.")
    joined = [replace(fact, before=fact.before.rstrip()) for fact in facts] if apart else facts
    texts = [fact.sentence(mask) for fact in joined]
    found = tokenizer(texts, verbose=False)["input_ids"] if texts else []
    return [Query(ids, ids.index(tokenizer.mask_token_id)) for ids in found]


def fitting(models: Sequence[Probed], facts: Sequence[Fact], found: Facts) -> list[Fact]:
    """The facts whose sentences have room in every model; the others are counted."""
    kept = list(facts)
    for model in models:
        queries = encode(model.tokenizer, kept)
        limit = model.longest or max((len(query.ids) for query in queries), default=0)
        for fact, query in zip(kept, queries, strict=True):
            if len(query.ids) > limit:
                found.count(fact.collection, f"of more tokens than {model.name} takes")
        kept = [fact for fact, query in zip(kept, queries, strict=True) if len(query.ids) <= limit]
    return kept


def rank(
    model: Probed, facts: Sequence[Fact], words: Sequence[str], batch_size: int, device: torch.device
) -> dict[str, Ranked]:
    """Each setting's answers to the facts, in their order.

    Args:
        words: the candidates; those that this model's tokenizer takes for one token are one candidate.

    Raises:
        FloatingPointError: a score is not finite.
    """
    tokens, places = token_table(model.tokenizer, words)
    names = {position: word for word, position in reversed(places.items())}  # of those with one token the first
    count = min(TOP, len(tokens))
    ranks = {name: np.zeros(len(facts), dtype=np.int64) for name in model.settings}
    top = {name: np.zeros((len(facts), count), dtype=np.int64) for name in model.settings}
    shares = {name: np.zeros((len(facts), count), dtype=np.float32) for name in model.settings}
    for batch, found in scored(model, facts, tokens, batch_size, device):
        right = torch.tensor([places[facts[i].object] for i in batch], device=device)
        for name, logits in found.items():
            ranks[name][batch] = (logits >= logits.gather(1, right[:, None])).sum(1).cpu()
            best, which = logits.softmax(-1).topk(count)
            top[name][batch], shares[name][batch] = which.cpu(), best.cpu()
    return {
        name: Ranked(ranks[name], _predicted_words(facts, places, names, top[name]), shares[name])
        for name in model.settings
    }


def _predicted_words(
    facts: Sequence[Fact], places: Mapping[str, int], names: Mapping[int, str], top: np.ndarray
) -> list[list[str]]:
    """The words at those places among the candidates; of words with one token, the right one where it is among them."""
    return [
        [fact.object if position == places[fact.object] else names[position] for position in row]
        for fact, row in zip(facts, top.tolist(), strict=True)
    ]


@torch.inference_mode()
def scored(
    model: Probed, facts: Sequence[Fact], tokens: torch.Tensor, batch_size: int, device: torch.device
) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    """The numbers of a batch's facts, and for each setting the scores of `tokens` in their gaps, [B, C].

    Facts of like length share a batch, so that little is padded.

    Raises:
        FloatingPointError: a score is not finite.
    """
    queries = encode(model.tokenizer, facts)
    model.module.to(device)
    with tqdm(total=len(facts), desc=model.name, unit=" facts", disable=None) as bar:
        for batch in by_length(queries, batch_size):
            inputs = _padded([queries[i] for i in batch], model.tokenizer, device)
            found = {name: logits.float() for name, logits in model.answer(*inputs, tokens.to(device)).items()}
            for name, logits in found.items():
                if not torch.isfinite(logits).all():
                    raise FloatingPointError(
                        f"{model.label(name)} scores {facts[batch[0]].sentence('___')!r}, or one beside it, with "
                        "a number that is not finite; fetch or train the model again."
                    )
            yield batch, found
            bar.update(len(batch))
    model.module.cpu()


def by_length(queries: Sequence[Query], batch_size: int) -> Iterator[list[int]]:
    """Batches of the queries' numbers, those of like length together, the longest first."""
    order = sorted(range(len(queries)), key=lambda i: -len(queries[i].ids))
    for begin in range(0, len(order), batch_size):
        yield order[begin : begin + batch_size]


def _padded(
    queries: Sequence[Query], tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens and mask [B, S], gaps [B]."""
    longest = max(len(query.ids) for query in queries)
    ids = torch.full((len(queries), longest), tokenizer.pad_token_id or 0)
    mask = torch.zeros_like(ids)
    for row, query in enumerate(queries):
        ids[row, : len(query.ids)] = torch.tensor(query.ids)
        mask[row, : len(query.ids)] = 1
    return ids.to(device), mask.to(device), torch.tensor([query.gap for query in queries], device=device)
