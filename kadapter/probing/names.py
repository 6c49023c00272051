"""LAMA-UHN: the facts that a name alone does not give away (Poerner et al. 2020, https://arxiv.org/abs/1911.03681).

Left out are facts whose object stands in the subject's name ("Apple Watch" is made by Apple), and, in relations of
people to places and languages, those whose object a model guesses from one word of the name ("Jean" is a common name in
France). The first filter is about strings, the second needs a masked language model: bert-base-cased, in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kadapter.probing.facts import GOOGLE_RE, T_REX, Fact
from kadapter.probing.models import Probed
from kadapter.probing.ranking import scored
from kadapter.probing.vocabulary import single_tokens

COLLECTIONS = (GOOGLE_RE, T_REX)
KINDS = {"place_of_birth": "city", "place_of_death": "city", "P19": "city", "P20": "city", "P27": "country"}
KINDS |= {"P103": "language", "P1412": "language"}
GUESSES = 3  # an object among so many best guesses is left out


def object_in_subject(fact: Fact) -> bool:
    """The first filter; case does not count."""
    return fact.object.lower() in fact.subject.lower()


def guessed_from_names(model: Probed, facts: Sequence[Fact], batch_size: int, device: torch.device) -> list[bool]:
    """The second filter: for each fact, whether `model` guesses the object from a word of the subject.

    The sentence is "Jean is a common name in the following country : [MASK] ." The model chooses among all its tokens.

    Args:
        model: with one setting.
    """
    asked = {
        (word, KINDS[fact.relation]): None
        for fact in facts
        if fact.collection in COLLECTIONS and fact.relation in KINDS
        for word in fact.subject.split()
    }
    names = [
        Fact("", kind, word, "", f"{word} is a common name in the following {kind} : ", " .") for word, kind in asked
    ]
    tokens = torch.arange(len(model.tokenizer))
    guesses: dict[tuple[str, str], set[int]] = {}
    for batch, found in scored(model, names, tokens, batch_size, device):
        (logits,) = found.values()
        for i, best in zip(batch, logits.topk(GUESSES).indices.tolist(), strict=True):
            guesses[names[i].subject, names[i].relation] = set(best)
    right = single_tokens(model.tokenizer, list({fact.object: None for fact in facts}))
    return [
        any(
            right.get(fact.object) in guesses.get((word, KINDS.get(fact.relation, "")), ())
            for word in fact.subject.split()
        )
        for fact in facts
    ]
