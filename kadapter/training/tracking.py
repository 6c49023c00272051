"""What a run leaves on disk: args.json, results.jsonl, metrics.json, predictions, TensorBoard events.

Only the main process writes. Results of steps beyond the checkpoint that a run resumes from are cut off, so that
every line stands for the model that the run ends with.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from tensorboardX import SummaryWriter

from kadapter.data.jsonio import write_json, write_jsonl
from kadapter.storage.errors import writing
from kadapter.storage.files import append_line
from kadapter.storage.locks import exclusive
from kadapter.storage.runs import ARGUMENTS, METRICS, RESULTS, read_metrics, read_record, read_results
from kadapter.training.arguments import TrainingArguments

logger = logging.getLogger(__name__)

# Arguments that may differ when a run resumes, since its weights do not depend on them.
HARMLESS = {
    "overwrite_output_dir",
    "overwrite_cache",
    "restore",
    "do_train",
    "do_eval",
    "prepare_only",
    "logging_steps",
    "save_steps",
    "eval_steps",
    "max_save_checkpoints",
    "per_gpu_eval_batch_size",
    "preprocessing_num_workers",
    "cluster",
    "features_cache",
    "cache_dir",
    "cache_states",  # with 16 bits, which change results, --cache_dtype differs too
    "cache_max_gb",
    "dataloader_num_workers",
    "output_dir",
    "together",
    "patience",
    "evaluate_during_training",
    # what is only written at the end
    "do_test",
    "do_predict",
    "print_error_analysis",
    "report_per_class",
}


def run_name(args: TrainingArguments, max_seq_length: int, adapters: str) -> str:
    """The original's pattern, with the adapters and the seed, so that no two settings share a folder."""
    parts = [
        args.task_name,
        f"batch-{args.per_gpu_train_batch_size}",
        f"lr-{args.learning_rate}",
        f"warmup-{args.warmup_proportion or args.warmup_steps}",
        f"maxlen-{max_seq_length}",
        f"seed-{args.seed}",
        f"order-{args.data_seed}" if args.data_seed != args.seed else "",
        adapters,
        args.comment,
    ]
    return "_".join(part for part in parts if part)


class Run:
    """A run's folder, which is its alone until it is closed or the process ends, and what went into the run.

        with Run(accelerator, folder, arguments, content, batch_size) as run:
            ...

    Args:
        accelerator: tells which process writes.
        folder: `<output_dir>/<run name>`.
        arguments: flag -> value, kept in args.json.
        content: what the run is made of beside its arguments -> digest: data, labels, adapters, backbone.
        batch_size: examples a step; a run that goes on keeps the one that it began with.

    Raises:
        ValueError: the folder holds a run with other arguments or of other content, or is a file.
        BlockingIOError: another process writes there; nothing in the folder is touched.
        SystemExit: the same, in a process that is not the main one.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        folder: str | Path,
        arguments: Mapping[str, Any],
        content: Mapping[str, str],
        batch_size: int,
    ):
        self.accelerator, self.folder = accelerator, Path(folder)
        self.arguments, self.content, self.batch_size = dict(arguments), dict(content), batch_size
        self.writer: SummaryWriter | None = None
        self._lock = ExitStack()
        failure: Exception | None = None
        if accelerator.is_main_process:
            try:
                self._prepare()
            except Exception as error:
                failure = error
                self._lock.close()
        shared = [failure is not None, self.batch_size]
        if accelerator.num_processes > 1:
            broadcast_object_list(shared)
        if failure is not None:
            raise failure
        if shared[0]:  # the main process tells why
            raise SystemExit(1)
        self.batch_size = int(shared[1])

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _prepare(self) -> None:
        for place in (self.folder, *self.folder.parents):
            if place.is_file():
                raise ValueError(f"{place} is a file, and the run's folder would be {self.folder}; move it away.")
        self._lock.enter_context(exclusive(self.folder, "give another --comment or --output_dir"))
        if self.arguments["overwrite_output_dir"] or not self.arguments["restore"]:
            shutil.rmtree(self.folder, ignore_errors=True)
        with writing(self.folder, "the run"):
            self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(".checkpoint-*.tmp"):
            shutil.rmtree(leftover)
        path = self.folder / ARGUMENTS
        if path.is_file():
            self._take_up(read_record(self.folder))
        write_json(
            path,
            {
                "arguments": self.arguments,
                "content": self.content,
                "batch_size": self.batch_size,
                "versions": _versions(),
                "commit": _commit(),
                "command": sys.argv,
                "processes": self.accelerator.num_processes,
            },
        )

    def _take_up(self, record: Mapping[str, Any]) -> None:
        """Refuse to go on with another run; `record` is what args.json holds."""
        before, content = record["arguments"], record.get("content", {})
        changed = [
            f"{key} was {before[key]!r}, is {value!r}"
            for key, value in self.arguments.items()
            if key in before and before[key] != value and key not in HARMLESS
        ]
        if changed:
            raise ValueError(
                f"{self.folder} holds a run with other arguments ({'; '.join(changed)}); give another "
                "--comment, or --overwrite_output_dir to start it anew."
            )
        other = [name for name, digest in self.content.items() if content.get(name, digest) != digest]
        if other:
            raise ValueError(
                f"{self.folder} holds a run of other content: {', '.join(other)} changed since it began "
                f"(--data_dir is {self.arguments['data_dir']}); give another --comment to train anew beside it, or "
                "--overwrite_output_dir to start it anew."
            )
        self.content = {**content, **self.content}
        sizes = ("per_gpu_train_batch_size", "gradient_accumulation_steps")
        began_with = math.prod(before[name] for name in sizes) * record.get("processes", 1)
        self.batch_size = record.get("batch_size", began_with)

    def resume_at(self, step: int) -> None:
        """Forget the results of later steps and of the end, and open the event file."""
        if not self.accelerator.is_main_process:
            return
        path = self.folder / RESULTS
        if path.is_file():
            rows = read_results(self.folder)
            write_jsonl(path, [row for row in rows if row["global_step"] <= step and row["split"] == "dev"])
        with writing(self.folder, "TensorBoard's events"):
            # Without a bound on its queue: else a step would wait for ever once the thread that empties it has died.
            self.writer = SummaryWriter(str(self.folder), purge_step=step or None, max_queue=0, flush_secs=30)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self.writer is not None:
            if _is_dead(self.writer):
                _abandon(self.writer)
                self.writer = None
                logger.error("%s: TensorBoard's events end at step %d, see the error above.", self.folder, step)
                return
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def result(self, split: str, step: int, epoch: float, metrics: Mapping[str, float], seconds: float) -> None:
        """One line of results.jsonl, and the same for TensorBoard."""
        self.scalars(step, {f"{split}/{name}": value for name, value in metrics.items()})
        shown = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        logger.info("%s after step %d: %s", split, step, shown)
        if self.accelerator.is_main_process:
            row = {
                "split": split,
                "global_step": step,
                "epoch": round(epoch, 4),
                "metrics": dict(metrics),
                "seconds": round(seconds, 3),
            }
            append_line(self.folder / RESULTS, json.dumps(row, allow_nan=False), "a result")

    def predictions(self, split: str, rows: Iterable[Mapping[str, Any]]) -> None:
        if self.accelerator.is_main_process:
            write_jsonl(self.folder / f"predictions_{split}.jsonl", rows)

    def metrics(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """metrics.json, whose presence says that the run is complete; what it holds.

        What another call found stays: an evaluation alone does not know what training took.
        """
        before = read_metrics(self.folder)
        self.accelerator.wait_for_everyone()  # all have read it
        if self.accelerator.is_main_process:
            write_json(self.folder / METRICS, {**before, **metrics})
        return {**before, **metrics}

    def close(self) -> None:
        """Let others have the folder; may be called again."""
        writer, self.writer = self.writer, None
        try:
            if writer is not None:
                writer.close()
        except OSError as error:  # no reason to lose the run, or to hide what ended it
            _abandon(writer)
            logger.error("%s: TensorBoard's last events are lost (%s).", self.folder, error)
        finally:
            self._lock.close()


def _is_dead(writer: SummaryWriter) -> bool:
    """Whether the thread that writes its events has died, which a full disk does to it."""
    return not writer.file_writer.event_writer._worker.is_alive()


def _abandon(writer: SummaryWriter) -> None:
    """Let nothing wait for events that nobody writes any more, not even the end of the process."""
    events = writer.file_writer.event_writer
    events._event_queue.cancel_join_thread()
    events._closed = True


def _versions() -> dict[str, str]:
    names = ("torch", "transformers", "accelerate", "datasets", "numpy")
    return {"python": sys.version.split()[0], **{name: version(name) for name in names}}


def _commit() -> str | None:
    """The commit of the code that runs, where it is a git checkout."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
