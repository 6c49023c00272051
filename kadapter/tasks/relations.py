"""Relation classification: T-REx (trex-rc), to pretrain an adapter on, and TACRED (K-Adapter, sections 3.3, 4.3).

A record: {"token": [...], "relation": "P17", "subj_start", "subj_end", "obj_start", "obj_end", ...}; word
numbers from 0, ends inclusive. Or OpenNRE's, {"token" or "text", "relation", "h": {"pos": [start, end)}, "t": ...}.

A mention may lie within the other: their markers nest. Where they cross, no markers show which words are whose, and the
example is left out; the original's text, in which the shared words stand twice, is `original_spans`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kadapter.data.cleaned import check_spans, mention_spans
from kadapter.data.encoding import Encoding, Feature, OnError
from kadapter.data.forms import converted, named_relation, relation_record
from kadapter.data.jsonio import check_keys, check_unique, checked_rows, shorten, whole
from kadapter.data.labels import read_labels
from kadapter.data.spans import CROSSING, Signs, Span, is_blank, spans_cross
from kadapter.data.splits import TABLES, TEXT, split_path
from kadapter.data.tables import read_rows
from kadapter.tasks.marking import MARKERS, RelationSigns, encode_relations, five_pieces, marked_text, original_pieces
from kadapter.tasks.scores import best_label, numbers, relation_scores, tacred_scores, text_of, write_per_class
from kadapter.training.task import Answer, Example, Outputs, Predictions, Scores, Task, report_option

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

LABEL_FILES = ("relations.json", "T_REx_pred2ic.json", "rel2id.json")  # ours, the original's, OpenNRE's
SPAN_KEYS = ("subj_start", "subj_end", "obj_start", "obj_end")
RELATION_SCHEMA = {
    # before, first mention, between, second mention, after; nested: before, outer, inner, outer, after
    "pieces": ["string"],
    "subject_first": "bool",  # nested: the subject is the outer one
    "nested": "bool",
    "relation": "string",
    "fault": "string",  # why the example cannot be used; "" where it can
    "record": "int64",
}


# TACRED's relations in the original's order (utils_glue.py), which saved heads depend on.
TACRED_LABELS = (
    "per:siblings",
    "per:parents",
    "org:member_of",
    "per:origin",
    "per:alternate_names",
    "per:date_of_death",
    "per:title",
    "org:alternate_names",
    "per:countries_of_residence",
    "org:stateorprovince_of_headquarters",
    "per:city_of_death",
    "per:schools_attended",
    "per:employee_of",
    "org:members",
    "org:dissolved",
    "per:date_of_birth",
    "org:number_of_employees/members",
    "org:founded",
    "org:founded_by",
    "org:political/religious_affiliation",
    "org:website",
    "org:top_members/employees",
    "per:children",
    "per:cities_of_residence",
    "per:cause_of_death",
    "org:shareholders",
    "per:age",
    "per:religion",
    "no_relation",
    "org:parents",
    "org:subsidiaries",
    "per:country_of_birth",
    "per:stateorprovince_of_death",
    "per:city_of_birth",
    "per:stateorprovinces_of_residence",
    "org:country_of_headquarters",
    "per:other_family",
    "per:stateorprovince_of_birth",
    "per:country_of_death",
    "per:charges",
    "org:city_of_headquarters",
    "per:spouse",
)


@dataclass(frozen=True, kw_only=True)
class RelationClassification(Task):
    """Two marked mentions -> a relation.

    markers: texts around the subject and around the object.
    bare: markers are the vocabulary's own entries, else what the tokenizer makes of them (in RoBERTa's case with a
        space before).
    """

    head = "relation"
    schema = RELATION_SCHEMA
    sample = '{"text": "Ann was born in Oslo.", "subj": [0, 3], "obj": [16, 20]}'
    markers: ClassVar[tuple[str, str]] = MARKERS
    bare: ClassVar[bool] = True

    keep_markers: bool = True
    """Where a cut at the right would lose a marker, take a window that holds both."""
    report_per_class: bool = report_option(False)
    """Print and write a table of scores by relation."""

    def path(self, folder: str | Path, split: str) -> Path:
        return split_path(folder, split, also=(*TABLES, TEXT))  # OpenNRE's files are called .txt

    def marked(self, example: dict[str, Any]) -> str:
        return marked_text(example, *self.markers)

    def encode(self, examples: Sequence[dict[str, Any]], encoding: Encoding) -> list[Feature]:
        options = (self.labels, self.markers, self.bare, self.keep_markers)
        return encode_relations(examples, encoding.tokenizer, encoding.max_seq_length, *options, encoding.causal)

    def answer(self, outputs: Outputs, feature: Feature, example: Example, encoding: Encoding) -> Answer:
        """The relation, its probability, and those of all relations."""
        return best_label(outputs["logits"], self.labels)

    def rows(
        self, predictions: Predictions, features: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[dict[str, Any]]:
        """Gold and predicted relation, and the logit of the latter."""
        for logits, gold, record in zip(
            predictions["logits"], numbers(features), numbers(features, "record"), strict=True
        ):
            best = int(logits.argmax())
            names = {"relation": self.labels[gold], "predicted": self.labels[best]}
            yield {"record": int(record), **names, "logit": round(float(logits[best]), 4)}

    def report(self, folder: Path, split: str, predictions: Predictions, features: Dataset) -> None:
        if self.report_per_class:
            write_per_class(folder, split, predictions, features, self.labels)


@dataclass(frozen=True, kw_only=True)
class SpanRelations(RelationClassification):
    """The same from files that give mentions by the numbers of their words."""

    spans: str = "inclusive"
    """Whether the ends in the files belong to their mentions, or are "exclusive"."""
    original_spans: bool = False
    """Where mentions overlap, write the shared words twice, as the original does (docs/deviations.md, 34)."""

    def read(self, path: Path, split: str, on_error: OnError | None = None) -> Iterator[dict[str, Any]]:
        return read_relations(path, self.labels, on_error=on_error, **self._reading())

    def example(self, given: Any, where: str) -> dict[str, Any]:
        """A record of words and word numbers, as the data are; or a text and [start, end) in characters.

        The second form is {"text", "subj": [start, end], "obj": [start, end]}.
        """
        record = dict(given) if isinstance(given, Mapping) else {}
        if "text" in record:
            return _from_text(record, where, self.labels[0])
        options = {"exclusive": self.spans == "exclusive", "original": self.original_spans}
        record |= {"relation": self.labels[0], "id": None}
        return _check(record, where, 0, labels=frozenset(self.labels), seen={}, **options)

    def _reading(self) -> dict[str, Any]:
        return {"spans": self.spans, "original_spans": self.original_spans}

    def signs(self) -> Signs | None:
        return RelationSigns("look at some and give --spans exclusive") if self.spans == "inclusive" else None


@dataclass(frozen=True, kw_only=True)
class TrexRelations(SpanRelations):
    """Relations of T-REx's entities, to pretrain an adapter on; an example that loses a marker is dropped."""

    name = "fac"
    metric = "accuracy"
    max_seq_length = 64
    splits = ("train", "dev")
    labels_may_differ = True
    keep_markers: bool = False

    @classmethod
    def own_labels(cls, folder: Path) -> Sequence[str]:
        """Of relations.json, or of the file that the original or OpenNRE calls otherwise."""
        found = {name: read_labels(folder / name) for name in LABEL_FILES if (folder / name).is_file()}
        if len(set(map(tuple, found.values()))) > 1:
            raise ValueError(f"{folder} holds {' and '.join(found)}, which differ; remove one, or give --labels.")
        return next(iter(found.values())) if found else read_labels(folder / LABEL_FILES[0])

    def score(self, predictions: Predictions, features: Dataset) -> Scores:
        return relation_scores(predictions["logits"].values, numbers(features))


@dataclass(frozen=True, kw_only=True)
class Tacred(SpanRelations):
    """TACRED and Re-TACRED, scored without the relation `negative`."""

    name = "tacred"
    metric = "f1"
    max_seq_length = 184
    labels_may_differ = True
    sizes: ClassVar = {
        "TACRED": {"train": 68124, "dev": 22631, "test": 15509},
        "Re-TACRED": {"train": 58465, "dev": 19584, "test": 13418},
    }

    negative: str = "no_relation"
    """The relation that does not count in the scores; "": all count, and F1 is then the accuracy."""
    negative_sample: int = 0
    """Keep so many training examples of it, less one, as the original; 0 keeps all."""

    def __post_init__(self) -> None:
        if self.negative and self.negative not in self.labels:
            raise ValueError(
                f"--negative is {self.negative!r}, which is not among the {len(self.labels)} labels; name the one that "
                'stands for none, or give "" where every relation counts.'
            )

    @classmethod
    def own_labels(cls, folder: Path) -> Sequence[str]:
        return TACRED_LABELS

    def read(self, path: Path, split: str, on_error: OnError | None = None) -> Iterator[dict[str, Any]]:
        sample = self.negative_sample if split == "train" else 0
        own = self.labels == TACRED_LABELS  # whose order is the original's: no file's numbers are its
        options = {**self._reading(), "numbered": not own}
        return read_relations(path, self.labels, self.negative, sample, on_error, **options)

    def score(self, predictions: Predictions, features: Dataset) -> Scores:
        predicted = predictions["logits"].values.argmax(1)
        negative = self.labels.index(self.negative) if self.negative else None
        return tacred_scores(predicted, numbers(features), negative)


def read_relations(
    path: str | Path,
    labels: Sequence[str],
    negative: str = "",
    negative_sample: int = 0,
    on_error: Callable[[ValueError], None] | None = None,
    spans: str = "inclusive",
    original_spans: bool = False,
    numbered: bool = True,
) -> Iterator[dict[str, Any]]:
    """Checked examples of a trex-rc, TACRED or OpenNRE file; those whose mentions cross have a `fault`.

    Args:
        negative, negative_sample: keep the first `negative_sample - 1` examples of the relation `negative`, as
            the original does (utils_glue.py); 0 keeps all.
        on_error: as in `checked`.
        spans: whether ends belong to their mentions, "inclusive" or "exclusive"; OpenNRE's are exclusive by definition.
        original_spans: words that both mentions share stand in both pieces, as in the original.
        numbered: a relation may be the number of a label.

    Raises:
        ValueError: names file, record, value and mend.
    """
    exclusive = spans == "exclusive"

    def convert(record: dict[str, Any], where: str) -> list[dict[str, Any]]:
        found = relation_record(record, where, exclusive)
        return [named_relation(found, where, tuple(labels)) if numbered else found]

    options: dict[str, Any] = {"labels": frozenset(labels), "seen": {}, "exclusive": exclusive}
    check, negatives = partial(_check, **options, original=original_spans), 0
    for example in checked_rows(converted(read_rows(path, on_error), convert, on_error), check, on_error):
        negatives += example["relation"] == negative
        if not negative_sample or example["relation"] != negative or negatives < negative_sample:
            yield example


def _check(
    record: dict[str, Any],
    where: str,
    number: int,
    labels: frozenset[str],
    seen: dict[Any, int],
    exclusive: bool,
    original: bool,
) -> dict[str, Any]:
    check_keys(record, ("token", "relation", *SPAN_KEYS), where)
    check_unique(seen, record.get("id"), number, where)
    words, relation = record["token"], record["relation"]
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{where}: token is {shorten(words)}; give a list of words.")
    if not isinstance(relation, str):
        raise ValueError(f"{where}: relation is {shorten(relation)}; give the name of one.")
    if relation not in labels:
        raise ValueError(
            f"{where}: relation {relation!r} is not among the {len(labels)} labels; mend it or give the right --labels."
        )
    check_spans(record, where, exclusive)
    subject, object_ = mention_spans(record)
    crossing = not original and spans_cross(subject, object_)
    return {
        **(original_pieces(words, subject, object_) if original or crossing else five_pieces(words, subject, object_)),
        "relation": relation,
        "fault": CROSSING if crossing else "",
        "record": number,
    }


def _from_text(record: Mapping[str, Any], where: str, label: str) -> dict[str, Any]:
    check_keys(record, ("text", "subj", "obj"), where)
    text = text_of(record, ("text",), where)
    spans: list[Span] = []
    for name in ("subj", "obj"):
        given = record[name]
        start, end = map(whole, given) if isinstance(given, list | tuple) and len(given) == 2 else (None, None)
        if start is None or end is None or not 0 <= start < end <= len(text) or is_blank(text[start:end]):
            raise ValueError(
                f"{where}: {name} is {shorten(given)}; give [start, end) of a mention in the {len(text)} characters."
            )
        spans.append((start, end))
    if spans_cross(*spans):
        return {**original_pieces([text], (0, 1), (0, 1)), "relation": label, "fault": CROSSING, "record": 0}
    return {**five_pieces(text, *spans), "relation": label, "fault": "", "record": 0}
