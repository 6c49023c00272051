"""Fusion by a learned softmax over adapters: "gate" and "attention"."""

import numpy as np
import pytest
import torch
from conftest import TINY_ADAPTER
from tiny import MASK, TEXT, assert_same, build, features, weights

from kadapter import KAdapterModel

NAMES = ("fac", "lin", "bio")


def randomize(fusion):
    """Weights as after training: no zero gates, no identity."""
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.normal_(std=0.3)


def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def fused_by_hand(mode, parameters, last, states):
    """Position by position and adapter by adapter; returns fused states and weights."""
    fused, shares = np.zeros_like(last), np.zeros((*last.shape[:-1], len(states)))
    for place in np.ndindex(last.shape[:-1]):
        h, z = last[place], [state[place] for state in states.values()]
        if mode == "gate":
            scores = [parameters[f"gate_{n}.weight"][0] @ h + parameters[f"gate_{n}.bias"][0] for n in states]
        else:
            query = parameters["query.weight"] @ h
            scores = [query @ parameters["key.weight"] @ one / len(h) ** 0.5 for one in z]
            z = [parameters["value.weight"] @ one for one in z]
        shares[place] = softmax(np.array(scores))
        fused[place] = h + sum(share * one for share, one in zip(shares[place], z, strict=True))
    return fused, shares


@pytest.mark.parametrize("names", [("fac",), NAMES], ids=len)
@pytest.mark.parametrize("mode", ["gate", "attention"])
def test_fused_states_and_weights_are_those_of_the_formula(tiny_backbone_config, mode, names):
    model = build(tiny_backbone_config, names, mode).double()
    randomize(model.fusion)
    with torch.no_grad():
        output = model(TEXT, attention_mask=MASK)
        last = model.backbone(TEXT, attention_mask=MASK).last_hidden_state.numpy()
    parameters = {name: value.numpy() for name, value in model.fusion.state_dict().items()}
    states = {name: state.numpy() for name, state in output.adapter_states.items()}
    fused, shares = fused_by_hand(mode, parameters, last, states)
    assert list(states) == list(names)
    np.testing.assert_allclose(output.fusion_weights, shares, atol=1e-12)
    np.testing.assert_allclose(output.last_hidden_state, fused, atol=1e-12)
    np.testing.assert_allclose(output.fusion_weights.sum(-1), np.ones((2, 6)), atol=1e-12)
    assert output.fusion_weights.std() > 0.01 or len(names) == 1


@pytest.mark.parametrize("mode", ["gate", "attention"])
def test_without_adapters_the_last_state_is_left_as_it_is(tiny_backbone_config, mode):
    model = build(tiny_backbone_config, (), mode)
    output = model(TEXT, attention_mask=MASK)
    assert torch.equal(output.last_hidden_state, model.backbone(TEXT, attention_mask=MASK).last_hidden_state)
    assert output.fusion_weights is None
    assert not list(model.fusion.parameters())


@pytest.mark.parametrize("mode", ["concat", "add", "nested_add"])
def test_other_modes_have_no_weights(tiny_backbone_config, mode):
    assert build(tiny_backbone_config, fusion_mode=mode)(TEXT, MASK).fusion_weights is None


def test_attention_has_no_bias(tiny_backbone_config):
    """One of the key would change no weight of fusion, but the file of a model."""
    fusion = build(tiny_backbone_config, fusion_mode="attention").fusion
    assert [name for name, _ in fusion.named_parameters()] == ["query.weight", "key.weight", "value.weight"]


def test_a_fresh_gate_adds_the_mean_and_with_one_adapter_is_add(tiny_backbone_config):
    model = build(tiny_backbone_config, NAMES, "gate")
    output = model(TEXT, attention_mask=MASK)
    assert torch.equal(output.fusion_weights, torch.full((2, 6, 3), 1 / 3))
    last = model.backbone(TEXT, attention_mask=MASK).last_hidden_state
    mean = sum(output.adapter_states.values()) / 3
    torch.testing.assert_close(output.last_hidden_state, last + mean, atol=1e-6, rtol=1e-6)
    one, add = (build(tiny_backbone_config, ("fac",), mode) for mode in ("gate", "add"))
    add.load_state_dict(one.state_dict(), strict=False)
    randomize(one.fusion)
    assert torch.equal(features(one), features(add))


def test_fresh_attention_leaves_values_as_they_are(tiny_backbone_config):
    model = build(tiny_backbone_config, NAMES, "attention")
    assert torch.equal(model.fusion.value.weight, torch.eye(32))
    output = model(TEXT, attention_mask=MASK)
    last = model.backbone(TEXT, attention_mask=MASK).last_hidden_state
    shares = output.fusion_weights.unbind(-1)
    values = [share[..., None] * state for share, state in zip(shares, output.adapter_states.values(), strict=True)]
    torch.testing.assert_close(output.last_hidden_state, last + sum(values), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("mode", ["gate", "attention"])
def test_gradients_reach_every_weight_of_fusion_and_adapters(tiny_backbone_config, mode):
    model = build(tiny_backbone_config, NAMES, mode)
    randomize(model.fusion)
    model(TEXT, attention_mask=MASK).last_hidden_state.square().mean().backward()
    assert all(parameter.grad.any() for parameter in model.fusion.parameters())
    assert all(adapter.adapter[0].down_project.weight.grad.any() for adapter in model.adapters.values())


@pytest.mark.parametrize("mode", ["gate", "attention"])
def test_weights_at_positions_are_those_of_the_whole_sequence(tiny_backbone_config, mode):
    model = build(tiny_backbone_config, NAMES, mode)
    randomize(model.fusion)
    positions, rows = torch.tensor([[1, 4], [0, 2]]), torch.arange(2)[:, None]
    whole, some = model(TEXT, MASK), model(TEXT, MASK, positions=positions)
    assert some.fusion_weights.shape == (2, 2, 3)
    for key in ("fusion_weights", "last_hidden_state"):
        torch.testing.assert_close(some[key], whole[key][rows, positions], atol=1e-5, rtol=0)
    assert torch.equal(model(TEXT, MASK, return_dict=False)[-1], whole.fusion_weights)


@pytest.mark.parametrize("mode", ["gate", "attention"])
def test_adding_and_deleting_adapters_keeps_what_fusion_has_learned(tiny_backbone_config, mode):
    model = build(tiny_backbone_config, ("fac", "lin"), mode)
    randomize(model.fusion)
    before, states = weights(model.fusion), model(TEXT, MASK).adapter_states
    model.add_adapter("bio", TINY_ADAPTER)
    assert_same({name: model.fusion.state_dict()[name] for name in before}, before)
    fresh = {name: value for name, value in model.fusion.state_dict().items() if name not in before}
    assert list(fresh) == (["gate_bio.weight", "gate_bio.bias"] if mode == "gate" else [])
    assert not any(value.any() for value in fresh.values())
    output = model(TEXT, MASK)
    assert output.fusion_weights.shape == (2, 6, 3)
    assert all(torch.equal(output.adapter_states[name], states[name]) for name in states)
    model.delete_adapter("fac")
    assert_same(weights(model.fusion), {name: value for name, value in (before | fresh).items() if "fac" not in name})


@pytest.mark.parametrize("mode", ["gate", "attention"])
def test_a_saved_model_keeps_its_fusion_bit_for_bit(tiny_backbone_config, tmp_path, mode):
    model = build(tiny_backbone_config, NAMES, mode)
    randomize(model.fusion)
    model.save_pretrained(tmp_path / "model")
    loaded = KAdapterModel.from_pretrained(tmp_path / "model")
    assert loaded.config.fusion_mode == mode
    assert_same(weights(loaded), weights(model))
    assert torch.equal(loaded(TEXT, MASK).fusion_weights, model(TEXT, MASK).fusion_weights)
    model.backbone.save_pretrained(tmp_path / "plain")
    adapters = {"fac": TINY_ADAPTER, "lin": TINY_ADAPTER}
    fresh = KAdapterModel.from_pretrained(tmp_path / "plain", adapters=adapters, fusion_mode=mode).fusion
    started = fresh.value.weight - torch.eye(32) if mode == "attention" else fresh.gate_lin.weight
    assert not started.any()
