"""scripts/sweep.py on a recipe that costs nothing, and once on a real one."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter

import optuna
import pytest
from conftest import ROOT, load_script

SWEEP = load_script("scripts/sweep.py")
# Writes what a recipe would; a rate of 3 fails, and a file "hold" makes it wait.
RECIPE = """
import json, os, pathlib, sys, time
flags = dict(argument[2:].split("=") for argument in sys.argv[1:])
folder = pathlib.Path(flags["output_dir"]) / "run"
folder.mkdir(parents=True, exist_ok=True)
with open(folder / "calls", "a") as file:
    file.write("x")
while os.path.exists(pathlib.Path(__file__).with_name("hold")):
    time.sleep(0.05)
if flags["rate"] == "3":
    sys.exit("the rate is too high")
score = 1 / (1 + abs(float(flags["rate"]) - 2)) + float(flags["size"]) / 100
(folder / "metrics.json").write_text(json.dumps({"best": {"step": 1, "f1": score}}))
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "recipe.py").write_text(RECIPE)
    return [sys.executable, str(tmp_path / "recipe.py")]


def sweep(tmp_path, recipe, *flags):
    return SWEEP.main(["--output", str(tmp_path / "sweep"), *flags, "--", *recipe])


def states(study):
    return Counter(trial.state.name for trial in study.trials)


GRID = ["--space", "rate=1,2,3", "--space", "size=4,8"]


def test_a_grid_is_searched_once_and_its_failures_are_kept(tmp_path, recipe, capsys):
    study = sweep(tmp_path, recipe, *GRID, "--workers", "2")
    assert states(study) == {"COMPLETE": 4, "FAIL": 2}
    assert study.best_params == {"rate": "2", "size": "8"}
    printed = capsys.readouterr().out
    assert printed.strip().splitlines()[-1].endswith("recipe.py --rate=2 --size=8")
    rows = json.loads((tmp_path / "sweep" / "trials.json").read_text())
    failed = [row for row in rows if row["state"] == "FAIL"]
    assert all("the rate is too high" in row["error"] for row in failed)
    for name in ("history.png", "slice.png", "importances.png"):
        assert (tmp_path / "sweep" / name).stat().st_size > 5000
    again = sweep(tmp_path, recipe, *GRID)  # nothing is left to do
    assert len(again.trials) == 6


@pytest.mark.slow
def test_a_sampler_stops_at_its_number_of_trials_and_goes_on_to_a_larger_one(tmp_path, recipe):
    space = ["--space", "rate=0.5..2.5", "--space", "size=4..8", "--sampler", "tpe"]
    assert len(sweep(tmp_path, recipe, *space, "--trials", "3").trials) == 3
    study = sweep(tmp_path, recipe, *space, "--trials", "5")
    assert states(study) == {"COMPLETE": 5}
    assert all(
        isinstance(trial.params["size"], int) and isinstance(trial.params["rate"], float) for trial in study.trials
    )
    assert len({trial.params["rate"] for trial in study.trials}) == 5


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_killed_search_goes_on_with_the_trial_that_it_was_at(tmp_path, recipe, number):
    """SIGKILL comes to search and recipe; SIGTERM to the search alone, which hands it on."""
    (tmp_path / "hold").touch()
    command = [sys.executable, "scripts/sweep.py", "--output", str(tmp_path / "sweep"), *GRID, "--", *recipe]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("sweep/trials/*/run/calls")):
        assert process.poll() is None
        time.sleep(0.05)
    if number == signal.SIGKILL:
        subprocess.run(["pkill", "-KILL", "-f", str(tmp_path / "sweep")], check=True)
    else:
        process.send_signal(number)
    assert process.wait(timeout=60) == (-number if number == signal.SIGKILL else 128 + number)
    assert not subprocess.run(["pgrep", "-f", str(tmp_path / "sweep")], capture_output=True, text=True).stdout
    (tmp_path / "hold").unlink()
    study = sweep(tmp_path, recipe, *GRID)
    errors = Counter(trial.user_attrs.get("error", "").split(";")[0] for trial in study.trials)
    assert errors["killed"] == 1
    assert Counter(trial.state.name for trial in study.trials if "killed" not in trial.user_attrs.get("error", "")) == {
        "COMPLETE": 4,
        "FAIL": 2,
    }
    calls = sorted(len(path.read_text()) for path in tmp_path.glob("sweep/trials/*/run/calls"))
    assert calls == [1, 1, 1, 1, 1, 2]  # the same folder again, where a recipe finds its checkpoint


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--space", "rate"], "write flag=value"),
        (["--space", "rate=a..b", "--sampler", "tpe"], "limits of a range are numbers"),
        (["--space", "rate=1..2"], "a grid has no ranges"),
    ],
)
def test_an_impossible_search_is_refused(tmp_path, recipe, capsys, flags, message):
    with pytest.raises(SystemExit):
        sweep(tmp_path, recipe, *flags)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_a_real_recipe_is_searched(tiny_backbone, world, tmp_path):
    recipe = [sys.executable, str(ROOT / "examples/run_finetune_openentity_adapter.py"), "--do_train"]
    recipe += [f"--model_name_or_path={tiny_backbone}", f"--data_dir={world / 'OpenEntity'}", "--max_steps=2"]
    recipe += ["--max_seq_length=64", "--do_eval"]
    study = sweep(tmp_path, recipe, "--space", "learning_rate=1e-3", "--space", "per_gpu_train_batch_size=4")
    assert study.trials[0].state == optuna.trial.TrialState.COMPLETE
    (report,) = tmp_path.glob("sweep/trials/*/*/metrics.json")
    assert study.best_value == json.loads(report.read_text())["best"]["f1"]
