"""Predictions: each example's own, in the order of the features, whatever the batches."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import nn

from kadapter.data.collation import Collator
from kadapter.models.head import HeadOutput, Kept
from kadapter.shapes import IGNORE
from kadapter.training import devices, fitting
from kadapter.training.arguments import TrainingArguments
from kadapter.training.batches import Feed
from kadapter.training.evaluation import _Table, predict
from kadapter.training.task import Task

LENGTHS = [3, 5, 2, 5, 1, 4, 3]


class Keeps(nn.Module):
    def kept(self, output, batch):
        ids = output.logits
        return {"first": Kept(ids[:, 0] / 2), "ids": Kept(ids, batch["attention_mask"].sum(1))}


class Copies(nn.Module):
    """Gives back what it reads; the loss of an example is its first token."""

    def __init__(self):
        super().__init__()
        self.head, self.modes, self.sizes = Keeps(), [], []

    def forward(self, input_ids, attention_mask, labels, num_items):
        self.modes.append(self.training)
        self.sizes.append(len(input_ids))
        return HeadOutput(loss=input_ids[:, 0].sum().float() / num_items, logits=input_ids)


def feed():
    ids = [[10 * (i + 1) + j for j in range(n)] for i, n in enumerate(LENGTHS)]
    rows = {
        "input_ids": ids,
        "positions": [[]] * 7,
        "labels": [0] * 7,
        "items": [1, 2, 1, 1, 1, 3, 1],
        "length": LENGTHS,
    }
    return ids, Feed(Dataset.from_dict(rows), Collator(0))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 20])
def test_predictions_stand_in_the_order_of_the_features_and_the_loss_is_the_mean_over_items(batch_size):
    ids, given = feed()
    model = Copies().train()
    found, loss = predict(Accelerator(cpu=True), model, given, batch_size)
    assert found["first"].values.tolist() == [row[0] / 2 for row in ids]
    assert [row.tolist() for row in found["ids"]] == ids
    assert loss == pytest.approx(sum(row[0] for row in ids) / 10)
    assert not any(model.modes)
    assert sum(model.sizes) == 7  # each example once
    assert max(model.sizes) == min(7, batch_size)


@pytest.mark.parametrize("bf16", [True, False])
def test_an_evaluation_alone_computes_with_the_precision_that_was_asked_for(monkeypatch, bf16):
    kinds, (_, given) = set(), feed()
    real = Copies.forward

    def forward(self, **batch):
        kinds.add((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
        return real(self, **batch)

    monkeypatch.setattr(Copies, "forward", forward)
    predict(devices.start_accelerator(TrainingArguments(bf16=bf16, no_cuda=True)), Copies(), given, 4)
    assert kinds == {torch.bfloat16 if bf16 else torch.float32}


@pytest.mark.parametrize(("label", "scored"), [(1, True), (IGNORE, False)])
def test_a_split_of_one_example_is_scored_unless_its_label_is_kept_back(monkeypatch, label, scored):
    monkeypatch.setattr(fitting, "predict", lambda *args: ("predictions", 0.5))
    run = SimpleNamespace(accelerator=SimpleNamespace(num_processes=1))
    task = SimpleNamespace(score=lambda predictions, features: {"f1": 1.0}, is_labelled=partial(Task.is_labelled, None))
    feeds = {"": {"test": Feed(Dataset.from_dict({"labels": [label]}), Collator(0))}}
    found = fitting.Evaluation(run, {"": task}, feeds, 8, files=None).of_split("test", None, "")
    assert found == ({"f1": 1.0, "loss": 0.5} if scored else {}, "predictions", task)


def test_a_table_takes_examples_in_any_order_and_leaves_out_what_was_only_filled_up():
    table = _Table(4)
    rows = np.array([[1, 2, 0], [3, 0, 0], [4, 5, 6], [9, 9, 9]])
    table.fill("ragged", np.array([2, 0, 3]), rows, np.array([2, 1, 3, 3]))
    table.fill("ragged", np.array([1]), np.array([[7, 7]]), np.array([0]))
    table.fill("whole", np.array([3, 1]), rows, None)
    table.fill("whole", np.array([0, 2]), rows[2:], None)
    columns = table.columns()
    assert [row.tolist() for row in columns["ragged"]] == [[3], [], [1, 2], [4, 5, 6]]
    assert columns["whole"].values.tolist() == [[4, 5, 6], [3, 0, 0], [9, 9, 9], [1, 2, 0]]
