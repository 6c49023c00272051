"""Prediction from raw inputs: as the recipe's own evaluation found it, for every kind of task."""

import copy
import itertools
import json

import numpy as np
import pytest
import torch
from conftest import load_script, slow
from scipy.special import expit, softmax
from tiny import build

from kadapter import HeadConfig, KAdapterModel, Predictor, TaskModel
from kadapter.data.encoding import Encoding
from kadapter.data.jsonio import read_records
from kadapter.inference.loading import Loaded
from kadapter.tasks import TASKS
from kadapter.tasks.glue import SST2
from kadapter.training.task import saved_task

TYPING = load_script("examples/run_finetune_openentity_adapter.py")
TACRED = load_script("examples/run_finetune_tacred_adapter.py")
SEMEVAL = load_script("examples/run_finetune_semeval_adapter.py")
COSMOSQA = load_script("examples/run_finetune_cosmosqa_adapter.py")
HEADS = load_script("examples/run_pretrain_lin_adapter.py")
WORDS = load_script("examples/run_pretrain_mlm_adapter.py")


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def records(folder, name):
    path = next(path for path in (folder / f"{name}.jsonl", folder / f"{name}.json") if path.is_file())
    return [record for _, record in read_records(path)]


def task_model(tiny_backbone_config, tokenizer, task, seed=0, names=("fac",)):
    """A random model of a task, that knows what it is for."""
    config = copy.deepcopy(tiny_backbone_config)
    config.vocab_size = len(tokenizer)
    model = build(config, names, head=task.head_config(32, config.vocab_size), seed=seed)
    model.config.task = saved_task(task, 32)
    return model


@pytest.fixture
def sst2(tiny_backbone_config, tokenizer):
    task = SST2(labels=("bad", "good"))
    return Predictor(task_model(tiny_backbone_config, tokenizer, task), tokenizer=tokenizer, batch_size=3)


# -- as evaluation found it -------------------------------------------------------------------------------------------


def test_types_and_logits_of_raw_records_are_those_of_the_recipes_evaluation(run, world):
    _, folder = run(TYPING, "--task_adapter=own", steps=3)
    predict = Predictor(folder / "best", batch_size=5)
    given = records(world / "OpenEntity", "dev")
    found, expected = predict(given), lines(folder / "predictions_dev.jsonl")
    assert len(found) == len(expected) > 10
    for answer, row in zip(found, expected, strict=True):
        assert answer["labels"] == row["predicted"]
        np.testing.assert_allclose(list(answer["scores"].values()), expit(row["logits"]), atol=1e-4)
    one = {"text": given[0]["sent"], "start": given[0]["start"], "end": given[0]["end"]}
    assert predict(one)["scores"] == pytest.approx(found[0]["scores"], abs=1e-5)


def test_relations_are_predicted_from_words_and_from_characters(run, world):
    _, folder = run(TACRED, "--task_adapter=own", "--report_per_class=True", steps=3)
    predict, given = Predictor(folder / "best"), records(world / "TACRED", "dev")
    found = predict(given)
    rows = lines(folder / "predictions_dev.jsonl")
    assert [answer["label"] for answer in found] == [row["predicted"] for row in rows]
    words = given[0]["token"]
    places = [len(" ".join(words[:i])) + bool(i) for i in range(len(words) + 1)]
    spans = {
        name[:4].rstrip("_"): [places[given[0][f"{name}_start"]], places[given[0][f"{name}_end"] + 1] - 1]
        for name in ("subj", "obj")
    }
    text = {"text": " ".join(words), "subj": spans["subj"], "obj": spans["obj"]}
    assert predict(text)["scores"] == pytest.approx(found[0]["scores"], abs=1e-5)


@pytest.mark.slow
def test_semeval_sentences_are_predicted_with_their_tags(run, world):
    _, folder = run(SEMEVAL, "--task_adapter=own", steps=3)
    blocks = (world / "semeval2010_task8" / "test.txt").read_text(encoding="utf-8").strip().split("\n\n")
    given = [block.split("\n")[0].split("\t", 1)[1] for block in blocks]
    found = Predictor(folder / "best")(given)
    assert [answer["label"] for answer in found] == [
        row["predicted"] for row in lines(folder / "predictions_test.jsonl")
    ]


def test_answers_of_a_question_are_weighed_however_many_there_are(run, world):
    _, folder = run(COSMOSQA, "--task_adapter=own", steps=3)
    predict, given = Predictor(folder / "best", batch_size=3), records(world / "cosmosQA", "valid")
    found, rows = predict(given), lines(folder / "predictions_dev.jsonl")
    for answer, row, record in zip(found, rows, given, strict=True):
        np.testing.assert_allclose(answer["scores"], softmax(row["logits"]), atol=1e-3)
        assert answer["answer"] == record[f"answer{answer['label']}"]
    first = given[0]
    free = {"context": first["context"], "question": first["question"]}
    answers = [first[f"answer{i}"] for i in range(4)]
    assert predict({**free, "answers": answers})["scores"] == pytest.approx(found[0]["scores"], abs=1e-5)
    two = predict([{**free, "answers": answers[:2]}, given[1]])
    assert len(two[0]["scores"]) == 2
    assert two[1]["scores"] == pytest.approx(found[1]["scores"], abs=1e-5)


def test_governors_of_words_are_those_of_the_recipes_evaluation(run, world):
    _, folder = run(HEADS, "--no_adapter=True", steps=3)
    given = records(world / "find_head", "dev")[:20]
    predict = Predictor(folder / "best")
    rows = lines(folder / "predictions_dev.jsonl")
    for answer, row, record in zip(predict(given), rows, given, strict=False):
        gold = np.array(row["heads"])
        places = np.flatnonzero(gold != -100)
        spans = [next(iter(token.values())) for token in record["tokens"]]
        words = [record["sent"][span["start"] : span["end"]] for span in spans]
        assert answer["words"] == words
        reached = np.array(row["predicted"])[places]
        expected = [0 if at == 0 else int((places <= at).sum()) for at in reached]
        assert answer["heads"] == expected
        assert answer["governors"] == [words[head - 1] if head else None for head in expected]
        assert predict({"words": words}) == answer
        assert predict(" ".join(words)) == answer


def test_hidden_words_are_named_with_their_probabilities(run, world, tokenizer):
    _, folder = run(WORDS, "--no_adapter=True", steps=2)
    text = (world / "text" / "dev.txt").read_text(encoding="utf-8").splitlines()[0]
    words = text.split()
    hidden = " ".join(["<mask>", *words[1:3], "<mask>", *words[4:8]])
    answer = Predictor(folder / "best")(hidden)
    assert len(answer["tokens"]) == len(answer["scores"]) == 2
    model = TaskModel.from_pretrained(folder / "best")
    ids = tokenizer(hidden, return_tensors="pt")["input_ids"]
    positions = (ids == tokenizer.mask_token_id).nonzero()[:, 1][None]
    with torch.no_grad():
        shares = model(ids, positions=positions).logits.softmax(-1)[0]
    assert max(answer["scores"][1].values()) == pytest.approx(shares[1].max().item(), abs=1e-5)
    with pytest.raises(ValueError, match="input 0 cannot be used: no <mask> stands within 64 tokens of the text"):
        Predictor(folder / "best")("nothing is hidden")


def test_glue_is_predicted_from_texts_pairs_and_columns(tiny_backbone_config, tokenizer, tmp_path):
    task = TASKS["RTE"](labels=("yes", "no"))
    model = task_model(tiny_backbone_config, tokenizer, task)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    predict = Predictor(tmp_path)
    pair = ("the first text", "and the second one")
    answer = predict(pair)
    (feature,) = task.encode([{"texts": list(pair), "label": "", "index": 0, "fault": ""}], Encoding(tokenizer, 32))
    with torch.no_grad():
        logits = model(torch.tensor([feature["input_ids"]]), positions=torch.tensor([feature["positions"]])).logits[0]
    assert list(answer["scores"].values()) == pytest.approx(logits.softmax(0).tolist(), abs=1e-6)
    assert answer["label"] == task.labels[int(logits.argmax())]
    assert answer["score"] == max(answer["scores"].values())
    for names in (("sentence1", "sentence2"), ("text", "text_pair")):
        assert predict([dict(zip(names, pair, strict=True))]) == [answer]


# -- how it is called -------------------------------------------------------------------------------------------------


def test_answers_keep_the_order_of_inputs_of_any_length_and_any_batch(sst2):
    texts = ["word " * (1 + 7 * i % 23) for i in range(40)]
    one_by_one = [sst2(text) for text in texts]
    together = sst2(texts)
    for found, expected in zip(together, one_by_one, strict=True):
        assert found["label"] == expected["label"]
        assert found["scores"] == pytest.approx(expected["scores"], abs=1e-5)
    assert sst2([]) == []


def test_a_stream_reads_no_further_than_it_must(sst2):
    read = []

    def texts():
        for i in itertools.count():
            read.append(i)
            yield f"word {i}"

    stream = sst2.stream(texts())
    assert "label" in next(stream)
    assert len(read) == 64 * 3


def test_a_cut_is_told_in_a_note(sst2):
    short, long = sst2(["word", "word " * 200])
    assert "note" not in short
    assert long["note"] == "the texts were cut to max_seq_length"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["fine", ""], "input 1: .* holds no text"),
        (["fine", " \u200b"], "input 1: .* holds no text"),
        ([3], "input 0: 3 is not what SST-2 is about; give a text"),
        ([{"other": "x"}], "input 0: .* holds no text; give one, or a dictionary with 'sentence'"),
        ([("a", "b")], "input 0: .* is not what SST-2 is about"),
    ],
)
def test_an_input_that_cannot_be_used_is_named(sst2, given, message):
    with pytest.raises(ValueError, match=message):
        sst2(given)


def test_mentions_and_choices_that_cannot_be_used_are_named(tiny_backbone_config, tokenizer):
    cases = {
        "openentity": [
            ({"text": "Ann", "start": 0, "end": 9}, "the mention spans 0 to 9, but the sentence has 3 characters"),
            ({"text": "Ann"}, r"the keys \['start', 'end'\] are missing"),
            ("Ann", r"the keys \['sent', 'start', 'end'\] are missing"),
        ],
        "tacred": [
            (
                {"text": "Ann met Bo", "subj": [0, 3], "obj": [8, 11]},
                r"obj is \[8, 11\]; give \[start, end\) of",
            ),
            ({"text": "Ann met Bo", "subj": [0, 6], "obj": [4, 10]}, "cannot be used: the mentions cross"),
            ({"token": ["a"], "subj_start": 0}, "the keys .* are missing"),
        ],
        "semeval": [("no tags at all", "is no example"), ({"text": "<e1>a</e1> <e2></e2>"}, "an entity is empty")],
        "cosmosqa": [
            ({"context": "c", "question": "q", "answers": []}, r"answers is \[\]; give a list of texts"),
            ({"context": "c", "question": "", "answers": ["a"]}, "holds no text"),
        ],
        "lin": [
            ("", "holds no text"),
            ([], r"words is \[\]; give a list"),
            (["a", ""], "give a list of words"),
        ],
    }
    for name, given in cases.items():
        kind = TASKS[name]
        task = kind(labels=tuple(kind.own_labels(None)))
        predict = Predictor(task_model(tiny_backbone_config, tokenizer, task), tokenizer=tokenizer)
        for one, message in given:
            with pytest.raises(ValueError, match=f"input 0.*{message}"):
                predict([one])


# -- what it is made of -----------------------------------------------------------------------------------------------


def test_a_task_saved_alone_predicts_on_its_backbone(tiny_backbone_config, tokenizer, tmp_path, tiny_backbone):
    encoder = KAdapterModel.from_pretrained(tiny_backbone)
    task = SST2(labels=("bad", "good"))
    model = TaskModel.from_encoder(encoder, task.head_config(32, encoder.config.vocab_size)).eval()
    model.config.task = saved_task(task, 32)
    expected = Predictor(model, tokenizer=tokenizer)("a text")
    model.save_task(tmp_path)
    assert Predictor(tmp_path, backbone=tiny_backbone)("a text") == expected
    with pytest.raises(ValueError, match="holds only what a task adds; give its backbone"):
        Predictor(tmp_path)


def test_what_does_not_belong_together_is_refused(tiny_backbone_config, tokenizer, tmp_path):
    small = build(tiny_backbone_config, ("fac",), head=HeadConfig("classification", 2))
    with pytest.raises(ValueError, match=r"the tokenizer has \d+ tokens, but the model 120; give the one"):
        Predictor(small, tokenizer=tokenizer, task=SST2(labels=("bad", "good")))
    model = task_model(tiny_backbone_config, tokenizer, SST2(labels=("bad", "good")))
    model.config.task = None
    with pytest.raises(ValueError, match="does not say what it was trained for; give task="):
        Predictor(model, tokenizer=tokenizer)
    known = Predictor(model, tokenizer=tokenizer, task=SST2(labels=("bad", "good")))
    assert known("a text")["label"] in ("bad", "good")
    model.config.task = {"name": "nothing", "options": {}, "max_seq_length": 8}
    with pytest.raises(ValueError, match="was trained for 'nothing', which is not among fac, lin"):
        Predictor(model, tokenizer=tokenizer)
    model.config.task = {"name": "SST-2", "options": {"speed": 1}, "max_seq_length": 8}
    with pytest.raises(ValueError, match=r"the task 'SST-2' has no options \['speed'\]"):
        Predictor(model, tokenizer=tokenizer)
    with pytest.raises(ValueError, match="batch_size is 0; it must be 1 or more"):
        Predictor(model, tokenizer=tokenizer, batch_size=0)
    model.config.task = None
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a whole model; leave backbone, adapters out"):
        Predictor(tmp_path, backbone="roberta-large", adapters={})


@pytest.mark.parametrize("name", [slow("cpu")])
def test_a_backbone_in_bf16_gives_nearly_the_same(tiny_backbone_config, tokenizer, tmp_path, name):
    model = task_model(tiny_backbone_config, tokenizer, SST2(labels=("bad", "good")))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    exact, rough = Predictor(tmp_path, device=name), Predictor(tmp_path, dtype=torch.bfloat16, device=name)
    assert rough.model.encoder.backbone.dtype == torch.bfloat16
    found, expected = rough("some text"), exact("some text")
    assert found["scores"] != expected["scores"]
    assert found["scores"] == pytest.approx(expected["scores"], abs=0.05)


def test_anything_that_computes_like_a_head_can_predict(sst2, tokenizer):
    def model(**batch):
        return sst2.model(**batch)

    twin = Predictor(Loaded(model, sst2.task, sst2.encoding))
    assert twin(["one", "two"]) == sst2(["one", "two"])
