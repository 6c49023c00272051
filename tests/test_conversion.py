"""scripts/convert_checkpoint.py and examples/run_example.py on tiny models."""

import json
import os
from dataclasses import replace

import pytest
import torch
from conftest import ROOT, TINY_ADAPTER, golden_config, golden_json, load_script
from safetensors.torch import load_file
from tiny import MASK, TEXT, assert_same, build, features, released, weights
from transformers import BertConfig, RobertaModel

from kadapter import AdapterConfig, HeadConfig, KAdapterConfig, KAdapterModel, RobertawithAdapter, TaskModel
from kadapter.storage import checkpoint as ck
from kadapter.storage import original
from kadapter.training.flags import parse
from kadapter.training.model_arguments import TaskArguments

SCRIPT = load_script("scripts/convert_checkpoint.py")
EXAMPLE = load_script("examples/run_example.py")
FLAGS = ("--adapter_list", "0,1,2", "--adapter_attention_heads", "2")


def convert(to, source, output, *flags):
    SCRIPT.main(["--to", to, "--input", str(source), "--output", str(output), *flags])
    return output


def binary(folder, name="pytorch_model.bin"):
    return torch.load(folder / name, weights_only=True)


# -- there and back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sequence", [None, 12])
@pytest.mark.parametrize("by_folder", [True, False])
def test_a_released_adapter_goes_there_and_back_bit_for_bit(tmp_path, sequence, by_folder):
    state = released(sequence=sequence)
    (tmp_path / "released").mkdir()
    torch.save(state, tmp_path / "released" / "pytorch_model.bin")
    source = tmp_path / "released" if by_folder else tmp_path / "released" / "pytorch_model.bin"
    ours = convert("kadapter", source, tmp_path / "ours", *FLAGS, "--attend_padding")
    config, loaded = original.read_adapter(ours)
    assert config == AdapterConfig(**{**TINY_ADAPTER.to_dict(), "attend_padding": True})
    assert_same(loaded | load_file(ours / ck.PRETRAINING_HEAD), state)
    assert_same(binary(convert("original", ours, tmp_path / "back")), state)


@pytest.mark.parametrize(
    ("names", "fusion_mode"), [(("fac",), "concat"), (("lin",), "add"), (("fac", "lin"), "concat")]
)
def test_a_model_goes_there_and_back_bit_for_bit(tmp_path, tiny_backbone_config, names, fusion_mode):
    model = build(tiny_backbone_config, names, fusion_mode)
    model.save_pretrained(tmp_path / "ours")
    theirs = convert("original", tmp_path / "ours", tmp_path / "theirs")
    assert sorted(os.listdir(theirs)) == ["config.json", "pytorch_model.bin"]
    back = RobertawithAdapter.from_pretrained(convert("kadapter", theirs, tmp_path / "back", *FLAGS))
    assert_same(weights(back), weights(model))
    assert back.config.adapters == model.config.adapters
    assert torch.equal(features(back), features(model))
    assert_same(binary(convert("original", tmp_path / "back", tmp_path / "again")), binary(theirs))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("entity_typing", ("fac", "lin")),
        ("relation", ("fac", "lin")),
        ("relation", ("fac",)),
        ("dependency", ("lin",)),
        ("entity_typing", ("fac",)),
    ],
)
def test_a_task_model_goes_there_and_back_bit_for_bit(tmp_path, tiny_backbone_config, kind, names):
    labels = tuple("abcdefg")
    model = build(tiny_backbone_config, names, head=HeadConfig(kind, 7, labels))
    model.save_pretrained(tmp_path / "ours")
    theirs = convert("original", tmp_path / "ours", tmp_path / "theirs")
    assert sorted(os.listdir(theirs)) == ["config.json", "pytorch_model.bin", "pytorch_pretrained_model.bin"]
    assert all(name.startswith("model.") for name in binary(theirs, "pytorch_pretrained_model.bin"))
    assert {"dense.weight", "out_proj.weight"} <= set(binary(theirs))
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    back = convert("kadapter", theirs, tmp_path / "back", *FLAGS, "--labels", str(tmp_path / "labels.json"))
    loaded = TaskModel.from_pretrained(back)
    assert_same(weights(loaded), weights(model))
    assert loaded.config.head_config() == model.config.head_config()
    assert list(loaded.config.adapters) == list(names)


def test_torch_1_3_could_read_what_is_written(tmp_path, tiny_backbone_config):
    build(tiny_backbone_config).save_pretrained(tmp_path / "ours")
    path = convert("original", tmp_path / "ours", tmp_path / "theirs") / "pytorch_model.bin"
    assert not path.read_bytes().startswith(b"PK")  # its torch.load knows no zip archives
    values = json.loads((tmp_path / "theirs" / "config.json").read_text())
    expected = {"hidden_size": 32, "layer_norm_eps": 1e-5, "type_vocab_size": 1, "output_hidden_states": True}
    assert expected.items() <= values.items()


def test_a_configuration_of_pytorch_transformers_is_understood(tmp_path, tiny_backbone_config):
    model = build(tiny_backbone_config)
    model.save_pretrained(tmp_path / "ours")
    theirs = convert("original", tmp_path / "ours", tmp_path / "theirs")
    values = json.loads((theirs / "config.json").read_text())
    for name in ("model_type", "transformers_version", "architectures", "pad_token_id", "dtype"):
        values.pop(name, None)
    values |= {
        "finetuning_task": None,
        "torchscript": False,
        "pruned_heads": {},
        "num_labels": 2,
        "freeze_adapter": True,
    }
    (theirs / "config.json").write_text(json.dumps(values))
    back = KAdapterModel.from_pretrained(convert("kadapter", theirs, tmp_path / "back", *FLAGS))
    assert torch.equal(features(back), features(model))
    assert back(TEXT, MASK).hidden_states is None


TASKS = ["openentity", "figer", "tacred", "cosmosqa"]


@pytest.mark.parametrize("kind", ["robertawithadapter_both_concat", "fac_pretrain", "lin_pretrain", *TASKS])
def test_names_and_shapes_are_the_originals(kind):
    head = {
        "openentity": HeadConfig("entity_typing", 9),
        "figer": HeadConfig("entity_typing", 5),
        "tacred": HeadConfig("relation", 42),
        "cosmosqa": HeadConfig("multiple_choice", 4),
        "fac_pretrain": HeadConfig("relation", 7),
        "lin_pretrain": HeadConfig("dependency", 12),
    }.get(kind)
    names = {"fac_pretrain": ("fac",), "lin_pretrain": ("lin",)}.get(kind, ("fac", "lin"))
    mode = "nested_concat" if kind == "cosmosqa" else "concat"
    with torch.device("meta"):
        config = golden_config(names, fusion_mode=mode, head=head)
        model = KAdapterModel(config) if head is None else TaskModel(config)
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    keys = golden_json("state_dict_keys")
    expected = {**keys["backbone"], **keys[kind]}
    assert {
        original.original_name(name, pretraining="pretrain" in kind): shape for name, shape in shapes.items()
    } == expected


@pytest.mark.parametrize("fusion_mode", ["nested_concat", "nested_add"])
def test_a_cosmosqa_model_goes_there_and_back_bit_for_bit(tmp_path, tiny_backbone_config, fusion_mode):
    model = build(tiny_backbone_config, fusion_mode=fusion_mode, head=HeadConfig("multiple_choice", 4))
    model.save_pretrained(tmp_path / "ours")
    theirs = convert("original", tmp_path / "ours", tmp_path / "theirs")
    back = TaskModel.from_pretrained(convert("kadapter", theirs, tmp_path / "back", *FLAGS))
    assert back.config.fusion_mode == fusion_mode
    assert_same(weights(back), weights(model))


# -- refusals ---------------------------------------------------------------------------------------------------


def refused(tmp_path, to, source, message, *flags):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((ValueError, OSError), match=f"{message}") as caught:
        convert(to, source, tmp_path / "out", *flags)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before  # nothing is written


def test_what_cannot_become_ours_is_refused_before_anything_is_written(tmp_path, tiny_backbone_config):
    source = tmp_path / "in"
    source.mkdir()
    path = source / "pytorch_model.bin"

    def refuse(state, message, *flags):
        torch.save(state, path)
        refused(tmp_path, "kadapter", source, message, *flags)

    refused(tmp_path, "kadapter", tmp_path / "gone", "is not there; give a file or folder")
    path.write_bytes(b"text")
    refused(tmp_path, "kadapter", source, "pytorch_model.bin (cannot be read|is refused)")
    refuse({"encoder.x": torch.ones(1)}, "holds neither an adapter of K-Adapter nor a model")
    refuse(released(), "adapter_list .* names 2; name 3 hidden states", "--adapter_list", "0,1")
    refuse(released(), "--adapter_list is '0;1'; write numbers", "--adapter_list", "0;1")
    refuse(released(), "not divisible by num_attention_heads 3", "--adapter_attention_heads", "3")
    refuse(released(), "adapter_skip_layers is 1", "--adapter_skip_layers", "1")
    refuse(released() | {"extra.weight": torch.ones(1)}, "1 unexpected: extra.weight")
    state = released()
    del state["adapter.2.up_project.bias"]
    refuse(state, "1 missing: adapter.2.up_project.bias")
    refuse({"model.x": torch.ones(1)}, "config.json is missing; copy the config.json of the backbone")
    (source / "config.json").write_text(json.dumps(BertConfig().to_dict()))
    refuse({"model.x": torch.ones(1)}, "is not the configuration of a RoBERTa")
    tiny_backbone_config.save_pretrained(source)
    refuse({"model.x": torch.ones(1)}, "missing: model.embeddings")
    refuse({"model.x": torch.ones(1), "et_adapter.adapter.0.x": torch.ones(1)}, r"holds adapters \['et'\]")


def test_what_the_original_does_not_know_is_refused_before_anything_is_written(tmp_path, tiny_backbone_config):
    bert = BertConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40)
    cases = {
        "bert": (KAdapterModel(KAdapterConfig(backbone_config=bert)), "has a bert as its backbone"),
        "bio": (build(tiny_backbone_config, ("fac", "bio")), r"has adapters \['bio'\]"),
        "order": (build(tiny_backbone_config, ("lin", "fac")), "fuses lin before fac"),
        "tree": (build(tiny_backbone_config, head=HeadConfig("dependency", 12)), "dependency head on 2 adapters"),
        "nested": (
            build(tiny_backbone_config, head=HeadConfig("multiple_choice", 4)),
            "nests fusion for CosmosQA alone",
        ),
        "gate": (build(tiny_backbone_config, fusion_mode="gate"), "fusion_mode gate; the original has concat and add"),
        "attention": (build(tiny_backbone_config, ("fac",), "attention"), "has fusion_mode attention"),
        "plain": (RobertaModel(tiny_backbone_config), "is a roberta, not a model of kadapter"),
    }
    for name, (model, _) in cases.items():
        model.save_pretrained(tmp_path / name)
    for name, (_, message) in cases.items():
        refused(tmp_path, "original", tmp_path / name, message)
    (tmp_path / "empty").mkdir()
    refused(tmp_path, "original", tmp_path / "empty", r"has neither adapter_config\.json nor config\.json")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "released").mkdir()
    torch.save(released(), tmp_path / "released" / "pytorch_model.bin")
    with pytest.raises((ValueError, OSError), match="--output .* is there already; give a new folder"):
        convert("kadapter", tmp_path / "released", tmp_path / "released", *FLAGS)
    assert os.listdir(tmp_path / "released") == ["pytorch_model.bin"]


# -- the example ------------------------------------------------------------------------------------------------


def test_the_example_loads_infers_saves_and_loads_again(tmp_path, tiny_backbone, capsys):
    (tmp_path / "fac-adapter").mkdir()
    torch.save(released(), tmp_path / "fac-adapter" / "pytorch_model.bin")
    flags = [
        "--model_name_or_path",
        str(tiny_backbone),
        "--output_dir",
        str(tmp_path / "out"),
        "--no_cuda",
        "--meta_fac_adaptermodel",
        str(tmp_path / "fac-adapter" / "pytorch_model.bin"),
        "--meta_lin_adaptermodel=",
        "--adapter_list",
        "0,1,3",
        "--adapter_size",
        "16",
        "--adapter_attention_heads",
        "2",
        "--adapter_transformer_layers",
        "1",
        "--freeze_bert",
        "--freeze_adapter",
        "True",
        "--adapter_skip_layers",
        "2",
        "--fusion_mode",
        "add",
    ]
    result = EXAMPLE.main(flags)
    shown = capsys.readouterr().out
    assert "adapters: ['fac']; parameters: " in shown
    assert "trained: 0" in shown
    assert f"last_hidden_state: [1, {result.shape[1]}, 32]" in shown
    assert "loaded again: the features are equal" in shown
    model = RobertawithAdapter.from_pretrained(tmp_path / "out")
    assert model.config.fusion_mode == "add"
    assert model.config.adapter_config("fac") == replace(TINY_ADAPTER, adapter_list=(0, 1, 3), adapter_skip_layers=2)


def test_the_example_names_the_mend_where_the_adapter_is_missing(tmp_path, tiny_backbone):
    with pytest.raises(FileNotFoundError, match="leave the option empty"):
        EXAMPLE.main(
            [
                "--model_name_or_path",
                str(tiny_backbone),
                "--no_cuda",
                "--adapter_list=",
                "--output_dir",
                str(tmp_path / "out"),
                "--meta_fac_adaptermodel",
                "./gone/pytorch_model.bin",
            ]
        )
    assert not (tmp_path / "out").exists()


def test_the_examples_run_script_keeps_the_originals_values_and_lets_further_flags_win():
    text = (ROOT / "run_example.sh").read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert text.rstrip().endswith('"$@"')
    for value in (
        '--freeze_bert=""',
        '--freeze_adapter="True"',
        "--adapter_size 768",
        "--adapter_skip_layers 0",
        '--meta_lin_adaptermodel=""',
        '--meta_fac_adaptermodel="$ROOT/pretrained_models/fac-adapter/pytorch_model.bin"',
    ):
        assert value in text
    assert "--adapter_list" not in text  # the example's own, which follow the depth of another backbone


@pytest.mark.parametrize(
    ("flags", "taps"),
    [
        ((), (0, 11, 23)),  # the original's
        (("--model_name_or_path", "FacebookAI/roberta-large"), (0, 11, 23)),
        (("--model_name_or_path", "bert-base-uncased"), None),
        (("--model_name_or_path", "bert-base-uncased", "--adapter_list", "0,11,23"), (0, 11, 23)),
        (("--adapter_list", "1,2"), (1, 2)),
        (("--adapter_list=",), None),
    ],
)
def test_the_examples_own_taps_are_those_of_its_own_backbone(flags, taps, caplog):
    args, _ = parse("", [TaskArguments, EXAMPLE.ExampleArguments], [*flags], adapter_list="0,11,23")
    assert args.adapter_config().adapter_list == taps
    assert ("follow the depth of bert-base-uncased" in caplog.text) == (taps is None and len(flags) == 2)
