"""Turn Quasar-T as released into the files of the OpenQA reader: {train,dev,test}.txt and .json.

    python scripts/convert_quasart.py --input quasar-t --output_dir data/quasart
    python scripts/convert_quasart.py --input quasar-t --contexts long --output_dir data/quasart-long

--input holds questions/{train,dev,test}_questions.json.gz and contexts/{short,long}/{train,dev,test}_contexts.json.gz,
packed or not; of the splits, those that are there. Questions without paragraphs, answer or text are left out, in train
also those whose answer stands in no paragraph; what is left out is counted by reason. Killed and started again, it goes
on with the parts that are left. The same input gives the same bytes, wherever and by how many workers it is converted.
"""

from __future__ import annotations

from collections.abc import Sequence

from kadapter.console import Parser, absolute, run
from kadapter.data.executors import add_worker_flags
from kadapter.data.openqa_parts import convert, print_counts
from kadapter.data.quasart import LENGTHS, count_lost, find_files, pieces, read_questions


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--input", type=absolute, required=True, help="Quasar-T's folder")
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder to write")
    parser.add_argument("--contexts", choices=LENGTHS, default="short", help="short: sentences; long: passages")
    add_worker_flags(parser)
    args = parser.parse_args(argv)
    files = find_files(args.input, args.contexts)
    states = [path.stat() for pair in files.values() for path in pair]
    origin = ["quasart", args.contexts, [(state.st_size, state.st_mtime_ns) for state in states]]
    counts = convert(pieces(files), read_questions, args.output_dir, origin, args.workers, args.cluster, args.input)
    count_lost(files, counts)
    print_counts(counts)


if __name__ == "__main__":
    run(main)
