"""Write the demo world: invented facts about invented entities, in the file formats that users bring.

    python scripts/make_demo_data.py --output_dir data/demo --seed 42          # 3 seconds, 25 MB

Each entity has one of six types, and only the fact files give it away: there the relation between two
entities is decided by the pair of their types, and the words of the sentence say nothing. The text for the
backbone names every entity but states no fact. Entity typing is tested on entities and sentence patterns that
its training never shows, so a model answers well only if it learned the facts before: what a factual adapter
is for.

Every part draws from its own ``random.Random`` stream, so the same seed gives the same bytes and a change of
one part leaves the others alone.
"""

import argparse
import json
import os
import random
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import cycle, product
from pathlib import Path

# Labels of OpenEntity, so that its label list and its recipe serve the demo as they are.
TYPES = ("person", "organization", "location", "event", "object", "group")
MARKERS = ("@", "#", "^")
ENTITY_URI, PROPERTY_URI = "http://www.wikidata.org/entity/", "http://www.wikidata.org/prop/direct/"
LINKER, ALIGNER = "Demo-Entity-Linker", "Demo-Triple-Aligner"
Span = tuple[int, int]  # positions of a name's first and last word


def bars(text: str) -> list[str]:
    """The parts of a text between its bars, line breaks taken as spaces."""
    return [" ".join(part.split()) for part in text.split("|")]


def lexicon(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


# All patterns fit every type, and they are as short as entries of an index: a backbone of a million parameters
# gives the words around a marker far more room than the name behind it, and the demo has minutes, not days.
# {} and {} are two mentions; a coin decides which of them is the subject.
PAIR_TEMPLATES = bars("{} and {} . | {} , {} . | {} with {} .")

TYPING_TEMPLATES = {
    "train": bars("{} . | {} again . | {} is here . | {} was there . | {} or not ."),
    "dev": bars("{} then . | {} came up . | {} once more ."),
    "test": bars("{} too . | {} now . | {} is next ."),
}

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

# Words of the dependency trees.
DETERMINERS = lexicon("the a this that every some one another")
ADJECTIVES = lexicon("""old young small large green quiet heavy clever tired bright wooden narrow happy gentle
broken distant strange warm empty famous""")
NOUNS = lexicon("""teacher dog farmer river garden window letter child doctor bridge painter horse market
kitchen road tree sailor village lamp basket neighbour forest king table boat bird tower friend baker clock
shepherd hill mirror student cat singer driver house field stone""")
VERBS = lexicon("""saw followed found carried helped watched painted called remembered pushed admired visited
cleaned heard liked chased moved described touched ignored""")
MOTION_VERBS = lexicon("walked slept waited laughed worked rested sang arrived sat vanished stood smiled")
ADVERBS = lexicon("slowly often quietly again gladly carefully rarely suddenly always loudly")
PREPOSITIONS = lexicon("near behind under with without beside after before above from")


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


class Word:
    """A word of a dependency tree; ``governor`` is None at the root."""

    def __init__(self, form: str, upos: str, relation: str, governor: "Word | None") -> None:
        self.form, self.upos, self.relation, self.governor = form, upos, relation, governor


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


def write_text(path: Path, text: str) -> None:
    """Write aside and rename, so that a run that was cut off leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)


def write_rows(path: Path, rows: Iterable[dict]) -> None:
    """A JSON list with one row a line, which a person can read and ``head`` can cut."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(", ", ": ")) for row in rows)
    write_text(path, f"[\n{lines}\n]\n")


def write_world(world: World, folder: Path) -> None:
    """``world.json``: the truth behind the files, for checking results."""
    truth = {
        "seed": world.seed,
        "types": TYPES,
        "relations": world.relations,
        "entities": {entity.name: asdict(entity) for entity in world.entities},
    }
    write_text(folder / "world.json", json.dumps(truth, ensure_ascii=False, indent=1) + "\n")


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


def write_trex_rc(world: World, folder: Path, per_fact: dict[str, int]) -> None:
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
        write_rows(folder / "trex-rc" / f"{split}.json", rows)
    ids = {relation: i for i, relation in enumerate(world.relations)}
    write_text(folder / "trex-rc" / "relations.json", json.dumps(ids, indent=1) + "\n")


def trex_document(rng: random.Random, entity: Entity, facts: list[Fact]) -> dict:
    """A raw T-REx document about ``entity``: a sentence a fact, all boundaries in characters of the text."""
    text = ""
    sentences: list[list[int]] = []
    words: list[list[int]] = []
    mentions: list[dict] = []
    triples: list[dict] = []
    for fact in facts:
        tokens, *spans = state_fact(rng, fact, rng.choice(PAIR_TEMPLATES))
        bounds = []
        for token in tokens:
            text += (" " if text and token not in ".,;?" else "") + token
            bounds.append([len(text) - len(token), len(text)])
        ends: list[dict] = [
            {
                "uri": ENTITY_URI + end.qid,
                "boundaries": [bounds[first][0], bounds[last][1]],
                "surfaceform": end.name,
                "annotator": LINKER,
            }
            for (first, last), end in zip(spans, (fact.subject, fact.object), strict=True)
        ]
        predicate = {"uri": PROPERTY_URI + fact.relation, "boundaries": None, "surfaceform": None, "annotator": ALIGNER}
        triples.append(
            {
                "sentence_id": len(sentences),
                "subject": ends[0],
                "object": ends[1],
                "predicate": predicate,
                "confidence": None,
                "dependency_path": None,
                "annotator": ALIGNER,
            }
        )
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


def write_trex_raw(world: World, folder: Path, files: int = 2) -> None:
    """``trex-raw``: every fact once, a document for each subject, as T-REx is released."""
    rng = stream(world.seed, "trex-raw")
    of_subject: dict[Entity, list[Fact]] = {}
    for fact in world.facts:
        of_subject.setdefault(fact.subject, []).append(fact)
    documents = [trex_document(rng, entity, facts) for entity, facts in of_subject.items()]
    for i in range(files):
        write_rows(folder / "trex-raw" / f"demo-{i}.json", documents[i::files])


def write_openentity(world: World, folder: Path, per_entity: dict[str, int]) -> None:
    """``OpenEntity``: the type of a marked name; every template is used equally often with every type."""
    rng = stream(world.seed, "OpenEntity")
    for split, repeats in per_entity.items():
        rows = []
        for kind in TYPES:
            names = [entity.name for entity in world.entities if (entity.type, entity.split) == (kind, split)]
            for name, template in zip(names * repeats, cycle(TYPING_TEMPLATES[split]), strict=False):
                start = template.index("{}")
                rows.append({"sent": template.format(name), "start": start, "end": start + len(name), "labels": [kind]})
        rng.shuffle(rows)
        write_rows(folder / "OpenEntity" / f"{split}.json", rows)


def mention(rng: random.Random, name: str, page: int) -> str:
    """A name as the backbone's text has it: alone, behind its page number or between two markers.

    Every name has a page of its own, drawn irrespective of its type. To predict it, the model has to look from
    the word before a name, where tasks put their marker, at the name.
    """
    marker = rng.choice(MARKERS)
    return rng.choice((name, *[f"{page} {name}"] * 3, *[f"{marker} {name} {marker}"] * 2))


def write_backbone_text(world: World, folder: Path, lines: int) -> None:
    """``backbone/text.txt``: statements about one name, lists of names, and sentences of the grammar.

    No line holds both names of a fact.
    """
    rng = stream(world.seed, "backbone")
    stated = {frozenset((fact.subject.name, fact.object.name)) for fact in world.facts}
    numbers = rng.sample(range(100, 1000), len(world.entities))
    pages = dict(zip((entity.name for entity in world.entities), numbers, strict=True))
    names = cycle(rng.sample(list(pages), len(pages)))
    text = [" ".join(word.form for word in draw_tree(rng)) for _ in range(lines // 8)]
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
    write_text(folder / "backbone" / "text.txt", "\n".join(text) + "\n")


def noun_phrase(
    rng: random.Random, relation: str, governor: Word | None, depth: int, *before: tuple[str, str, str]
) -> list[Word]:
    """A noun with determiner and adjectives; sometimes a phrase, a relative clause or a second noun follows.

    ``before`` are (form, upos, relation) of words that come first, as a preposition does: in Universal
    Dependencies they hang on the noun.
    """
    noun = Word(rng.choice(NOUNS), "NOUN", relation, governor)
    words = [Word(*word, noun) for word in before]
    words.append(Word(rng.choice(DETERMINERS), "DET", "det", noun))
    words += [Word(form, "ADJ", "amod", noun) for form in rng.sample(ADJECTIVES, rng.choice((0, 0, 1, 1, 2)))]
    words.append(noun)
    chance = rng.random() if depth else 1.0
    if chance < 0.25:
        words += noun_phrase(rng, "nmod", noun, depth - 1, (rng.choice(PREPOSITIONS), "ADP", "case"))
    elif chance < 0.45:
        words += clause(rng, "acl:relcl", noun, depth - 1)
    elif chance < 0.55:
        words += noun_phrase(rng, "conj", noun, 0, ("and", "CCONJ", "cc"))
    return words


def clause(rng: random.Random, relation: str, governor: Word | None, depth: int) -> list[Word]:
    """A verb with its subject, an object or prepositional phrase behind it, and sometimes an adverb."""
    transitive = rng.random() < 0.6
    verb = Word(rng.choice(VERBS if transitive else MOTION_VERBS), "VERB", relation, governor)
    adverb = [Word(rng.choice(ADVERBS), "ADV", "advmod", verb)] if rng.random() < 0.5 else []
    early = rng.random() < 0.5
    relative = relation == "acl:relcl"
    words = [Word("that", "PRON", "nsubj", verb)] if relative else noun_phrase(rng, "nsubj", verb, depth)
    words += (adverb if early else []) + [verb]
    if transitive:
        words += noun_phrase(rng, "obj", verb, depth)
    elif rng.random() < 0.6:
        words += noun_phrase(rng, "obl", verb, depth, (rng.choice(PREPOSITIONS), "ADP", "case"))
    return words + ([] if early else adverb)


def draw_tree(rng: random.Random) -> list[Word]:
    """A sentence of the small grammar; its heads lie left and right, some of them far away."""
    words = clause(rng, "root", None, 2)
    root = next(word for word in words if word.governor is None)
    if rng.random() < 0.25:
        opening = noun_phrase(rng, "obl", root, 0, (rng.choice(PREPOSITIONS), "ADP", "case"))
        words = [*opening, Word(",", "PUNCT", "punct", root), *words]
    if rng.random() < 0.25:
        other = clause(rng, "conj", root, 0)
        verb = next(word for word in other if word.governor is root)
        words += [Word(rng.choice(("and", "but", "or")), "CCONJ", "cc", verb), *other]
    words[0].form = words[0].form.capitalize()
    return [*words, Word(".", "PUNCT", "punct", root)]


def conllu_block(words: list[Word], sentence_id: str) -> tuple[str, dict]:
    """A tree as CoNLL-U (what the grammar does not know left as ``_``) and as a find_head record."""
    numbers = {word: i for i, word in enumerate(words, start=1)}
    lines, tokens, pairs, text = [], [], [], ""
    for word, i in numbers.items():
        text += (" " if i > 1 and word.upos != "PUNCT" else "") + word.form
        head = numbers[word.governor] if word.governor else 0
        misc = "SpaceAfter=No" if i < len(words) and words[i].upos == "PUNCT" else "_"
        lemma, relation = word.form.lower(), word.relation
        lines.append(f"{i}\t{word.form}\t{lemma}\t{word.upos}\t_\t_\t{head}\t{relation}\t_\t{misc}")
        tokens.append({str(i): {"start": len(text) - len(word.form), "end": len(text)}})
        pairs.append({"dependent_index": i, "governor_index": head})
    block = "\n".join([f"# sent_id = {sentence_id}", f"# text = {text}", *lines, "", ""])
    return block, {"sent": text, "tokens": tokens, "pairs": pairs}


def write_trees(world: World, folder: Path, counts: dict[str, int]) -> None:
    """``conllu`` and ``find_head``: the same dependency trees in both formats, no sentence twice."""
    rng = stream(world.seed, "trees")
    seen: set[str] = set()
    for split, count in counts.items():
        blocks: list[str] = []
        rows: list[dict] = []
        while len(rows) < count:
            block, row = conllu_block(draw_tree(rng), f"demo-{split}-{len(rows) + 1:05d}")
            if row["sent"] not in seen:
                seen.add(row["sent"])
                blocks.append(block)
                rows.append(row)
        write_text(folder / "conllu" / f"{split}.conllu", "".join(blocks))
        write_rows(folder / "find_head" / f"{split}.json", rows)


def main(argv: list[str] | None = None) -> None:
    """Build the world and write every part of it."""
    parser = argparse.ArgumentParser(description="Write the demo world in the users' file formats.")
    parser.add_argument("--output_dir", type=Path, default=Path("data/demo"))
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--entities_per_type", type=int, default=20, help="there are 6 types")
    parser.add_argument("--facts_per_relation", type=int, default=140, help="36 relations; dev adds a tenth")
    parser.add_argument("--trees", type=int, default=6000, help="for training; dev adds a tenth")
    parser.add_argument("--backbone_lines", type=int, default=40000)
    args = parser.parse_args(argv)

    world = build_world(args.seed, args.entities_per_type, args.facts_per_relation)
    write_world(world, args.output_dir)
    write_trex_rc(world, args.output_dir, {"train": 3, "dev": 1})
    write_trex_raw(world, args.output_dir)
    write_openentity(world, args.output_dir, {"train": 5, "dev": 3, "test": 3})
    write_trees(world, args.output_dir, {"train": args.trees, "dev": max(1, args.trees // 10)})
    write_backbone_text(world, args.output_dir, args.backbone_lines)
    print(f"{len(world.entities)} entities and {len(world.facts)} facts in {args.output_dir}")


if __name__ == "__main__":
    main()
