"""Check a task's data folder before a run: every record, labels, repeats between splits, sizes, lengths.

    python scripts/check_data.py openentity data/OpenEntity
    python scripts/check_data.py fac data/trex-rc --tokenizer roberta-large --plot lengths.png

TASK is fac (relations, T-REx), lin (dependency heads), et (entity types, T-REx), mlm (plain text), openentity, figer,
tacred, semeval, cosmosqa, searchqa, quasart, squad, classification and tagging (your own), or a task of GLUE: CoLA,
SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE, WNLI. Bad records are listed, and the exit code is 1 where there are any or a
split is missing. What is legal but should be known is said below the table, and some mentions of each split are shown
between the markers that the model sees: fac and TACRED read their ends as inclusive, entity typing as exclusive, and
--spans says otherwise.
With --tokenizer, lengths in tokens, and how many examples --max_seq_length would cut.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kadapter.console import COUNT, Number, Parser, absolute, hub_or_path, run
from kadapter.data.spans import SPANS
from kadapter.pictures import COLUMN, PER_CENT, picture, scale
from kadapter.tasks import TASKS
from kadapter.tasks.check import SplitReport, check_folder, findings
from kadapter.training.flags import boolean

NUMBERED = Number(int, "-1 or [1, inf)")
# Options of tasks on one's own files: flag -> its type.
OWN: dict[str, Any] = {
    **dict.fromkeys(("text_column", "pair_column", "label_column", "problem_type", "label_separator"), str),
    **dict.fromkeys(("word_column", "tag_column"), NUMBERED),
    **dict.fromkeys(("num_paragraphs", "num_paragraphs_test"), COUNT),
    "regex_answers": boolean,
}
SHOWN = 20  # bad records of a file that are printed


def table(reports: Mapping[str, SplitReport], max_seq_length: int) -> str:
    """A row a split; the columns of lengths only where there are any."""
    head = ["split", "examples", "bad", "labels", "repeated"]
    rows = [
        [split, f"{r.examples:,}", f"{len(r.faults):,}", f"{len(r.labels):,}", f"{r.repeated:,}"]
        for split, r in reports.items()
    ]
    if any(report.lengths for report in reports.values()):
        head += ["tokens: mean", "median", "95 %", "longest", f"over {max_seq_length}"]
        for row, report in zip(rows, reports.values(), strict=True):
            lengths = np.asarray(report.lengths or [0])
            row += [f"{lengths.mean():.1f}", *(f"{np.percentile(lengths, part):.0f}" for part in (50, 95, 100))]
            row.append(f"{report.share_longer(max_seq_length):.1%}")
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]
    )


def plot(reports: Mapping[str, SplitReport], max_seq_length: int, path: Path) -> None:
    """Histogram of lengths in tokens, a line for each split, as shares of the split."""
    with picture(path, COLUMN, 2.5) as (figure, panels):
        axes = panels[0, 0]
        longest = max(max(report.lengths, default=1) for report in reports.values())
        width = -(-longest // 60)  # whole tokens
        bins = np.arange(0.5, longest + width + 0.5, width)
        highest = [0.0]
        for (split, report), look in zip(reports.items(), ("-", "--", ":", "-."), strict=False):
            if report.lengths:
                shares = np.full(len(report.lengths), 100 / len(report.lengths))
                lengths = np.asarray(report.lengths)
                found, _, _ = axes.hist(lengths, bins.tolist(), weights=shares, histtype="step", label=split, ls=look)
                highest += found.tolist()
        axes.axvline(max_seq_length, color="black", linewidth=1, label="max_seq_length")
        scale(axes, "y", f"share of the split, {PER_CENT}", highest)
        axes.set(xlabel="length, tokens", xlim=(0, None))
        figure.legend(loc="outside upper center", ncols=4)


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("task", choices=TASKS, metavar="TASK", help="the task, by its name as above")
    parser.add_argument("folder", type=absolute, metavar="DIR", help="the folder of its data")
    group = parser.add_argument_group("how the data are read")
    group.add_argument(
        "--labels", type=absolute, help="JSON file of labels, where they are not the task's own (Re-TACRED)"
    )
    group.add_argument(
        "--spans", choices=SPANS, help="whether the ends of mentions count in; default: as the task's own files"
    )
    for name, kind in OWN.items():
        group.add_argument(f"--{name}", type=kind, help="as in the recipe")
    group = parser.add_argument_group("lengths in tokens")
    group.add_argument(
        "--tokenizer", type=hub_or_path, help="folder or hub name of the tokenizer, to measure lengths in tokens"
    )
    group.add_argument(
        "--max_seq_length", type=COUNT, help="tokens after which an input would be cut; default: the recipe's"
    )
    group.add_argument(
        "--plot", type=absolute, help="histogram of the lengths to write, as PNG and PDF; needs --tokenizer"
    )
    args = parser.parse_args(argv)
    if args.plot and not args.tokenizer:
        parser.error("--plot shows lengths in tokens; give --tokenizer too.")
    if args.spans and "spans" not in TASKS[args.task].__dataclass_fields__:
        parser.error(f"--spans is not for {args.task}, whose files have no ends of mentions; leave it out.")
    options = {name: value for name in ("spans", *OWN) if (value := getattr(args, name)) is not None}
    if unknown := [name for name in options if name not in TASKS[args.task].__dataclass_fields__]:
        parser.error(f"--{unknown[0]} is not for {args.task}; leave it out.")
    task = TASKS[args.task].for_folder(args.folder, args.labels or "", **options)
    tokenizer = None
    if args.tokenizer:
        from kadapter.storage.pretrained import read_tokenizer  # here: it imports transformers

        tokenizer = read_tokenizer(args.tokenizer)
    reports = check_folder(task, args.folder, tokenizer)
    size = args.max_seq_length or task.max_seq_length
    print(table(reports, size))
    for finding in findings(task, reports, size):
        print(f"note: {finding}")
    for split, report in reports.items():
        for number, text in report.marked:
            print(f"{split}, record {number}: {text}")
    for report in reports.values():
        for fault in report.faults[:SHOWN]:
            print(f"error: {fault}")
        if len(report.faults) > SHOWN:
            print(f"error: {report.path}: {len(report.faults) - SHOWN:,} more bad records.")
    if args.plot:
        plot(reports, size, args.plot)
    if any(report.faults for report in reports.values()):
        sys.exit(1)


if __name__ == "__main__":
    run(main)
