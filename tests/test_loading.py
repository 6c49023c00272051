"""Loading and saving: strict by every way, over other files, with settings in place, new heads, other vocabularies."""

import json
import os
import shutil

import pytest
import torch
from conftest import TINY_ADAPTER, fast, load_script, slow
from safetensors.torch import load_file, save_file
from tiny import MASK, SIZES, TEXT, assert_same, build, features, weights
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    RobertaConfig,
    RobertaModel,
)

from kadapter import (
    AdapterConfig,
    BottleneckConfig,
    HeadConfig,
    KAdapterConfig,
    KAdapterModel,
    RobertawithAdapter,
    TaskModel,
)
from kadapter.models.language_model import start_from_backbone
from kadapter.storage.checkpoint import save_adapter
from kadapter.storage.pretrained import read_config, read_tokenizer
from kadapter.storage.reading import read_json

BACKBONE = RobertaConfig(**SIZES, hidden_dropout_prob=0.1)
CLASSES = HeadConfig("classification", 3, labels=("a", "b", "c"))
HEADS = {
    "relation": HeadConfig("relation", 5),
    "dependency": HeadConfig("dependency", 7),
    "entity_typing": HeadConfig("entity_typing", 4),
    "multiple_choice": HeadConfig("multiple_choice", 1),
    "classification": CLASSES,
    "masked_lm": HeadConfig("masked_lm", 60),
    "multi_label": HeadConfig("multi_label", 4),
    "tagging": HeadConfig("tagging", 5),
    "span": HeadConfig("span", 2),
    "openqa": HeadConfig("openqa", 2),
}
POSITIONS = {"relation": torch.tensor([[1, 2], [0, 1]]), "openqa": torch.tensor([[0, 1, 3], [0, 1, 2]])}
ENCODERS = (KAdapterModel, RobertawithAdapter, AutoModel)
HEADED = (TaskModel, AutoModelForSequenceClassification)


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """Folders of an encoder, of a task model, of a plain backbone with a pooler and of one without."""
    folder = tmp_path_factory.mktemp("models")
    build(RobertaConfig(**SIZES)).save_pretrained(folder / "encoder")
    build(RobertaConfig(**SIZES), head=CLASSES).save_pretrained(folder / "task")
    torch.manual_seed(5)
    RobertaModel(RobertaConfig(**SIZES)).save_pretrained(folder / "plain")
    RobertaModel(RobertaConfig(**SIZES), add_pooling_layer=False).save_pretrained(folder / "poolerless")
    return folder


@pytest.fixture
def saved(originals, tmp_path):
    return shutil.copytree(originals, tmp_path / "saved")


def save_as(state, folder, form):
    """Write weights in that form, and no others."""
    for path in folder.glob("model*"):
        path.unlink()
    if form == "whole":
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    elif form == "bin":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        names, suffix = sorted(state), "bin" if form == "bin shards" else "safetensors"
        stem = "pytorch_model" if suffix == "bin" else "model"
        files = {f"{stem}-0000{i + 1}-of-00003.{suffix}": names[i::3] for i in range(3)}
        for file, part in files.items():
            tensors = {name: state[name] for name in part}
            torch.save(tensors, folder / file) if suffix == "bin" else save_file(tensors, folder / file)
        index = {"metadata": {}, "weight_map": {name: file for file, part in files.items() for name in part}}
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))


# -- strict -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loader", "form"),
    [*((loader, "whole") for loader in (*ENCODERS, *HEADED))]
    + [(TaskModel, form) for form in ("shards", "bin", "bin shards")]
    + [slow(AutoModel, form) for form in ("shards", "bin", "bin shards")],
)
def test_each_way_of_loading_is_strict_whatever_the_files(saved, loader, form):
    folder = saved / ("task" if loader in HEADED else "encoder")
    state = load_file(folder / "model.safetensors")
    save_as(state, folder, form)
    assert_same(weights(loader.from_pretrained(folder)), state)
    name = next(name for name in state if name.endswith("adapters.lin.adapter.1.up_project.bias"))
    for changed, message in (
        (
            {key: value for key, value in state.items() if key != name},
            r"lacks weights of a \w+: .*lin\.adapter\.1\.up_",
        ),
        ({**state, f"{name}.more": torch.ones(1)}, r"does not tell of: .*up_project\.bias\.more"),
        (
            {**state, name: torch.ones(9)},
            r"config\.json does not describe its weights: .*bias .\[32\] instead of \[9\]",
        ),
    ):
        save_as(changed, folder, form)
        with pytest.raises(ValueError, match=message) as caught:
            loader.from_pretrained(folder)
        assert str(folder) in str(caught.value)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n"
PAGE = b"<!DOCTYPE html>\n<html></html>"
HEADERS = {
    "longer than the file": b"\xff" * 64,
    "no JSON": b"\x08" + b"\0" * 7 + b"not JSON",
    "of tensors behind the end": (60).to_bytes(8, "little")
    + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}     ',
}


@pytest.mark.parametrize(
    ("loader", "form", "content"),
    [
        *((TaskModel, form, POINTER) for form in ("whole", "shards", "bin", "bin shards", "index", "config")),
        *((TaskModel, form, PAGE) for form in ("whole", "shards", "bin", "bin shards", "index", "config")),
        *((TaskModel, form, header) for form in ("whole", "shards") for header in HEADERS.values()),
        *((loader, form, POINTER) for loader in (RobertawithAdapter, *HEADED[1:]) for form in ("whole", "config")),
    ],
)
def test_a_file_of_another_kind_in_the_place_of_one_is_named(saved, loader, form, content):
    folder = saved / ("task" if loader in HEADED else "encoder")
    save_as(load_file(folder / "model.safetensors"), folder, {"index": "shards", "config": "whole"}.get(form, form))
    patterns = {"index": "*index.json", "config": "config.json", "shards": "*-00002-*", "bin shards": "*-00002-*"}
    path = next(folder.glob(patterns.get(form, "*model.*")))
    path.write_bytes(content)
    with pytest.raises((ValueError, OSError)) as caught:
        loader.from_pretrained(folder)
    assert str(path) in str(caught.value)


def test_a_symbolic_link_to_nothing_is_named_wherever_files_are_read(saved, tokenizer):
    def broken(path):
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to("gone")
        return path

    tokenizer.save_pretrained(saved / "encoder")
    KAdapterModel.from_pretrained(saved / "encoder").save_adapter(saved / "adapter", "fac")
    backbone = KAdapterModel.from_pretrained(saved / "plain")
    TaskModel.from_encoder(backbone, CLASSES).save_task(saved / "part")
    state = load_file(saved / "task" / "model.safetensors")
    calls = {
        broken(saved / "encoder" / "tokenizer.json"): lambda: read_tokenizer(saved / "encoder"),
        broken(saved / "plain" / "config.json"): lambda: read_config(saved / "plain"),
        broken(saved / "poolerless" / "model.safetensors"): lambda: KAdapterModel.from_pretrained(saved / "poolerless"),
        broken(saved / "adapter" / "adapter_model.safetensors"): lambda: backbone.load_adapter(
            saved / "adapter", "fac"
        ),
        broken(saved / "other" / "adapter_config.json"): lambda: backbone.load_adapter(saved / "other", "fac"),
        broken(saved / "theirs" / "pytorch_model.bin"): lambda: backbone.load_adapter(saved / "theirs", "fac"),
        broken(saved / "part" / "task_config.json"): lambda: TaskModel.load_task(saved / "part", backbone),
        broken(saved / "folder"): lambda: TaskModel.from_pretrained(saved / "folder"),
        broken(saved / "labels.json"): lambda: read_json(saved / "labels.json"),
    }
    save_as(state, saved / "task", "shards")
    broken(saved / "task" / "model-00002-of-00003.safetensors")
    calls[saved / "task" / "model-00002-of-00003.safetensors"] = lambda: TaskModel.from_pretrained(saved / "task")
    for path, call in calls.items():
        with pytest.raises(FileNotFoundError, match=rf"^{path} is a symbolic link to gone, which is not there; bring"):
            call()


def test_a_link_to_nothing_does_not_let_older_weights_load_in_its_place(saved):
    torch.save(load_file(saved / "encoder" / "model.safetensors"), saved / "encoder" / "pytorch_model.bin")
    (saved / "encoder" / "model.safetensors").unlink()
    (saved / "encoder" / "model.safetensors").symlink_to("gone")
    with pytest.raises(FileNotFoundError, match="model.safetensors is a symbolic link to gone"):
        KAdapterModel.from_pretrained(saved / "encoder")


# -- saving over another save -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "size"),
    [
        *(("whole", "40KB"), ("shards", "50GB"), ("bin", "50GB"), ("bin shards", "40KB")),
        *(("many shards", "40KB"), ("many shards", "50GB")),
    ],
)
def test_what_an_earlier_save_left_is_gone(saved, before, size):
    folder = saved / "encoder"
    old = KAdapterModel.from_pretrained(folder)
    if before == "many shards":
        old.save_pretrained(folder, max_shard_size="20KB")
    else:
        save_as(weights(old), folder, before)
    (folder / "model.fp16.safetensors").write_bytes(b"another variant")
    (folder / "notes.bin").write_bytes(b"not ours")
    new = build(RobertaConfig(**SIZES), seed=9)
    new.save_pretrained(folder, max_shard_size=size)
    assert_same(weights(KAdapterModel.from_pretrained(folder)), weights(new))
    found = {path.name for path in folder.glob("*model*")} - {"model.fp16.safetensors"}
    written = saved / "elsewhere"
    new.save_pretrained(written, max_shard_size=size)
    assert found == {path.name for path in written.glob("*model*")}
    assert (folder / "model.fp16.safetensors").exists()
    assert (folder / "notes.bin").exists()


def test_a_variant_replaces_its_own_files_alone(saved):
    folder, model = saved / "encoder", build(RobertaConfig(**SIZES), seed=9)
    before = (folder / "model.safetensors").read_bytes()
    for size in ("40KB", "50GB"):
        model.save_pretrained(folder, variant="fp16", max_shard_size=size)
    assert sorted(path.name for path in folder.glob("model*")) == ["model.fp16.safetensors", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == before
    assert_same(weights(KAdapterModel.from_pretrained(folder, variant="fp16")), weights(model))


def test_an_adapter_saved_over_a_pretrained_one_has_not_its_head(tmp_path):
    state = weights(build(RobertaConfig(**SIZES)).adapters["fac"])
    save_adapter(state, TINY_ADAPTER, tmp_path, head={"out_proj.bias": torch.ones(3)})
    save_adapter(state, TINY_ADAPTER, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["adapter_config.json", "adapter_model.safetensors"]


def test_a_converted_checkpoint_leaves_no_weights_of_an_earlier_one(tmp_path):
    convert = load_script("scripts/convert_checkpoint.py")
    state = {"a": torch.ones(2)}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.safetensors").write_bytes(b"earlier")
    convert._write(tmp_path / "out", dict.fromkeys(("pytorch_model.bin", "pytorch_pretrained_model.bin"), state))
    assert sorted(os.listdir(tmp_path / "out")) == ["pytorch_model.bin", "pytorch_pretrained_model.bin"]
    convert._write(tmp_path / "out", {"pytorch_model.bin": state})
    assert os.listdir(tmp_path / "out") == ["pytorch_model.bin"]


# -- heads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", fast(("relation", "classification", "masked_lm"), HEADS))
def test_a_saved_encoder_gets_a_fresh_head_and_is_saved_with_it(saved, kind):
    encoder = KAdapterModel.from_pretrained(saved / "encoder")
    for head in (HEADS[kind], HEADS[kind].to_dict()):
        model = TaskModel.from_pretrained(saved / "encoder", head=head)
        assert_same(weights(model.encoder), weights(encoder))
        assert model.config.head_config() == HEADS[kind]
        assert not model.training
    json.loads(model.config.to_json_string())
    json.dumps(model.config.to_dict())
    model.save_pretrained(saved / "new")
    for options in ({}, {"head": HEADS[kind]}):
        assert_same(weights(TaskModel.from_pretrained(saved / "new", **options)), weights(model))


def test_a_plain_encoder_gets_adapters_bottlenecks_and_a_head_at_once(saved):
    KAdapterModel.from_pretrained(saved / "encoder").save_adapter(saved / "fac", "fac")
    options = {
        "adapters": {"fac": saved / "fac", "own": AdapterConfig(adapter_size=8)},
        "fusion_mode": "add",
        "bottlenecks": {"default": BottleneckConfig(4)},
    }
    model = TaskModel.from_pretrained(saved / "plain", head=HEADS["relation"], **options)
    encoder = KAdapterModel.from_pretrained(saved / "plain", **options)
    of_files = {
        name: value for name, value in weights(encoder).items() if ".own." not in name and "project" not in name
    }
    assert_same({name: weights(model.encoder)[name] for name in of_files}, of_files)
    assert_same(weights(model.encoder.adapters["fac"]), weights(encoder.adapters["fac"]))
    assert model.config.fusion_mode == "add"
    assert model.config.bottlenecks["default"]["size"] == 4
    assert list(model.config.adapters) == ["fac", "own"]
    model.save_pretrained(saved / "new")
    assert_same(weights(TaskModel.from_pretrained(saved / "new")), weights(model))


def test_a_saved_task_model_gets_further_adapters(saved):
    model = TaskModel.from_pretrained(saved / "task", adapters={"bio": AdapterConfig(adapter_size=8)})
    assert list(model.config.adapters) == ["fac", "lin", "bio"]
    assert_same(weights(model.head), weights(TaskModel.from_pretrained(saved / "task").head))


def test_another_head_than_the_saved_one_is_refused(saved):
    for head in (HEADS["relation"], HeadConfig("classification", 3)):
        with pytest.raises(
            ValueError, match=r"task was saved with HeadConfig\(kind='classification'.*leave head out, or"
        ):
            TaskModel.from_pretrained(saved / "task", head=head)
    with pytest.raises(ValueError, match="was saved with fusion_mode 'concat', not 'add'"):
        TaskModel.from_pretrained(saved / "task", fusion_mode="add")


@pytest.mark.parametrize(("kind", "family"), [("encoder", "kadapter"), ("plain", "roberta")])
def test_an_encoder_without_a_head_asks_for_one(saved, kind, family):
    with pytest.raises(ValueError, match=rf"{kind} is a {family} without a head; give head=HeadConfig"):
        TaskModel.from_pretrained(saved / kind)


@pytest.mark.parametrize("way", ["at once", "saved between"])
@pytest.mark.parametrize("kind", ["plain", "poolerless"])
def test_a_pretrained_pooler_is_the_heads_dense_layer_and_a_fresh_one_is_not(saved, kind, way):
    folder = saved / kind
    if way == "saved between":
        KAdapterModel.from_pretrained(folder).save_pretrained(saved / "between")
        folder = saved / "between"
    model = TaskModel.from_pretrained(folder, head=CLASSES)
    same = torch.equal(model.head.dense.weight, model.encoder.backbone.pooler.dense.weight)
    assert same == (kind == "plain")
    assert model.head.dense.weight.requires_grad


def test_a_configuration_keeps_its_form_however_a_head_is_given():
    config = KAdapterConfig(backbone_config=BACKBONE, head=CLASSES)
    config.head = HEADS["relation"]
    assert config.to_dict()["head"] == HEADS["relation"].to_dict()
    json.loads(config.to_json_string())
    read = KAdapterConfig.from_dict(config.to_dict(), head=CLASSES)
    assert json.loads(read.to_json_string(use_diff=False))["head"]["kind"] == "classification"
    assert read.id2label == {0: "a", 1: "b", 2: "c"}


def test_a_masked_language_model_on_a_saved_encoder_starts_fresh(saved, caplog):
    model = TaskModel.from_pretrained(saved / "encoder", head=HEADS["masked_lm"])
    start_from_backbone(model, saved / "encoder")
    assert "has no masked-language-model head of BERT's form: it starts fresh" in caplog.text


# -- two heads on one encoder -----------------------------------------------------------------------------------


def test_configurations_stay_right_with_several_heads_on_one_encoder(saved):
    encoder = KAdapterModel.from_pretrained(saved / "encoder")
    first = TaskModel.from_encoder(encoder, CLASSES)
    second = TaskModel.from_encoder(encoder, HEADS["relation"])
    first.encoder.add_adapter("bio", AdapterConfig(adapter_size=8))
    second.encoder.delete_adapter("lin")
    encoder.add_bottlenecks("default", BottleneckConfig(4))
    for model in (encoder, first, second):
        assert list(model.config.adapters) == model.config.adapter_names == ["fac", "bio"]
        assert model.config.bottlenecks["default"]["size"] == 4
    assert encoder.config.head is None
    assert first.config.head_config() == CLASSES
    assert first.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert second.config.head_config() == HEADS["relation"]
    assert second.config.num_labels == 5
    for model, loader in ((encoder, KAdapterModel), (first, TaskModel), (second, TaskModel)):
        model.save_pretrained(saved / "new")
        assert_same(weights(loader.from_pretrained(saved / "new")), weights(model))


def test_the_encoder_of_a_task_model_is_saved_as_an_encoder(saved):
    TaskModel.from_pretrained(saved / "task").encoder.save_pretrained(saved / "new")
    assert json.loads((saved / "new" / "config.json").read_text())["head"] is None
    assert TaskModel.from_pretrained(saved / "new", head=HEADS["relation"]).config.num_labels == 5
    assert KAdapterModel.from_pretrained(saved / "task").config.head is None


def test_a_pooler_is_as_trainable_under_the_second_head_as_under_the_first(saved):
    encoder = KAdapterModel.from_pretrained(saved / "plain")
    heads = [TaskModel.from_encoder(encoder, CLASSES).head for _ in range(2)]
    assert all(head.dense.weight.requires_grad for head in heads)
    frozen = KAdapterModel.from_pretrained(saved / "plain")
    frozen.freeze("backbone")
    heads = [TaskModel.from_encoder(frozen, CLASSES).head for _ in range(2)]
    assert not any(head.dense.weight.requires_grad for head in heads)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_one_call_sets_the_attention_of_the_whole_task_model(saved, attention):
    model = TaskModel.from_pretrained(saved / "task", attn_implementation=attention)
    other = "eager" if attention == "sdpa" else "sdpa"
    for expected in (attention, other):
        model.set_attn_implementation(expected)
        for config in (model.config, model.encoder.config, model.encoder.backbone.config):
            assert config._attn_implementation == expected
        assert model.encoder.adapters["fac"].transformer_config._attn_implementation == expected


# -- settings in place ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loader", "kind"),
    [*((loader, "encoder") for loader in ENCODERS), *((loader, "task") for loader in HEADED), (KAdapterModel, "plain")],
)
def test_settings_are_changed_while_loading_as_in_transformers(saved, loader, kind):
    options = {"hidden_dropout_prob": 0.0, "output_hidden_states": True, "dtype": torch.float64}
    model = loader.from_pretrained(saved / kind, attn_implementation="eager", output_attentions=True, **options)
    encoder = getattr(model, "encoder", model)
    assert model.config.backbone_config.hidden_dropout_prob == 0
    assert encoder.backbone.encoder.layer[0].output.dropout.p == 0
    output = encoder(TEXT, attention_mask=MASK)
    assert len(output.hidden_states) == 3
    assert len(output.attentions) == 2
    assert encoder.backbone.dtype == torch.float64
    assert model.config.backbone_config._attn_implementation == "eager"
    plain = loader.from_pretrained(saved / kind)
    assert plain.config.backbone_config.hidden_dropout_prob == 0.1
    assert getattr(plain, "encoder", plain)(TEXT).hidden_states is None


def test_a_new_head_takes_the_settings_too(saved):
    model = TaskModel.from_pretrained(
        saved / "encoder", head=HEADS["relation"], hidden_dropout_prob=0.0, output_hidden_states=True
    )
    assert model.head.dropout.p == 0
    assert model.config.output_hidden_states
    assert model.encoder.config.output_hidden_states


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("hidden_droput_prob", "did you mean hidden_dropout_prob"),
        ("fusion_mod", "did you mean fusion_mode"),
        ("output_hiden_states", "did you mean output_hidden_states"),
        ("cache_dri", "did you mean cache_dir"),
        ("zzzz", "leave it out"),
    ],
)
def test_an_unknown_argument_is_refused_with_the_nearest_names(saved, name, near):
    message = rf"^'{name}' is no argument of from_pretrained and no setting .*; {near}"
    for loader, kind in ((KAdapterModel, "plain"), (AutoModel, "encoder"), (TaskModel, "task")):
        with pytest.raises(TypeError, match=message):
            loader.from_pretrained(saved / kind, **{name: 0.0})


def test_what_contradicts_the_saved_weights_is_refused(saved):
    with pytest.raises(ValueError, match="does not describe its weights: .*word_embeddings"):
        KAdapterModel.from_pretrained(saved / "encoder", vocab_size=99)
    for options in ({"num_labels": 9}, {"id2label": {0: "a", 1: "b", 2: "d"}}, {"label2id": {"a": 0}}):
        with pytest.raises(ValueError, match=rf"{next(iter(options))} is .*, but the saved head has"):
            AutoModelForSequenceClassification.from_pretrained(saved / "task", **options)
    labels = {"num_labels": 3, "id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
    assert AutoModelForSequenceClassification.from_pretrained(saved / "task", **labels).config.num_labels == 3


def test_parts_reach_the_model_through_the_auto_classes(saved):
    adapters = {"bio": AdapterConfig(adapter_size=8)}
    assert list(AutoModel.from_pretrained(saved / "encoder", adapters=adapters).adapters) == ["fac", "lin", "bio"]
    model = AutoModelForSequenceClassification.from_pretrained(saved / "encoder", head=CLASSES, adapters=adapters)
    assert list(model.config.adapters) == ["fac", "lin", "bio"]
    assert model.config.head_config() == CLASSES
    with pytest.raises(ValueError, match="was saved with fusion_mode 'concat', not 'gate'"):
        AutoModel.from_pretrained(saved / "encoder", fusion_mode="gate")


@pytest.mark.parametrize(
    ("kind", "options", "missing"),
    [
        ("encoder", {}, set()),
        ("plain", {}, set()),
        ("poolerless", {}, {"backbone.pooler.dense.weight", "backbone.pooler.dense.bias"}),
        ("plain", {"adapters": {"x": AdapterConfig(adapter_size=8)}, "fusion_mode": "add"}, {"adapters.x."}),
        ("plain", {"bottlenecks": {"default": BottleneckConfig(4)}}, {".bottlenecks.", ".norms."}),
    ],
)
def test_the_loading_tells_which_weights_are_fresh(saved, kind, options, missing):
    model, info = KAdapterModel.from_pretrained(saved / kind, output_loading_info=True, **options)
    expected = {name for name in model.state_dict() if any(part in name for part in missing)}
    assert {*info["missing_keys"]} == expected
    assert not info["unexpected_keys"]
    under, info = TaskModel.from_pretrained(saved / kind, head=CLASSES, output_loading_info=True, **options)
    head = {f"head.{name}" for name in under.head.state_dict() if kind != "plain" or not name.startswith("dense")}
    assert {*info["missing_keys"]} == head | {f"encoder.{name}" for name in expected}
    assert {*AutoModel.from_pretrained(saved / "encoder", output_loading_info=True)[1]["missing_keys"]} == set()


# -- vocabulary -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "count", "multiple", "size"),
    [("masked_lm", 64, None, 64), ("masked_lm", 50, None, 50), (None, 50, None, 50), (None, None, 16, 64)]
    + fast([(kind, 61, 8, 64) for kind in (None, "masked_lm")], [(kind, 61, 8, 64) for kind in (None, *HEADS)]),
)
def test_a_vocabulary_of_another_size_is_saved_and_loaded(saved, kind, count, multiple, size):
    model = build(RobertaConfig(**SIZES), head=HEADS.get(kind))
    before = model.get_input_embeddings().weight.clone()
    embeddings = model.resize_token_embeddings(count, pad_to_multiple_of=multiple)
    assert embeddings is model.get_input_embeddings()
    assert model.config.vocab_size == model.config.backbone_config.vocab_size == len(embeddings.weight) == size
    assert torch.equal(embeddings.weight[:50], before[:50])
    model.save_pretrained(saved / "new")
    loaded = type(model).from_pretrained(saved / "new")
    assert_same(weights(loaded), weights(model))
    assert loaded.config.vocab_size == size
    if kind == "masked_lm":
        assert loaded.config.head["num_labels"] == len(loaded.head.bias) == size
        assert loaded(TEXT, attention_mask=MASK, positions=torch.tensor([[1], [2]])).logits.shape == (2, 1, size)
    elif kind is None:
        assert features(loaded).shape == (2, 6, 32)


def test_new_tokens_have_the_mean_bias_and_the_old_ones_keep_theirs():
    model = build(RobertaConfig(**SIZES), head=HEADS["masked_lm"])
    bias = model.head.bias
    bias.data = torch.arange(60.0)
    bias.requires_grad_(False)
    model.resize_token_embeddings(62)
    assert model.head.bias is bias
    assert not bias.requires_grad
    assert bias.tolist() == [*range(60), 29.5, 29.5]
    model.resize_token_embeddings(63, mean_resizing=False)
    assert bias.tolist()[-2:] == [29.5, 0]


def test_the_size_of_the_vocabulary_is_set_in_the_backbones_configuration():
    config = KAdapterConfig(backbone_config=RobertaConfig(**SIZES))
    config.vocab_size = 77
    assert config.backbone_config.vocab_size == 77
    assert KAdapterConfig(vocab_size=78).to_dict()["backbone_config"]["vocab_size"] == 78
