"""A run's folder: what is written there, by which process, and what another start makes of it."""

import dataclasses
import json
import platform
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from kadapter.training import devices, recipe
from kadapter.training.arguments import TrainingArguments
from kadapter.training.content import model_digest, state_digest
from kadapter.training.tracking import Run, run_name


class Other:
    """The accelerator of a process that is not the main one, whose broadcasts do nothing."""

    is_main_process, num_processes = False, 1

    def wait_for_everyone(self):
        pass


def take(folder, accelerator=None, batch_size=8, content=None, **arguments):
    flags = {**dataclasses.asdict(TrainingArguments(**arguments)), "data_dir": "data"}
    return Run(accelerator or Accelerator(cpu=True), folder, flags, content or {}, batch_size)


def rows(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_other_processes_write_nothing(tmp_path):
    with take(tmp_path / "run", Other()) as run:
        run.resume_at(0)
        run.scalars(1, {"loss": 1.0})
        run.result("dev", 1, 0.5, {"f1": 0.5}, 1.0)
        run.predictions("dev", [{"index": 0}])
        assert run.metrics({"f1": 0.5}) == {"f1": 0.5}
    assert not list(tmp_path.iterdir())


def test_a_run_that_goes_on_forgets_what_came_after_its_checkpoint(tmp_path):
    with take(tmp_path) as run:
        run.resume_at(0)
        for split, step in (("dev", 2), ("dev", 4), ("dev", 6), ("dev_best", 4), ("test_best", 2)):
            run.result(split, step, step / 3, {"f1": step / 10}, 1.23456)
        run.predictions("test", [{"index": 0}, {"index": 1}])
        assert run.metrics({"steps": 6, "f1": 0.4}) == {"steps": 6, "f1": 0.4}
    first = {"split": "dev", "global_step": 2, "epoch": 0.6667, "metrics": {"f1": 0.2}, "seconds": 1.235}
    assert rows(tmp_path)[0] == first
    assert len((tmp_path / "predictions_test.jsonl").read_text().splitlines()) == 2
    assert list(tmp_path.glob("events.*"))
    with take(tmp_path) as run:
        run.resume_at(4)
        assert [(row["split"], row["global_step"]) for row in rows(tmp_path)] == [("dev", 2), ("dev", 4)]
        assert run.metrics({"f1": 0.5}) == {"steps": 6, "f1": 0.5}
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"steps": 6, "f1": 0.5}


def test_a_score_that_is_no_number_is_not_written(tmp_path):
    with take(tmp_path) as run, pytest.raises(ValueError, match="not JSON compliant"):
        run.result("dev", 2, 1.0, {"f1": float("nan")}, 1.0)
    assert not (tmp_path / "results.jsonl").exists()


def test_a_run_that_goes_on_keeps_its_batch_size_and_its_content_whatever_the_processes(tmp_path):
    with take(tmp_path, batch_size=12, content={"train": "a", "dev": "b"}) as run:
        assert run.batch_size == 12
    with take(tmp_path, batch_size=24, content={"train": "a"}) as run:  # an evaluation alone does not read all
        assert run.batch_size == 12
    with pytest.raises(ValueError, match="other content: dev changed since it began"):
        take(tmp_path, content={"train": "a", "dev": "c"})
    record = json.loads((tmp_path / "args.json").read_text())
    assert record["content"] == {"train": "a", "dev": "b"}
    assert record["processes"] == 1
    assert record["versions"]["python"] == platform.python_version()
    del record["batch_size"]  # as runs of before wrote it
    record["arguments"] |= {"gradient_accumulation_steps": 3, "per_gpu_train_batch_size": 4}
    (tmp_path / "args.json").write_text(json.dumps(record | {"processes": 2}))
    with take(tmp_path, gradient_accumulation_steps=3, per_gpu_train_batch_size=4) as run:
        assert run.batch_size == 24


def test_arguments_that_weights_do_not_depend_on_may_change_and_others_may_not(tmp_path):
    take(tmp_path).close()
    take(tmp_path, save_steps=7, eval_steps=7, logging_steps=7, patience=2, do_train=False).close()
    with pytest.raises(
        ValueError, match=r"other arguments \(learning_rate was .*, is 0.5; seed was 42, is 7; data_seed.*\)"
    ):
        take(tmp_path, learning_rate=0.5, seed=7)
    (tmp_path / "results.jsonl").write_text("")
    (tmp_path / ".checkpoint-3.tmp").mkdir()
    take(tmp_path).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["args.json", "results.jsonl"]
    take(tmp_path, learning_rate=0.5, overwrite_output_dir=True).close()
    assert [path.name for path in tmp_path.iterdir()] == ["args.json"]


def test_the_name_of_a_run_tells_its_settings():
    args = TrainingArguments(learning_rate=1e-4, warmup_steps=10, seed=3, comment="mine")
    assert run_name(args, 64, "fac-lin").endswith("lr-0.0001_warmup-10_maxlen-64_seed-3_fac-lin_mine")
    shared = TrainingArguments(warmup_proportion=0.1, warmup_steps=10)
    assert "_warmup-0.1_" in run_name(shared, 64, "none")
    assert not run_name(shared, 64, "none").endswith("_")


def test_the_digest_of_a_model_is_that_of_its_files_or_its_commit(tmp_path):
    encoder = SimpleNamespace(config=SimpleNamespace(backbone_config=SimpleNamespace(_commit_hash="abc")))
    assert model_digest("someone/model", encoder) == "abc"
    encoder.config.backbone_config._commit_hash = None
    assert model_digest("someone/model", encoder) == "someone/model"
    digests = set()
    for name in ("config.json", "model.safetensors", "README.md", "pytorch_model.bin"):
        (tmp_path / name).write_text(name)
        digests.add(model_digest(str(tmp_path), encoder))
    assert len(digests) == 3  # what is no weight does not count


def test_the_digest_of_a_state_depends_on_names_types_shapes_and_values():
    value = torch.arange(4.0)
    states = [{"a": value}, {"b": value}, {"a": value.reshape(2, 2)}, {"a": value + 1}, {"a": value.half()}]
    assert len({state_digest(state) for state in states}) == 5
    assert state_digest({"a": value, "b": value + 1}) == state_digest({"b": value + 1, "a": value.clone()})


def test_memory_is_0_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr(devices.system, "peak_memory_mib", lambda: None)
    assert devices.peak_memory_mib(torch.device("cpu")) == 0


@pytest.mark.parametrize(
    ("flags", "files", "expected"),
    [
        ({"do_train": True}, ["train", "dev", "test"], ["train", "dev"]),
        ({"do_train": True, "evaluate_during_training": False}, ["train", "dev", "test"], ["train"]),
        ({"do_eval": True}, ["train", "dev", "test"], ["dev", "test"]),
        ({"do_eval": True}, ["train", "dev"], ["dev"]),
        ({"do_train": True, "do_eval": True}, ["test"], ["train", "dev", "test"]),  # which then raises for train
        ({"prepare_only": True}, ["test"], ["train", "dev", "test"]),
        ({"prepare_only": True}, ["train", "dev"], ["train", "dev"]),
    ],
)
def test_a_run_reads_the_splits_that_it_needs(tmp_path, monkeypatch, flags, files, expected):
    for name in files:
        (tmp_path / name).touch()
    monkeypatch.setattr(recipe, "load_features", lambda task, folder, split, *args, **options: split)
    monkeypatch.setattr(recipe, "count_shared", lambda *features: 0)
    task = SimpleNamespace(path=lambda folder, split: tmp_path / split, required=("train", "dev"))
    given = {"do_train": False, "do_eval": False, "evaluate_during_training": True, **flags}
    data = {"data_dir": tmp_path, "prepare_only": False, **flags, "features_cache": None}
    data |= {"preprocessing_num_workers": None, "cluster": "", "overwrite_cache": False}
    args = SimpleNamespace(training=SimpleNamespace(**given), data=SimpleNamespace(**data))
    assert list(recipe.prepare_data(task, ("train", "dev", "test"), None, args, str(tmp_path))) == expected
