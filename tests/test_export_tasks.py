"""Exported models of every kind of task: what a Predictor answers with them is what it answers with the model."""

import copy

import pytest
import torch
from exporting import assert_equal_anywhere, graphs_traced_once, outputs_of
from tiny import SIZES, build
from transformers import BertConfig, DistilBertConfig

from kadapter import Predictor
from kadapter.inference.export import complete, export
from kadapter.inference.exported import ExportedModel
from kadapter.tasks import TASKS
from kadapter.training.task import saved_task

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

PLAIN = DistilBertConfig(dim=32, n_layers=1, n_heads=2, hidden_dim=48)  # of which tracing takes least
WITH_TYPES = BertConfig(**{**SIZES, "num_hidden_layers": 1})  # reads token_type_ids
LONG = "The cat that sat on the mat in front of the old house sleeps"

INPUTS = {
    "STS-B": [("The cat sleeps.", "A cat is asleep."), (LONG, "A dog."), ("Oslo.", LONG)],
    "RTE": [("The cat sleeps.", "A cat is asleep."), (LONG, "A dog.")],
    "tacred": [
        {"text": "Ann was born in Oslo.", "subj": [0, 3], "obj": [16, 20]},
        {"text": f"{LONG}, said Ann.", "subj": [len(LONG) + 7, len(LONG) + 10], "obj": [4, 7]},
    ],
    "semeval": ["The <e1>cat</e1> sleeps on the <e2>mat</e2>.", f"{LONG} of the <e2>man</e2> with a <e1>dog</e1>."],
    "openentity": [{"sent": "Ann lives in Oslo.", "start": 13, "end": 17}, {"sent": LONG, "start": 4, "end": 7}],
    "cosmosqa": [
        {"context": "It rained.", "question": "What got wet?", "answers": ["The street.", "The sea."]},
        {"context": LONG, "question": "Who sleeps?", "answers": ["The cat.", "Nobody.", "A dog on the mat."]},
    ],
    "squad": [("Who sleeps?", "The cat sleeps."), ("Who lives in Oslo?", "Ann lives in Oslo, and Bob in Rome. " * 5)],
    "lin": ["The cat sleeps .", LONG],
    "mlm": ["Oslo is the {mask} of Norway.", LONG.replace("mat", "{mask}").replace("old", "{mask}")],
}
LABELS = {
    "RTE": ("yes", "no"),
    "tacred": ("no_relation", "born_in", "said_to"),
    "semeval": ("Other", "On(e1,e2)", "On(e2,e1)"),
    "openentity": ("person", "place", "animal"),
}
# Of these kinds of heads the numbers in other formats are compared here alone.
OF_OWN_KIND = ("tacred", "cosmosqa", "squad", "lin", "mlm")


def task_named(name):
    kind = {key.lower(): task for key, task in TASKS.items()}[name.lower()]
    if name == "squad":
        return kind(doc_stride=8, max_query_length=16, no_answer=True)
    return kind(labels=LABELS[name]) if name in LABELS else kind()


def numbers(answer):
    """All numbers of an answer, however deep."""
    if isinstance(answer, dict):
        return [number for value in answer.values() for number in numbers(value)]
    if isinstance(answer, list | tuple):
        return [number for value in answer for number in numbers(value)]
    return [float(answer)] if isinstance(answer, int | float) else []


def words(answer):
    """What of an answer is not a number of a score."""
    return {
        name: value
        for name, value in answer.items()
        if name not in ("score", "scores", "logit", "best", "no_answer_score")
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", INPUTS)
def test_a_predictor_answers_with_an_exported_model_as_with_the_model(name, tokenizer, tmp_path):
    task, backbone = task_named(name), WITH_TYPES if name == "RTE" else PLAIN
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 80, "pad_token_id": tokenizer.pad_token_id}
    config = type(backbone)(**{**copy.deepcopy(backbone).to_dict(), **sizes})
    model = build(config, (), head=task.head_config(40, config.vocab_size))
    with torch.no_grad():
        for key, weight in model.head.named_parameters():
            if weight.dim() == 2:
                weight.mul_(3)  # so that answers differ
            elif name == "STS-B" and key == "out_proj.bias":
                weight.fill_(2.5)  # the middle of its range
    model.config.task = saved_task(task, 40)
    live = Predictor(model, tokenizer=tokenizer, batch_size=2)
    given = INPUTS[name]
    if name == "mlm":
        given = [text.replace("{mask}", tokenizer.mask_token) for text in given]
    expected = live(given)
    assert numbers(expected[0]) != numbers(expected[1])
    check = [complete(batch, model) for batch in live.batches(given, [f"input {i}" for i in range(len(given))])]
    formats = ("onnx", "openvino") if name in OF_OWN_KIND else ("torch",)  # torch takes least time
    with graphs_traced_once(tmp_path):
        for format in formats:
            export(model, tmp_path / format, format, tokenizer, check)
            found = Predictor(tmp_path / format, threads=1, batch_size=3)(given)
            assert [words(answer) for answer in found] == [words(answer) for answer in expected]
            for one, other in zip(found, expected, strict=True):
                assert numbers(one) == pytest.approx(numbers(other), abs=1e-4)
            exported, outputs = ExportedModel(tmp_path / format), outputs_of(task.head)
            assert_equal_anywhere(
                model, lambda batch, run=exported, names=outputs: [run(**batch)[n] for n in names], outputs
            )
