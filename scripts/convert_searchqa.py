"""Turn SearchQA as released into the files of the OpenQA reader: {train,dev,test}.txt and .json.

    python scripts/convert_searchqa.py --input SearchQA/data_json --output_dir data/searchqa
    python scripts/convert_searchqa.py --input jeopardy/030000-49999 --split train --output_dir data/searchqa

--input is a folder of JSON files, one a question, of zip archives (train.zip, val.zip, test.zip) or of both, or one
archive; archives are read in place. A folder or archive named train, val (or dev, valid, validation) or test tells the
split of all that is in it; --split tells that of other files. Questions without paragraphs, answer or text are left
out, in train also those whose answer stands in no paragraph; what is left out is counted by reason. Killed and started
again, it goes on with the parts that are left. The same input gives the same bytes, wherever and by how many workers
it is converted.
"""

from __future__ import annotations

from collections.abc import Sequence

from kadapter.console import Parser, absolute, run
from kadapter.data.executors import add_worker_flags
from kadapter.data.openqa_parts import SPLITS, convert, print_counts
from kadapter.data.searchqa import find_sources, pieces, read_questions


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--input", type=absolute, required=True, help="folder of JSON files or zips, or one zip")
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder to write")
    parser.add_argument(
        "--split", choices=SPLITS, default="", help="split of files whose folder or archive does not tell it"
    )
    add_worker_flags(parser)
    args = parser.parse_args(argv)
    sources = find_sources(args.input)
    work = pieces(args.input, sources, args.split)
    origin = ["searchqa", args.split, sources]
    counts = convert(work, read_questions, args.output_dir, origin, args.workers, args.cluster, args.input)
    print_counts(counts)


if __name__ == "__main__":
    run(main)
