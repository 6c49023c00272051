"""Model cards: README.md of a saved adapter or model, for people and for the hub; and the way to the hub."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, HfApi, ModelCardData
from huggingface_hub.errors import EntryNotFoundError

from kadapter.configuration import KAdapterConfig
from kadapter.shapes import AdapterConfig
from kadapter.storage.checkpoint import ADAPTER_CONFIG, ADAPTER_WEIGHTS, PRETRAINING_HEAD
from kadapter.storage.files import atomic_writer

CARD = "README.md"
MARKER = (
    "<!-- kadapter replaces this card at the next save, but for its licence; delete this line to keep your text. -->"
)
UNKNOWN = "unknown"

BODY = """{marker}

# {title}

{what} for {base}, made with kadapter (K-Adapter, [arXiv:2002.01808](https://arxiv.org/abs/2002.01808)).

{shape}

## Use
```python
{use}
```

## Data
{data}

## Scores
{scores}

## Licence
Unknown until the author says so: put it into `license` above, minding those of the backbone and the data.
"""
USE_ADAPTER = """from kadapter import KAdapterModel

model = KAdapterModel.from_pretrained({base})  # {where}
model.load_adapter({title}, {name})  # this folder, or user/name on the hub"""
USE_MODEL = """from kadapter import {model}

model = {model}.from_pretrained({title})  # this folder, or user/name on the hub"""
USE_TASK = """from kadapter import Predictor

predict = Predictor({title})  # this folder, or user/name on the hub
print(predict({sample}))"""
ADAPTER_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, PRETRAINING_HEAD)
# Weights of an earlier save in a repository that would load beside or before the new ones; not those of a variant.
MODEL_WEIGHTS = (
    *("model.safetensors", "model-?????-of-?????.safetensors", "model.safetensors.index.json"),
    *("pytorch_model.bin", "pytorch_model-?????-of-?????.bin", "pytorch_model.bin.index.json"),
)
MODEL_FILES = ("config.json", "model*.safetensors", "model.safetensors.index.json")


def write_card(
    folder: str | os.PathLike,
    title: str,
    config: KAdapterConfig,
    adapter: str | None = None,
    data: tuple[str, Mapping[str, int]] | None = None,
    scores: Mapping[str, Mapping[str, float]] | None = None,
    sample: str = "",
) -> None:
    """Write `README.md`, unless one is there that does not carry our marker; a licence that was filled in stays.

    Args:
        config: the model's.
        adapter: the folder holds this adapter alone; None: the whole model.
        data: name of the data, and split -> number of examples.
        scores: split -> metric -> value.
        sample: what a `Predictor` of the model may be asked, in Python; "" where that is not known.
    """
    path, license = Path(folder) / CARD, UNKNOWN
    if path.is_file():
        before = path.read_text(encoding="utf-8", errors="replace")  # a card in another encoding is not ours
        if MARKER not in before:
            return
        given = re.search(r"^license: *(.+)$", before, re.MULTILINE)
        license = given[1] if given else UNKNOWN
    (base, on_hub), scores = _base(config), scores or {}
    names = list(config.adapters) if adapter is None else [adapter]
    header = ModelCardData(
        base_model=base if on_hub else None,
        library_name="kadapter",
        license=license,
        tags=["kadapter", "adapter", *names],
        model_name=title,
        eval_results=_results(config, data, scores) or None,
    )
    values = [(split, name, f"{value:.4f}") for split, row in scores.items() for name, value in row.items()]
    text = BODY.format(
        marker=MARKER,
        title=_escaped(title),
        what=f"Knowledge adapter `{adapter}`" if adapter else "A model with knowledge adapters" if names else "A model",
        base=_code(base),
        shape=_shape({name: config.adapter_config(name) for name in names}),
        use=_use(config, title, base, on_hub, adapter, sample),
        data=f"{_code(data[0])}: {', '.join(f'{split} {n:,}' for split, n in data[1].items())} examples"
        if data
        else UNKNOWN,
        scores=_table(("split", "metric", "value"), values) or UNKNOWN,
    )
    with atomic_writer(path) as file:
        file.write(f"---\n{header.to_yaml()}\n---\n\n{text}")


def _use(config: KAdapterConfig, title: str, base: str, on_hub: bool, adapter: str | None, sample: str) -> str:
    """How to load what the folder holds, and to ask it, in Python that runs."""
    values = {name: json.dumps(value, ensure_ascii=False) for name, value in (("title", title), ("base", base))}
    if adapter is not None:
        where = "the backbone, on the hub" if on_hub else "the folder of the backbone that it was trained on"
        return USE_ADAPTER.format(**values, name=json.dumps(adapter), where=where)
    if config.head is not None and config.task is not None and sample:
        return USE_TASK.format(**values, sample=sample)
    return USE_MODEL.format(**values, model="TaskModel" if config.head else "KAdapterModel")


def _escaped(text: str) -> str:
    """A text in one line in which nothing means anything to Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~&])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """A text as code within a line of Markdown, whatever backticks and line ends it has."""
    line = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"`{line}`"


def push(
    folder: str | os.PathLike,
    repo_id: str,
    files: Sequence[str],
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    replaced: Sequence[str] = (),
    **commit: Any,
) -> None:
    """Upload those files of a folder, patterns of names, and its card; repository and branch are made if need be.

    Of the files there that are not uploaded, those are deleted whose names match `replaced`. A card that was written
    by hand there is not replaced by one of ours.
    """
    api = HfApi(token=token)
    name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if revision is not None:
        api.create_branch(name, branch=revision, exist_ok=True)
    ours = MARKER in (Path(folder) / CARD).read_text(encoding="utf-8", errors="replace")
    wanted = [*files] if ours and _has_card_of_its_own(api, name, revision) else [*files, CARD]
    options: dict[str, Any] = {"revision": revision, **commit} | ({"delete_patterns": [*replaced]} if replaced else {})
    api.upload_folder(repo_id=name, folder_path=Path(folder), allow_patterns=wanted, **options)


def _has_card_of_its_own(api: HfApi, name: str, revision: str | None) -> bool:
    try:
        there = Path(api.hf_hub_download(name, CARD, revision=revision))
        return MARKER not in there.read_text(encoding="utf-8", errors="replace")
    except EntryNotFoundError:
        return False


def _base(config: KAdapterConfig) -> tuple[str, bool]:
    """The backbone's name (of a folder only the last part), and whether it is one of the hub."""
    source = getattr(config.backbone_config, "_name_or_path", "")
    on_hub = bool(re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source)) and not Path(source).exists()
    return source if on_hub else Path(source).name or config.backbone_config.model_type, on_hub


def _shape(adapters: Mapping[str, AdapterConfig]) -> str:
    rows = [
        (
            name,
            ", ".join(map(str, c.adapter_list or ())),
            c.adapter_size,
            c.adapter_transformer_layers,
            c.num_attention_heads,
        )
        for name, c in adapters.items()
    ]
    return _table(("adapter", "taps", "width", "layers a tap", "heads"), rows)


def _table(head: tuple[str, ...], rows: list[tuple]) -> str:
    """Markdown; "" without rows."""
    lines = [head, ("---",) * len(head), *rows] if rows else []
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _results(
    config: KAdapterConfig, data: tuple[str, Mapping[str, int]] | None, scores: Mapping[str, Mapping[str, float]]
) -> list[EvalResult]:
    if data is None or config.head is None:
        return []
    return [
        EvalResult(
            task_type=config.head["kind"],
            dataset_type=data[0],
            dataset_name=data[0],
            dataset_split=split,
            metric_type=metric,
            metric_value=value,
        )
        for split, row in scores.items()
        for metric, value in row.items()
    ]
