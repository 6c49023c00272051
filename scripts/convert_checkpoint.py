"""Turn checkpoints of the original K-Adapter into ours and back, so that it can load what we trained.

    python scripts/convert_checkpoint.py --to kadapter --input pretrained_models/fac-adapter --output fac-adapter \\
        --adapter_list 0,11,22 --attend_padding
    python scripts/convert_checkpoint.py --to original --input output/<run>/best --output for-the-original

What `--input` holds is told by its names:

    the original's                                                  ours
    .bin of a pretrained adapter, or its folder                     adapter_{config.json,model.safetensors},
                                                                    pretraining_head.safetensors
    RobertaModelwithAdapter: config.json, pytorch_model.bin         a RobertawithAdapter's folder
    a task's model: the same and pytorch_pretrained_model.bin       a TaskModel's folder

The original's files do not tell taps, skip and heads of adapters: give them where they are not the defaults, and
`--attend_padding` where features must be the original's on padded batches too (its adapters see padding; ours do
not, unless told). Converting there and back gives every weight that a model reads bit for bit; fusion layers that
the original builds but never reads come back as zeros.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import RobertaConfig

from kadapter import (
    AdapterConfig,
    HeadConfig,
    KAdapterConfig,
    KAdapterModel,
    RobertawithAdapter,
    TaskModel,
    load_original,
)
from kadapter.console import COUNT, Number, Parser, absolute, run
from kadapter.data.labels import read_labels
from kadapter.models.adapter import KnowledgeAdapter
from kadapter.storage import checkpoint as ck
from kadapter.storage import original
from kadapter.storage.files import atomic_folder
from kadapter.storage.pretrained import read_config
from kadapter.storage.reading import read_object
from kadapter.tasks.multiple_choice import CHOICES

ADAPTER_NAMES = ("fac", "lin")  # what the original's models call their adapters, in the order of its fusion
NESTED_HEAD = "multiple_choice"  # CosmosQA's, whose fusion is nested in the original


# -- to kadapter ------------------------------------------------------------------------------------------------


def to_kadapter(source: Path, output: Path, args: argparse.Namespace) -> str:
    """Write ours from the original's; returns what it was."""
    state = original.read_original(source)
    given, labels = _adapter_config(state, args), read_labels(args.labels) if args.labels else None
    if not any(name.startswith("model.") for name in state):
        if not any(name.startswith("adapter.") for name in state):
            raise ValueError(
                f"{source} holds neither an adapter of K-Adapter nor a model with its backbone "
                f"({original.ORIGINAL_BACKBONE}); its names begin with {sorted(state)[:3]}."
            )
        return _adapter_to_kadapter(state, source, output, given)
    backbone, head = _backbone_config(source), _head(state, source, labels)
    given = given.resolved(backbone.num_hidden_layers)
    adapters = {
        name: original.original_adapter_config(weights, f"{source} ({name}_adapter)", given)
        for name, weights in _adapters(state, source).items()
    }
    fused = any(re.match("task_dense|com_dense", name) for name in state)
    mode = args.fusion_mode or ("concat" if fused else "add")
    if head is not None and head.kind == NESTED_HEAD:
        mode = f"nested_{mode}"
    config = KAdapterConfig(backbone_config=backbone, adapters=adapters, head=head, fusion_mode=mode)
    model = RobertawithAdapter(config) if head is None else TaskModel(config)
    load_original(model, state)
    model.save_pretrained(output)
    return f"{head.kind if head else 'headless'} model with adapters {list(adapters)}"


def _adapter_to_kadapter(state: ck.State, source: Path, output: Path, given: AdapterConfig) -> str:
    head = {name: value for name, value in state.items() if original.PRETRAINING_HEAD_NAMES.match(name)}
    weights = {name: value for name, value in state.items() if name not in head}
    config = original.original_adapter_config(weights, source, given)
    adapter = _filled_adapter(weights, config, source)
    if config.adapter_list is None and len(adapter.taps) != 3:
        raise ValueError(
            f"{source} has {len(adapter.taps)} adapter layers; name their hidden states with --adapter_list."
        )
    ck.save_adapter(adapter.state_dict(), config, output, head)
    return f"adapter of {len(adapter.taps)} layers, {'with' if head else 'without'} the head of its pretraining"


def _filled_adapter(weights: ck.State, config: AdapterConfig, source: Path) -> KnowledgeAdapter:
    """The adapter as a module, which proves that the file holds all of it and nothing else."""
    layers = sorted({int(name.split(".")[1]) for name in weights if re.match(r"adapter\.\d+\.", name)})
    if "adapter.0.up_project.bias" not in weights:
        raise ValueError(f"{source} holds no adapter of K-Adapter (adapter.0.up_project.bias is missing).")
    taps = config.adapter_list or tuple(layers)
    adapter = KnowledgeAdapter(
        AdapterConfig.from_dict({**config.to_dict(), "adapter_list": taps}),
        hidden_size=len(weights["adapter.0.up_project.bias"]),
    )
    adapter.to(next(iter(weights.values())).dtype)
    ck.load_strict(adapter, weights, source)
    return adapter


def _backbone_config(source: Path) -> RobertaConfig:
    path = (source if source.is_dir() else source.parent) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; copy the config.json of the backbone (roberta-large's) there.")
    values = read_object(path, "copy the config.json of the backbone there.")
    # pytorch_transformers wrote no model_type: all of K-Adapter's models are RoBERTa.
    if values.get("model_type", "roberta") != "roberta":
        raise ValueError(f"{path} is not the configuration of a RoBERTa; copy the config.json of the backbone there.")
    # The original asks its backbone for all states; ours asks for those that are tapped.
    return RobertaConfig.from_dict({**values, "output_hidden_states": False})


def _adapters(state: ck.State, source: Path) -> dict[str, ck.State]:
    """Adapter name -> its weights; the one of a pretraining is named after its task."""
    if any(name.startswith("adapter.") for name in state):
        name = "lin" if any(key.startswith("self_attention.") for key in state) else "fac"
        return {name: {key: value for key, value in state.items() if key.startswith("adapter.")}}
    found = {match[1] for match in (re.match(r"(\w+)_adapter\.adapter\.", name) for name in state) if match}
    if found - set(ADAPTER_NAMES):
        raise ValueError(f"{source} holds adapters {sorted(found)}; the original's models have {list(ADAPTER_NAMES)}.")
    return {
        name: {
            key.removeprefix(f"{name}_adapter."): value
            for key, value in state.items()
            if key.startswith(f"{name}_adapter.adapter.")
        }
        for name in ADAPTER_NAMES
        if name in found
    }


def _head(state: ck.State, source: Path, labels: list[str] | None) -> HeadConfig | None:
    """What the head's names and shapes say; None for a model without one."""
    if "out_proj.weight" not in state or "dense.weight" not in state:
        if "classifier.weight" in state:
            return HeadConfig(NESTED_HEAD, CHOICES)
        if labels:
            raise ValueError(f"{source} has no head, so --labels has nothing to name; leave it out.")
        return None
    width, entering = state["dense.weight"].shape
    kind = "relation" if entering == 2 * width else "entity_typing"
    if any(name.startswith("self_attention.") for name in state):
        kind = "dependency"
    return HeadConfig(kind, len(state["out_proj.weight"]), tuple(labels) if labels else None)


# -- to the original --------------------------------------------------------------------------------------------


def to_original(source: Path, output: Path, args: argparse.Namespace) -> str:
    """Write the original's from ours; returns what it was."""
    if (source / ck.ADAPTER_CONFIG).is_file():
        shape, weights = original.read_adapter(source)
        _filled_adapter(weights, shape, source)
        head = source / ck.PRETRAINING_HEAD
        _write(output, {original.ORIGINAL_WEIGHTS: weights | (ck.read_state_dict(head) if head.is_file() else {})})
        return f"adapter {'with' if head.is_file() else 'without'} the head of its pretraining"
    if not (source / "config.json").is_file():
        raise FileNotFoundError(
            f"{source} has neither {ck.ADAPTER_CONFIG} nor config.json; give an adapter's or a model's folder."
        )
    config = read_config(source)
    if not isinstance(config, KAdapterConfig):
        raise ValueError(f"{source} is a {config.model_type}, not a model of kadapter; give a folder that it saved.")
    _check_known_to_original(config, source)
    backbone = RobertaConfig.from_dict({**config.backbone_config.to_dict(), "output_hidden_states": True})
    if config.head is None:
        rest, weights = original.original_state(KAdapterModel.from_pretrained(source))
        _write(output, {original.ORIGINAL_WEIGHTS: weights | rest}, backbone)
    else:
        model = TaskModel.from_pretrained(source)
        rest, weights = original.original_state(model, pretraining=_is_pretraining(config))
        _write(output, {original.ORIGINAL_WEIGHTS: rest, original.ORIGINAL_BACKBONE: weights}, backbone)
    return f"{config.head['kind']} model" if config.head else "model"


def _is_pretraining(config: KAdapterConfig) -> bool:
    """Whether the original has this as a pretraining (one adapter, `com_dense`) or as a task."""
    one = len(config.adapters) == 1 and config.fusion_mode == "concat"
    return one and config.head_config().kind in ("relation", "dependency")


def _check_known_to_original(config: KAdapterConfig, source: Path) -> None:
    family = config.backbone_config.model_type
    if family != "roberta":
        raise ValueError(f"{source} has a {family} as its backbone; the original knows RoBERTa alone.")
    unknown = [name for name in config.adapters if name not in ADAPTER_NAMES]
    if unknown:
        raise ValueError(
            f"{source} has adapters {unknown}, but the original's models have {list(ADAPTER_NAMES)}; "
            "convert those one by one from their own folders (save_adapter)."
        )
    if config.adapters and config.fusion_mode in ("gate", "attention"):
        raise ValueError(f"{source} has fusion_mode {config.fusion_mode}; the original has concat and add alone.")
    if list(config.adapters) == ["lin", "fac"] and config.fusion_mode.endswith("concat"):
        raise ValueError(
            f"{source} fuses lin before fac, the original fac before lin; load and train them in that order."
        )
    nested = config.fusion_mode.startswith("nested_")
    if config.adapters and nested != bool(config.head and config.head["kind"] == NESTED_HEAD):
        raise ValueError(
            f"{source} has fusion_mode {config.fusion_mode}; the original nests fusion for CosmosQA alone."
        )
    if config.head and config.head["kind"] == "dependency" and not _is_pretraining(config):
        raise ValueError(
            f"{source} has a dependency head on {len(config.adapters)} adapters ({config.fusion_mode}); "
            "the original has it on one, with concat."
        )


def _write(output: Path, files: dict[str, ck.State], config: RobertaConfig | None = None) -> None:
    with atomic_folder(output, replaced=rf"{ck.weights_names()}|{original.ORIGINAL_BACKBONE}") as folder:
        for name, state in files.items():
            # torch 1.3.1, which the original runs on, cannot read the zip format.
            torch.save(state, folder / name, _use_new_zipfile_serialization=False)
        if config is not None:
            config.to_json_file(folder / "config.json", use_diff=False)  # its defaults are not today's


# -- command line -----------------------------------------------------------------------------------------------


def _parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument("--to", choices=("kadapter", "original"), required=True, help="the form to write")
    parser.add_argument("--input", type=absolute, required=True, help="file or folder to read")
    parser.add_argument("--output", type=absolute, required=True, help="folder to write, new or empty")
    group = parser.add_argument_group("what the original's files do not tell (--to kadapter)")
    group.add_argument(
        "--adapter_list",
        default="",
        help='backbone layers whose output the adapter reads (taps), such as "0,11,22"; default: by the depth',
    )
    group.add_argument(
        "--adapter_skip_layers",
        type=Number(int, "[0, inf)"),
        default=0,
        help="--adapter_skip_layers of the original's run; 0: none",
    )
    group.add_argument(
        "--adapter_attention_heads", type=COUNT, help="attention heads of the adapter; default: one for every 64 units"
    )
    group.add_argument(
        "--fusion_mode",
        choices=("concat", "add"),
        help="how the file's features are joined; default: by the names in it",
    )
    group.add_argument("--labels", type=absolute, help="JSON list of the head's labels, in order")
    group.add_argument("--attend_padding", action="store_true", help="adapters attend to padding, as in the original")
    return parser


def _adapter_config(state: ck.State, args: argparse.Namespace) -> AdapterConfig:
    """The adapters' shape as far as flags and the first adapter's width tell it."""
    try:
        taps = tuple(int(tap) for tap in args.adapter_list.split(",")) if args.adapter_list else None
    except ValueError:
        raise ValueError(f'--adapter_list is {args.adapter_list!r}; write numbers such as "0,11,22".') from None
    widths = [len(value) for name, value in state.items() if name.endswith("adapter.0.down_project.bias")]
    return AdapterConfig(
        adapter_list=taps,
        adapter_size=widths[0] if widths else 768,
        adapter_skip_layers=args.adapter_skip_layers,
        attend_padding=args.attend_padding,
        num_attention_heads=args.adapter_attention_heads,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Convert as the command line says; leaves with one sentence on a bad input, before anything is written."""
    args = _parser().parse_args(argv)
    if args.output.is_file() or (args.output.is_dir() and any(args.output.iterdir())):
        raise ValueError(f"--output {args.output} is there already; give a new folder.")
    if not args.input.exists():
        raise FileNotFoundError(f"--input {args.input} is not there; give a file or folder.")
    convert = to_kadapter if args.to == "kadapter" else to_original
    what = convert(args.input, args.output, args)
    print(f"{args.output}: {what}")


if __name__ == "__main__":
    run(main)
