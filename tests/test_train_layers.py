"""--train_layers: some layers of the backbone, or its LayerNorms, are trained, and nothing else of it."""

import pytest
import torch
from conftest import load_script
from families import config
from safetensors.torch import load_file

from kadapter import KAdapterConfig, KAdapterModel
from kadapter.training.model_arguments import TaskArguments

TYPING = load_script("examples/run_finetune_openentity_adapter.py")


def trained(model):
    return {name for name, parameter in model.backbone.named_parameters() if parameter.requires_grad}


@pytest.fixture
def model(tiny_backbone_config):
    torch.manual_seed(0)
    return KAdapterModel(KAdapterConfig(backbone_config=tiny_backbone_config, adapters={}))


def test_the_named_layers_and_what_stands_behind_all_are_trained(model):
    model.train_layers([2, 3])
    names = trained(model)
    assert names == {
        name
        for name, _ in model.backbone.named_parameters()
        if name.startswith(("encoder.layer.2.", "encoder.layer.3.", "pooler."))
    }
    assert len(names) > 30
    model.train_layers([3])  # what is frozen stays so
    assert trained(model) == {name for name in names if not name.startswith("encoder.layer.2.")}


def test_norms_alone_are_trained(model):
    model.train_layers(None)
    assert trained(model) == {name for name, _ in model.backbone.named_parameters() if "LayerNorm" in name}
    assert not model.backbone_is_frozen


def test_no_gradient_is_computed_below_the_lowest_trained_layer(model):
    model.train_layers([2])
    model.train()
    states = model.backbone(torch.tensor([[3, 4, 5]]), output_hidden_states=True).hidden_states
    assert [state.requires_grad for state in states] == [False, False, False, True, True]


@pytest.mark.parametrize("family", ["distilbert", "gpt2", "modernbert"])
def test_layers_are_found_in_other_families(family):
    backbone = KAdapterModel(KAdapterConfig(backbone_config=config(family), adapters={}))
    last = backbone.config.num_hidden_layers - 1
    backbone.train_layers([last])
    numbers = {part for name in trained(backbone) for part in name.split(".") if part.isdigit()}
    assert numbers == {str(last)}
    assert 0 < len(trained(backbone)) < len(list(backbone.backbone.parameters())) / 1.5


def test_a_layer_that_is_not_there_is_refused(model):
    with pytest.raises(ValueError, match=r"layer 4 cannot be trained: this roberta has the layers \[0, 1, 2, 3\]"):
        model.train_layers([3, 4])
    albert = KAdapterModel(KAdapterConfig(backbone_config=config("albert"), adapters={}))
    with pytest.raises(ValueError, match="layer 1 cannot be trained: this albert has the layers"):
        albert.train_layers([1])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"train_layers": "3-x"}, "--train_layers is '3-x'; write numbers and ranges"),
        ({"train_layers": "3", "freeze_bert": True}, "which --freeze_bert freezes; give one of the two"),
        ({"train_layers": "norms", "bottleneck_size": 8}, "which --bottleneck_size freezes"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        TaskArguments(**flags)


@pytest.mark.parametrize(
    ("layers", "moved"), [("2-3", ("encoder.layer.2.", "encoder.layer.3.")), ("norms", ("LayerNorm",))]
)
def test_a_run_changes_these_alone(run, tiny_backbone, layers, moved):
    _, folder = run(TYPING, "--train_layers", layers, "--learning_rate", "1e-2", steps=3)
    assert f"_layers-{layers}" in folder.name
    before, after = load_file(tiny_backbone / "model.safetensors"), load_file(folder / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[f"encoder.backbone.{name}"])}
    assert changed
    assert all(any(part in name for part in moved) for name in changed)
