"""Checkpoints of a run that something happened to: found out, passed over, and never a silent other result."""

import dataclasses
import json
import logging

import pytest
import torch
from accelerate import Accelerator
from conftest import load_script
from safetensors.torch import load_file, save_file

from kadapter.storage.manifest import MANIFEST
from kadapter.training import resume
from kadapter.training.loop import Progress

FAC = load_script("examples/run_pretrain_fac_adapter.py")
FILES = ("trained.safetensors", "state.json", "optimizer.bin", "random_states_0.pkl", MANIFEST)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {"deleted": lambda path: path.unlink(), "truncated": truncate, "altered": alter}


@pytest.fixture
def saved(tmp_path):
    """Calls `save(step)` to write a checkpoint of a tiny model, and `load()` to go back to the newest."""
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    model, optimizer = accelerator.prepare(model, optimizer)

    def save(step, keep=3):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        torch.manual_seed(step)
        resume.save_checkpoint(accelerator, tmp_path, model, schedule, Progress(step=step), keep)
        return tmp_path / f"checkpoint-{step}"

    save.load = lambda kind=Progress: resume.load_checkpoint(accelerator, tmp_path, model, schedule, kind)
    save.folder = tmp_path
    return save


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_passed_over_for_the_older_one(saved, caplog, damage, name):
    saved(2)
    newest = saved(4)
    assert set(FILES) == {path.name for path in newest.iterdir()}
    if (damage, name) == ("deleted", MANIFEST):  # then it counts as of before manifests, and is whole
        truncate(newest / "random_states_0.pkl")
    DAMAGES[damage](newest / name)
    with caplog.at_level(logging.WARNING):
        assert saved.load().step == 2
    (said,) = [record.getMessage() for record in caplog.records if "passed over" in record.getMessage()]
    assert str(newest) in said
    assert said.endswith("passed over for checkpoint-2, which is whole.")
    assert name in said or damage == "deleted"


def test_a_whole_checkpoint_brings_back_its_random_states(saved):
    saved(2)
    expected = torch.rand(1)
    torch.manual_seed(99)
    assert saved.load().step == 2
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name", FILES)
def test_where_no_checkpoint_is_whole_the_run_is_refused(saved, name):
    for step in (2, 4):
        truncate(saved(step) / name)
    with pytest.raises(
        ValueError, match=r"no checkpoint of this run is whole \(.*checkpoint-4: .*overwrite_output_dir"
    ):
        saved.load()


def test_a_run_without_checkpoints_starts_from_the_beginning(saved):
    assert saved.load() is None


@pytest.mark.parametrize("name", [None, *FILES[:-1]])
@pytest.mark.parametrize("damage", ["deleted", "truncated"])  # without digests, not all changes can be found
def test_a_checkpoint_of_before_manifests_is_taken_only_where_all_of_it_can_be_read(saved, damage, name):
    saved(2)
    newest = saved(4)
    (newest / MANIFEST).unlink()
    if name:
        DAMAGES[damage](newest / name)
    assert saved.load().step == (2 if name else 4)


def test_the_random_states_of_every_process_are_asked_for(saved):
    saved(2)
    state = saved(4) / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"processes": 2}))
    (state.parent / MANIFEST).unlink()
    assert saved.load().step == 2


def test_trained_weights_that_are_not_finite_are_refused(saved):
    newest = saved(2)
    state = load_file(newest / "trained.safetensors")
    save_file({**state, "bias": torch.full((2,), float("nan"))}, newest / "trained.safetensors")
    resume.write_manifest(newest)
    with pytest.raises(ValueError, match=r"trained\.safetensors holds 2 values that are NaN or infinite, in bias;"):
        saved.load()


def test_checkpoints_that_were_passed_over_do_not_outlive_newer_ones(saved):
    for step in (2, 4, 6):
        saved(step)
    truncate(saved.folder / "checkpoint-6" / "state.json")
    assert saved.load().step == 4
    saved(5, keep=2)
    assert [path.name for path in resume.checkpoints(saved.folder)] == ["checkpoint-4", "checkpoint-5"]


def test_a_position_that_is_no_number_is_not_saved(saved, monkeypatch):
    monkeypatch.setattr(resume, "asdict", lambda progress: {"step": progress.step, "best_score": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        saved(2)
    assert not list(saved.folder.iterdir())


def test_a_checkpoint_whose_position_lacks_something_is_refused(saved):
    @dataclasses.dataclass
    class Later:
        step: int
        lap: int

    saved(2)
    with pytest.raises(ValueError, match=r"state\.json was written by another version .*lap"):
        saved.load(Later)


def test_a_manifest_that_lists_too_little_is_no_proof(saved):
    saved(2)
    newest = saved(4)
    path = newest / MANIFEST
    files = json.loads(path.read_text())["files"]
    (newest / "random_states_0.pkl").unlink()
    del files["random_states_0.pkl"]
    path.write_text(json.dumps({"files": files}))
    assert saved.load().step == 2


@pytest.mark.slow
def test_whatever_happens_to_the_newest_checkpoint_the_run_ends_as_an_unbroken_one(run):
    _, folder = run(FAC)
    names = ("adapter_model.safetensors", "pretraining_head.safetensors", "best/adapter_model.safetensors")
    weights = {name: load_file(folder / name) for name in names}
    rows = [{**json.loads(line), "seconds": 0} for line in (folder / "results.jsonl").read_text().splitlines()]
    for name in FILES:
        for damage, inflict in DAMAGES.items():
            if (name, damage) == (MANIFEST, "deleted"):
                continue  # it is whole as those of before manifests
            inflict(folder / "checkpoint-6" / name)
            for path in names[:2]:  # the best one may be of a step before
                (folder / path).unlink()
            assert run(FAC)[1] == folder
            for path, expected in weights.items():
                found = load_file(folder / path)
                assert all(torch.equal(found[key], value) for key, value in expected.items()), (name, damage, path)
            again = [{**json.loads(line), "seconds": 0} for line in (folder / "results.jsonl").read_text().splitlines()]
            assert again == rows, (name, damage)
