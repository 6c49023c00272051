"""Tokens, marker positions and labels are those of the original's readers (tests/golden/README.md)."""

import pytest
from conftest import golden_json
from transformers import RobertaTokenizer

from kadapter.data.encoding import tokenize_pieces
from kadapter.data.jsonio import write_json_list
from kadapter.tasks.dependencies import encode_dependencies, read_dependencies
from kadapter.tasks.entity_typing import OPENENTITY_LABELS, Figer, encode_entity_typing, read_entity_typing
from kadapter.tasks.multiple_choice import encode_choices, read_cosmosqa
from kadapter.tasks.relations import encode_relations, read_relations
from kadapter.tasks.semeval import LABELS as SEMEVAL_LABELS
from kadapter.tasks.semeval import Semeval, read_semeval


@pytest.fixture(scope="module")
def roberta():
    """RoBERTa's tokenizer, cut down to what the cases need."""
    parts = golden_json("roberta_tokenizer")
    return RobertaTokenizer(vocab=parts["vocab"], merges=[tuple(merge.split()) for merge in parts["merges"]])


@pytest.fixture(scope="module")
def cases():
    return golden_json("text_cases")


@pytest.fixture(scope="module")
def expected():
    return golden_json("text")


def written(tmp_path, examples):
    write_json_list(tmp_path / "train.json", examples)
    return tmp_path / "train.json"


def kept(features):
    return [feature for feature in features if not feature.get("dropped")]


def test_pieces_tokenize_as_the_old_tokenizer_did(roberta, cases, expected):
    ids = tokenize_pieces(roberta, cases["strings"])
    assert ids == [expected["tokenize"][text] for text in cases["strings"]]


def test_relation_examples_are_encoded_as_in_the_original_on_request(roberta, cases, expected, tmp_path):
    case = cases["trex"]
    # Of two mentions of the same word the original writes the word twice (docs/deviations.md, 34).
    examples = list(read_relations(written(tmp_path, case["examples"]), case["labels"], original_spans=True))
    features = encode_relations(examples, roberta, case["max_seq_length"], case["labels"])
    found = [
        {"input_ids": f["input_ids"], "subj": f["positions"][0], "obj": f["positions"][1], "label": f["labels"]}
        for f in kept(features)
    ]
    assert found == expected["trex"]
    assert [bool(f.get("dropped")) for f in features] == [False, False, False, True, False]


def test_entity_typing_examples_are_encoded_as_in_the_original(roberta, cases, expected, tmp_path):
    case = cases["openentity"]
    examples = list(read_entity_typing(written(tmp_path, case["examples"]), OPENENTITY_LABELS))
    features = encode_entity_typing(examples, roberta, case["max_seq_length"], OPENENTITY_LABELS)
    found = [
        {"input_ids": f["input_ids"], "start": f["positions"][0], "labels": f["labels"].tolist()} for f in features
    ]
    assert found == expected["openentity"]


def test_dependency_examples_are_encoded_as_in_the_original_on_request(roberta, cases, expected, tmp_path):
    case = cases["find_head"]
    examples = list(read_dependencies(written(tmp_path, case["examples"])))
    features = kept(encode_dependencies(examples, roberta, case["max_seq_length"], original_labels=True))
    assert [{"input_ids": f["input_ids"], "labels": f["labels"]} for f in features] == expected["find_head"]


def test_dependency_labels_point_from_first_sub_word_to_first_sub_word(roberta, cases, tmp_path):
    case = cases["find_head"]
    examples = list(read_dependencies(written(tmp_path, case["examples"])))
    features = encode_dependencies(examples, roberta, case["max_seq_length"], original_labels=False)
    # "unbelievably , Zaïdi purrs loudly !": Zaïdi is positions 3 to 5, purrs 6 and 7; all depend on purrs, the root
    assert features[1]["labels"] == [-100, 6, 6, 6, -100, -100, 0, -100, 6, 6, -100]
    assert features[1]["items"] == 6
    assert features[2]["labels"] == [-100, 2, -100, 0, -100] or not features[2].get("dropped")


def test_figer_examples_are_encoded_as_in_the_original(roberta, cases, expected, tmp_path):
    case = cases["figer"]
    path = written(tmp_path, case["examples"])
    path.rename(path := path.with_name("train.json"))
    labels = Figer.with_collected_labels(tmp_path).labels
    assert list(labels) == case["labels"]
    features = encode_entity_typing(list(read_entity_typing(path, labels)), roberta, case["max_seq_length"], labels)
    found = [
        {"input_ids": f["input_ids"], "start": f["positions"][0], "labels": f["labels"].tolist()} for f in features
    ]
    assert found == expected["figer"]


def test_tacred_examples_are_sampled_and_encoded_as_in_the_original(roberta, cases, expected, tmp_path):
    case = cases["tacred"]
    labels = golden_json("labels")["tacred"]
    path = written(tmp_path, case["examples"])
    examples = list(read_relations(path, labels, "no_relation", case["negative_sample"]))
    assert [example["record"] - 1 for example in examples] == expected["tacred_kept"]
    features = encode_relations(examples, roberta, case["max_seq_length"], labels, keep_markers=True)
    found = [
        {"input_ids": f["input_ids"], "subj": f["positions"][0], "obj": f["positions"][1], "label": f["labels"]}
        for f in features
    ]
    assert found == expected["tacred"]


def test_cosmosqa_examples_are_encoded_as_in_the_original(roberta, cases, expected, tmp_path):
    case = cases["cosmosqa"]
    examples = list(read_cosmosqa(written(tmp_path, case["examples"])))
    features = encode_choices(examples, roberta, case["max_seq_length"])
    assert [{"choices": f["input_ids"], "label": f["labels"]} for f in features] == expected["cosmosqa"]


def test_semeval_examples_are_marked_as_in_the_original(roberta, tmp_path):
    (tmp_path / "train.txt").write_text('1\t"Hello <e2>world</e2> from <e1>Oslo</e1> ."\nOther\nComment:\n\n')
    examples = list(read_semeval(tmp_path / "train.txt", SEMEVAL_LABELS))
    (feature,) = encode_relations(examples, roberta, 24, SEMEVAL_LABELS, Semeval.markers, bare=False)
    # The original tokenizes one text with " @ " and " ^ " in it, so that the markers carry a space, as in Ġ@ (787).
    pieces = ["Hello ", "world", " from ", "Oslo", " ."]
    before, second, between, first, after = tokenize_pieces(roberta, pieces)
    mark, other = tokenize_pieces(roberta, ["@", "^"])
    assert mark == [787]
    text = [*before, *other, *second, *other, *between, *mark, *first, *mark, *after]
    assert feature["input_ids"] == [0, *text, 2]
    assert [feature["input_ids"][position] for position in feature["positions"]] == [mark[0], other[0]]
