"""Continual infusion by the real scripts: what is trained changes, what was there gives the same bits as before."""

import pytest
import torch
from conftest import load_script, slow
from tiny import MASK, TEXT

from kadapter import KAdapterModel, TaskModel

TACRED = load_script("examples/run_finetune_tacred_adapter.py")
FAC = load_script("examples/run_pretrain_fac_adapter.py")


@pytest.fixture
def adapters(run):
    """Two pretrained adapters, as folders."""
    return {name: run(FAC, "--comment", name, "--seed", seed, steps=2)[1] for name, seed in (("fac", 1), ("bio", 2))}


@pytest.fixture
def flags(adapters):
    return [f"--meta_fac_adaptermodel={adapters['fac']}", f"--adapter=bio={adapters['bio']}", "--freeze_bert"]


def states_of(model):
    with torch.no_grad():
        return model.eval()(TEXT, MASK).adapter_states


def changed(before, after):
    return [name for name in before if not torch.equal(before[name], after[name])]


@pytest.mark.parametrize("mode", ["gate", slow("attention")])
def test_old_adapters_give_the_same_bits_after_a_new_one_was_trained_beside_them(run, adapters, flags, mode):
    before = states_of(KAdapterModel.from_pretrained(run.backbone, adapters=adapters))
    _, folder = run(TACRED, *flags, f"--fusion_mode={mode}", "--task_adapter=own")
    encoder = TaskModel.from_pretrained(folder / "best").encoder
    after = states_of(encoder)
    assert list(after) == ["fac", "bio", "own"]
    assert not changed(before, after)
    learned = encoder.fusion.gate_own.weight if mode == "gate" else encoder.fusion.value.weight - torch.eye(32)
    assert learned.any()


def test_adapters_are_trained_by_name_and_the_others_stay(run, adapters, flags):
    before = states_of(KAdapterModel.from_pretrained(run.backbone, adapters=adapters))
    _, folder = run(TACRED, *flags, "--train_adapters= bio", "--freeze_adapter=False")
    assert changed(before, states_of(TaskModel.from_pretrained(folder / "best").encoder)) == ["bio"]
    with pytest.raises(ValueError, match=r"there is no adapter 'law'; the model has \['fac', 'bio'\]"):
        run(TACRED, *flags, "--train_adapters=fac,law", "--comment", "law")


def test_pretraining_on_a_saved_model_leaves_its_adapters_as_they_are(run, adapters, tokenizer, tmp_path):
    model = KAdapterModel.from_pretrained(run.backbone, adapters={"bio": adapters["bio"]})
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    _, folder = run(FAC, "--model_name_or_path", tmp_path / "model", "--comment", "beside")
    after = states_of(TaskModel.from_pretrained(folder).encoder)
    assert list(after) == ["bio", "fac"]
    assert not changed(states_of(model), after)
