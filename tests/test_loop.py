"""The loop, on a model of three weights: against a plain one, and what it chooses, keeps and tells."""

import dataclasses
import logging
import os
import signal
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import nn
from tqdm import tqdm

from kadapter.data.collation import Collator
from kadapter.models.head import HeadOutput
from kadapter.training import loop
from kadapter.training.arguments import TrainingArguments
from kadapter.training.batches import Feed, Plan, Step
from kadapter.training.interruption import Interruption
from kadapter.training.loop import train
from kadapter.training.tracking import Run

LENGTHS = [3, 1, 2, 3, 2, 1, 3, 2, 1, 2]


class Squares(nn.Module):
    """Squared distance of its weight from each example's first tokens, summed."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.modes = []

    def forward(self, input_ids, attention_mask, labels, num_items):
        self.modes.append(self.training)
        ids = nn.functional.pad(input_ids, (0, 3 - input_ids.shape[1]))
        return HeadOutput(loss=((self.weight - ids) ** 2).sum() / num_items)


class Scores:
    """A selection that gives these scores in turn and tells what it was asked for."""

    metric = "f1"

    def __init__(self, scores):
        self.scores, self.kept, self.modes = list(scores), [], []

    def evaluate(self, model):
        model.eval()
        self.modes.append(model.training)
        return {"f1": self.scores[len(self.modes) - 1], "loss": 0.0}

    def keep(self, model):
        self.kept.append(len(self.modes))


def feed():
    rows = {
        "input_ids": [[i + 2 * j for j in range(n)] for i, n in enumerate(LENGTHS)],
        "positions": [[]] * 10,
        "labels": [0] * 10,
        "items": [1] * 10,
        "length": LENGTHS,
        "record": list(range(10)),
    }
    return Feed(Dataset.from_dict(rows), Collator(0))


class Told(Run):
    """A run that remembers its scalars and results."""

    def scalars(self, step, values):
        self.told = [*getattr(self, "told", []), (step, dict(values))]

    def result(self, split, step, epoch, metrics, seconds):
        self.rows = [*getattr(self, "rows", []), (split, step, epoch, dict(metrics))]


def fit(folder, selection=None, interruption=None, **options):
    """Model, progress and run after a training in batches of 4."""
    args = TrainingArguments(per_gpu_train_batch_size=4, learning_rate=0.1, **options)
    torch.manual_seed(0)
    with Told(Accelerator(cpu=True), folder, dataclasses.asdict(args), {}, 4) as run:
        model, progress = train(run, Squares(), [feed()], args, interruption or Interruption(), selection)
    return model, progress, run


def plain(norm, steps, seed=42):
    """The same training by hand: weights, and the loss and rate of each step."""
    data, weight, told = feed(), nn.Parameter(torch.zeros(3)), []
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0)
    order = [batch for epoch in range(4) for batch in Plan.make(data, args_of(seed), 4, 1).epoch(epoch)]
    for step, (batch,) in enumerate(order[:steps]):
        rate = 0.1 * (step / 2 if step < 2 else (steps - step) / (steps - 2))
        optimizer.param_groups[0]["lr"] = rate
        rows = [data.features[int(i)]["input_ids"] for i in batch]
        wanted = torch.tensor([row + [0] * (3 - len(row)) for row in rows]).float()
        loss = ((weight - wanted) ** 2).sum() / len(batch)
        (weight.grad,) = torch.autograd.grad(loss, [weight])
        if norm:
            weight.grad *= min(1.0, norm / (weight.grad.norm().item() + 1e-6))
        optimizer.step()
        told.append(loss.item())
    return weight.detach(), told


def args_of(seed):
    return TrainingArguments(per_gpu_train_batch_size=4, seed=seed)


@pytest.mark.parametrize("norm", [0.0, 0.5])
@pytest.mark.parametrize("seed", [42, 7])
def test_a_training_is_that_of_a_plain_loop(tmp_path, norm, seed):
    options = {"max_steps": 8, "warmup_steps": 2, "logging_steps": 2, "seed": seed, "save_steps": 100}
    model, progress, run = fit(tmp_path, max_grad_norm=norm, adam_epsilon=1e-8, **options)
    weight, losses = plain(norm, 8, seed)
    np.testing.assert_allclose(model.weight.detach(), weight, rtol=1e-5)
    assert progress.step == 8
    assert [step for step, _ in run.told] == [2, 4, 6, 8]
    assert [values["loss"] for _, values in run.told] == pytest.approx(np.reshape(losses, (4, 2)).mean(1), rel=1e-5)
    assert [values["lr"] for _, values in run.told] == pytest.approx([0.1 * share / 6 for share in (6, 4, 2, 0)])


def test_the_best_score_is_kept_and_patience_counts_evaluations_without_a_better_one(tmp_path, caplog):
    selection = Scores([-0.5, 0.3, 0.2, 0.3, 0.4, 0.4, 0.1, 0.0])
    caplog.set_level(logging.INFO)
    model, progress, run = fit(tmp_path, selection, max_steps=20, eval_steps=2, patience=3, num_train_epochs=9)
    assert selection.kept == [1, 2, 5]
    assert (progress.best_step, progress.best_score, progress.evaluations_without_gain) == (10, 0.4, 3)
    assert progress.step == 16
    assert model.modes == [True] * 16  # an evaluation does not leave dropout off
    assert [row[:3] for row in run.rows] == [("dev", step, step / 3) for step in range(2, 17, 2)]
    assert "no better f1 in 3 evaluations: stopped early" in caplog.text
    assert (tmp_path / "checkpoint-16").is_dir()
    again = Scores([0.5] * 9)
    _, progress, _ = fit(tmp_path, again, max_steps=20, eval_steps=2, patience=3, num_train_epochs=9)
    assert (progress.step, again.modes) == (16, [])  # it stays ended


def test_a_run_that_is_stopped_goes_on_to_the_same_weights_and_its_time_adds_up(tmp_path, monkeypatch):
    whole, _, _ = fit(tmp_path / "whole", max_steps=7)
    interruption, real, calls = Interruption(), loop._accumulate, []

    def accumulate(*args):
        calls.append(1)
        if len(calls) == 3:
            interruption.received = 15
        return real(*args)

    monkeypatch.setattr(loop, "_accumulate", accumulate)
    with pytest.raises(SystemExit):
        fit(tmp_path / "broken", interruption=interruption, max_steps=7)
    assert [path.name for path in (tmp_path / "broken").glob("checkpoint-*")] == ["checkpoint-3"]
    monkeypatch.setattr(loop.time, "perf_counter", lambda: 1000.0)
    model, progress, _ = fit(tmp_path / "broken", max_steps=7)
    assert torch.equal(model.weight, whole.weight)
    assert len(calls) == 7
    assert 0 < progress.seconds < 100  # of the first part alone, since the clock stands still


def checkpoint_after(interruption, acts):
    """Whether a loop in which these happen, one after the other, still gets to its checkpoint."""
    reached = []

    def hold():
        with interruption, interruption.postponed():
            for act in acts:
                act()
            reached.append("the checkpoint")

    with pytest.raises(SystemExit):
        hold()
    return bool(reached)


TERM, CTRL_C = (partial(os.kill, os.getpid(), number) for number in (signal.SIGTERM, signal.SIGINT))


def test_the_same_sigterm_may_come_twice_and_a_second_wish_to_stop_ends_at_once(monkeypatch):
    assert checkpoint_after(Interruption(), [TERM, TERM])  # Slurm's, and that which torchrun passes on
    assert checkpoint_after(Interruption(), [CTRL_C, TERM])
    assert not checkpoint_after(Interruption(), [CTRL_C, CTRL_C])
    monkeypatch.setattr("kadapter.training.interruption.SAME", 0.0)
    assert not checkpoint_after(Interruption(), [TERM, TERM])


def test_a_signal_that_another_process_got_first_is_no_second_one():
    stopped = Interruption()
    assert checkpoint_after(stopped, [lambda: setattr(stopped, "received", signal.SIGTERM), TERM])


@pytest.mark.parametrize(("share", "said"), [(0.3, False), (0.4, True)])
def test_much_evaluation_is_what_takes_more_than_a_third_of_the_time(caplog, share, said):
    progress = loop.Progress(evaluation_seconds=10 * share)
    assert loop._tell_of_much_evaluation(progress, 10.0, TrainingArguments()) == said
    assert ("evaluation on dev takes 40 % of the time" in caplog.text) == said


def test_the_records_of_a_step_whose_loss_is_not_finite_are_told():
    losses, given = loop._Losses(Accelerator(cpu=True)), feed()
    losses.add(1, torch.tensor(2.0), Step(given, [np.array([0])], [], []))
    losses.add(2, torch.tensor(4.0), Step(given, [np.array([1])], [], []))
    assert losses.finish() == 3.0
    losses.add(3, torch.tensor(1.0), Step(given, [np.array([2, 9])], [], []))
    losses.add(4, torch.tensor(torch.inf), Step(given, [np.array([7, 3]), np.array([5])], [], []))
    with pytest.raises(FloatingPointError, match=r"not finite at step 4, whose batch holds the records \[3, 5, 7\]"):
        losses.finish()


def test_weights_that_are_not_finite_are_named_and_frozen_ones_are_not_looked_at():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    with torch.no_grad():
        model[0].weight.fill_(torch.nan)
    loop.check_weights(Accelerator(cpu=True), model, 1)
    with torch.no_grad():
        model[2].bias[1] = torch.inf
    with pytest.raises(FloatingPointError, match=r"1 weights are not finite after step 5, such as 2\.bias; lower"):
        loop.check_weights(Accelerator(cpu=True), model, 5)


def test_where_nobody_watches_a_line_says_how_far_training_is_and_how_long_it_takes(monkeypatch, caplog):
    times = iter([0.0, 10.0, 40.0, 45.0, 100.0])
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(times)))
    monkeypatch.setattr(loop, "sys", SimpleNamespace(stderr=SimpleNamespace(isatty=lambda: False)))
    caplog.set_level("INFO")
    curves = []
    run = SimpleNamespace(scalars=lambda step, values: curves.append((step, values)))
    log = loop._Log(run, tqdm(total=110, initial=10, disable=True))
    for step, loss in ((20, 2.0), (50, 1.5), (60, 1.25), (110, 1.0)):
        log.write(step, SimpleNamespace(padding=lambda: 0.25, finish=lambda loss=loss: loss), 0.1)
    assert curves[0] == (20, {"loss": 2.0, "lr": 0.1, "padding": 0.25})
    assert [record.getMessage() for record in caplog.records] == ["step 50 of 110, loss 1.5000, about 0:01:00 left"]
