"""Downloads that go on and are whole or not there, archives that stay within their folder; from a local server."""

import gzip
import hashlib
import io
import json
import tarfile
import zipfile

import pytest
from served import CONTENT, a_server  # noqa: F401

from kadapter.storage import download
from kadapter.storage.download import fetch, unpack

DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)


def test_a_file_arrives_whole_once_and_is_not_fetched_again(server, tmp_path):
    assert fetch(server.url("a.bin"), tmp_path / "new" / "a.bin", len(CONTENT), DIGEST)
    assert (tmp_path / "new" / "a.bin").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir() if not path.name.endswith(".lock")] == ["a.bin"]
    assert not fetch(server.url("a.bin"), tmp_path / "new" / "a.bin", len(CONTENT), DIGEST)
    assert len(server.asked) == 1


def test_a_connection_that_ends_early_is_gone_on_with(server, tmp_path):
    server.cut = 4000
    fetch(server.url("a.bin"), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=4000-", "bytes=8000-"]


def test_what_a_killed_call_left_is_gone_on_with_if_it_is_still_the_same_file(server, tmp_path):
    def left_behind(etag):
        (tmp_path / ".a.bin.part").write_bytes(CONTENT[:5000])
        (tmp_path / ".a.bin.part.json").write_text(json.dumps({"url": server.url("a.bin"), "validator": etag}))

    left_behind('"1"')
    fetch(server.url("a.bin"), tmp_path / "a.bin")
    assert server.asked == ["bytes=5000-"]
    (tmp_path / "a.bin").unlink()
    server.files["/a.bin"], server.etag = CONTENT[::-1], '"2"'
    left_behind('"1"')  # of the old file
    fetch(server.url("a.bin"), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT[::-1]


def test_without_a_sign_that_it_is_the_same_file_all_is_fetched_anew(server, tmp_path):
    server.etag = ""
    (tmp_path / ".a.bin.part").write_bytes(b"?" * 100)
    (tmp_path / ".a.bin.part.json").write_text(json.dumps({"url": server.url("a.bin"), "validator": ""}))
    fetch(server.url("a.bin"), tmp_path / "a.bin")
    assert server.asked == [None]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_server_that_knows_no_parts_sends_all_again(server, tmp_path):
    server.ranges = False
    (tmp_path / ".a.bin.part").write_bytes(CONTENT[:5000])
    (tmp_path / ".a.bin.part.json").write_text(json.dumps({"url": server.url("a.bin"), "validator": '"1"'}))
    fetch(server.url("a.bin"), tmp_path / "a.bin", sha256=DIGEST)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_all_but_the_name_was_there(server, tmp_path):
    (tmp_path / ".a.bin.part").write_bytes(CONTENT)
    (tmp_path / ".a.bin.part.json").write_text(json.dumps({"url": server.url("a.bin"), "validator": '"1"'}))
    fetch(server.url("a.bin"), tmp_path / "a.bin", sha256=DIGEST)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 7}, r"a\.bin\.part of http.* has 10,240 bytes instead of 7; nothing was kept"),
        ({"sha256": "0" * 64}, f"has the SHA-256 {DIGEST} instead of 0000"),
    ],
)
def test_another_file_than_was_meant_is_refused_and_not_kept(server, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        fetch(server.url("a.bin"), tmp_path / "a.bin", **options)
    assert not [path for path in tmp_path.iterdir() if not path.name.endswith(".lock")]
    (tmp_path / "a.bin").write_bytes(CONTENT)
    with pytest.raises(ValueError, match="move it away to fetch it anew"):
        fetch(server.url("a.bin"), tmp_path / "a.bin", **options)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_web_page_in_the_place_of_the_file_is_refused(server, tmp_path):
    server.files["/data.zip"] = b"<!DOCTYPE html><html>Please sign in</html>"
    with pytest.raises(ValueError, match="an HTML page instead of the file"):
        fetch(server.url("data.zip"), tmp_path / "data.zip")
    assert not (tmp_path / "data.zip").exists()


def test_what_is_not_there_is_said_at_once_and_a_busy_server_is_asked_again(server, tmp_path):
    with pytest.raises(ConnectionError, match=r"none\.bin: the server says 404 Not Found; look at the source's page"):
        fetch(server.url("none.bin"), tmp_path / "none.bin")
    assert len(server.asked) == 1
    server.codes = [503, 429]
    fetch(server.url("a.bin"), tmp_path / "a.bin", sha256=DIGEST)
    assert len(server.asked) == 4
    server.codes = [503] * 9
    with pytest.raises(ConnectionError, match=r"cannot be had \(503 Service Unavailable\)"):
        fetch(server.url("b.bin"), tmp_path / "b.bin")
    assert len(server.asked) == 4 + download.ATTEMPTS


def test_without_a_network_it_says_so_and_other_addresses_are_not_opened(tmp_path):
    with pytest.raises(ConnectionError, match=r"cannot be had \(.*refused.*\); is there a network\?"):
        fetch("http://127.0.0.1:9/a.bin", tmp_path / "a.bin")
    (tmp_path / "secret").write_text("x")
    with pytest.raises(ValueError, match="only http and https"):
        fetch(f"file://{tmp_path / 'secret'}", tmp_path / "b")


# -- archives -----------------------------------------------------------------------------------------------------


def make_zip(path, files, links=()):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        for name in links:
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "/etc/passwd")
    return path


def make_tar(path, files, kinds=()):
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
        for name, kind in kinds:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    return path


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_archive_is_unpacked_as_far_as_it_is_wanted(tmp_path, make):
    files = {"data/a/train.txt": "1", "data/a/deep/dev.txt": "2", "data/b/train.txt": "3", "readme": "4"}
    archive = make(tmp_path / "archive", files)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("stays")
    assert unpack(archive, tmp_path / "out", under="data/a/", strip=2) == 2
    found = {str(p.relative_to(tmp_path / "out")): p.read_text() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == {"train.txt": "1", "deep/dev.txt": "2", "mine": "stays"}
    assert unpack(archive, tmp_path / "all") == 4
    with pytest.raises(ValueError, match="holds no file under nothing/"):
        unpack(archive, tmp_path / "none", under="nothing/")


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/out", "a\\..\\out", "C:/out"])
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_name_that_leads_out_of_the_folder_is_refused_and_nothing_is_written(tmp_path, make, name):
    archive = make(tmp_path / "archive", {"good": "1", name: "2"})
    with pytest.raises(ValueError, match="which leads out of its folder; nothing was unpacked"):
        unpack(archive, tmp_path / "in" / "folder")
    assert not (tmp_path / "in" / "folder").exists()
    assert not (tmp_path / "out").exists()


def test_links_and_devices_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds the link 'link'; nothing was unpacked"):
        unpack(make_zip(tmp_path / "a.zip", {"good": "1"}, ["link"]), tmp_path / "a")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
        archive = make_tar(tmp_path / "a.tar.gz", {"good": "1"}, [("odd", kind)])
        with pytest.raises(ValueError, match="holds 'odd', which is neither a file nor a folder"):
            unpack(archive, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_damaged_archive_is_refused_and_nothing_is_left(tmp_path):
    whole = make_zip(tmp_path / "a.zip", {"a": "content " * 100}).read_bytes()
    (tmp_path / "b.zip").write_bytes(whole.replace(b"content content", b"CONTENT content", 1))
    with pytest.raises(ValueError, match=r"b\.zip is damaged .*; fetch it again"):
        unpack(tmp_path / "b.zip", tmp_path / "out")
    packed = make_tar(tmp_path / "a.tar.gz", {"a": "content " * 10000}).read_bytes()
    (tmp_path / "c.tar.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match="fetch it again"):
        unpack(tmp_path / "c.tar.gz", tmp_path / "out")
    (tmp_path / "d.zip").write_bytes(gzip.compress(b"text"))
    with pytest.raises(ValueError, match="neither a zip nor a tar archive"):
        unpack(tmp_path / "d.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_that_the_disk_cannot_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "free_bytes", lambda path: 10)
    with pytest.raises(OSError, match="has no room for a.zip"):
        unpack(make_zip(tmp_path / "a.zip", {"a": "x" * 100}), tmp_path / "out")
    assert not (tmp_path / "out").exists()
