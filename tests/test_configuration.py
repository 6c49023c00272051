"""Configurations: what they refuse, what they fill in, and that JSON keeps them."""

import json

import pytest
from conftest import TINY_ADAPTER
from transformers import AutoConfig, AutoModel, BertConfig, RobertaConfig

from kadapter import AdapterConfig, HeadConfig, KAdapterConfig, KAdapterModel
from kadapter.shapes import default_taps


@pytest.mark.parametrize(
    ("layers", "taps"),
    [(24, (0, 11, 22)), (12, (0, 5, 10)), (6, (0, 2, 4)), (4, (0, 1, 2)), (3, (0, 1)), (2, (0, 1)), (1, (0,))],
)
def test_taps_are_the_first_the_middle_and_the_last_but_one_where_none_are_named(layers, taps):
    assert default_taps(layers) == taps
    assert AdapterConfig().resolved(layers).adapter_list == taps


def test_heads_and_feed_forward_follow_the_width_where_they_are_not_given():
    config = AdapterConfig()
    assert (config.adapter_size, config.num_attention_heads, config.intermediate_size) == (768, 12, 3072)
    small = AdapterConfig(adapter_size=32)
    assert (small.num_attention_heads, small.intermediate_size) == (1, 128)


@pytest.mark.parametrize("config", [AdapterConfig(), TINY_ADAPTER, AdapterConfig(adapter_skip_layers=2)])
def test_an_adapter_configuration_survives_json(config):
    assert AdapterConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("labels", [None, ("person", "place")])
def test_a_head_configuration_survives_json(labels):
    config = HeadConfig("entity_typing", 2, labels, dropout=0.2)
    assert HeadConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"adapter_list": []}, r"adapter_list is empty; name at least one hidden state"),
        ({"adapter_size": 30, "num_attention_heads": 4}, "adapter_size 30 is not divisible by num_attention_heads 4"),
        ({"adapter_size": 0}, "adapter_size is 0; it must be 1 or more"),
        ({"adapter_transformer_layers": 0}, "adapter_transformer_layers is 0"),
        ({"num_attention_heads": -1}, "num_attention_heads is -1"),
        ({"intermediate_size": 0}, "intermediate_size is 0"),
        ({"adapter_skip_layers": 1}, r"adapter_skip_layers is 1; use 0 \(off\) or 2 and more"),
        ({"adapter_skip_layers": -2}, "adapter_skip_layers is -2"),
        ({"hidden_dropout_prob": 1.0}, r"hidden_dropout_prob is 1.0; it must be in \[0, 1\)"),
        ({"attention_probs_dropout_prob": -0.1}, "attention_probs_dropout_prob is -0.1"),
    ],
)
def test_an_impossible_adapter_is_refused_with_the_value(values, message):
    with pytest.raises(ValueError, match=message):
        AdapterConfig(**values)


def test_unknown_keys_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"adapter configuration has unknown keys \['size'\]; known are \['adapter_l"):
        AdapterConfig.from_dict({"size": 3})
    with pytest.raises(ValueError, match=r"the head's configuration has unknown keys \['classes'\]"):
        HeadConfig.from_dict({"kind": "relation", "classes": 3})


@pytest.mark.parametrize("tap", [-1, 5, 23])
def test_a_tap_outside_the_backbone_is_refused_with_its_range(tap):
    with pytest.raises(ValueError, match=rf"taps hidden states \[{tap}\], but the backbone with 4 layers has 0 to 4"):
        AdapterConfig(adapter_list=(0, tap)).resolved(4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "translation", "num_labels": 2}, "head kind is 'translation'; choose one of"),
        ({"kind": "relation", "num_labels": 0}, "num_labels is 0; it must be 1 or more"),
        ({"kind": "relation", "num_labels": 3, "labels": ["a", "b"]}, "2 label names were given for num_labels 3"),
    ],
)
def test_an_impossible_head_is_refused_with_the_value(values, message):
    with pytest.raises(ValueError, match=message):
        HeadConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fusion_mode": "mean"}, r"fusion_mode is 'mean'; choose one of \['concat', 'add',"),
        ({"adapters": {"a-b": TINY_ADAPTER}}, "adapter name 'a-b' is not a plain word"),
        ({"adapters": {"": TINY_ADAPTER}}, "adapter name '' is not a plain word"),
        ({"adapters": {"a.b": TINY_ADAPTER}}, "adapter name 'a.b' is not a plain word"),
        ({"adapters": {"none": TINY_ADAPTER}}, r"adapter name 'none' means something else to freeze\(\)"),
        ({"adapters": {"fac": AdapterConfig(adapter_list=(9,))}}, r"adapter 'fac': adapter_list \[9\] taps"),
        ({"adapters": {"fac": {"width": 3}}}, r"unknown keys \['width'\]"),
        ({"head": {"kind": "x", "num_labels": 2}}, "head kind is 'x'"),
        ({"backbone_config": {"hidden_size": 8}}, "backbone_config has no model_type"),
        ({"backbone_config": 7}, "backbone_config is a int; give a transformers configuration"),
        ({"adapters": {"fac": TINY_ADAPTER}, "adapter_names": ["lin"]}, r"adapter_names \['lin'\] are not the names"),
    ],
)
def test_an_impossible_model_is_refused_with_the_value(tiny_backbone_config, values, message):
    with pytest.raises(ValueError, match=message):
        KAdapterConfig(**{"backbone_config": tiny_backbone_config, **values})


@pytest.mark.parametrize("names", [("fac", "lin"), ("lin", "fac"), ("zoo", "bio", "map"), ()])
def test_a_model_configuration_survives_its_file_with_the_order_of_its_adapters(tmp_path, tiny_backbone_config, names):
    adapters = {name: AdapterConfig(adapter_list=(number,), adapter_size=16) for number, name in enumerate(names)}
    config = KAdapterConfig(
        backbone_config=tiny_backbone_config,
        adapters=adapters,
        fusion_mode="add",
        head=HeadConfig("relation", 2, ("a", "b")),
    )
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is KAdapterConfig
    assert {**loaded.to_dict(), "_name_or_path": ""} == config.to_dict()
    assert list(loaded.adapters) == list(names)
    assert [loaded.adapter_config(name) for name in names] == list(adapters.values())
    assert loaded.head_config() == config.head_config()
    assert isinstance(loaded.backbone_config, RobertaConfig)
    assert (loaded.hidden_size, loaded.num_hidden_layers, loaded.vocab_size) == (32, 4, 120)


def test_taps_that_are_left_open_are_filled_in_from_the_backbone(tiny_backbone_config):
    config = KAdapterConfig(backbone_config=tiny_backbone_config, adapters={"fac": AdapterConfig()})
    assert config.adapters["fac"]["adapter_list"] == [0, 1, 2]


def test_a_backbone_may_be_given_as_a_dictionary():
    values = BertConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2).to_dict()
    config = KAdapterConfig(backbone_config=values)
    assert isinstance(config.backbone_config, BertConfig)
    assert config.num_hidden_layers == 2


def test_a_configuration_without_a_head_says_so(tiny_backbone_config):
    with pytest.raises(ValueError, match="has no head; give head=HeadConfig"):
        KAdapterConfig(backbone_config=tiny_backbone_config).head_config()


def test_a_configuration_leaves_the_kernel_of_a_backbone_in_use(tiny_backbone_config):
    tiny_backbone_config._attn_implementation = "eager"
    config = KAdapterConfig(backbone_config=tiny_backbone_config)
    assert tiny_backbone_config._attn_implementation == config._attn_implementation == "eager"
    KAdapterConfig(backbone_config=tiny_backbone_config, attn_implementation="sdpa")
    assert tiny_backbone_config._attn_implementation == "sdpa"


def test_the_auto_classes_know_the_model(tiny_backbone_config):
    config = AutoConfig.for_model("kadapter", backbone_config=tiny_backbone_config, adapters={"fac": TINY_ADAPTER})
    assert isinstance(config, KAdapterConfig)
    assert isinstance(AutoModel.from_config(config), KAdapterModel)
