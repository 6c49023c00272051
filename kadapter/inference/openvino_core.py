"""One OpenVINO core in a process, and the memory on which signals are handled."""

import contextlib
import ctypes
import functools
import gc
import sys
from collections.abc import Iterator
from typing import Any


@functools.cache
def openvino_core() -> Any:
    """The one core of this process, never given back.

    Each core loads OpenVINO's CPU plugin, which gives the thread another stack to handle signals on, and puts the
    stack of before back when it goes. Two plugins that do not go in the opposite order of their coming leave the
    thread with the freed stack of the other one, and the next signal (a SIGTERM that asks a training run to save)
    ends the process with a segmentation fault.
    """
    import openvino

    return openvino.Core()


class _Stack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("bytes", ctypes.c_size_t)]


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Around code that makes cores of its own (NNCF does): signals are handled afterwards where they were before."""
    if sys.platform != "linux":
        yield
        return
    library, before = ctypes.CDLL(None), _Stack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        gc.collect()  # what the cores leave goes before the stack is put back
        library.sigaltstack(ctypes.byref(before), None)
