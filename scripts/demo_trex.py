"""Raw T-REx of the demo world, as T-REx is released, at any size.

    python scripts/demo_trex.py --output_dir data/trex-raw --megabytes 200     # what docs/benchmarks.md measures on

Beyond the facts, as many documents as the size takes: each is about one entity and has sentences of the demo's
grammar between those that state facts. Some relations are stated often and many seldom, as in the original.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from demo_trees import Grammar
from demo_world import PAIR_TEMPLATES, Entity, Fact, Place, World, build_world, state_fact, stream, write_rows
from tqdm import tqdm

from kadapter.console import COUNT, SEED, Parser, absolute, run
from kadapter.data.jsonio import write_json_list
from kadapter.storage.files import atomic_files

ENTITY_URI, PROPERTY_URI = "http://www.wikidata.org/entity/", "http://www.wikidata.org/prop/direct/"
LINKER, ALIGNER = "Demo-Entity-Linker", "Demo-Triple-Aligner"
FACTS, OTHERS = 10, 20  # sentences of a large document
MEGABYTES_A_FILE = 64


def trex_document(rng: random.Random, entity: Entity, statements: Iterable[Fact | None]) -> dict[str, Any]:
    """A raw T-REx document about `entity`, all boundaries in characters of the text.

    A sentence for each statement: the fact, or some words without one.
    """
    text = ""
    sentences: list[list[int]] = []
    words: list[list[int]] = []
    mentions: list[dict[str, Any]] = []
    triples: list[dict[str, Any]] = []
    for fact in statements:
        if fact is None:
            tokens, spans = [word.form for word in Grammar(rng).sentence()], []
        else:
            tokens, *spans = state_fact(rng, fact, rng.choice(PAIR_TEMPLATES))
        bounds = []
        for token in tokens:
            text += (" " if text and token not in ".,;?" else "") + token
            bounds.append([len(text) - len(token), len(text)])
        if fact is not None:
            ends = [
                _mention(end, [bounds[first][0], bounds[last][1]])
                for (first, last), end in zip(spans, (fact.subject, fact.object), strict=True)
            ]
            triples.append(_triple(len(sentences), ends, fact.relation))
            mentions += sorted(ends, key=lambda end: end["boundaries"])
        sentences.append([bounds[0][0], len(text)])
        words += bounds
    uri = ENTITY_URI + entity.qid
    return {
        "docid": uri,
        "title": entity.name,
        "uri": uri,
        "text": text,
        "sentences_boundaries": sentences,
        "words_boundaries": words,
        "entities": mentions,
        "triples": triples,
    }


def _mention(entity: Entity, boundaries: list[int]) -> dict[str, Any]:
    return {
        "uri": ENTITY_URI + entity.qid,
        "boundaries": boundaries,
        "surfaceform": entity.name,
        "annotator": LINKER,
    }


def _triple(sentence: int, ends: Sequence[dict[str, Any]], relation: str) -> dict[str, Any]:
    predicate = {"uri": PROPERTY_URI + relation, "boundaries": None, "surfaceform": None, "annotator": ALIGNER}
    return {
        "sentence_id": sentence,
        "subject": ends[0],
        "object": ends[1],
        "predicate": predicate,
        "confidence": None,
        "dependency_path": None,
        "annotator": ALIGNER,
    }


def facts_by_subject(world: World) -> dict[Entity, list[Fact]]:
    found: dict[Entity, list[Fact]] = defaultdict(list)
    for fact in world.facts:
        found[fact.subject].append(fact)
    return found


def write_trex_raw(world: World, place: Place, files: int = 2) -> None:
    """``trex-raw``: every fact once, a document for each subject."""
    rng = stream(world.seed, "trex-raw")
    documents = [trex_document(rng, entity, facts) for entity, facts in facts_by_subject(world).items()]
    for i in range(files):
        write_rows(place(f"trex-raw/demo-{i}.json"), documents[i::files])


def write_large(world: World, folder: Path, megabytes: int) -> None:
    """Files of MEGABYTES_A_FILE, the last one smaller, each written as a stream; all appear together.

    Raises:
        ValueError: the folder holds more such files, of an earlier call, which would be read with these.
    """
    starts = range(0, megabytes, MEGABYTES_A_FILE)
    targets = [folder / f"trex-{number:04d}.json" for number in range(len(starts))]
    if others := sorted(set(folder.glob("trex-*.json")) - set(targets)):
        raise ValueError(f"{others[0]} is of an earlier, larger call; remove it, or give another --output_dir.")
    rng = stream(world.seed, "trex-large")
    facts = facts_by_subject(world)
    subjects = list(facts)
    often = {relation: rank**-2.0 for rank, relation in enumerate(world.relations, start=1)}
    with tqdm(total=megabytes, unit="MB", desc="write", disable=None) as bar, atomic_files() as temporary:

        def documents(size: int) -> Iterator[dict[str, Any]]:
            written = 0
            while written < size:
                entity = rng.choice(subjects)
                stated = rng.choices(facts[entity], [often[fact.relation] for fact in facts[entity]], k=FACTS)
                statements = [*stated, *[None] * OTHERS]
                rng.shuffle(statements)
                document = trex_document(rng, entity, statements)
                written += len(json.dumps(document))
                yield document

        for target, first in zip(targets, starts, strict=True):
            size = min(megabytes - first, MEGABYTES_A_FILE)
            write_json_list(temporary(target), documents(size * 10**6))
            bar.update(size)


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder to write")
    parser.add_argument("--megabytes", type=COUNT, default=200, help="megabytes to write")
    parser.add_argument("--seed", type=SEED, default=42, help="seed of what is made up")
    args = parser.parse_args(argv)
    write_large(build_world(args.seed, per_type=150, per_relation=2000), args.output_dir, args.megabytes)


if __name__ == "__main__":
    run(main)
