"""Make find_head records for the dependency (linguistic) adapter from CoNLL-U treebanks or from raw text.

    python scripts/create_dependency_dataset.py --input train.conllu [more.conllu ...] \\
        --output data/find_head/train.json [--format json|jsonl] [--max_words N]
    python scripts/create_dependency_dataset.py --input books.txt [more.txt ...] --parser spacy|stanza \\
        --output data/find_head/train.json --dev_output data/find_head/dev.json [--dev_fraction 0.1]
    python scripts/create_dependency_dataset.py --input train.conllu --tags deprel [--universal] \\
        --output data/deprel/train.jsonl --dev_output data/deprel/dev.jsonl --labels data/deprel/labels.json

Treebanks are CoNLL-U, CoNLL-X, CoNLL-2009, CoreNLP's seven columns, or CoNLL-U Plus such as .cupt, also with .gz or
.zst; the number of columns, or the names in # global.columns, tell which.

Raw text is one sentence or paragraph a line. It is parsed into data/find_head/train.conllu first; killed and started
again, parsing goes on with the batch that is due, and what is parsed already is not parsed again. The parsers' models
come by python -m spacy download en_core_web_sm or python -c "import stanza; stanza.download('en')": nothing is
downloaded here. A GPU is used where there is one. --workers parses in several processes, each with a parser of its
own, --cluster on the workers of a Dask cluster; the treebank does not depend on it.

With --tags the records are words with a tag each, for the tagging recipe, whose --labels is the file of that name here:
a small train file need not hold every tag of dev. With --shuffle_trees the heads mean nothing, for a control adapter.

Sentences that cannot be used are dropped: the first of each kind is shown on stderr, and the counts by reason are
printed at the end, with those of sentences that are kept although their text did not match their words. The output
appears only once it is complete.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kadapter.console import COUNT, SEED, SHARE, Parser, absolute, hub_or_path, run
from kadapter.data.cleaned import fraction
from kadapter.data.conllu import TAGS, Sentence, SentenceError, read_conllu, shuffle_tree, to_find_head, to_tagged
from kadapter.data.executors import add_worker_flags, executor
from kadapter.data.jsonio import write_json, write_json_list, write_jsonl
from kadapter.data.parsers import DEFAULT_MODELS, parser_of_workers
from kadapter.data.parsing import parse_text
from kadapter.storage.files import atomic_files
from kadapter.storage.locks import exclusive


class Conversion:
    """Streams records out of treebanks and counts what was kept and dropped on the way."""

    def __init__(
        self,
        inputs: Sequence[Path],
        max_words: int | None,
        record: Callable[[Sentence], dict[str, Any]],
        belongs: Callable[[Sentence], bool] | None = None,
    ) -> None:
        self.inputs = inputs
        self.max_words = max_words
        self.record = record
        self.belongs = belongs  # None: every sentence does
        self.kept = self.elsewhere = 0
        self.dropped: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()  # of those kept

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the records of all inputs; raises ValueError where none is left."""
        # disable=None: a bar on a terminal only, so that logs stay readable.
        with tqdm(unit=" sentences", disable=None) as bar:
            for path in self.inputs:
                for sentence in read_conllu(path, on_error=self._drop):
                    bar.update()
                    if self._is_too_long(path, sentence):
                        continue
                    if self.belongs is not None and not self.belongs(sentence):
                        self.elsewhere += 1
                        continue
                    try:
                        record = self.record(sentence)
                    except SentenceError as error:
                        self._drop(SentenceError(error.reason, f"{path}, {error}"))
                        continue
                    self.kept += 1
                    self.notes.update([sentence.note] * bool(sentence.note))
                    yield record
        if not self.kept:
            raise ValueError(
                f"no sentence could be used, so nothing is written ({self.summary()}); "
                "treebanks have 10 columns separated by tabs (CoreNLP's 7, CoNLL-2009 at least 14), raw text needs "
                "--parser, a small file a larger --dev_fraction."
            )

    def _is_too_long(self, path: Path, sentence: Sentence) -> bool:
        words = len(sentence.words)
        if self.max_words is None or words <= self.max_words:
            return False
        place = f"{path}, line {sentence.line}, sentence {sentence.sent_id!r}"
        self._drop(SentenceError("too long", f"{place}: {words} words, --max_words is {self.max_words}."))
        return True

    def _drop(self, error: SentenceError) -> None:
        if not self.dropped[error.reason]:
            tqdm.write(f"dropped: {error}", file=sys.stderr)
        self.dropped[error.reason] += 1

    def summary(self) -> str:
        """The counts in one line."""
        total = self.dropped.total()
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.dropped.items()))
        elsewhere = f", for the other file {self.elsewhere}" if self.belongs else ""
        notes = "".join(f"; {count} kept although {note}" for note, count in sorted(self.notes.items()))
        return f"read {self.kept + self.elsewhere + total}, kept {self.kept}{elsewhere}, dropped {total}" + (
            f" ({reasons}){notes}" if reasons else notes
        )


def _parser() -> Parser:
    parser = Parser(__doc__)
    group = parser.add_argument_group("what to read and write")
    group.add_argument("--input", type=absolute, nargs="+", required=True, help="treebanks, or text with --parser")
    group.add_argument("--output", type=absolute, required=True, help="file to write")
    group.add_argument(
        "--format", choices=("json", "jsonl"), default="json", help="json: one list; jsonl: a record in each line"
    )
    group.add_argument("--max_words", type=COUNT, help="drop sentences with more words than this")
    group.add_argument("--tags", choices=sorted(TAGS), help="write words with these tags, for the tagging recipe")
    group.add_argument("--universal", action="store_true", help="of tags such as nsubj:pass keep nsubj alone")
    group.add_argument("--labels", type=absolute, help="file for all tags of both outputs, the recipe's --labels")
    group.add_argument(
        "--shuffle_trees",
        action="store_true",
        help="put words at random on the nodes of their tree, for a control; --dev_output stays",
    )
    group = parser.add_argument_group("raw text")
    group.add_argument("--parser", choices=sorted(DEFAULT_MODELS), help="parser for --input, which is raw text then")
    group.add_argument(
        "--parser_model",
        type=hub_or_path,
        help="spaCy: name or folder of a pipeline, default en_core_web_sm; Stanza: language, default en "
        "(its folder: the variable STANZA_RESOURCES_DIR)",
    )
    group.add_argument("--parse_batch_size", type=COUNT, default=512, help="lines that are parsed at a time")
    group = parser.add_argument_group("a part for dev")
    group.add_argument(
        "--dev_output", type=absolute, help="file for a part of the sentences, as dev; equal ones stay together"
    )
    group.add_argument("--dev_fraction", type=SHARE, default=0.1, help="share of that part")
    group.add_argument("--seed", type=SEED, default=42, help="seed of the choice of that part")
    add_worker_flags(parser, default=1)
    return parser


def parse(args: argparse.Namespace, conllu: Path) -> None:
    """Write the treebank of the texts and print the counts."""
    with executor(args.workers, args.cluster) as pool:
        parser = parser_of_workers(pool, args.parser, args.parser_model, args.workers)
        counts = parse_text(args.input, conllu, parser, args.parse_batch_size)
    print(f"{conllu}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))


def convert(args: argparse.Namespace, inputs: Sequence[Path]) -> None:
    """Write the outputs together, each from a pass of its own over the treebanks, and print the counts."""

    def in_dev(sentence: Sentence) -> bool:
        return fraction(args.seed, sentence.text) < args.dev_fraction

    found = set[str]()

    def record(sentence: Sentence) -> dict[str, Any]:
        if not args.tags:
            return to_find_head(sentence)
        tagged = to_tagged(sentence, args.tags, args.universal)
        found.update(tagged["tags"])
        return tagged

    def shuffled(sentence: Sentence) -> dict[str, Any]:
        return to_find_head(shuffle_tree(sentence, args.seed))

    first = shuffled if args.shuffle_trees else record
    jobs = [(args.output, Conversion(inputs, args.max_words, first))]
    if args.dev_output:
        jobs = [
            (args.output, Conversion(inputs, args.max_words, first, lambda sentence: not in_dev(sentence))),
            (args.dev_output, Conversion(inputs, args.max_words, record, in_dev)),
        ]
    write = write_json_list if args.format == "json" else write_jsonl
    with atomic_files() as temporary:
        for path, conversion in jobs:
            write(temporary(path), conversion.records())
        if args.labels:
            write_json(temporary(args.labels), sorted(found))
    for path, conversion in jobs:
        print(f"{path}: {conversion.summary()}")


def main(argv: Sequence[str] | None = None) -> None:
    """Convert the files named on the command line; leaves with one sentence on a bad input."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.shuffle_trees and args.tags:
        parser.error("--shuffle_trees changes heads, which --tags does not write; leave one of them out.")
    if (args.universal or args.labels) and not args.tags:
        parser.error("--universal and --labels are for --tags; name the tags too, or leave them out.")
    if args.tags:
        args.format = "jsonl"
    conllu = args.output.with_suffix(".conllu")
    taken = {path.resolve() for path in args.input}
    for path in filter(None, (args.output, args.dev_output, args.labels, conllu if args.parser else None)):
        if path.resolve() in taken:
            parser.error(f"{path} would be written, but is also an --input or another output; give another name.")
        taken.add(path.resolve())
    with ExitStack() as stack:
        for path in filter(None, (args.output, args.dev_output, args.labels)):
            stack.enter_context(exclusive(path, "give another name"))
        if args.parser:
            parse(args, conllu)
        convert(args, [conllu] if args.parser else args.input)


if __name__ == "__main__":
    run(main)
