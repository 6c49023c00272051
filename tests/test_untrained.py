"""--untrained: a fresh adapter that stays as it is, the control without knowledge."""

import json

import pytest
import torch
from conftest import load_script
from safetensors.torch import load_file

from kadapter import TaskModel

FAC = load_script("examples/run_pretrain_fac_adapter.py")
TYPING = load_script("examples/run_finetune_openentity_adapter.py")
DOWN = "adapter.0.down_project.weight"
EXAMPLE = load_script("examples/run_example.py")


def adapter_of(folder, name):
    return TaskModel.from_pretrained(folder).encoder.adapters[name].state_dict()


def test_an_untrained_adapter_is_fresh_frozen_seeded_and_recorded(run):
    flags = ("--untrained", "control", "--freeze_adapter", "False")
    _, short = run(TYPING, *flags, "--comment", "short", steps=1)
    report, long = run(TYPING, *flags, "--comment", "long", "--learning_rate", "1e-2", steps=4)
    one, other = (adapter_of(folder, "control") for folder in (short, long))
    assert all(torch.equal(one[name], other[name]) for name in one)  # neither steps nor rate change it
    assert one[DOWN].abs().max() < 0.002  # fresh ones are N(0, 0.0002)
    _, reseeded = run(TYPING, *flags, "--comment", "reseeded", "--seed", "7", steps=1)
    assert not torch.equal(adapter_of(reseeded, "control")[DOWN], one[DOWN])
    assert not [name for name in load_file(long / "checkpoint-4" / "trained.safetensors") if "adapters." in name]
    record = json.loads((long / "args.json").read_text())
    assert record["arguments"]["untrained"] == ["control"]
    assert "the adapter 'control'" in record["content"]
    assert "control" in long.name
    assert report["trained_parameters"] < report["parameters"]
    assert run(TYPING, *flags, "--comment", "long", "--learning_rate", "1e-2", steps=4)[0]["best"] == report["best"]


def test_the_shape_is_that_of_a_saved_adapter_and_the_weights_are_not(run):
    _, fac = run(FAC, "--adapter_list", "0,3", "--adapter_size", "24", "--learning_rate", "1e-2")
    _, both = run(TYPING, f"--adapter=kg={fac}", f"--untrained=control={fac}", "--untrained", "other", steps=1)
    model = TaskModel.from_pretrained(both)
    assert list(model.encoder.adapters) == ["kg", "control", "other"]
    config = model.config
    assert config.adapter_config("control") == config.adapter_config("kg")
    assert config.adapter_config("control").adapter_size == 24
    assert config.adapter_config("other").adapter_size == 16  # that of the flags
    kg, control = (model.encoder.adapters[name].state_dict() for name in ("kg", "control"))
    assert kg.keys() == control.keys()
    assert kg[DOWN].abs().max() > 2 * control[DOWN].abs().max()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--adapter=kg=x", "--untrained", "kg"), "--untrained names 'kg', which is given already"),
        (("--untrained", "a", "--untrained", "a"), "--untrained names 'a', which is given already"),
        (("--untrained", "own", "--task_adapter", "own"), "--untrained names 'own', which is given already"),
        (("--untrained", "a", "--train_adapters", "a"), "--train_adapters names 'a', which --untrained keeps as it is"),
        (("--untrained", "a="), "--untrained is 'a='; write a name, or name=path"),
    ],
)
def test_names_that_are_given_twice_are_refused(run, capsys, flags, message):
    with pytest.raises(SystemExit):
        run(TYPING, *flags)
    assert message in capsys.readouterr().err


def test_a_shape_that_is_not_there_is_refused(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="adapter .*nowhere is not there"):
        run(TYPING, f"--untrained=a={tmp_path / 'nowhere'}")


def test_the_example_which_trains_nothing_refuses_it():
    with pytest.raises(ValueError, match="--untrained is a control for fine-tuning"):
        EXAMPLE.main(["--model_name_or_path", "nowhere", "--untrained", "a"])
