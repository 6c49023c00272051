"""Predictions: every example once, in the order of the data, nothing held twice."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import TINY_ADAPTER
from datasets import Dataset
from torch import nn

from kadapter import HeadConfig, KAdapterConfig, TaskModel
from kadapter.data.collation import Collator
from kadapter.models.head import HeadOutput, Kept
from kadapter.training.batches import Feed
from kadapter.training.evaluation import _Table, predict

LENGTHS = np.random.default_rng(3).integers(2, 12, 23)


def feed(**columns):
    rows = {
        "input_ids": [[100 + i] * int(n) for i, n in enumerate(LENGTHS)],
        "positions": [[]] * len(LENGTHS),
        "labels": [[0] * int(n) for n in LENGTHS],
        "items": LENGTHS.tolist(),
        "length": LENGTHS.tolist(),
        "record": list(range(len(LENGTHS))),
    }
    return Feed(Dataset.from_dict({**rows, **columns}), Collator(0))


class Echo(nn.Module):
    """Its outputs tell which example they are of, and its loss counts tokens."""

    @property
    def head(self):
        return self

    def forward(self, input_ids, attention_mask, labels, num_items):
        return HeadOutput(loss=attention_mask.sum().float(), logits=input_ids.float())

    def kept(self, output, batch):
        sizes = batch["attention_mask"].sum(1)
        return {"first": Kept(output.logits[:, :1]), "tokens": Kept(output.logits.long(), sizes)}


@pytest.mark.parametrize("batch_size", [1, 4, 23, 50])
def test_predictions_come_in_the_order_of_the_data_and_without_padding(batch_size):
    found, loss = predict(Accelerator(cpu=True), Echo(), feed(), batch_size)
    assert found["first"].values[:, 0].tolist() == list(range(100, 123))
    assert found["first"].values.dtype == np.float32
    assert [row.tolist() for row in found["tokens"]] == [[100 + i] * int(n) for i, n in enumerate(LENGTHS)]
    assert found["tokens"].sizes.tolist() == LENGTHS.tolist()
    assert loss == pytest.approx(1.0)  # over all tokens


def test_columns_are_the_very_arrays_that_were_filled():
    table = _Table(5)
    table.fill("a", np.array([3, 0]), np.array([[1.0], [2.0], [99.0]]), None)  # the last row only fills up
    table.fill("a", np.array([1, 4, 2]), np.array([[3.0], [4.0], [5.0]]), None)
    columns = table.columns()
    assert columns["a"].values is table.whole["a"]
    assert columns["a"].values[:, 0].tolist() == [2.0, 3.0, 5.0, 1.0, 4.0]


def test_an_evaluation_leaves_no_dropout_and_keeps_no_graph(tiny_backbone_config):
    config = KAdapterConfig(
        backbone_config=tiny_backbone_config, adapters={"fac": TINY_ADAPTER}, head=HeadConfig("entity_typing", 3)
    )
    model = TaskModel(config).train()
    ids = [[1] * int(n) for n in LENGTHS]
    data = feed(input_ids=ids, positions=[[0]] * 23, labels=[[1, 0, 1]] * 23, items=[1] * 23)
    once, loss = predict(Accelerator(cpu=True), model, data, 8)
    again, same = predict(Accelerator(cpu=True), model, data, 8)
    assert np.array_equal(once["logits"].values, again["logits"].values)
    assert loss == same
    assert not torch.is_tensor(loss)
