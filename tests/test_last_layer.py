"""The last layer at the positions that are read; the whole layer, read afterwards, is the oracle."""

import copy
import pickle

import pytest
import torch
from families import FAMILIES, config
from tiny import enlarge

from kadapter import AdapterConfig, BottleneckConfig, HeadConfig, KAdapterConfig, KAdapterModel, TaskModel
from kadapter.models import adapter, last_layer, tapping

SHAPE = {"adapter_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
SHAPE |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
IDS = torch.tensor([[0, 11, 12, 13, 14, 15, 2], [0, 21, 22, 23, 2, 1, 1]])
MASK = (IDS != 1).long()
POSITIONS = torch.tensor([[1, 5], [3, 0]])


def model(family="roberta", head=None, bottlenecks=None, kernel="sdpa", **shape):
    """A model of one adapter with weights far from zero, in 64 bits, so that what is equal is so to many digits."""
    torch.manual_seed(0)
    backbone = config(family)
    backbone._attn_implementation = kernel
    whole = KAdapterConfig(
        backbone_config=backbone,
        adapters={"own": AdapterConfig(**SHAPE, **shape)},
        bottlenecks={} if bottlenecks is None else {"default": bottlenecks},
        active_bottlenecks=None if bottlenecks is None else "default",
    )
    tiny = KAdapterModel(whole) if head is None else TaskModel(whole.with_head(head))
    return enlarge(tiny).double().eval()


@pytest.fixture
def whole_layers(monkeypatch):
    """Calls a function while last layers are computed whole."""

    def call(function, *args):
        with monkeypatch.context() as patch:
            for module in (adapter, tapping):
                patch.setattr(module, "is_readable_at", lambda *_: False)
            return function(*args)

    return call


def features_and_gradients(tiny, mask=MASK, positions=POSITIONS, **inputs):
    tiny.zero_grad()
    found = tiny(IDS, attention_mask=mask, positions=positions, **inputs).last_hidden_state
    (found * torch.arange(found.numel()).view_as(found)).sum().backward()
    return found.detach(), {name: p.grad.clone() for name, p in tiny.named_parameters() if p.grad is not None}


def assert_same(found, expected):
    torch.testing.assert_close(found[0], expected[0], atol=1e-10, rtol=1e-10)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        scale = float(gradient.abs().max()) + 1e-3
        torch.testing.assert_close(found[1][name] / scale, gradient / scale, atol=1e-9, rtol=0, msg=name)


def rows_of_last_layer(tiny):
    """How many states of a sequence the backbone's and the adapter's last feed-forward layers computed."""
    rows = []
    layers = [tiny.backbone.encoder.layer[-1], tiny.adapters["own"].adapter[-1].encoder.layer[-1]]
    hooks = [layer.intermediate.register_forward_hook(lambda *args: rows.append(args[2].shape[1])) for layer in layers]
    with torch.no_grad():
        tiny(IDS, attention_mask=MASK, positions=POSITIONS)
    for hook in hooks:
        hook.remove()
    return rows


@pytest.mark.parametrize("kernel", last_layer.KERNELS)
@pytest.mark.parametrize("family", last_layer.FAMILIES)
def test_features_and_gradients_are_those_of_the_whole_layer(family, kernel, whole_layers):
    tiny = model(family, kernel=kernel)
    assert rows_of_last_layer(tiny) == [2, 2]
    found = features_and_gradients(tiny)
    assert "backbone.encoder.layer.3.output.dense.weight" in found[1]
    assert_same(found, whole_layers(features_and_gradients, tiny))
    assert whole_layers(rows_of_last_layer, tiny) == [7, 7]


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in last_layer.FAMILIES])
def test_other_families_compute_the_whole_last_layer_of_the_backbone(family, whole_layers):
    tiny = model(family, kernel="eager" if family in ("deberta-v2", "mpnet") else "sdpa")
    assert_same(features_and_gradients(tiny), whole_layers(features_and_gradients, tiny))


@pytest.mark.parametrize("shape", [{"adapter_skip_layers": 2}, {"adapter_skip_layers": 3}, {"attend_padding": True}])
def test_adapters_of_other_shapes_are_those_of_the_whole_layer(shape, whole_layers):
    tiny = model(adapter_list=(0, 1, 3), **shape)
    assert rows_of_last_layer(tiny) == [2, 2]
    assert_same(features_and_gradients(tiny), whole_layers(features_and_gradients, tiny))


def test_a_causal_adapter_is_computed_whole(whole_layers):
    tiny = model(causal=True)
    assert rows_of_last_layer(tiny) == [2, 7]
    assert_same(features_and_gradients(tiny), whole_layers(features_and_gradients, tiny))


def test_an_adapter_that_taps_the_last_state_has_all_of_it(whole_layers):
    tiny = model(adapter_list=(0, 4))
    assert rows_of_last_layer(tiny) == [7, 2]
    assert_same(features_and_gradients(tiny), whole_layers(features_and_gradients, tiny))


def test_bottlenecks_and_norms_in_the_last_layer_work_where_it_is_read(whole_layers):
    tiny = model("bert", bottlenecks=BottleneckConfig(8, 0.1))
    found = features_and_gradients(tiny)
    assert any("layer.3.output.dropout.bottlenecks" in name for name in found[1])
    assert_same(found, whole_layers(features_and_gradients, tiny))


def test_a_model_without_adapters_has_the_last_state_where_it_is_read(whole_layers):
    tiny = model()
    tiny.delete_adapter("own")
    assert_same(features_and_gradients(tiny), whole_layers(features_and_gradients, tiny))


@pytest.mark.parametrize("kernel", last_layer.KERNELS)
def test_a_mask_with_a_row_for_each_query_is_read_by_its_rows(kernel, whole_layers):
    tiny = model(kernel=kernel, attend_padding=True)
    allowed = torch.rand(2, 1, 7, 7, generator=torch.Generator().manual_seed(0)) > 0.4
    allowed |= torch.eye(7, dtype=torch.bool)
    mask = allowed if kernel == "sdpa" else (~allowed).double() * -1e9
    assert_same(features_and_gradients(tiny, mask), whole_layers(features_and_gradients, tiny, mask))


def test_no_mask_and_as_many_positions_as_tokens_give_the_same(whole_layers):
    tiny = model()
    assert_same(features_and_gradients(tiny, None), whole_layers(features_and_gradients, tiny, None))
    everywhere = torch.arange(7).expand(2, -1)
    found, _ = features_and_gradients(tiny, MASK, everywhere)
    torch.testing.assert_close(found, tiny(IDS, attention_mask=MASK).last_hidden_state.detach())


def test_gradient_checkpointing_computes_the_same(whole_layers):
    tiny = model()
    expected = whole_layers(features_and_gradients, tiny)
    tiny.train().activation_checkpointing_enable()
    for module in tiny.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    assert_same(features_and_gradients(tiny), expected)


def test_states_that_a_caller_asks_for_are_whole():
    tiny = model(kernel="eager")
    with torch.no_grad():
        output = tiny(IDS, attention_mask=MASK, positions=POSITIONS, output_hidden_states=True)
        some = tiny(IDS, attention_mask=MASK, positions=POSITIONS, output_hidden_states=[4])
        seen = tiny(IDS, attention_mask=MASK, positions=POSITIONS, output_attentions=True)
    assert [state.shape[1] for state in output.hidden_states] == [7] * 5
    assert some.hidden_states[4].shape[1] == 7
    assert [attention.shape[2] for attention in seen.attentions] == [7] * 4
    assert output.pooler_output is None
    assert tiny(IDS, attention_mask=MASK).pooler_output is not None


def test_cached_states_are_those_that_the_head_reads(whole_layers):
    tiny = model(head=HeadConfig("relation", 3)).eval()
    inputs = {"input_ids": IDS, "attention_mask": MASK, "positions": POSITIONS}
    found, expected = tiny.frozen_states(**inputs), whole_layers(lambda: tiny.frozen_states(**inputs))
    assert found.keys() == expected.keys()
    for name, state in expected.items():
        torch.testing.assert_close(found[name], state)
    torch.testing.assert_close(tiny(**inputs, states=found).logits, tiny(**inputs).logits)


def test_copies_and_pickles_compute_with_their_own_layers():
    tiny = model()
    twins = [copy.deepcopy(tiny), pickle.loads(pickle.dumps(tiny))]
    expected = features_and_gradients(tiny)
    for twin in twins:
        assert twin.backbone.encoder.layer[-1].forward.layer is twin.backbone.encoder.layer[-1]
        assert_same(features_and_gradients(twin), expected)


def test_positions_outside_of_the_sequence_are_refused():
    tiny = model()
    for states in (None, {**{str(tap): torch.zeros(2, 7, 32) for tap in (0, 1, 2)}, "last": torch.zeros(2, 2, 32)}):
        with pytest.raises(ValueError, match="positions go from 1 to 7"):
            tiny(IDS, attention_mask=MASK, positions=torch.tensor([[1, 7], [1, 2]]), states=states)
