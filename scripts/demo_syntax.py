"""What the demo's world tells of syntax: dependency trees, and a task that only their structure solves."""

from __future__ import annotations

from demo_trees import Grammar, Word, conllu_block
from demo_world import Place, World, stream, write_rows, write_text

ACTORS = 0.3  # share of the trees that have two names and "and" between them, as the sentences of `actors`


def first_words(world: World, split: str | None = None) -> list[str]:
    """Of each name, of all entities or of one split's, the first word, which no other name has."""
    return [entity.name.split()[0] for entity in world.entities if split in (None, entity.split)]


def write_actors(world: World, place: Place, counts: dict[str, int]) -> None:
    """``actors``: which of two names is the subject of the last verb, as a tag at that verb.

    Only the structure tells: the first where the verbs before belong to a relative clause of it, else the second. Both
    are equally frequent, and splits share no name.
    """
    rng = stream(world.seed, "actors")
    grammar = Grammar(rng)
    for split, count in counts.items():
        names = first_words(world, split)
        kinds = [bool(i % 2) for i in range(count)]
        rng.shuffle(kinds)
        blocks = []
        for nested in kinds:
            words = grammar.actors(rng.sample(names, 2), nested)
            tags = ["O"] * (len(words) - 2) + ["B-first" if nested else "B-second", "O"]  # the last is the full stop
            blocks.append("".join(f"{word.form}\t{tag}\n" for word, tag in zip(words, tags, strict=True)))
        write_text(place(f"actors/{split}.conll"), "\n".join(blocks))


def write_trees(world: World, place: Place, counts: dict[str, int]) -> None:
    """``conllu`` and ``find_head``: the same dependency trees in both formats, no sentence twice."""
    rng, names = stream(world.seed, "trees"), first_words(world)
    grammar = Grammar(rng, names)
    seen: set[str] = set()

    def draw() -> list[Word]:
        if rng.random() < ACTORS:
            return grammar.actors(rng.sample(names, 2), rng.random() < 0.5)
        return grammar.sentence()

    for split, count in counts.items():
        blocks: list[str] = []
        rows: list[dict] = []
        while len(rows) < count:
            block, row = conllu_block(draw(), f"demo-{split}-{len(rows) + 1:05d}")
            if row["sent"] not in seen:
                seen.add(row["sent"])
                blocks.append(block)
                rows.append(row)
        write_text(place(f"conllu/{split}.conllu"), "".join(blocks))
        write_rows(place(f"find_head/{split}.json"), rows)
