"""Export: a model as a graph with any batch and any length, for runtimes that need no code of the model.

Shapes: R = sequences, B = examples, S = length, N = positions that a head reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kadapter.configuration import longest_sequence
from kadapter.inference.exported import MAIN_FILES, ExportedModel, Manifest, sha256
from kadapter.inference.formats import QUANTIZED, Batch, check_installed, quietly, write
from kadapter.models.heads import HEADS
from kadapter.models.modeling import KAdapterModel
from kadapter.models.task_model import TaskModel
from kadapter.storage.files import atomic_folder
from kadapter.storage.pretrained import padded

TOLERANCE = 1e-3  # of float32 against PyTorch; relative where values are above 1
REPLACED = r"model.*\.(onnx|data|xml|bin|pt2)"
DYNAMIC = torch.export.Dim.DYNAMIC

Model = KAdapterModel | TaskModel


class Graph(nn.Module):
    """A model whose inputs and outputs are tensors in a fixed order; torch.fx keeps the name `graph` for itself."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model
        self.outputs = ["last_hidden_state"]
        if isinstance(model, TaskModel):
            self.outputs = ["logits", "attention"] if model.config.head_config().kind == "dependency" else ["logits"]

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        group_sizes: torch.Tensor | None = None,
        context_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        given |= {"positions": positions, "group_sizes": group_sizes, "context_mask": context_mask}
        output = self.model(**{name: value for name, value in given.items() if value is not None})
        return tuple(getattr(output, name) for name in self.outputs)


def example_inputs(model: Model) -> Batch:
    """A batch that shows which inputs the model reads; no size is 1, which exporting would take for fixed.

    Returns:
        `input_ids`, `attention_mask` and, where the backbone has a use for them, `token_type_ids` [R, S]; `positions`
        [R, N] where the head reads some; `group_sizes` [B] for a choice among several; `context_mask` [R, S] for spans.
    """
    encoder = model.encoder if isinstance(model, TaskModel) else model
    rows, length = 5, 7
    batch = {"input_ids": torch.full((rows, length), 3), "attention_mask": torch.ones(rows, length, dtype=torch.long)}
    batch["attention_mask"][0, -2:] = 0
    if "token_type_ids" in encoder._backbone_takes:
        batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
    if isinstance(model, TaskModel):
        kind = HEADS[model.config.head_config().kind]
        if kind.reads == "positions":
            batch["positions"] = torch.ones(rows, kind.places or 3, dtype=torch.long)
        if model.config.head_config().kind == "multiple_choice":
            batch["group_sizes"] = torch.tensor([2, 3])
        if model.config.head_config().kind == "span":
            batch["context_mask"] = batch["attention_mask"].clone()
    return batch


def exported_program(model: Model) -> torch.export.ExportedProgram:
    """The model as a graph of torch, in which batch and length are free.

    Raises:
        ValueError: its weights are not float32, or it cannot be expressed so.
    """
    if other := {str(p.dtype) for p in model.parameters() if p.dtype != torch.float32}:
        raise ValueError(f"the model has weights of {', '.join(sorted(other))}; load it with dtype=torch.float32.")
    if isinstance(model, TaskModel) and model.config.head_config().kind == "openqa":
        raise ValueError("a model for questions over many paragraphs cannot be exported; serve it with PyTorch.")
    example = example_inputs(model)
    places = HEADS[model.config.head_config().kind].places if isinstance(model, TaskModel) else None
    free = {name: dict.fromkeys(range(value.dim()), DYNAMIC) for name, value in example.items()}
    if places is not None and "positions" in free:
        free["positions"] = {0: DYNAMIC}  # as many as the head has places
    before = model.training
    try:
        with torch.no_grad(), quietly():
            return torch.export.export(Graph(model.eval()).eval(), (), example, dynamic_shapes=free)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        family = model.config.backbone_config.model_type
        raise ValueError(f"this {family} cannot be exported with free batch and length: {reason}") from error
    finally:
        model.train(before)


def export(
    model: Model,
    folder: Path,
    format: str,
    tokenizer: Any,
    check: Sequence[Batch],
    quantize: str | None = None,
) -> Manifest:
    """Write a model and what it needs to predict into a folder, whole or not at all, and compare it with PyTorch.

    Args:
        format: "onnx", "openvino" or "torch".
        tokenizer: saved beside it.
        check: batches of real inputs, on which both are compared; OpenVINO's int8 also takes its ranges from them.
        quantize: None for float32, or "int8".

    Raises:
        ValueError: the format or the quantisation is not known here, or a float32 export differs by more than a
            thousandth.
        ImportError: a package is missing; the sentence tells how to install it.
    """
    if format not in MAIN_FILES:
        raise ValueError(f"format is {format!r}; it must be one of {', '.join(MAIN_FILES)}.")
    if quantize not in (None, "int8"):
        raise ValueError(f"quantize is {quantize!r}; it must be int8, or left out.")
    if quantize and format not in QUANTIZED:
        raise ValueError(f"int8 is for {' and '.join(QUANTIZED)}, not for {format}; leave it out there.")
    if not check:
        raise ValueError("there is nothing to compare the exported model on; give some texts.")
    check_installed(format, quantize)
    program = exported_program(model)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    with atomic_folder(folder, "an exported model", size, REPLACED) as place:
        graph = Graph(model)
        manifest = Manifest(format, quantize, list(example_inputs(model)), graph.outputs)
        write(program, manifest, place, check)
        model.config.save_pretrained(place)
        tokenizer.save_pretrained(place)
        files = [path for path in place.iterdir() if path.name.startswith("model.")]
        manifest.files = {path.name: sha256(path) for path in sorted(files)}
        manifest.write(place)
        manifest.check = compared(model, ExportedModel(place), check)
        far = manifest.check["max_difference"]
        if quantize is None and not far <= TOLERANCE * max(1.0, manifest.check["max_value"]):
            raise ValueError(
                f"the {format} model differs from PyTorch by {far:.2g}, where values go up to "
                f"{manifest.check['max_value']:.2g}; not written."
            )
        manifest.write(place)
    return manifest


def compared(model: Model, exported: ExportedModel, batches: Sequence[Batch]) -> dict[str, Any]:
    """The largest difference and value of any output, and the share of equal predictions (of the first output).

    Raises:
        ValueError: an output has another shape, or is not finite where the model's is.
    """
    device = next(model.parameters()).device
    far, largest, equal, count = 0.0, 0.0, 0, 0
    for batch in batches:
        with torch.no_grad():
            expected = model.eval()(**{name: value.to(device) for name, value in batch.items()})
        found = exported(**batch)
        for number, name in enumerate(exported.manifest.outputs):
            left, right = getattr(expected, name).cpu().float(), found[name].float()
            finite = torch.isfinite(left)  # choices that an example lacks are -inf in both
            if left.shape != right.shape or not torch.equal(finite, torch.isfinite(right)):
                raise ValueError(
                    f"{exported.folder} gives {name} of another shape than PyTorch, or values that are not finite."
                )
            far = max(far, float((left - right)[finite].abs().max()))
            largest = max(largest, float(left[finite].abs().max()))
            if number == 0:
                if isinstance(model, TaskModel) and model.config.head_config().kind == "span":
                    left, right = left.transpose(1, 2), right.transpose(1, 2)  # start and end are one token each
                same = _predictions(left) == _predictions(right)
                equal, count = equal + int(same.sum()), count + same.numel()
    rows = sum(len(batch["input_ids"]) for batch in batches)
    return {"texts": rows, "max_difference": far, "max_value": largest, "agreement": round(equal / count, 6)}


def _predictions(logits: torch.Tensor) -> torch.Tensor:
    """The largest place; of a single number per row, whether it is positive."""
    return logits.argmax(-1) if logits.shape[-1] > 1 else logits > 0


# -- what it is compared on ---------------------------------------------------------------------------------------


def text_batches(model: Model, tokenizer: Any, texts: Sequence[str], longest: int = 256) -> list[Batch]:
    """Batches of plain texts of different lengths; a head reads them at the first token, or at the first few.

    Args:
        longest: in tokens; what is longer is cut.
    """
    tokenizer = padded(tokenizer)
    like, size = example_inputs(model), 4
    longest = min(longest, tokenizer.model_max_length, longest_sequence(model.config.backbone_config) or longest)
    batches = []
    for begin in range(0, len(texts), size):
        own = list(texts[begin : begin + size])
        batch = dict(tokenizer(own, padding=True, truncation=True, max_length=longest, return_tensors="pt"))
        if "positions" in like:
            batch["positions"] = torch.arange(like["positions"].shape[1]).expand(len(own), -1)
        if "group_sizes" in like:
            batch["group_sizes"] = torch.tensor([len(own)])
        batches.append(complete(batch, model))
    return batches


def complete(batch: Mapping[str, torch.Tensor], model: Model) -> Batch:
    """A batch with all that the graph reads, where an encoding leaves something out, and nothing else.

    Raises:
        ValueError: something is missing that cannot be filled in.
    """
    names = example_inputs(model)
    found = {name: value for name, value in batch.items() if name in names}
    found.setdefault("attention_mask", torch.ones_like(found["input_ids"]))
    if "token_type_ids" in names:
        found.setdefault("token_type_ids", torch.zeros_like(found["input_ids"]))
    if "context_mask" in names:
        found.setdefault("context_mask", found["attention_mask"])
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"the batch lacks {', '.join(missing)}, which this model reads.")
    return found
