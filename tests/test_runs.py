"""What a run is, what stops it, and what it says: one recipe on the demo world."""

import json
import logging
import math
import os
import shutil
import signal
import threading

import pytest
import torch
from conftest import load_script, slow
from safetensors.torch import load_file, save_file

from kadapter import TaskModel
from kadapter.data.jsonio import write_json, write_jsonl
from kadapter.tasks import TASKS
from kadapter.training import fitting
from kadapter.training import loop as training

FAC = load_script("examples/run_pretrain_fac_adapter.py")
TYPING = load_script("examples/run_finetune_openentity_adapter.py")
FIGER = load_script("examples/run_finetune_figer_adapter.py")


@pytest.fixture
def relations(world, tmp_path):
    """A copy of trex-rc to spoil."""
    return shutil.copytree(world / "trex-rc", tmp_path / "data")


def results(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


# -- a run is its content ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", slow("dev")])
def test_data_that_changed_since_a_run_began_are_refused(run, relations, split):
    run(FAC, "--data_dir", relations, steps=2)
    run(FAC, "--data_dir", relations, steps=2)  # the same content goes on
    rows = json.loads((relations / f"{split}.json").read_text())
    write_json(relations / f"{split}.json", rows[1:])
    message = (
        rf"other content: the {split} data changed since it began \(--data_dir is .*data\); give another --comment"
    )
    with pytest.raises(ValueError, match=message):
        run(FAC, "--data_dir", relations, steps=2)
    with pytest.raises(ValueError, match=message):  # nor are the old model's scores reported alone
        run(FAC, "--data_dir", relations, "--do_train", "False", steps=2)
    run(FAC, "--data_dir", relations, "--overwrite_output_dir", steps=2)
    (relations / f"{split}.json").unlink()
    write_jsonl(relations / f"{split}.jsonl", rows)
    with pytest.raises(ValueError, match=message):
        run(FAC, "--data_dir", relations, steps=2)


def test_labels_in_another_order_are_refused(run, relations):
    run(FAC, "--data_dir", relations, steps=2)
    ids = json.loads((relations / "relations.json").read_text())
    write_json(relations / "relations.json", {name: len(ids) - 1 - i for name, i in ids.items()})
    with pytest.raises(ValueError, match="other content: the labels changed"):
        run(FAC, "--data_dir", relations, steps=2)


def test_an_adapter_that_was_trained_anew_at_the_same_place_is_refused(run):
    _, adapter = run(FAC, "--comment", "fac", steps=2)
    flags = ("--meta_fac_adaptermodel", adapter)
    run(TYPING, *flags, steps=2)
    weights = load_file(adapter / "adapter_model.safetensors")
    weights["adapter.0.up_project.bias"][0] += 1
    save_file(weights, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="other content: the adapter 'fac' changed"):
        run(TYPING, *flags, steps=2)


def test_a_backbone_that_changed_at_the_same_place_is_refused(run, tiny_backbone, tmp_path):
    backbone = shutil.copytree(tiny_backbone, tmp_path / "backbone")
    run(FAC, "--model_name_or_path", backbone, steps=2)
    weights = load_file(backbone / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][5] += 1
    save_file(weights, backbone / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="other content: the model .*backbone changed"):
        run(FAC, "--model_name_or_path", backbone, steps=2)


def test_test_data_may_be_mended_and_are_scored_anew(run, world, tmp_path):
    data = shutil.copytree(world / "OpenEntity", tmp_path / "data")
    first, folder = run(TYPING, "--data_dir", data, steps=2)
    rows = json.loads((data / "test.json").read_text())
    write_json(data / "test.json", rows[:5])
    second, _ = run(TYPING, "--data_dir", data, steps=2)
    assert second["dev"] == first["dev"]
    assert len((folder / "predictions_test.jsonl").read_text().splitlines()) == 5


# -- data before processes --------------------------------------------------------------------------------------


def test_preparing_alone_leaves_stores_that_the_run_finds_and_no_run(run, relations, tmp_path, caplog, monkeypatch):
    flags = ["--data_dir", relations, "--features_cache", tmp_path / "stores"]
    with caplog.at_level(logging.INFO):
        report, folder = run(FAC, *flags, "--prepare_only", "--do_train", "False", "--do_eval", "False")
    assert (report, folder) == ({}, None)
    sizes = [len(json.loads((relations / f"{split}.json").read_text())) for split in ("train", "dev")]
    assert f"prepared: train {sizes[0]:,}, dev {sizes[1]:,}" in caplog.text
    stores = sorted(path.name for path in (tmp_path / "stores").iterdir())
    monkeypatch.setattr("kadapter.data.features._build", lambda *args: pytest.fail("tokenized again"))
    run(FAC, *flags, steps=2)
    assert sorted(path.name for path in (tmp_path / "stores").iterdir()) == stores


def test_data_are_read_before_processes_join(run, monkeypatch):
    events = []
    from kadapter.training import recipe

    real_load, real_start = recipe.load_features, recipe.start_accelerator
    monkeypatch.setattr(recipe, "load_features", lambda *a, **k: events.append("read") or real_load(*a, **k))
    monkeypatch.setattr(recipe, "start_accelerator", lambda *args: events.append("join") or real_start(*args))
    run(FAC, steps=1)
    assert events == ["read", "read", "join"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [FAC, TYPING])
def test_workers_that_tokenize_and_load_change_nothing(run, recipe, tmp_path):
    _, alone = run(recipe, "--comment", "alone", steps=3)
    workers = ("--preprocessing_num_workers", "2", "--dataloader_num_workers", "2")
    _, shared = run(recipe, "--comment", "shared", *workers, "--features_cache", tmp_path / "stores", steps=3)
    strip = [{**row, "seconds": 0} for row in results(alone)]
    assert [{**row, "seconds": 0} for row in results(shared)] == strip


# -- not finite -------------------------------------------------------------------------------------------------


def test_a_last_update_that_diverges_is_an_error_and_overwrites_nothing_good(run, monkeypatch):
    _, folder = run(FAC, "--save_steps", "1", "--eval_steps", "1", steps=2)
    best = load_file(folder / "best" / "adapter_model.safetensors")

    def diverge(model, max_norm, separately):
        next(p for p in model.parameters() if p.grad is not None).grad.fill_(math.nan)

    monkeypatch.setattr(training, "clip_gradients", diverge)
    shutil.rmtree(folder / "checkpoint-2")  # so that the last step is made again
    with pytest.raises(FloatingPointError, match=r"weights are not finite after step 2, such as encoder\.adapters"):
        run(FAC, "--save_steps", "1", "--eval_steps", "1", steps=2)
    kept = load_file(folder / "best" / "adapter_model.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in best.items())
    assert not (folder / "checkpoint-2").exists()
    for path in folder.rglob("*.json*"):
        assert "NaN" not in path.read_text()


def test_a_dev_score_that_is_not_finite_chooses_nothing(run, monkeypatch):
    real = fitting.predict
    monkeypatch.setattr(fitting, "predict", lambda *args: (real(*args)[0], math.nan))
    with pytest.raises(FloatingPointError, match="loss on dev is not finite after step 2"):
        run(FAC, steps=2)


def test_json_files_stay_strict_json(tmp_path):
    for write, value in ((write_json, {"loss": math.nan}), (write_jsonl, [{"loss": math.inf}])):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write(tmp_path / "a.json", value)
    assert not list(tmp_path.iterdir())


# -- signals ----------------------------------------------------------------------------------------------------


def interrupt(monkeypatch, number, step):
    """Send this process a signal in that step."""
    real, calls = training._accumulate, []

    def accumulate(*args):
        calls.append(1)
        if len(calls) == step:
            os.kill(os.getpid(), number)
        return real(*args)

    monkeypatch.setattr(training, "_accumulate", accumulate)
    return lambda: monkeypatch.setattr(training, "_accumulate", real)


def test_ctrl_c_saves_says_how_to_go_on_and_exits_with_130(run, monkeypatch, caplog):
    restore = interrupt(monkeypatch, signal.SIGINT, step=3)
    with pytest.raises(SystemExit) as stopped:
        run(FAC, "--save_steps", "0")
    assert stopped.value.code == 130
    assert "stopped by Ctrl-C; the same command goes on from here" in caplog.text
    restore()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    report, folder = run(FAC, "--save_steps", "0")
    assert report["steps"] == 6
    assert [row["global_step"] for row in results(folder) if row["split"] == "dev"] == [3, 6]


@pytest.mark.parametrize("when", ["the last evaluation of the loop", "the report"])
def test_sigterm_in_an_evaluation_is_not_swallowed(run, monkeypatch, when):
    real, calls = fitting.predict, []

    def predict(*args):
        calls.append(1)
        if len(calls) == (2 if when == "the last evaluation of the loop" else 3):
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args)

    monkeypatch.setattr(fitting, "predict", predict)
    with pytest.raises(SystemExit) as stopped:
        run(FAC)
    assert stopped.value.code == 143
    monkeypatch.setattr(fitting, "predict", real)
    report, folder = run(FAC)
    assert report["steps"] == 6
    assert [row["global_step"] for row in results(folder)] == [3, 6, report["best"]["step"]]


def test_training_works_off_the_main_thread(run):
    found = []
    thread = threading.Thread(target=lambda: found.append(run(FAC, steps=2)[0]))
    thread.start()
    thread.join()
    assert found[0]["steps"] == 2


# -- what is asked for ------------------------------------------------------------------------------------------


def test_a_run_that_is_given_nothing_to_do_is_refused(run):
    with pytest.raises(ValueError, match="nothing to do; give --do_train, --do_eval, both, or --prepare_only"):
        run(FAC, "--do_train", "False", "--do_eval", "False")


def test_an_output_folder_that_is_a_file_is_named(run, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(ValueError, match=f"{tmp_path / 'file'} is a file, and the run's folder would be"):
            run(FAC, "--output_dir", place)


def test_a_run_that_stopped_early_goes_on_with_more_patience(run):
    flags = ("--learning_rate", "0", "--eval_steps", "1")
    assert run(FAC, *flags, "--patience", "2", steps=8)[0]["steps"] == 3
    assert run(FAC, *flags, "--patience", "2", steps=8)[0]["steps"] == 3
    assert run(FAC, *flags, "--patience", "4", steps=8)[0]["steps"] == 5
    assert run(FAC, *flags, "--patience", "0", steps=8)[0]["steps"] == 8


def test_much_evaluation_is_said_with_the_flag_that_makes_it_less(run, caplog):
    run(FAC, "--eval_steps", "1", steps=3)
    said = [record.message for record in caplog.records if "evaluation on dev takes" in record.message]
    assert len(said) == 1
    assert "a larger --eval_steps (now 1) makes it less" in said[0]


def test_gradients_are_clipped_as_the_flag_says(run):
    def moved(*flags):
        _, folder = run(FAC, "--comment", flags[-1], *flags, steps=1)
        return load_file(folder / "checkpoint-1" / "trained.safetensors")

    free, clipped = moved("--max_grad_norm", "0"), moved("--max_grad_norm", "1e-9")
    assert any(not torch.equal(value, clipped[name]) for name, value in free.items())


def test_padding_to_the_full_length_and_bfloat16_reach_the_model(run, monkeypatch):
    shapes, kinds = set(), set()
    real = TaskModel.forward

    def forward(self, input_ids, **options):
        output = real(self, input_ids, **options)
        shapes.add(input_ids.shape[1])
        kinds.add(output.logits.dtype)
        return output

    monkeypatch.setattr(TaskModel, "forward", forward)
    run(TYPING, "--comment", "plain", steps=1)
    assert max(shapes) < 64
    assert kinds == {torch.float32}
    shapes.clear()
    kinds.clear()
    run(TYPING, "--comment", "padded", "--pad_to_max_length", "--bf16", steps=1)
    assert shapes == {64}
    assert kinds == {torch.bfloat16}


# -- a saved model knows its task -------------------------------------------------------------------------------


def test_a_saved_task_model_carries_its_task_and_its_labels(run, world):
    _, folder = run(TYPING, steps=2)
    config = TaskModel.from_pretrained(folder / "best").config
    assert config.task == {"name": "openentity", "options": {"spans": "exclusive"}, "max_seq_length": 64}
    labels = config.head_config().labels
    assert config.num_labels == len(labels) == 9
    assert config.id2label == dict(enumerate(labels))
    assert [config.label2id[name] for name in labels] == list(range(9))
    task = TASKS[config.task["name"]](labels=labels, **config.task["options"])
    assert task == TASKS["openentity"].for_folder(world / "OpenEntity")


def test_a_folder_that_was_saved_without_a_task_still_loads(run):
    _, folder = run(TYPING, steps=2)
    path = folder / "best" / "config.json"
    values = json.loads(path.read_text())
    for name in ("task", "id2label", "label2id"):
        del values[name]
    write_json(path, values)
    config = TaskModel.from_pretrained(folder / "best").config
    assert config.task is None
    assert config.num_labels == 9
