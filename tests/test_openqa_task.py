"""Open-domain question answering as a task: windows, the places of answers, decoding, scores, the recipe's runs."""

import json
import math
import re

import numpy as np
import pytest
import torch
from conftest import load_script, slow
from questions import write_questions

from kadapter.data.answers import normalize_answer
from kadapter.data.encoding import Encoding
from kadapter.data.openqa import openqa_lines
from kadapter.inference.predictor import Predictor
from kadapter.models.openqa import BEST_SPANS, Reading, best_spans, paragraph_mask, reader_log_probs
from kadapter.shapes import IGNORE
from kadapter.tasks import TASKS
from kadapter.tasks.openqa import QuasarT, SearchQA, bearing_alone
from kadapter.tasks.openqa_answers import Windows, hit_scores

RECIPE = load_script("examples/run_finetune_searchqa_adapter.py")
PAIRED = load_script("scripts/paired_tests.py")
TEXTS = ["The Ann Lee of Oslo sang; Ann Lee won.", "Ben sang.", "It was “ann LEE” again, and again Ann, Lee."]


def example(answers, texts=TEXTS, split="dev", question="Who sang in Oslo ?"):
    return {"question": question, "answers": answers, "paragraphs": texts, "split": split, "fault": "", "record": 1}


def encoded(tokenizer, answers, length=64, texts=TEXTS, split="dev", question="Who sang in Oslo ?", **options):
    (feature,) = SearchQA(**options).encode([example(answers, texts, split, question)], Encoding(tokenizer, length))
    return feature


def answer_texts(feature, texts):
    """What the labels of a feature stand for: (window, text)."""
    windows = Windows.of(feature, texts)
    begins = np.cumsum([0, *(windows.positions[:, 2] - windows.positions[:, 1] + 1)])
    found = []
    for window, start, end in windows.labels.reshape(-1, 3):
        first = begins[window] + start - windows.positions[window, 1]
        last = begins[window] + end - windows.positions[window, 1]
        found.append((int(window), texts[windows.paragraphs[window]][windows.starts[first] : windows.ends[last]]))
    return found


def test_answers_are_found_by_squads_form_and_mapped_to_tokens(tokenizer):
    feature = encoded(tokenizer, ["ann lee"])
    # “ann LEE” keeps its marks in SQuAD's form, which the finder passes over; a byte-level token may hold a mark too.
    found = [(window, normalize_answer(text).strip("“”")) for window, text in answer_texts(feature, TEXTS)]
    assert found == [(0, "ann lee"), (0, "ann lee"), (2, "ann lee"), (2, "ann lee")]
    sequence = tokenizer.decode(feature["input_ids"][1], skip_special_tokens=False)
    assert re.sub(r"\s", "", sequence) == "<s>WhosanginOslo?</s></s>Bensang.</s>"
    pair = tokenizer("Who sang in Oslo ?", TEXTS[0])["input_ids"]
    assert feature["input_ids"][0] == pair
    first, last = feature["positions"][1:3]
    assert tokenizer.decode(pair[first : last + 1]).strip() == TEXTS[0]


def test_an_answer_that_is_too_long_or_nowhere_leaves_train_alone(tokenizer):
    long = "Ann Lee of Oslo sang"
    for split, options in (("dev", {}), ("train", {}), ("train", {"max_answer_tokens": 3})):
        feature = encoded(tokenizer, [long], split=split, **options)
        if options:
            assert "has more than max_answer_tokens tokens" in feature["dropped"]
        else:
            assert len(answer_texts(encoded(tokenizer, [long], **options), TEXTS)) == 1
    assert encoded(tokenizer, ["Oslo harbour"])["labels"] == [IGNORE] * 3


def test_long_paragraphs_become_windows_that_share_tokens(tokenizer):
    text = " ".join(f"Ann met Ben on day {i}." for i in range(12)) + " Cleo Lee won."
    feature = encoded(tokenizer, ["Cleo Lee", "Ann met"], length=40, texts=[text, "Ben."], stride=8)
    windows = Windows.of(feature, [text, "Ben."])
    count = len(windows.paragraphs)
    assert windows.paragraphs.tolist() == [0] * (count - 1) + [1]
    assert all(len(ids) <= 40 for ids in feature["input_ids"])
    (whole,) = tokenizer([text], add_special_tokens=False)["input_ids"]
    sizes = windows.positions[:, 2] - windows.positions[:, 1] + 1
    assert sizes[:-1].sum() - len(whole) >= 8 * (count - 2)
    found = answer_texts(feature, [text, "Ben."])
    assert (count - 2, "Cleo Lee") in found
    assert {answer for _, answer in found} == {"Cleo Lee", "Ann met"}
    assert windows.bearing == {0}


def test_a_question_as_long_as_a_window_is_cut_to_half_of_it(tokenizer):
    feature = encoded(tokenizer, ["Ben"], length=32, question="Who " * 60 + "?")
    assert feature["note"] == "the question was cut to half of max_seq_length"
    assert max(map(len, feature["input_ids"])) <= 32
    assert {text for _, text in answer_texts(feature, TEXTS)} == {"Ben"}


def test_regular_expressions_are_found_in_any_case(tokenizer):
    feature = encoded(tokenizer, [r"ann\W+lee\b"], regex_answers=True)
    assert {window for window, _ in answer_texts(feature, TEXTS)} == {0, 2}


def test_paragraphs_without_an_answer_are_left_out_where_nothing_is_selected(tokenizer):
    feature = encoded(tokenizer, ["ann lee"], split="train")
    kept = bearing_alone(feature, 0)
    assert kept["input_ids"] == [feature["input_ids"][0], feature["input_ids"][2]]
    assert [*kept["labels"][::3]] == [0, 0, 1, 1]
    assert [*kept["positions"]] == [*feature["positions"][:3], *feature["positions"][6:]]
    assert SearchQA(mode="all").augmentation(tokenizer, 0) is None
    assert SearchQA(mode="reader").augmentation(tokenizer, 0) is bearing_alone
    assert SearchQA(no_paragraph_confidence=True).augmentation(tokenizer, 0) is bearing_alone


# -- decoding ---------------------------------------------------------------------------------------------------


def drawn(feature, seed=0):
    """Random logits, and what an evaluation keeps of them."""
    torch.manual_seed(seed)
    spans = torch.tensor(feature["positions"]).view(-1, 3)[:, 1:]
    logits = 2 * torch.randn(len(spans), 64, 2).masked_fill(~paragraph_mask(spans, 64)[..., None], -torch.inf)
    log_probs = reader_log_probs(logits)
    selected = torch.randn(len(spans)).log_softmax(0)
    parts = zip(("spans", "starts", "ends"), best_spans(log_probs, BEST_SPANS, 15), strict=True)
    return log_probs, selected, {"selected": selected.numpy(), **{name: part.flatten().numpy() for name, part in parts}}


@pytest.mark.parametrize("confidence", [True, False])
def test_spans_add_their_probabilities_over_paragraphs_and_windows(tokenizer, confidence):
    text = " ".join(["Ann Lee sang and Ben Moss sang"] * 6)
    texts = [text, "Ann, Lee!", "Ben Moss sang"]
    feature = encoded(tokenizer, ["Ann Lee"], length=48, texts=texts, stride=8)
    windows = Windows.of(feature, texts)
    log_probs, selected, kept = drawn(feature)
    expected = {}
    begins = np.cumsum([0, *(windows.positions[:, 2] - windows.positions[:, 1] + 1)])
    for w, (_, first, last) in enumerate(windows.positions):
        spans = {
            (s, e): float(log_probs[w, s, 0] + log_probs[w, e, 1])
            for s in range(first, last + 1)
            for e in range(s, min(s + 14, last) + 1)
        }
        for (s, e), score in sorted(spans.items(), key=lambda one: -one[1])[:10]:
            at = begins[w] - first
            said = texts[windows.paragraphs[w]][windows.starts[at + s] : windows.ends[at + e]]
            form = normalize_answer(said) or said.strip().lower()
            if not form:
                continue
            weight = float(selected[w].exp()) if confidence else 1 / len(windows.paragraphs)
            expected[form] = expected.get(form, 0.0) + weight * math.exp(score)
    found = windows.answers(kept, confidence)
    assert len(windows.paragraphs) > 3
    assert [normalize_answer(one.text) or one.text.lower() for one in found] == sorted(
        expected, key=lambda f: -expected[f]
    )
    for one in found:
        assert one.score == pytest.approx(expected[normalize_answer(one.text) or one.text.lower()], rel=1e-5)
        assert texts[one.paragraph][one.start : one.end] == one.text


def test_the_paragraph_of_an_answer_is_the_one_that_adds_most_to_it(tokenizer):
    texts = ["Ben", "Ben", "Ann"]
    feature = encoded(tokenizer, ["Ben"], texts=texts)
    windows = Windows.of(feature, texts)
    count = len(windows.paragraphs)
    _, _, kept = drawn(feature)
    first = windows.positions[:, 1]
    kept["spans"] = np.full((count, BEST_SPANS), -np.inf)
    kept["spans"][:, 0] = 0
    kept["starts"] = np.repeat(first, BEST_SPANS)
    kept["ends"] = np.repeat(windows.positions[:, 2], BEST_SPANS)
    kept["selected"] = np.log([0.25, 0.3, 0.45])
    best, second = windows.answers(kept, confidence=True)
    assert (best.text, best.paragraph) == ("Ben", 1)
    assert (best.score, second.score) == (pytest.approx(0.55), pytest.approx(0.45))  # two paragraphs outweigh one
    assert [number for number, _ in windows.ranked(kept["selected"])] == [2, 1, 0]


def test_an_answer_is_given_however_small_its_probability(tokenizer):
    feature = encoded(tokenizer, ["Ben"])
    _, _, kept = drawn(feature)
    kept["spans"] = kept["spans"] - 5000
    answers = Windows.of(feature, TEXTS).answers(kept, confidence=True)
    assert answers[0].text
    assert answers[0].score == 0


def test_hits_look_at_the_first_paragraphs():
    ranked = [(number, 0.1) for number in (4, 2, 0, 1, 3)]
    assert hit_scores(ranked, {0}) == {"hits_at_1": 0, "hits_at_3": 1, "hits_at_5": 1, "answerable": 1}
    assert hit_scores(ranked, set()) == {"hits_at_1": 0, "hits_at_3": 0, "hits_at_5": 0, "answerable": 0}


# -- reading ----------------------------------------------------------------------------------------------------


def test_questions_without_an_answer_leave_train_alone_and_are_counted(tmp_path):
    lines = [openqa_lines("Who ?", ["Ann"], texts) for texts in (["Ben", "Ann"], ["Ann", "Ben"], ["Cleo"])]
    for split in ("train", "dev"):
        for ending, part in zip((".txt", ".json"), zip(*lines, strict=True), strict=True):
            (tmp_path / f"{split}{ending}").write_text("\n".join(part))
    task = SearchQA(num_paragraphs=1, num_paragraphs_test=2)
    train, dev = ([*task.read(task.path(tmp_path, split), split)] for split in ("train", "dev"))
    assert [bool(one["fault"]) for one in train] == [True, False, True]
    assert [len(one["paragraphs"]) for one in (*train, *dev)] == [1, 1, 1, 2, 2, 1]
    assert not any(one["fault"] for one in dev)


def test_a_broken_pattern_is_refused_with_its_line(tmp_path):
    question, paragraphs = openqa_lines("Who ?", ["Ann", "(Ben"], ["Ann"])
    (tmp_path / "train.txt").write_text(question)
    (tmp_path / "train.json").write_text(paragraphs)
    task = QuasarT(regex_answers=True)
    with pytest.raises(ValueError, match=r"train\.txt, line 1: the answer '\(Ben' is not a regular expression"):
        list(task.read(task.path(tmp_path, "train"), "train"))
    faults = []
    assert not list(task.read(task.path(tmp_path, "train"), "train", faults.append))
    assert len(faults) == 1


def test_a_run_is_made_of_paragraphs_too(tmp_path):
    write_questions(tmp_path, "train", 3)
    task = SearchQA()
    before = task.content(tmp_path), task.key(task.path(tmp_path, "train"), "train")
    (tmp_path / "train.json").write_text((tmp_path / "train.json").read_text() + "\n")
    after = task.content(tmp_path), task.key(task.path(tmp_path, "train"), "train")
    assert all(old != new for old, new in zip(before, after, strict=True))


# -- runs -------------------------------------------------------------------------------------------------------


@pytest.fixture
def answered(run, tmp_path):
    """Calls the recipe on invented questions."""
    for split, count in (("train", 24), ("dev", 6), ("test", 6)):
        write_questions(tmp_path / "data", split, count)

    def call(*flags, **options):
        return run(RECIPE, f"--data_dir={tmp_path / 'data'}", "--untrained=fac", *flags, **options)

    return call


@pytest.mark.parametrize(
    ("flags", "scores", "still"),
    [
        (("--mode=reader",), {"exact_match", "f1"}, "selector"),
        slow(("--mode=selector",), {"hits_at_1", "hits_at_3", "hits_at_5", "answerable"}, "qa_outputs"),
        (
            ("--mode=all", "--answer_marginal=max"),
            {"exact_match", "f1", "hits_at_1", "hits_at_3", "hits_at_5", "answerable"},
            "",
        ),
        slow(("--no_paragraph_confidence",), {"exact_match", "f1"}, "selector"),
        (
            ("--regex_answers", "--max_answer_tokens=2"),
            {"exact_match", "hits_at_1", "hits_at_3", "hits_at_5", "answerable"},
            "",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_each_mode_trains_its_part_and_reports_its_scores(answered, flags, scores, still):
    report, folder = answered(*flags, "--chunk_tokens=100", steps=2)
    assert report["dev"].keys() == {*scores, "loss"}
    assert report["metric"] == ("hits_at_1" if "--mode=selector" in flags else "exact_match")
    rows = [json.loads(line) for line in (folder / "predictions_test.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    mean = np.mean([row[report["metric"]] for row in rows])
    assert report["test"][report["metric"]] == pytest.approx(mean)
    outcomes, _ = PAIRED.read_outcomes(folder / "predictions_test.jsonl")  # what comparisons judge by
    finest = next(name for name in ("f1", "exact_match", "hits_at_1") if name in scores)
    assert outcomes[:, 0].mean() == pytest.approx(report["test"][finest])
    if "exact_match" in scores:
        assert all(row["text"][row["start"] : row["end"]] == row["predicted"] for row in rows)
    frozen = 2 * 32 + 2 if still == "qa_outputs" else 33 if still else 0
    adapter = 13056
    assert report["parameters"] - report["trained_parameters"] - adapter - 32 * 32 - 32 == frozen  # the pooler too


def test_stages_begin_with_the_weights_of_the_one_before(answered):
    _, first = answered("--mode=reader", "--comment", "reader", steps=2)
    _, second = answered("--mode=selector", f"--init_from={first / 'best'}", "--comment", "selector", steps=2)
    report, third = answered("--mode=all", f"--init_from={second / 'best'}", "--learning_rate=1e-12", steps=1)
    kept = json.loads((second / "predictions_dev.jsonl").read_text().splitlines()[0])["paragraphs"]
    again = json.loads((third / "predictions_dev.jsonl").read_text().splitlines()[0])["paragraphs"]
    assert [one["paragraph"] for one in kept] == [one["paragraph"] for one in again]
    np.testing.assert_allclose([one["score"] for one in kept], [one["score"] for one in again], rtol=1e-4)
    content = json.loads((third / "args.json").read_text())["content"]
    assert "the model of --init_from" in content


def test_a_stage_that_is_not_there_or_fits_not_is_refused(answered, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors is missing; give --init_from the best/ of"):
        answered(f"--init_from={tmp_path}")
    _, first = answered("--mode=reader", "--comment", "reader", steps=1)
    with pytest.raises(ValueError, match=r"lin|lacks"):
        answered(f"--init_from={first / 'best'}", "--untrained=lin")


def test_a_selector_without_confidence_is_refused(answered, capsys):
    with pytest.raises(SystemExit):
        answered("--mode=selector", "--no_paragraph_confidence")
    assert "--mode selector trains what --no_paragraph_confidence does without" in capsys.readouterr().err


@pytest.mark.slow
def test_chunks_do_not_change_a_run(answered):
    parts, _ = answered("--chunk_tokens=60", "--comment", "parts", "--adapter_dropout=0", steps=3)
    whole, _ = answered("--chunk_tokens=1000000", "--comment", "whole", "--adapter_dropout=0", steps=3)
    assert parts["dev"]["loss"] == pytest.approx(whole["dev"]["loss"], rel=1e-5)


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_result(answered, terminated):
    whole, _ = answered("--chunk_tokens=60", "--comment", "whole", steps=4)
    with terminated():
        answered("--chunk_tokens=60", "--comment", "stopped", steps=4)
    again, _ = answered("--chunk_tokens=60", "--comment", "stopped", steps=4)
    assert again["test"] == whole["test"]


def test_a_saved_model_answers_a_question_over_paragraphs(answered):
    _, folder = answered(steps=2)
    predict = Predictor(folder / "best", batch_size=2)
    told = predict(
        {"question": "Where does Ann Lee live ?", "paragraphs": ["Ben is in Rome.", "Ann Lee lives in Oslo."]}
    )
    assert told["text"][told["start"] : told["end"]] == told["answer"]
    assert {one["paragraph"] for one in told["paragraphs"]} == {0, 1}
    assert sum(one["score"] for one in told["paragraphs"]) == pytest.approx(1)
    for bad, message in (
        ({"question": "Who?"}, r"input 0: paragraphs is null; give a list of texts"),
        ({"question": "Who?", "paragraphs": ["Ann", ""]}, r"input 0, paragraph 1: .* holds no text"),
        ("Who?", r"input 0: null holds no text; give one, or a dictionary with 'question'"),
    ):
        with pytest.raises(ValueError, match=message):
            predict(bad)


def test_both_tasks_are_known_by_name():
    assert TASKS["searchqa"] is SearchQA
    assert TASKS["quasart"] is QuasarT
    assert QuasarT.max_seq_length == 256
    assert Reading("reader").selects is False
