"""A file of blocks whose sizes are known, written in any order by any number of processes and read by their numbers.

Beside `<name>` lies `<name>.sums`: eight bytes for each block, 0 until the block is there, then 2^32 + its CRC-32. A
block counts once its sum agrees with it, so what a killed writer left unfinished, or a disk changed, is not taken for
one.
Places are fixed by the sizes alone; what is not written takes no room on file systems that know sparse files.
"""

from __future__ import annotations

import errno
import logging
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kadapter.storage.errors import writing
from kadapter.storage.locks import try_lock

logger = logging.getLogger(__name__)

_THERE = 1 << 32
_SUMS = np.dtype("<u8")


class Blocks:
    """Blocks of bytes.

    Args:
        path: the file; its folder is made if need be.
        sizes: [blocks] bytes of each. Whoever opens the same path must give the same sizes.
    """

    def __init__(self, path: Path, sizes: np.ndarray):
        self.path, self.sums_path = path, path.with_name(f"{path.name}.sums")
        self.offsets = np.zeros(len(sizes) + 1, dtype=np.int64)
        np.cumsum(sizes, out=self.offsets[1:])
        self.damaged = 0
        with writing(path, "cached states"):
            path.parent.mkdir(parents=True, exist_ok=True)
            for file, size in ((path, int(self.offsets[-1])), (self.sums_path, len(sizes) * _SUMS.itemsize)):
                with file.open("ab"):
                    if file.stat().st_size < size:  # new, or cut off: then its sums tell what is missing
                        os.truncate(file, size)
        self._opened: tuple[np.ndarray, np.ndarray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": None}  # a process that loads batches maps the files itself

    @property
    def _maps(self) -> tuple[np.ndarray, np.ndarray]:
        """Bytes of all blocks, and sums; both show what others write."""
        if self._opened is None:
            self._opened = _mapped(self.path, np.dtype(np.uint8)), _mapped(self.sums_path, _SUMS)
        return self._opened

    def forget(self) -> None:
        """Have what was written on the disk, and read it from there the next time where the system can do so."""
        self._opened = None
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)

    def there(self) -> np.ndarray:
        """[blocks] whether each has been written, by its sum alone."""
        return self._maps[1][: len(self.offsets) - 1] != 0

    def read(self, number: int) -> np.ndarray | None:
        """The bytes of a block, None where it is not there; a damaged one is none, which is said once."""
        data, sums = self._maps
        expected = int(sums[number])
        if not expected:
            return None
        block = np.array(data[self.offsets[number] : self.offsets[number + 1]])
        if _sum(block) == expected:
            return block
        if not self.damaged:
            logger.warning("%s: block %d is damaged; it is computed anew, as are others like it.", self.path, number)
        self.damaged += 1
        return None

    def write(self, blocks: Mapping[int, np.ndarray]) -> None:
        """Add the bytes of blocks by their numbers, but for those that are there and whole.

        Raises:
            WriteError: the disk is full or does not let us.
        """
        with (
            writing(self.path, "cached states", sum(block.nbytes for block in blocks.values())),
            _alone(self.path.with_name(".lock")),
            self.path.open("r+b", buffering=0) as file,
            self.sums_path.open("r+b", buffering=0) as sums,
        ):
            for number, block in blocks.items():
                begin, end = int(self.offsets[number]), int(self.offsets[number + 1])
                if block.nbytes != end - begin:
                    raise ValueError(f"{self.path}: block {number} has {block.nbytes} bytes, not {end - begin}.")
                if int(self._maps[1][number]) and _sum(self._maps[0][begin:end]) == int(self._maps[1][number]):
                    continue
                _put(file, begin, block.tobytes())
                _put(sums, number * _SUMS.itemsize, np.array(_sum(block), _SUMS).tobytes())


def _mapped(path: Path, dtype: np.dtype) -> np.ndarray:
    if not path.stat().st_size:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, mode="r")


def _sum(block: np.ndarray) -> int:
    return _THERE + zlib.crc32(block)  # type: ignore[arg-type]  # numpy's arrays are buffers


def _put(file: BinaryIO, offset: int, data: bytes) -> None:
    file.seek(offset)
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other writers out while the block runs, which it does for moments only."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        while try_lock(descriptor, warn_of=path) is False:
            time.sleep(0.001)
        yield
    finally:
        os.close(descriptor)
