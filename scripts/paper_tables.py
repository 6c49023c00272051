"""The tables of K-Adapter's paper and of Adapter-BERT's as runs: which commands make which published line.

Flags are the best that the paper or the original's README names for that line; where none are named for it, those of
the lines beside it stand in, which `remarks` say.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compare import NAMED

ROOT = Path(__file__).resolve().parent.parent
ROBERTA, CONTROL, FAC, LIN, BOTH = (
    "RoBERTa",
    "K-Adapter without knowledge",
    "K-Adapter F",
    "K-Adapter L",
    "K-Adapter F+L",
)
MULTITASK = "RoBERTa + multitask"
FULL, TOP = "Full fine-tuning", "Top layer"
TASKS_OF_GLUE = ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE")
TRAINED = "share of the parameters that is trained"
OTHERS = "another system, which this project does not train"


@dataclass(frozen=True)
class Line:
    """One way to run a published line.

    row: its name in published.json, without its source.
    variant: tells it from other ways to the same line, of which the best on dev is taken; "" where there is one.
    run: the folder of its runs, where lines share them; "" takes its own.
    """

    row: str
    flags: Sequence[str]
    variant: str = ""
    run: str = ""

    @property
    def name(self) -> str:
        return f"{self.row}, {self.variant}" if self.variant else self.row

    @property
    def folder(self) -> str:
        return re.sub(r"[^\w.+-]+", "-", self.run or self.name)


@dataclass(frozen=True)
class View:
    """Where in published.json an experiment's scores stand, and which of ours stand beside them.

    task, split: there. ours: the split of a run. metrics: published metric -> ours, or `TRAINED`; None: they are called
    alike. why: why nothing of ours can stand beside them; "" where it can.
    """

    task: str
    split: str
    ours: str
    metrics: Mapping[str, str] | None = None
    why: str = ""

    def of_ours(self, metric: str) -> str | None:
        """Our name of a published metric; None where it is not of this experiment."""
        return metric if self.metrics is None else self.metrics.get(metric)


@dataclass(frozen=True)
class Experiment:
    """One data set of a table.

    command: that of its recipe, to which a line's flags are added.
    source, folder: in sources.json, and where its data must be.
    """

    name: str
    command: Sequence[str]
    source: str
    folder: Path
    lines: Sequence[Line]
    views: Sequence[View]


@dataclass(frozen=True)
class Table:
    """A table that can be run.

    make: its experiments for given arguments; () where it is asked by probe_lama.py.
    adapters: whether the authors' adapters are needed. backbone: the default.
    remarks: what must be known beside its numbers, whole sentences.
    not_here: published line -> why it is not run.
    """

    title: str
    make: Callable[[argparse.Namespace], Sequence[Experiment]]
    published: Sequence[str]
    remarks: Sequence[str] = ()
    adapters: bool = False
    backbone: str = "roberta-large"
    not_here: Mapping[str, str] | None = None


# -- K-Adapter ----------------------------------------------------------------------------------------------------


def _knowledge(
    args: argparse.Namespace,
    name: str,
    folder: str,
    flags: str,
    views: Sequence[View],
    own: Mapping[str, str] | None = None,
) -> Experiment:
    """The lines of a table of the paper; `own`: flags of some of them alone."""
    fac, lin = f"--meta_fac_adaptermodel={args.fac}", f"--meta_lin_adaptermodel={args.lin}"
    rows = {ROBERTA: [], CONTROL: [f"--untrained=untrained={args.fac}"], FAC: [fac], LIN: [lin], BOTH: [fac, lin]}
    without = [f"--{flag}=" for flag in NAMED]
    model = f"--model_name_or_path={args.model_name_or_path}"
    lines = [Line(row, [model, *without, *(own or {}).get(row, "").split(), *more]) for row, more in rows.items()]
    if args.multitask:
        lines.append(Line(MULTITASK, [f"--model_name_or_path={args.multitask}", *without]))
    data = args.data / folder
    script = ROOT / f"run_finetune_{name}_adapter.sh"
    command = ["bash", str(script), *flags.split(), f"--data_dir={data}"]
    return Experiment(name, command, name, data, lines, views)


def _typing(args: argparse.Namespace) -> list[Experiment]:
    openentity = [
        View("openentity", split, ours) for split, ours in (("test", "test"), ("dev", "dev"), ("ablation", "test"))
    ]
    figer = [View("figer", split, "test") for split in ("test", "ablation")]
    rate, warmup = "--learning_rate 5e-6 --warmup_steps", "--learning_rate 5e-6 --warmup_steps 1000"
    return [
        _knowledge(args, "openentity", "OpenEntity", f"{rate} 500", openentity, {LIN: "--warmup_steps=1000"}),
        _knowledge(args, "figer", "FIGER", f"{warmup} --gradient_accumulation_steps 512", figer),
    ]


def _answering(args: argparse.Namespace) -> list[Experiment]:
    commonsense = [View("cosmosqa", "dev", "dev"), View("cosmosqa", "test", "test", why=_ON_TEST)]
    return [
        _knowledge(args, "cosmosqa", "cosmosQA", "--gradient_accumulation_steps 32", commonsense),
        _knowledge(args, "searchqa", "searchqa", "", [View("searchqa", "test", "test")]),
        _knowledge(args, "quasart", "quasart", "", [View("quasart", "test", "test")]),
    ]


def _relations(args: argparse.Namespace) -> list[Experiment]:
    views = [View("tacred", "test", "test"), View("tacred", "dev", "dev")]
    return [_knowledge(args, "tacred", "TACRED", "--learning_rate 1e-5 --warmup_steps 200", views)]


# -- Adapter-BERT -------------------------------------------------------------------------------------------------


def _classifier(args: argparse.Namespace, task: str, lines: Sequence[Line], views: Sequence[View]) -> Experiment:
    model, data = f"--init_checkpoint={args.model_name_or_path}", args.data / "glue" / task
    script = str(ROOT / "run_glue_adapter.sh")
    command = ["bash", script, f"--task_name={task}", f"--data_dir={data}", model, "--evaluate_during_training=False"]
    return Experiment(task, command, "glue", data, lines, views)


def _sized(row: str, sizes: Sequence[int], epochs: Sequence[int]) -> list[Line]:
    """Bottlenecks, each size with each number of epochs."""
    return [
        Line(
            row,
            ["--bottleneck_size", str(size), "--num_train_epochs", str(number)],
            ", ".join([f"size {size}"] * (len(sizes) > 1) + [f"{number} epochs"] * (len(epochs) > 1)),
            f"adapters {size}, {number} epochs",
        )
        for size in sizes
        for number in epochs
    ]


def _full(row: str, epochs: int = 3) -> Line:
    """All parameters, as BERT was fine-tuned; bias correction and decay as in adapter-bert."""
    return Line(row, ["--bottleneck_size", "0", "--learning_rate", "2e-5", "--num_train_epochs", str(epochs)])


def _part(row: str, layers: str) -> Line:
    """A part of the backbone, or the head alone."""
    part = ["--train_layers", layers] if layers else ["--freeze_bert"]
    return Line(row, ["--bottleneck_size", "0", *part, "--num_train_epochs", "20"])


def _glue(args: argparse.Namespace) -> list[Experiment]:
    own = {"CoLA": "matthews", "MRPC": "f1", "STS-B": "spearman", "QQP": "f1"}
    found = []
    for task in TASKS_OF_GLUE:
        columns = [(task, "dev")] if task != "MNLI" else [("MNLI-m", "dev"), ("MNLI-mm", "dev_mismatched")]
        views = [View("glue", "test", split, {name: own.get(task, "accuracy")}) for name, split in columns]
        views += [View("glue", "parameters", "dev", {"trained": TRAINED})] * (task == TASKS_OF_GLUE[0])
        lines = [
            _full("BERT-large"),
            *_sized("Adapters 8-256", (8, 64, 256), (3, 20)),
            *_sized("Adapters 64", (64,), (3, 20)),
        ]
        found.append(_classifier(args, task, lines, views))
    return found


def _mrpc(args: argparse.Namespace) -> list[Experiment]:
    return [_classifier(args, "MRPC", [Line("MRPC, BERT-base, adapters 64", [])], [View("glue", "dev", "dev")])]


def _tradeoff(args: argparse.Namespace) -> list[Experiment]:
    lines = [_full(FULL), *(line for n in range(10) for line in _sized(f"Adapters {2**n}", (2**n,), (20,)))]
    last = 11  # of BERT-base's layers, from 0
    tops = {TOP: last, **{f"Top {count} layers": last - count + 1 for count in (2, 3, 5, 7, 9, 11)}}
    lines += [_part(name, f"{first}-{last}") for name, first in tops.items()]
    lines += [_part("LayerNorm alone", "norms"), _part("Head alone", "")]
    views = {"MNLI": [View("mnli", "dev", "dev")], "CoLA": [View("cola", "dev", "dev")]}
    return [_classifier(args, task, lines, views[task]) for task in views]


def _squad(args: argparse.Namespace) -> list[Experiment]:
    data = args.data / "squad"
    model = f"--model_name_or_path={args.model_name_or_path}"
    command = ["bash", str(ROOT / "run_finetune_squad_adapter.sh"), f"--data_dir={data}", model]
    sizes = [Line(f"Adapters {size}", ["--bottleneck_size", str(size), "--learning_rate", "3e-4"]) for size in (64, 2)]
    lines = [Line(FULL, ["--learning_rate", "3e-5"]), *sizes]
    return [Experiment("squad", command, "squad", data, lines, [View("squad", "dev", "dev")])]


CHOSEN = "Published are single runs that were chosen on dev; ours is the mean over seeds, of one setting for each line."
_MULTITASK = "give --multitask BACKBONE, which run_pretrain_multitask.sh makes"
_ON_TEST = "the labels of test are kept back; add -- --do_test and hand predictions.lst in"
TABLES: dict[str, Table] = {
    "2": Table(
        "K-Adapter, table 2: entity typing",
        _typing,
        ("openentity", "figer"),
        (
            CHOSEN,
            "OpenEntity: rate and warm-up are the README's for F (500) and L (1000), F's too where it names none.",
            "FIGER: rate, warm-up and the 2,048 examples a step are the paper's.",
            "The paper's precision without knowledge on OpenEntity (74.47) does not fit its F1 (76.17); 77.47 would.",
        ),
        adapters=True,
        not_here={MULTITASK: _MULTITASK},
    ),
    "3": Table(
        "K-Adapter, table 3: question answering",
        _answering,
        ("cosmosqa", "searchqa", "quasart"),
        (
            CHOSEN,
            "CosmosQA: only the README's dev score of F+L can stand beside ours; test is scored by a leaderboard.",
            "SearchQA and Quasar-T: the authors' code for these was never published (docs/deviations.md).",
        ),
        adapters=True,
        not_here={MULTITASK: _MULTITASK},
    ),
    "4": Table(
        "K-Adapter, table 4: relations of TACRED",
        _relations,
        ("tacred",),
        (
            CHOSEN,
            "The README does not say of which adapters its best rate and warm-up are. As published on 4 GPUs: NGPU=4.",
        ),
        adapters=True,
        not_here={MULTITASK: _MULTITASK},
    ),
    "lama": Table(
        "K-Adapter: LAMA and LAMA-UHN, P@1",
        lambda args: (),
        ("lama",),
        (
            "How the authors put the head on K-Adapter is not public: each way of probe_lama.py is reported.",
            "Test sets depend on the models' common vocabulary, and are those of the models asked together.",
        ),
        adapters=True,
        not_here=dict.fromkeys(("ELMo", "ELMo 5.5B", "Transformer-XL"), "no masked language model of transformers"),
    ),
    "glue": Table(
        "Adapter-BERT, table 1: GLUE",
        _glue,
        ("glue",),
        (
            "Published are scores of GLUE's server on test, of the best of 5 seeds and of a sweep; ours are means on "
            "dev. Add -- --do_predict for the server's files. The total is the server's.",
            "The paper tries the rates 3e-5, 3e-4 and 3e-3; runs have 3e-4, or what you give after --.",
        ),
        backbone="bert-large-uncased",
    ),
    "mrpc": Table(
        "Adapter-BERT's README: MRPC",
        _mrpc,
        (),
        ("Published is one run, which the README says may deviate by 2 points.",),
        backbone="bert-base-uncased",
    ),
    "tradeoff": Table(
        "Adapter-BERT, figure 4: score by share of trained parameters, MNLI-m and CoLA",
        _tradeoff,
        ("mnli",),
        (
            "The figure's points are drawn in the paper, not printed; its text names three for MNLI-m. Runs have one "
            "rate, 3e-4, and 20 epochs; the paper chose the best of several.",
        ),
        backbone="bert-base-uncased",
    ),
    "squad": Table(
        "Adapter-BERT, figure 5: SQuAD 1.1",
        _squad,
        ("squad",),
        ("The paper chose rate and epochs for each size, and does not say there which BERT it took.",),
        backbone="bert-large-uncased",
    ),
}
# Published tables that nothing here can run.
IMPOSSIBLE = {
    "texts": "Adapter-BERT, table 2 (17 sets of texts): their splits were drawn by the authors and are not given out; "
    "run_finetune_classification_adapter.sh takes any one of them that you have as a table",
}
