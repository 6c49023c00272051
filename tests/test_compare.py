"""compare.py: which settings it runs, what it says of their differences, and that it goes on."""

import argparse
import json
import random

import numpy as np
import pytest
from conftest import DEMO_BACKBONE, ROOT, load_script

from kadapter import AdapterConfig, KAdapterModel

compare = load_script("scripts/compare.py")
paired = load_script("scripts/paired_tests.py")


# -- settings ---------------------------------------------------------------------------------------------------------


def test_settings_are_none_untrained_each_adapter_and_all_together():
    command = ["bash", "x.sh", "--data_dir", "d", "--adapter", "kg=a", "--adapter=bio=b", "--meta_fac_adaptermodel=f"]
    rest, adapters = compare.split_recipe(command)
    assert rest == ["bash", "x.sh", "--data_dir", "d"]
    assert adapters == {"kg": "a", "bio": "b", "fac": "f"}
    settings = compare.settings_of(adapters, [False, True])
    names = ["none", "untrained", "kg", "bio", "fac", "all together"]
    assert [s.label for s in settings] == names + [f"{name}, frozen" for name in names]
    assert settings[1].flags[3:] == ["--untrained=untrained=a"]  # of the first one's size
    assert settings[5].flags[3:] == ["--adapter=kg=a", "--adapter=bio=b", "--adapter=fac=f"]
    assert all(s.flags[:3] == [f"--{flag}=" for flag in compare.NAMED] for s in settings)
    assert [s.flags[-1] == "--freeze_bert=True" for s in settings] == [False] * 6 + [True] * 6
    assert [s.label for s in compare.settings_of({"kg": "a"}, [True])] == [f"{n}, frozen" for n in (*names[:2], "kg")]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "no adapter stands behind --"),
        (["--adapter", "kg"], "write name=place"),
        (["--adapter", "kg=a", "--adapter", "kg=b"], "write name=place"),
        (["--adapter", "untrained=a"], "beside none, untrained"),
        (["--adapter", "kg=a", "--seed=3"], "--seed stands behind --"),
        (["--adapter", "kg=a", "--freeze_bert=perhaps"], "perhaps"),
    ],
)
def test_a_command_that_cannot_be_compared_is_refused(flags, said, capsys):
    with pytest.raises(SystemExit):
        compare.main(["--", "bash", "x.sh", *flags])
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "frozen"),
    [([], False), (["--freeze_bert"], True), (["--freeze_bert", "True"], True), (["--freeze_bert="], False)],
)
def test_a_command_that_freezes_the_backbone_is_seen(flags, frozen):
    assert compare.is_frozen(["bash", "x.sh", *flags, "--data_dir=d"]) is frozen


@pytest.mark.parametrize("name", ["kg", "other"])
def test_a_control_that_is_not_one_of_several_adapters_is_refused(capsys, name):
    with pytest.raises(SystemExit):
        compare.main([f"--control={name}", "--", "bash", "x.sh", "--adapter=kg=a"])
    assert f"--control is '{name}'; name one of the adapters behind --, beside others" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", ["1,x", "1,1", ""])
def test_seeds_that_are_none_are_refused(seeds, capsys):
    with pytest.raises(SystemExit):
        compare.main([f"--seeds={seeds}", "--", "bash", "x.sh", "--adapter", "kg=a"])
    assert "--seeds" in capsys.readouterr().err


# -- differences ------------------------------------------------------------------------------------------------------


def test_answers_that_are_spans_are_compared_by_their_own_f1(tmp_path):
    rows = [
        {"record": 1, "answers": ["Oslo"], "predicted": "in Oslo", "f1": 0.5},
        {"record": 2, "answers": [], "predicted": "", "f1": 1.0},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcomes, gold = paired.read_outcomes(tmp_path / "a.jsonl")
    assert outcomes.tolist() == [[0.5, 1, 1], [1, 1, 1]]
    assert gold == [(1, ["Oslo"]), (2, [])]
    assert paired.measure_name(outcomes) == "mean F1 of answers"
    found = paired.difference(outcomes[None], np.array([[[1, 1, 1], [1, 1, 1]]]))
    assert found.points == pytest.approx(25)


def outcomes(right):
    """[S, E, 3] of single labels that are right or not."""
    right = np.asarray(right, dtype=float)
    return np.stack([right, np.ones_like(right), np.ones_like(right)], axis=-1)


def test_rows_become_counts_of_labels_spans_and_errors_of_numbers(tmp_path):
    def read(*rows):
        path = tmp_path / "predictions.jsonl"
        rows = [{"record": number, **row} for number, row in enumerate(rows, 1)]
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return paired.read_outcomes(path)[0].tolist()

    assert read({"label": "a", "predicted": "b"}, {"label": "a", "predicted": "a"}) == [[0, 1, 1], [1, 1, 1]]
    assert read({"labels": ["a", "b"], "predicted": ["b", "c", "d"]}) == [[1, 3, 2]]
    assert read({"relation": "no_relation", "predicted": "x"}) == [[0, 1, 0]]
    assert read({"label": "Other", "predicted": "Other"}) == [[1, 1, 1]]  # a class like any other, of one's own
    span = {"start": 0, "end": 3, "label": "PER", "text": "Ada"}
    assert read({"entities": [span], "predicted": [span, {**span, "end": 4}]}) == [[1, 2, 1]]
    assert read({"label": 2.5, "predicted": 2.0}) == [[0.5]]
    with pytest.raises(ValueError, match="record 1 has no gold label"):
        read({"label": None, "predicted": "a"})


def test_a_difference_is_that_of_the_measure_and_its_p_value_that_of_an_exact_test():
    generator = np.random.default_rng(0)
    base, other = (outcomes(generator.random((2, 10)) < share) for share in (0.3, 0.9))
    found = paired.difference(base, other)
    assert found.measure == "accuracy"
    assert found.points == pytest.approx(100 * (other[..., 0].mean() - base[..., 0].mean()))
    change = (other[..., 0] - base[..., 0]).mean(0)  # all 2^10 exchanges
    signs = np.array(np.meshgrid(*[[1, -1]] * 10)).reshape(10, -1)
    sums = (change[:, None] * signs).sum(0)
    exact = 2 * min((sums >= change.sum() - 1e-9).mean(), (sums <= change.sum() + 1e-9).mean())
    assert found.p_value == pytest.approx(min(exact, 1), abs=1e-9)


def test_the_interval_is_that_of_resampled_micro_f1():
    generator = np.random.default_rng(1)
    gold = generator.integers(1, 4, (1, 200))
    base, other = (
        np.stack([generator.binomial(gold, share), generator.integers(3, 5, gold.shape), gold], -1).astype(float)
        for share in (0.5, 0.7)
    )

    def f1(part):
        right, predicted, known = part.sum((0, 1))
        return 200 * right / (predicted + known)

    rows = [generator.integers(0, 200, 200) for _ in range(4000)]
    low, high = np.percentile([f1(other[:, row]) - f1(base[:, row]) for row in rows], [2.5, 97.5])
    found = paired.difference(base, other)
    assert found.measure == "micro F1"
    assert found.points == pytest.approx(f1(other) - f1(base))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.6)
    assert found.shown


@pytest.mark.parametrize("kind", ["labels", "errors"])
def test_groups_are_drawn_as_wholes(kind):
    generator = np.random.default_rng(4)
    groups = np.repeat(np.arange(30), generator.integers(1, 20, 30))
    shift = generator.normal(0.2, 0.3, 30)[groups]  # of the whole group
    if kind == "labels":
        base, other = (outcomes(generator.random((2, len(groups))) < 0.4 + part) for part in (0, shift))
    else:
        base = generator.random((2, len(groups), 1)) + 1
        other = base - shift[:, None]
    change = (other - base)[..., 0].mean(0) * (100 if kind == "labels" else -1)
    means = []
    for _ in range(4000):
        rows = np.concatenate([np.flatnonzero(groups == drawn) for drawn in generator.integers(0, 30, 30)])
        means.append(change[rows].mean())
    found, single = paired.difference(base, other, groups), paired.difference(base, other)
    assert found.points == pytest.approx(single.points)
    assert found.points == pytest.approx(change.mean())
    low, high = np.percentile(means, [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))
    assert high - low > 1.5 * (single.high - single.low)
    assert found.p_value > single.p_value or single.p_value < 0.001


def test_records_are_grouped_by_a_column_of_the_data(tmp_path):
    rows = [{"docid": name} for name in ("a", "b", "a", "c")]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    groups = paired.read_groups(tmp_path / "dev.jsonl", "docid", [1, 3, 2])
    assert groups.tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match="record 9 is not there; give --group_by another column"):
        paired.read_groups(tmp_path / "dev.jsonl", "docid", [9])
    with pytest.raises(ValueError, match="record 1 has no 'title' that is a name or a number"):
        paired.read_groups(tmp_path / "dev.jsonl", "title", [1])


def test_smaller_errors_are_better():
    errors = np.abs(np.random.default_rng(2).normal(size=(2, 50, 1)))
    found = paired.difference(errors + 0.5, errors)
    assert (found.measure, found.points) == ("mean absolute error", pytest.approx(0.5))


def test_equal_outcomes_are_no_difference():
    same = outcomes([[1, 0, 1]])
    assert paired.difference(same, same).p_value == 1
    assert not paired.difference(same, same).shown


@pytest.fixture
def fewer_resamples(monkeypatch):
    """A tenth of them, where differences are far beyond chance or none at all."""
    monkeypatch.setitem(compare.difference.__globals__, "RESAMPLES", 999)


@pytest.mark.parametrize(
    ("kg", "untrained", "said"),
    [
        (0.9, 0.5, "helps: "),
        (0.5, 0.5, "no difference shown from the untrained control"),
        (0.9, 0.9, "is ahead of none by"),
        (0.2, 0.9, "harms: "),
        (0.35, 0.2, "harms: -"),  # better than the control, and yet none is better still
        (0.35, 0.35, "harms: -"),
    ],
)
def test_the_verdict_says_what_is_shown_and_no_more(fewer_resamples, kg, untrained, said):
    base = np.random.default_rng(3).random((3, 300))
    settings = []
    for name, share in (("none", 0.5), ("untrained", untrained), ("kg", kg)):
        rows = list(outcomes(base < share))
        settings.append(compare.Setting(name, False, [], [share] * 3, "accuracy", rows, list(range(300))))
    (sentence,) = compare.verdict(settings, compare.differences(settings))
    assert sentence.startswith(f"kg: {said}")


def test_a_control_stands_alone_and_what_does_not_beat_it_is_not_said_to_help(fewer_resamples):
    adapters = {"fac": "f", "mixed": "m", "lin": "l"}
    settings = compare.settings_of(adapters, [True], "mixed")
    assert [one.name for one in settings] == ["none", "untrained", "fac", "mixed", "lin", "all together"]
    assert settings[-1].flags[3:-1] == ["--adapter=fac=f", "--adapter=lin=l"]
    base = np.random.default_rng(3).random((3, 300))
    shares = {"none": 0.4, "untrained": 0.5, "fac": 0.8, "mixed": 0.7, "lin": 0.7, "all together": 0.9}
    for one in settings:
        rows = list(outcomes(base < shares[one.name]))
        one.scores, one.metric, one.outcomes, one.gold = [0.5] * 3, "accuracy", rows, list(range(300))
    found = compare.differences(settings, "mixed")
    assert {label: list(against) for label, against in found.items()} == {
        "untrained, frozen": ["none"],
        "mixed, frozen": ["none", "untrained"],
        **{f"{name}, frozen": ["none", "untrained", "mixed"] for name in ("fac", "lin", "all together")},
    }
    said = compare.verdict(settings, found, "mixed")
    assert [sentence.split(", frozen: ")[0] for sentence in said] == ["fac", "lin", "all together"]
    assert "points beyond" not in said[1]
    assert said[1].endswith("no difference from the mixed control is shown.")
    assert "beyond the mixed control" in said[0]
    given = argparse.Namespace(split="dev", control="mixed", group_by="")
    assert "| against none | p | against untrained | p | against mixed | p |" in compare.markdown(
        settings, found, given
    )


# -- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A table of texts whose label is a word in them, and an adapter for the demo's backbone."""
    folder = tmp_path_factory.mktemp("own")
    drawn = random.Random(0)
    for split, count in (("train", 24), ("dev", 8), ("test", 12)):
        words = [drawn.choice(("red", "blue")) for _ in range(count)]
        rows = [f"{drawn.choice('abc')} is {word},{word}" for word in words]
        (folder / f"{split}.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    config = AdapterConfig(adapter_size=16, num_attention_heads=4)
    KAdapterModel.from_pretrained(DEMO_BACKBONE, adapters={"kg": config}).save_adapter(folder / "kg", "kg")
    return folder


@pytest.mark.slow
def test_a_comparison_runs_all_settings_goes_on_and_tells_of_failed_runs(own, tmp_path, capsys):
    command = ["bash", str(ROOT / "run_finetune_classification_adapter.sh"), f"--data_dir={own}"]
    command += [f"--model_name_or_path={DEMO_BACKBONE}", "--max_steps=2", "--per_gpu_train_batch_size=4"]
    command += [f"--adapter=kg={own / 'kg'}", "--max_seq_length=16"]
    arguments = [f"--output={tmp_path}", "--seeds=1", "--workers=2", "--", *command]
    with pytest.raises(ChildProcessError, match="3 of 3 runs failed, such as none with seed 1"):
        compare.main([*arguments, "--no_such_flag"])
    sentences = compare.main(arguments)
    assert len(sentences) == 1
    table = capsys.readouterr().out
    assert all(f"| {name} |" in table for name in ("none", "untrained", "kg"))
    first = json.loads((tmp_path / "comparison.json").read_text())
    assert [one["setting"] for one in first["settings"]] == ["none", "untrained", "kg"]
    assert (tmp_path / "comparison.png").stat().st_size > 1000
    (report,) = (tmp_path / "runs" / "kg" / "seed-1").glob("*/metrics.json")
    seconds = json.loads(report.read_text())["seconds"]
    compare.main(arguments)
    assert json.loads(report.read_text())["seconds"] == seconds  # nothing was trained again
    assert json.loads((tmp_path / "comparison.json").read_text()) == first
