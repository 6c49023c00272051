"""Which examples make up which step: batches, micro-batches, processes."""

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset

from kadapter.data.collation import Collator
from kadapter.data.columns import Column, feature_column, feature_rows, from_arrow, padded, ragged
from kadapter.shapes import IGNORE
from kadapter.training.arguments import TrainingArguments
from kadapter.training.batches import Feed, Plan, TokenBudget, accumulation_steps, order_batches
from kadapter.training.loop import Due

LENGTHS = np.random.default_rng(0).integers(3, 40, 103)


def feed(**options):
    rows = {
        "input_ids": [list(range(1, n + 1)) for n in LENGTHS],
        "positions": [[0]] * len(LENGTHS),
        "labels": [i % 3 for i in range(len(LENGTHS))],
        "items": [1] * len(LENGTHS),
        "length": LENGTHS.tolist(),
        "record": list(range(len(LENGTHS))),
    }
    return Feed(Dataset.from_dict(rows), Collator(0), **options)


def plan(world=1, batch_size=12, per_device=12, **options):
    args = TrainingArguments(per_gpu_train_batch_size=per_device, **options)
    return Plan.make(feed(), args, batch_size, world)


# -- order ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grouped", [True, False])
def test_an_epoch_holds_every_example_once_in_an_order_that_seed_and_epoch_alone_decide(grouped):
    def order(seed, epoch):
        return np.concatenate(order_batches(LENGTHS, 8, seed, epoch, grouped)).tolist()

    first = order(1, 0)
    assert sorted(first) == list(range(len(LENGTHS)))
    assert order(1, 0) == first
    assert order(1, 1) != first
    assert order(2, 0) != first


def test_a_training_draws_another_order_in_each_epoch_and_for_each_seed():
    def order(seed, number):
        return np.concatenate([batch for step in plan(seed=seed).epoch(number) for batch in step]).tolist()

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(seed, number)) for seed in (1, 2) for number in (0, 1)}) == 4


def test_the_collator_is_told_the_epoch_that_a_batch_is_made_for():
    told = []
    collate = Collator(0, augment=lambda feature, epoch: told.append(epoch) or feature)
    list(plan(num_train_epochs=2).steps(dataclasses.replace(feed(), collate=collate), begin=0, rank=0))
    assert told == [0] * 103 + [1] * 103


def test_batches_of_like_length_need_less_padding_than_random_ones():
    def padding(grouped):
        return sum(LENGTHS[b].max() * len(b) - LENGTHS[b].sum() for b in order_batches(LENGTHS, 8, 0, 0, grouped))

    assert padding(True) < 0.3 * padding(False)


def test_a_training_takes_the_steps_that_are_asked_for_and_not_one_more():
    assert len(list(plan(max_steps=5).steps(feed(), begin=0, rank=0))) == 5
    assert len(list(plan(max_steps=5).steps(feed(), begin=3, rank=0))) == 2
    whole = plan(num_train_epochs=2)
    assert whole.total_steps == len(list(whole.steps(feed(), begin=0, rank=0))) == 2 * math.ceil(103 / 12)


def test_a_step_in_the_middle_is_that_of_an_unbroken_training():
    whole = plan(num_train_epochs=3)
    steps = list(whole.steps(feed(), begin=0, rank=0))
    (later,) = [next(whole.steps(feed(), begin=20, rank=0))]
    assert [i.tolist() for i in later.indices] == [i.tolist() for i in steps[20].indices]
    assert torch.equal(later.batches[0]["input_ids"], steps[20].batches[0]["input_ids"])


def test_what_is_due_follows_the_intervals_and_the_last_step_evaluates_and_saves():
    args = TrainingArguments(logging_steps=2, eval_steps=3, save_steps=0)
    found = [(due.log, due.evaluate, due.save) for due in (Due.at(step, 7, args) for step in range(1, 8))]
    no, log = (False, False, False), (True, False, False)
    assert found == [no, log, (False, True, False), log, no, (True, True, False), (False, True, True)]


# -- processes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("world", "per_device"), [(1, 12), (1, 4), (2, 6), (2, 3), (3, 4), (4, 3), (4, 12), (12, 1)])
def test_any_number_of_processes_and_micro_batches_makes_the_same_steps(world, per_device):
    def examples(steps):
        return [sorted(np.concatenate(indices).tolist()) for epoch in (0, 1) for indices in steps.epoch(epoch)]

    made = plan(world, per_device=per_device)
    assert examples(made) == examples(plan())
    assert made.total_steps == plan().total_steps
    for indices in made.epoch(0):  # each example in one process, in micro-batches that a device takes
        shares = [[batch[rank::world] for batch in indices] for rank in range(world)]
        assert sorted(np.concatenate([np.concatenate(own) for own in shares])) == sorted(np.concatenate(indices))
        assert max(len(share) for own in shares for share in own) <= per_device


def test_processes_weigh_their_shares_so_that_the_mean_of_all_is_the_mean_over_the_step():
    made = plan(4, per_device=3)
    made.items = np.arange(1, 104)
    losses = np.random.default_rng(1).random(103)
    for indices in made.epoch(0):
        total = 0.0
        for rank in range(4):
            for batch, divisor in zip(indices, made.divisors(indices, rank), strict=True):
                total += losses[made.share(batch, rank)].sum() / divisor
        together = np.concatenate(indices)
        assert total / 4 == pytest.approx(losses[together].sum() / made.items[together].sum())


def test_a_process_without_a_share_computes_something_that_counts_nothing():
    made = plan(4, per_device=3)
    indices = [np.array([5, 6])]
    assert made.share(indices[0], 3).tolist() == [5]
    assert made.divisors(indices, 3) == [math.inf]


def test_steps_that_processes_cannot_share_out_evenly_are_refused_with_the_numbers():
    assert [accumulation_steps(12, per_device, world) for per_device, world in ((12, 1), (5, 1), (4, 2), (12, 4))] == [
        *(1, 3, 2, 1)
    ]
    with pytest.raises(ValueError, match="takes 12 examples a step, which 5 processes cannot share out evenly"):
        accumulation_steps(12, 4, 5)
    with pytest.raises(ValueError, match="takes 1 micro-batches instead of 3, which --original_accumulation"):
        plan(3, per_device=4, gradient_accumulation_steps=3, original_accumulation=True)


# -- collation --------------------------------------------------------------------------------------------------


def test_columns_give_back_what_went_in_whatever_was_selected():
    rows = {"a": [[1, 2], [3], [4, 5, 6], [7]], "b": [[[1], [2, 3]], [[4]], [[5, 6]], [[7], [8]]], "c": [1.5, 2, 3, 4]}
    data = Dataset.from_dict(rows).select([3, 0, 2])
    picked = {name: [values[i] for i in (3, 0, 2)] for name, values in rows.items()}
    assert [row.tolist() for row in feature_column(data, "a")] == picked["a"]
    assert [[part.tolist() for part in row] for row in feature_column(data, "b")] == picked["b"]
    assert feature_column(data, "c").values.tolist() == picked["c"]
    assert feature_column(data, "a").sizes.tolist() == [1, 2, 3]
    features = feature_rows(data.with_format("arrow")[[2, 1]])
    assert [feature["a"].tolist() for feature in features] == [[4, 5, 6], [1, 2]]
    assert padded(feature_column(data, "a"), 3, 9).tolist() == [[7, 9, 9], [1, 2, 9], [4, 5, 6]]
    assert Column(np.arange(3))[1] == 1


def test_a_slice_of_an_arrow_array_is_a_column_of_just_its_rows():
    array = pa.array([[1, 2], [3], [], [4, 5, 6]])
    assert [row.tolist() for row in from_arrow(array.slice(1, 3))] == [[3], [], [4, 5, 6]]
    chunks = pa.chunked_array([array.slice(3), array.slice(0, 1)])
    assert [row.tolist() for row in from_arrow(chunks)] == [[4, 5, 6], [1, 2]]
    nested = pa.array([[[1], [2, 3]], [], [[4]]]).slice(1)
    assert [[part.tolist() for part in row] for row in from_arrow(nested)] == [[], [[4]]]
    fixed = pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int32(), 2))
    assert from_arrow(fixed.slice(1)).values.tolist() == [[3, 4], [5, 6]]


def test_groups_of_different_sizes_share_a_batch():
    collate = Collator(9, multiple=4)
    features = [
        {"input_ids": [[1, 2], [3]], "token_type_ids": [[0, 1], [0]], "positions": [0, 0], "labels": 1},
        {"input_ids": [[4, 5, 6, 7, 8]], "token_type_ids": [[0, 0, 0, 1, 1]], "positions": [2], "labels": 0},
    ]
    batch = collate(features)
    assert batch["group_sizes"].tolist() == [2, 1]
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["token_type_ids"].shape == (3, 8)
    assert batch["input_ids"][1].tolist() == [3, *[9] * 7]
    assert batch["attention_mask"].sum(1).tolist() == [2, 1, 5]
    assert batch["positions"].tolist() == [[0], [0], [2]]
    assert batch["labels"].tolist() == [1, 0]


def test_collated_batches_equal_those_of_a_plain_loop():
    data = feed().features
    features = [data[i] for i in (4, 9, 2)]
    batch = Collator(7, max_length=64)(features)
    for i, feature in enumerate(features):
        n = len(feature["input_ids"])
        assert batch["input_ids"][i].tolist() == feature["input_ids"] + [7] * (64 - n)
        assert batch["attention_mask"][i].tolist() == [1] * n + [0] * (64 - n)
    (same,) = Feed(data, Collator(7, max_length=64)).batches([np.array([4, 9, 2])])
    assert same.keys() == batch.keys()
    assert all(torch.equal(same[name], batch[name]) for name in batch)


@pytest.mark.parametrize(
    ("positions", "labels", "expected"),
    [
        ([[0], [0]], [[1, 0, 1], [0, 0, 1]], [[1, 0, 1], [0, 0, 1]]),  # a number a class
        ([[1, 2], [1]], [[7, 8], [9]], [[7, 8], [9, IGNORE]]),  # one a position
        ([[], []], [[5, 6, IGNORE], [4]], [[5, 6, IGNORE], [4, IGNORE, IGNORE]]),  # one a token
        ([[0], [0]], [0.5, 2.0], [0.5, 2.0]),
    ],
)
def test_labels_are_an_example_s_a_class_s_a_position_s_or_a_token_s(positions, labels, expected):
    features = [
        {"input_ids": [1] * n, "positions": p, "labels": label}
        for n, p, label in zip((3, 1), positions, labels, strict=True)
    ]
    batch = Collator(0)(features)
    assert batch["labels"].tolist() == expected
    assert batch["labels"].dtype == (torch.float32 if isinstance(labels[0], float) else torch.long)
    assert ragged(positions).sizes.tolist() == [len(p) for p in positions]


# -- a budget of tokens -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_budget_of_tokens_cuts_the_same_steps_into_parts_that_keep_to_it(world):
    made, plain = plan(world, max_tokens_per_batch=100), plan(world)
    assert made.total_steps == plain.total_steps
    for indices, whole in zip(made.epoch(1), plain.epoch(1), strict=True):
        assert sorted(np.concatenate(indices)) == sorted(np.concatenate(whole))
        for batch in indices:
            assert all(LENGTHS[own].max() * len(own) <= 100 for rank in range(world) if len(own := batch[rank::world]))
    parts = [len(batch) for indices in made.epoch(1) for batch in indices]
    assert len(set(parts)) > 1


def test_examples_of_several_sequences_count_with_all_of_them():
    rows = {"input_ids": [[[1, 2, 3]] * n for n in (1, 4, 2, 1)], "length": [3] * 4, "items": [1] * 4}
    budget = TokenBudget.make(Feed(Dataset.from_dict(rows), Collator(0)), 12)
    assert [batch.tolist() for batch in budget.cut(np.arange(4), 1)] == [[0], [1], [2, 3]]
    padded_to = TokenBudget.make(Feed(Dataset.from_dict(rows), Collator(0, max_length=5)), 20)
    assert [batch.tolist() for batch in padded_to.cut(np.array([0, 2, 3]), 1)] == [[0, 2, 3]]


def test_a_budget_that_holds_not_even_one_example_is_refused():
    with pytest.raises(ValueError, match=f"is 20, but an example has {LENGTHS.max()} tokens; give at least as many"):
        plan(max_tokens_per_batch=20)


def test_a_budget_does_not_go_with_means_of_micro_batches():
    with pytest.raises(ValueError, match="give one of the two"):
        TrainingArguments(max_tokens_per_batch=100, original_accumulation=True)


def test_a_step_tells_its_tokens_without_and_with_padding():
    for step in plan(per_device=4).steps(feed(), begin=0, rank=0):
        padded_to = sum(LENGTHS[batch].max() * len(batch) for batch in step.indices)
        assert step.tokens.tolist() == [LENGTHS[np.concatenate(step.indices)].sum(), padded_to]
