"""Several runs in one process, which take turns: one of them runs at a time, and the one furthest behind goes next.

Each has a thread of its own, so that it goes through the same functions as a run that is alone, and random states of
its own, so that it draws what it would draw alone.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Lockstep:
    """Runs jobs in turn, once.

    A job gives the others their turn where it calls `wait`, and nowhere else. Which of them goes next depends on these
    calls alone, so it is the same in all processes of a distributed run.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: dict[str, tuple[int, int, int]] = {}  # job -> step, whether it evaluates, number of the call
        self._steps: dict[str, int] = {}  # job -> its last step
        self._current = ""
        self._calls = 0

    def wait(self, step: int | None) -> None:
        """Let those go first that are behind, or as far and came earlier.

        Args:
            step: the training step that follows, counted from 0; None where the job evaluates after its last one.
        """
        name = threading.current_thread().name
        with self._condition:
            if step is not None:
                self._steps[name] = step
            self._line_up(name, evaluates=step is None)
            self._next()
            if self._current != name:
                states = _random_states()
                self._condition.wait_for(lambda: self._current == name)
                _set_random_states(*states)

    def _line_up(self, name: str, evaluates: bool) -> None:
        self._calls += 1
        self._waiting[name] = self._steps.get(name, -1), int(evaluates), self._calls

    def _next(self) -> None:
        self._current = min(self._waiting, key=self._waiting.__getitem__, default="")
        self._waiting.pop(self._current, None)
        self._condition.notify_all()

    def run(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """What each job returns; "setting 1" and so on stand before what they log.

        Where one fails the others go on.

        Raises:
            BaseException: the first of the jobs' own, at the end; SystemExit before others.
        """
        results: dict[str, T] = {}
        errors: list[BaseException] = []
        named = {f"setting {number}": job for number, job in enumerate(jobs, 1)}
        states, device = _random_states(), torch.cuda.current_device() if torch.cuda.is_available() else None

        def work(name: str) -> None:
            with self._condition:
                self._condition.wait_for(lambda: self._current == name)
            try:
                if device is not None:
                    torch.cuda.set_device(device)  # which is a thread's own
                _set_random_states(*states)
                results[name] = named[name]()
            except BaseException as error:
                errors.append(error)
                if not isinstance(error, SystemExit):
                    logger.error("this run ends by an error, the others go on: %s", error)
            finally:
                with self._condition:
                    self._next()

        with self._condition:
            for name in named:
                self._line_up(name, evaluates=False)
            self._next()
        threads = [threading.Thread(target=work, args=(name,), name=name, daemon=True) for name in named]
        with _named_in_logs(set(named)):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()  # which a second Ctrl-C ends
        for error in sorted(errors, key=lambda error: not isinstance(error, SystemExit)):
            raise error
        return [results[name] for name in named]


def _random_states() -> tuple[Any, ...]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda


def _set_random_states(python: Any, numpy: Any, cpu: torch.Tensor, cuda: Any) -> None:
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if cuda is not None:
        torch.cuda.set_rng_state_all(cuda)


@contextmanager
def _named_in_logs(threads: set[str]) -> Iterator[None]:
    """Put the name of such a thread before what it logs."""

    def name(record: logging.LogRecord) -> bool:
        if record.threadName in threads:
            record.msg = f"[{record.threadName}] {record.msg}"
            record.threadName = None
        return True

    handlers = logging.getLogger().handlers[:]
    for handler in handlers:
        handler.addFilter(name)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(name)
