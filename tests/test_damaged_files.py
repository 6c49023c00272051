"""Files that are cut off, changed, of another kind or contradict each other: refused in one sentence with the file."""

import json
import logging
import re
import shutil
import zipfile

import numpy as np
import pytest
import torch
from conftest import DEMO_BACKBONE, TINY_ADAPTER, load_script
from safetensors.torch import load_file, save_file
from tiny import SIZES, build, features, released
from transformers import AutoModel, RobertaConfig, RobertaForMaskedLM, RobertaModel

from kadapter import (
    AdapterConfig,
    BottleneckConfig,
    HeadConfig,
    KAdapterConfig,
    KAdapterModel,
    TaskModel,
    load_original,
)
from kadapter.data.encoding import Encoding
from kadapter.data.features import load_features
from kadapter.data.jsonio import read_records
from kadapter.data.labels import read_labels
from kadapter.models.language_model import pretrained_head
from kadapter.storage import checkpoint, pretrained
from kadapter.storage.reading import read_json, read_object, zip_members
from kadapter.storage.runs import read_arguments, read_metrics, read_results
from kadapter.tasks.entity_typing import OpenEntity

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n"
PAGE = b"<!DOCTYPE html>\n<html><body>Not Found</body></html>"
LOST = object()
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """A folder with an adapter, a model, a task model, its part alone, and a plain backbone; all of one backbone."""
    folder = tmp_path_factory.mktemp("saved")
    backbone = RobertaConfig(**SIZES)
    model = build(backbone)
    model.save_adapter(folder / "adapter", "fac")
    model.save_pretrained(folder / "model")
    build(backbone, head=HeadConfig("relation", 7)).save_pretrained(folder / "task")
    RobertaModel(backbone).save_pretrained(folder / "plain")
    plain = KAdapterModel.from_pretrained(folder / "plain", bottlenecks={"default": BottleneckConfig(4)})
    TaskModel.from_encoder(plain, HeadConfig("relation", 7)).save_task(folder / "part")
    return folder


@pytest.fixture
def saved(originals, tmp_path):
    """A copy to damage."""
    return shutil.copytree(originals, tmp_path / "saved")


def load(folder, kind):
    """Load what is in `folder / kind`."""
    place = folder / kind
    if kind == "adapter":
        return KAdapterModel.from_pretrained(folder / "plain").load_adapter(place, "fac")
    if kind == "part":
        return TaskModel.load_task(place, KAdapterModel.from_pretrained(folder / "plain"))
    return (TaskModel if kind == "task" else KAdapterModel).from_pretrained(place)


WEIGHTS = {
    "adapter": "adapter_model.safetensors",
    "model": "model.safetensors",
    "task": "model.safetensors",
    "part": "task_model.safetensors",
    "plain": "model.safetensors",
}


def change(path, key, value):
    """Set or delete an entry of a JSON file; `key` is dotted."""
    values = inner = json.loads(path.read_text())
    *outer, last = key.split(".")
    for name in outer:
        inner = inner[name]
    if value is LOST:
        del inner[last]
    else:
        inner[last] = value
    path.write_text(json.dumps(values))


# -- not finite -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "value"), zip(WEIGHTS, (NAN, INF, -INF, NAN, INF), strict=True))
def test_weights_that_are_not_finite_are_refused_wherever_they_are_read(saved, kind, value):
    path = saved / kind / WEIGHTS[kind]
    state = load_file(path)
    names = [name for name in state if name.endswith("bias")][:5]
    for name in names:
        state[name][:2] = value
    save_file(state, path, metadata={"format": "pt"})
    count, rest = 2 * len(names), len(names) - 3
    message = rf"{WEIGHTS[kind]} holds {count} values that are NaN or infinite, in .* and {rest} more tensors; fetch"
    with pytest.raises(ValueError, match=message) as caught:
        load(saved, kind)
    assert str(saved / kind) in str(caught.value)


def test_the_originals_weights_are_looked_at_too(tmp_path, tiny_model):
    state = released()
    state["out_proj.bias"][0] = NAN
    torch.save(state, tmp_path / "pytorch_model.bin")
    for read in (lambda: tiny_model.load_adapter(tmp_path, "bio"), lambda: load_original(tiny_model, tmp_path)):
        with pytest.raises(ValueError, match=r"pytorch_model\.bin holds 1 values .* in out_proj\.bias; fetch"):
            read()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.int64])
def test_finite_weights_whose_sum_is_not_are_taken(dtype):
    checkpoint.check_finite({"x": torch.full((3000,), 448).to(dtype), "empty": torch.ones(0)}, "it")


def test_a_backbones_own_head_is_looked_at_too(tmp_path, tiny_backbone_config):
    model = RobertaForMaskedLM(tiny_backbone_config)
    with torch.no_grad():
        model.lm_head.bias[3] = INF
    model.save_pretrained(tmp_path / "masked")
    with pytest.raises(ValueError, match=r"masked.* holds 1 values that are NaN or infinite, in lm_head\.bias"):
        pretrained_head(tmp_path / "masked")


# -- weights that cannot be read --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is truncated or no checkpoint"),
        (b"half", "it is truncated or no checkpoint"),
        (POINTER, "a Git LFS pointer instead of the file .run git lfs pull."),
        (PAGE, "an HTML page instead of the file .download the file itself"),
    ],
)
@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_are_none_are_refused_with_what_they_are(saved, kind, content, message):
    (saved / kind / WEIGHTS[kind]).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{kind}/{WEIGHTS[kind]} cannot be read.*{message}"):
        load(saved, kind)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.safetensors.index.json").write_text("{"), r"index\.json, line 1, .*broken"),
        (lambda folder: (folder / "model.safetensors.index.json").write_text("{}"), r"index\.json: .*weight_map"),
        (lambda folder: change(folder / "model.safetensors.index.json", "weight_map", [1]), "weight_map does not say"),
        (lambda folder: (folder / "model-00002-of-00006.safetensors").unlink(), "model-00002.* is missing, which"),
        (
            lambda folder: (folder / "model-00002-of-00006.safetensors").write_bytes(b"x"),
            "model-00002.* cannot be read",
        ),
    ],
)
def test_a_model_in_several_files_is_refused_with_the_one_that_is_damaged(saved, damage, message):
    model = KAdapterModel.from_pretrained(saved / "model")
    model.save_pretrained(saved / "shards", max_shard_size="30KB")
    assert len(list(saved.glob("shards/model-*"))) == 6
    assert torch.equal(features(KAdapterModel.from_pretrained(saved / "shards")), features(model))
    damage(saved / "shards")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        KAdapterModel.from_pretrained(saved / "shards")


@pytest.mark.parametrize("kind", ["model", "task"])
def test_a_saved_model_loads_strictly(saved, kind):
    path = saved / kind / "model.safetensors"
    state = load_file(path)
    name = next(name for name in state if name.endswith("adapters.fac.adapter.1.up_project.bias"))
    for lost in (name, name.replace("up_project.bias", "encoder.")):  # one tensor, and so many that not all are listed
        save_file({key: state[key] for key in state if not key.startswith(lost)}, path, metadata={"format": "pt"})
        with pytest.raises(ValueError, match=rf"{kind} lacks weights of a \w+: {re.escape(lost)}.*; give a complete"):
            load(saved, kind)
    save_file({**state, f"{name}.more": torch.ones(1)}, path, metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"holds weights that its config\.json does not tell of: .*up_project\.bias\.m"
    ):
        load(saved, kind)


def test_a_model_of_another_library_is_no_task_model(saved):
    with pytest.raises(ValueError, match="plain is a roberta without a head; give head=HeadConfig"):
        TaskModel.from_pretrained(saved / "plain")


# -- configurations ---------------------------------------------------------------------------------------------

WRONG = [
    ("adapter_size", "768", "give a whole number"),
    ("adapter_size", 12.5, "give a whole number"),
    ("adapter_size", True, "give a whole number"),
    ("adapter_size", None, "give a whole number"),
    ("adapter_size", -16, "must be 1 or more"),
    ("adapter_list", [0, 1.5], "each entry a whole number"),
    ("adapter_list", [0, True], "each entry a whole number"),
    ("adapter_list", "012", "each entry a whole number"),
    ("adapter_list", {"0": 1}, "each entry a whole number"),
    ("adapter_list", [0, 1, 99], r"taps hidden states \[99\]"),
    ("num_attention_heads", None, "num_attention_heads is null"),
    ("intermediate_size", None, "intermediate_size is null"),
    ("hidden_dropout_prob", NAN, "hidden_dropout_prob is nan; give a finite number"),
    ("layer_norm_eps", 0, "layer_norm_eps is 0"),
    ("layer_norm_eps", INF, "give a finite number"),
    ("hidden_act", "gleu", "hidden_act is 'gleu'"),
    ("attend_padding", "false", "give true or false"),
    ("causal", 1, "give true or false"),
    ("heads", 2, r"unknown keys \['heads'\]"),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG)
@pytest.mark.parametrize("kind", ["adapter", "model"])
def test_an_impossible_value_is_refused_with_file_key_and_value(saved, kind, key, value, message):
    name, place = ("adapter_config.json", "") if kind == "adapter" else ("config.json", "adapters.fac.")
    change(saved / kind / name, place + key, value)
    with pytest.raises(ValueError, match=message) as caught:
        load(saved, kind)
    assert str(saved / kind) in str(caught.value)


@pytest.mark.parametrize("key", TINY_ADAPTER.to_dict())
@pytest.mark.parametrize("kind", ["adapter", "model"])
def test_a_key_that_is_lost_is_an_error_and_no_default(saved, kind, key):
    name, place = ("adapter_config.json", "") if kind == "adapter" else ("config.json", "adapters.fac.")
    change(saved / kind / name, place + key, LOST)
    if key == "causal":  # came later: files of before it stand for False
        load(saved, kind)
        return
    with pytest.raises(ValueError, match=rf"{name}: .*lacks the keys \['{key}'\]"):
        load(saved, kind)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("adapters", LOST, r"the keys \['adapters'\] are missing"),
        ("fusion_mode", LOST, r"the keys \['fusion_mode'\] are missing"),
        ("head", LOST, r"the keys \['head'\] are missing"),
        ("backbone_config", LOST, r"the keys \['backbone_config'\] are missing"),
        ("backbone_config", None, "backbone_config is None"),
        ("backbone_config.num_attention_heads", 0, "ZeroDivisionError"),
        ("backbone_config.hidden_size", "32", "hidden_size"),
        ("adapter_names", LOST, "adapter_names is missing, the order"),
        ("adapter_names", ["fac", "lin", "lin"], "are not the names of the adapters"),
        ("adapter_names", 3, "are not the names of the adapters"),
        ("adapters", [], r"adapters is \[\]; give an object"),
        ("adapters.fac.adapter_list", None, "adapter_list is null"),
        ("fusion_mode", "add", "does not tell of"),
        ("fusion_mode", ["add"], "choose one of"),
        ("head.num_labels", "7", "give a whole number"),
        ("head.labels", LOST, r"lacks the keys \['labels'\]"),
        ("head.labels", list(range(7)), "give a list, each entry a text"),
        ("head.dropout", 1.5, r"must be in \[0, 1\)"),
        ("head", 7, "the head's configuration is 7; give an object"),
        (
            "bottlenecks",
            {"default": {"size": 4}},
            r"'default': .* lacks the keys \['initializer_range'",
        ),
        ("bottlenecks", [4], r"bottlenecks is \[4\]; give an object"),
        ("active_bottlenecks", "rte", "active_bottlenecks is 'rte', not among"),
        ("bottleneck", {"size": 4}, "saved before bottlenecks had names; load the task from its folder"),
    ],
)
def test_a_models_configuration_is_refused_with_its_folder(saved, key, value, message):
    change(saved / "task" / "config.json", key, value)
    with pytest.raises(ValueError, match=message) as caught:
        load(saved, "task")
    assert str(saved / "task") in str(caught.value)


def test_a_model_of_before_bottlenecks_still_loads(saved):
    for key in ("bottlenecks", "active_bottlenecks"):
        change(saved / "model" / "config.json", key, LOST)
    assert load(saved, "model").bottlenecks() == []
    change(saved / "model" / "config.json", "bottleneck", None)  # so it was written before they had names
    assert load(saved, "model").bottlenecks() == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("head", None, "the head's configuration is None"),
        ("head.num_labels", 7.0, "give a whole number"),
        ("head.kind", LOST, r"lacks the keys \['kind'\]"),
        ("bottleneck.size", "4", "give a whole number"),
        ("bottleneck.hidden_act", LOST, r"lacks the keys \['hidden_act'\]"),
        ("adapters", LOST, r"the keys \['adapters'\] are missing"),
        ("backbone", "bert", "a backbone of the family 'bert', not 'roberta'"),
        ("more", 1, r"unknown keys \['more'\]"),
    ],
)
def test_a_tasks_configuration_is_refused_with_its_file(saved, key, value, message):
    change(saved / "part" / "task_config.json", key, value)
    with pytest.raises(ValueError, match=rf"task_config\.json: .*{message}"):
        load(saved, "part")


@pytest.mark.parametrize("text", ["{", "[1]", "3", '{"a": "\\ud800"}', POINTER.decode(), PAGE.decode()])
@pytest.mark.parametrize(
    ("kind", "name"), [("adapter", "adapter_config"), ("model", "config"), ("part", "task_config"), ("plain", "config")]
)
def test_a_configuration_that_is_no_object_is_refused_with_its_file(saved, kind, name, text):
    (saved / kind / f"{name}.json").write_text(text)
    with pytest.raises(ValueError, match=rf"{kind}/{name}\.json"):
        load(saved, kind)


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("adapter", "adapter_size", 10**7),
        ("adapter", "adapter_transformer_layers", 10**6),
        ("adapter", "intermediate_size", 10**9),
        ("adapter", "adapter_list", [0] * 10**5),
        ("model", "adapters.fac.adapter_size", 10**7),
        ("model", "adapters.lin.adapter_transformer_layers", 10**6),
        ("model", "backbone_config.num_hidden_layers", 10**6),
        ("model", "backbone_config.vocab_size", 10**10),
        ("task", "head.num_labels", 10**10),
        ("part", "head.num_labels", 10**10),
        ("part", "bottleneck.size", 10**9),
        ("plain", "num_hidden_layers", 10**6),
        ("plain", "vocab_size", 10**10),
    ],
)
def test_sizes_beyond_those_of_the_weights_are_refused_before_anything_is_built(saved, kind, key, value):
    # Built, any of these would take more memory or time than a machine has.
    name = {"adapter": "adapter_config.json", "part": "task_config.json"}.get(kind, "config.json")
    change(saved / kind / name, key, value)
    with pytest.raises(
        ValueError, match=rf"{name}:? (does not describe|num_hidden_layers is 1000000, but the weights)"
    ):
        load(saved, kind)


def test_in_python_defaults_stay_and_numbers_of_numpy_are_numbers():
    config = AdapterConfig(adapter_list=np.arange(3), adapter_size=np.int64(16), hidden_dropout_prob=np.float32(0.5))
    assert config == AdapterConfig(adapter_list=(0, 1, 2), adapter_size=16, hidden_dropout_prob=0.5)
    assert json.dumps(config.to_dict())
    assert AdapterConfig.from_dict({}) == AdapterConfig()
    for values in ({"adapter_size": 16.0}, {"adapter_list": (0, "1")}, {"causal": "no"}):
        with pytest.raises(ValueError, match="; give "):
            AdapterConfig(**values)


def test_the_auto_classes_refuse_the_same(saved):
    change(saved / "model" / "config.json", "adapters.fac.adapter_size", LOST)
    for load_model in (AutoModel.from_pretrained, KAdapterConfig.from_pretrained):
        with pytest.raises(ValueError, match=r"lacks the keys \['adapter_size'\]"):
            load_model(saved / "model")


# -- tokenizers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff\x00", POINTER, PAGE, None])
def test_a_damaged_tokenizer_is_refused_with_its_file(tmp_path, content):
    shutil.copytree(DEMO_BACKBONE, tmp_path / "it")
    path = tmp_path / "it" / "tokenizer.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"it(/tokenizer\.json| has no vocabulary; put tokenizer\.json there|: cannot)"
    ):
        pretrained.read_tokenizer(tmp_path / "it")


# -- a run's files ----------------------------------------------------------------------------------------------


def test_a_runs_damaged_files_are_named_with_the_mend(tmp_path):
    for text in ("{", "[]", "{}", '{"arguments": 3}'):
        (tmp_path / "args.json").write_text(text)
        with pytest.raises(ValueError, match=r"args\.json.*overwrite_output_dir"):
            read_arguments(tmp_path)
    assert read_metrics(tmp_path) == {}
    for text in ("{", "[]", '{"a": '):
        (tmp_path / "metrics.json").write_text(text)
        with pytest.raises(ValueError, match=r"metrics\.json.*delete it and run the same command again"):
            read_metrics(tmp_path)


def test_of_the_results_only_a_torn_last_line_is_dropped(tmp_path):
    row = {"split": "dev", "global_step": 3, "epoch": 1.0, "metrics": {"f1": 0.5}}
    path = tmp_path / "results.jsonl"
    assert read_results(tmp_path) == []
    path.write_text(json.dumps(row) + "\n" + json.dumps(row)[:20])
    assert read_results(tmp_path) == [row]
    for bad in ("{broken}", json.dumps({**row, "metrics": 3}), "3"):
        path.write_text(f"{json.dumps(row)}\n{bad}\n{json.dumps(row)}\n")
        with pytest.raises(ValueError, match=r"results\.jsonl, line 2.*overwrite_output_dir"):
            read_results(tmp_path)


# -- data files -------------------------------------------------------------------------------------------------


def test_labels_that_cannot_be_read_are_named(tmp_path):
    path = tmp_path / "labels.json"
    for content in (b"{", b"\xff", POINTER, b"3", b'[["a"]]', b'{"a": [1]}'):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"labels\.json"):
            read_labels(path)


def test_a_damaged_archive_is_named(tmp_path):
    path = tmp_path / "it.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", json.dumps([{"text": "word " * 500}]))
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + bytes(20) + whole[60:])
    with pytest.raises(ValueError, match=r"a\.json cannot be unpacked .*fetch the archive again"):
        list(read_records(zipfile.Path(path, "a.json")))
    path.write_bytes(whole[:-60] + bytes(38) + whole[-22:])
    with pytest.raises(ValueError, match=r"it\.zip is not a complete zip archive .*fetch it again"):
        zip_members(path)


def test_json_that_is_a_pointer_or_a_page_is_called_so(tmp_path):
    path = tmp_path / "it.json"
    for content, message in ((POINTER, "Git LFS pointer"), (PAGE, "HTML page")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"it\.json is an? {message}"):
            read_json(path)
        with pytest.raises(ValueError, match=rf"it\.json is an? {message}"):
            list(read_records(path))
    path.write_text('{"a": 1}')
    with pytest.raises(ValueError, match=r"it\.json: the keys \['b'\] are missing; do it again\."):
        read_object(path, "do it again.", ["a", "b"])


@pytest.mark.parametrize("damage", ["truncate", "delete"])
@pytest.mark.parametrize("name", ["counts.json", "manifest.json", "state.json", "dataset_info.json", "*.arrow"])
def test_a_damaged_feature_store_is_made_anew_and_said_so(tmp_path, tokenizer, caplog, name, damage):
    (tmp_path / "train.jsonl").write_text('{"sent": "a b", "start": 0, "end": 1, "labels": ["x"]}\n' * 50)
    task, encoding = OpenEntity(labels=("x",)), Encoding(tokenizer, 8)
    before = load_features(task, tmp_path, "train", encoding, cache_dir=tmp_path / "cache")[:]
    (path,) = (tmp_path / "cache").glob(f"*/{name}")
    path.write_bytes(path.read_bytes()[:-5]) if damage == "truncate" else path.unlink()
    with caplog.at_level(logging.WARNING):
        assert load_features(task, tmp_path, "train", encoding, cache_dir=tmp_path / "cache")[:] == before
        assert load_features(task, tmp_path, "train", encoding, cache_dir=tmp_path / "cache")[:] == before
    (said,) = [record.getMessage() for record in caplog.records if "feature store" in record.getMessage()]
    assert path.name in said
    assert said.endswith("it is made anew.")


# -- scripts ----------------------------------------------------------------------------------------------------


def test_the_table_of_results_names_a_damaged_report(tmp_path):
    table = load_script("scripts/results_table.py")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "args.json").write_text('{"arguments": {"seed": 1}}')
    for text, message in (
        ("{", "broken JSON"),
        ('{"test": 3}', r"has no test \['f1'\]"),
        ('{"test": {"f1": "x"}}', "no"),
    ):
        (folder / "metrics.json").write_text(text)
        with pytest.raises(ValueError, match=rf"metrics\.json.*{message}"):
            table.collect([tmp_path], "test", ["f1"])
    (folder / "args.json").write_text('{"arguments": {}}')
    (folder / "metrics.json").write_text('{"test": {"f1": 0.5}}')
    with pytest.raises(ValueError, match=r"args\.json has no seed"):
        table.collect([tmp_path], "test", ["f1"])
