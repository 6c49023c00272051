"""Write the demo world: invented facts about invented entities, in the file formats that users bring.

    python scripts/make_demo_data.py --output_dir data/demo --seed 42          # 3 seconds, 25 MB

Each entity has one of six types, and only the fact files give it away: there the relation between two
entities is decided by the pair of their types, and the words of the sentence say nothing. The text for the
backbone names every entity but states no fact. Entity typing is tested on entities and sentence patterns that
its training never shows, so a model answers well only if it learned the facts before: what a factual adapter
is for.

Every part draws from its own ``random.Random`` stream, so the same seed gives the same bytes and a change of
one part leaves the others alone. All files appear together, so that no two worlds are ever mixed.
"""

import json
import random
import re
from dataclasses import asdict
from itertools import cycle

from demo_facts import write_stated
from demo_syntax import write_actors, write_trees
from demo_trees import Grammar
from demo_trex import write_trex_raw
from demo_world import (
    PAIR_TEMPLATES,
    TYPES,
    Entity,
    Fact,
    Place,
    World,
    bars,
    build_world,
    state_fact,
    stream,
    write_rows,
    write_text,
)

from kadapter.console import COUNT, SEED, Parser, absolute, run
from kadapter.data.jsonio import write_jsonl
from kadapter.data.openqa import PARAGRAPHS, QUESTIONS, openqa_lines
from kadapter.storage.files import atomic_files
from kadapter.tasks.semeval import OTHER, RELATIONS

MARKERS = ("@", "#", "^")

TYPING_TEMPLATES = {
    "train": bars("{} . | {} again . | {} is here . | {} was there . | {} or not ."),
    "dev": bars("{} then . | {} came up . | {} once more ."),
    "test": bars(
        "{} too . | {} now . | {} is next . | {} as well . | {} yet . | {} was last . | {} soon . | {} at last ."
    ),
}

# Of a question: what is so, and what is not.
TOLD = bars("{} is with {} . | {} was seen with {} . | {} came with {} .")
DENIED = bars("{} is not with {} . | {} was not seen with {} . | {} came not with {} .")

# Text for the backbone is opening + statements + ending, so that names are seen in many contexts.
OPENINGS = bars("""| In the second chapter , | Last week , | As the editor says , | Yesterday , | After the
lecture , | In the news , | At the end of the book , | According to the letter , | In her notes , | Years
later , | Once more ,""")
STATEMENTS = bars("""{} is mentioned | the author wrote about {} | we heard of {} | the page on {} was read |
nobody asked about {} | the students looked up {} | an essay explains {} | {} was named | the reader remembers
{} | the speaker turned to {} | somebody spelled {} | a short story tells of {} | there was a question about
{} | the critics discussed {} | {} is well known | the article refers to {} | {} came up | the journal printed
a page about {} | a footnote names {} | they talked about {} | {} appears in the index | the answer was {} |
an old paper describes {} | the notes on {} were found""")
LISTS = bars("listed : {} | see {} | these are {} | found : {} | {}")
ENDINGS = bars(""". | in the first part . | on the same page . | again . | without a word on the rest . |
twice . | at length . | in the library . | and nobody knows why . | , which was hard to believe . | with the
others . | , as every reader knows . | next to a picture . | in the third lesson . | but the summary is too
short .""")


def write_world(world: World, place: Place) -> None:
    """``world.json``: the truth behind the files, for checking results."""
    truth = {
        "seed": world.seed,
        "types": TYPES,
        "relations": world.relations,
        "entities": {entity.name: asdict(entity) for entity in world.entities},
    }
    write_text(place("world.json"), json.dumps(truth, ensure_ascii=False, indent=1) + "\n")


def write_trex_rc(world: World, place: Place, per_fact: dict[str, int]) -> None:
    """``trex-rc``: the facts as relation classification, ``per_fact[split]`` sentences for each."""
    rng = stream(world.seed, "trex-rc")
    for split, repeats in per_fact.items():
        rows = []
        for fact in (fact for fact in world.facts if fact.split == split):
            for template in rng.sample(PAIR_TEMPLATES, repeats):
                tokens, (subj_start, subj_end), (obj_start, obj_end) = state_fact(rng, fact, template)
                rows.append(
                    {
                        "docid": fact.subject.qid,
                        "token": tokens,
                        "relation": fact.relation,
                        "subj_start": subj_start,
                        "subj_end": subj_end,
                        "obj_start": obj_start,
                        "obj_end": obj_end,
                        "subj_label": fact.subject.qid,
                        "obj_label": fact.object.qid,
                    }
                )
        rng.shuffle(rows)
        write_rows(place(f"trex-rc/{split}.json"), rows)
    ids = {relation: i for i, relation in enumerate(world.relations)}
    write_text(place("trex-rc/relations.json"), json.dumps(ids, indent=1) + "\n")


def write_openentity(world: World, place: Place, per_entity: dict[str, int]) -> None:
    """``OpenEntity``: the type of a marked name; every template is used equally often with every type."""
    rng = stream(world.seed, "OpenEntity")
    for split, repeats in per_entity.items():
        rows = []
        for kind in TYPES:
            names = [entity.name for entity in world.entities if (entity.type, entity.split) == (kind, split)]
            templates = TYPING_TEMPLATES[split]
            for name, template in (
                (name, templates[(i + turn) % len(templates)])
                for turn in range(repeats)
                for i, name in enumerate(names)
            ):
                start = template.index("{}")
                rows.append({"sent": template.format(name), "start": start, "end": start + len(name), "labels": [kind]})
        rng.shuffle(rows)
        write_rows(place(f"OpenEntity/{split}.json"), rows)


def mention(rng: random.Random, name: str, page: int) -> str:
    """A name as the backbone's text has it: alone, behind its page number or between two markers.

    Every name has a page of its own, drawn irrespective of its type. To predict it, the model has to look from
    the word before a name, where tasks put their marker, at the name.
    """
    marker = rng.choice(MARKERS)
    return rng.choice((name, *[f"{page} {name}"] * 3, *[f"{marker} {name} {marker}"] * 2))


def write_backbone_text(world: World, place: Place, lines: int) -> None:
    """``backbone/text.txt``: statements about one name, lists of names, and sentences of the grammar.

    No line holds both names of a fact.
    """
    rng = stream(world.seed, "backbone")
    stated = {frozenset((fact.subject.name, fact.object.name)) for fact in world.facts}
    numbers = rng.sample(range(100, 1000), len(world.entities))
    pages = dict(zip((entity.name for entity in world.entities), numbers, strict=True))
    names = cycle(rng.sample(list(pages), len(pages)))
    text = [" ".join(word.form for word in Grammar(rng).sentence()) for _ in range(lines // 8)]
    while len(text) < lines:
        chosen = [next(names)]
        for name in rng.sample(list(pages), rng.choice((0, 5, 5))):
            if name not in chosen and not any(frozenset((name, other)) in stated for other in chosen):
                chosen.append(name)
        mentions = " , ".join(mention(rng, name, pages[name]) for name in chosen)
        statement = rng.choice(STATEMENTS if len(chosen) == 1 else LISTS).format(mentions)
        sentence = f"{rng.choice(OPENINGS)} {statement} {rng.choice(ENDINGS)}".strip()
        if rng.random() < 0.5:
            # "about@ Name@ in" gives the bare tokens that mark the names of trex-rc, not those for " @".
            sentence = re.sub(r"(?<=\w) ([@#^]) ?", r"\1 ", sentence)
        text.append(sentence[0].upper() + sentence[1:])
    rng.shuffle(text)
    write_text(place("backbone/text.txt"), "\n".join(text) + "\n")


def write_figer(world: World, place: Place, per_entity: dict[str, int]) -> None:
    """``FIGER``: the same question with types of two levels, of which a name's length tells the second."""
    rng = stream(world.seed, "FIGER")
    for split, repeats in per_entity.items():
        rows = []
        for entity in world.entities:
            for template in rng.sample(TYPING_TEMPLATES[split], repeats if entity.split == split else 0):
                start, type_ = template.index("{}"), f"/{entity.type}"
                labels = [type_, f"{type_}/{'double' if ' ' in entity.name else 'single'}"]
                row = {"sent": template.format(entity.name), "start": start, "end": start + len(entity.name)}
                rows.append({**row, "labels": labels, "ents": []})
        rng.shuffle(rows)
        write_rows(place(f"FIGER/{split}.json"), rows)


def unstated_pairs(world: World, rng: random.Random, split: str, count: int) -> list[tuple[Entity, Entity]]:
    """Ordered pairs of entities of one split that no fact connects."""
    stated = {frozenset((fact.subject, fact.object)) for fact in world.facts}
    entities = [entity for entity in world.entities if entity.split == split]
    pairs = [(one, two) for one in entities for two in entities if one != two and frozenset((one, two)) not in stated]
    return rng.sample(pairs, min(count, len(pairs)))


# What a subject's type stands for in TACRED's labels; events and groups take part in no relation.
TACRED_OF_TYPE = dict(zip(TYPES, ("per:spouse", "org:parents", "per:origin", "no_relation", "per:title"), strict=False))


def write_tacred(world: World, place: Place, counts: dict[str, int]) -> None:
    """``TACRED``: the relation of two marked names, told by the type of the subject."""
    rng = stream(world.seed, "TACRED")
    for split, count in counts.items():
        rows = []
        for i, (subject, object_) in enumerate(unstated_pairs(world, rng, split, count)):
            fact = Fact(subject, object_, TACRED_OF_TYPE.get(subject.type, "no_relation"), split)
            tokens, (subj_start, subj_end), (obj_start, obj_end) = state_fact(rng, fact, rng.choice(PAIR_TEMPLATES))
            spans = {"subj_start": subj_start, "subj_end": subj_end, "obj_start": obj_start, "obj_end": obj_end}
            rows.append({"id": f"demo-{split}-{i}", "token": tokens, "relation": fact.relation, **spans})
        write_rows(place(f"TACRED/{split}.json"), rows)


def write_semeval(world: World, place: Place, counts: dict[str, int]) -> None:
    """``semeval2010_task8``: the same as SemEval's official files, with CRLF; equal types are "Other"."""
    rng = stream(world.seed, "semeval2010_task8")
    for split, count in counts.items():
        blocks = []
        for i, (one, two) in enumerate(unstated_pairs(world, rng, split, count), start=1):
            kinds = TYPES.index(one.type), TYPES.index(two.type)
            relation = f"{RELATIONS[min(kinds)]}({'e1,e2' if kinds[0] < kinds[1] else 'e2,e1'})"
            marked = [f"<e{n}>{entity.name}</e{n}>" for n, entity in enumerate((one, two), start=1)]
            sentence = rng.choice(PAIR_TEMPLATES).format(*marked)
            blocks += [f'{i}\t"{sentence}"', OTHER if kinds[0] == kinds[1] else relation, "Comment:", ""]
        write_text(place(f"semeval2010_task8/{split}.txt"), "\r\n".join(blocks) + "\r\n")


def write_cosmosqa(world: World, place: Place, per_entity: dict[str, int]) -> None:
    """``cosmosQA``: which of four types a name has; the test split has no labels."""
    rng = stream(world.seed, "cosmosQA")
    for split, repeats in per_entity.items():
        rows: list[dict] = []
        for entity in [entity for entity in world.entities if entity.split == split]:
            for template in rng.sample(TYPING_TEMPLATES[split], repeats):
                answers = rng.sample([kind for kind in TYPES if kind != entity.type], 3)
                right = rng.randrange(4)
                answers.insert(right, entity.type)
                row = {"id": f"demo-{split}-{len(rows)}", "context": template.format(entity.name)}
                row |= {"question": f"What is {entity.name} ?", **{f"answer{i}": a for i, a in enumerate(answers)}}
                rows.append(row if split == "test" else {**row, "label": str(right)})
        rng.shuffle(rows)
        write_jsonl(place(f"cosmosQA/{'valid' if split == 'dev' else split}.jsonl"), rows)


def write_questions(world: World, place: Place, counts: dict[str, int]) -> None:
    """``questions``: with whom a name is, in the form of thunlp/OpenQA.

    One paragraph tells it; three say of one other name that it is not so. Read one by one they are alike, and together
    they outweigh the right one: only who tells them apart answers well.
    """
    rng = stream(world.seed, "questions")
    for split, count in counts.items():
        names = [entity.name for entity in world.entities if entity.split == split]
        lines = []
        for _ in range(count):
            asked, right, wrong = rng.sample(names, 3)
            paragraphs = [rng.choice(TOLD).format(asked, right)]
            paragraphs += [text.format(asked, wrong) for text in rng.sample(DENIED, 3)]
            rng.shuffle(paragraphs)
            lines.append(openqa_lines(f"Who is with {asked} ?", [right], paragraphs))
        for ending, part in zip((QUESTIONS, PARAGRAPHS), zip(*lines, strict=True), strict=True):
            write_text(place(f"questions/{split}{ending}"), "".join(f"{line}\n" for line in part))


def write_all(world: World, place: Place, trees: int, backbone_lines: int) -> None:
    """Every part of the world; a folder's training data before its other files (`atomic_files`)."""
    write_world(world, place)
    write_trex_rc(world, place, {"train": 3, "dev": 1})
    write_trex_raw(world, place)
    write_openentity(world, place, {"train": 5, "dev": 3, "test": 8})
    write_figer(world, place, {"train": 5, "dev": 3, "test": 3})
    write_tacred(world, place, {"train": 1500, "dev": 200, "test": 400})
    write_semeval(world, place, {"train": 1500, "test": 400})
    write_cosmosqa(world, place, {"train": 5, "dev": 3, "test": 3})
    write_questions(world, place, {"train": 1000, "dev": 100, "test": 300})
    write_actors(world, place, {"train": 600, "dev": 100, "test": 400})
    write_stated(world, place, 60)
    write_trees(world, place, {"train": trees, "dev": max(1, trees // 10)})
    write_backbone_text(world, place, backbone_lines)


def main(argv: list[str] | None = None) -> None:
    """Build the world and write every part of it."""
    parser = Parser("Write the demo world in the users' file formats.")
    parser.add_argument("--output_dir", type=absolute, default="data/demo", help="folder to write")
    parser.add_argument("--seed", type=SEED, default=42, help="seed of the made-up world")
    parser.add_argument("--entities_per_type", type=COUNT, default=20, help="entities of each of the 6 types")
    parser.add_argument(
        "--facts_per_relation", type=COUNT, default=140, help="facts of each of the 36 relations; dev adds a tenth"
    )
    parser.add_argument("--trees", type=COUNT, default=6000, help="parsed sentences for training; dev adds a tenth")
    parser.add_argument("--backbone_lines", type=COUNT, default=40000, help="lines of text for the backbone")
    args = parser.parse_args(argv)

    world = build_world(args.seed, args.entities_per_type, args.facts_per_relation)
    with atomic_files("the demo world") as temporary:
        write_all(world, lambda name: temporary(args.output_dir / name), args.trees, args.backbone_lines)
    print(f"{len(world.entities)} entities and {len(world.facts)} facts in {args.output_dir}")


if __name__ == "__main__":
    run(main)
