"""Make find_head records for the dependency (linguistic) adapter from CoNLL-U treebanks.

    python scripts/create_dependency_dataset.py --input train.conllu [more.conllu ...] \
        --output data/find_head/train.json [--format json|jsonl] [--max_words N]

Sentences that cannot be used are dropped: the first of each kind is shown on stderr, and the counts
by reason are printed at the end. The output appears only once it is complete.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kadapter.data.conllu import Sentence, SentenceError, read_conllu, to_find_head
from kadapter.data.jsonio import write_json_list, write_jsonl


class Conversion:
    """Streams records out of treebanks and counts what was kept and dropped on the way."""

    def __init__(self, inputs: Sequence[Path], max_words: int | None = None) -> None:
        self.inputs = inputs
        self.max_words = max_words
        self.kept = 0
        self.dropped: Counter[str] = Counter()

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the find_head records of all inputs; raises ValueError where none is left."""
        # disable=None: a bar on a terminal only, so that logs stay readable.
        with tqdm(unit=" sentences", disable=None) as bar:
            for path in self.inputs:
                for sentence in read_conllu(path, on_error=self._drop):
                    bar.update()
                    if self._is_too_long(path, sentence):
                        continue
                    self.kept += 1
                    yield to_find_head(sentence)
        if not self.kept:
            raise ValueError(f"no sentence could be used, so nothing is written ({self.summary()}).")

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
        return f"read {self.kept + total}, kept {self.kept}, dropped {total}" + (f" ({reasons})" if reasons else "")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--input", type=Path, nargs="+", required=True, help="CoNLL-U files")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--format", choices=("json", "jsonl"), default="json", help="one JSON list, or one record a line"
    )
    parser.add_argument("--max_words", type=_positive, help="drop sentences with more words than this")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Convert the files named on the command line; leaves with one sentence on a bad input."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.output.resolve() in [path.resolve() for path in args.input]:
        parser.error(f"--output {args.output} is also an --input; give another name.")
    conversion = Conversion(args.input, args.max_words)
    write = write_json_list if args.format == "json" else write_jsonl
    try:
        write(args.output, conversion.records())
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"{args.output}: {conversion.summary()}")


if __name__ == "__main__":
    main()
