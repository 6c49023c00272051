"""Full and unwritable places, outputs that belong together, other platforms."""

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import ROOT, TINY_ADAPTER, load_script
from matplotlib.figure import Figure

from kadapter.data import subset
from kadapter.data.encoding import Encoding
from kadapter.data.features import load_features
from kadapter.data.jsonio import read_records, write_json, write_jsonl
from kadapter.data.subset import SubsetOptions, make_subset
from kadapter.storage import checkpoint, files
from kadapter.storage.errors import WriteError, final_name, writing
from kadapter.storage.files import append_line, atomic_files, atomic_folder, atomic_writer, scratch_folder
from kadapter.system import peak_memory_mib
from kadapter.tasks.entity_typing import OpenEntity
from kadapter.training.arguments import TrainingArguments
from kadapter.training.loop import Progress
from kadapter.training.resume import save_checkpoint
from kadapter.training.tracking import Run

# -- full and unwritable places -----------------------------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path):
    """Mounts a file system of 64 KiB in memory; `mounted("ro")` one that cannot be written."""
    place = tmp_path / "small"
    place.mkdir()

    def mount(options="size=64k"):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], capture_output=True)
        if done.returncode:
            pytest.skip("needs the right to mount")
        return place

    yield mount
    subprocess.run(["umount", "--lazy", str(place)], capture_output=True)


def save_large_checkpoint(folder):
    model, accelerator = torch.nn.Linear(300, 300), Accelerator(cpu=True)
    schedule = SimpleNamespace(state_dict=dict)
    save_checkpoint(accelerator, folder, model, schedule, Progress(step=3), keep=2)


def save_large_optimizer(folder):
    """torch.save does not tell what is wrong."""
    with atomic_folder(folder / "a") as temporary:
        torch.save({"moments": torch.zeros(100_000)}, temporary / "optimizer.bin")


def save_tokenizer(folder, tokenizer):
    with atomic_folder(folder / "a", "the tokenizer") as temporary:
        tokenizer.save_pretrained(temporary)


def save_plot(folder):
    figure = Figure()
    figure.subplots().imshow(np.random.default_rng(0).random((500, 500)))
    with atomic_files("a plot") as temporary:
        figure.savefig(temporary(folder / "a.png"), dpi=200)


def write_lines(folder):
    with atomic_writer(folder / "a.txt", "a text") as stream:
        for _ in range(1000):
            stream.write("x" * 100)


def write_copies(folder):
    (folder / "b").write_bytes(b"b" * 1000)
    with scratch_folder(folder / "a", "copies") as scratch:
        for number in range(100):
            (scratch / str(number)).write_bytes(b"x" * 1000)


def save_large_adapter(folder):
    checkpoint.save_adapter({"a": torch.zeros(100, 1000)}, TINY_ADAPTER, folder / "a")


FULL = {
    write_lines: (r"a\.txt \(a text\)", r"more than [\d.]+ KiB"),
    write_copies: (r"a \(copies\)", r"more than [\d.]+ KiB"),
    save_large_adapter: (r"a/adapter_model\.safetensors \(tensors\)", r"390\.6 KiB"),
    save_large_checkpoint: (r"checkpoint-3/trained\.safetensors \(tensors\)", r"352\.7 KiB"),
    save_large_optimizer: ("a", ".*"),
    save_plot: (r"a\.png \(a plot\)", ".*"),
    save_tokenizer: (r"a \(the tokenizer\)", ".*"),
}


@pytest.mark.parametrize("write", FULL, ids=lambda write: write.__name__)
def test_a_full_disk_is_told_in_a_sentence_and_nothing_unfinished_stays(mounted, request, write):
    place, (what, needed) = mounted(), FULL[write]
    sizes = rf"[\d.]+ KiB are free, {needed} (are|is) needed"
    message = rf"^{place}/{what} cannot be written: No space left on device \({sizes}\); make room, or write to another"
    options = [request.getfixturevalue("tokenizer")] if write is save_tokenizer else []
    with pytest.raises(WriteError, match=message) as raised:
        write(place, *options)
    assert raised.value.errno == errno.ENOSPC
    assert set(os.listdir(place)) <= {"b"}


def test_a_feature_store_on_a_full_disk_is_told_in_a_sentence(mounted, tokenizer, world):
    place, task = mounted(), OpenEntity.for_folder("")
    (place / "filler").write_bytes(b"x" * 40_000)
    with pytest.raises(WriteError, match=r"\(the features of .*train\.json\) cannot be written: No space left"):
        load_features(task, world / "OpenEntity", "train", Encoding(tokenizer, 64), cache_dir=place)
    assert os.listdir(place) == ["filler"]


def test_a_line_that_does_not_fit_leaves_the_file_as_it_was(mounted):
    path = mounted() / "results.jsonl"
    append_line(path, '{"a": 1}')
    message = r"results\.jsonl \(a result\) cannot be written: No space left .* 97\.7 KiB are needed"
    with pytest.raises(WriteError, match=message):
        append_line(path, "x" * 100_000, "a result")
    append_line(path, '{"a": 2}')
    assert path.read_text() == '{"a": 1}\n{"a": 2}\n'


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_events_that_cannot_be_written_do_not_stop_or_hang_the_run(mounted, caplog):
    place = mounted()
    with Run(Accelerator(cpu=True), place / "run", vars(TrainingArguments()), content={}, batch_size=8) as run:
        run.resume_at(0)
        (place / "filler").write_bytes(b"x" * 30_000)
        writer = run.writer.file_writer.event_writer._worker
        for step in range(100_000):  # its queue holds ten
            run.scalars(step, {"loss": 0.5})
            if run.writer is None:
                break
        assert not writer.is_alive()
    assert "TensorBoard's events end at step" in caplog.text


def test_a_place_that_cannot_be_written_is_told_in_a_sentence(mounted, tmp_path):
    place = mounted("ro")
    for write in (write_lines, save_large_adapter, lambda folder: append_line(folder / "a", "x")):
        with pytest.raises(WriteError, match=rf"^{place}/a.* cannot be written: Read-only file system; mount it for"):
            write(place)
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="a file is where a folder should be"):
        write_json(tmp_path / "file" / "a.json", {})
    with pytest.raises(WriteError, match="File name too long; give a shorter name"):
        write_json(tmp_path / ("a" * 300), {})


def test_a_file_beyond_the_limit_of_the_process_is_told_in_a_sentence(tmp_path):
    script = """
import resource, sys
from pathlib import Path
from kadapter.storage.files import atomic_writer
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))  # Python ignores SIGXFSZ
try:
    with atomic_writer(sys.argv[1], "a text") as stream:
        stream.write("x" * 100_000)
except OSError as error:
    print(error)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "a.txt")]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.startswith(f"{tmp_path}/a.txt (a text) cannot be written: File too large (")
    assert "raise ulimit -f" in shown
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EDQUOT, errno.EPERM])
def test_an_error_that_names_what_is_written_is_told_and_one_of_an_input_passes(tmp_path, number):
    inside = PermissionError if number in (errno.EACCES, errno.EPERM) else OSError
    for name in (tmp_path / ".a.0123456789ab.tmp" / "b", tmp_path / "a" / "b", tmp_path, None):
        message = rf"^{tmp_path}/a \(it\) cannot be written: {os.strerror(number)}"
        with pytest.raises(WriteError, match=message), writing(tmp_path / "a", "it"):
            raise inside(number, os.strerror(number), None if name is None else str(name))
    for error in (
        inside(number, os.strerror(number), str(tmp_path / "input")),
        FileNotFoundError(errno.ENOENT, "none", str(tmp_path / "a")),
        ValueError("record 3: Permission denied"),
    ):
        with pytest.raises(type(error)) as raised, writing(tmp_path / "a"):
            raise error
        assert raised.value is error


def test_an_error_of_writing_comes_back_whole_from_a_worker_process():
    error = pickle.loads(pickle.dumps(WriteError("a cannot be written.", errno.ENOSPC)))
    assert (str(error), error.errno) == ("a cannot be written.", errno.ENOSPC)


@pytest.mark.parametrize(
    ("temporary", "final"),
    [
        ("out/.a.jsonl.0123456789ab.tmp/a.jsonl", "out/a.jsonl"),
        ("out/.a.jsonl.0123456789ab.tmp/.a.jsonl.abcdef012345.tmp/a.jsonl", "out/a.jsonl"),
        ("out/.best.0123456789ab.tmp/config.json", "out/best/config.json"),
        ("run/.checkpoint-3.tmp/state.json", "run/checkpoint-3/state.json"),
        ("data/data/a", "data/data/a"),
    ],
)
def test_what_is_written_aside_is_called_by_its_final_name(temporary, final):
    assert final_name(Path(temporary)) == Path(final)


# -- files that belong together -----------------------------------------------------------------------------------

NAMES = ("train", "dev", "labels")


def write_set(folder, word):
    with atomic_files() as temporary:
        for name in NAMES:
            write_jsonl(temporary(folder / f"{name}.jsonl"), [{"word": word}])


def killed_in(work, call, function):
    """Do the work in a process that dies at the `call`-th call of an os function; whether it came to its end."""
    child = os.fork()
    if not child:
        calls, real = [0], getattr(os, function)

        def dying(*args, **kwargs):
            calls[0] += 1
            if calls[0] == call:
                os._exit(9)
            return real(*args, **kwargs)

        setattr(os, function, dying)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("function", ["replace", "unlink"])
def test_a_kill_at_any_moment_leaves_files_of_one_set_and_the_first_only_with_all_others(tmp_path, function):
    call, seen, done = 0, set(), False
    while not done:
        call += 1
        write_set(tmp_path, "old")
        done = killed_in(lambda: write_set(tmp_path, "new"), call, function)
        words = {path.stem: path.read_text().split('"')[3] for path in tmp_path.glob("*.jsonl")}
        assert len(set(words.values())) < 2
        assert "train" not in words or len(words) == 3
        seen.add((len(words), *set(words.values())))
    assert words == dict.fromkeys(NAMES, "new")
    assert {(3, "old"), (3, "new")} <= seen
    assert {(1, "old"), (2, "old")} <= seen if function == "unlink" else {(0,), (1, "new"), (2, "new")} <= seen
    write_set(tmp_path, "newer")
    assert sorted(os.listdir(tmp_path)) == ["dev.jsonl", "labels.jsonl", "train.jsonl"]  # nothing left behind


def test_a_second_output_that_fails_leaves_the_first_as_it_was(tmp_path):
    write_set(tmp_path, "old")

    def fail():
        with atomic_files() as temporary:
            write_jsonl(temporary(tmp_path / "train.jsonl"), [{"word": "new"}])
            write_jsonl(temporary(tmp_path / "dev.jsonl"), (1 / 0 for _ in range(1)))

    with pytest.raises(ZeroDivisionError):
        fail()
    assert {path.read_text() for path in tmp_path.iterdir()} == {'{"word": "old"}\n'}
    assert len(os.listdir(tmp_path)) == 3


def test_one_name_twice_and_a_folders_name_are_refused_and_a_file_not_written_changes_nothing(tmp_path):
    write_set(tmp_path, "old")
    with pytest.raises(ValueError, match="train.jsonl would be written twice"), atomic_files() as temporary:
        _ = [temporary(tmp_path / "train.jsonl"), temporary(tmp_path / "." / "x" / ".." / "train.jsonl")]
    with pytest.raises(ValueError, match="is a folder"), atomic_files() as temporary:
        temporary(tmp_path)
    with pytest.raises(FileNotFoundError), atomic_files() as temporary:
        _ = [temporary(tmp_path / f"{name}.jsonl") for name in NAMES]
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ['{"word": "old"}\n'] * 3


def test_a_killed_split_with_another_seed_never_leaves_new_dev_beside_old_train(tmp_path, monkeypatch):
    rows = [
        {"docid": "D", "token": [f"a{i}", "b"], "relation": "P1", "subj_label": f"Q{i}", "obj_label": "Q"}
        | {"subj_start": 0, "subj_end": 0, "obj_start": 1, "obj_end": 1}
        for i in range(60)
    ]
    write_jsonl(tmp_path / "cleaned.jsonl", rows)
    monkeypatch.setattr(subset, "plot", lambda report, temporary: temporary(Path("relations.png")).write_bytes(b"plot"))

    def split(seed):
        make_subset(tmp_path / "cleaned.jsonl", tmp_path / "out", SubsetOptions(seed=seed, dev_fraction=0.3))

    call, done = 0, False
    while not done:
        call += 1
        split(1)
        done = killed_in(lambda: split(2), call, "replace")
        found = [tmp_path / "out" / f"{name}.jsonl" for name in ("train", "dev")]
        tokens = [example["token"][0] for path in found if path.is_file() for _, example in read_records(path)]
        assert len(tokens) == len(set(tokens))
        assert not found[0].is_file() or sorted(tokens) == sorted(row["token"][0] for row in rows)
    assert call > 5


def test_a_demo_world_that_fails_midway_leaves_the_old_one(world, monkeypatch):
    demo = load_script("scripts/make_demo_data.py")
    before = {path: path.read_bytes() for path in world.rglob("*") if path.is_file()}

    def broken(*_):
        raise OSError("broke")

    monkeypatch.setattr(demo, "write_backbone_text", broken)
    with pytest.raises(OSError, match="broke"):
        demo.main([f"--output_dir={world}", "--seed=7", "--entities_per_type=6", "--facts_per_relation=2", "--trees=9"])
    assert {path: path.read_bytes() for path in world.rglob("*") if path.is_file()} == before


def test_raw_documents_of_an_earlier_larger_call_are_not_mixed_with_new_ones(tmp_path):
    large = load_script("scripts/demo_trex.py")
    (tmp_path / "trex-0003.json").write_text("[]")
    with pytest.raises(ValueError, match=r"trex-0003\.json is of an earlier, larger call; remove it"):
        large.write_large(None, tmp_path, 1)


# -- other platforms ----------------------------------------------------------------------------------------------


def test_a_platform_without_the_modules_of_unix_saves_and_loads_a_model(tmp_path, tiny_model):
    child = os.fork()  # which has the libraries already: they look for themselves what a platform has
    if not child:
        code = 1
        try:
            for name in [name for name in sys.modules if name.split(".")[0] == "kadapter"]:
                del sys.modules[name]
            sys.modules.update(dict.fromkeys(("fcntl", "resource", "pwd", "grp", "termios")))
            del os.fork, os.register_at_fork
            import kadapter
            from kadapter import KAdapterModel
            from kadapter.storage import locks

            config = kadapter.KAdapterConfig.from_dict(tiny_model.config.to_dict())
            KAdapterModel(config).save_pretrained(tmp_path / "model")
            KAdapterModel.from_pretrained(tmp_path / "model").save_adapter(tmp_path / "fac", "fac")
            with locks.exclusive(tmp_path / "model", ""):
                code = 0 if locks.fcntl is None and peak_memory_mib() is None else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sorted(os.listdir(tmp_path)) == ["fac", "model"]


def test_folders_that_cannot_be_opened_are_no_reason_to_stop(tmp_path, monkeypatch):
    real, opened = os.open, []

    def windows(path, *args, **kwargs):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        opened.append(args[0])
        return real(path, *args, **kwargs)

    monkeypatch.setattr(files, "FOLDERS_OPEN", False)
    monkeypatch.setattr(files.shutil, "rmtree", lambda path, **_: Path(path).is_dir() and _remove(path))
    monkeypatch.setattr(os, "open", windows)
    for word in ("old", "new"):
        write_set(tmp_path / "set", word)
        checkpoint.save_adapter({"a": torch.zeros(3)}, TINY_ADAPTER, tmp_path / "adapter")
    assert set(opened) <= {os.O_RDWR}  # Windows brings only what may be written to disk
    assert sorted(os.listdir(tmp_path / "set")) == ["dev.jsonl", "labels.jsonl", "train.jsonl"]
    assert sorted(os.listdir(tmp_path)) == ["adapter", "set"]


def _remove(folder):
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    os.rmdir(folder)


def test_memory_is_told_in_mib_whatever_the_system_counts(monkeypatch):
    usage = SimpleNamespace(ru_maxrss=3 << 20)
    monkeypatch.setattr(sys, "platform", "linux")
    assert peak_memory_mib(usage) == 3 << 10
    monkeypatch.setattr(sys, "platform", "darwin")
    assert peak_memory_mib(usage) == 3
    monkeypatch.undo()
    assert 10 < peak_memory_mib() < 1 << 20
