"""Examples that stand in two splits are counted and said."""

import random

import datasets
import pytest
from conftest import load_script

from kadapter.data.overlap import count_shared

WORDS = ["one", "two", "three", "four", "five", "six"]


def features(rows, positions=None, labels=None):
    positions = positions or [[0]] * len(rows)
    return datasets.Dataset.from_dict({"input_ids": rows, "positions": positions, "labels": labels or [0] * len(rows)})


@pytest.mark.parametrize("nested", [False, True], ids=["sequences", "choices"])
def test_shared_examples_are_those_that_a_set_of_tuples_finds(nested):
    generator = random.Random(0)

    def sequence():
        return [generator.randrange(3) for _ in range(generator.randrange(1, 5))]

    def rows(count):
        return [[sequence(), sequence()] if nested else sequence() for _ in range(count)]

    train, other = rows(300), rows(200)
    flat = (lambda row: tuple(sum(row, []))) if nested else tuple
    expected = sum(flat(row) in {flat(one) for one in train} for row in other)
    assert 10 < expected < 190
    assert count_shared(features(train), features(other)) == expected


def test_order_zeros_and_what_the_head_reads_count_and_labels_do_not():
    train = features([[1, 2, 3], [0, 0], [5]], [[1], [0], [0]], labels=[0, 1, 2])
    assert count_shared(train, features([[3, 2, 1], [0], [0, 0, 0], [1, 2, 3]], [[1], [0], [0], [2]])) == 0
    assert count_shared(train, features([[1, 2, 3], [5]], [[1], [0]], labels=[7, 7])) == 2


def test_parts_of_a_store_are_counted_as_such():
    train = features([[i, i + 1] for i in range(25_000)])
    assert count_shared(train.select(range(0, 25_000, 2)), train.select(range(20_000, 20_010))) == 5
    assert count_shared(train, train) == 25_000


def test_a_recipe_says_how_many_examples_of_test_it_was_taught(tmp_path, run, caplog):
    lines = [f"{word} {other},{'good' if i % 2 else 'bad'}" for i, word in enumerate(WORDS) for other in WORDS]
    (tmp_path / "train.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    (tmp_path / "test.csv").write_text("text,label\n" + "\n".join([*lines[:3], "a new one,good"]) + "\n")
    run(
        load_script("examples/run_finetune_classification_adapter.py"),
        f"--data_dir={tmp_path}",
        "--dev_share=0.3",
        "--prepare_only",
    )
    assert "of 4 examples of test stand in train too, as the model reads them: scores on test will" in caplog.text
