"""Write what a user with knowledge of her own has, of the demo's invented world: a graph, text and a task.

    python scripts/make_own_knowledge_example.py --output_dir output/own_knowledge/mine

triples.tsv holds facts about pairs of entities, aliases.tsv their names, corpus/ text that names both ends of facts,
templates.json a sentence for each relation, for scripts/verbalize_triples.py and scripts/probe_lama.py.
task/ holds marked names and their types: test has names and sentences that train never shows, and no sentence gives a
clue, so that a model can only know the types from the graph. run_own_knowledge_example.sh does the rest.
"""

import json

from demo_world import PAIR_TEMPLATES, TYPES, World, build_world, state_fact, stream, write_text
from make_demo_data import write_openentity

from kadapter.console import COUNT, SEED, Parser, absolute, run
from kadapter.storage.files import atomic_files


def graph_lines(world: World) -> list[str]:
    return [f"{fact.subject.qid}\t{fact.relation}\t{fact.object.qid}" for fact in world.facts]


def alias_lines(world: World) -> list[str]:
    """Names of entities, and of relations by the types that they connect."""
    relations = [f"{relation}\t{' to '.join(kinds)}" for relation, kinds in world.relations.items()]
    return [f"{entity.qid}\t{entity.name}" for entity in world.entities] + relations


def templates(world: World) -> dict[str, str]:
    """Relation -> a sentence that names it by the types that it connects."""
    return {name: f"{{subject}} , {' to '.join(kinds)} , {{object}} ." for name, kinds in world.relations.items()}


def corpus_lines(world: World) -> list[str]:
    """One sentence a line, each fact in every pattern."""
    rng = stream(world.seed, "corpus")
    lines = [" ".join(state_fact(rng, fact, pattern)[0]) for fact in world.facts for pattern in PAIR_TEMPLATES]
    rng.shuffle(lines)
    return lines


def main(argv: list[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder to write")
    parser.add_argument("--seed", type=SEED, default=42, help="seed of the made-up world")
    parser.add_argument("--facts_per_relation", type=COUNT, default=140, help="facts of each relation")
    args = parser.parse_args(argv)
    world = build_world(args.seed, 20, args.facts_per_relation)
    with atomic_files("the example") as temporary:
        for name, lines in (
            ("triples.tsv", graph_lines(world)),
            ("aliases.tsv", alias_lines(world)),
            ("corpus/text.txt", corpus_lines(world)),
        ):
            write_text(temporary(args.output_dir / name), "\n".join(lines) + "\n")
        write_text(temporary(args.output_dir / "templates.json"), json.dumps(templates(world), indent=1) + "\n")
        write_openentity(
            world,
            lambda name: temporary(args.output_dir / name.replace("OpenEntity", "task")),
            {"train": 5, "dev": 3, "test": 3},
        )
        write_text(temporary(args.output_dir / "task" / "labels.json"), json.dumps(list(TYPES)) + "\n")
    print(f"{args.output_dir}: {len(world.facts)} triples about {len(world.entities)} entities, text and a task.")


if __name__ == "__main__":
    run(main)
