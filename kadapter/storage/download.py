"""Files from the network, whole or not at all, and archives unpacked without writing anywhere else.

A download goes into a hidden file beside its place and takes its name once it is complete and, where these are known,
of the right size and SHA-256. Killed or cut off, it goes on where it was, as far as the server can tell that its file
is still the same one.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from tqdm import tqdm

from kadapter.storage.errors import free_bytes, shown_bytes, writing
from kadapter.storage.files import atomic_folder, sync
from kadapter.storage.locks import exclusive_after_waiting
from kadapter.storage.reading import tar_files, wrong_download, zip_members

ATTEMPTS = 5  # after each that brought something the count begins anew
TIMEOUT = 60  # seconds without a byte
BLOCK = 1 << 20
_CUT_OFF = (ConnectionError, TimeoutError, http.client.HTTPException, urllib.error.URLError)


def fetch(url: str, path: Path, size: int | None = None, sha256: str | None = None) -> bool:
    """Bring a file from the network to `path`; false where it is there already.

    Args:
        size, sha256: what it must have, where that is known; a file that is there is compared with them too.

    Raises:
        ValueError: it is another file than that, a web page about it, or the address is none of http or https.
        ConnectionError: it cannot be had; what came so far is kept, and gone on with by the next call.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url}: only http and https addresses are fetched.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive_after_waiting(path):
        if path.is_file():
            _check(path, url, size, sha256, "move it away to fetch it anew")
            return False
        part, about = path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.part.json")
        with writing(path, "a download", size):
            _complete(url, part, about, sha256)
            try:
                _check(part, url, size, sha256, "nothing was kept; look at the source's page")
            except ValueError:
                part.unlink()
                raise
            finally:
                about.unlink(missing_ok=True)
            sync(part)
            os.replace(part, path)
        return True


def _check(path: Path, url: str, size: int | None, sha256: str | None, mend: str) -> None:
    if page := wrong_download(path):
        raise ValueError(f"{url} gave {page}; {mend}.")
    if size is not None and path.stat().st_size != size:
        raise ValueError(f"{path.name} of {url} has {path.stat().st_size:,} bytes instead of {size:,}; {mend}.")
    if sha256 is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise ValueError(f"{path.name} of {url} has the SHA-256 {found} instead of {sha256}; {mend}.")


def _complete(url: str, part: Path, about: Path, sha256: str | None) -> None:
    """Bring what is missing of a file, over several connections if need be."""
    left = ATTEMPTS
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            return _go_on(url, part, about, sha256)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise ConnectionError(
                    f"{url}: the server says {error.code} {error.reason}; look at the source's page."
                ) from None
            reason: object = f"{error.code} {error.reason}"
        except _CUT_OFF as error:
            reason = getattr(error, "reason", None) or error or type(error).__name__
        grown = part.is_file() and part.stat().st_size > before
        left = ATTEMPTS if grown else left - 1
        if not left:
            raise ConnectionError(
                f"{url} cannot be had ({reason}); is there a network? What came so far is kept: start again."
            )
        time.sleep(0 if grown else 2.0 ** (ATTEMPTS - left - 1) / 4)


def _go_on(url: str, part: Path, about: Path, sha256: str | None) -> None:
    """One connection: the rest of the file, or all of it where the server cannot tell that it is the same one."""
    headers, begin = {"User-Agent": "kadapter"}, 0
    told = _told(about)
    if part.is_file() and told.get("url") == url and (told.get("validator") or sha256):
        begin = part.stat().st_size
    if begin:
        headers["Range"] = f"bytes={begin}-"
        if told.get("validator"):
            headers["If-Range"] = told["validator"]
    with _opened(urllib.request.Request(url, headers=headers), begin) as response:
        if response is None:  # all was there
            return
        if response.status != 206:
            begin = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
            part.unlink(missing_ok=True)
            raise ConnectionError("the server sent another part than was asked for")
        etag = response.headers.get("ETag", "")
        validator = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
        about.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")
        length = response.headers.get("Content-Length")
        total = None if length is None else begin + int(length)
        _write(response, part, begin, total)
        if total is not None and part.stat().st_size < total:
            raise ConnectionError(f"the connection ended at {part.stat().st_size:,} of {total:,} bytes")


@contextmanager
def _opened(request: urllib.request.Request, begin: int) -> Iterator[Any]:
    """The response; None where the server says that nothing is left behind what is there."""
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # its scheme was looked at
            yield response
    except urllib.error.HTTPError as error:
        if error.code != 416 or not error.headers.get("Content-Range", "").endswith(f"/{begin}"):
            raise
        yield None


def _told(about: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = json.loads(about.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def _write(response: Any, part: Path, begin: int, total: int | None) -> None:
    bar = tqdm(total=total, initial=begin, unit="B", unit_scale=True, desc=part.name[1:-5], disable=None)
    with bar, part.open("r+b" if begin else "wb") as file:
        file.seek(begin)
        file.truncate()
        while block := response.read(BLOCK):
            file.write(block)
            bar.update(len(block))


# -- archives -----------------------------------------------------------------------------------------------------


def unpack(archive: Path, folder: Path, under: str = "", strip: int = 0) -> int:
    """Write the files of a zip or tar archive into `folder`, all or none; gives their number.

    Args:
        under: only those whose names begin so.
        strip: how many folders are taken off the beginning of each name.

    Raises:
        ValueError: the archive is damaged, or holds a link, a device, or a name that leads out of the folder; then
            nothing is written. So too where no name fits.
        OSError: the disk cannot hold it.
    """
    try:
        return _unpack(archive, folder, under, strip)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{archive} is damaged ({error}); fetch it again.") from error


def _unpack(archive: Path, folder: Path, under: str, strip: int) -> int:
    count, total = 0, 0
    with atomic_folder(folder, f"the files of {archive.name}") as place:
        for name, size, stream in _files(archive):
            target = _place(archive, name, under, strip)
            if target is None:
                continue
            total += size
            if size > free_bytes(place):
                raise OSError(f"{folder} has no room for {archive.name}, of which {shown_bytes(total)} were unpacked.")
            (place / target).parent.mkdir(parents=True, exist_ok=True)
            with (place / target).open("xb") as file:
                shutil.copyfileobj(stream, file)
            count += 1
        if not count:
            raise ValueError(f"{archive} holds no file{f' under {under}' if under else ''}; fetch it again.")
    return count


def _files(archive: Path) -> Iterator[tuple[str, int, BinaryIO]]:
    """Name, size and content of each file, in turn."""
    if zipfile.is_zipfile(archive):
        members = zip_members(archive)
        if odd := [m.filename for m in members if stat.S_ISLNK(m.external_attr >> 16)]:
            raise ValueError(f"{archive} holds the link {odd[0]!r}; nothing was unpacked.")
        with zipfile.ZipFile(archive) as opened:
            for member in members:
                if not member.is_dir():
                    with opened.open(member) as stream:
                        yield member.filename, member.file_size, stream  # type: ignore[misc]
    elif tarfile.is_tarfile(archive):
        for info, stream in tar_files(archive, only_files=True):
            yield info.name, info.size, stream
    else:
        raise ValueError(f"{archive} is neither a zip nor a tar archive; fetch it again.")


def _place(archive: Path, name: str, under: str, strip: int) -> Path | None:
    """Where a file of that name goes within the folder; None where it is not wanted."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        raise ValueError(f"{archive} holds the name {name!r}, which leads out of its folder; nothing was unpacked.")
    parts = path.parts[1:] if path.parts[:1] == (".",) else path.parts
    if not "/".join(parts).startswith(under) or len(parts) <= strip or "__MACOSX" in parts:
        return None
    return Path(*parts[strip:])
