"""Adapters added, deleted and loaded again beside others that stay; switched, weighed, and chosen for each row."""

import copy
import logging
import pickle

import pytest
import torch
from conftest import TINY_ADAPTER
from safetensors.torch import load_file, save_file
from test_fusion import randomize
from tiny import MASK, TEXT, assert_same, build, difference, features, weights
from transformers.integrations.peft import PeftAdapterMixin

from kadapter import BottleneckConfig, HeadConfig, KAdapterModel, TaskModel
from kadapter.configuration import FUSION_MODES
from kadapter.models.named import NamedModules
from kadapter.models.routing import Named

NAMES = ("fac", "lin", "bio")


@pytest.fixture
def model(tiny_backbone_config):
    return build(tiny_backbone_config, NAMES)


def learned(config, mode, names=NAMES):
    model = build(config, names, mode)
    randomize(model.fusion)
    return model


# -- parts that stay put ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", FUSION_MODES)
def test_what_an_optimizer_holds_stays_the_same_object_when_adapters_come_and_go(tiny_backbone_config, mode):
    model = learned(tiny_backbone_config, mode)
    model.fusion.requires_grad_(False)
    before = {name: (p, p.detach().clone()) for name, p in model.named_parameters()}
    model.add_adapter("more", TINY_ADAPTER)
    model.delete_adapter("lin")
    after = dict(model.named_parameters())
    kept = [name for name in before if ".lin." not in name and "_lin." not in name and "fusion.task_dense." not in name]
    assert len(kept) > 50
    assert all(after[name] is before[name][0] and torch.equal(after[name], before[name][1]) for name in kept)
    assert all(after[name].requires_grad == before[name][0].requires_grad for name in kept)
    if mode.endswith("concat"):
        columns = after["fusion.task_dense.weight"].split(32, dim=1)
        old = before["fusion.task_dense.weight"][1].split(32, dim=1)
        assert torch.equal(columns[0], old[0])  # fac
        assert torch.equal(columns[1], old[2])  # bio
        assert torch.equal(after["fusion.task_dense.bias"], before["fusion.task_dense.bias"][1])
        assert not after["fusion.task_dense.weight"].requires_grad


@pytest.mark.parametrize("names", [NAMES, ("fac", "lin"), ("fac",)], ids=len)
@pytest.mark.parametrize("mode", FUSION_MODES)
def test_an_adapter_that_is_deleted_and_loaded_again_gives_the_same_outputs(
    tiny_backbone_config, tmp_path, mode, names
):
    model = learned(tiny_backbone_config, mode, names)
    before, last = features(model), names[-1]
    model.save_adapter(tmp_path / "saved", last)
    model.delete_adapter(last)
    assert not torch.allclose(features(model), before, atol=1e-3)
    model.load_adapter(tmp_path / "saved", last)
    torch.testing.assert_close(features(model), before, atol=1e-5, rtol=1e-5)
    model.delete_adapter(list(names))
    assert torch.equal(features(model), model.backbone(TEXT, attention_mask=MASK).last_hidden_state)
    assert not list(model.fusion.parameters())


def test_other_weights_under_the_name_of_a_deleted_adapter_get_a_fresh_fusion(tiny_backbone_config):
    model = learned(tiny_backbone_config, "gate")
    model.delete_adapter("lin")
    model.add_adapter("lin", TINY_ADAPTER)
    assert not model.fusion.gate_lin.weight.any()


def test_a_task_dense_that_grows_is_told_of(model, caplog):
    with caplog.at_level(logging.INFO, "kadapter"):
        model.add_adapter("more", TINY_ADAPTER)
    assert "fusion's ['task_dense'] grows: it is a new parameter" in caplog.text


def test_a_failed_call_changes_nothing(model, tmp_path):
    model.save_adapter(tmp_path / "saved", "lin")
    state = load_file(tmp_path / "saved" / "adapter_model.safetensors")
    state["adapter.0.up_project.bias"] = torch.zeros(3)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "adapter_config.json").write_bytes((tmp_path / "saved" / "adapter_config.json").read_bytes())
    save_file(state, tmp_path / "bad" / "adapter_model.safetensors")
    model.adapters["fac"].requires_grad_(False)
    before, config, fusion = weights(model), copy.deepcopy(model.config.to_dict()), model.fusion
    grads = {name: p.requires_grad for name, p in model.named_parameters()}
    calls = [
        lambda: model.load_adapter(tmp_path / "bad", "more"),
        lambda: model.load_adapter(tmp_path / "saved", "lin"),
        lambda: model.add_adapter("more", type(TINY_ADAPTER)(adapter_list=(99,), adapter_size=16)),
        lambda: model.add_adapter("a b", TINY_ADAPTER),
        lambda: model.add_adapter("backbone", TINY_ADAPTER),
        lambda: model.delete_adapter(["lin", "none"]),
        lambda: model.train_adapters(["lin", "none"]),
        lambda: model.freeze("lins"),
        lambda: model.set_adapter(["fac", "none"]),
        lambda: model.set_adapter_weights({"fac": 1.0}),
        lambda: model.set_adapter_weights(dict.fromkeys(NAMES, float("nan"))),
        lambda: model.get_adapter_state_dict(),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"\w"):
            call()
    assert_same(weights(model), before)
    assert model.config.to_dict() == config
    assert model.fusion is fusion
    assert {name: p.requires_grad for name, p in model.named_parameters()} == grads
    assert model.active_adapters() == list(NAMES)


def test_any_identifier_is_a_name(tiny_backbone_config, tmp_path):
    names = [
        "type",
        "keys",
        "train",
        "forward",
        "pop",
        "items",
        "dense",
        "training",
        "type_",
        "_modules",
        "fac",
        "fac_2",
    ]
    model = build(tiny_backbone_config, ())
    for name in names:
        model.add_adapter(name, TINY_ADAPTER)
    before = features(model)
    assert list(model.adapters) == names
    model.save_pretrained(tmp_path)
    loaded = KAdapterModel.from_pretrained(tmp_path)
    for twin in (loaded, copy.deepcopy(model)):
        assert torch.equal(features(twin), before)
    assert list(pickle.loads(pickle.dumps(loaded.adapters))) == names
    model.train_adapters(["type"])
    assert {name.split(".")[1] for name, p in model.adapters.named_parameters("adapters") if p.requires_grad} == {
        "type_"
    }
    model.delete_adapter("type")
    assert list(model.adapters) == [name for name in names if name != "type"]


def test_names_of_weights_do_not_meet():
    names = ["type", "type_", "type__", "fac", "fac_", "keys", "T_destination"]
    assert len({NamedModules.key(name) for name in names}) == len(names)
    assert NamedModules.key("fac") == "fac"
    own = {name for name in dir(Named()) if not name.startswith("_")} - {"smart_apply"}  # transformers adds that one
    assert all(NamedModules.key(name) == f"{name}_" for name in own)
    with pytest.raises(ValueError, match="'a.b' is not a plain word"):
        NamedModules({"a.b": torch.nn.Identity()})


# -- gradients and positions ------------------------------------------------------------------------------------------


def test_gradients_reach_inputs_embeds_through_a_frozen_backbone(model):
    model.freeze("backbone")
    embeddings = model.get_input_embeddings()(TEXT).detach().requires_grad_()
    model(inputs_embeds=embeddings, attention_mask=MASK).last_hidden_state.sum().backward()
    assert embeddings.grad.abs().sum(-1)[MASK.bool()].all()
    hidden = model(TEXT, attention_mask=MASK, output_hidden_states=True).hidden_states
    assert not any(state.requires_grad for state in hidden)  # nothing asks for it there


def test_an_adapter_that_is_added_or_loaded_later_is_checkpointed_like_the_others(model, tmp_path):
    model.save_adapter(tmp_path, "fac")
    model.activation_checkpointing_enable()
    model.add_adapter("more", TINY_ADAPTER)
    model.load_adapter(tmp_path, "again")
    layers = [m for m in model.adapters.modules() if hasattr(m, "gradient_checkpointing")]
    assert len(layers) > 10
    assert all(layer.gradient_checkpointing for layer in layers)
    model.train()
    model(TEXT, attention_mask=MASK).last_hidden_state.sum().backward()
    assert model.adapters["again"].adapter[0].down_project.weight.grad is not None


@pytest.mark.parametrize("wrong", [-1, 6])
def test_positions_outside_of_the_sequence_are_refused(model, wrong):
    with pytest.raises(ValueError, match=r"positions go from -?\d+ to \d+, but the sequence has 6 tokens; count"):
        model(TEXT, attention_mask=MASK, positions=torch.tensor([[0, wrong], [0, 1]]))


# -- switching --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", FUSION_MODES)
def test_an_adapter_that_is_not_active_does_not_run_and_counts_nothing(tiny_backbone_config, mode):
    model = learned(tiny_backbone_config, mode)
    full = features(model)
    model.set_adapter(["lin", "fac"])
    assert model.active_adapters() == ["fac", "lin"]
    model.adapters["bio"].register_forward_pre_hook(lambda *unused: pytest.fail("it ran"))
    found = model(TEXT, attention_mask=MASK)
    assert list(found.adapter_states) == ["fac", "lin"]
    if mode in ("gate", "attention"):
        assert found.fusion_weights.shape[-1] == 2
        torch.testing.assert_close(found.fusion_weights.sum(-1), torch.ones(2, 6))
    else:
        with torch.no_grad():  # the same as an output of zeros
            states, last = found.adapter_states, model.backbone(TEXT, attention_mask=MASK).last_hidden_state
            if mode.endswith("concat"):
                zeros = {"bio": torch.zeros_like(last)}
                expected = model.fusion(last, {**states, **zeros})[0]
            else:
                expected = last + sum(state + (last if mode == "nested_add" else 0) for state in states.values())
        torch.testing.assert_close(found.last_hidden_state, expected, atol=1e-5, rtol=1e-5)
    del model.adapters["bio"]._forward_pre_hooks[next(iter(model.adapters["bio"]._forward_pre_hooks))]
    model.set_adapter(list(NAMES))
    assert torch.equal(features(model), full)


@pytest.mark.parametrize("mode", FUSION_MODES)
def test_with_all_adapters_off_the_fused_state_is_the_bare_backbones(tiny_backbone_config, mode, tmp_path):
    model = learned(tiny_backbone_config, mode)
    full, bare = features(model), model.backbone(TEXT, attention_mask=MASK).last_hidden_state
    model.add_bottlenecks("rte", BottleneckConfig(4, initializer_range=0.3))
    with model.adapters_disabled():
        assert model.active_adapters() == []
        assert torch.equal(features(model), bare)
        with model.adapters_disabled():
            pass
        assert torch.equal(features(model), bare)  # the outer block still holds
        model.save_pretrained(tmp_path)
    assert model.active_adapters() == [*NAMES, "rte"]
    assert not torch.allclose(features(model), full, atol=1e-3)
    model.set_adapter(list(NAMES))
    assert model.active_bottlenecks is None
    assert torch.equal(features(model), full)
    model.disable_adapters()
    model.enable_adapters()
    assert torch.equal(features(model), full)
    assert list(KAdapterModel.from_pretrained(tmp_path).adapters) == list(NAMES)  # what is off is saved too


def test_one_set_of_bottlenecks_is_active_at_a_time(model):
    model.add_bottlenecks("rte", BottleneckConfig(4))
    model.add_bottlenecks("cola", BottleneckConfig(4))
    assert model.active_adapters() == [*NAMES, "cola"]
    model.set_adapter(["fac", "rte"])
    assert model.active_adapters() == ["fac", "rte"]
    with pytest.raises(ValueError, match=r"\['rte', 'cola'\] are bottlenecks, of which one set is active at a time"):
        model.set_adapter(["rte", "cola"])
    model.set_adapter("lin")
    assert model.active_adapters() == ["lin"]


@pytest.mark.parametrize("mode", ["add", "gate", "attention", "concat"])
def test_weights_by_hand_replace_learned_ones_or_scale_the_outputs(tiny_backbone_config, mode):
    model = learned(tiny_backbone_config, mode)
    states = model(TEXT, attention_mask=MASK).adapter_states
    last = model.backbone(TEXT, attention_mask=MASK).last_hidden_state
    shares = {"fac": 2.0, "lin": 0.0, "bio": -0.5}
    model.set_adapter_weights(shares)
    mixed = sum(shares[name] * state for name, state in states.items())
    if mode == "attention":
        mixed = model.fusion.value(mixed)
    scaled = {name: shares[name] * state for name, state in states.items()}
    expected = model.fusion(last, scaled)[0] if mode == "concat" else last + mixed
    torch.testing.assert_close(features(model), expected, atol=1e-5, rtol=1e-5)
    model.set_adapter_weights(None)
    assert not torch.allclose(features(model), expected, atol=1e-3)


def test_no_method_of_peft_is_left_to_transformers(tiny_backbone_config):
    head = HeadConfig("entity_typing", 3)
    task = build(tiny_backbone_config, NAMES, head=head)
    own = {name for name in vars(PeftAdapterMixin) if not name.startswith("_")}
    assert len(own) > 7
    for cls in (KAdapterModel, TaskModel):
        assert all(getattr(cls, name) is not getattr(PeftAdapterMixin, name) for name in own)
    task.set_adapter("fac")
    assert task.active_adapters() == task.encoder.active_adapters() == ["fac"]
    assert task.get_adapter_state_dict().keys() == task.encoder.adapters["fac"].state_dict().keys()
    with task.adapters_disabled():
        assert task.active_adapters() == []
    task.delete_adapter("lin")
    assert list(task.encoder.adapters) == ["fac", "bio"]
    with pytest.raises(NotImplementedError, match="delete_adapter and load_adapter exchange them"):
        task.enable_peft_hotswap()


# -- an adapter for each row ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", FUSION_MODES)
def test_each_row_of_a_batch_goes_through_its_own_adapter(tiny_backbone_config, mode):
    model = learned(tiny_backbone_config, mode)
    model.add_bottlenecks("rte", BottleneckConfig(4, initializer_range=0.3))
    model.activate_bottlenecks(None)
    rows, mask = TEXT[[0, 1, 0, 1, 0]], MASK[[0, 1, 0, 1, 0]]
    names = ["lin", "__base__", "rte", "fac", "lin"]
    ran = []
    hook = model.backbone.register_forward_pre_hook(lambda *unused: ran.append(1))
    with torch.no_grad():
        found = model(rows, attention_mask=mask, adapter_names=names).last_hidden_state
        at = {"positions": torch.full((5, 1), 2)}
        there = model(rows, attention_mask=mask, adapter_names=names, **at).last_hidden_state
    hook.remove()
    assert len(ran) == 2
    torch.testing.assert_close(there[:, 0], found[:, 2], atol=1e-4, rtol=1e-4)
    assert model.active_adapters() == list(NAMES)
    for i, name in enumerate(names):
        if name == "__base__":
            model.disable_adapters()
        else:
            model.set_adapter(name)
        expected = features(model, rows[i : i + 1], mask[i : i + 1])
        assert difference(found[i : i + 1], expected) < 1e-5
        model.enable_adapters()
    with pytest.raises(ValueError, match="there is no adapter 'none'"):
        model(rows, attention_mask=mask, adapter_names=["none"] * 5)
    with pytest.raises(ValueError, match="3 adapter_names are given for 5 rows"):
        model(rows, attention_mask=mask, adapter_names=["fac"] * 3)
