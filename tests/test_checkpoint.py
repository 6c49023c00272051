"""Weights on disk: what is refused, what the original wrote, and that saving is whole or not at all."""

import io
import json
import os
import signal
import stat

import numpy as np
import pytest
import torch
from conftest import TINY_ADAPTER
from safetensors.torch import save_file
from tiny import HIDDEN, adapter, assert_same, features, released, weights

from kadapter import AdapterConfig, KAdapterConfig, KAdapterModel, RobertawithAdapter, load_original
from kadapter.storage import checkpoint as ck
from kadapter.storage import original
from kadapter.storage.files import atomic_folder


class Malicious:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


# -- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, zipped):
    touched, path = tmp_path / "touched", tmp_path / "pytorch_model.bin"
    torch.save({"adapter.0.x": Malicious(touched)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin is refused: it is not a checkpoint of tensors alone"):
        ck.read_state_dict(path)
    assert not touched.exists()
    torch.load(path, weights_only=False)  # the trap works
    assert touched.exists()


@pytest.mark.parametrize("name", ["a.bin", "old.bin", "a.safetensors"])
@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused_with_its_name(tmp_path, name, share):
    buffer, state, path = io.BytesIO(), {"x": torch.randn(50, 50)}, tmp_path / name
    torch.save(state, buffer, _use_new_zipfile_serialization=name == "a.bin")
    path.write_bytes(buffer.getvalue())
    if name == "a.safetensors":
        save_file(state, path)
    assert torch.equal(ck.read_state_dict(path)["x"], state["x"])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=f"{name} (cannot be read|is refused)"):
        ck.read_state_dict(path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.safetensors"])
def test_a_file_that_only_has_a_checkpoints_name_is_refused(tmp_path, name):
    texts = [b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", b"<html>404</html>", b"text", b"PK\3\4"]
    random = np.random.default_rng(0)
    for content in texts + [random.bytes(length) for length in range(1, 100)]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} (cannot be read|is refused|does not hold)"):
            ck.read_state_dict(tmp_path / name)


ONE = torch.ones(1)


@pytest.mark.parametrize("content", [{"x": ONE, "step": 3}, [ONE], ONE, {"model": {"x": ONE}}])
def test_anything_but_a_dictionary_of_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.bin")
    named = "step|the whole file|model"
    with pytest.raises(ValueError, match=rf"a\.bin does not hold a dictionary of tensors \(\['({named})'\]"):
        ck.read_state_dict(tmp_path / "a.bin")


def test_a_missing_adapter_is_refused_with_the_mend(tmp_path):
    for source in (tmp_path / "nowhere.bin", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"is not there; give a folder with adapter_config\.json"):
            original.read_adapter(source)


def test_every_name_that_does_not_fit_is_listed_and_nothing_is_changed():
    module = adapter()
    before, state = weights(module), dict(adapter(seed=1).state_dict())
    del state["adapter.1.up_project.bias"]
    state["adapter.9.up_project.bias"] = torch.ones(HIDDEN)
    state["adapter.0.down_project.weight"] = torch.ones(3, 5)
    with pytest.raises(ValueError, match="it.bin does not fit this KnowledgeAdapter") as caught:
        ck.load_strict(module, state, "it.bin")
    assert "1 missing: adapter.1.up_project.bias;" in str(caught.value)
    assert "1 unexpected: adapter.9.up_project.bias;" in str(caught.value)
    assert "1 misshapen: adapter.0.down_project.weight ([3, 5] instead of [16, 32])." in str(caught.value)
    assert_same(weights(module), before)


def test_an_adapter_of_another_width_is_refused_in_the_files_own_names(tmp_path, tiny_model):
    torch.save(released(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"has 3 adapter layers, but adapter_list \[0, 1\] names 2; name 3"):
        tiny_model.load_adapter(tmp_path, "bio", AdapterConfig(adapter_list=(0, 1)))
    state = original_model_state(tiny_model)
    del state["lin_adapter.adapter.0.up_project.bias"]
    with pytest.raises(ValueError, match=r"fit this KAdapterModel: 1 missing: lin_adapter\.adapter\.0\.up_proj"):
        load_original(tiny_model, state)


# -- what the original wrote ------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("sequence", [None, 12])
def test_a_released_adapter_loads_by_file_and_by_folder(tmp_path, tiny_backbone_config, zipped, sequence):
    state = released(sequence=sequence)
    torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    expected = {name: value for name, value in state.items() if name.startswith("adapter.")}
    for source in (tmp_path, tmp_path / "pytorch_model.bin"):
        model = KAdapterModel(KAdapterConfig(backbone_config=tiny_backbone_config))
        loaded = model.load_adapter(source, "fac", AdapterConfig(num_attention_heads=2))
        assert_same(dict(loaded.state_dict()), expected)
        assert loaded.config == TINY_ADAPTER  # the width and the taps, too
        assert loaded(dict.fromkeys(range(3), torch.ones(1, 4, HIDDEN))).shape == (1, 4, HIDDEN)
    module = adapter(seed=5)
    load_original(module, tmp_path)
    assert_same(dict(module.state_dict()), expected)


def original_model_state(model, **extra):
    rest, backbone = original.original_state(model)
    return {**backbone, **rest, **extra}


def test_a_model_of_the_original_with_one_adapter_loads_with_its_unused_fusion(tmp_path, tiny_backbone_config):
    config = KAdapterConfig(backbone_config=tiny_backbone_config, adapters={"fac": TINY_ADAPTER})
    model, other = RobertawithAdapter(config).eval(), RobertawithAdapter(config).eval()
    state = original_model_state(model)
    assert {
        "model.embeddings.word_embeddings.weight",
        "fac_adapter.adapter.0.up_project.bias",
        "task_dense_fac.weight",
        "task_dense.weight",
    } <= set(state)
    assert not any(name.startswith(("backbone", "adapters", "fusion", "lin_")) for name in state)
    state["model.embeddings.position_ids"] = torch.arange(3)[None]
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert not torch.equal(features(other), features(model))
    load_original(other, tmp_path)
    assert_same(weights(other), weights(model))
    assert torch.equal(features(other), features(model))


# -- whole or not at all ----------------------------------------------------------------------------------------


def no_space(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("what", ["model", "adapter"])
@pytest.mark.parametrize("present", [False, True])
def test_a_save_that_fails_leaves_what_was_there(tmp_path, tiny_model, monkeypatch, what, present):
    target = tmp_path / "it"
    save = tiny_model.save_pretrained if what == "model" else lambda folder: tiny_model.save_adapter(folder, "fac")
    if present:
        save(target)
    expected = {path.name: path.read_bytes() for path in target.glob("*")}
    with torch.no_grad():
        tiny_model.adapters["fac"].adapter[0].down_project.weight.zero_()
    module = (
        "transformers.modeling_utils.safe_save_file" if what == "model" else "kadapter.storage.checkpoint.save_file"
    )
    monkeypatch.setattr(module, no_space)
    with pytest.raises(OSError, match="No space left"):
        save(target)
    assert {path.name: path.read_bytes() for path in target.glob("*")} == expected
    assert [path.name for path in tmp_path.iterdir()] == (["it"] if present else [])
    if present:
        load = KAdapterModel.from_pretrained if what == "model" else original.read_adapter
        load(target)


def test_a_save_that_fails_at_the_last_file_leaves_the_old_model(tmp_path, tiny_model, monkeypatch):
    tiny_model.save_pretrained(tmp_path / "it")
    expected = features(tiny_model)
    tiny_model.freeze("none")
    with torch.no_grad():
        tiny_model.fusion.task_dense.bias.add_(1)
    monkeypatch.setattr("kadapter.storage.files.sync", no_space)
    with pytest.raises(OSError, match="No space left"):
        tiny_model.save_pretrained(tmp_path / "it")
    assert torch.equal(features(KAdapterModel.from_pretrained(tmp_path / "it")), expected)
    assert os.listdir(tmp_path) == ["it"]


def test_saving_again_replaces_the_old_model_and_keeps_other_files(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path / "it")
    (tmp_path / "it" / "notes.txt").write_text("mine")
    with torch.no_grad():
        tiny_model.fusion.task_dense.bias.add_(1)
    tiny_model.save_pretrained(tmp_path / "it")
    assert torch.equal(features(KAdapterModel.from_pretrained(tmp_path / "it")), features(tiny_model))
    assert (tmp_path / "it" / "notes.txt").read_text() == "mine"
    assert os.listdir(tmp_path) == ["it"]


@pytest.mark.parametrize("present", [False, True])
def test_a_save_that_is_killed_leaves_nothing_that_loads_but_what_was_there(tmp_path, present):
    target = tmp_path / "it"
    if present:
        ck.save_adapter(adapter().state_dict(), TINY_ADAPTER, target)
    child = os.fork()  # a process of its own, without the seconds that its imports would take
    if not child:
        with atomic_folder(target) as folder:
            (folder / ck.ADAPTER_CONFIG).write_text("{}")
            (folder / ck.ADAPTER_WEIGHTS).write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    if present:
        config, state = original.read_adapter(target)
        assert config == TINY_ADAPTER
        assert_same(state, weights(adapter()))
    else:
        assert not target.exists()
        with pytest.raises(FileNotFoundError):
            original.read_adapter(target)
    assert len(os.listdir(tmp_path)) == 1 + present
    ck.save_adapter(adapter().state_dict(), TINY_ADAPTER, target)
    assert os.listdir(tmp_path) == ["it"]  # what the killed one left is gone


@pytest.mark.parametrize(("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_permissions_follow_the_umask(tmp_path, tiny_model, umask, file, folder):
    before = os.umask(umask)
    try:
        tiny_model.save_pretrained(tmp_path / "model")
        tiny_model.save_adapter(tmp_path / "adapter", "fac")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    for target in (tmp_path / "model", tmp_path / "adapter"):
        assert stat.S_IMODE(target.stat().st_mode) == folder
        assert {stat.S_IMODE(path.stat().st_mode) for path in target.iterdir()} == {file}


def test_a_process_that_writes_nothing_changes_nothing(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path / "model", is_main_process=False)
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path, tiny_model):
    (tmp_path / "model").write_text("a file")
    with pytest.raises(ValueError, match="model is a file; give a folder to write"):
        tiny_model.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "a file"


def test_an_adapters_folder_holds_a_card_readable_json_and_the_weights_alone(tmp_path, tiny_model):
    tiny_model.save_adapter(tmp_path / "fac", "fac")
    assert sorted(os.listdir(tmp_path / "fac")) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert json.loads((tmp_path / "fac" / "adapter_config.json").read_text())["adapter_list"] == [0, 1, 2]
    config, state = original.read_adapter(tmp_path / "fac" / "adapter_model.safetensors")
    assert config == TINY_ADAPTER
    assert_same(state, weights(tiny_model.adapters["fac"]))
    (tmp_path / "fac" / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"adapter_config\.json, line 1, column 2: broken JSON"):
        original.read_adapter(tmp_path / "fac")
