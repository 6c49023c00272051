"""--torch_compile: the same losses and weights as without it, few graphs, and what it does not go with."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from conftest import load_script
from families import config
from safetensors.torch import load_file
from tiny import TEXT, build, features
from torch._dynamo.utils import counters

from kadapter.models.last_layer import FAMILIES
from kadapter.training import compiling

GRAPHS = 8


@pytest.fixture
def traced(monkeypatch):
    """Graphs are made as for the compiler, and run by PyTorch itself, which takes seconds instead of minutes."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    torch._dynamo.reset()
    counters.clear()


@pytest.fixture
def compiled():
    torch._dynamo.reset()
    counters.clear()


def ended(run, recipe, comment, *flags, steps=6):
    """Losses of dev at each evaluation, and the weights at the end, of a run without dropout in its adapters."""
    same = ("--adapter_dropout", 0, "--comment", comment)
    _, folder = run(load_script(f"examples/{recipe}.py"), *same, *flags, steps=steps)
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row["metrics"]["loss"] for row in rows], weights(folder)


def weights(folder):
    """All that is saved, by file and name."""
    files = {path.name: load_file(path) for path in folder.glob("*.safetensors")}
    return {f"{file} {name}": value for file, found in files.items() for name, value in found.items()}


def assert_close(found, expected):
    """Sums are taken in another order, so that weights differ by rounding: some 1e-7 of a gradient, which Adam divides
    by its size; after six steps of 1e-3 by no more than a hundredth of a step."""
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[1].keys() == expected[1].keys()  # none is called _orig_mod
    for name, weight in expected[1].items():
        torch.testing.assert_close(found[1][name], weight, atol=1e-5, rtol=0, msg=name)


def graphs():
    """How many there are, none of which was broken."""
    assert not counters["graph_break"]
    return counters["stats"]["unique_graphs"]


CASES = {
    "relations, in micro-batches": ("run_pretrain_fac_adapter", "--gradient_accumulation_steps", 2),
    "batches by tokens": ("run_pretrain_lin_adapter", "--max_tokens_per_batch", 64),
    "bottlenecks": ("run_finetune_classification_adapter", "--bottleneck_size", 8),
    "all is trained": ("run_finetune_cosmosqa_adapter", "--untrained", "fac", "--gradient_checkpointing"),
}


@pytest.mark.slow  # tracing alone takes seconds
@pytest.mark.parametrize("case", CASES)
def test_losses_and_weights_are_those_without_compiling_and_graphs_are_few(case, run, traced):
    recipe, *flags = CASES[case]
    expected = ended(run, recipe, "plain", *flags)
    assert not graphs()
    assert_close(ended(run, recipe, "compiled", *flags, "--torch_compile"), expected)
    assert 2 <= graphs() <= GRAPHS


@pytest.mark.slow
def test_it_goes_with_cached_states(run, traced, tmp_path):
    recipe, flags = "run_pretrain_fac_adapter", ("--cache_states", tmp_path / "states")
    expected = ended(run, recipe, "plain", *flags)
    assert_close(ended(run, recipe, "compiled", *flags, "--torch_compile"), expected)
    assert 2 <= graphs() <= GRAPHS


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(run, traced):
    recipe = load_script("examples/run_pretrain_fac_adapter.py")
    _, folder = run(recipe, "--torch_compile")
    expected = weights(folder)
    shutil.rmtree(folder / "checkpoint-6")  # as if it had been stopped after step 4
    run(recipe, "--torch_compile")
    assert_close(([], weights(folder)), ([], expected))


@pytest.mark.slow
def test_a_real_compiler_gives_the_same_losses_too(run, compiled):
    flags = ("--gradient_accumulation_steps", 2)
    expected = ended(run, "run_pretrain_fac_adapter", "plain", *flags)
    assert_close(ended(run, "run_pretrain_fac_adapter", "compiled", *flags, "--torch_compile"), expected)
    assert 2 <= graphs() <= GRAPHS


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_is_compiled_for_tokens_without_places_and_evaluated_as_it_was(family, monkeypatch):
    seen = []

    def compiled(function, dynamic, backend):
        assert dynamic  # any number of tokens
        return lambda *states: seen.append(states[0].shape) or function(*states)

    monkeypatch.setattr(torch, "compile", compiled)
    model = build(config(family)).double()
    expected, names = features(model), list(model.state_dict())
    count = compiling.compile_layers(SimpleNamespace(distributed_type=DistributedType.NO), model)
    assert count == len(model.backbone.encoder.layer) + sum(
        len(part.encoder.layer) for adapter in model.adapters.values() for part in adapter.adapter
    )
    assert list(model.state_dict()) == names
    assert torch.equal(features(model), expected)
    assert not seen
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    torch.testing.assert_close(features(model.train()), expected, atol=1e-12, rtol=1e-12)
    assert len(seen) == 2 * count
    assert {len(shape) for shape in seen} == {2}
    assert {shape[0] for shape in seen} == {TEXT.numel()}


@pytest.mark.parametrize(
    ("family", "kind", "said"),
    [("distilbert", "NO", "not of distilbert; leave it out"), ("bert", "FSDP", "not for FSDP and DeepSpeed")],
)
def test_what_cannot_be_compiled_is_refused(family, kind, said):
    with pytest.raises(ValueError, match=said):
        compiling.compile_layers(SimpleNamespace(distributed_type=DistributedType[kind]), build(config(family)))


def test_without_a_compiler_it_is_refused_before_work_starts(run, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    with pytest.raises(
        ValueError, match="--torch_compile needs a C\\+\\+ compiler .* install it, or leave the flag out"
    ):
        run(load_script("examples/run_pretrain_fac_adapter.py"), "--torch_compile")


def test_settings_that_go_together_are_not_compiled(run, tmp_path):
    (tmp_path / "settings.json").write_text('[{"seed": 1}, {"seed": 2}]', encoding="utf-8")
    with pytest.raises(ValueError, match="--together trains several; give one of the two"):
        run(
            load_script("examples/run_pretrain_fac_adapter.py"),
            "--torch_compile",
            "--together",
            tmp_path / "settings.json",
        )
