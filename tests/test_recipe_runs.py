"""recipe_runs.py: what becomes of the recipes when the program that started them is killed."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

# Two jobs, one after the other; a recipe is a shell with a program below it, as the run scripts are.
PROGRAM = """
import sys
from pathlib import Path
from recipe_runs import Job, run_jobs
code = "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(100)"
shell = ["bash", "-c", f'"{sys.executable}" -c "{code}"; true', "recipe"]
run_jobs([Job(name, shell, Path(name)) for name in ("first", "second")])
"""


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as file:
        return file.read().split()[2] == "Z"  # ended, but nobody has asked for its exit code


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for a process in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["stopped", "terminal closed"])
def test_a_signal_ends_the_recipe_that_runs_and_starts_no_other(tmp_path, number):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'scripts'}"}
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as program:
        written = tmp_path / "pid"
        wait_until(lambda: program.poll() is not None or (written.exists() and written.read_text()))
        program.send_signal(number)
        said = program.communicate(timeout=60)[1]
    assert program.returncode == 128 + number, said
    assert "the same command goes on from here" in said
    wait_until(lambda: is_gone(int(written.read_text())))
    assert (tmp_path / "first" / "log.txt").read_text() == ""
    assert not (tmp_path / "second" / "log.txt").exists() or not (tmp_path / "second" / "log.txt").read_text()
