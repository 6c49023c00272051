"""Exported models: a folder that predicts without the model's own code, by torch, ONNX Runtime or OpenVINO.

Such a folder holds `export.json` (what the files are), the model, `config.json` and the tokenizer.

Shapes: R = sequences, S = their length.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from kadapter.configuration import KAdapterConfig, longest_sequence
from kadapter.inference.openvino_core import openvino_core
from kadapter.models.head import HeadOutput
from kadapter.models.heads import HEADS
from kadapter.models.modeling import KAdapterOutput
from kadapter.models.positions import as_sequences, positions_of
from kadapter.storage.pretrained import read_config

MANIFEST = "export.json"
MAIN_FILES = {"onnx": "model.onnx", "openvino": "model.xml", "torch": "model.pt2"}
PACKAGES = {"onnx": ("onnxruntime", "onnx"), "openvino": ("openvino", "openvino"), "torch": ("torch", "")}
TAKEN = {"input_ids", "attention_mask", "token_type_ids", "positions", "group_sizes", "context_mask"}

Run = Callable[[dict[str, torch.Tensor]], list[torch.Tensor]]


@dataclass
class Manifest:
    """What `export.json` tells.

    format, quantize: one of MAIN_FILES; None or "int8".
    inputs, outputs: names, in the order of the graph.
    files: name -> SHA-256 of what the model consists of.
    check: how far its answers are from PyTorch's, and on how many texts they are the same.
    """

    format: str
    quantize: str | None
    inputs: list[str]
    outputs: list[str]
    files: dict[str, str] = field(default_factory=dict)
    check: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises FileNotFoundError or ValueError that name the file: missing, or not written by `write`."""
        path = folder / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; give a folder that scripts/export_model.py wrote.")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not JSON ({error}); export the model again.") from None
        names = {one.name for one in fields(cls)}
        if not isinstance(values, dict) or values.keys() != names or values["format"] not in MAIN_FILES:
            raise ValueError(
                f"{path} is not the manifest of an exported model: it needs {', '.join(sorted(names))}, and a "
                f"format of {', '.join(MAIN_FILES)}; export the model again with this version."
            )
        return cls(**values)


class ExportedModel:
    """An exported model: `model(**batch)` gives the outputs of the model that was exported, without a loss.

    Args:
        folder: the folder that `scripts/export_model.py` wrote.
        threads: number of threads to compute with; None leaves it to the runtime, which uses all cores. torch has one
            number for the whole process, which None leaves as it is.

    Raises:
        OSError, ValueError: a file is missing, or is not the one that was exported.
        ImportError: the runtime is not installed.
    """

    def __init__(self, folder: str | os.PathLike, threads: int | None = None):
        self.folder = Path(folder)
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}; it must be 1 or more.")
        self.manifest = Manifest.read(self.folder)
        _check_files(self.folder, self.manifest.files)
        config = read_config(self.folder)
        if not isinstance(config, KAdapterConfig):
            raise ValueError(f"{self.folder / 'config.json'} is of a {config.model_type}; export the model again.")
        self.config = config
        self._run: Run = _RUNNERS[self.manifest.format](self.folder, self.manifest, threads)

    def __call__(self, **batch: torch.Tensor) -> Any:
        """`HeadOutput`, or `KAdapterOutput` of an encoder.

        Args:
            batch: tensors as `TaskModel.forward` takes them: input_ids [R, S], or [B, choices, S] where all examples
                have as many; attention_mask, token_type_ids, positions and group_sizes may be left out as there.

        Raises:
            ValueError: an input is missing or out of range, or is none of those that are in the graph.
        """
        given = {name: value for name, value in batch.items() if value is not None}
        if other := sorted(given.keys() - TAKEN):
            raise ValueError(f"{self.folder} is an exported model, which takes no {', '.join(other)}; leave that out.")
        ids = given.get("input_ids")
        if ids is None or ids.dim() not in (2, 3):
            raise ValueError(f"{self.folder} needs input_ids of shape [sequences, length].")
        given.setdefault("attention_mask", torch.ones_like(ids))
        given.setdefault("token_type_ids", torch.zeros_like(ids))
        mask = given.get("context_mask", given["attention_mask"])
        given = self._with_places(given) | {"context_mask": mask.flatten(0, -2)}
        if missing := [name for name in self.manifest.inputs if name not in given]:
            raise ValueError(f"{self.folder} needs {', '.join(missing)} as well.")
        tensors = {name: given[name].detach().cpu().long().contiguous() for name in self.manifest.inputs}
        _check_range(tensors, self.config)
        found: dict[str, Any] = dict(zip(self.manifest.outputs, self._run(tensors), strict=True))
        return KAdapterOutput(**found) if "last_hidden_state" in found else HeadOutput(**found)

    def _with_places(self, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """With the positions that the head reads, as `TaskModel.forward` has them, and choices as sequences."""
        inputs: dict[str, Any] = {name: given[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
        positions, sizes = given.get("positions"), given.get("group_sizes")
        if inputs["input_ids"].dim() == 3:
            inputs, positions, sizes = as_sequences(inputs, positions, inputs["input_ids"].shape)
        rows, length = inputs["input_ids"].shape
        if "positions" in self.manifest.inputs:
            head, mask = HEADS[self.config.head_config().kind], inputs["attention_mask"]
            positions = positions_of(head, self.config, positions, mask, inputs["input_ids"])
            if positions is None:  # all of them
                positions = torch.arange(length).expand(rows, length)
        found = inputs | {"positions": positions, "group_sizes": sizes}
        return {name: value for name, value in found.items() if value is not None}

    def digest(self) -> str:
        """A digest that identifies the exported model wherever it is stored."""
        return hashlib.sha256(json.dumps(self.manifest.files, sort_keys=True).encode()).hexdigest()


def is_exported(folder: str | os.PathLike) -> bool:
    return (Path(folder) / MANIFEST).is_file()


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def imported(kind: str) -> Any:
    """The runtime of a format.

    Raises:
        ImportError: tells how to install it.
    """
    package, extra = PACKAGES[kind]
    try:
        if kind == "onnx":
            import onnxruntime as runtime
        elif kind == "openvino":
            import openvino as runtime
        else:
            runtime = torch
    except ImportError as error:
        raise ImportError(
            f"{kind} needs {package}, which is missing ({error}): pip install 'kadapter[{extra}]'."
        ) from None
    return runtime


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, digest in files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise FileNotFoundError(f"{path} is missing, which {MANIFEST} tells of; export the model again.")
        if sha256(path) != digest:
            raise ValueError(f"{path} is not the file that was exported, or is damaged; export the model again.")


def _check_range(tensors: Mapping[str, torch.Tensor], config: KAdapterConfig) -> None:
    """Runtimes read beyond the end of a table without an error."""
    ids, vocabulary = tensors["input_ids"], config.vocab_size
    rows, length = ids.shape
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
        raise ValueError(
            f"input_ids go from {int(ids.min())} to {int(ids.max())}, but the model knows those from 0 to "
            f"{vocabulary - 1}; tokenize with the model's own tokenizer."
        )
    longest = longest_sequence(config.backbone_config)
    if longest is not None and length > longest:
        raise ValueError(f"the sequence has {length} tokens, but the model has positions for {longest}; shorten it.")
    positions = tensors.get("positions")
    if positions is not None and positions.numel() and not 0 <= int(positions.min()) <= int(positions.max()) < length:
        raise ValueError(f"positions lie outside of the sequence; give numbers from 0 to {length - 1}.")
    sizes = tensors.get("group_sizes")
    if sizes is not None and int(sizes.sum()) != rows:
        raise ValueError(f"group_sizes add up to {int(sizes.sum())}, but there are {rows} sequences; give all of them.")
    for name in ("attention_mask", "token_type_ids", "positions", "context_mask"):
        if name in tensors and len(tensors[name]) != rows:
            raise ValueError(f"{name} has {len(tensors[name])} rows, but there are {rows} sequences; give as many.")


# -- runtimes -----------------------------------------------------------------------------------------------------


def _torch_runner(folder: Path, manifest: Manifest, threads: int | None) -> Run:
    if threads is not None:
        torch.set_num_threads(threads)
    path = folder / MAIN_FILES["torch"]
    try:
        module = torch.export.load(path).module()
    except Exception as error:
        raise _unreadable(path, error) from error

    def run(tensors: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        with torch.no_grad():
            return list(module(**tensors))

    return run


def _onnx_runner(folder: Path, manifest: Manifest, threads: int | None) -> Run:
    runtime = imported("onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    path = folder / MAIN_FILES["onnx"]
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _unreadable(path, error) from error

    def run(tensors: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        found = session.run(manifest.outputs, {name: value.numpy() for name, value in tensors.items()})
        return [torch.from_numpy(array) for array in found]

    return run


def _openvino_runner(folder: Path, manifest: Manifest, threads: int | None) -> Run:
    imported("openvino")
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    path = folder / MAIN_FILES["openvino"]
    try:
        compiled = openvino_core().compile_model(str(path), "CPU", options)
    except Exception as error:
        raise _unreadable(path, error) from error

    def run(tensors: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        found = compiled.create_infer_request().infer({name: value.numpy() for name, value in tensors.items()})
        return [torch.from_numpy(found[name].copy()) for name in manifest.outputs]

    return run


def _unreadable(path: Path, error: Exception) -> ValueError:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ValueError(f"{path} cannot be read by this version of its runtime ({line}); export the model again.")


_RUNNERS = {"onnx": _onnx_runner, "openvino": _openvino_runner, "torch": _torch_runner}
