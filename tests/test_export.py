"""Exported models: any batch, any length, the same answers as PyTorch's, in three formats."""

import copy
import json
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, load_script, slow
from tiny import SIZES, build
from transformers import BertConfig, DistilBertConfig, GPT2Config, ModernBertConfig, RobertaConfig

from kadapter import BottleneckConfig, HeadConfig, Predictor
from kadapter.configuration import FUSION_MODES
from kadapter.inference.export import compared, example_inputs, export, exported_program, text_batches
from kadapter.inference.exported import MANIFEST, ExportedModel, Manifest, sha256
from kadapter.shapes import HEAD_KINDS
from kadapter.tasks.glue import SST2
from kadapter.training.task import saved_task

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
SCRIPT = load_script("scripts/export_model.py")
FORMATS = ("onnx", "openvino", "torch")
LABELS = {"multiple_choice": 1, "masked_lm": 60, "dependency": 40}
TEXTS = ["A fine film.", "Not one of the actors knows what the story is about, and neither do I.", "Dull."]
ROBERTA = RobertaConfig(**{**SIZES, "num_hidden_layers": 1}, type_vocab_size=1, pad_token_id=1)


def model_with(kind, backbone=ROBERTA, bottlenecks=False, names=("fac", "lin"), fusion_mode="concat"):
    head = None if kind is None else HeadConfig(kind, LABELS.get(kind, 4)).to_dict()
    taps = {"adapter_list": (0, 1)}
    model = build(copy.deepcopy(backbone), names, fusion_mode, head, **taps)
    if bottlenecks:
        model.add_bottlenecks("default", BottleneckConfig(size=8))
    return model.eval()


def batch_of(model, examples, length, seed=0):
    """Random tokens of random lengths, at least one of them filled up."""
    torch.manual_seed(seed)
    like, batch = example_inputs(model), {}
    rows = examples
    if "group_sizes" in like:
        batch["group_sizes"] = torch.randint(1, 4, (examples,))
        rows = int(batch["group_sizes"].sum())
    lengths = torch.randint(3, length + 1, (rows,))
    lengths[0] = length
    batch["attention_mask"] = (torch.arange(length) < lengths[:, None]).long()
    batch["input_ids"] = torch.randint(5, 60, (rows, length)) * batch["attention_mask"] + 1 - batch["attention_mask"]
    if "token_type_ids" in like:
        batch["token_type_ids"] = torch.randint(0, 2, (rows, length))
    if "positions" in like:
        batch["positions"] = torch.randint(0, 3, (rows, like["positions"].shape[1]))
    return {name: batch[name] for name in like}


SHAPES = ((1, 4), (2, 9), (6, 3), (3, 31))


def assert_equal_anywhere(model, run, outputs):
    for seed, (examples, length) in enumerate(SHAPES):
        batch = batch_of(model, examples, length, seed)
        with torch.no_grad():
            expected = model(**batch)
        for name, value in zip(outputs, run(batch), strict=True):
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-4)


def outputs_of(kind):
    return {None: ["last_hidden_state"], "dependency": ["logits", "attention"]}.get(kind, ["logits"])


def torch_run(model):
    module = exported_program(model).module()
    return lambda batch: module(**batch)


@pytest.mark.parametrize(
    "kind", [None, "multiple_choice", *(slow(kind) for kind in HEAD_KINDS if kind != "multiple_choice")]
)
@pytest.mark.parametrize("bottlenecks", [slow(True), False])
def test_any_head_is_a_graph_with_any_batch_and_length(kind, bottlenecks):
    model = model_with(kind, bottlenecks=bottlenecks, names=("fac",))
    assert_equal_anywhere(model, torch_run(model), outputs_of(kind))


@pytest.mark.slow
@pytest.mark.parametrize("mode", FUSION_MODES)
def test_any_fusion_is_a_graph_with_any_batch_and_length(mode):
    model = model_with("classification", fusion_mode=mode)
    assert_equal_anywhere(model, torch_run(model), ["logits"])


FAMILIES = {
    "bert": BertConfig(**SIZES),
    "distilbert": DistilBertConfig(vocab_size=60, dim=32, n_layers=1, n_heads=2, hidden_dim=48),
    "modernbert": ModernBertConfig(**SIZES, pad_token_id=1, global_attn_every_n_layers=2, local_attention=8),
    "gpt2": GPT2Config(vocab_size=60, n_embd=32, n_layer=1, n_head=2, n_positions=40),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_any_family_is_a_graph_with_any_batch_and_length(family):
    model = model_with("classification", FAMILIES[family], bottlenecks=True, names=("fac",))
    assert_equal_anywhere(model, torch_run(model), ["logits"])


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", [None, *HEAD_KINDS])
def test_any_head_gives_the_same_in_any_format(format, kind, tokenizer, tmp_path):
    model = model_with(kind, bottlenecks=True)
    export(model, tmp_path / "exported", format, tokenizer, [batch_of(model, 2, 8)])
    exported = ExportedModel(tmp_path / "exported", threads=1)
    assert_equal_anywhere(model, lambda batch: [exported(**batch)[name] for name in outputs_of(kind)], outputs_of(kind))


# -- a folder -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sst2(tokenizer):
    task = SST2(labels=("bad", "good"))
    config = RobertaConfig(**{**ROBERTA.to_dict(), "vocab_size": len(tokenizer), "max_position_embeddings": 80})
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


def test_an_exported_folder_predicts_like_the_model(sst2, onnx, tokenizer):
    expected = Predictor(sst2, tokenizer=tokenizer)(TEXTS)
    found = Predictor(onnx, threads=1, batch_size=2)(TEXTS)
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
        (lambda folder: (folder / MANIFEST).write_text("{"), ValueError, r"export\.json is no JSON"),
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


def test_a_missing_runtime_tells_what_to_install(onnx, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install 'kadapter\[onnx\]'"):
        ExportedModel(onnx)


def test_inputs_that_are_missing_or_out_of_range_are_refused(onnx):
    exported, ids = ExportedModel(onnx), torch.full((2, 5), 7)
    positions = torch.zeros(2, 1, dtype=torch.long)
    assert exported(input_ids=ids, positions=positions).logits.shape == (2, 2)
    with pytest.raises(ValueError, match="needs positions as well"):
        exported(input_ids=ids)
    with pytest.raises(ValueError, match="positions lie outside of the sequence, which has 5 tokens"):
        exported(input_ids=ids, positions=positions + 5)
    with pytest.raises(ValueError, match="gives no loss"):
        exported(input_ids=ids, positions=positions, labels=torch.zeros(2))
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
        ("torch", "int8", "int8 is for onnx alone, not for torch"),
        ("openvino", "int8", "int8 is for onnx alone, not for openvino"),
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
    batches = text_batches(sst2, tokenizer, TEXTS)
    other = copy.deepcopy(sst2)
    torch.nn.init.normal_(other.head.out_proj.weight)
    program = exported_program(other)
    monkeypatch.setattr("kadapter.inference.export.exported_program", lambda model: program)
    with pytest.raises(ValueError, match="the torch model differs from PyTorch by"):
        export(sst2, tmp_path / "exported", "torch", tokenizer, batches)
    assert not [*tmp_path.iterdir()]


def test_another_model_does_not_agree(sst2, onnx, tokenizer):
    other = copy.deepcopy(sst2)
    with torch.no_grad():
        other.head.out_proj.weight.neg_()
        other.head.out_proj.bias.neg_()
    found = compared(other, ExportedModel(onnx), text_batches(sst2, tokenizer, TEXTS))
    assert found["agreement"] == 0.0
    assert found["max_difference"] > 1e-3


@pytest.mark.slow
def test_int8_is_near_and_smaller(sst2, tokenizer, tmp_path):
    batches = text_batches(sst2, tokenizer, SCRIPT.TEXTS)
    whole = export(sst2, tmp_path / "float32", "onnx", tokenizer, batches)
    small = export(sst2, tmp_path / "int8", "onnx", tokenizer, batches, "int8")
    assert 0 < small.check["max_difference"] < 0.1
    sizes = [
        sum((tmp_path / name / file).stat().st_size for file in manifest.files)
        for name, manifest in (("float32", whole), ("int8", small))
    ]
    assert sizes[1] < sizes[0]
    assert len(Predictor(tmp_path / "int8")(TEXTS)) == len(TEXTS)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["texts.txt", "texts.jsonl", None])
def test_the_script_exports_and_tells_how_near_it_is(sst2, tokenizer, tmp_path, format, name):
    sst2.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    command = [sys.executable, ROOT / "scripts/export_model.py", "--model", tmp_path / "model", "--format", format]
    command += ["--output", tmp_path / "exported"]
    if name is not None:
        lines = TEXTS if name.endswith("txt") else [json.dumps({"sentence": text}) for text in TEXTS]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        command += ["--texts", tmp_path / name]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert f"on {3 if name else len(SCRIPT.TEXTS)} sequences" in found.stdout
    assert "100.0 % of predictions equal" in found.stdout
    assert len(Predictor(tmp_path / "exported")(TEXTS)) == len(TEXTS)
