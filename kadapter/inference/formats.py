"""An exported program in the file format of each runtime, as float32 or with weights and activations of 8 bits."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from kadapter.inference.exported import MAIN_FILES, Manifest, imported
from kadapter.inference.openvino_core import openvino_core, signal_stack_kept

QUANTIZED = ("onnx", "openvino")  # formats that have int8
# Bytes of weights from which on ONNX keeps them in a file of their own: a protobuf ends at 2 GiB, and embeddings that a
# head uses as well are in it twice.
LARGE = 1_000_000_000

Batch = dict[str, torch.Tensor]


def check_installed(format: str, quantize: str | None) -> None:
    """Import what writing this format needs, before any work starts.

    Raises:
        ImportError: a package is missing; the sentence tells how to install it.
    """
    imported(format)
    if format == "torch":
        return
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401

        if format == "openvino" and quantize:
            with quietly():
                import nncf  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"exporting to {format} needs {error.name}, which is missing: pip install 'kadapter[{format}]'."
        ) from None


def write(program: torch.export.ExportedProgram, manifest: Manifest, folder: Path, ranges: Sequence[Batch]) -> None:
    """The files `model.*` of the manifest's format.

    Args:
        ranges: batches that show OpenVINO's int8 which values activations take.
    """
    path = folder / MAIN_FILES[manifest.format]
    if manifest.format == "torch":
        torch.export.save(program, path)
        return
    size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    large = size > LARGE
    if manifest.format == "onnx" and not manifest.quantize:
        write_onnx(program, manifest, path, large)
        return
    graph = folder / "graph.onnx"
    write_onnx(program, manifest, graph, large)
    if manifest.format == "onnx":
        _quantize_onnx(graph, path, large)
    else:
        _write_openvino(graph, path, ranges if manifest.quantize else ())
    for left in folder.glob("graph.*"):
        left.unlink()


def write_onnx(program: torch.export.ExportedProgram, manifest: Manifest, path: Path, large: bool) -> None:
    """One file, or, where it is large, the weights in a second one whose name ends in `.data`."""
    with quietly():
        found = torch.onnx.export(
            program, (), kwargs=dict(program.example_inputs[1]), output_names=manifest.outputs, dynamo=True
        )
        assert found is not None
        found.save(str(path), external_data=large)


def _quantize_onnx(source: Path, path: Path, large: bool) -> None:
    """Weights of products and tables to 8 bits, of products with a scale for each column; activations at each call.

    Weights are unsigned, since the folder may go to any machine: without VNNI, sums of two signed products overflow 16
    bits and are cut off (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = source.with_name("graph.ready.onnx")
    with quietly():
        quant_pre_process(
            str(source),
            str(ready),
            skip_symbolic_shape=True,
            save_as_external_data=large,
            all_tensors_to_one_file=True,
            external_data_location=f"{ready.name}.data",
        )
        quantize_dynamic(
            str(ready),
            str(path),
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            per_channel=True,
            weight_type=QuantType.QUInt8,
            use_external_data_format=large,
        )


def _write_openvino(graph: Path, path: Path, ranges: Sequence[Batch]) -> None:
    """With `ranges` as int8, otherwise as float32."""
    model = openvino_core().read_model(str(graph))
    if ranges:
        with signal_stack_kept():
            model = _quantized_openvino(model, ranges)
    imported("openvino").save_model(model, str(path), compress_to_fp16=False)


def _quantized_openvino(model: Any, ranges: Sequence[Batch]) -> Any:
    """Weights and activations of 8 bits; ranges of activations are fixed here.

    A table of one row (the token types of RoBERTa) stays as it is: OpenVINO fails to compile it once it is quantised
    (https://github.com/openvinotoolkit/openvino/issues/33446 is alike). Weights take
    half of the range, because of the same overflow.
    """
    import nncf

    lookups = [op for op in model.get_ordered_ops() if op.get_type_name() == "Gather"]
    single = [op.get_friendly_name() for op in lookups if op.input_value(0).get_partial_shape()[0] == 1]
    rows = [{name: value.numpy() for name, value in batch.items()} for batch in ranges]
    with quietly():
        return nncf.quantize(
            model,
            nncf.Dataset(rows),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(rows),
            ignored_scope=nncf.IgnoredScope(names=single),
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
        )


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Exporters tell of each of their steps, and warn of packages that nothing here needs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
