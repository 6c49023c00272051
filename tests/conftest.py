"""What several test files share: golden numbers, tiny models, the scripts as modules."""

import csv
import importlib.util
import json
import os
import signal
import sys
import zlib
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, RobertaConfig, RobertaModel

from kadapter import AdapterConfig, KAdapterConfig, KAdapterModel
from kadapter.console import Parser

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"
DEMO_BACKBONE = ROOT / "pretrained_models" / "roberta-demo"

torch.set_num_threads(1)  # threads that wait for each other make tiny models 20 times slower on a busy machine


def slow(*values):
    """A parameter of the slow suite."""
    return pytest.param(*values, marks=pytest.mark.slow)


def fast(chosen, values):
    """Parameters of which the chosen ones are of the fast suite, where they stand for all others of the same kind."""
    return [value if value in chosen else slow(*value) if isinstance(value, tuple) else slow(value) for value in values]


# Every program.
EXAMPLES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").glob("*.py"))
SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "scripts").glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
    and path.stem != "lowest_versions"  # runs before kadapter is installed
)


def load_script(path: str):
    """A file of scripts/ or examples/ as a module, since neither is a package."""
    folder = str((ROOT / path).parent)
    if folder not in sys.path:
        sys.path.append(folder)  # as Python does for a script; worker processes find it by name there, so it stays
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parser_of(path, monkeypatch):
    """The parser that a program makes."""
    found = []

    def caught(self, *args, **kwargs):
        found.append(self)
        raise SystemExit

    monkeypatch.setattr(Parser, "parse_args", caught)
    with pytest.raises(SystemExit):
        load_script(path).main([])
    return found[0]


def golden_json(name: str):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def golden_state(kind: str, salt: str = "") -> dict[str, torch.Tensor]:
    """The reference's weights, which tests/golden/README.md makes from the parameters' names; not to be changed."""
    return {
        name: _golden_tensor(salt + name, tuple(shape)) for name, shape in golden_json("state_dict_keys")[kind].items()
    }


@cache  # the modules share most of their weights, and drawing them takes longer than using them
def _golden_tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    value = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape) * 0.02
    return torch.from_numpy(np.asarray(value + ("LayerNorm.weight" in name), dtype=np.float32))


def golden_config(adapters=("fac", "lin"), fusion_mode="concat", head=None, **adapter) -> KAdapterConfig:
    backbone = RobertaConfig(
        vocab_size=300,
        hidden_size=1024,
        num_hidden_layers=3,
        num_attention_heads=16,
        intermediate_size=256,
        max_position_embeddings=80,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config = AdapterConfig(
        adapter_list=(0, 1, 2),
        attend_padding=True,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **adapter,
    )
    return KAdapterConfig(
        backbone_config=backbone, adapters=dict.fromkeys(adapters, config), fusion_mode=fusion_mode, head=head
    )


@pytest.fixture(scope="session")
def golden():
    """Everything in tests/golden/models.npz, as tensors."""
    with np.load(GOLDEN / "models.npz") as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays}


@pytest.fixture(scope="session")
def golden_weights():
    """The reference's weights by module, made once for the session."""
    return {
        "backbone": golden_state("backbone"),
        "fac": golden_state("fac_pretrain", "fac:"),
        "lin": golden_state("lin_pretrain", "lin:"),
    }


@pytest.fixture
def tiny_backbone_config() -> RobertaConfig:
    return RobertaConfig(
        vocab_size=120,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=80,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )


# With one transformer layer in each adapter layer: tests of other things spend most of their time on building layers.
TINY_ADAPTER = AdapterConfig(
    adapter_list=(0, 1, 2), adapter_size=16, adapter_transformer_layers=1, num_attention_heads=2, intermediate_size=24
)


@pytest.fixture
def tiny_model(tiny_backbone_config) -> KAdapterModel:
    """Two adapters whose projections are large enough to matter (a fresh adapter is nearly the identity)."""
    torch.manual_seed(0)
    config = KAdapterConfig(backbone_config=tiny_backbone_config, adapters={"fac": TINY_ADAPTER, "lin": TINY_ADAPTER})
    model = KAdapterModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.adapters.named_parameters():
            if "project.weight" in name:
                parameter.normal_(std=0.3)
    return model


@pytest.fixture(scope="session")
def tokenizer():
    """The demo backbone's own tokenizer (2,000 pieces)."""
    return AutoTokenizer.from_pretrained(DEMO_BACKBONE)


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory, tokenizer) -> Path:
    """A folder with a random RoBERTa of 4 layers and 32 units, without dropout, and its tokenizer."""
    folder = tmp_path_factory.mktemp("backbone")
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=130,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=tokenizer.pad_token_id,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    RobertaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """The demo world, small."""
    folder = tmp_path_factory.mktemp("world")
    load_script("scripts/make_demo_data.py").main(
        [
            "--output_dir",
            str(folder),
            "--entities_per_type",
            "6",
            "--facts_per_relation",
            "2",
            "--trees",
            "100",
            "--backbone_lines",
            "100",
        ]
    )
    lines = (folder / "backbone" / "text.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    for split, part in (("train", lines[:80]), ("dev", lines[80:])):
        path = folder / "text" / f"{split}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(part), encoding="utf-8")
    for split in ("train", "dev", "test"):
        write_own_data(folder, split)
    return folder


def write_own_data(folder: Path, split: str) -> None:
    """Texts with labels, with spans, and with questions for these, of what OpenEntity has in the demo world."""
    rows = json.loads((folder / "OpenEntity" / f"{split}.json").read_text(encoding="utf-8"))
    for name in ("classification", "tagging", "squad"):
        (folder / name).mkdir(exist_ok=True)
    with (folder / "classification" / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["text", "label"])
        table.writerows([row["sent"], row["labels"][0]] for row in rows)
    with (folder / "tagging" / f"{split}.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            span = {"start": row["start"], "end": row["end"], "label": row["labels"][0]}
            file.write(json.dumps({"text": row["sent"], "entities": [span]}) + "\n")
    questions = [
        {
            "id": f"{split}-{i}",
            "question": f"Which {row['labels'][0]} is it?",
            "answers": [{"text": row["sent"][row["start"] : row["end"]], "answer_start": row["start"]}],
            "context": row["sent"],
        }
        for i, row in enumerate(rows)
    ]
    articles = [{"title": "", "paragraphs": [{"context": one.pop("context"), "qas": [one]}]} for one in questions]
    official = {"version": "1.1", "data": articles}
    (folder / "squad" / f"{split}-v1.1.json").write_text(json.dumps(official), encoding="utf-8")


@pytest.fixture(autouse=True, scope="session")
def _features_cache(tmp_path_factory):
    """Feature stores of tests go to a folder of their own."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("features")


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_disks():
    """`fsync` is for power cuts, which no test makes: what a killed process wrote is there without it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def unpainted(monkeypatch):
    """Pictures are drawn, but not painted, which takes most of the time of who writes them beside something else."""

    def savefig(self, place, format, **options):
        Path(place).write_bytes({"png": b"\x89PNG", "pdf": b"%PDF"}[format])

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)


@pytest.fixture
def terminated(monkeypatch):
    """A block whose training is told to end, by SIGTERM, in an optimizer step."""
    from kadapter.training import loop

    @contextmanager
    def call(step=3):
        real, calls = loop._accumulate, []

        def accumulate(*args):
            calls.append(1)
            if len(calls) == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(loop, "_accumulate", accumulate)
            with pytest.raises(SystemExit) as stopped:
                yield
        assert stopped.value.code == 143

    return call


@pytest.fixture
def backbone_rows(monkeypatch):
    """How many sequences went through the backbone in each of its calls."""
    rows, real = [], RobertaModel.forward

    def forward(self, input_ids, *args, **kwargs):
        rows.append(len(input_ids))
        return real(self, input_ids, *args, **kwargs)

    monkeypatch.setattr(RobertaModel, "forward", forward)
    return rows


# The demo world's folder for each recipe, by the recipe's module name.
DATA = {
    "run_pretrain_fac_adapter": "trex-rc",
    "run_pretrain_lin_adapter": "find_head",
    "run_pretrain_mlm_adapter": "text",
    "run_pretrain_multitask": "",  # which holds the folders of both tasks
    "run_finetune_openentity_adapter": "OpenEntity",
    "run_finetune_figer_adapter": "FIGER",
    "run_finetune_tacred_adapter": "TACRED",
    "run_finetune_semeval_adapter": "semeval2010_task8",
    "run_finetune_cosmosqa_adapter": "cosmosQA",
    "run_finetune_classification_adapter": "classification",
    "run_finetune_tagging_adapter": "tagging",
    "run_finetune_searchqa_adapter": "questions",
    "run_finetune_quasart_adapter": "questions",
    "run_finetune_squad_adapter": "squad",
}
SMALL = """--do_train --do_eval --learning_rate 1e-3 --per_gpu_train_batch_size 4 --per_gpu_eval_batch_size 16
    --adapter_size 16 --adapter_attention_heads 2 --adapter_transformer_layers 1
    --save_steps 2 --eval_steps 3 --max_seq_length 64 --no_cuda"""


@pytest.fixture
def run(tiny_backbone, world, tmp_path):
    """Calls a recipe's main with small sizes; gives the report and the run's folder."""

    def call(recipe, *flags, steps=6):
        name = recipe.__name__
        output = tmp_path / name / (flags[flags.index("--comment") + 1] if "--comment" in flags else "runs")
        command = [f"--model_name_or_path={tiny_backbone}", f"--data_dir={world / DATA[name]}"]
        command += [f"--output_dir={output}", f"--max_steps={steps}", *SMALL.split()]
        report = recipe.main([*command, *map(str, flags)])
        folder, *_ = [path.parent for path in output.glob("*/args.json")] or [None]  # several with --together
        return report, folder

    call.backbone = tiny_backbone
    return call
