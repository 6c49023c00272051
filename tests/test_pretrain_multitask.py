"""The control "RoBERTa + multitask": two tasks in turn on one backbone, which stays a plain one."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.utils import DistributedType
from conftest import TINY_ADAPTER, load_script
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, RobertaModel

from kadapter import KAdapterModel
from kadapter.shapes import IGNORE
from kadapter.training import devices, fitting, loop
from kadapter.training.arguments import TrainingArguments
from kadapter.training.batches import Plan, Turns

MULTITASK = load_script("examples/run_pretrain_multitask.py")
TYPING = load_script("examples/run_finetune_openentity_adapter.py")


def results(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tiny_backbone, world, tmp_path_factory):
    """A run of four steps; also its losses, and the model and feeds as they were before the first one."""
    kept, losses, patch = {}, [], pytest.MonkeyPatch()
    real = loop.train

    def train(run, model, feeds, *rest):
        kept["state"] = {name: value.clone() for name, value in model.state_dict().items()}
        kept["feeds"] = feeds
        return real(run, model, feeds, *rest)

    patch.setattr(fitting, "train", train)
    patch.setattr(loop.Run, "scalars", lambda self, step, values: losses.append(values.get("loss")))
    folder = tmp_path_factory.mktemp("multitask")
    flags = ["--do_train", "--do_eval", "--no_cuda", "--max_steps=4", "--eval_steps=2", "--save_steps=4"]
    flags += ["--logging_steps=1", "--per_gpu_train_batch_size=6", "--learning_rate=1e-3", "--warmup_steps=1"]
    place = [f"--model_name_or_path={tiny_backbone}", f"--data_dir={world}", f"--output_dir={folder}"]
    report = MULTITASK.main([*place, *flags, "--max_grad_norm=0", "--adam_epsilon=1e-4"])
    patch.undo()
    (run,) = folder.iterdir()
    return report, run, [loss for loss in losses if loss is not None], kept


def dependency_loss(head, states, batch):
    """By hand, without dropout: one head of attention over real tokens, residual and norm, two linear layers."""
    q, k, v = (
        F.linear(states, head[f"self_attention.self.{n}.weight"], head[f"self_attention.self.{n}.bias"])
        for n in ("query", "key", "value")
    )
    scores = q @ k.transpose(1, 2) / states.shape[-1] ** 0.5
    scores = scores.masked_fill(batch["attention_mask"][:, None] == 0, -torch.inf)
    context = F.linear(scores.softmax(-1) @ v, head["self_attention.output.dense.weight"])
    context = context + head["self_attention.output.dense.bias"] + states
    norm = [head[f"self_attention.output.LayerNorm.{n}"] for n in ("weight", "bias")]
    context = F.layer_norm(context, states.shape[-1:], *norm, eps=1e-5)
    logits = F.linear(F.linear(context, head["dense.weight"], head["dense.bias"]), head["out_proj.weight"])
    logits = logits + head["out_proj.bias"]
    return F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORE)


def relation_loss(head, states, batch):
    pair = torch.cat([states[torch.arange(len(states)), batch["positions"][:, i]] for i in (0, 1)], -1)
    hidden = F.linear(pair, head["dense.weight"], head["dense.bias"])
    return F.cross_entropy(F.linear(hidden, head["out_proj.weight"], head["out_proj.bias"]), batch["labels"])


def test_the_losses_of_the_first_steps_are_those_of_a_plain_loop_over_both_tasks_in_turn(finished, tiny_backbone):
    _, _, losses, kept = finished
    model = RobertaModel.from_pretrained(tiny_backbone, add_pooling_layer=False).eval()  # dropout is 0 there
    names = {task: f"tasks.{task}.head." for task in ("fac", "lin")}
    heads = {
        task: {
            name.removeprefix(begin): nn.Parameter(value.clone())
            for name, value in kept["state"].items()
            if name.startswith(begin)
        }
        for task, begin in names.items()
    }
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *(p for head in heads.values() for p in head.values())], eps=1e-4, weight_decay=0.0
    )
    expected = []
    for step in range(4):
        task = ("fac", "lin")[step % 2]
        (feed,) = [feed for feed in kept["feeds"] if feed.task == task]
        order = Plan.make(feed, args_of(6), 6, 1).epoch(0)[step // 2]  # the second step of a task is its second batch
        rows = [feed.features[int(i)] for i in order[0]]
        batch = feed.collate(rows)
        states = model(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        loss = (relation_loss if task == "fac" else dependency_loss)(heads[task], states, batch)
        optimizer.param_groups[0]["lr"] = 1e-3 * (step if step < 1 else (4 - step) / 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert losses == pytest.approx(expected, rel=2e-5)


def args_of(batch_size, **options):
    return TrainingArguments(per_gpu_train_batch_size=batch_size, **options)


def test_what_is_left_is_a_plain_backbone_and_the_heads_beside_it(finished, tiny_backbone):
    report, folder, _, _ = finished
    trained, before = AutoModel.from_pretrained(folder / "best"), AutoModel.from_pretrained(tiny_backbone)
    assert type(trained) is RobertaModel
    moved = [not torch.equal(p, q) for p, q in zip(trained.parameters(), before.parameters(), strict=True)]
    assert sum(moved) > 50  # the backbone itself
    heads = load_file(folder / "best" / "pretraining_head.safetensors")
    assert {name.split(".")[1] for name in heads} == {"fac", "lin"}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= {p.name for p in folder.iterdir()}
    assert "KAdapterModel.from_pretrained" in (folder / "README.md").read_text()
    assert report["parameters"] == report["trained_parameters"] + 32 * 33  # all but the pooler
    dev = report["dev"]
    assert dev["mean"] == pytest.approx((dev["fac_accuracy"] + dev["lin_accuracy"]) / 2)
    assert report["metric"] == "mean"
    assert report["best"]["mean"] == max(row["metrics"]["mean"] for row in results(folder) if row["split"] == "dev")
    relations, heads = (rows_of(folder / f"predictions_dev_{task}.jsonl") for task in ("fac", "lin"))
    right = np.mean([row["relation"] == row["predicted"] for row in relations])
    assert dev["fac_accuracy"] == pytest.approx(right)
    pairs = [pair for row in heads for pair in zip(row["heads"], row["predicted"], strict=True) if pair[0] != IGNORE]
    assert dev["lin_accuracy"] == pytest.approx(np.mean([gold == found for gold, found in pairs]))


def test_every_recipe_takes_it_as_its_backbone(finished, world, run):
    _, folder, _, _ = finished
    best = folder / "best"
    report, typed = run(TYPING, "--model_name_or_path", best, "--freeze_bert", "--learning_rate", 0, steps=1)
    assert report["dev"]
    state, backbone = load_file(typed / "model.safetensors"), load_file(best / "model.safetensors")
    name = "encoder.layer.3.output.dense.weight"
    assert torch.equal(state[f"encoder.backbone.{name}"], backbone[name])


def test_a_pooler_that_was_never_trained_stays_fresh(finished, tmp_path, tiny_backbone, world):
    _, folder, _, _ = finished
    assert "pooler.dense.weight" in load_file(folder / "model.safetensors")  # the tiny backbone brings one
    bare = tmp_path / "bare"
    RobertaModel.from_pretrained(tiny_backbone, add_pooling_layer=False).save_pretrained(bare)
    for path in tiny_backbone.glob("*token*"):
        (bare / path.name).write_bytes(path.read_bytes())
    flags = [f"--model_name_or_path={bare}", f"--data_dir={world}", f"--output_dir={tmp_path / 'out'}"]
    MULTITASK.main([*flags, "--do_train", "--no_cuda", "--max_steps=2", "--evaluate_during_training=False"])
    (left,) = (tmp_path / "out").iterdir()
    assert "pooler.dense.weight" not in load_file(left / "model.safetensors")
    assert KAdapterModel.from_pretrained(left).config.backbone_config.fresh_pooler


def test_a_stopped_run_goes_on_to_the_same_weights_and_scores(run, terminated, world):
    flags = ("--comment", "whole", "--learning_rate", "1e-3")
    _, whole = run(MULTITASK, *flags, steps=7)
    flags = ("--comment", "broken", "--learning_rate", "1e-3")
    with terminated(step=4):  # of the second task
        run(MULTITASK, *flags, steps=7)
    _, broken = run(MULTITASK, *flags, steps=7)
    for name in ("model.safetensors", "pretraining_head.safetensors", "best/model.safetensors"):
        one, other = load_file(whole / name), load_file(broken / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name
    strip = [{**row, "seconds": 0} for row in results(whole)]
    assert [{**row, "seconds": 0} for row in results(broken)] == strip


def test_turns_alternate_and_each_task_goes_through_all_its_examples(finished):
    long, short = finished[3]["feeds"]
    assert len(long.features) != len(short.features)
    args = args_of(16, num_train_epochs=1.0)
    turns = Turns.make([long, short], args, 16, 1)
    steps = list(turns.steps(0, 0))
    assert [step.feed.task for step in steps[:4]] == ["fac", "lin", "fac", "lin"]
    assert len(steps) == turns.total_steps == 2 * max(-(-len(feed.features) // 16) for feed in (long, short))
    for feed in (long, short):
        seen = np.concatenate([i for step in steps if step.feed is feed for i in step.indices])
        assert set(seen.tolist()) == set(range(len(feed.features)))
    later = list(turns.steps(5, 0))
    assert [step.feed.task for step in later[:2]] == ["lin", "fac"]
    for one, other in zip(steps[5:], later, strict=True):
        np.testing.assert_array_equal(np.concatenate(one.indices), np.concatenate(other.indices))
    odd = Turns.make([long, short], args_of(16, max_steps=5), 16, 1)
    assert [plan.total_steps for plan in odd.plans] == [3, 2]
    assert len(list(odd.steps(0, 0))) == 5


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--freeze_bert",), "--freeze_bert would leave nothing of the backbone to train"),
        (("--correct_bias", "False"), "--correct_bias False needs gradients of all weights"),
        (("--lin_data_dir", "nowhere"), r"nowhere/train.json is missing"),
    ],
)
def test_what_cannot_be_is_refused_before_training(run, flags, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(MULTITASK, *flags)


def test_sharded_parameters_are_refused(monkeypatch):
    sharded = SimpleNamespace(distributed_type=DistributedType.FSDP, device=torch.device("cpu"))
    monkeypatch.setattr(devices, "Accelerator", lambda **options: sharded)
    with pytest.raises(ValueError, match="several tasks are not trained with FSDP or DeepSpeed"):
        devices.start_accelerator(TrainingArguments(no_cuda=True), 2)


def test_both_tasks_are_prepared_alone(run, caplog):
    caplog.set_level("INFO")
    assert run(MULTITASK, "--prepare_only") == ({}, None)
    assert "prepared: fac train " in caplog.text
    assert ", lin dev " in caplog.text


def test_a_model_with_adapters_is_no_plain_backbone(run, tmp_path, tiny_backbone):
    KAdapterModel.from_pretrained(tiny_backbone, adapters={"bio": TINY_ADAPTER}).save_pretrained(tmp_path / "with")
    for path in tiny_backbone.glob("*token*"):
        (tmp_path / "with" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=r"has adapters \['bio'\], which would not be kept"):
        run(MULTITASK, "--model_name_or_path", tmp_path / "with")


def test_a_loss_that_is_not_finite_names_the_task_of_its_records(run):
    with pytest.raises(FloatingPointError, match=r"whose batch holds the records \[.*\] of (fac|lin); look at them"):
        run(MULTITASK, "--learning_rate", "1e30", "--save_steps", "0", "--logging_steps", "1", steps=20)
