"""Every recipe's real script, in process, on a tiny model and the demo world."""

import json

import pytest
import torch
from conftest import load_script, slow
from safetensors.torch import load_file

from kadapter import RobertawithAdapter, TaskModel
from kadapter.data.jsonio import write_json_list
from kadapter.training import loop as training
from kadapter.training.encoders import load_pretraining_encoder
from kadapter.training.model_arguments import PretrainingArguments

FAC = load_script("examples/run_pretrain_fac_adapter.py")
LIN = load_script("examples/run_pretrain_lin_adapter.py")
TYPING = load_script("examples/run_finetune_openentity_adapter.py")


def results(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_factual_pretraining_leaves_an_adapter_and_all_files_of_a_run(run):
    report, folder = run(FAC)
    names = {path.name for path in folder.iterdir()}
    assert {
        "args.json",
        "results.jsonl",
        "metrics.json",
        "predictions_dev.jsonl",
        "best",
        "checkpoint-4",
        "checkpoint-6",
        "adapter_config.json",
        "adapter_model.safetensors",
        "pretraining_head.safetensors",
    } <= names
    assert "checkpoint-2" not in names  # two are kept
    assert any(name.startswith("events.out.tfevents") for name in names)
    rows = results(folder)
    assert [(row["split"], row["global_step"]) for row in rows[:2]] == [("dev", 3), ("dev", 6)]
    assert report["best"]["accuracy"] == max(row["metrics"]["accuracy"] for row in rows if row["split"] == "dev")
    assert report["dev"]["accuracy"] == report["best"]["accuracy"]
    predictions = [json.loads(line) for line in (folder / "predictions_dev.jsonl").read_text().splitlines()]
    right = sum(row["relation"] == row["predicted"] for row in predictions) / len(predictions)
    assert right == pytest.approx(report["dev"]["accuracy"])
    assert [row["record"] for row in predictions] == list(range(1, len(predictions) + 1))


def test_pretraining_changes_the_adapter_and_nothing_of_the_backbone(run, tiny_backbone):
    _, folder = run(LIN)
    trained = load_file(folder / "checkpoint-6" / "trained.safetensors")
    assert all(name.startswith(("encoder.adapters.lin.", "encoder.fusion.", "head.")) for name in trained)
    moved = load_file(folder / "adapter_model.safetensors")["adapter.0.down_project.weight"].abs().max()
    assert moved > 0.002  # fresh ones are N(0, 0.0002)


def test_pretraining_goes_on_from_a_given_adapter(run):
    _, first = run(FAC, "--comment", "first")
    _, second = run(FAC, "--meta_adapter_model", first, "--learning_rate", "0", "--comment", "second")
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (first, second))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_baseline_without_adapter_trains_the_head_alone(run):
    report, folder = run(LIN, "--no_adapter")
    assert set(report["dev"]) == {"accuracy", "att_accuracy", "loss"}
    trained = load_file(folder / "checkpoint-6" / "trained.safetensors")
    assert trained
    assert all(name.startswith("head.") for name in trained)


@pytest.mark.parametrize("fusion_mode", ["concat", slow("add")])
@pytest.mark.parametrize("names", [(), ("fac", "lin", "bio"), slow(("fac",))])
def test_typing_takes_none_one_or_many_adapters(run, world, fusion_mode, names):
    sources = {}
    for name, recipe in zip(names, (FAC, LIN, FAC), strict=False):
        sources[name] = run(recipe, "--comment", name, steps=2)[1]
    flags = [f"--meta_{name}_adaptermodel={path}" for name, path in sources.items() if name != "bio"]
    flags += [f"--adapter=bio={sources['bio']}"] if "bio" in sources else []
    report, folder = run(TYPING, "--fusion_mode", fusion_mode, *flags)
    assert {"precision", "recall", "f1"} <= set(report["test"])
    model = TaskModel.from_pretrained(folder / "best")
    assert list(model.encoder.adapters) == list(names)
    encoder = RobertawithAdapter.from_pretrained(folder / "best")  # the encoder alone, from a task model's folder
    for name, parameter in encoder.named_parameters():
        assert torch.equal(parameter, model.encoder.get_parameter(name))
    for name, path in sources.items():  # frozen adapters stay as they were
        state = load_file(path / "adapter_model.safetensors")
        assert all(torch.equal(value, model.encoder.adapters[name].get_parameter(key)) for key, value in state.items())


def test_a_task_on_a_frozen_backbone_with_one_adapter_keeps_the_whole_model(run):
    """What pretraining alone keeps, the adapter, would leave the task's head behind."""
    _, folder = run(TYPING, "--task_adapter", "mine", "--freeze_bert", steps=1)
    model = TaskModel.from_pretrained(folder / "best")
    assert list(model.encoder.adapters) == ["mine"]
    assert model.config.head_config().kind == "entity_typing"


def test_the_flags_of_the_original_run_scripts_are_accepted(run, caplog):
    run(
        TYPING,
        "--model_type",
        "roberta",
        "--config_name",
        "roberta-large",
        "--task_name=entity_type",
        "--model_name_or_path",
        "nowhere",
        "--overwrite_output_dir",
        "--overwrite_cache",
        "--freeze_bert=",
        "--warmup_steps=2",
        "--freeze_adapter=True",
        "--adapter_skip_layers",
        "0",
        "--meta_fac_adaptermodel=",
        "--meta_lin_adaptermodel=",
        "--adapter_list",
        "0,1,2",
        "--adapter_transformer_layers",
        "1",
        "--local_rank",
        "-1",
        f"--model_name={run.backbone}",
    )
    said = [record.message for record in caplog.records if "accepted but does nothing" in record.message]
    assert [message.split()[0] for message in said] == ["--model_type", "--config_name", "--local_rank"]


def test_a_finished_run_is_not_trained_again(run):
    report, folder = run(FAC)
    again, same = run(FAC)
    assert same == folder
    assert again["best"] == report["best"]
    assert again["dev"] == report["dev"]
    assert len(results(folder)) == 3  # two of training, one of the end
    evaluated, same = run(FAC, "--do_train", "False")
    assert same == folder
    assert evaluated == again == json.loads((folder / "metrics.json").read_text())
    assert evaluated["steps"] == 6


def test_other_arguments_are_refused_in_the_same_folder(run):
    run(FAC)
    with pytest.raises(ValueError, match="weight_decay was 0.0, is 0.1.*--overwrite_output_dir"):
        run(FAC, "--weight_decay", "0.1")
    run(FAC, "--weight_decay", "0.1", "--overwrite_output_dir")


def test_sigterm_saves_and_the_same_command_ends_as_an_unbroken_run(run, terminated):
    _, whole = run(FAC, "--comment", "whole", "--gradient_accumulation_steps", "2")
    assert json.loads((whole / "args.json").read_text())["batch_size"] == 8
    flags = ("--comment", "broken", "--gradient_accumulation_steps", "2")
    with terminated():
        run(FAC, *flags)
    _, broken = run(FAC, *flags)
    for name in ("adapter_model.safetensors", "pretraining_head.safetensors"):
        one, other = load_file(whole / name), load_file(broken / name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    strip = [{**row, "seconds": 0} for row in results(whole)]
    assert [{**row, "seconds": 0} for row in results(broken)] == strip


def test_a_loss_that_is_not_finite_stops_with_step_and_records(run, tmp_path):
    with pytest.raises(FloatingPointError, match=r"step \d+, whose batch holds the records \[\d+"):
        run(FAC, "--learning_rate", "1e30", "--save_steps", "0", "--logging_steps", "1", steps=20)


def test_mistakes_end_before_anything_is_written(run, world, tmp_path, tiny_backbone):
    bad = tmp_path / "bad"
    write_json_list(bad / "train.json", [{"sent": "ab", "start": 0, "end": 9, "labels": []}])
    with pytest.raises(ValueError, match=r"train\.json, record 1: the mention spans 0 to 9.*2 characters"):
        run(TYPING, "--data_dir", bad)
    with pytest.raises(FileNotFoundError, match=r"train\.json is missing"):
        run(TYPING, "--data_dir", tmp_path / "none")
    with pytest.raises(ValueError, match="max_seq_length is 300.*128 positions"):
        run(TYPING, "--max_seq_length", "300")
    with pytest.raises(FileNotFoundError, match="adapter nowhere.bin is not there"):
        run(TYPING, "--meta_fac_adaptermodel", "nowhere.bin")
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        run(TYPING, "--fp16")
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_padding_to_max_length_and_bfloat16_and_checkpointing_run(run):
    report, folder = run(
        TYPING,
        "--pad_to_max_length",
        "--bf16",
        "--gradient_checkpointing",
        "--group_by_length",
        "False",
        "--attend_padding",
        steps=2,
    )
    assert report["steps"] == 2
    assert json.loads((folder / "args.json").read_text())["arguments"]["bf16"] is True


def test_a_budget_of_tokens_gives_the_losses_and_weights_of_steps_that_are_cut_evenly(run):
    flags = ("--per_gpu_train_batch_size", 24, "--adapter_dropout", 0, "--eval_steps", 5)
    whole, cut = (
        run(LIN, *flags, "--comment", name, *more, steps=5)[1]
        for name, more in (("whole", ()), ("cut", ("--max_tokens_per_batch", 130)))
    )
    assert [row["metrics"]["loss"] for row in results(cut)] == pytest.approx(
        [row["metrics"]["loss"] for row in results(whole)], abs=1e-5
    )
    weights, expected = (load_file(folder / "adapter_model.safetensors") for folder in (cut, whole))
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5)


def test_the_peak_of_memory_is_that_of_the_training_not_of_a_later_start(run, monkeypatch):
    monkeypatch.setattr(training, "peak_memory_mib", lambda device: 700)
    assert run(TYPING)[0]["peak_memory_mib"] == 700
    monkeypatch.setattr(training, "peak_memory_mib", lambda device: 90)
    report, folder = run(TYPING, "--do_eval")
    assert report["peak_memory_mib"] == json.loads((folder / "metrics.json").read_text())["peak_memory_mib"] == 700


def test_an_adapter_wider_than_the_backbone_is_told_and_stays_as_it_was_asked_for(tiny_backbone, caplog):
    def encoder(**flags):
        caplog.clear()
        args = PretrainingArguments(model_name_or_path=str(tiny_backbone), adapter_attention_heads=2, **flags)
        return load_pretraining_encoder(args, "fac")

    assert encoder(adapter_size=64).config.adapter_config("fac").adapter_size == 64
    (said,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "--adapter_size is 64, but the backbone's hidden states have 32 units: adapter 'fac' has " in said
    encoder(adapter_size=32)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
