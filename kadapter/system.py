"""What operating systems tell in different ways."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from typing import Any


def peak_memory_mib(usage: Any = None) -> int | None:
    """The most memory that a process has held, in MiB; None where the system does not tell (Windows).

    Args:
        usage: of another process, from `os.wait4`; None: this one.
    """
    if usage is None:
        try:
            import resource
        except ImportError:
            return None
        usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_maxrss >> (20 if sys.platform == "darwin" else 10)  # macOS counts bytes, others KiB


def memory_bytes() -> int | None:
    """The machine's memory; None where the system does not tell (Windows)."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def end_with_parent() -> None:
    """Let this worker die when its parent is killed: it must not write beside the next start."""

    def wait() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
