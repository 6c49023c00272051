"""SIGTERM and Ctrl-C: what a run does when it is to stop."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, Self

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)  # SIGINT is Ctrl-C
# Seconds within which a further SIGTERM is the same one: Slurm sends it to every process of a job, torchrun passes its
# own on to them, and one of these may take it for a second request to stop.
SAME = 10.0


class Interruption:
    """While it is entered, SIGTERM and Ctrl-C end the program with a line that says how to go on.

    Where the loop holds a signal back, it is only noted: the loop writes a checkpoint first. A second Ctrl-C, or a
    SIGTERM that comes more than ten seconds later, ends the program at once. Off the main thread, where Python hands
    out no signals, all stays as it was.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._first: float | None = None  # when this process got its first signal; `received` may be another's
        self._held = 0  # loops that hold signals back
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now, first = time.monotonic(), self._first
        if first is None:
            self._first = now
        elif number == signal.SIGTERM and now - first < SAME:
            return
        if not self._held or first is not None:
            self.stop(number, "the same command goes on from the last checkpoint")
        if self.received is None:
            self.received = number
            logger.warning("%s: the run stops soon, with a checkpoint", _name(number))

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """Only note the first signal; what came too late for the block to act on ends the program behind it."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self.received is not None:
            self.stop(self.received, "the same command goes on from here")

    @staticmethod
    def stop(number: int, how_to_go_on: str) -> NoReturn:
        """End with the exit code that shells give this signal: 143 for SIGTERM, 130 for Ctrl-C."""
        logger.warning("stopped by %s; %s", _name(number), how_to_go_on)
        raise SystemExit(128 + number)


def _name(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
