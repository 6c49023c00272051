"""Exported models: any batch, any length, the same answers as PyTorch's, in three formats."""

import copy
import gc
import json
import os
import shutil
import signal
import sys

import pytest
import torch
from conftest import load_script
from exporting import (
    TEXTS,
    assert_equal_anywhere,
    assert_near_anywhere,
    batch_of,
    graphs_traced_once,
    model_with,
    outputs_of,
)
from tiny import SIZES, build
from transformers import DistilBertConfig, GPT2Config, ModernBertConfig

from kadapter import Predictor
from kadapter.configuration import FUSION_MODES
from kadapter.inference import export as export_module
from kadapter.inference import formats
from kadapter.inference.export import compared, export, exported_program, text_batches
from kadapter.inference.exported import MANIFEST, ExportedModel, Manifest, sha256
from kadapter.tasks.glue import SST2
from kadapter.training.task import saved_task

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
SCRIPT = load_script("scripts/export_model.py")
FORMATS = ("onnx", "openvino", "torch")


@pytest.fixture(scope="module", autouse=True)
def _graphs(tmp_path_factory):
    with graphs_traced_once(tmp_path_factory.mktemp("graphs")):
        yield


def torch_run(model):
    module = exported_program(model).module()
    return lambda batch: module(**batch)


FAMILIES = {
    "distilbert": DistilBertConfig(vocab_size=60, dim=32, n_layers=1, n_heads=2, hidden_dim=48),
    "modernbert": ModernBertConfig(**SIZES, pad_token_id=1, global_attn_every_n_layers=2, local_attention=8),
    "gpt2": GPT2Config(vocab_size=60, n_embd=32, n_layer=1, n_head=2, n_positions=40),
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", FUSION_MODES)
def test_any_fusion_is_a_graph_with_any_batch_and_length(mode):
    model = model_with("classification", FAMILIES["distilbert"], fusion_mode=mode, names=("fac", "lin"), taps=(1,))
    assert_equal_anywhere(model, torch_run(model), ["logits"])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["modernbert", "gpt2"])
def test_any_family_is_a_graph_with_any_batch_and_length(family):
    model = model_with("classification", FAMILIES[family], bottlenecks=True, names=())
    assert_equal_anywhere(model, torch_run(model), ["logits"])


@pytest.mark.slow
def test_an_encoder_of_all_parts_gives_the_same_in_any_format_and_nearly_as_int8(tokenizer, tmp_path):
    model = model_with(None, bottlenecks=True)
    check, outputs = [batch_of(model, 4, 12, seed) for seed in range(4)], outputs_of(None)
    for format, quantize in [("onnx", None), ("openvino", None), ("openvino", "int8")]:
        folder = tmp_path / f"{format}-{quantize}"
        export(model, folder, format, tokenizer, check, quantize)
        exported = ExportedModel(folder, threads=1)
        assert_alike = assert_near_anywhere if quantize else assert_equal_anywhere
        assert_alike(model, lambda batch, run=exported: [run(**batch)[name] for name in outputs], outputs)


# -- a folder -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sst2(tokenizer):
    task = SST2(labels=("bad", "good"))
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 80, "pad_token_id": tokenizer.pad_token_id}
    config = DistilBertConfig(**{**FAMILIES["distilbert"].to_dict(), **sizes})  # of which tracing takes least
    model = build(config, (), head=task.head_config(32, config.vocab_size))
    model.config.task = saved_task(task, 32)
    return model


@pytest.fixture(scope="module")
def onnx(sst2, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    export(sst2, folder, "onnx", tokenizer, text_batches(sst2, tokenizer, SCRIPT.TEXTS))
    return folder


@pytest.fixture
def copied(onnx, tmp_path):
    return shutil.copytree(onnx, tmp_path / "copy")


def scores(answers):
    return [[*answer["scores"].values()] for answer in answers]


@pytest.mark.parametrize("format", FORMATS)
def test_an_exported_folder_predicts_like_the_model(sst2, onnx, tokenizer, tmp_path, format):
    folder = onnx
    if format != "onnx":
        folder = tmp_path / "exported"
        export(sst2, folder, format, tokenizer, text_batches(sst2, tokenizer, SCRIPT.TEXTS))
    expected = Predictor(sst2, tokenizer=tokenizer)(TEXTS)
    found = Predictor(folder, threads=1, batch_size=2)(TEXTS)
    assert [answer["label"] for answer in found] == [answer["label"] for answer in expected]
    torch.testing.assert_close(torch.tensor(scores(found)), torch.tensor(scores(expected)), rtol=0, atol=1e-4)


def test_the_manifest_tells_what_the_comparison_found(onnx):
    manifest = Manifest.read(onnx)
    assert manifest.format == "onnx"
    assert manifest.inputs == ["input_ids", "attention_mask", "positions"]
    assert manifest.check["texts"] == len(SCRIPT.TEXTS)
    assert manifest.check["max_difference"] < 1e-4
    assert manifest.check["agreement"] == 1.0
    assert manifest.files == {"model.onnx": sha256(onnx / "model.onnx")}


def test_exported_models_are_told_apart(onnx, copied):
    assert Predictor(onnx).digest() == Predictor(copied).digest() != ""
    manifest = Manifest.read(copied)
    manifest.files = {}
    manifest.write(copied)
    assert Predictor(onnx).digest() != Predictor(copied).digest()


def test_a_damaged_file_is_named(copied):
    data = bytearray((copied / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copied / "model.onnx").write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.onnx is not the file that was exported"):
        Predictor(copied)


def test_a_file_that_its_runtime_cannot_read_is_named(copied):
    (copied / "model.onnx").write_bytes(b"no model")
    manifest = Manifest.read(copied)
    manifest.files["model.onnx"] = sha256(copied / "model.onnx")
    manifest.write(copied)
    with pytest.raises(ValueError, match=r"model\.onnx cannot be read by this version of its runtime"):
        ExportedModel(copied)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda folder: (folder / "model.onnx").unlink(), FileNotFoundError, r"model\.onnx is missing"),
        (lambda folder: (folder / MANIFEST).unlink(), FileNotFoundError, r"export\.json is missing"),
        (lambda folder: (folder / MANIFEST).write_text("{"), ValueError, r"export\.json is not JSON"),
        (lambda folder: (folder / MANIFEST).write_text("{}"), ValueError, r"export\.json is not the manifest"),
    ],
)
def test_what_is_missing_or_wrong_is_named(copied, change, error, message):
    change(copied)
    with pytest.raises(error, match=message):
        ExportedModel(copied)


def test_a_format_that_is_not_known_is_named(copied):
    values = json.loads((copied / MANIFEST).read_text())
    (copied / MANIFEST).write_text(json.dumps({**values, "format": "tflite"}))
    with pytest.raises(ValueError, match="format of onnx, openvino, torch"):
        ExportedModel(copied)


@pytest.mark.parametrize(
    ("package", "format", "quantize"),
    [("onnxscript", "onnx", None), ("openvino", "openvino", None), ("nncf", "openvino", "int8")],
)
def test_a_missing_package_is_told_before_anything_is_traced(sst2, tokenizer, monkeypatch, package, format, quantize):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("kadapter.inference.export.exported_program", None)
    with pytest.raises(ImportError, match=rf"{package}.* missing.*pip install 'kadapter\[{format}\]'"):
        export(sst2, "exported", format, tokenizer, text_batches(sst2, tokenizer, TEXTS), quantize)


def test_a_missing_runtime_tells_what_to_install(onnx, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install 'kadapter\[onnx\]'"):
        ExportedModel(onnx)


def test_inputs_may_be_left_out_as_for_the_model(sst2, onnx):
    exported, ids = ExportedModel(onnx), torch.full((2, 5), 7)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])  # the first token that is no padding is read
    with torch.no_grad():
        for batch in (
            {"input_ids": ids},
            {"input_ids": ids, "attention_mask": mask},
            {"input_ids": ids.view(1, 2, 5)},
            {"input_ids": ids, "positions": torch.tensor([[1, 4], [3, 0]])},  # the head takes the first ones
            {"input_ids": ids, "positions": None, "labels": None},
        ):
            found, expected = exported(**batch).logits, sst2(**batch).logits
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_inputs_that_are_missing_or_out_of_range_are_refused(onnx):
    exported, ids = ExportedModel(onnx), torch.full((2, 5), 7)
    positions = torch.zeros(2, 1, dtype=torch.long)
    with pytest.raises(ValueError, match="needs input_ids of shape"):
        exported(positions=positions)
    with pytest.raises(ValueError, match="positions lie outside of the sequence; give numbers from 0 to 4"):
        exported(input_ids=ids, positions=positions + 5)
    with pytest.raises(ValueError, match="positions has 1 rows, but there are 2 sequences"):
        exported(input_ids=ids, positions=positions[:1])
    known = exported.config.vocab_size - 1
    with pytest.raises(ValueError, match=f"input_ids go from 7 to 9000, but the model knows those from 0 to {known}"):
        exported(input_ids=torch.tensor([[7, 9000]]))
    with pytest.raises(ValueError, match="the sequence has 81 tokens, but the model has positions for 80"):
        exported(input_ids=torch.full((1, 81), 7))
    with pytest.raises(ValueError, match="takes no inputs_embeds, labels"):
        exported(input_ids=ids, labels=torch.zeros(2), inputs_embeds=torch.zeros(2, 5, 32))
    with pytest.raises(ValueError, match="threads is 0"):
        ExportedModel(onnx, threads=0)
    with pytest.raises(ValueError, match="leave dtype, backbone out"):
        Predictor(onnx, dtype=torch.bfloat16)


def test_threads_are_for_exported_models(sst2, tokenizer):
    with pytest.raises(ValueError, match="threads is for exported models"):
        Predictor(sst2, tokenizer=tokenizer, threads=1)


# -- exporting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "quantize", "message"),
    [
        ("tflite", None, "must be one of onnx, openvino, torch"),
        ("onnx", "int4", "must be int8"),
        ("torch", "int8", "int8 is for onnx and openvino, not for torch"),
    ],
)
def test_what_cannot_be_exported_is_refused(sst2, tokenizer, tmp_path, format, quantize, message):
    with pytest.raises(ValueError, match=message):
        export(sst2, tmp_path / "exported", format, tokenizer, text_batches(sst2, tokenizer, TEXTS), quantize)
    assert not [*tmp_path.iterdir()]


def test_weights_of_16_bits_are_refused(sst2):
    with pytest.raises(ValueError, match=r"weights of torch\.bfloat16"):
        exported_program(copy.deepcopy(sst2).bfloat16())


def test_an_export_that_differs_is_an_error_and_nothing_is_written(sst2, tokenizer, tmp_path, monkeypatch):
    program = export_module.exported_program(sst2)
    other = copy.deepcopy(sst2)
    torch.nn.init.normal_(other.head.out_proj.weight)
    monkeypatch.setattr(export_module, "exported_program", lambda model: program)
    with pytest.raises(ValueError, match="the onnx model differs from PyTorch by"):
        export(other, tmp_path / "exported", "onnx", tokenizer, text_batches(sst2, tokenizer, TEXTS))
    assert not [*tmp_path.iterdir()]


def test_another_model_does_not_agree(sst2, onnx, tokenizer):
    other = copy.deepcopy(sst2)
    with torch.no_grad():
        other.head.out_proj.weight.neg_()
        other.head.out_proj.bias.neg_()
    found = compared(other, ExportedModel(onnx), text_batches(sst2, tokenizer, TEXTS))
    assert found["agreement"] == 0.0
    assert found["max_difference"] > 1e-3


@pytest.mark.parametrize(
    "format", [pytest.param("onnx", marks=pytest.mark.slow), pytest.param("openvino", marks=pytest.mark.slow)]
)
def test_int8_is_near_and_smaller(sst2, tokenizer, tmp_path, format):
    batches = text_batches(sst2, tokenizer, SCRIPT.TEXTS)
    whole = export(sst2, tmp_path / "float32", format, tokenizer, batches)
    small = export(sst2, tmp_path / "int8", format, tokenizer, batches, "int8")
    assert 0 < small.check["max_difference"] < 0.1
    sizes = [
        sum((tmp_path / name / file).stat().st_size for file in manifest.files)
        for name, manifest in (("float32", whole), ("int8", small))
    ]
    assert sizes[1] < 0.6 * sizes[0]
    assert len(Predictor(tmp_path / "int8")(TEXTS)) == len(TEXTS)


@pytest.mark.slow
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_a_large_model_keeps_its_weights_beside_its_graph(sst2, tokenizer, tmp_path, monkeypatch, quantize):
    monkeypatch.setattr(formats, "LARGE", 1000)
    batches, folder = text_batches(sst2, tokenizer, TEXTS), tmp_path / "exported"
    manifest = export(sst2, folder, "onnx", tokenizer, batches, quantize)
    assert manifest.files.keys() == {"model.onnx", "model.onnx.data"}
    expected = scores(Predictor(folder)(TEXTS))
    moved = folder.rename(tmp_path / "moved")
    assert scores(Predictor(moved)(TEXTS)) == expected
    monkeypatch.undo()
    export(sst2, moved, "onnx", tokenizer, batches, quantize)
    assert [path.name for path in sorted(moved.glob("model*"))] == ["model.onnx"]
    assert len(Predictor(moved)(TEXTS)) == len(TEXTS)


@pytest.fixture(scope="module")
def saved(sst2, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    sst2.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["texts.txt", "texts.jsonl", None])
def test_the_script_exports_and_tells_how_near_it_is(sst2, saved, tmp_path, name, monkeypatch, capsys):
    monkeypatch.setattr("kadapter.TaskModel.from_pretrained", lambda folder: sst2)  # whose graph is traced already
    flags = ["--model", str(saved), "--format", "onnx", "--output", str(tmp_path / "exported")]
    if name is not None:
        lines = TEXTS if name.endswith("txt") else [json.dumps({"sentence": text}) for text in TEXTS]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        flags += ["--texts", str(tmp_path / name)]
    SCRIPT.main(flags)
    printed = capsys.readouterr().out
    assert f"on {3 if name else len(SCRIPT.TEXTS)} sequences" in printed
    assert "100.0 % of predictions equal" in printed
    assert len(Predictor(tmp_path / "exported")(TEXTS)) == len(TEXTS)


@pytest.mark.slow
def test_the_script_exports_a_saved_model(saved, tmp_path, capfd):
    folder = tmp_path / "exported"
    SCRIPT.main(["--model", str(saved), "--format", "openvino", "--output", str(folder), "--quantize", "int8"])
    found = capfd.readouterr()
    assert found.out.count("\n") == 1
    assert "openvino int8" in found.out
    assert "nncf" not in found.err.lower()
    assert len(Predictor(folder)(TEXTS)) == len(TEXTS)


@pytest.mark.slow
def test_a_signal_is_handled_after_openvino_models_came_and_went(sst2, tokenizer, tmp_path):
    check = text_batches(sst2, tokenizer, SCRIPT.TEXTS)
    folders = {None: tmp_path / "float32", "int8": tmp_path / "int8"}
    for quantize, folder in folders.items():
        export(sst2, folder, "openvino", tokenizer, check, quantize)
    one, other = (ExportedModel(folder) for folder in folders.values())
    del one  # the first that came goes first
    gc.collect()
    del other
    gc.collect()
    child = os.fork()  # what a signal breaks ends the child alone
    if child == 0:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
