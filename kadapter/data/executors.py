"""Where work on data is done: in this process, in several of this machine, or on a Dask cluster.

Work is a function of a module and arguments that can be pickled, and small: paths rather than what is in the files. The
results come in the order of the work, so that what is written does not depend on where it was done.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from kadapter.console import COUNT
from kadapter.system import end_with_parent

Work = TypeVar("Work")
Result = TypeVar("Result")

CLUSTER_HELP = "use the workers of this Dask scheduler, such as tcp://HOST:8786 (docs/data.md)"
CONNECT_SECONDS = 10  # a scheduler that is there answers at once; one on a busy machine takes some seconds


def add_worker_flags(parser: argparse.ArgumentParser, default: int | None = None) -> None:
    """--workers, by default one for each core, and --cluster, as `executor` takes them."""
    said = "one for each core" if default is None else default
    group = parser.add_argument_group("several processes or machines")
    group.add_argument(
        "--workers",
        type=COUNT,
        default=default or os.cpu_count(),
        help=f"processes that work at a time; default: {said}",
    )
    group.add_argument("--cluster", default="", metavar="ADDRESS", help=CLUSTER_HELP)


@contextmanager
def executor(workers: int, cluster: str = "", shared: Sequence[Path] = ()) -> Iterator[Executor | None]:
    """An executor of `concurrent.futures`; None, which means this process, for one worker and no cluster.

    Args:
        workers: processes of this machine; of a cluster all workers are used, and this is not looked at.
        cluster: address of a Dask scheduler; "" for none.
        shared: folders that each worker of the cluster reads or writes under the same name.

    Raises:
        ValueError: the extra is not installed, nobody answers there, no worker is there, a worker has another version
            of kadapter, or does not see one of the folders.
    """
    if cluster:
        with _cluster(cluster, shared) as pool:
            yield pool
    elif workers == 1:
        yield None
    else:
        # Not forked: a fork of a process with threads, such as a notebook's, may wait for a lock that nobody frees.
        context = multiprocessing.get_context("spawn")
        with (
            ProcessPoolExecutor(workers, context, initializer=end_with_parent) as pool,
            _cancelling(pool, cancel_futures=True),
        ):
            yield pool


@contextmanager
def _cancelling(pool: Executor, **how: Any) -> Iterator[None]:
    """Where something is wrong, what has not begun does not begin any more."""
    try:
        yield
    except BaseException:
        pool.shutdown(**how)
        raise


def in_order(
    pool: Executor | None, function: Callable[[Work], Result], work: Iterable[Work], ahead: int
) -> Iterator[Result]:
    """`function` of each piece of work, in its order.

    Args:
        ahead: how many pieces are handed out before the first of them is asked for, which bounds what is held.
    """
    if pool is None:
        yield from map(function, work)
        return
    waiting: deque[Any] = deque()
    for piece in work:
        waiting.append(pool.submit(function, piece))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def as_finished(
    pool: Executor | None, function: Callable[[Work], Result], work: Sequence[Work]
) -> Iterator[tuple[Work, Result]]:
    """Each piece of work with `function` of it, as soon as it is there; the shortest wait, but in no order."""
    if pool is None:
        yield from ((piece, function(piece)) for piece in work)
        return
    futures = {pool.submit(function, piece): piece for piece in work}
    for future in as_completed(futures):
        yield futures[future], future.result()


# -- Dask -------------------------------------------------------------------------------------------------------


@contextmanager
def _cluster(address: str, shared: Sequence[Path]) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError(f"--cluster needs Dask ({error}); run: pip install 'kadapter[cluster]'") from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:  # distributed's own TimeoutError is an OSError
        said = str(error) or type(error).__name__
        raise ValueError(
            f"--cluster is {address!r}, where no Dask scheduler answers ({said}); start one with: dask scheduler"
        ) from error
    with client:
        _check_workers(client, address, [str(folder) for folder in shared])
        with client.get_executor(pure=False) as pool, _cancelling(pool, wait=False):  # which cancels
            yield pool


def _check_workers(client: Any, address: str, shared: Sequence[str]) -> None:
    """Refuse a cluster that would fail late or, with other code, give other bytes."""
    try:
        found = client.run(_describe, shared)
    except ModuleNotFoundError as error:
        raise ValueError(f"a worker of {address} lacks kadapter ({error}); install the same version there.") from error
    if not found:
        raise ValueError(f"{address} has no workers; start some with: dask worker {address}")
    own = version("kadapter")
    for worker, (installed, missing) in sorted(found.items()):
        if installed != own:
            raise ValueError(
                f"the worker {worker} has kadapter {installed}, but here it is {own}; install the same version on both."
            )
        if missing:
            raise ValueError(f"the worker {worker} does not see {missing[0]}; give paths of storage that all share.")


def _describe(shared: Sequence[str]) -> tuple[str, list[str]]:
    """What a worker has: the version of kadapter, and which of the folders it does not see."""
    return version("kadapter"), [folder for folder in shared if not Path(folder).exists()]
