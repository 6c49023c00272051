"""The fine-tuning tasks: real scripts in process on a tiny model and the demo world, and what they refuse."""

import json
import re
import shutil

import pytest
import torch
from conftest import fast, load_script, slow
from safetensors.torch import load_file

from kadapter import TaskModel
from kadapter.data.jsonio import write_json, write_json_list, write_jsonl
from kadapter.data.labels import read_labels
from kadapter.tasks.entity_typing import read_entity_typing
from kadapter.tasks.multiple_choice import encode_choices, read_cosmosqa
from kadapter.tasks.relations import TACRED_LABELS, encode_relations, read_relations
from kadapter.tasks.semeval import LABELS, read_semeval

FAC = load_script("examples/run_pretrain_fac_adapter.py")
OPENENTITY = load_script("examples/run_finetune_openentity_adapter.py")
FIGER = load_script("examples/run_finetune_figer_adapter.py")
TACRED = load_script("examples/run_finetune_tacred_adapter.py")
SEMEVAL = load_script("examples/run_finetune_semeval_adapter.py")
COSMOS = load_script("examples/run_finetune_cosmosqa_adapter.py")
ALL = [FIGER, TACRED, SEMEVAL, COSMOS]
SOME = fast([TACRED, COSMOS], ALL)  # heads of marked places and of choices


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def adapters(tiny_backbone, world, tmp_path_factory):
    """Two pretrained adapters, as folders."""
    output = tmp_path_factory.mktemp("adapters")
    flags = ["--do_train", "--max_steps=2", "--adapter_size=16", "--adapter_attention_heads=2", "--no_cuda"]
    for name in ("one", "two"):
        data = [f"--model_name_or_path={tiny_backbone}", f"--data_dir={world / 'trex-rc'}"]
        FAC.main([*data, *flags, f"--output_dir={output / name}"])
    return [next((output / name).iterdir()) for name in ("one", "two")]


# -- the scripts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", SOME, ids=lambda recipe: recipe.__name__.split("_")[2])
@pytest.mark.parametrize("fusion_mode", ["concat", slow("add")])
def test_every_task_takes_frozen_and_fresh_adapters_together(run, adapters, recipe, fusion_mode):
    flags = [f"--meta_fac_adaptermodel={adapters[0]}", f"--adapter=bio={adapters[1]}", "--task_adapter=own"]
    report, folder = run(recipe, *flags, f"--fusion_mode={fusion_mode}", "--freeze_bert=True", steps=3)
    assert report["steps"] == 3
    assert len(lines(folder / "predictions_dev.jsonl")) > 10
    model = TaskModel.from_pretrained(folder / "best")
    assert list(model.encoder.adapters) == ["fac", "bio", "own"]
    for name, path in zip(("fac", "bio"), adapters, strict=True):
        state = load_file(path / "adapter_model.safetensors")
        assert all(torch.equal(value, model.encoder.adapters[name].get_parameter(key)) for key, value in state.items())
    trained = {
        name.split(".")[2] for name in load_file(folder / "checkpoint-3" / "trained.safetensors") if "adapters" in name
    }
    assert trained == {"own"}


@pytest.mark.parametrize("recipe", SOME, ids=lambda recipe: recipe.__name__.split("_")[2])
def test_every_task_runs_without_adapters_and_resumes_to_the_same_weights(run, recipe):
    report, whole = run(recipe, "--comment", "whole")
    _, broken = run(recipe, "--comment", "broken")
    shutil.rmtree(broken / "checkpoint-6")
    (broken / "metrics.json").unlink()
    again, _ = run(recipe, "--comment", "broken")
    one, other = load_file(whole / "model.safetensors"), load_file(broken / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert again["dev"] == report["dev"]
    if recipe is not COSMOS:
        assert again["test"] == report["test"]


def test_figer_reports_its_loops_score_apart_and_keeps_the_label_order(run, world):
    report, folder = run(FIGER, "--comment", "figer")
    assert {"f1", "macro_f1", "accuracy", "top_f1", "top_macro_f1", "top_accuracy"} <= set(report["test"])
    assert report["test"]["top_recall"] >= report["test"]["recall"]
    labels = json.loads((world / "FIGER" / "labels.json").read_text())
    first = [label for row in json.loads((world / "FIGER" / "train.json").read_text()) for label in row["labels"]]
    assert labels[: len(set(first))] == list(dict.fromkeys(first))
    assert TaskModel.from_pretrained(folder).config.head["labels"] == labels


def test_tacred_samples_negatives_and_writes_a_table_by_relation(run, world, caplog):
    caplog.set_level("INFO")
    report, folder = run(TACRED, "--negative_sample", "5", "--report_per_class", "--comment", "table")
    negatives = sum(
        row["relation"] == "no_relation" for row in json.loads((world / "TACRED" / "train.json").read_text())
    )
    said = re.search(r"(\d+) examples: 6 steps", caplog.text)
    assert (
        int(said[1]) == sum(1 for _ in read_relations(world / "TACRED" / "train.json", TACRED_LABELS)) - negatives + 4
    )
    table = json.loads((folder / "per_class_test.json").read_text())
    gold = [row["relation"] for row in json.loads((world / "TACRED" / "test.json").read_text())]
    assert {row["label"]: row["gold"] for row in table if row["gold"]} == {name: gold.count(name) for name in set(gold)}
    assert "per:spouse" in caplog.text


def test_tacred_takes_other_labels(run, world, tmp_path):
    write_json(tmp_path / "labels.json", [*TACRED_LABELS[:20], "per:identity", *TACRED_LABELS[20:]])
    _, folder = run(TACRED, "--labels", tmp_path / "labels.json")
    assert TaskModel.from_pretrained(folder).config.head["num_labels"] == 43
    write_json(tmp_path / "few.json", ["per:spouse"])
    with pytest.raises(ValueError, match="--negative is 'no_relation', which is not among the 1 labels"):
        run(TACRED, "--labels", tmp_path / "few.json")


def test_without_a_negative_relation_all_relations_count(run, world, tmp_path):
    report, folder = run(TACRED, "--negative", "", "--comment", "all")
    rows = lines(folder / "predictions_test.jsonl")
    right = sum(row["relation"] == row["predicted"] for row in rows) / len(rows)
    assert report["test"] == {**report["test"], "precision": right, "recall": right, "f1": right}
    assert any(row["relation"] == "no_relation" for row in rows)


def test_semeval_holds_dev_out_of_train_unless_there_is_a_dev_file(run, world, tmp_path):
    report, folder = run(SEMEVAL, "--dev_share", "0.2")
    everything = list(read_semeval(world / "semeval2010_task8" / "train.txt", LABELS))
    assert len(lines(folder / "predictions_dev.jsonl")) == round(0.2 * len(everything))
    assert {"macro_f1", "original_macro_f1", "accuracy"} <= set(report["test"])
    shutil.copytree(world / "semeval2010_task8", tmp_path / "own")
    shutil.copy(tmp_path / "own" / "test.txt", tmp_path / "own" / "dev.txt")
    _, folder = run(SEMEVAL, "--data_dir", tmp_path / "own", "--comment", "own")
    assert len(lines(folder / "predictions_dev.jsonl")) == len(lines(folder / "predictions_test.jsonl"))


def test_cosmosqa_writes_the_leaderboards_file_and_its_errors(run, world):
    flags = ["--do_test", "--print_error_analysis", "--train_steps", "8", "--gradient_accumulation_steps", "2"]
    report, folder = run(COSMOS, *flags)
    assert report["steps"] == 4  # the original counts micro-batches
    assert "test" not in report
    chosen = (folder / "predictions.lst").read_text().split()
    assert len(chosen) == len(lines(world / "cosmosQA" / "test.jsonl"))
    assert set(chosen) <= {"0", "1", "2", "3"}
    assert [str(row["predicted"]) for row in lines(folder / "predictions_test.jsonl")] == chosen
    questions, errors = lines(world / "cosmosQA" / "valid.jsonl"), lines(folder / "errors_dev.jsonl")
    assert 1 - len(errors) / len(questions) == pytest.approx(report["dev"]["accuracy"])
    assert all(row["predicted"] != int(row["label"]) and len(row["logits"]) == 4 for row in errors)
    assert all({key: row[key] for key in questions[0]} in questions for row in errors)


def test_a_finished_run_can_still_write_predictions_errors_and_tables(run):
    run(COSMOS)
    report, folder = run(COSMOS, "--do_test", "--print_error_analysis")
    assert report["steps"] == 6
    assert (folder / "predictions.lst").is_file()
    assert (folder / "errors_dev.jsonl").is_file()
    run(TACRED)
    _, folder = run(TACRED, "--report_per_class")
    assert (folder / "per_class_test.json").is_file()


def test_a_bad_figer_file_leaves_no_labels_behind(run, tmp_path):
    write_json_list(tmp_path / "data" / "train.json", [{"sent": "ab", "start": 0, "end": 2, "labels": "/person"}])
    with pytest.raises(ValueError, match="record 1: labels is ./person.; give a list of names"):
        run(FIGER, "--data_dir", tmp_path / "data")
    assert not (tmp_path / "data" / "labels.json").exists()


def test_a_file_with_and_without_labels_is_refused(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [GOOD, {**GOOD, "id": "b", "label": 1}])
    with pytest.raises(ValueError, match="record 2: some records have a label and some have none"):
        list(read_cosmosqa(tmp_path / "a.jsonl", labelled=False))


def test_cosmosqa_reads_evidence_and_says_where_it_is_missing(run, world, tmp_path):
    rows = lines(world / "cosmosQA" / "train.jsonl")
    for row in rows:
        row |= {f"answer{i}_searched_evidence": {"basic": [{"text": "one"}, {"text": "two"}]} for i in range(4)}
    for name in ("train", "valid"):
        write_jsonl(tmp_path / "evidence" / f"{name}.jsonl", rows)
    flags = ["--preprocess_type", "read_examples_add_evidence", "--original_padding"]
    run(COSMOS, *flags, "--data_dir", tmp_path / "evidence")
    with pytest.raises(
        ValueError, match=r"record 1 .*add_evidence.: the keys \['answer0_searched_evidence'\] are missing"
    ):
        run(COSMOS, *flags, "--comment", "plain")
    example = next(read_cosmosqa(tmp_path / "evidence" / "train.jsonl", evidence=True))
    assert example["endings"][2][2] == "one # two"


# -- encodings --------------------------------------------------------------------------------------------------


def test_a_long_sentence_keeps_both_markers_in_a_window(tokenizer, tmp_path):
    words = ["the"] * 60
    row = {"token": words, "relation": "no_relation", "subj_start": 40, "subj_end": 40, "obj_start": 45, "obj_end": 46}
    far = {**row, "subj_start": 2, "subj_end": 2}
    write_json_list(tmp_path / "a.json", [row, far])
    examples = list(read_relations(tmp_path / "a.json", TACRED_LABELS))
    kept, lost = encode_relations(examples, tokenizer, 20, TACRED_LABELS, keep_markers=True)
    mark, other = tokenizer.convert_tokens_to_ids(["@", "#"])
    assert len(kept["input_ids"]) == 20
    assert [kept["input_ids"][position] for position in kept["positions"]] == [mark, other]
    assert kept["input_ids"].count(mark) == kept["input_ids"].count(other) == 2  # the closing ones too
    assert "window" in kept["note"]
    assert lost["dropped"]  # no window of 20 holds both
    assert all(feature["dropped"] for feature in encode_relations(examples, tokenizer, 20, TACRED_LABELS))


@pytest.mark.parametrize("context", [3, 20, 60])
@pytest.mark.parametrize("answer", [3, 20, 60])
@pytest.mark.parametrize("size", [30, 31])
def test_pairs_are_truncated_as_token_by_token(tokenizer, context, answer, size):
    example = {"context": " the" * context, "endings": [["and" + " and" * (answer - 2), "or"]], "label": 0}
    feature = encode_choices([example], tokenizer, size)[0]
    first = len(tokenizer(" the" * context, add_special_tokens=False)["input_ids"])
    second = len(feature["input_ids"][0]) and answer + 1  # question, a separator, the answer
    while first + second > size - 3:
        first, second = (first - 1, second) if first > second else (first, second - 1)
    ids = feature["input_ids"][0]
    assert len(ids) == first + second + 3
    assert ids.index(tokenizer.sep_token_id) == first + 1


# -- bad input --------------------------------------------------------------------------------------------------

GOOD = {"id": "a", "context": "c", "question": "q", "answer0": "0", "answer1": "1", "answer2": "2", "answer3": "3"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "4"}, r"record 1: label is .?4.?; it must be 0 to 3"),
        ({"label": "-100"}, r"record 1: label is .?-100.?"),
        ({"label": None}, r"record 1: label is null"),
        ({"question": 7, "label": 0}, r"record 1: question is 7; give a text"),
        ({}, r"record 1: the keys \['label'\] are missing"),
    ],
)
def test_bad_questions_are_refused_with_file_and_record(tmp_path, change, message):
    write_jsonl(tmp_path / "a.jsonl", [{**GOOD, **change}])
    with pytest.raises(ValueError, match=r"a\.jsonl, " + message):
        list(read_cosmosqa(tmp_path / "a.jsonl"))


def test_ids_that_stand_twice_are_refused(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{**GOOD, "label": 1}, {**GOOD, "label": 2}])
    with pytest.raises(ValueError, match=r"a\.jsonl, record 2: the id 'a' stands at 1 already"):
        list(read_cosmosqa(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('1\t"<e1>a</e1> b <e2>c</e2>"\r\nNothing\r\n', "line 1: the relation 'Nothing' is not among the 19 labels"),
        ('1\t"<e1>a</e1> b <e2>c</e2>"\n\n', "line 1: the relation '' .*TEST_FILE_FULL.TXT"),
        ('1\t"<e1>a</e1> b c"\nOther\n', "line 1: .* is no example"),
        ('\n\nx\t"<e1>a</e1> b <e2>c</e2>"\nOther\n', "line 3: .* is no example"),
        ('1\t"<e1> </e1> b <e2>c</e2>"\nOther\n', "line 1: an entity is empty"),
        ('1\t"<e1>a</e1><e2>c</e2>"\nOther\n\n1\t"<e1>a</e1><e2>c</e2>"\nOther\n', "line 4: the id '1'"),
        ("\n", "is empty"),
    ],
)
def test_bad_semeval_files_are_refused_with_the_line(tmp_path, text, message):
    (tmp_path / "train.txt").write_bytes(text.encode())
    with pytest.raises(ValueError, match=r"train\.txt(, | )" + message):
        list(read_semeval(tmp_path / "train.txt", LABELS))


def test_semeval_sentences_keep_their_quotes_and_their_order(tmp_path):
    text = '7\t""Yes," said <e2>she</e2> to <e1>him</e1>: "no.""\r\nOther\r\nComment: odd\r\n\r\n'
    (tmp_path / "train.txt").write_bytes(text.encode())
    (example,) = read_semeval(tmp_path / "train.txt", LABELS)
    assert example["pieces"] == ['"Yes," said ', "she", " to ", "him", ': "no."']
    assert example["subject_first"] is False


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"sent": "ab", "start": 0, "end": 3, "labels": ["/x"]}, "record 1: the mention spans 0 to 3, .* 2 characters"),
        ({"sent": "a b", "start": 1, "end": 2, "labels": ["/x"]}, "record 1: the mention from 1 to 2 is empty"),
        (
            {"sent": "ab", "start": 0, "end": 2, "labels": ["/y"]},
            r"record 1: the labels \['/y'\] are not among the 1 known",
        ),
        ({"sent": "ab", "start": 0, "end": 2, "labels": "/x"}, "record 1: labels is ./x.; give a list"),
        ({"sent": "ab", "start": 0, "label": ["/x"]}, r"record 1: the keys \['end', 'labels'\] are missing"),
    ],
)
def test_bad_typing_examples_are_refused_with_file_and_record(tmp_path, row, message):
    write_json_list(tmp_path / "a.json", [row])
    with pytest.raises(ValueError, match=r"a\.json, " + message):
        list(read_entity_typing(tmp_path / "a.json", ["/x"]))


@pytest.mark.parametrize("recipe", ALL, ids=lambda recipe: recipe.__name__.split("_")[2])
def test_a_missing_split_ends_before_anything_is_written(run, tmp_path, recipe):
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match=r"train\.(json|txt) is missing|valid\.json is missing"):
        run(recipe, "--data_dir", tmp_path / "none")
    assert [path.name for path in tmp_path.iterdir()] == ["none"]
    assert not list((tmp_path / "none").iterdir())


def test_a_test_split_that_is_asked_for_must_be_there(run, world, tmp_path):
    shutil.copytree(world / "cosmosQA", tmp_path / "data")
    (tmp_path / "data" / "test.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.json is missing; .* or leave --do_test out"):
        run(COSMOS, "--do_test", "--data_dir", tmp_path / "data")


@pytest.mark.parametrize("ids", [{"a": 0, "b": True}, {"a": 0, "b": 0.5}, {"a": 0, "b": 2}, {"a": 0, "b": "1"}])
def test_ids_of_labels_are_whole_numbers_from_0(tmp_path, ids):
    write_json(tmp_path / "labels.json", ids)
    with pytest.raises(ValueError, match=r"labels\.json: the ids are not 0 to 1, each once"):
        read_labels(tmp_path / "labels.json")
    write_json(tmp_path / "labels.json", {"b": 1.0, "a": 0.0})  # as pandas writes them
    assert read_labels(tmp_path / "labels.json") == ["a", "b"]
