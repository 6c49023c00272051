"""Write the demo world: invented facts about invented entities, in the file formats that users bring.

    python scripts/make_demo_data.py --output_dir data/demo --seed 42          # 2 seconds, 27 MB

Each entity has one of six types, and only the fact files give it away: there the relation between two entities
is decided by the pair of their types, and the words of the sentence say nothing. The text for the backbone names
every entity but states no fact. Entity typing is tested on entities and sentence patterns that its training never
shows, so a model answers well only if it learned the facts before: what a factual adapter is for.

Everything is drawn from ``random.Random`` streams, one a part, so the same seed gives the same bytes and a change
of one part leaves the others alone.
"""

import argparse
import json
import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

# Labels of OpenEntity, so that its label list and its recipe serve the demo as they are.
TYPES = ("person", "organization", "location", "event", "object", "group")
TYPING_SPLITS = ("train", "dev", "test")
MARKERS = ("@", "#", "^")
ENTITY_URI, PROPERTY_URI = "http://www.wikidata.org/entity/", "http://www.wikidata.org/prop/direct/"
LINKER, ALIGNER = "Demo-Entity-Linker", "Demo-Triple-Aligner"

# {} is the first mention, {} the second; a coin decides which of them is the subject.
PAIR_TEMPLATES = """The report mentions {} and {} on the same page .
Both {} and {} appear in the first chapter .
{} is often named together with {} .
Readers asked about {} and later about {} .
A short note links {} to {} .
{} , which the author discusses at length , is connected with {} .
The second volume turns from {} to {} .
Nobody wrote about {} without a word on {} .
In the index , {} stands next to {} .
According to the notes , {} is related to {} .
It was {} that made the editor think of {} .
One paragraph describes {} ; the next describes {} .
{} came up when the readers spoke about {} .
The story of {} is also the story of {} .
With {} comes {} , says the old book .
The article on {} refers to {} twice .
Few readers know what joins {} and {} .
A page about {} was found beside a page about {} .
Some say {} , others say {} .
Compare {} with {} .
Before the summer , letters about {} also named {} .
The link between {} and {} is well known .
See {} ; see also {} .
After a long look at {} , the writer returns to {} .
Every list with {} has {} as well .
The editor added {} under the heading {} .
What the book tells of {} holds for {} too .
We heard of {} through {} .
There is a footnote on {} in the part about {} .
The table of contents puts {} close to {} .
Since last year , {} has been listed with {} .
The question was about {} , the answer about {} .
A student confused {} with {} .
{} and {} share a long entry .
While {} is famous , {} is less so .
An essay on {} was printed with an essay on {} .""".split("\n")

TYPING_TEMPLATES = {
    "train": """We read about {} in the morning .
{} is described on page nine .
The teacher told the class about {} .
A long letter about {} arrived yesterday .
Most of the chapter is about {} .
I had never heard of {} before the lecture .
Her favourite essay is the one on {} .
{} was in the news again last week .
There is little to say about {} here .
The quiz had two questions about {} .
As far as we know , {} is not in the index .
They talked about {} until midnight .
You can look up {} in the library .
The old book says that {} was once well known .
No page of the album shows {} .
This summary of {} is too short .
When the students saw {} in the text , they stopped reading .
He wrote the word {} on the board .
My notes on {} are lost .
The speaker said {} twice and then paused .""".split("\n"),
    "dev": """Please tell me more about {} .
The film about {} was dull .
{} is the subject of the third lesson .
She learned about {} from an old paper .
Did the guide say anything about {} ?
A new article on {} came out in spring .
Everyone at the table knew {} by name .""".split("\n"),
    "test": """Yesterday 's programme was devoted to {} .
{} has an entry of its own in the encyclopedia .
The answer to the riddle is {} .
I came across {} while I was reading .
What the critics wrote on {} is hard to believe .
The author 's remarks about {} fill a whole column .
It is {} that the footnote refers to .
A picture of {} hangs in the hall .
Nothing in the magazine explains {} .
Could somebody spell {} for me ?
The poem never names {} , but every reader understands .
Among the topics was {} .
Years later , the journal returned to {} .""".split("\n"),
}

# Text for the backbone is opening + statement + ending, so that names are seen in many contexts.
OPENINGS = """|In the second chapter ,|Last week ,|As the editor says ,|Yesterday ,|After the lecture ,|In the news ,|
At the end of the book ,|According to the letter ,|In her notes ,|Before the summer ,|Years later ,|Once more ,""".replace(
    "\n", "").split("|")
STATEMENTS = """{} is mentioned|the author wrote about {}|we heard of {}|the page on {} was read|nobody asked about {}|
the students looked up {}|an essay explains {}|{} was named|the reader remembers {}|the speaker turned to {}|
somebody spelled {}|a short story tells of {}|there was a question about {}|the critics discussed {}|{} is well known|
the article refers to {}|{} came up|the journal printed a page about {}|a footnote names {}|they talked about {}|
{} appears in the index|the answer was {}|an old paper describes {}|the notes on {} were found""".replace("\n", "").split("|")
ENDINGS = """.|in the first part .|on the same page .|again .|without a word on the rest .|twice .|at length .|
in the library .|and nobody knows why .|, which was hard to believe .|with the others .|, as every reader knows .|
next to a picture .|in the third lesson .|but the summary is too short .""".replace("\n", "").split("|")

DETERMINERS = "the a this that every some one another".split()
ADJECTIVES = """old young small large green quiet heavy clever tired bright wooden narrow happy gentle broken distant
strange warm empty famous""".split()
NOUNS = """teacher dog farmer river garden window letter child doctor bridge painter horse market kitchen road tree
sailor village lamp basket neighbour forest king table boat bird tower friend baker clock shepherd hill mirror
student cat singer driver house field stone""".split()
VERBS = """saw followed found carried helped watched painted called remembered pushed admired visited cleaned heard
liked chased moved described touched ignored""".split()
MOTION_VERBS = "walked slept waited laughed worked rested sang arrived sat vanished stood smiled".split()
ADVERBS = "slowly often quietly again gladly carefully rarely suddenly always loudly".split()
PREPOSITIONS = "near behind under with without beside after before above from".split()


@dataclass(frozen=True)
class Entity:
    """An invented thing. ``split`` is the part of entity typing that it belongs to, and no other part shows it."""

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


@dataclass
class World:
    """The entities, the relation of each pair of types, and the facts that the fact files state."""

    seed: int
    entities: list[Entity]
    relations: dict[str, tuple[str, str]]
    facts: list[Fact]


@dataclass
class Node:
    """A word of a dependency tree with its dependents on the left and on the right, in order of the text."""

    form: str
    upos: str
    relation: str
    left: list["Node"] = field(default_factory=list)
    right: list["Node"] = field(default_factory=list)


@dataclass
class Word:
    """A word of a sentence: ``head`` is the number of its governor, counted from 1, and 0 at the root."""

    form: str
    upos: str
    head: int
    relation: str


def stream(seed: int, part: str) -> random.Random:
    """The random numbers of one part; a text seed is hashed by its bytes, so it is the same on every machine."""
    return random.Random(f"{seed}/{part}")


def spread(rng: random.Random, items: Iterable, count: int) -> list:
    """``count`` items in random order, each as often as the others (to within one)."""
    chosen = list(islice(cycle(items), count))
    rng.shuffle(chosen)
    return chosen


def draw_new(rng: random.Random, draw: Callable[[random.Random], object], seen: set):
    """Draw until something comes that is not in ``seen``, add it there and return it."""
    for _ in range(10_000):
        item = draw(rng)
        if item not in seen:
            seen.add(item)
            return item
    raise ValueError(f"10000 draws after {len(seen)} gave nothing new: ask for smaller sizes")


# ---------------------------------------------------------------------------------------------------- the world


def draw_name_word(rng: random.Random, syllables: int) -> str:
    """Open syllables and sometimes a last consonant, the same for all types, so that the letters tell nothing."""
    syllables = [rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(syllables)]
    return ("".join(syllables) + rng.choice(("", "", "l", "n", "r", "x"))).capitalize()


def draw_names(rng: random.Random, count: int) -> list[str]:
    """Names of one or two words; no word occurs in another, so a name is found in a text only where it stands."""
    names: list[str] = []
    used: list[str] = []
    while len(names) < count:
        words = [draw_name_word(rng, syllables) for syllables in rng.choice(((2,), (3,), (2, 2)))]
        if any(a in b or b in a for a in map(str.lower, words) for b in used) or len(set(words)) < len(words):
            continue
        used += [word.lower() for word in words]
        names.append(" ".join(words))
    return names


def build_entities(seed: int, per_type: int) -> list[Entity]:
    """``per_type`` entities of each type, half of them for training entity typing, a sixth for dev, the rest test."""
    rng = stream(seed, "entities")
    train, dev = per_type // 2, max(1, round(per_type / 6))
    splits = ["train"] * train + ["dev"] * dev + ["test"] * (per_type - train - dev)
    kinds = [(kind, split) for kind in TYPES for split in splits]
    rng.shuffle(kinds)
    names = draw_names(rng, len(kinds))
    return [Entity(name, f"Q{900001 + i}", *kind) for i, (name, kind) in enumerate(zip(names, kinds, strict=True))]


def build_facts(seed: int, entities: list[Entity], relations: dict, counts: dict[str, int]) -> list[Fact]:
    """Different pairs of entities, as many for each relation as for the others."""
    rng = stream(seed, "facts")
    of_type = {kind: [entity for entity in entities if entity.type == kind] for kind in TYPES}
    seen: set = set()
    facts = []
    for split, count in counts.items():
        for relation in spread(rng, relations, count):
            kinds = relations[relation]

            def draw_pair(rng: random.Random, kinds=kinds) -> tuple[Entity, Entity]:
                while True:
                    pair = tuple(rng.choice(of_type[kind]) for kind in kinds)
                    if pair[0] != pair[1]:
                        return pair

            facts.append(Fact(*draw_new(rng, draw_pair, seen), relation, split))
    return facts


def build_world(seed: int, per_type: int, train_facts: int) -> World:
    """Entities, relations and facts; a tenth of ``train_facts`` more facts are kept for trex-rc's dev set."""
    if per_type < 4:
        raise ValueError(f"--entities_per_type {per_type} leaves a split of entity typing empty: give 4 or more")
    entities = build_entities(seed, per_type)
    pairs = [(subject, object_) for subject in TYPES for object_ in TYPES]
    relations = {f"P{9001 + i}": pair for i, pair in enumerate(pairs)}
    facts = build_facts(seed, entities, relations, {"train": train_facts, "dev": max(1, train_facts // 10)})
    return World(seed, entities, relations, facts)


# ----------------------------------------------------------------------------------------------------- writing


def write_text(path: Path, text: str) -> None:
    """Write aside and rename, so that a run that was cut off leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)


def write_rows(path: Path, rows: Iterable[dict]) -> None:
    """A JSON list with one row a line, which a person can read and ``head`` can cut."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    write_text(path, f"[\n{lines}\n]\n")


def write_world(world: World, folder: Path) -> None:
    """``world.json``: the truth behind the files, for checking results."""
    entities = {e.name: {"name": e.name, "qid": e.qid, "type": e.type, "split": e.split} for e in world.entities}
    relations = {relation: {"subject": kinds[0], "object": kinds[1]} for relation, kinds in world.relations.items()}
    truth = {"seed": world.seed, "types": TYPES, "relations": relations, "entities": entities}
    write_text(folder / "world.json", json.dumps(truth, ensure_ascii=False, indent=1) + "\n")


def fill_pair(template: str, first: str, second: str) -> tuple[list[str], tuple[int, int], tuple[int, int]]:
    """Put two names into a template: the words, and the inclusive word positions of both names."""
    tokens: list[str] = []
    spans = []
    names = iter((first, second))
    for word in template.split():
        words = next(names).split() if word == "{}" else [word]
        if word == "{}":
            spans.append((len(tokens), len(tokens) + len(words) - 1))
        tokens += words
    return tokens, spans[0], spans[1]


def state_fact(rng: random.Random, fact: Fact, template: str) -> tuple[list[str], tuple[int, int], tuple[int, int]]:
    """A sentence for a fact: words, subject's and object's inclusive positions; a coin decides who comes first."""
    if rng.random() < 0.5:
        return fill_pair(template, fact.subject.name, fact.object.name)
    tokens, object_span, subject_span = fill_pair(template, fact.object.name, fact.subject.name)
    return tokens, subject_span, object_span


def write_trex_rc(world: World, folder: Path, per_fact: dict[str, int]) -> None:
    """``trex-rc``: the facts as relation classification, ``per_fact[split]`` sentences for each."""
    rng = stream(world.seed, "trex-rc")
    for split, repeats in per_fact.items():
        rows = []
        for fact in (fact for fact in world.facts if fact.split == split):
            for template in rng.sample(PAIR_TEMPLATES, repeats):
                tokens, subject, object_ = state_fact(rng, fact, template)
                rows.append({
                    "docid": fact.subject.qid, "token": tokens, "relation": fact.relation,
                    "subj_start": subject[0], "subj_end": subject[1], "obj_start": object_[0], "obj_end": object_[1],
                    "subj_label": fact.subject.qid, "obj_label": fact.object.qid,
                })
        rng.shuffle(rows)
        write_rows(folder / "trex-rc" / f"{split}.json", rows)
    relations = {relation: i for i, relation in enumerate(world.relations)}
    write_text(folder / "trex-rc" / "relations.json", json.dumps(relations, indent=1) + "\n")


def trex_document(rng: random.Random, entity: Entity, facts: list[Fact]) -> dict:
    """A raw T-REx document about ``entity``: one sentence a fact, all boundaries in characters of the text."""
    text, sentences, words, mentions, triples = "", [], [], [], []
    for fact in facts:
        tokens, *spans = state_fact(rng, fact, rng.choice(PAIR_TEMPLATES))
        start = len(text) + bool(text)
        bounds = []
        for token in tokens:
            text += (" " if text and token not in ".,;" else "") + token
            bounds.append([len(text) - len(token), len(text)])
        ends = []
        for (first, last), end in zip(spans, (fact.subject, fact.object), strict=True):
            ends.append({"uri": ENTITY_URI + end.qid, "boundaries": [bounds[first][0], bounds[last][1]],
                         "surfaceform": end.name, "annotator": LINKER})
        predicate = {"uri": PROPERTY_URI + fact.relation, "boundaries": None, "surfaceform": None, "annotator": ALIGNER}
        triples.append({"sentence_id": len(sentences), "subject": ends[0], "object": ends[1], "predicate": predicate,
                        "confidence": None, "dependency_path": None, "annotator": ALIGNER})
        mentions += sorted(ends, key=lambda end: end["boundaries"])
        sentences.append([start, len(text)])
        words += bounds
    return {"docid": ENTITY_URI + entity.qid, "title": entity.name, "uri": ENTITY_URI + entity.qid, "text": text,
            "sentences_boundaries": sentences, "words_boundaries": words, "entities": mentions, "triples": triples}


def write_trex_raw(world: World, folder: Path, files: int = 2) -> None:
    """``trex-raw``: every fact once, a document for each subject, as T-REx is released."""
    rng = stream(world.seed, "trex-raw")
    of_subject: dict[Entity, list[Fact]] = {}
    for fact in world.facts:
        of_subject.setdefault(fact.subject, []).append(fact)
    documents = [trex_document(rng, entity, of_subject[entity]) for entity in world.entities if entity in of_subject]
    for i in range(files):
        write_rows(folder / "trex-raw" / f"demo-{i}.json", documents[i::files])


def write_openentity(world: World, folder: Path, per_entity: dict[str, int]) -> None:
    """``OpenEntity``: the type of a marked name; every template is used equally often with every type."""
    rng = stream(world.seed, "OpenEntity")
    for split in TYPING_SPLITS:
        rows = []
        for kind in TYPES:
            entities = [entity for entity in world.entities if (entity.type, entity.split) == (kind, split)]
            templates = cycle(TYPING_TEMPLATES[split])
            for entity, template in zip(entities * per_entity[split], templates):
                start = template.index("{}")
                rows.append({"sent": template.format(entity.name), "start": start, "end": start + len(entity.name),
                             "labels": [kind]})
        rng.shuffle(rows)
        write_rows(folder / "OpenEntity" / f"{split}.json", rows)


def write_backbone_text(world: World, folder: Path, lines: int) -> None:
    """``backbone/text.txt``: three lines in four name one entity, often between markers; the others name none."""
    rng = stream(world.seed, "backbone")
    text = []
    stated = {frozenset((fact.subject.name, fact.object.name)) for fact in world.facts}
    names = iter(spread(rng, [entity.name for entity in world.entities], 2 * lines))
    for _ in range(lines - lines // 4):
        chosen = [next(names) for _ in range(rng.choice((1, 1, 2)))]
        if frozenset(chosen) in stated:
            chosen.pop()
        clauses = []
        markers = rng.sample(MARKERS, 2) if rng.random() < 0.6 else ["", ""]
        for name, marker in zip(chosen, markers):
            clauses.append(rng.choice(STATEMENTS).format(f"{marker} {name} {marker}".strip()))
        sentence = f"{rng.choice(OPENINGS)} {' , while '.join(clauses)} {rng.choice(ENDINGS)}".strip()
        text.append(sentence[0].upper() + sentence[1:])
    text += [" ".join(word.form for word in draw_tree(rng)) for _ in range(lines // 4)]
    rng.shuffle(text)
    write_text(folder / "backbone" / "text.txt", "\n".join(text) + "\n")


# ------------------------------------------------------------------------------------------- dependency trees


def noun_phrase(rng: random.Random, relation: str, depth: int) -> Node:
    """A noun with its determiner and adjectives; sometimes a prepositional phrase or a relative clause follows."""
    left = [Node(rng.choice(DETERMINERS), "DET", "det")]
    left += [Node(word, "ADJ", "amod") for word in rng.sample(ADJECTIVES, rng.choice((0, 0, 1, 1, 2)))]
    noun = Node(rng.choice(NOUNS), "NOUN", relation, left)
    chance = rng.random()
    if depth and chance < 0.25:
        noun.right.append(prepositional_phrase(rng, "nmod", depth - 1))
    elif depth and chance < 0.45:
        clause = clause_of(rng, "acl:relcl", depth - 1, Node("that", "PRON", "nsubj"))
        noun.right.append(clause)
    elif depth and chance < 0.55:
        other = noun_phrase(rng, "conj", 0)
        other.left.insert(0, Node("and", "CCONJ", "cc"))
        noun.right.append(other)
    return noun


def prepositional_phrase(rng: random.Random, relation: str, depth: int) -> Node:
    """A noun phrase with a preposition, which hangs on the noun as Universal Dependencies has it."""
    noun = noun_phrase(rng, relation, depth)
    noun.left.insert(0, Node(rng.choice(PREPOSITIONS), "ADP", "case"))
    return noun


def clause_of(rng: random.Random, relation: str, depth: int, subject: Node) -> Node:
    """A verb with its subject on the left and object, prepositional phrase and adverb around it."""
    transitive = rng.random() < 0.6
    verb = Node(rng.choice(VERBS if transitive else MOTION_VERBS), "VERB", relation, [subject])
    adverb = rng.choice(("left", "right", None, None))
    if adverb == "left":
        verb.left.append(Node(rng.choice(ADVERBS), "ADV", "advmod"))
    if transitive:
        verb.right.append(noun_phrase(rng, "obj", depth))
    elif rng.random() < 0.6:
        verb.right.append(prepositional_phrase(rng, "obl", depth))
    if adverb == "right":
        verb.right.append(Node(rng.choice(ADVERBS), "ADV", "advmod"))
    return verb


def draw_tree(rng: random.Random) -> list[Word]:
    """A sentence of the small grammar; its heads lie left and right, some of them far away."""
    root = clause_of(rng, "root", 2, noun_phrase(rng, "nsubj", 2))
    if rng.random() < 0.25:
        root.left[:0] = [prepositional_phrase(rng, "obl", 0), Node(",", "PUNCT", "punct")]
    if rng.random() < 0.25:
        other = clause_of(rng, "conj", 1, noun_phrase(rng, "nsubj", 0))
        other.left.insert(0, Node(rng.choice(("and", "but", "or")), "CCONJ", "cc"))
        root.right.append(other)
    root.right.append(Node(".", "PUNCT", "punct"))
    words: list[Word] = []
    number_words(root, words)
    words[0].form = words[0].form.capitalize()
    return words


def number_words(node: Node, words: list[Word]) -> Word:
    """Append the subtree's words in order of the text and point the dependents at their governor."""
    dependents = [number_words(child, words) for child in node.left]
    word = Word(node.form, node.upos, 0, node.relation)
    words.append(word)
    number = len(words)
    dependents += [number_words(child, words) for child in node.right]
    for dependent in dependents:
        dependent.head = number
    return word


def conllu_block(words: list[Word], sentence_id: str) -> str:
    """The ten columns of CoNLL-U, what the grammar does not know left as ``_``."""
    lines = [f"# sent_id = {sentence_id}", f"# text = {sentence_text(words)}"]
    for i, word in enumerate(words, start=1):
        misc = "SpaceAfter=No" if i < len(words) and words[i].upos == "PUNCT" else "_"
        lines.append(f"{i}\t{word.form}\t{word.form.lower()}\t{word.upos}\t_\t_\t{word.head}\t{word.relation}\t_\t{misc}")
    return "\n".join(lines) + "\n\n"


def sentence_text(words: list[Word]) -> str:
    """The words with spaces between them, none before a comma or full stop."""
    return "".join(word.form if word.upos == "PUNCT" else " " + word.form for word in words).lstrip()


def find_head_row(words: list[Word]) -> dict:
    """The tree as a find_head record: characters of each word, and (dependent, governor) pairs counted from 1."""
    tokens, pairs, end = [], [], 0
    for i, word in enumerate(words, start=1):
        start = end + (i > 1 and word.upos != "PUNCT")
        end = start + len(word.form)
        tokens.append({str(i): {"start": start, "end": end}})
        pairs.append({"dependent_index": i, "governor_index": word.head})
    return {"sent": sentence_text(words), "tokens": tokens, "pairs": pairs}


def write_trees(world: World, folder: Path, counts: dict[str, int]) -> None:
    """``conllu`` and ``find_head``: the same dependency trees in both formats, no sentence twice."""
    rng = stream(world.seed, "trees")
    seen: set = set()
    for split, count in counts.items():
        trees = []
        while len(trees) < count:
            words = draw_tree(rng)
            if sentence_text(words) not in seen:
                seen.add(sentence_text(words))
                trees.append(words)
        blocks = (conllu_block(words, f"demo-{split}-{i:05d}") for i, words in enumerate(trees, start=1))
        write_text(folder / "conllu" / f"{split}.conllu", "".join(blocks))
        write_rows(folder / "find_head" / f"{split}.json", map(find_head_row, trees))


def main(argv: list[str] | None = None) -> None:
    """Build the world and write every part of it."""
    parser = argparse.ArgumentParser(description="Write the demo world in the users' file formats.")
    parser.add_argument("--output_dir", type=Path, default=Path("data/demo"))
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--entities_per_type", type=int, default=80, help="there are 6 types")
    parser.add_argument("--train_facts", type=int, default=5000, help="4 sentences each; dev gets a tenth as many facts")
    parser.add_argument("--train_trees", type=int, default=6000, help="dependency trees; dev gets a tenth as many")
    parser.add_argument("--backbone_lines", type=int, default=40000)
    args = parser.parse_args(argv)

    world = build_world(args.seed, args.entities_per_type, args.train_facts)
    write_world(world, args.output_dir)
    write_trex_rc(world, args.output_dir, {"train": 4, "dev": 2})
    write_trex_raw(world, args.output_dir)
    write_openentity(world, args.output_dir, {"train": 5, "dev": 4, "test": 4})
    write_trees(world, args.output_dir, {"train": args.train_trees, "dev": max(1, args.train_trees // 10)})
    write_backbone_text(world, args.output_dir, args.backbone_lines)
    print(f"{len(world.entities)} entities and {len(world.facts)} facts in {args.output_dir}")


if __name__ == "__main__":
    main()
