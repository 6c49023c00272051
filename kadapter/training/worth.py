"""`--cache_states auto`: states are kept where that takes less time than computing them again.

By how much time the first batches take for either, how often the run goes through its data, and what the disk holds.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, send_to_device
from datasets import Dataset

from kadapter import system
from kadapter.data.features import default_cache
from kadapter.models.task_model import TaskModel
from kadapter.storage.errors import free_bytes, shown_bytes
from kadapter.training.arguments import Arguments, TrainingArguments
from kadapter.training.batches import Feed, order_batches
from kadapter.training.states import INPUTS, SplitStates, check_cacheable, open_states
from kadapter.training.tracking import Run

logger = logging.getLogger(__name__)

BATCHES = 4  # that are measured, after one that only warms up


def open_if_worth(
    run: Run, model: TaskModel, feed: Feed, features: Mapping[str, Dataset], args: Arguments
) -> dict[str, SplitStates]:
    """The stores of these splits, beside those of features; none where keeping states does not pay, which is said.

    Args:
        feed: how batches are made of features, with those of train, where that is trained on.
    """
    folder = Path(args.data.features_cache or default_cache()) / "states"
    stores: dict[str, SplitStates] = {}
    try:
        check_cacheable(args)
        stores = open_states(replace(args.data, cache_states=str(folder)), model, features, run.accelerator)
    except ValueError as error:
        logger.info("--cache_states auto keeps nothing: %s", error)
    worth = [bool(stores) and run.accelerator.is_main_process and _is_worth(run, model, feed, features, args, stores)]
    if run.accelerator.num_processes > 1:
        broadcast_object_list(worth)
    return stores if worth[0] else {}


def passes(args: TrainingArguments, examples: int, batch_size: int) -> dict[str, float]:
    """How often a run goes through train, through dev, and through other splits (`""`)."""
    steps = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * examples / batch_size)
    often = math.ceil(steps / args.eval_steps) if args.eval_steps else 1  # the last step evaluates too
    trained = float(args.do_train)
    evaluations = trained * often * args.evaluate_during_training
    return {
        "train": trained * steps * batch_size / max(1, examples),
        "dev": evaluations + args.do_eval,
        "": float(args.do_eval),
    }


def _is_worth(
    run: Run,
    model: TaskModel,
    feed: Feed,
    features: Mapping[str, Dataset],
    args: Arguments,
    stores: Mapping[str, SplitStates],
) -> bool:
    """Whether keeping takes less time over all passes; says by which numbers."""
    split = max(stores, key=lambda name: len(features[name]))
    own = replace(feed, features=features[split])
    seconds = measured(run, model, own, stores[split], args.training)
    often = passes(args.training, len(feed.features), run.batch_size)
    without, within, counts = 0.0, 0.0, []
    for name, states in stores.items():
        count, lengths = often.get(name, often[""]), states.lengths
        place = np.arange(len(lengths)) < states.stored
        # What is kept is computed and written once, in the first pass, and read in the others.
        missing = min(count, 1) * lengths[place & ~states.there()].sum()
        computed = count * lengths[~place].sum() + missing
        without += count * lengths.sum() * seconds["computing"]
        within += computed * seconds["computing"] + missing * seconds["writing"]
        within += (count * lengths[place].sum() - missing) * seconds["reading"]
        counts.append(f"{name} {lengths.sum():,} tokens, {count:.3g} times")
    worth = bool(within < without)
    folder = next(iter(stores[split].files.values())).path.parents[1]
    logger.info(
        "--cache_states auto: a token takes %s; %s; states of %s, %s free in %s. That is %.1f s without keeping states "
        "and %.1f s with it: they are %s.",
        ", ".join(f"{1e6 * value:,.2f} µs {name}" for name, value in seconds.items()),
        "; ".join(counts),
        shown_bytes(int(sum(states.sizes.sum() for states in stores.values()))),
        shown_bytes(free_bytes(folder)),
        folder,
        without,
        within,
        "kept" if worth else "not kept",
    )
    return worth


def measured(run: Run, model: TaskModel, feed: Feed, states: SplitStates, args: TrainingArguments) -> dict[str, float]:
    """Seconds a token of computing, writing and reading states, by the clock, over the first batches of training.

    They are read from the disk itself where all of them are more than half of the machine's memory.
    """
    lengths, size, seed = states.lengths_of_examples, args.per_gpu_train_batch_size, cast(int, args.data_seed)
    order = order_batches(lengths, size, seed, 0, feed.group_by_length)[: BATCHES + 1]
    memory = system.memory_bytes()
    cold = memory is None or states.sizes.sum() > memory / 2
    found, tokens = dict.fromkeys(("computing", "writing", "reading"), 0.0), 0
    for number, (indices, batch) in enumerate(zip(order, feed.batches(order), strict=True)):
        ready = send_to_device(batch, run.accelerator.device)
        inputs = {name: ready[name] for name in INPUTS if name in ready}
        times = [time.perf_counter()]
        with run.accelerator.autocast():
            computed = model.frozen_states(**inputs, taps=states.taps, layers=states.layers)
        if run.accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())
        rows = states.rows(indices.tolist())
        states.write(rows, {name: state.to(states.dtype) for name, state in computed.items()})
        times.append(time.perf_counter())
        for file in states.files.values() if cold else ():
            file.forget()
        began = time.perf_counter()
        states.read(indices.tolist(), batch)
        if number or len(order) == 1:
            spent = (times[1] - times[0], times[2] - times[1], time.perf_counter() - began)
            found = {name: value + more for (name, value), more in zip(found.items(), spent, strict=True)}
            tokens += int(states.lengths[rows].sum())
    return {name: value / tokens for name, value in found.items()}
