"""Turn SemEval-2010 Task 8 as released into data/semeval2010_task8.

    python scripts/convert_semeval.py --input SemEval2010_task8_all_data.zip --output_dir data/semeval2010_task8
    python scripts/convert_semeval.py --input SemEval2010_task8_all_data --output_dir ... --dev_fraction 0.1 --seed 42

--input is the folder or the archive as downloaded, which is read in place. TRAIN_FILE.TXT and TEST_FILE_FULL.TXT in it
become train.txt and test.txt, each example checked by the recipe's reader. With --dev_fraction a part of train.txt, the
one that the recipe would hold out itself with that share and seed, becomes dev.txt.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kadapter.console import SEED, SHARE, Parser, absolute, run
from kadapter.data.jsonio import read_lines
from kadapter.storage.files import atomic_files, atomic_writer
from kadapter.storage.reading import zip_members
from kadapter.tasks.semeval import LABELS, read_semeval


def find_file(source: Path, name: str) -> Any:
    """The one file of that name in a folder or archive.

    Raises:
        FileNotFoundError, ValueError: source is neither, or holds no such file, or several.
    """
    if source.is_dir():
        found: list[Any] = sorted(source.rglob(name))
    elif zipfile.is_zipfile(source):
        members = [info.filename for info in zip_members(source) if info.filename.rsplit("/", 1)[-1] == name]
        found = [zipfile.Path(source, member) for member in members]
    else:
        raise FileNotFoundError(f"{source} is neither a folder nor a zip archive; give the task's release.")
    if len(found) != 1:
        raise ValueError(f"{source} holds {len(found)} files named {name}; give the task's release, with one.")
    return found[0]


def write_examples(source: Any, examples: Sequence[dict[str, Any]], target: Path) -> None:
    """The lines of the examples, in the form of the release, a blank line after each."""
    lines = [line for _, line in read_lines(source)]
    with atomic_writer(target) as file:
        for example in examples:
            for line in lines[example["record"] - 1 :]:
                if not line.strip():
                    break
                file.write(f"{line}\n")
            file.write("\n")


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--input", type=absolute, required=True, help="folder or zip archive of the release")
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder to write")
    parser.add_argument(
        "--dev_fraction", type=SHARE, help="share of the training examples that goes to dev.txt; default: none"
    )
    parser.add_argument("--seed", type=SEED, default=42, help="seed of the choice of dev.txt")
    args = parser.parse_args(argv)
    train, test = (find_file(args.input, name) for name in ("TRAIN_FILE.TXT", "TEST_FILE_FULL.TXT"))
    parts = {"train": (train, "train"), "dev": (train, "dev"), "test": (test, "all")}
    if args.dev_fraction is None:
        del parts["dev"]
        if (args.output_dir / "dev.txt").exists():
            raise ValueError(f"{args.output_dir / 'dev.txt'} is part of train.txt; remove it or give --dev_fraction.")
    read = {
        split: list(read_semeval(source, LABELS, part, args.dev_fraction or 0.0, args.seed))
        for split, (source, part) in parts.items()
    }
    if not all(read.values()):
        raise ValueError(f"--dev_fraction {args.dev_fraction} leaves train or dev empty; give another.")
    with atomic_files() as temporary:
        for split, examples in read.items():
            write_examples(parts[split][0], examples, temporary(args.output_dir / f"{split}.txt"))
    for split, examples in read.items():
        relations = len({example["relation"] for example in examples})
        print(f"{args.output_dir / f'{split}.txt'}: {len(examples):,} examples, {relations} relations")


if __name__ == "__main__":
    run(main)
