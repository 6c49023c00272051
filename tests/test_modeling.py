"""The models: features, adapters by name, freezing, attention kernels, precision, compilation."""

import pytest
import torch
from conftest import TINY_ADAPTER
from safetensors.torch import save_file
from tiny import MASK, TEXT, assert_same, build, difference, enlarge, features, weights

from kadapter import AdapterConfig, HeadConfig, KAdapterConfig, KAdapterModel, KnowledgeAdapter, TaskModel

# -- features ---------------------------------------------------------------------------------------------------


def padded(count):
    ids = torch.cat([TEXT[:1], torch.ones(1, count, dtype=torch.long)], 1)
    return ids, (ids != 1).long()


@pytest.mark.parametrize(("attn_implementation", "skip"), [("sdpa", 0), ("sdpa", 2), ("eager", 0)])
def test_features_do_not_depend_on_padding(tiny_backbone_config, attn_implementation, skip):
    model = build(tiny_backbone_config, adapter_skip_layers=skip)
    model.set_attn_implementation(attn_implementation)
    alone = features(model, *padded(0))
    for count in (3, 20):
        assert difference(features(model, *padded(count))[:, :6], alone) < 1e-6
    assert difference(features(model, TEXT[:1], None), alone) < 1e-6


def test_features_depend_on_padding_where_adapters_attend_to_it(tiny_backbone_config):
    model = build(tiny_backbone_config, attend_padding=True)
    assert difference(features(model, *padded(3))[:, :6], features(model, *padded(0))) > 1e-3


@pytest.mark.parametrize("fusion_mode", ["concat", "add"])
@pytest.mark.parametrize("names", [(), ("fac",), ("fac", "lin"), ("fac", "lin", "bio")])
def test_any_number_of_adapters_is_fused(tiny_backbone_config, names, fusion_mode):
    model = build(tiny_backbone_config, names, fusion_mode)
    output = model(TEXT, attention_mask=MASK)
    last = model.backbone(TEXT, attention_mask=MASK).last_hidden_state
    states = output.adapter_states
    assert list(states) == list(names)
    expected = sum(states.values(), last)
    if fusion_mode == "concat":
        fused = [getattr(model.fusion, f"task_dense_{name}")(torch.cat([last, states[name]], -1)) for name in names]
        expected = fused[0] if len(fused) == 1 else model.fusion.task_dense(torch.cat(fused, -1)) if fused else last
    assert output.last_hidden_state.shape == (2, 6, 32)
    assert torch.equal(output.last_hidden_state, expected)
    assert (len(list(model.fusion.parameters())) == 0) == (fusion_mode == "add" or not names)


@pytest.mark.parametrize("way", ["built", "added", "under a head"])
def test_a_fresh_adapter_is_nearly_the_identity(tiny_backbone_config, way):
    adapters = {} if way == "added" else {"fac": TINY_ADAPTER}
    config = KAdapterConfig(backbone_config=tiny_backbone_config, adapters=adapters)
    model = KAdapterModel(config).eval()
    if way == "added":
        model.add_adapter("fac", TINY_ADAPTER)
    if way == "under a head":
        TaskModel.from_encoder(model, HeadConfig("relation", 3))
    adapter = model.adapters["fac"]
    for layer in adapter.adapter:
        for projection in (layer.down_project, layer.up_project):
            assert 1e-4 < projection.weight.std() < 3e-4
            assert not projection.bias.any()
    states = {tap: torch.randn(2, 5, 32) for tap in adapter.taps}
    torch.testing.assert_close(adapter(states), sum(states.values()), atol=1e-2, rtol=0)
    assert not torch.equal(adapter(states), sum(states.values()))


def test_states_at_positions_are_those_of_the_whole_sequence(tiny_model):
    positions = torch.tensor([[1, 4], [0, 2]])
    whole, some = tiny_model(TEXT, MASK), tiny_model(TEXT, MASK, positions=positions)
    rows = torch.arange(2)[:, None]
    torch.testing.assert_close(some.last_hidden_state, whole.last_hidden_state[rows, positions], atol=1e-6, rtol=0)
    for name, state in some.adapter_states.items():
        assert torch.equal(state, whole.adapter_states[name][rows, positions])


def test_only_the_tapped_states_are_kept(tiny_backbone_config):
    model = build(tiny_backbone_config, ("fac",), adapter_list=(0, 3))
    seen = []
    model.backbone.register_forward_hook(lambda module, args, output: seen.append(output.hidden_states))
    model(TEXT, attention_mask=MASK)
    assert [state is not None for state in seen[0]] == [True, False, False, True, False]


def test_all_states_and_attentions_come_on_request(tiny_model):
    plain = tiny_model(TEXT, MASK)
    assert plain.hidden_states is None
    assert plain.attentions is None
    tiny_model.set_attn_implementation("eager")
    output = tiny_model(TEXT, MASK, output_hidden_states=True, output_attentions=True)
    assert [state.shape for state in output.hidden_states] == [(2, 6, 32)] * 5
    assert [attention.shape for attention in output.attentions] == [(2, 2, 6, 6)] * 4
    expected = tiny_model.backbone(TEXT, attention_mask=MASK).last_hidden_state
    torch.testing.assert_close(output.hidden_states[-1], expected)


def test_a_tuple_comes_on_request(tiny_model):
    output = tiny_model(TEXT, MASK, return_dict=False)
    assert isinstance(output, tuple)
    assert torch.equal(output[0], tiny_model(TEXT, MASK)[0])


def test_embeddings_may_be_given_instead_of_ids(tiny_model):
    embeddings = tiny_model.get_input_embeddings()(TEXT[:1])
    with torch.no_grad():
        output = tiny_model(inputs_embeds=embeddings).last_hidden_state
    torch.testing.assert_close(output, features(tiny_model, TEXT[:1], None), atol=1e-6, rtol=0)


# -- adapters by name -------------------------------------------------------------------------------------------


def test_adding_and_deleting_an_adapter_leaves_the_others_as_they_are(tiny_model):
    before, states = weights(tiny_model), tiny_model(TEXT, MASK).adapter_states
    tiny_model.add_adapter("bio", TINY_ADAPTER)
    after = tiny_model(TEXT, MASK).adapter_states
    assert list(after) == ["fac", "lin", "bio"]
    assert all(torch.equal(states[name], after[name]) for name in states)
    tiny_model.delete_adapter("bio")
    kept = {name: value for name, value in before.items() if not name.startswith("fusion.task_dense.")}
    assert_same({name: tiny_model.state_dict()[name] for name in kept}, kept)
    assert list(tiny_model.config.adapters) == ["fac", "lin"]
    assert features(tiny_model).shape == (2, 6, 32)


def test_wrong_adapter_names_are_refused_with_the_present_ones(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="there is an adapter 'fac' already"):
        tiny_model.add_adapter("fac")
    for call in (tiny_model.delete_adapter, lambda name: tiny_model.save_adapter(tmp_path, name)):
        with pytest.raises(ValueError, match=r"there is no adapter 'bio'; the model has \['fac', 'lin'\]"):
            call("bio")


def test_a_saved_adapter_gives_the_same_states_in_another_model(tiny_model, tmp_path):
    tiny_model.save_adapter(tmp_path / "fac", "fac")
    other = KAdapterModel(KAdapterConfig(backbone_config=tiny_model.config.backbone_config)).eval()
    other.backbone.load_state_dict(tiny_model.backbone.state_dict())
    other.load_adapter(tmp_path / "fac", "mine")
    assert not other.training
    assert torch.equal(other(TEXT, MASK).adapter_states["mine"], tiny_model(TEXT, MASK).adapter_states["fac"])


def test_a_model_comes_from_a_state_dictionary_as_in_transformers(tiny_model):
    state = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    model = KAdapterModel.from_pretrained(None, config=tiny_model.config, state_dict=state)
    assert_same(weights(model), state)


def test_a_refused_adapter_leaves_the_model_as_it_was(tiny_model, tmp_path):
    tiny_model.save_adapter(tmp_path / "fac", "fac")
    state = dict(weights(tiny_model.adapters["fac"]))
    state.pop("adapter.1.up_project.bias")
    save_file(state, tmp_path / "fac" / "adapter_model.safetensors")
    before, expected = weights(tiny_model), features(tiny_model)
    with pytest.raises(ValueError, match="does not fit this KnowledgeAdapter"):
        tiny_model.load_adapter(tmp_path / "fac", "bio")
    assert list(tiny_model.config.adapters) == list(tiny_model.adapters) == ["fac", "lin"]
    assert_same(weights(tiny_model), before)
    assert torch.equal(features(tiny_model), expected)


def test_a_head_on_top_leaves_the_encoder_as_it_was(tiny_model):
    tiny_model.add_adapter("bio", TINY_ADAPTER)
    before = weights(tiny_model)
    model = TaskModel.from_encoder(tiny_model, HeadConfig("relation", 3))
    assert_same(weights(model.encoder), before)


# -- freezing ---------------------------------------------------------------------------------------------------


def test_a_frozen_backbone_makes_no_graph_and_stays_in_eval_mode(tiny_backbone_config):
    model = build(tiny_backbone_config)
    model.freeze("backbone")
    model.train()
    assert model.backbone_is_frozen
    assert not any(module.training for module in model.backbone.modules())
    assert model.adapters.training
    seen = []
    model.backbone.register_forward_hook(lambda module, args, output: seen.append(output.last_hidden_state))
    model(TEXT, attention_mask=MASK).last_hidden_state.sum().backward()
    assert not seen[0].requires_grad
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert all(
        parameter.grad.abs().sum() > 0
        for name, parameter in model.adapters.named_parameters()
        if "project.weight" in name
    )


def test_frozen_adapters_pass_gradients_on_to_the_backbone(tiny_backbone_config):
    model = build(tiny_backbone_config)
    model.freeze("adapters")
    model.train()
    model(TEXT, attention_mask=MASK).last_hidden_state.square().sum().backward()
    assert all(parameter.grad is None for parameter in model.adapters.parameters())
    assert model.backbone.embeddings.word_embeddings.weight.grad.abs().sum() > 0
    assert model.fusion.task_dense.weight.grad.abs().sum() > 0
    assert all(module.training for module in model.modules())


def test_freezing_adds_up_and_none_undoes_it(tiny_model):
    tiny_model.freeze("backbone")
    tiny_model.freeze("adapters")
    trained = {name.split(".")[0] for name, parameter in tiny_model.named_parameters() if parameter.requires_grad}
    assert trained == {"fusion"}
    tiny_model.freeze("none")
    assert all(parameter.requires_grad for parameter in tiny_model.parameters())
    with pytest.raises(ValueError, match=r"freeze\('everything'\): choose one of .*'none', 'fac', 'lin'\]"):
        tiny_model.freeze("everything")


def trained_adapters(model):
    return {name.split(".")[1] for name, p in model.named_parameters() if "adapters" in name and p.requires_grad}


def test_each_adapter_is_frozen_or_trained_by_its_name(tiny_backbone_config):
    model = build(tiny_backbone_config, ("fac", "lin", "bio"))
    model.freeze("lin")
    assert trained_adapters(model) == {"fac", "bio"}
    model.train_adapters(["lin"])
    assert trained_adapters(model) == {"lin"}
    model.train_adapters([])
    assert trained_adapters(model) == set()
    assert all(p.requires_grad for part in (model.backbone, model.fusion) for p in part.parameters())
    with pytest.raises(ValueError, match=r"there is no adapter 'law'; the model has \['fac', 'lin', 'bio'\]"):
        model.train_adapters(["fac", "law"])
    assert trained_adapters(model) == set()


def test_a_frozen_adapter_on_a_frozen_backbone_makes_no_graph(tiny_model):
    tiny_model.freeze("backbone")
    tiny_model.train_adapters(["lin"])
    tiny_model.train()
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: held.append(value) or value, lambda value: value):
        states = tiny_model.adapters["fac"]({tap: torch.randn(2, 6, 32) for tap in range(3)}, MASK)
    assert not states.requires_grad
    assert not held  # autograd keeps nothing for a backward pass
    states = tiny_model(TEXT, MASK).adapter_states
    assert [name for name, state in states.items() if state.requires_grad] == ["lin"]


# -- kernels, precision, memory, compilation --------------------------------------------------------------------


def test_eager_and_sdpa_agree_and_the_choice_reaches_adapters(tiny_model):
    expected = features(tiny_model)
    for kernel in ("eager", "sdpa"):
        tiny_model.set_attn_implementation(kernel)
        assert tiny_model.backbone.config._attn_implementation == kernel
        for adapter in tiny_model.adapters.values():
            attention = adapter.adapter[0].encoder.layer[0].attention.self
            assert attention.config._attn_implementation == kernel
        torch.testing.assert_close(features(tiny_model), expected, atol=1e-5, rtol=0)


def test_bfloat16_gives_finite_features_near_those_of_float32(tiny_model):
    expected = features(tiny_model)
    output = features(tiny_model.to(torch.bfloat16))
    assert output.dtype == torch.bfloat16
    assert torch.isfinite(output).all()
    assert (output.float() - expected).abs().mean() < 0.05 * expected.abs().mean()


def loss_and_gradients(model):
    model.zero_grad()
    torch.manual_seed(1)
    loss = model(TEXT, attention_mask=MASK).last_hidden_state.square().mean()
    loss.backward()
    gradients = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    return loss.detach(), gradients


def test_activation_checkpointing_changes_no_loss_and_no_gradient(tiny_model):
    tiny_model.train()
    loss, gradients = loss_and_gradients(tiny_model)
    tiny_model.activation_checkpointing_enable()
    assert tiny_model.adapters["fac"].adapter[0].encoder.layer[0].gradient_checkpointing
    again, same = loss_and_gradients(tiny_model)
    assert torch.equal(loss, again)
    assert gradients.keys() == same.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(same[name], gradient, atol=1e-6, rtol=1e-5)


def test_gradient_checkpointing_by_its_old_name_still_works(tiny_model):
    with pytest.warns(FutureWarning, match="activation_checkpointing_enable"):
        tiny_model.gradient_checkpointing_enable()
    assert tiny_model.is_activation_checkpointing


@pytest.mark.slow
def test_adapters_compile_into_one_graph():
    torch.manual_seed(0)
    config = AdapterConfig(**{**TINY_ADAPTER.to_dict(), "adapter_list": (0, 1), "adapter_skip_layers": 2})
    adapter = enlarge(KnowledgeAdapter(config, hidden_size=32)).eval()
    states = {tap: torch.randn(2, 6, 32) for tap in adapter.taps}
    torch._dynamo.reset()
    compiled = torch.compile(adapter, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(states, MASK), adapter(states, MASK))


def test_states_of_a_frozen_backbone_stand_for_it(tiny_model):
    ids, positions = torch.randint(3, 120, (2, 9)), torch.tensor([[1, 4], [0, 8]])
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    positions[1, 1] = 5
    tiny_model.train()
    with pytest.raises(ValueError, match="the backbone is being trained"):
        tiny_model.frozen_states(input_ids=ids, attention_mask=mask)
    tiny_model.eval()
    expected = tiny_model(ids, mask, positions=positions)
    states = tiny_model.frozen_states(positions, input_ids=ids, attention_mask=mask)
    assert {name: tuple(state.shape) for name, state in states.items()} == {
        **dict.fromkeys("012", (2, 9, 32)),
        "last": (2, 2, 32),
    }
    found = tiny_model(ids, mask, positions=positions, states=states)
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)
    assert found.hidden_states is None
