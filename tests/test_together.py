"""Several settings in one pass over the data: separate runs with the same flags are the oracle."""

import json
import logging
from pathlib import Path

import pytest
import torch
from conftest import load_script, slow
from safetensors.torch import load_file
from test_processes import command, finished

from kadapter.training import loop, settings
from kadapter.training.interruption import Interruption

FAC = load_script("examples/run_pretrain_fac_adapter.py")
LIN = load_script("examples/run_pretrain_lin_adapter.py")
MLM = load_script("examples/run_pretrain_mlm_adapter.py")
OPENENTITY = load_script("examples/run_finetune_openentity_adapter.py")
SEARCHQA = load_script("examples/run_finetune_searchqa_adapter.py")
FLAGS = ("--per_gpu_train_batch_size", 16, "--eval_steps", 3, "--save_steps", 2, "--adapter_dropout", 0.2)


@pytest.fixture
def together(run, tmp_path):
    """Calls a recipe with settings that go together; gives the folder of each, by its comment."""

    def call(recipe, settings, *flags, steps=6):
        spec = tmp_path / "settings.json"
        spec.write_text(json.dumps(settings), encoding="utf-8")
        reports, _ = run(recipe, *FLAGS, "--together", spec, *flags, steps=steps)
        return {path.rpartition("_")[2]: (Path(path), report) for path, report in reports.items()}

    return call


def rows(folder):
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return [(row["split"], row["global_step"], row["metrics"]) for row in map(json.loads, lines)]


def assert_same(one, other, but=()):
    """Results and all files of weights within 1e-6, and names of files alike.

    What adds the same to all that a softmax compares changes nothing, so its gradients are rounding alone, which Adam
    makes large: `but` are ends of the names of such weights.
    """
    for found, expected in zip(rows(one), rows(other), strict=True):
        assert found[:2] == expected[:2]
        assert found[2] == pytest.approx(expected[2], abs=1e-6)
    names = sorted(str(path.relative_to(other)) for path in other.rglob("*") if "events" not in path.name)
    assert sorted(str(path.relative_to(one)) for path in one.rglob("*") if "events" not in path.name) == names
    for name in names:
        if name.endswith(".safetensors"):
            found, expected = load_file(one / name), load_file(other / name)
            assert found.keys() == expected.keys()
            for key, tensor in found.items():
                if key.endswith(tuple(but)):
                    continue
                torch.testing.assert_close(tensor, expected[key], atol=1e-6, rtol=0, msg=f"{name} {key}")


def alone(run, recipe, setting, *flags, steps=6):
    """The report and the folder of a run with the flags of one setting."""
    own = [word for name, value in setting.items() if name != "comment" for word in (f"--{name}", value)]
    comment = f"{setting['comment']}-alone"
    return run(recipe, *FLAGS, "--data_seed", 42, *flags, *own, "--comment", comment, steps=steps)


def without_times(report):
    return {key: value for key, value in report.items() if "seconds" not in key and "memory" not in key}


# -- equal to separate runs ------------------------------------------------------------------------------------------


def test_settings_that_go_together_end_as_separate_runs_do_and_cost_one_pass_of_the_backbone(
    run, together, backbone_rows
):
    settings = [
        {"seed": 42, "comment": "one"},
        {"seed": 7, "learning_rate": 3e-4, "comment": "two"},
        {"seed": 7, "adapter_size": 24, "adapter_list": "0,2", "weight_decay": 0.1, "comment": "three"},
    ]
    found = together(FAC, settings)
    cost = sum(backbone_rows)
    backbone_rows.clear()
    for setting in settings:
        report, folder = alone(run, FAC, setting)
        shared, told = found[setting["comment"]]
        assert_same(shared, folder)
        assert without_times(told) == without_times(report)
    assert 3 * cost == sum(backbone_rows)


@pytest.mark.parametrize(
    ("recipe", "flags", "other"),
    [
        (LIN, ("--gradient_accumulation_steps", 2), {"fusion_mode": "gate"}),
        slow(MLM, ("--max_tokens_per_batch", 512), {"no_adapter": True}),
        slow(OPENENTITY, ("--freeze_bert", "--task_adapter", "own", "--attend_padding"), {"adapter_size": 24}),
        slow(SEARCHQA, ("--freeze_bert", "--task_adapter", "own", "--stride", 8), {"adapter_list": "1"}),
    ],
)
def test_every_recipe_with_a_frozen_backbone_trains_settings_together(run, together, recipe, flags, other):
    settings = [{"seed": 3, "comment": "one"}, {"seed": 5, **other, "comment": "two"}]
    found = together(recipe, settings, *flags)
    even = ("key.bias",) if recipe is not SEARCHQA else ("key.bias", "project.bias", "dense.bias", "outputs.bias")
    for setting in settings:
        assert_same(found[setting["comment"]][0], alone(run, recipe, setting, *flags)[1], even)


@pytest.mark.slow
def test_settings_of_other_lengths_and_intervals_share_what_they_have_in_common(run, together, backbone_rows):
    settings = [{"max_steps": 4, "comment": "short"}, {"eval_steps": 5, "patience": 1, "comment": "long"}]
    found = together(FAC, settings)
    cost = sum(backbone_rows)
    for setting in settings:
        backbone_rows.clear()
        assert_same(found[setting["comment"]][0], alone(run, FAC, setting)[1])
    dev = len((found["long"][0] / "predictions_dev.jsonl").read_text(encoding="utf-8").splitlines())
    assert cost == sum(backbone_rows) + 3 * dev  # of the short one, behind its steps 3 and 4, and at its end


@pytest.mark.slow
def test_with_a_cache_settings_write_and_read_it_together(run, together, tmp_path, backbone_rows):
    settings = [{"comment": "one"}, {"seed": 1, "adapter_list": "0,3", "comment": "two"}]
    cache = ("--cache_states", tmp_path / "states")
    found = together(FAC, settings, *cache)
    assert sum(backbone_rows) == 88 + 36  # what six batches of train hold, and dev, once each
    for setting in settings:
        assert_same(found[setting["comment"]][0], alone(run, FAC, setting)[1])
    backbone_rows.clear()
    together(FAC, [{**one, "comment": f"{one['comment']}-again"} for one in settings], *cache)
    alone(run, FAC, {"adapter_list": "0", "comment": "three"}, *cache)
    assert not backbone_rows


@pytest.mark.slow
def test_settings_go_together_over_two_processes_too(tiny_backbone, world, tmp_path):
    (tmp_path / "settings.json").write_text('[{"seed": 1}, {"seed": 2, "eval_steps": 2}]', encoding="utf-8")
    flags = ("--max_steps", 5, "--eval_steps", 3, "--no_cuda")
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for name, own in (
        ("both", ("--together", tmp_path / "settings.json")),
        ("alone", ("--seed", 2, "--eval_steps", 2)),
    ):
        place = (tiny_backbone, world / "trex-rc", tmp_path / name)
        finished([*start, *command("run_pretrain_fac_adapter", *place, *flags, *own, "--data_seed", 42)], tmp_path)
    (shared,) = (tmp_path / "both").glob("*seed-2*")
    (folder,) = (tmp_path / "alone").glob("*seed-2*")
    assert_same(shared, folder)


# -- kills and errors ------------------------------------------------------------------------------------------------


def test_settings_go_on_after_a_kill_as_unbroken_runs(run, together, monkeypatch):
    settings = [{"comment": "one"}, {"seed": 7, "save_steps": 1, "comment": "two"}]
    real, calls = loop._accumulate, []

    def killed(*args):
        calls.append(1)
        if len(calls) > 7:  # the first in its fourth step, the second behind its third
            raise ChildProcessError("killed")
        return real(*args)

    monkeypatch.setattr(loop, "_accumulate", killed)
    with pytest.raises(ChildProcessError):
        together(FAC, settings)
    monkeypatch.setattr(loop, "_accumulate", real)
    found = together(FAC, settings)
    for setting in settings:
        assert_same(found[setting["comment"]][0], alone(run, FAC, setting)[1])


def test_a_signal_stops_all_settings_with_a_checkpoint_and_a_run_alone_goes_on_from_one(
    run, together, tmp_path, monkeypatch
):
    settings = [{"comment": "one"}, {"seed": 7, "comment": "two"}]
    held, real = [], Interruption.postponed

    def hold(self):
        held.append(self)
        return real(self)

    def signalled(*args):
        held[0].received = 15
        return accumulate(*args)

    accumulate = loop._accumulate
    monkeypatch.setattr(Interruption, "postponed", hold)
    monkeypatch.setattr(loop, "_accumulate", signalled)
    with pytest.raises(SystemExit) as stopped:
        together(FAC, settings)
    assert stopped.value.code == 143
    monkeypatch.setattr(loop, "_accumulate", accumulate)
    folders = sorted((tmp_path / FAC.__name__ / "runs").glob("trex*"))
    assert [(folder / "checkpoint-1").is_dir() for folder in folders] == [True, True]
    run(FAC, *FLAGS, "--seed", 7, "--data_seed", 42, "--comment", "two")
    run(FAC, *FLAGS, "--output_dir", folders[0].parent, "--seed", 7, "--data_seed", 42, "--comment", "two")
    (unbroken,) = (tmp_path / FAC.__name__ / "two").glob("trex*two")
    (resumed,) = (folder for folder in folders if folder.name.endswith("_two"))
    assert_same(resumed, unbroken)


def test_a_setting_that_fails_leaves_the_others_as_they_are(run, together, tmp_path, caplog):
    settings = [{"comment": "one"}, {"learning_rate": 1e30, "comment": "two"}]
    with pytest.raises(FloatingPointError, match="not finite"), caplog.at_level(logging.INFO):
        together(FAC, settings)
    assert "[setting 2] this run ends by an error, the others go on" in caplog.text
    assert "[setting 1] dev after step 6" in caplog.text
    (whole,) = (tmp_path / FAC.__name__ / "runs").glob("*_one")
    assert_same(whole, alone(run, FAC, settings[0])[1])


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "flags", "said"),
    [
        ([{}], ("--freeze_bert", ""), "shares the states of a frozen backbone, but this one is trained"),
        ([{}, {"max_seq_length": 32}], (), "setting 2: --max_seq_length must be the same for all"),
        ([{"seed": None}], (), "setting 1: seed is None; write a number"),
        ({"seed": 1}, (), "is not a JSON list of settings; write an object of flags for each"),
        ([{"seed": 1}, {"seed": 1, "adapter_size": 32}], (), "setting 2 would be written to .*; give it a comment"),
    ],
)
def test_settings_that_cannot_go_together_are_refused(together, settings, flags, said):
    with pytest.raises(ValueError, match=said):
        together(FAC, settings, *flags)


def test_a_wrong_value_is_told_with_its_setting(together, capsys):
    with pytest.raises(SystemExit):
        together(FAC, [{}, {"learning_rate": "high"}])
    assert "settings.json, setting 2: --learning_rate is 'high'; it must be a number" in capsys.readouterr().err


def test_settings_of_which_some_attend_to_padding_are_refused(run, together):
    _, padded = run(FAC, "--attend_padding", "--comment", "padded", steps=1)
    flags = ("--freeze_bert", "--task_adapter", "own")
    with pytest.raises(ValueError, match="adapters of setting 2 attend to padding, .* those of setting 1 do not"):
        together(OPENENTITY, [{}, {"meta_fac_adaptermodel": str(padded)}], *flags)


def test_flags_in_which_settings_may_differ_are_flags_of_recipes():
    known = json.loads((Path(__file__).parent / "defaults.json").read_text(encoding="utf-8"))
    flags = {name for recipe in known.values() for name in recipe} | {"output_dir"}
    assert set(settings.MAY_DIFFER) <= flags
