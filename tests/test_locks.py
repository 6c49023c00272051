"""One writer at a time: a second start is refused, a killed one blocks nobody, and no locks are no reason to stop."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from accelerate import Accelerator
from conftest import ROOT, load_script

from kadapter.data.parsers import Parser
from kadapter.data.parsing import parse_text
from kadapter.storage import files, locks
from kadapter.storage.locks import exclusive, exclusive_after_waiting
from kadapter.training import tracking
from kadapter.training.arguments import TrainingArguments
from kadapter.training.tracking import Run

HOLD = """
import sys, time
from kadapter.storage.locks import exclusive
with exclusive(sys.argv[1], "give another --comment"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder():
    """Starts a process that holds a file or folder; kills it in the end."""
    started = []

    def start(target, script=HOLD):
        command = [sys.executable, "-c", script, str(target)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline().startswith("held")
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def _no_warning_yet(monkeypatch):
    monkeypatch.setattr(locks, "_warned", [])


def test_a_second_process_is_told_who_holds_the_folder_and_a_killed_holder_blocks_nobody(holder, tmp_path):
    process = holder(tmp_path / "run")
    message = (
        rf"{tmp_path}/run is in use by process {process.pid} on {socket.gethostname()}; "
        "wait until it ends, or give another --output_dir"
    )
    for _ in range(2):  # a refusal changes nothing
        with pytest.raises(BlockingIOError, match=message), exclusive(tmp_path / "run", "give another --output_dir"):
            pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / ".run.lock").is_file()  # which says nothing
    with exclusive(tmp_path / "run", ""):
        assert f"process {os.getpid()} on" in (tmp_path / ".run.lock").read_text()
    assert os.listdir(tmp_path) == []


def test_a_second_block_in_one_process_is_refused_and_one_that_raised_has_let_go(tmp_path):
    again = pytest.raises(BlockingIOError, match=f"process {os.getpid()} ")
    with exclusive(tmp_path / "a", ""), exclusive(tmp_path / "b", ""), again, exclusive(tmp_path / "a", ""):
        pass
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "a", ""):
        _ = 1 / 0
    with exclusive(tmp_path / "a", ""):
        pass
    assert os.listdir(tmp_path) == []


def children(pid):
    """The pids of a process's children."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.exists():
        pytest.skip("needs Linux's /proc")
    return [int(child) for child in path.read_text().split()]


def test_a_worker_that_outlives_its_killed_parent_does_not_keep_the_lock(holder, tmp_path):
    script = """
import multiprocessing, sys, time
from kadapter.storage.locks import exclusive
with exclusive(sys.argv[1], ""):
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start()
    print("held", flush=True)
    time.sleep(60)
"""
    process = holder(tmp_path / "a", script)
    (worker,) = children(process.pid)
    try:
        process.kill()
        process.wait()
        os.kill(worker, 0)  # lives on
        for attempt in range(100):  # it lets go as soon as it runs, which a busy machine may put off
            try:
                with exclusive(tmp_path / "a", ""):
                    break
            except BlockingIOError:
                assert attempt < 99
                time.sleep(0.1)
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_forked_child_that_leaves_the_block_does_not_free_it(tmp_path):
    block = exclusive(tmp_path / "a", "")
    block.__enter__()
    child = os.fork()
    if not child:
        try:
            block.__exit__(None, None, None)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(BlockingIOError), exclusive(tmp_path / "a", ""):
        pass
    block.__exit__(None, None, None)
    assert os.listdir(tmp_path) == []


def test_a_lock_that_its_holder_deletes_while_we_wait_for_it_is_taken_anew(tmp_path, monkeypatch):
    tries = []

    def try_lock(descriptor, warn_of=None):
        tries.append(descriptor)
        if len(tries) == 1:  # between our opening and locking it
            (tmp_path / ".a.lock").unlink()
        return real(descriptor, warn_of)

    real = locks.try_lock
    monkeypatch.setattr(locks, "try_lock", try_lock)
    with exclusive(tmp_path / "a", ""):
        monkeypatch.undo()
        with pytest.raises(BlockingIOError), exclusive(tmp_path / "a", ""):
            pass
    assert len(tries) == 2


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL, None])
def test_a_place_without_locks_works_and_is_told_once(tmp_path, monkeypatch, caplog, number):
    if number is None:  # a platform that has none at all
        monkeypatch.setattr(locks, "fcntl", None)
    else:

        def flock(descriptor, how):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(locks.fcntl, "flock", flock)
    for name in ("a", "b"):
        with exclusive(tmp_path / name, ""), files.atomic_writer(tmp_path / name) as stream:
            stream.write(name)
        with files.scratch_folder(tmp_path / name) as folder:
            assert folder.is_dir()
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    (record,) = caplog.records
    assert f"{tmp_path} knows no file locks" in record.getMessage()


# -- runs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def accelerator():
    return Accelerator(cpu=True)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_who_waits_for_his_turn_gets_it_when_the_other_ends(holder, tmp_path, caplog):
    process = holder(tmp_path / "store")
    threading.Timer(0.5, process.kill).start()
    with caplog.at_level("INFO"), exclusive_after_waiting(tmp_path / "store"):
        process.wait()
    assert f"waiting: {tmp_path}/store is in use by process {process.pid}" in caplog.text


def take(accelerator, folder, arguments=None):
    """Begin a run."""
    return Run(accelerator, folder, vars(arguments or TrainingArguments()), content={}, batch_size=8)


def test_a_run_whose_folder_is_in_use_is_refused_and_touches_nothing_even_to_overwrite(holder, tmp_path, accelerator):
    folder = tmp_path / "run"
    with take(accelerator, folder) as run:
        run.result("dev", 1, 0.1, {"f1": 0.5}, 1.0)
    before, process = contents(folder), holder(folder)
    for arguments in (TrainingArguments(overwrite_output_dir=True), TrainingArguments(seed=7), TrainingArguments()):
        with pytest.raises(BlockingIOError, match=f"in use by process {process.pid} .*give another --comment"):
            take(accelerator, folder, arguments)
    assert contents(folder) == before
    process.kill()
    process.wait()
    with take(accelerator, folder, TrainingArguments(overwrite_output_dir=True)):
        assert [path.name for path in folder.iterdir()] == ["args.json"]  # the lock is not among what is deleted
        with pytest.raises(BlockingIOError):
            take(accelerator, folder, TrainingArguments(overwrite_output_dir=True))
    assert os.listdir(tmp_path) == ["run"]


def test_a_run_that_raises_or_is_refused_for_its_arguments_lets_go_of_its_folder(tmp_path, accelerator):
    with pytest.raises(ZeroDivisionError), take(accelerator, tmp_path / "run"):
        _ = 1 / 0
    with pytest.raises(ValueError, match="seed was 42, is 7"):
        take(accelerator, tmp_path / "run", TrainingArguments(seed=7))
    run = take(accelerator, tmp_path / "run")
    run.close()
    run.close()
    assert os.listdir(tmp_path) == ["run"]


def test_the_other_processes_of_a_refused_run_end_too(tmp_path, accelerator, monkeypatch):
    class Other:
        is_main_process, num_processes = False, 2

    monkeypatch.setattr(tracking, "broadcast_object_list", lambda values: values.__setitem__(0, True))
    with pytest.raises(SystemExit) as ended:
        take(Other(), tmp_path / "run")
    assert ended.value.code == 1
    assert not os.listdir(tmp_path)


# -- scripts that resume ------------------------------------------------------------------------------------------


def test_scripts_that_go_on_in_a_folder_refuse_a_second_start(tmp_path):
    text, output = tmp_path / "a.txt", tmp_path / "out.jsonl"
    text.write_text("One.\n")
    clean = load_script("scripts/clean_T_REx.py")
    trees = load_script("scripts/create_dependency_dataset.py")
    with exclusive(output, ""):
        with pytest.raises(BlockingIOError, match=r"out\.jsonl is in use by process .*give another --output"):
            clean.main(["--raw", str(tmp_path), "--output", str(output)])
        for flags in (["--output", str(output)], ["--output", str(tmp_path / "b"), "--dev_output", str(output)]):
            with pytest.raises(BlockingIOError, match=r"out\.jsonl is in use by process"):
                trees.main(["--input", str(text), *flags])
    with exclusive(output, ""), pytest.raises(BlockingIOError, match=r"out\.jsonl is in use by"):
        parse_text([text], output, Parser({}, lambda texts: [[] for _ in texts]))
    assert os.listdir(tmp_path) == ["a.txt"]


def test_cleaning_workers_end_with_a_parent_that_is_killed(holder, tmp_path):
    script = """
import sys, time
from concurrent.futures import ProcessPoolExecutor
sys.path.insert(0, "scripts")
from kadapter.system import end_with_parent
with ProcessPoolExecutor(2, initializer=end_with_parent) as pool:
    list(pool.map(int, [1, 2, 3]))
    print("held", flush=True)
    time.sleep(60)
"""
    process = holder(tmp_path, script)
    workers = children(process.pid)
    assert workers
    process.kill()
    process.wait()
    until = time.monotonic() + 10
    while any(_lives(pid) for pid in workers):
        assert time.monotonic() < until
        time.sleep(0.02)


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
