"""Facts of the demo's world that are stated in sentences and asked as sentences with a gap."""

from __future__ import annotations

import json

from demo_world import Place, World, stream, write_text

from kadapter.data.jsonio import write_jsonl

# The name that is asked for stands before the one that it is asked about: the demo's backbone, in whose text page
# numbers stand before names, looks one word ahead.
TOLD = ("the page on {object} {subject} came up .", "somebody spelled {object} {subject} .")
ASKED = "in {object} {subject} was seen ."
SAME, OTHER = "P9500", "P9501"  # facts that were stated in the wording that is asked, and facts that were not


def write_stated(world: World, place: Place, count: int) -> None:
    """``stated``: who was seen where, one place for each name, as sentences, as triples and as templates to ask by.

    All facts are stated in `TOLD`, every second one in `ASKED` too. The sentences mark the object alone, so that it is
    what is hidden, and never together with the subject that tells it. Subjects and objects are drawn among all names,
    irrespective of their types; an object has one word, which is one token of the demo's backbone.
    """
    rng = stream(world.seed, "stated")
    one_word = [entity for entity in world.entities if " " not in entity.name]
    objects = rng.sample(one_word, min(count, len(one_word)))
    subjects = rng.sample(world.entities, len(objects))
    pairs = [(one, other) for one, other in zip(subjects, objects, strict=True) if one != other]
    rows, triples = [], []
    for number, (subject, object_) in enumerate(pairs):
        relation, wordings = (OTHER, TOLD) if number % 2 else (SAME, (*TOLD, ASKED))
        triples.append(f"{subject.qid}\t{relation}\t{object_.qid}\n")
        for wording in wordings:
            text = wording.format(subject=subject.name, object=object_.name)
            start = text.index(object_.name)
            rows.append({"text": text, "spans": [[start, start + len(object_.name)]], "subject": subject.qid})
    rng.shuffle(rows)
    write_jsonl(place("stated/train.jsonl"), rows)
    write_text(place("stated/triples.tsv"), "".join(triples))
    write_text(place("stated/aliases.tsv"), "".join(f"{entity.qid}\t{entity.name}\n" for entity in world.entities))
    template = ASKED.replace("{object}", "[Y]").replace("{subject}", "[X]")
    write_text(place("stated/templates.json"), json.dumps(dict.fromkeys((SAME, OTHER), template)) + "\n")
