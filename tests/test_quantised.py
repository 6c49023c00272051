"""Quantised frozen backbones with adapters, bottlenecks and heads of float32, where the quantisers are installed."""

import pytest
import torch
from families import config
from tiny import difference, features
from torch import nn
from transformers import AutoModel, BitsAndBytesConfig, GPTQConfig, TorchAoConfig, Trainer, TrainingArguments

from kadapter import AdapterConfig, BottleneckConfig, HeadConfig, KAdapterModel, MultiTaskModel, TaskModel

SHAPE = AdapterConfig(adapter_size=16, num_attention_heads=2, intermediate_size=24)
SMALL = BottleneckConfig(4, initializer_range=0.1)
HEAD = HeadConfig("classification", 2)
IDS = torch.tensor([[0, 11, 12, 13, 14, 15], [0, 21, 22, 23, 24, 25]])
BATCH = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "positions": torch.zeros(2, 1, dtype=torch.long)}
OURS = ("adapters.", "fusion.", "head.", ".bottlenecks.", ".norms.", ".pooler.")


def _torchao(name):
    quantization = pytest.importorskip("torchao.quantization")
    return TorchAoConfig(getattr(quantization, name)())


def _bitsandbytes(**options):
    pytest.importorskip("bitsandbytes")
    return BitsAndBytesConfig(**options)


# How to quantise, and how far features of the tiny model may move by it.
KINDS = {
    "torchao, weights": (lambda: _torchao("Int8WeightOnlyConfig"), 0.01),
    "torchao, weights and activations": (lambda: _torchao("Int8DynamicActivationInt8WeightConfig"), 0.02),
    "bitsandbytes, 8 bits": (lambda: _bitsandbytes(load_in_8bit=True), 0.02),
    "bitsandbytes, 4 bits": (lambda: _bitsandbytes(load_in_4bit=True), 0.1),
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A folder with a plain backbone; 4 bits are packed by 64 numbers."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("quantised") / "backbone"
    AutoModel.from_config(config("bert", hidden_size=64, intermediate_size=128)).save_pretrained(folder)
    return folder


@pytest.fixture(params=KINDS)
def kind(request):
    make, near = KINDS[request.param]
    return make(), near


def is_packed(weight):
    return type(weight) not in (torch.Tensor, nn.Parameter)


def check_kinds(model):
    """The backbone's layers are quantised, and nothing else is."""
    layers = model.encoder.backbone.encoder.layer if isinstance(model, TaskModel) else model.backbone.encoder.layer
    for layer in layers:
        for module in (layer.attention.self.query, layer.attention.output.dense, layer.output.dense):
            assert is_packed(module.weight)
    ours = {name: value for name, value in model.named_parameters() if any(f in f".{name}" for f in OURS)}
    assert len(ours) > 50
    assert {(is_packed(value), value.dtype) for value in ours.values()} == {(False, torch.float32)}


def test_adapters_are_trained_saved_and_loaded_over_a_quantised_backbone(kind, backbone, tmp_path):
    quantiser, near = kind
    plain = KAdapterModel.from_pretrained(backbone)
    encoder = KAdapterModel.from_pretrained(
        backbone, quantization_config=quantiser, adapters={"own": SHAPE}, bottlenecks={"default": SMALL}
    )
    encoder.activate_bottlenecks(None)
    moved = difference(encoder.backbone(IDS).last_hidden_state, plain.backbone(IDS).last_hidden_state)
    assert 0 < moved < near
    encoder.activate_bottlenecks("default")

    model = TaskModel.from_encoder(encoder, HEAD)
    model.encoder.freeze("backbone_but_bottlenecks")
    check_kinds(model)
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    losses = []
    for _ in range(5):
        loss = model.train()(**BATCH, labels=torch.tensor([1, 1])).loss
        optimizer.zero_grad()
        loss.backward()
        assert all(value.grad is not None and value.grad.isfinite().all() for value in trained)
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 2

    model.eval().save_task(tmp_path / "task")
    encoder.save_adapter(tmp_path / "own", "own")
    again = KAdapterModel.from_pretrained(backbone, quantization_config=quantiser, adapters={"own": tmp_path / "own"})
    loaded = TaskModel.load_task(tmp_path / "task", again)
    with torch.no_grad():
        assert difference(loaded(**BATCH).logits, model(**BATCH).logits) < 1e-5
    for whole in (model, encoder):
        with pytest.raises(ValueError, match="cannot be saved as a whole; save what was trained beside it with save_a"):
            whole.save_pretrained(tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


def test_a_saved_model_is_quantised_while_loading_but_for_what_is_ours(kind, backbone, tmp_path):
    quantiser, near = kind
    before = quantiser.to_dict()
    encoder = KAdapterModel.from_pretrained(backbone, adapters={"own": SHAPE}, bottlenecks={"rte": SMALL})
    model = TaskModel.from_encoder(encoder, HEAD).eval()
    model.save_pretrained(tmp_path / "task")
    encoder.save_pretrained(tmp_path / "encoder")
    wanted = features(encoder, IDS, BATCH["attention_mask"])
    for cls, name in ((KAdapterModel, "encoder"), (TaskModel, "task")):
        loaded = cls.from_pretrained(tmp_path / name, quantization_config=quantiser)
        check_kinds(loaded)
        found = features(loaded if cls is KAdapterModel else loaded.encoder, IDS, BATCH["attention_mask"])
        assert 0 < difference(found, wanted) < near
    assert quantiser.to_dict() == before


@pytest.mark.parametrize("family", ["distilbert", "llama"])
def test_bottlenecks_on_a_linear_layer_are_not_lost_when_a_saved_model_is_quantised(kind, family, tmp_path):
    quantiser, large = kind[0], BottleneckConfig(8, initializer_range=0.5)
    torch.manual_seed(0)
    sizes = {"dim": 64, "hidden_dim": 128} if family == "distilbert" else {"hidden_size": 64, "intermediate_size": 128}
    AutoModel.from_config(config(family, **sizes)).save_pretrained(tmp_path / "backbone")
    model = KAdapterModel.from_pretrained(tmp_path / "backbone", bottlenecks={"rte": large})
    model.save_pretrained(tmp_path / "saved")
    wanted = features(model, IDS, BATCH["attention_mask"])
    for source in ("saved", "backbone"):
        loaded = KAdapterModel.from_pretrained(tmp_path / source, quantization_config=quantiser)
        assert any(is_packed(value) for value in loaded.parameters())
        if source == "backbone":
            loaded.add_bottlenecks("rte", large)
            ours = {key: value for key, value in model.state_dict().items() if ".bottlenecks." in key}
            assert not loaded.load_state_dict(ours, strict=False).unexpected_keys
        moved = difference(features(loaded, IDS, BATCH["attention_mask"]), wanted)
        loaded.activate_bottlenecks(None)
        assert 0 < moved < difference(features(loaded, IDS, BATCH["attention_mask"]), wanted) / 3


@pytest.mark.parametrize("saved", [True, False])
def test_a_trainer_trains_over_a_quantised_backbone(saved, kind, backbone, tmp_path):
    options = {"quantization_config": kind[0]}
    encoder = KAdapterModel.from_pretrained(backbone, bottlenecks={"default": SMALL}, **({} if saved else options))
    model = TaskModel.from_encoder(encoder, HEAD)
    if saved:
        model.save_pretrained(tmp_path / "saved")
        model = TaskModel.from_pretrained(tmp_path / "saved", **options)
    model.encoder.freeze("backbone_but_bottlenecks")
    row = {name: value[0] for name, value in BATCH.items()} | {"labels": 1}
    arguments = TrainingArguments(
        tmp_path / "run", save_strategy="no", max_steps=2, report_to=[], use_cpu=True, disable_tqdm=True
    )
    before = {name: value.clone() for name, value in model.named_parameters() if value.requires_grad}
    Trainer(model, arguments, train_dataset=[row] * 4).train()
    assert all(not torch.equal(model.get_parameter(name), value) for name, value in before.items() if "up_" in name)


def test_a_backbone_that_was_saved_quantised_gets_adapters_but_no_head_of_its_quantised_pooler(
    kind, backbone, tmp_path
):
    quantiser, _ = kind
    whole = AutoModel.from_pretrained(backbone, quantization_config=quantiser).eval()
    whole.save_pretrained(tmp_path / "packed")
    model = KAdapterModel.from_pretrained(tmp_path / "packed", adapters={"own": SHAPE})
    with torch.no_grad():
        assert difference(model.backbone(IDS).last_hidden_state, whole(IDS).last_hidden_state) < 1e-5
    assert is_packed(model.backbone.pooler.dense.weight)
    with pytest.raises(ValueError, match="the backbone's pooler is quantised, but the head's first layer is to be"):
        TaskModel.from_encoder(model, HEAD)
    assert TaskModel.from_encoder(model, HeadConfig("relation", 3)).head is not None


def test_tasks_share_a_quantised_backbone(kind, backbone, tmp_path):
    quantiser, _ = kind
    for i, name in enumerate(("a", "b")):
        torch.manual_seed(i)
        encoder = KAdapterModel.from_pretrained(backbone, bottlenecks={"default": SMALL})
        TaskModel.from_encoder(encoder, HEAD).save_task(tmp_path / name)
    model = MultiTaskModel.from_pretrained(backbone, quantization_config=quantiser)
    for name in ("a", "b"):
        model.add_task(name, tmp_path / name)
    with torch.no_grad():
        alone = torch.stack([model(**BATCH, task=name).logits[i] for i, name in enumerate("ab")])
        mixed = torch.stack(model(**BATCH, task_names=["a", "b"]).logits)
        assert difference(mixed, alone) < 1e-5
        assert difference(alone, model(**BATCH, task="a").logits) > 1e-3
    with pytest.raises(ValueError, match="cannot be saved as a whole"):
        model.save_pretrained(tmp_path / "whole")


def test_a_quantiser_that_would_take_our_parts_too_is_refused(backbone):
    with pytest.raises(ValueError, match="is a GPTQConfig, which cannot leave modules out; take a BitsAndBytesConfig"):
        KAdapterModel.from_pretrained(backbone, quantization_config=GPTQConfig(bits=4, dataset="c4"))
