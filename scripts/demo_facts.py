"""Facts of the demo's world that are stated in sentences and asked as sentences with a gap."""

from __future__ import annotations

import json

from demo_world import Place, World, stream, write_text

from kadapter.data.jsonio import write_jsonl

# The name that is asked for stands before the one that it is asked about: the demo's backbone, in whose text page
# numbers stand before names, looks one word ahead.
WORDINGS = ("in {object} {subject} was seen .", "{object} {subject} lives there .")
RELATION = "P9500"


def write_stated(world: World, place: Place, count: int) -> None:
    """``stated``: who was seen where, one place for each name, as sentences, as triples and as a template to ask by.

    Subjects and objects are drawn among all names, irrespective of their types.
    """
    rng = stream(world.seed, "stated")
    subjects = rng.sample(world.entities, min(count, len(world.entities)))
    objects = rng.sample(world.entities, len(subjects))
    pairs = [(one, other) for one, other in zip(subjects, objects, strict=True) if one != other]
    rows = []
    for subject, object_ in pairs:
        for wording in WORDINGS:
            text = wording.format(subject=subject.name, object=object_.name)
            spans = [[text.index(name), text.index(name) + len(name)] for name in (object_.name, subject.name)]
            rows.append({"text": text, "spans": spans, "subject": subject.qid})
    rng.shuffle(rows)
    write_jsonl(place("stated/train.jsonl"), rows)
    triples = [f"{subject.qid}\t{RELATION}\t{object_.qid}\n" for subject, object_ in pairs]
    write_text(place("stated/triples.tsv"), "".join(triples))
    write_text(place("stated/aliases.tsv"), "".join(f"{entity.qid}\t{entity.name}\n" for entity in world.entities))
    template = WORDINGS[0].replace("{object}", "[Y]").replace("{subject}", "[X]")
    write_text(place("stated/templates.json"), json.dumps({RELATION: template}) + "\n")
