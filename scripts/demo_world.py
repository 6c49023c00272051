"""The demo's invented world: entities of six types, and facts about pairs of them (see make_demo_data.py)."""

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

# Labels of OpenEntity, so that its label list and its recipe serve the demo as they are.
TYPES = ("person", "organization", "location", "event", "object", "group")
Place = Callable[[str], Path]  # where a file of that name below the output folder is to be written
Span = tuple[int, int]  # positions of a name's first and last word


def bars(text: str) -> list[str]:
    """The parts of a text between its bars, line breaks taken as spaces."""
    return [" ".join(part.split()) for part in text.split("|")]


# All patterns fit every type, and they are as short as entries of an index: a backbone of a million parameters
# gives the words around a marker far more room than the name behind it, and the demo has minutes, not days.
# {} and {} are two mentions; a coin decides which of them is the subject.
PAIR_TEMPLATES = bars("{} and {} . | {} , {} . | {} with {} .")


@dataclass(frozen=True)
class Entity:
    """An invented thing. ``split`` is the part of entity typing that shows it, and no other part does."""

    name: str
    qid: str
    type: str
    split: str


@dataclass(frozen=True)
class Fact:
    """``relation`` holds between the two entities; ``split`` is the part of trex-rc that states it."""

    subject: Entity
    object: Entity
    relation: str
    split: str


@dataclass(frozen=True)
class World:
    """The entities, the types of each relation's subject and object, and the facts that the files state."""

    seed: int
    entities: list[Entity]
    relations: dict[str, tuple[str, str]]
    facts: list[Fact]


def stream(seed: int, part: str) -> random.Random:
    """The random numbers of one part; a text is hashed by its bytes, so every machine draws the same."""
    return random.Random(f"{seed}/{part}")


def draw_word(rng: random.Random) -> str:
    """Two or three syllables; all types have the same ones, so that the letters tell nothing."""
    syllables = [rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.choice((2, 3)))]
    return ("".join(syllables) + rng.choice(("", "", "l", "n", "r", "x"))).capitalize()


def draw_names(rng: random.Random, count: int) -> list[str]:
    """Names of one or two words, no word a part of another: a search finds a name only where it stands."""
    names: list[str] = []
    used: list[str] = []
    while len(names) < count:
        words: list[str] = []
        for _ in range(rng.choice((1, 1, 2))):
            word = draw_word(rng)
            while any(word.lower() in other or other in word.lower() for other in used):
                word = draw_word(rng)
            words.append(word)
            used.append(word.lower())
        names.append(" ".join(words))
    return names


def build_world(seed: int, per_type: int, per_relation: int) -> World:
    """``per_type`` entities of each type: half to train entity typing, a sixth for dev, the rest for test.

    ``per_relation`` different pairs of entities state each relation in train, a tenth as many more in dev.
    """
    if not 4 <= per_type <= 150:
        raise ValueError(f"--entities_per_type {per_type}: every split of typing needs some, give 4 to 150")
    train, dev = per_type // 2, round(per_type / 6)
    splits = ["train"] * train + ["dev"] * dev + ["test"] * (per_type - train - dev)
    rng = stream(seed, "entities")
    kinds = list(product(TYPES, splits))
    rng.shuffle(kinds)
    names = draw_names(rng, len(kinds))
    entities = [Entity(name, f"Q{900001 + i}", *kinds[i]) for i, name in enumerate(names)]

    rng = stream(seed, "facts")
    relations = {f"P{9001 + i}": pair for i, pair in enumerate(product(TYPES, TYPES))}
    facts = []
    for relation, kinds_of_pair in relations.items():
        subjects, objects = ([entity for entity in entities if entity.type == kind] for kind in kinds_of_pair)
        pairs = [(subject, object_) for subject in subjects for object_ in objects if subject != object_]
        total = per_relation + max(1, per_relation // 10)
        if total > len(pairs):
            raise ValueError(f"--facts_per_relation {per_relation}: only {len(pairs)} pairs exist, give less")
        for i, pair in enumerate(rng.sample(pairs, total)):
            facts.append(Fact(*pair, relation, "train" if i < per_relation else "dev"))
    return World(seed, entities, relations, facts)


def state_fact(rng: random.Random, fact: Fact, template: str) -> tuple[list[str], Span, Span]:
    """A sentence for a fact, subject or object first: its words, the subject's span and the object's span."""
    tokens: list[str] = []
    spans: list[Span] = []
    order = rng.sample((fact.subject, fact.object), 2)
    mentions = iter(order)
    for word in template.split():
        if word == "{}":
            words = next(mentions).name.split()
            spans.append((len(tokens), len(tokens) + len(words) - 1))
            tokens += words
        else:
            tokens.append(word)
    subject = order.index(fact.subject)
    return tokens, spans[subject], spans[1 - subject]


def write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def write_rows(path: Path, rows: Iterable[dict]) -> None:
    """A JSON list with one row a line, which a person can read and ``head`` can cut."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(", ", ": ")) for row in rows)
    write_text(path, f"[\n{lines}\n]\n")
