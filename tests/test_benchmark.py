"""The benchmark: every mode runs on tiny models, and what it counts is right."""

import json

import pytest
import torch
from conftest import load_script, slow

from kadapter.models import modeling

BENCHMARK = load_script("scripts/benchmark.py")
PARTS = BENCHMARK.__dict__["rows_of"].__globals__
TINY = ("--shape", "32,2,2,48", "--repeats", "1")


@pytest.fixture
def measured(world, tmp_path):
    """Runs a mode; gives its report."""

    def call(mode, *flags, folder=None):
        data = () if folder is None else ("--data_dir", world / folder)
        BENCHMARK.main([str(word) for word in (mode, "--output_dir", tmp_path, *TINY, *data, *flags)])
        assert (tmp_path / f"benchmark-{mode}.png").stat().st_size > 1000
        return json.loads((tmp_path / f"benchmark-{mode}.json").read_text())

    return call


@slow
@pytest.mark.parametrize(("mode", "folder"), [("pretrain", "trex-rc"), ("finetune", "OpenEntity")])
def test_training_is_compared_with_the_originals_way_on_the_same_tokens(mode, folder, measured):
    report = measured(mode, "--", "--max_steps=2", "--max_seq_length=64", folder=folder)
    original, ours = report["ways"]
    assert (original["way"], ours["way"]) == ("the original's way", "ours")
    assert original["padding"] > 0.3 > ours["padding"]
    assert ours["ratio"] == pytest.approx(original["seconds"] / ours["seconds"], rel=0.02)
    assert original["gflop_per_second"] * original["seconds"] > 2 * ours["gflop_per_second"] * ours["seconds"]
    assert modeling.is_readable_at.__name__ == "is_readable_at"


@slow
def test_cached_states_are_written_in_the_first_epoch_and_read_in_the_later_one(measured):
    ways = measured("cache", "--", "--max_steps=2", folder="trex-rc")["ways"]
    assert [row["way"] for row in ways] == ["the original's way", "ours", "first epoch", "later epoch"]
    operations = {row["way"]: row["gflop_per_second"] * row["seconds"] for row in ways}
    assert operations["later epoch"] < 0.95 * operations["first epoch"]


def test_inference_is_compared_with_the_backbone_alone(measured):
    ways = measured("infer", "--batch", 2, "--lengths", 16, 32)["ways"]
    assert [row["tokens_per_second"] * row["seconds"] for row in ways] == pytest.approx([32] * 4, rel=0.05)
    assert ways[0]["ratio"] == 1


def test_reading_and_encoding_are_timed(measured, capsys):
    assert [row["way"] for row in measured("data", folder="trex-rc")["ways"]] == ["reading", "encoding"]
    assert "µs of a core an example" in capsys.readouterr().out


def test_glue_needs_data(tmp_path, capsys):
    with pytest.raises(SystemExit):
        BENCHMARK.main(["glue", "--output_dir", str(tmp_path)])
    assert "mode glue needs --data_dir" in capsys.readouterr().err


def test_operations_are_those_of_the_matrix_products_forward_and_backward():
    layer, states = torch.nn.Linear(8, 16), torch.randn(4, 8, requires_grad=True)
    assert PARTS["flops_of"](lambda: layer(states)) == 2 * 4 * 8 * 16
    assert PARTS["flops_of"](lambda: layer(states).sum().backward()) == 3 * 2 * 4 * 8 * 16


def test_ratios_are_those_of_tokens_a_second():
    ways = [PARTS["Way"]("slow", 2.0, 100, 4e9), PARTS["Way"]("fast", 1.0, 200, 4e9)]
    slow, fast = PARTS["rows_of"](ways, rate=8.0)
    assert (slow["ratio"], fast["ratio"]) == (1, 4)
    assert (slow["gflop_per_second"], slow["share_of_matrix_rate"]) == (2, 0.25)
