"""States of a frozen backbone kept on disk: the plain way, which runs the backbone each time, is the oracle."""

import json

import pytest
import torch
from conftest import load_script
from safetensors.torch import load_file

FAC = load_script("examples/run_pretrain_fac_adapter.py")


def losses(folder):
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return [row["metrics"]["loss"] for row in rows]


def weights(folder):
    return {path.name: load_file(path) for path in sorted(folder.glob("*.safetensors"))}


def assert_same(one, other, tolerance):
    assert losses(one) == pytest.approx(losses(other), abs=tolerance)
    found, expected = weights(one), weights(other)
    assert found.keys() == expected.keys() and found
    for file in found:
        for name, tensor in found[file].items():
            torch.testing.assert_close(tensor, expected[file][name], atol=tolerance, rtol=tolerance, msg=name)


def test_factual_pretraining_from_the_cache_gives_the_same_losses_and_weights(run, tmp_path):
    plain, cached = (
        run(FAC, "--num_train_epochs", 3, "--comment", name, *more, steps=-1)[1]
        for name, more in (("plain", ()), ("cached", ("--cache_states", tmp_path / "states")))
    )
    assert_same(cached, plain, 1e-6)
