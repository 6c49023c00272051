"""Did the knowledge help? One recipe with and without adapters, over several seeds, with tests of the differences.

    python scripts/compare.py --seeds 42,43,44,45,46 -- bash run_finetune_classification_adapter.sh \\
        --data_dir data/mine --adapter kg=output/kg/best

After -- stands the command of a fine-tuning recipe with the adapters to judge: --adapter name=folder, or
--meta_fac_adaptermodel, --meta_lin_adaptermodel, --meta_et_adaptermodel. Those that a run script brings by itself are
left out. The settings are: none; an untrained frozen adapter of the first one's size, the paper's "w/o knowledge"; each
adapter alone; all together; with --also_frozen the same on a frozen backbone (--freeze_bert behind -- freezes it in all
settings). --control names one of the adapters that holds no knowledge, such as one pretrained on shuffled labels: it is
not among all together, and the others are compared with it too. Where test examples come from the same documents,
--group_by docid draws whole documents in the tests. Writes comparison.md, comparison.json and comparison.png into the
output folder. SIGTERM and Ctrl-C end it and its runs, with a checkpoint each. Started again, finished runs are only
checked and killed ones go on; where several machines share the folder, a run is locked by the machine that is at it.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from paired_tests import Difference, difference, interval_of_seeds, measure_name, read_groups, read_outcomes
from recipe_runs import Job, command_of, run_jobs, seed_list

from kadapter.console import COUNT, Parser, absolute, run
from kadapter.data.jsonio import write_json
from kadapter.data.splits import split_path
from kadapter.pictures import COLUMN, CONTROL, KNOWLEDGE, dots, in_words, name_rows, note, per_cent, picture, scale
from kadapter.storage.files import atomic_files
from kadapter.storage.reading import read_object
from kadapter.training.flags import boolean

logger = logging.getLogger(__name__)
NONE, UNTRAINED, TOGETHER = "none", "untrained", "all together"
NAMED = {"meta_fac_adaptermodel": "fac", "meta_lin_adaptermodel": "lin", "meta_et_adaptermodel": "et"}


@dataclass
class Setting:
    """One way to run the recipe, and what its runs found; lists in the order of the seeds."""

    name: str
    frozen: bool
    flags: list[str]
    scores: list[float] = field(default_factory=list)
    metric: str = ""
    outcomes: list[np.ndarray] = field(default_factory=list)  # [examples, 3 or 1] each
    groups: np.ndarray | None = None  # [examples] with --group_by
    gold: list[Any] = field(default_factory=list)

    @property
    def label(self) -> str:
        return f"{self.name}, frozen" if self.frozen else self.name

    @property
    def folder(self) -> str:
        return self.label.replace(", ", "-").replace(" ", "-")


def split_recipe(recipe: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command without its adapters, and the adapters: name -> place.

    Raises:
        ValueError: no adapter, a name twice or one that settings have, or a flag that the comparison sets itself.
    """
    rest: list[str] = []
    adapters: dict[str, str] = {}
    words = iter(recipe)
    for word in words:
        flag, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and flag in {"seed", "output_dir", "untrained"}:
            raise ValueError(f"--{flag} stands behind --, but the comparison sets it itself; leave it out.")
        if not word.startswith("--") or flag not in {"adapter", *NAMED}:
            rest.append(word)
            continue
        value = value if equals else next(words, "")
        name, _, place = value.partition("=") if flag == "adapter" else (NAMED[flag], "=", value)
        if not place and flag in NAMED:
            continue  # "" is none
        if not name or not place or name in {*adapters, NONE, UNTRAINED}:
            raise ValueError(f"--{flag} is {value!r}; write name=place, with a name of its own beside none, untrained.")
        adapters[name] = place
    if not adapters:
        raise ValueError("no adapter stands behind --; add --adapter name=folder for each one to judge.")
    return rest, adapters


def is_frozen(recipe: Sequence[str]) -> bool:
    """Whether the command asks for a frozen backbone by itself, in any way that the recipes read."""
    parser = Parser(add_help=False)
    parser.add_argument("--freeze_bert", type=boolean, nargs="?", const=True, default=False)
    return parser.parse_known_args(recipe)[0].freeze_bert


def without_cache(recipe: Sequence[str]) -> list[str]:
    """The command without flags of cached states, which are those of a frozen backbone."""
    rest, words = list[str](), iter(recipe)
    for word in words:
        flag, equals, _ = word.partition("=")
        if flag not in ("--cache_states", "--cache_dtype", "--cache_max_gb"):
            rest.append(word)
        elif not equals:
            next(words, None)  # its value
    return rest


def settings_of(adapters: Mapping[str, str], frozen: Sequence[bool], control: str = "") -> list[Setting]:
    """All settings for each of `frozen`. Adapters that the run script brings are switched off by empty flags.

    Args:
        control: the adapter, if any, that holds no knowledge.
    """
    without = [f"--{flag}=" for flag in NAMED]
    first = next(iter(adapters.values()))
    found = {NONE: [], UNTRAINED: [f"--untrained={UNTRAINED}={first}"]}
    found |= {name: [f"--adapter={name}={place}"] for name, place in adapters.items()}
    judged = [f"--adapter={name}={place}" for name, place in adapters.items() if name != control]
    if len(judged) > 1:
        found[TOGETHER] = judged
    return [
        Setting(name, stays, [*without, *flags, *(["--freeze_bert=True"] if stays else [])])
        for stays in frozen
        for name, flags in found.items()
    ]


def run_all(settings: Sequence[Setting], seeds: Sequence[int], recipe: Sequence[str], args: argparse.Namespace) -> None:
    """Run each setting with each seed and read what it found.

    Raises:
        ChildProcessError: runs failed; all others are done.
    """
    runs = [(setting, seed) for seed in seeds for setting in settings]  # a part of them is a comparison already
    jobs = []
    for setting, seed in runs:
        words = recipe if setting.frozen else without_cache(recipe)
        command = command_of([*words, *setting.flags], {"seed": str(seed)})
        folder = args.output / "runs" / setting.folder / f"seed-{seed}"
        jobs.append(Job(f"{setting.label} with seed {seed}", command, folder))
    for (setting, _), (folder, report) in zip(runs, run_jobs(jobs, args.gpus, args.workers), strict=True):
        _take(setting, folder, report, args.split, args.group_by)


def _take(setting: Setting, folder: Path, report: dict[str, Any], split: str, group_by: str) -> None:
    """Score and outcomes of a run, whose test examples must be those of all others."""
    metric = report["metric"]
    if metric not in report.get(split, {}):
        raise ValueError(f"{folder / 'metrics.json'} has no {split} {metric}; choose a labelled split by --split.")
    outcomes, gold = read_outcomes(folder / f"predictions_{split}.jsonl")
    if setting.gold and setting.gold != gold:
        raise ValueError(f"{folder} was tested on other examples than the runs beside it; give another --output.")
    setting.scores.append(report[split][metric])
    setting.metric, setting.gold = metric, gold
    setting.outcomes.append(outcomes)
    if group_by and setting.groups is None:
        data = read_object(folder / "args.json", "run it again.", ["arguments"])["arguments"]["data_dir"]
        setting.groups = read_groups(split_path(data, split), group_by, [record for record, _ in gold])


def bases_of(name: str, control: str) -> list[str]:
    """What a setting is compared with: those before it in none, untrained and the control, if there is one."""
    bases = [NONE, UNTRAINED, *[control] * bool(control)]
    return bases[: bases.index(name)] if name in bases else bases


def differences(
    settings: Sequence[Setting], control: str = "", grouped: bool = True
) -> dict[str, dict[str, Difference]]:
    """Label of each setting -> base (see `bases_of`) -> difference.

    Args:
        grouped: test by groups, where settings have them.
    """
    by_label = {setting.label: setting for setting in settings}
    found: dict[str, dict[str, Difference]] = {}
    for setting in settings:
        for name in bases_of(setting.name, control):
            base = by_label[Setting(name, setting.frozen, []).label]
            if base.gold != setting.gold:
                raise ValueError(f"{setting.label} and {base.label} were tested on other examples; start anew.")
            sides = (np.stack(base.outcomes), np.stack(setting.outcomes))
            found.setdefault(setting.label, {})[name] = difference(*sides, setting.groups if grouped else None)
    return found


def verdict(settings: Sequence[Setting], found: Mapping[str, Mapping[str, Difference]], control: str = "") -> list[str]:
    """One sentence for each setting with adapters that hold knowledge."""
    return [
        f"{setting.label}: {_said(found[setting.label])}."
        for setting in settings
        if setting.name not in (NONE, UNTRAINED, control)
    ]


def _said(against: Mapping[str, Difference]) -> str:
    """What the differences from none and from the controls show; of two controls the stronger one counts."""
    none, name = against[NONE], min(against.keys() - {NONE}, key=lambda base: against[base].points)
    control, title = against[name], f"the {name} control"
    if all(one.shown and one.points > 0 for one in against.values()):
        return f"helps: {_points(control)} beyond {title}, {_points(none)} beyond none"
    if control.shown and control.points < 0:
        return f"harms: {_points(control)} against {title}"
    if none.shown and none.points < 0:
        beside = "ahead of" if control.shown else "no difference shown from"
        return f"harms: {_points(none)} against none, though {beside} {title}"
    if none.shown and none.points > 0:
        return f"is ahead of none by {_points(none)}, but no difference from {title} is shown"
    return f"no difference shown from {title if not control.shown else 'none'}"


def _points(found: Difference) -> str:
    unit = "" if found.measure == "mean absolute error" else " points"
    return f"{found.points:+.2f}{unit} [{found.low:+.2f}, {found.high:+.2f}]"


def markdown(
    settings: Sequence[Setting], found: Mapping[str, Mapping[str, Difference]], args: argparse.Namespace
) -> str:
    """The table, with what its columns mean."""
    bases, split = bases_of("", args.control), args.split
    metric, measure = settings[0].metric, measure_name(settings[0].outcomes[0])
    lines = [
        f"| setting | {split} {metric} | 95 % of the mean |" + "".join(f" against {base} | p |" for base in bases),
        "|---|---|---|" + "---|---|" * len(bases),
    ]
    for setting in settings:
        scores = 100 * np.array(setting.scores)
        spread = f" ± {scores.std(ddof=1):.2f}" if len(scores) > 1 else ""
        half = interval_of_seeds(list(scores))
        cells = [f"{scores.mean():.2f}{spread}", "–" if np.isnan(half) else f"± {half:.2f}"]
        for base in bases:
            one = found.get(setting.label, {}).get(base)
            cells += [f"{one.points:+.2f} [{one.low:+.2f}, {one.high:+.2f}]", f"{one.p_value:.4f}"] if one else ["", ""]
        lines.append(f"| {setting.label} | {' | '.join(cells)} |")
    count, examples, groups = len(settings[0].scores), len(settings[0].gold), settings[0].groups
    drawn = "examples" if groups is None else f"their {groups.max() + 1} groups of one {args.group_by}"
    lines += [
        "",
        f"{metric}: mean ± deviation of {count} seeds, per cent; the 95 % interval is that of the mean over seeds "
        "(Student's t).",
        f"Differences: {measure} of the {examples} examples' outcomes, averaged over seeds; 95 % interval by paired "
        f"bootstrap over {drawn}; p by a two-sided permutation test. No correction for several comparisons.",
    ]
    return "\n".join(lines)


def plot(settings: Sequence[Setting], split: str, control: str, path: Path, temporary: Callable[[Path], Path]) -> None:
    """A dot for each seed, a line at the mean."""
    with picture(path, 1.4 * COLUMN, 0.28 * len(settings) + 0.8, temporary) as (figure, panels):
        axes = panels[0, 0]
        for row, setting in enumerate(settings):
            colour = CONTROL if setting.name in (NONE, UNTRAINED, control) else KNOWLEDGE
            dots(axes, row, 100 * np.array(setting.scores), colour)
        name_rows(axes, [in_words(setting.label) for setting in settings])
        drawn = [100 * score for setting in settings for score in setting.scores]
        scale(axes, "x", per_cent(f"{split} {settings[0].metric}"), drawn, top=100 if max(drawn) <= 100 else None)
        note(figure, f"dot: a seed; line: the mean of {len(settings[0].scores)}")


def write(settings: Sequence[Setting], args: argparse.Namespace) -> list[str]:
    """Print and write table, numbers and plot; the sentences of the verdict."""
    found = differences(settings, args.control)
    sentences = verdict(settings, found, args.control)
    text = "\n".join([markdown(settings, found, args), "", *sentences])
    tests = {"against": found}
    if args.group_by:
        tests["against_by_example"] = differences(settings, args.control, grouped=False)
    rows = [
        {"setting": setting.label, "metric": setting.metric, "scores": setting.scores}
        | {
            name: {base: asdict(one) for base, one in test.get(setting.label, {}).items()}
            for name, test in tests.items()
        }
        for setting in settings
    ]
    with atomic_files("the comparison") as temporary:
        temporary(args.output / "comparison.md").write_text(text + "\n", encoding="utf-8")
        write_json(
            temporary(args.output / "comparison.json"), {"seeds": args.seeds, "settings": rows, "verdict": sentences}
        )
        plot(settings, args.split, args.control, args.output / "comparison.png", temporary)
    print(text)
    return sentences


def main(argv: list[str] | None = None) -> list[str]:
    parser = Parser(__doc__)
    parser.add_argument(
        "--output", type=absolute, default="output/compare", help="folder for the runs and the comparison"
    )
    parser.add_argument(
        "--seeds", type=seed_list, default="42,43,44,45,46", help="seeds of the runs, with commas between them"
    )
    parser.add_argument("--split", default="test", help="the labelled split whose predictions are compared")
    parser.add_argument(
        "--control", default="", help="name of the adapter, among those behind --, that holds no knowledge"
    )
    parser.add_argument(
        "--group_by", default="", metavar="COLUMN", help="of the split's file: what has the same value is drawn as one"
    )
    parser.add_argument("--also_frozen", action="store_true", help="also compare with a frozen backbone")
    parser.add_argument("--workers", type=COUNT, default=1, help="runs at a time; with --gpus: one for each GPU")
    parser.add_argument("--gpus", default="", help='GPUs that runs are given, such as "0,1"')
    parser.add_argument("recipe", nargs=argparse.REMAINDER, help="-- and the command of the recipe")
    args = parser.parse_args(argv)
    command = args.recipe[1:] if args.recipe[:1] == ["--"] else args.recipe
    if not command:
        parser.error("give the command of the recipe after --.")
    try:
        recipe, adapters = split_recipe(command)
        if args.control and (args.control not in adapters or len(adapters) < 2):
            raise ValueError(f"--control is {args.control!r}; name one of the adapters behind --, beside others.")
        frozen = [True] if is_frozen(recipe) else [False, True] if args.also_frozen else [False]
    except (ValueError, argparse.ArgumentTypeError) as error:
        parser.error(str(error))
    settings = settings_of(adapters, frozen, args.control)
    args.output.mkdir(parents=True, exist_ok=True)
    run_all(settings, args.seeds, recipe, args)
    return write(settings, args)


if __name__ == "__main__":
    run(main)
