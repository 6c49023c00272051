"""Adapters, fusion and heads are float32 beside a backbone of 16 bits, and are cast at their border."""

import copy

import pytest
import torch
from conftest import TINY_ADAPTER, fast
from test_bottleneck import backbone
from tiny import MASK, TEXT, features

from kadapter import AdapterConfig, HeadConfig, KAdapterModel, TaskModel
from kadapter.training import devices
from kadapter.training.arguments import TrainingArguments

HALF = [torch.float16, torch.bfloat16]
KINDS = {"entity_typing": 3, "relation": 4, "classification": 2, "dependency": 6, "masked_lm": 60}


def positions(kind):
    return None if kind == "dependency" else torch.tensor([[1, 2], [1, 2]])[:, : 2 if kind == "relation" else 1]


def labels(kind):
    if kind == "entity_typing":
        return torch.tensor([[0, 1, 1], [1, 0, 0]])
    return (
        torch.tensor([[1] * 6, [2] * 6])
        if kind == "dependency"
        else torch.tensor([1, 0])[:, None].squeeze(0 if kind == "masked_lm" else 1)
    )


@pytest.fixture(params=HALF, ids=str)
def folder(request, tmp_path):
    backbone().to(request.param).save_pretrained(tmp_path / "half")
    return tmp_path / "half", request.param


def moved(model, kind):
    """The size of each trained weight's change in ten steps."""
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    before = [p.detach().clone() for p in trained]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, weight_decay=0)
    for _ in range(10):
        optimizer.zero_grad()
        output = model(TEXT, attention_mask=MASK, positions=positions(kind), labels=labels(kind))
        assert output.logits.dtype == torch.float32
        assert torch.isfinite(output.loss)
        output.loss.backward()
        optimizer.step()
    return torch.stack([(p.detach() - old).norm() for p, old in zip(trained, before, strict=True)])


@pytest.mark.parametrize(
    ("kind", "mode"),
    fast(
        [("relation", "concat"), ("entity_typing", "attention")],
        [*((kind, "concat") for kind in KINDS), *(("entity_typing", mode) for mode in ("add", "gate", "attention"))],
    ),
)
def test_training_beside_a_backbone_of_16_bits_changes_weights_as_in_float32(folder, kind, mode):
    place, dtype = folder
    adapters = {"fac": TINY_ADAPTER, "lin": TINY_ADAPTER}
    encoder = KAdapterModel.from_pretrained(place, adapters=adapters, fusion_mode=mode)
    encoder.freeze("backbone")
    model = TaskModel.from_encoder(encoder, HeadConfig(kind, KINDS[kind], dropout=0.0))
    twin = copy.deepcopy(model)
    twin.encoder.backbone.float()
    assert {p.dtype for p in encoder.backbone.parameters()} == {dtype}
    found, expected = moved(model.eval(), kind), moved(twin.eval(), kind)
    assert (found.norm() / expected.norm()).item() == pytest.approx(1, abs=0.05)
    assert ((found > 0) == (expected > 0)).float().mean() > 0.9


def test_the_fused_states_are_those_of_float32_adapters_on_the_backbones_own_states(folder):
    place, dtype = folder
    model = KAdapterModel.from_pretrained(place, adapters={"fac": TINY_ADAPTER})
    taps = model.adapters["fac"].taps
    with torch.no_grad():
        states = model.backbone(TEXT, attention_mask=MASK, output_hidden_states=True)
        tapped = {tap: states.hidden_states[tap].float() for tap in taps}
        state = model.adapters["fac"](tapped, MASK)
        expected = model.fusion.task_dense_fac(torch.cat([states.last_hidden_state.float(), state], dim=-1))
    found = features(model)
    assert found.dtype == torch.float32
    assert states.last_hidden_state.dtype == dtype
    torch.testing.assert_close(found, expected)
    with model.adapters_disabled():
        assert torch.equal(features(model), states.last_hidden_state)


def test_another_type_can_be_asked_for(folder, tmp_path):
    place, dtype = folder
    model = KAdapterModel.from_pretrained(place, adapters={"fac": TINY_ADAPTER}, adapter_dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert features(model).dtype == dtype
    model.add_adapter("lin", TINY_ADAPTER, adapter_dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    model.save_adapter(tmp_path / "lin", "lin")
    model.load_adapter(tmp_path / "lin", "again")
    assert {p.dtype for p in model.adapters["again"].parameters()} == {torch.float32}
    assert torch.isfinite(features(model)).all()
    whole = KAdapterModel.from_pretrained(place, adapters={"fac": AdapterConfig(adapter_size=16)}).to(dtype)
    assert torch.isfinite(features(whole)).all()  # cast by hand


def test_a_model_of_mixed_types_is_saved_and_loaded_as_it_was(folder, tmp_path):
    place, dtype = folder
    encoder = KAdapterModel.from_pretrained(place, adapters={"fac": TINY_ADAPTER})
    model = TaskModel.from_encoder(encoder, HeadConfig("entity_typing", 3)).eval()
    model.save_pretrained(tmp_path / "saved")
    for loaded in (
        TaskModel.from_pretrained(tmp_path / "saved"),
        TaskModel.from_pretrained(tmp_path / "saved", dtype=dtype),
    ):
        found = dict(loaded.named_parameters())
        assert all(found[name].dtype == p.dtype and torch.equal(found[name], p) for name, p in model.named_parameters())
    wide = TaskModel.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    assert {p.dtype for p in wide.parameters()} == {torch.float32}


@pytest.mark.parametrize(("slowdown", "told"), [(4.0, True), (1.0, False), (0.4, False)])
def test_bf16_is_warned_of_on_a_cpu_where_it_is_slower(monkeypatch, caplog, slowdown, told):
    assert devices.bf16_slowdown() > 0
    monkeypatch.setattr(devices, "bf16_slowdown", lambda: slowdown)
    devices.start_accelerator(TrainingArguments(bf16=True, no_cuda=True))
    assert ("--bf16 takes 4.0 times as long as float32 on this CPU" in caplog.text) == told
    devices.start_accelerator(TrainingArguments(no_cuda=True))
    assert caplog.text.count("--bf16") == told
