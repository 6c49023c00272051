"""Real processes: several of them, and killed ones."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import ROOT, load_script
from safetensors.torch import load_file


def command(recipe, backbone, data, output, *flags):
    return [
        f"examples/{recipe}.py",
        "--model_name_or_path",
        str(backbone),
        "--data_dir",
        str(data),
        "--output_dir",
        str(output),
        "--do_train",
        "--do_eval",
        "--learning_rate",
        "1e-3",
        "--adapter_size",
        "16",
        "--adapter_attention_heads",
        "2",
        "--max_seq_length",
        "64",
        "--per_gpu_eval_batch_size",
        "16",
        *map(str, flags),
    ]


def environment(tmp_path):
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HF_DATASETS_CACHE": str(tmp_path / "features"),
        "HF_HUB_OFFLINE": "1",
    }


def finished(arguments, tmp_path):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def only_run(folder):
    (run,) = [path for path in folder.iterdir() if (path / "metrics.json").is_file()]
    return run


def dev_losses(run):
    rows = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    return [(row["split"], row["global_step"], row["metrics"]["loss"]) for row in rows]


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one_with_the_same_global_batch(tiny_backbone, world, tmp_path):
    # Dependency heads, whose loss counts words: shares of a batch differ in them. 100 sentences leave a batch of 4.
    flags = (
        "--max_steps",
        10,
        "--eval_steps",
        5,
        "--save_steps",
        10,
        "--gradient_accumulation_steps",
        2,
        "--adapter_dropout",
        0,
    )
    arguments = ["run_pretrain_lin_adapter", tiny_backbone, world / "find_head"]
    one = command(*arguments, tmp_path / "one", *flags, "--per_gpu_train_batch_size", 6)
    load_script(one[0]).main(one[1:])
    two = command(*arguments, tmp_path / "two", *flags, "--per_gpu_train_batch_size", 3)
    finished(["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *two], tmp_path)
    one, two = only_run(tmp_path / "one"), only_run(tmp_path / "two")
    assert [row[:2] for row in dev_losses(two)] == [row[:2] for row in dev_losses(one)]  # written once
    np.testing.assert_allclose([r[2] for r in dev_losses(two)], [r[2] for r in dev_losses(one)], rtol=1e-5)
    weights, same = (load_file(run / "adapter_model.safetensors") for run in (one, two))
    for name, value in weights.items():
        torch.testing.assert_close(same[name], value, rtol=1e-3, atol=1e-5)
    rows, again = (
        [json.loads(line)["record"] for line in (run / "predictions_dev.jsonl").read_text().splitlines()]
        for run in (one, two)
    )
    assert again == rows == list(range(1, len(rows) + 1))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["figer", "tacred", "cosmosqa", "searchqa", "classification", "tagging", "squad"])
def test_two_processes_fine_tune_as_one(tiny_backbone, world, tmp_path, recipe):
    data = {"figer": "FIGER", "tacred": "TACRED", "cosmosqa": "cosmosQA", "searchqa": "questions"}.get(recipe, recipe)
    name = f"run_finetune_{recipe}_adapter"
    (world / data / "labels.json").unlink(missing_ok=True)  # FIGER's is written by one process, read by both
    flags = ["--max_steps", 6, "--eval_steps", 3, "--task_adapter", "own", "--adapter_dropout", 0]
    flags += ["--doc_stride", 8, "--max_query_length", 16] * (recipe == "squad")
    flags += ["--chunk_tokens", 60] if recipe == "searchqa" else []
    one = command(name, tiny_backbone, world / data, tmp_path / "one", *flags, "--per_gpu_train_batch_size", 6)
    two = command(name, tiny_backbone, world / data, tmp_path / "two", *flags, "--per_gpu_train_batch_size", 3)
    finished(["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *two], tmp_path)
    finished(one, tmp_path)
    one, two = only_run(tmp_path / "one"), only_run(tmp_path / "two")
    assert [row[:2] for row in dev_losses(two)] == [row[:2] for row in dev_losses(one)]
    np.testing.assert_allclose([r[2] for r in dev_losses(two)], [r[2] for r in dev_losses(one)], rtol=1e-4)
    records = [len((run / "predictions_dev.jsonl").read_text().splitlines()) for run in (one, two)]
    assert records[0] == records[1]


@pytest.mark.slow
def test_two_processes_train_two_tasks_in_turn_as_one_does(tiny_backbone, world, tmp_path):
    flags = ["--max_steps", 6, "--eval_steps", 3, "--max_seq_length", 64]
    arguments = ["run_pretrain_multitask", tiny_backbone, world]
    one = command(*arguments, tmp_path / "one", *flags, "--per_gpu_train_batch_size", 6)
    two = command(*arguments, tmp_path / "two", *flags, "--per_gpu_train_batch_size", 3)
    finished(["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *two], tmp_path)
    finished(one, tmp_path)
    one, two = only_run(tmp_path / "one"), only_run(tmp_path / "two")
    rows = [[json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()] for run in (one, two)]
    assert (
        [row["global_step"] for row in rows[0]]
        == [row["global_step"] for row in rows[1]]
        == [3, 6, rows[0][2]["global_step"]]
    )
    for row, other in zip(*rows, strict=True):
        assert row["metrics"] == pytest.approx(other["metrics"], rel=1e-4)
    weights, same = (load_file(run / "model.safetensors") for run in (one, two))
    for name, value in weights.items():
        torch.testing.assert_close(same[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_processes_and_runs_fill_one_cache_together_and_a_killed_one_is_gone_on_from(tiny_backbone, world, tmp_path):
    # A job of two processes and a run of one write at once; another job is killed while it writes.
    flags = ["--max_steps", 24, "--eval_steps", 12, "--save_steps", 24, "--adapter_dropout", 0]
    arguments = ["run_pretrain_fac_adapter", tiny_backbone, world / "trex-rc"]
    cache = ["--cache_states", tmp_path / "states"]
    plain = command(*arguments, tmp_path / "plain", *flags, "--per_gpu_train_batch_size", 18)
    one = command(*arguments, tmp_path / "one", *flags, *cache, "--per_gpu_train_batch_size", 18)
    two = command(*arguments, tmp_path / "two", *flags, *cache, "--per_gpu_train_batch_size", 9)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    finished(plain, tmp_path)
    killed = subprocess.Popen([sys.executable, *one], cwd=ROOT, env=environment(tmp_path), stderr=subprocess.DEVNULL)
    while killed.poll() is None and not any(np.fromfile(path).any() for path in tmp_path.rglob("*.sums")):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    beside = subprocess.Popen([sys.executable, *one], cwd=ROOT, env=environment(tmp_path), stderr=subprocess.DEVNULL)
    finished([*launch, *two], tmp_path)
    assert beside.wait(timeout=300) == 0
    assert all(np.fromfile(path, np.int64).all() for path in tmp_path.rglob("*.sums"))
    expected = only_run(tmp_path / "plain")
    for folder in ("one", "two"):
        run = only_run(tmp_path / folder)
        np.testing.assert_allclose([r[2] for r in dev_losses(run)], [r[2] for r in dev_losses(expected)], atol=1e-5)


@pytest.mark.slow
def test_sharded_parameters_give_the_losses_of_whole_ones_and_resume(tiny_backbone, world, tmp_path):
    flags = ["--max_steps", 8, "--eval_steps", 4, "--save_steps", 4, "--adapter_dropout", 0]
    flags += ["--per_gpu_train_batch_size", 3]
    processes = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    arguments = ["run_pretrain_lin_adapter", tiny_backbone, world / "find_head"]
    finished([*processes, *command(*arguments, tmp_path / "whole", *flags)], tmp_path)
    sharded = [*processes, "tests/sharded.py", *command(*arguments, tmp_path / "sharded", *flags)]
    finished(sharded, tmp_path)
    whole, run = only_run(tmp_path / "whole"), only_run(tmp_path / "sharded")
    assert (run / "checkpoint-8" / "optimizer_0").is_dir()  # sharded indeed
    before = dev_losses(run)
    np.testing.assert_allclose([r[2] for r in before], [r[2] for r in dev_losses(whole)], rtol=1e-5)
    weights = load_file(run / "adapter_model.safetensors")
    next((run / "checkpoint-8" / "optimizer_0").iterdir()).write_bytes(b"")  # both go back to step 4
    finished(sharded, tmp_path)
    again = load_file(run / "adapter_model.safetensors")
    assert all(torch.equal(again[name], value) for name, value in weights.items())
    assert dev_losses(run) == before


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_an_unbroken_one(tiny_backbone, world, tmp_path):
    flags = (
        "--max_steps",
        60,
        "--eval_steps",
        7,
        "--save_steps",
        3,
        "--gradient_accumulation_steps",
        2,
        "--per_gpu_train_batch_size",
        4,
    )
    arguments = ["run_pretrain_fac_adapter", tiny_backbone, world / "trex-rc"]
    finished(command(*arguments, tmp_path / "whole", *flags), tmp_path)
    broken = [sys.executable, *command(*arguments, tmp_path / "broken", *flags)]
    chance, kills = random.Random(5), 0
    while kills < 6:
        process = subprocess.Popen(broken, cwd=ROOT, env=environment(tmp_path), stderr=subprocess.DEVNULL)
        before = newest(tmp_path / "broken")
        while process.poll() is None and newest(tmp_path / "broken") <= before:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.4))  # anywhere: in a step, an evaluation, or while a checkpoint is written
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills >= 3
    finished(broken[1:], tmp_path)
    whole, again = only_run(tmp_path / "whole"), only_run(tmp_path / "broken")
    for name in ("adapter_model.safetensors", "pretraining_head.safetensors", "best/adapter_model.safetensors"):
        one, other = load_file(whole / name), load_file(again / name)
        assert all(torch.equal(one[key], other[key]) for key in one), name
    assert dev_losses(again) == dev_losses(whole)
    assert not list(again.glob(".*.tmp"))


@pytest.mark.slow
def test_two_tasks_in_turn_that_are_killed_go_on_to_the_same_backbone(tiny_backbone, world, tmp_path):
    flags = ("--max_steps", 20, "--eval_steps", 6, "--save_steps", 3, "--per_gpu_train_batch_size", 4)
    arguments = ["run_pretrain_multitask", tiny_backbone, world]
    load_script("examples/run_pretrain_multitask.py").main(command(*arguments, tmp_path / "whole", *flags)[1:])
    broken = [sys.executable, *command(*arguments, tmp_path / "broken", *flags)]
    process = subprocess.Popen(broken, cwd=ROOT, env=environment(tmp_path), stderr=subprocess.DEVNULL)
    while process.poll() is None and newest(tmp_path / "broken") < 6:
        time.sleep(0.01)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished(broken[1:], tmp_path)
    whole, again = only_run(tmp_path / "whole"), only_run(tmp_path / "broken")
    for name in ("model.safetensors", "pretraining_head.safetensors", "best/model.safetensors"):
        one, other = load_file(whole / name), load_file(again / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name


def newest(folder):
    steps = [int(path.name.split("-")[1]) for path in folder.glob("*/checkpoint-*")] if folder.is_dir() else []
    return max(steps, default=-1)


@pytest.mark.slow
def test_a_second_start_of_a_run_is_refused_in_all_its_processes_and_one_killed_blocks_nobody(
    tiny_backbone, world, tmp_path
):
    flags = ["--max_steps", 4, "--per_gpu_train_batch_size", 3, "--overwrite_output_dir"]
    recipe = command("run_pretrain_lin_adapter", tiny_backbone, world / "find_head", tmp_path / "out", *flags)
    finished(recipe, tmp_path)
    run = only_run(tmp_path / "out")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    script = "import sys, time; from kadapter.storage.locks import exclusive"
    script += "\nwith exclusive(sys.argv[1], ''):\n    print('held', flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", script, str(run)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *recipe]
    done = subprocess.run(launch, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=120)
    assert done.returncode
    assert f"is in use by process {holder.pid} on" in done.stderr
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    holder.kill()
    holder.communicate()
    finished(launch[1:], tmp_path)
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes_in_the_same_steps(tiny_backbone, world, tmp_path):
    """Six steps by one process, six by two: the losses of twelve by one, with the same examples in each step."""
    flags = ["--eval_steps", 3, "--save_steps", 6, "--adapter_dropout", 0, "--per_gpu_train_batch_size", 4]
    flags += ["--max_steps", 12, "--gradient_accumulation_steps", 2]
    arguments = ["run_pretrain_lin_adapter", tiny_backbone, world / "find_head"]
    finished(command(*arguments, tmp_path / "one", *flags), tmp_path)
    finished(command(*arguments, tmp_path / "two", *flags), tmp_path)
    run = only_run(tmp_path / "two")
    shutil.rmtree(run / "checkpoint-12")  # as if killed after step 6
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    finished([*two, *command(*arguments, tmp_path / "two", *flags)], tmp_path)
    record = json.loads((run / "args.json").read_text())
    assert (record["batch_size"], record["processes"]) == (8, 2)
    whole = dev_losses(only_run(tmp_path / "one"))
    assert [row[:2] for row in dev_losses(run)] == [row[:2] for row in whole]
    np.testing.assert_allclose([r[2] for r in dev_losses(run)], [r[2] for r in whole], rtol=1e-5)
    three = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "3"]
    shutil.rmtree(run / "checkpoint-12")
    done = subprocess.run(
        [sys.executable, *three, *command(*arguments, tmp_path / "two", *flags)],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "this run takes 8 examples a step, which 3 processes cannot share out evenly" in done.stderr


@pytest.mark.slow
def test_of_two_processes_one_tokenizes_and_the_other_waits_for_its_store(tiny_backbone, world, tmp_path):
    arguments = ["run_pretrain_fac_adapter", tiny_backbone, world / "trex-rc", tmp_path / "runs"]
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    finished([*two, *command(*arguments, "--prepare_only")], tmp_path)
    stores = list((tmp_path / "features" / "kadapter").iterdir())
    assert sorted(path.name for path in stores if not path.name.startswith(".")) == sorted(
        path.name for path in stores
    )  # nothing is left behind
    assert len(stores) == 2
    assert not (tmp_path / "runs").exists()
