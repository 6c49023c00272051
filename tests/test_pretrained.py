"""Whole models: saved and loaded bit for bit, wrapped around plain encoders, pushed to the hub."""

import pytest
import torch
from conftest import TINY_ADAPTER
from tiny import MASK, TEXT, assert_same, build, features, released, weights
from transformers import AutoConfig, AutoModel, BertConfig, BertModel, RobertaModel

from kadapter import AdapterConfig, HeadConfig, KAdapterModel, RobertawithAdapter, TaskModel


@pytest.mark.parametrize(
    ("loader", "names"),
    [
        (KAdapterModel, ()),
        (KAdapterModel, ("fac",)),
        (KAdapterModel, ("fac", "lin", "bio")),
        (RobertawithAdapter, ("lin", "fac")),
        (AutoModel, ("lin", "fac")),
    ],
)
def test_a_saved_model_loads_bit_for_bit(tiny_backbone_config, tmp_path, loader, names):
    model = build(tiny_backbone_config, names)
    model.save_pretrained(tmp_path / "model")
    loaded = loader.from_pretrained(tmp_path / "model")
    assert isinstance(loaded, KAdapterModel)
    assert not loaded.training
    assert_same(weights(loaded), weights(model))
    assert torch.equal(features(loaded), features(model))


@pytest.mark.parametrize("kind", ["relation", "dependency", "entity_typing"])
def test_a_saved_task_model_loads_bit_for_bit(tiny_backbone_config, tmp_path, kind):
    model = build(tiny_backbone_config, head=HeadConfig(kind, 7))
    model.save_pretrained(tmp_path / "model")
    loaded = TaskModel.from_pretrained(tmp_path / "model")
    assert_same(weights(loaded), weights(model))
    positions = {"relation": torch.tensor([[1, 2], [0, 1]]), "entity_typing": torch.tensor([[1], [2]])}.get(kind)
    inputs = {"input_ids": TEXT, "attention_mask": MASK, "positions": positions}
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("family", ["roberta", "bert"])
def test_a_plain_encoder_is_wrapped_with_its_own_weights(tiny_backbone_config, tmp_path, family):
    torch.manual_seed(3)
    bert = BertConfig(vocab_size=60, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=40)
    plain = RobertaModel(tiny_backbone_config) if family == "roberta" else BertModel(bert)
    plain.eval().save_pretrained(tmp_path / "plain")
    adapters = {"fac": TINY_ADAPTER, "bio": AdapterConfig(adapter_size=8)}
    model = KAdapterModel.from_pretrained(tmp_path / "plain", adapters=adapters, fusion_mode="add")
    assert_same(weights(model.backbone), weights(plain))
    output = model(TEXT, attention_mask=MASK)
    expected = plain(TEXT, attention_mask=MASK).last_hidden_state + sum(output.adapter_states.values())
    torch.testing.assert_close(output.last_hidden_state, expected)
    assert model.config.adapters["bio"]["adapter_list"] == [0, 1, 2] if family == "roberta" else [0, 1]
    model.save_pretrained(tmp_path / "model")
    assert torch.equal(features(KAdapterModel.from_pretrained(tmp_path / "model")), features(model))


def test_the_originals_arguments_name_the_two_adapters(tiny_model, tmp_path):
    tiny_model.backbone.save_pretrained(tmp_path / "plain")
    tiny_model.save_adapter(tmp_path / "fac", "fac")
    tiny_model.save_adapter(tmp_path / "lin", "lin")
    model = RobertawithAdapter.from_pretrained(
        tmp_path / "plain", meta_fac_adaptermodel=tmp_path / "fac", meta_lin_adaptermodel=""
    )
    assert list(model.adapters) == ["fac"]
    both = RobertawithAdapter.from_pretrained(
        tmp_path / "plain", meta_fac_adaptermodel=tmp_path / "fac", meta_lin_adaptermodel=tmp_path / "lin"
    )
    states = both(TEXT, MASK).adapter_states
    for name, state in tiny_model(TEXT, MASK).adapter_states.items():
        assert torch.equal(states[name], state)


def test_a_saved_model_keeps_its_own_fusion(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="was saved with fusion_mode 'concat', not 'add'"):
        KAdapterModel.from_pretrained(tmp_path / "model", fusion_mode="add")


def test_where_and_how_to_download_is_passed_on(tiny_model, tmp_path, monkeypatch):
    tiny_model.backbone.save_pretrained(tmp_path / "plain")
    seen = {}

    def spy(cls, name):
        real = getattr(cls, name)

        def call(*args, **kwargs):
            seen[cls.__name__] = kwargs
            return real(*args, **{key: value for key, value in kwargs.items() if key not in options})

        monkeypatch.setattr(cls, name, call)

    options = {"revision": "v2", "cache_dir": str(tmp_path), "local_files_only": True}
    spy(AutoConfig, "from_pretrained")
    spy(AutoModel, "from_pretrained")
    KAdapterModel.from_pretrained(tmp_path / "plain", **options)
    for name in ("AutoConfig", "AutoModel"):
        assert options.items() <= seen[name].items()


def test_taps_that_nobody_gave_are_told_with_their_reason(tiny_backbone_config, caplog):
    caplog.set_level("INFO")
    model = build(tiny_backbone_config, ("fac",))
    model.add_adapter("bio", AdapterConfig(adapter_size=16))
    assert "no adapter_list is given: 'bio' taps [0, 1, 2], after the backbone's 4 layers." in caplog.text
    caplog.clear()
    model.add_adapter("own", AdapterConfig(adapter_size=16, adapter_list=(1, 3)))
    assert "no adapter_list is given" not in caplog.text
    with pytest.raises(ValueError, match=r"taps hidden states \[11\], but the backbone with 4 layers"):
        model.add_adapter("far", AdapterConfig(adapter_size=16, adapter_list=(0, 11)))


def test_an_original_adapter_that_does_not_fit_the_depth_asks_for_its_taps(tiny_backbone_config, tmp_path):
    torch.save(released(), tmp_path / "pytorch_model.bin")
    tiny_backbone_config.num_hidden_layers = 2  # where two states are tapped, and the file has three layers
    model = build(tiny_backbone_config, ())
    with pytest.raises(ValueError, match=r"has 3 adapter layers .* 2 layers are \[0, 1\]; name 3 hidden states"):
        model.load_adapter(tmp_path, "fac")
    assert not model.adapters
    config = AdapterConfig(adapter_size=16, adapter_list=(0, 1, 2), num_attention_heads=2)
    assert model.load_adapter(tmp_path, "fac", config).taps == (0, 1, 2)
