"""Tiny models to export, batches of any shape for them, and graphs that are traced once for all formats."""

import contextlib
import copy
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import SIZES, build
from transformers import RobertaConfig

from kadapter import BottleneckConfig, HeadConfig
from kadapter.inference import export, formats
from kadapter.inference.export import example_inputs

LABELS = {"multiple_choice": 1, "masked_lm": 60, "dependency": 40, "span": 2}
TEXTS = ["A fine film.", "Not one of the actors knows what the story is about, and neither do I.", "Dull."]
ROBERTA = RobertaConfig(**{**SIZES, "num_hidden_layers": 1}, type_vocab_size=1, pad_token_id=1)
SHAPES = ((1, 4), (2, 9), (6, 3), (3, 31))  # examples and tokens


@contextlib.contextmanager
def graphs_traced_once(folder: Path) -> Iterator[None]:
    """Exporting a model in another format, or as int8, takes the graph of the first time, which is what takes long."""
    programs, graphs = {}, {}
    trace, write = export.exported_program, formats.write_onnx

    def traced(model):
        if id(model) not in programs:
            programs[id(model)] = (model, trace(model))  # the model is kept, and with it its id
        return programs[id(model)][1]

    def written(program, manifest, path, large):
        if large:
            write(program, manifest, path, large)
            return
        if id(program) not in graphs:
            graphs[id(program)] = folder / f"{len(graphs)}.onnx"
            write(program, manifest, graphs[id(program)], large)
        shutil.copyfile(graphs[id(program)], path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "exported_program", traced)
        patch.setattr(formats, "write_onnx", written)
        yield


def model_with(kind, backbone=ROBERTA, bottlenecks=False, names=("fac",), fusion_mode="concat", taps=(0, 1)):
    head = None if kind is None else HeadConfig(kind, LABELS.get(kind, 4)).to_dict()
    model = build(copy.deepcopy(backbone), names, fusion_mode, head, adapter_list=taps, adapter_transformer_layers=1)
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
    if "context_mask" in like:
        batch["context_mask"] = batch["attention_mask"] * (torch.arange(length) > 1)
    return {name: batch[name] for name in like}


def outputs_of(kind):
    return {None: ["last_hidden_state"], "dependency": ["logits", "attention"]}.get(kind, ["logits"])


def assert_equal_anywhere(model, run, outputs):
    """`run` gives what the model gives, for each of SHAPES."""
    for seed, (examples, length) in enumerate(SHAPES):
        batch = batch_of(model, examples, length, seed)
        with torch.no_grad():
            expected = model(**batch)
        for name, value in zip(outputs, run(batch), strict=True):
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-4)


def assert_near_anywhere(model, run, outputs):
    """The same for int8: on average, an error of at most a twentieth, but not none."""
    for seed, (examples, length) in enumerate(SHAPES):
        batch = batch_of(model, examples, length, seed)
        with torch.no_grad():
            expected = model(**batch)
        for name, value in zip(outputs, run(batch), strict=True):
            error = (value - expected[name]).abs().mean() / expected[name].abs().mean()
            assert 1e-5 < error < 0.05
