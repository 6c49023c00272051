"""A frozen bottom below layers with bottlenecks: kept states in its place; running it each time is the oracle."""

import json
import shutil

import pytest
import torch
from families import config, save, texts
from test_cached_states import FINETUNED, assert_same
from tiny import enlarge
from transformers.models.roberta.modeling_roberta import RobertaLayer

from kadapter import AdapterConfig, BottleneckConfig, KAdapterConfig, KAdapterModel
from kadapter.models import bottom, last_layer
from kadapter.training.model_arguments import TaskArguments

TYPING = FINETUNED["openentity"]
SHAPE = {"adapter_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
IDS = torch.tensor([[0, 11, 12, 13, 14, 15, 2], [0, 21, 22, 23, 2, 1, 1]])
MASK = (IDS != 1).long()
POSITIONS = torch.tensor([[1, 5], [3, 0]])
UPPER = ("--bottleneck_size", 4, "--bottleneck_initializer_range", 0.3, "--bottleneck_layers", "2-3")
STILL = (*UPPER, "--frozen_dropout", "False")


def model(family="roberta", kernel="sdpa", taps=(), dropout=0.1, layers=(2, 3)):
    """Bottlenecks in the layers named, the rest of the backbone frozen, in 64 bits, in training."""
    torch.manual_seed(0)
    backbone = config(family)
    backbone._attn_implementation = kernel
    backbone.hidden_dropout_prob = backbone.attention_probs_dropout_prob = dropout
    whole = KAdapterConfig(
        backbone_config=backbone,
        adapters={"own": AdapterConfig(**SHAPE, adapter_list=taps)} if taps else {},
        bottlenecks={"default": BottleneckConfig(4, layers=layers)},
        active_bottlenecks="default",
    )
    tiny = enlarge(KAdapterModel(whole)).double()
    tiny.frozen_dropout = False
    tiny.freeze("backbone_but_bottlenecks")
    return tiny.train()


def features_and_gradients(tiny, positions, states=None):
    """With the dropout of one seed; padding, which nobody reads, is left out."""
    tiny.zero_grad()
    torch.manual_seed(1)
    found = tiny(IDS, attention_mask=MASK, positions=positions, states=states).last_hidden_state
    found = found * (MASK[..., None] if positions is None else 1)
    (found * torch.arange(found.numel()).view_as(found)).sum().backward()
    return found.detach(), {name: p.grad.clone() for name, p in tiny.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("positions", [None, POSITIONS], ids=["whole", "positions"])
@pytest.mark.parametrize("kernel", last_layer.KERNELS)
@pytest.mark.parametrize("family", last_layer.FAMILIES)
def test_a_call_that_begins_above_the_bottom_gives_what_the_whole_one_gives(family, kernel, positions):
    tiny = model(family, kernel, taps=(1, 3))
    expected = features_and_gradients(tiny, positions)
    states = tiny.frozen_states(positions, layers=2, input_ids=IDS, attention_mask=MASK)
    assert states.keys() == {"1", "2"}
    hooks = [
        part.register_forward_hook(lambda *_: pytest.fail("ran")) for part in bottom.bottom_modules(tiny.backbone, 2)
    ]
    found = features_and_gradients(tiny, positions, states)
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(found[0], expected[0], atol=1e-9, rtol=1e-9)
    assert found[1].keys() == expected[1].keys() != set()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-9, rtol=1e-9, msg=name)


def test_padding_that_was_not_kept_changes_nothing():
    tiny = model(dropout=0.0)
    states = tiny.frozen_states(layers=2, input_ids=IDS, attention_mask=MASK)
    zeros = {name: state * MASK[..., None] for name, state in states.items()}
    one, other = (features_and_gradients(tiny, None, given) for given in (states, zeros))
    torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


def test_in_training_the_frozen_bottom_keeps_nothing_for_gradients_and_drops_out_only_if_asked_to():
    tiny, saved, counts, states = model(), [], [], []

    def note(layer, inputs, output):
        counts.append(len(saved))
        states.append(output.detach())

    for layer in tiny.backbone.encoder.layer:
        layer.register_forward_hook(note)
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda one: saved.append(one) or one, lambda one: one)
    with hooks:
        for tiny.frozen_dropout in (False, True):
            tiny.train()
            for _ in range(2):
                tiny(IDS, attention_mask=MASK)
    assert counts[:2] == [0, 0]
    assert 0 < counts[2] < counts[3]
    assert torch.equal(states[1], states[5])
    assert not torch.equal(states[9], states[13])
    assert not torch.equal(states[2], states[6])  # above, dropout stays
    tiny.freeze("backbone")
    assert not any(module.training for module in tiny.backbone.modules())


@pytest.mark.parametrize(("names", "count"), [((), 4), (("encoder.layer.2.output.dense.bias",), 2), (("pooler",), 4),
                                              (("embeddings.LayerNorm", "encoder.layer.3"), 0)])  # fmt: skip
def test_the_bottom_ends_where_the_first_parameter_is_trained(names, count):
    tiny = model()
    for name, parameter in tiny.backbone.named_parameters():
        parameter.requires_grad_(name.startswith(names) if names else False)
    assert tiny.frozen_layers == count


def test_states_that_would_change_or_cannot_be_used_are_refused():
    tiny, inputs = model(), {"input_ids": IDS, "attention_mask": MASK}
    with pytest.raises(ValueError, match="layers is 5; give 1 to 4"):
        tiny.frozen_states(layers=5, **inputs)
    with pytest.raises(ValueError, match="the lowest 3 layers are being trained or drop out"):
        tiny.frozen_states(layers=3, **inputs)
    tiny.frozen_dropout = True
    with pytest.raises(ValueError, match="the lowest 2 layers are being trained or drop out"):
        tiny.train().frozen_states(layers=2, **inputs)
    other = KAdapterModel(KAdapterConfig(backbone_config=config("distilbert"))).eval()
    with pytest.raises(ValueError, match="the upper layers of distilbert cannot run apart"):
        other.frozen_states(layers=2, **inputs)


# -- recipes ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def layers(monkeypatch):
    """The numbers of the backbone's layers that ran."""
    ran, real = [], RobertaLayer.forward

    def forward(self, *args, **kwargs):
        ran.append(self.attention.self.layer_idx)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(RobertaLayer, "forward", forward)
    return ran


@pytest.fixture
def dropping_out(tiny_backbone, tmp_path):
    """The tiny backbone with dropout."""
    folder = shutil.copytree(tiny_backbone, tmp_path / "dropping")
    values = json.loads((folder / "config.json").read_text())
    values |= {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize(
    "flags",
    [
        STILL,
        (*STILL, "--task_adapter", "own", "--adapter_list", "0,1,3"),
        ("--train_layers", "3", "--frozen_dropout=False"),
    ],
    ids=["bottlenecks", "beside an adapter", "trained layers"],
)
def test_with_the_bottom_kept_losses_and_weights_are_those_without(run, tmp_path, dropping_out, layers, flags):
    flags = ("--model_name_or_path", dropping_out, "--per_gpu_train_batch_size", 32, *flags, "--eval_steps", 5)
    _, plain = run(TYPING, *flags, "--comment", "plain", steps=5)
    cache = ("--cache_states", tmp_path / "states")
    _, kept = run(TYPING, *flags, *cache, "--comment", "kept", steps=5)
    layers.clear()
    _, again = run(TYPING, *flags, *cache, "--comment", "again", steps=5)
    assert set(layers) == ({2} if "--bottleneck_size" in flags else set())  # the last is computed where it is read
    assert_same(kept, plain)
    assert_same(again, plain)
    names = {path.name for path in (tmp_path / "states").rglob("*.bin")}
    first = 2 if "--bottleneck_size" in flags else 3
    assert names == {f"state-{first}.bin", *(["state-1.bin"] if "own" in flags else [])}


def test_other_seeds_and_sizes_share_the_bottom_and_other_depths_do_not(run, tmp_path, layers):
    cache = ("--cache_states", tmp_path / "states", "--frozen_dropout", "False")
    run(TYPING, *UPPER, *cache, "--comment", "one", steps=1)
    stores = {path.name for path in (tmp_path / "states").iterdir()}
    layers.clear()
    more = ("--bottleneck_size", 8, "--seed", 7, "--learning_rate", 1e-4, "--bottleneck_layers", "2")
    run(TYPING, *more, *cache, "--comment", "two", steps=1)
    assert stores == {path.name for path in (tmp_path / "states").iterdir()}
    assert 0 not in layers[-3:]
    run(TYPING, "--bottleneck_size", 8, *cache, "--bottleneck_layers", "3", "--comment", "three", steps=1)
    found = {path.name for path in (tmp_path / "states").iterdir()}
    assert stores < found
    assert {path.name for name in found - stores for path in (tmp_path / "states" / name).glob("*.bin")} == {
        "state-3.bin"
    }


def test_a_damaged_block_of_the_bottom_is_computed_anew(run, tmp_path, caplog):
    flags = (*STILL, "--per_gpu_train_batch_size", 32)
    _, plain = run(TYPING, *flags, "--comment", "plain", steps=3)
    cache = ("--cache_states", tmp_path / "states")
    run(TYPING, *flags, *cache, "--comment", "one", steps=3)
    for path in (tmp_path / "states").rglob("state-2.bin"):
        path.write_bytes(bytes([byte ^ 1 for byte in path.read_bytes()[:100]]) + path.read_bytes()[100:])
    _, again = run(TYPING, *flags, *cache, "--comment", "again", steps=3)
    assert "is damaged; it is computed anew" in caplog.text
    assert_same(again, plain)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (UPPER, "these drop out differently each time; give --frozen_dropout False"),
        (("--bottleneck_size", 4), "give --freeze_bert or --bottleneck_layers without the lowest layers"),
        (("--train_layers", "norms"), "give --freeze_bert or --bottleneck_layers without the lowest layers"),
    ],
)
def test_a_bottom_that_changes_is_not_kept(run, tmp_path, flags, said):
    with pytest.raises(ValueError, match=said):
        run(TYPING, *flags, "--cache_states", tmp_path / "states")
    assert not (tmp_path / "states").exists()


def test_auto_says_why_a_bottom_that_drops_out_is_not_kept(run, tmp_path, caplog):
    caplog.set_level("INFO")
    run(TYPING, *UPPER, "--features_cache", tmp_path, "--cache_states", "auto", steps=1)
    assert "--cache_states auto keeps nothing: --cache_states keeps what the frozen layers compute, but" in caplog.text


def test_a_family_whose_layers_cannot_run_apart_is_refused_before_work_starts(run, world, tmp_path):
    with pytest.raises(ValueError, match="the upper layers of distilbert cannot run apart from its frozen lower ones"):
        run(TYPING, *STILL, "--model_name_or_path", save("distilbert", texts(world), tmp_path / "backbone"))


@pytest.mark.parametrize("flags", [{}, {"bottleneck_size": 4}, {"bottleneck_size": 4, "bottleneck_layers": "0,3"},
                                   {"freeze_bert": True}, {"train_layers": "norms"}])  # fmt: skip
def test_a_bottom_without_dropout_needs_frozen_layers_below_trained_ones(flags):
    with pytest.raises(ValueError, match="--frozen_dropout False is for frozen layers below trained ones"):
        TaskArguments(**flags, frozen_dropout=False)
