"""SQuAD: its files, windows and offsets in all families, scores and thresholds as others have them, the recipe."""

import itertools
import json
import re

import numpy as np
import pandas
import pytest
import torch
from conftest import load_script
from families import DECODERS, FAMILIES, texts

from kadapter import Predictor
from kadapter.data.encoding import Encoding
from kadapter.data.squad import MOVED, read_squad
from kadapter.data.windows import window_begins
from kadapter.storage.reading import read_json
from kadapter.tasks.answer_scores import answer_scores, best_threshold, squad_scores
from kadapter.tasks.span_windows import CUT_QUESTION, best_spans, question_windows, spans_in
from kadapter.tasks.squad import Squad

SQUAD = load_script("examples/run_finetune_squad_adapter.py")
PREDICT = load_script("examples/run_predict.py")
CONTEXT = "In 1887, Jan moved  to Oslo (Norway) — a city of 60,000 — and “painted” there until 1901."
ROW = {"id": "a", "question": "Where did Jan move?", "context": CONTEXT}
SMALL = ("--doc_stride", 8, "--max_query_length", 12)


def answers(*found, context=CONTEXT):
    return {"text": [*found], "answer_start": [context.index(text) for text in found]}


def write(path, rows):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def official(questions):
    """The official file of (context, [question, ...])."""
    paragraphs = [{"context": context, "qas": qas} for context, qas in questions]
    return {"version": "v2.0", "data": [{"title": "x", "paragraphs": [one]} for one in paragraphs]}


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# -- files --------------------------------------------------------------------------------------------------------


def test_official_files_and_rows_of_hubs_hold_the_same_questions(tmp_path):
    pairs = [("Oslo", "1901"), ("Jan",), ()]
    contexts = [CONTEXT, CONTEXT + " Jan came back.", CONTEXT]
    rows = [
        {"id": f"{i}", "title": "x", "question": f"Question {i}?", "context": context, "answers": answers(*found)}
        for i, (context, found) in enumerate(zip(contexts, pairs, strict=True))
    ]
    lists = [
        [dict(zip(("text", "answer_start"), one, strict=True)) for one in zip(*row["answers"].values(), strict=True)]
        for row in rows
    ]
    whole = official(
        (row["context"], [{"id": row["id"], "question": row["question"], "answers": found, "is_impossible": not found}])
        for row, found in zip(rows, lists, strict=True)
    )
    (tmp_path / "dev-v2.0.json").write_text(json.dumps(whole))
    found = list(read_squad(tmp_path / "dev-v2.0.json"))
    assert found == list(read_squad(write(tmp_path / "dev.jsonl", rows)))
    assert [(one["answers"], one["starts"]) for one in found] == [
        (["Oslo", "1901"], [23, 84]),
        (["Jan"], [9]),
        ([], []),
    ]
    pandas.DataFrame(rows).to_parquet(tmp_path / "other.parquet")
    assert list(read_squad(tmp_path / "other.parquet")) == found


def test_a_folder_has_its_splits_under_official_names_or_others_but_not_both(tmp_path):
    task = Squad()
    assert task.path(tmp_path, "train").name == "train.json"
    (tmp_path / "train-v1.1.json").write_text("{}")
    assert task.path(tmp_path, "train").name == "train-v1.1.json"
    (tmp_path / "train-v2.0.json").write_text("{}")
    with pytest.raises(ValueError, match=r"more than once: train-v1\.1\.json and train-v2\.0\.json; remove"):
        task.path(tmp_path, "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": {"text": ["Bergen"], "answer_start": [23]}}, '"Bergen" is not at character 23, where "Oslo'),
        ({"answers": {"text": ["Oslo"], "answer_start": [23, 4]}}, "answers is .*; give .*with as many of both"),
        ({"answers": {"text": ["Oslo"], "answer_start": ["x"]}}, 'answer_start is "x"; give a number of characters'),
        ({"answers": {"text": ["Oslo"], "answer_start": [-1]}}, "answer_start is -1; give a number"),
        ({"answers": {"text": [" "], "answer_start": [2]}}, 'the answer " " is not a text; give one'),
        ({"answers": ["Oslo"]}, r'answers is \["Oslo"\]; give'),
        ({"answers": [{"text": "Oslo"}]}, "answers is .*; give"),
        ({"answers": None}, "there are no answers; give them, an empty list where"),
        ({"answers": answers("Oslo"), "is_impossible": True}, "is_impossible is true, but there are 1 answers; mend"),
        ({"answers": answers(), "is_impossible": False}, "is_impossible is false, but there are 0 answers; mend"),
        ({"answers": answers()}, "the question has no answer, but every question of train has one"),
        ({"answers": answers("Oslo"), "question": " "}, 'question is " "; give a text'),
        ({"answers": answers("Oslo"), "context": 3}, "context is 3; give a text"),
        ({"answers": answers("Oslo"), "id": "b"}, "the id 'b' stands at 1 already"),
    ],
)
def test_a_bad_question_is_told_with_file_record_value_and_mend(tmp_path, change, message):
    rows = [{**ROW, "id": "b", "answers": answers("Jan")}, {**ROW, **change}]
    path = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(ValueError, match=rf"a\.jsonl, record 2: .*{message}"):
        list(read_squad(path, no_answer=False))
    errors = []
    assert len(list(read_squad(path, no_answer=False, on_error=errors.append))) == 1
    assert len(errors) == 1


def test_a_bad_question_of_an_official_file_is_found_in_its_article(tmp_path):
    good = {"id": "1", "question": "Who?", "answers": [{"text": "Jan", "answer_start": 9}]}
    whole = official([(CONTEXT, [good]), (CONTEXT, [good])])
    whole["data"][1]["paragraphs"][0]["qas"][0] = {"id": "2", "question": "Who?", "answers": [{"text": "Jon"}]}
    (tmp_path / "a.json").write_text(json.dumps(whole))
    with pytest.raises(ValueError, match=r"a\.json, record 2, paragraph 1, question 1: answers is"):
        list(read_squad(tmp_path / "a.json"))
    whole["data"][1]["paragraphs"] = {"context": CONTEXT}
    (tmp_path / "a.json").write_text(json.dumps(whole))
    with pytest.raises(ValueError, match=r"a\.json, record 2: paragraphs is .*; give a list of objects"):
        list(read_squad(tmp_path / "a.json"))
    del whole["data"][0]["paragraphs"][0]["context"]
    (tmp_path / "a.json").write_text(json.dumps(whole))
    with pytest.raises(ValueError, match=r"record 1, paragraph 1: the keys \['context'\] are missing"):
        list(read_squad(tmp_path / "a.json"))


def test_an_offset_that_is_off_is_mended_where_the_text_stands_and_counted(tmp_path):
    context = "Oslo and Oslo and Oslo."
    row = {**ROW, "context": context, "answers": {"text": ["Oslo"], "answer_start": [10]}}
    (found,) = read_squad(write(tmp_path / "a.jsonl", [row]))
    assert (found["starts"], found["note"]) == ([9], MOVED)


def test_answers_that_are_kept_back_are_so_for_a_whole_file(tmp_path):
    path = write(tmp_path / "test.jsonl", [ROW, {**ROW, "id": "b"}])
    assert [one["known"] for one in read_squad(path, labelled=False)] == [False, False]
    path = write(tmp_path / "test.jsonl", [ROW, {**ROW, "id": "b", "answers": answers("Jan")}])
    with pytest.raises(ValueError, match="record 2: some questions have answers and some have not"):
        list(read_squad(path, labelled=False))


# -- windows and offsets ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizers(world):
    """Family -> tokenizer, made when it is asked for."""
    lines, made = texts(world), {}

    def make(family):
        if family not in made:
            made[family] = FAMILIES[family][0](lines)
        return made[family]

    return make


def every_span(text):
    """Answers of one or two words, with their places."""
    words = [found.span() for found in re.finditer(r"\S+", text)]
    return [(start, end) for i, (start, _) in enumerate(words) for _, end in words[i : i + 2]]


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_go_to_tokens_and_back_in_every_family(tokenizers, family):
    # The tiny Llama has no bytes to fall back to, and tokenizers counts characters wrongly behind one that is unknown.
    context = CONTEXT if family != "llama" else re.sub("[—“”(),]", "", CONTEXT)
    encoding = Encoding(tokenizers(family), 60, family in DECODERS)
    (windows,) = question_windows([("Where did Jan move?", context)], encoding, 10, 24)
    assert len(windows) > 1
    for window in windows:
        mask, (nothing, begin) = window["context_mask"], window["positions"]
        assert len(window["input_ids"]) == len(mask) <= 60
        spans = [*zip(window["starts"], window["ends"], strict=True)]
        allowed = {begin + i for i, (start, end) in enumerate(spans) if start < end}
        assert {i for i, one in enumerate(mask) if one} == {nothing, *allowed}
        assert nothing not in allowed
        assert not any(context[start:end] != context[start:end].strip() for start, end in spans)
    for start, end in every_span(context):
        found = spans_in(windows, start, end)
        assert any(found), context[start:end]
        for window, span in zip(windows, found, strict=True):
            if span is not None:
                first, last = (place - window["positions"][1] for place in span)
                shown = window["starts"][first], window["ends"][last]
                assert start <= shown[0] < shown[1] <= end  # unknown characters at its edges may be missing
                assert context[slice(*shown)].strip("()“”") == context[start:end].strip("()“”") or family == "llama"


@pytest.mark.parametrize("family", ["roberta", "bert", "albert", "modernbert", "llama"])
def test_a_window_is_the_tokenizers_own_pair(tokenizers, family):
    tokenizer = tokenizers(family)
    (windows,) = question_windows([("Where?", "Jan moved to Oslo.")], Encoding(tokenizer, 60), 10, 24)
    (window,) = windows
    own = tokenizer("Where?", "Jan moved to Oslo.", return_token_type_ids=True)
    if family != "llama":  # which puts nothing between two texts
        assert window["input_ids"] == own["input_ids"]
        assert window.get("token_type_ids", own["token_type_ids"]) == own["token_type_ids"]


@pytest.mark.parametrize("family", ["roberta", "bert"])
def test_windows_are_those_of_transformers_but_the_last_which_is_filled(tokenizers, family):
    tokenizer = tokenizers(family)
    (windows,) = question_windows([("Where did Jan move?", CONTEXT)], Encoding(tokenizer, 60), 10, 30)
    expected = tokenizer(
        *("Where did Jan move?", CONTEXT),
        truncation="only_second",
        max_length=60,
        stride=10,
        return_overflowing_tokens=True,
    )
    assert len(windows) == len(expected["input_ids"]) > 1
    assert [window["input_ids"] for window in windows][:-1] == expected["input_ids"][:-1]
    assert len(windows[-1]["input_ids"]) == 60
    assert windows[-1]["ends"][-1] == len(CONTEXT)


def test_windows_cover_the_context_share_the_stride_and_hold_the_whole_answer_or_none_of_it(tokenizer):
    context = " ".join(f"w{i}" for i in range(60))
    encoding = Encoding(tokenizer, 40)
    (windows,) = question_windows([("Which?", context)], encoding, 12, 10)
    count = len(tokenizer(context, add_special_tokens=False)["input_ids"])
    one = len(tokenizer("w0", add_special_tokens=False)["input_ids"])
    room = 40 - len(tokenizer("Which?", "w0")["input_ids"]) + one
    starts = [window["starts"][0] for window in windows]
    own = tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert starts == [own[begin][0] for begin in window_begins(count, room, 12)]
    assert windows[-1]["ends"][-1] == len(context)
    for one, two in itertools.pairwise(windows[:-1]):
        assert set(one["starts"]) & set(two["starts"])
    answer = (context.index("w30"), context.index("w30") + len("w30 w31"))
    for window, span in zip(windows, spans_in(windows, *answer), strict=True):
        inside = window["starts"][0] <= answer[0] and answer[1] <= window["ends"][-1]
        assert (span is not None) == inside


def test_a_long_question_is_cut_and_said_and_the_context_never_is(tokenizer):
    encoding = Encoding(tokenizer, 40)
    found = list(question_windows([("Where " * 30, "Jan moved."), ("Where?", "Jan moved.")], encoding, 5, 8))
    assert [windows[0]["note"] for windows in found] == [CUT_QUESTION, ""]
    assert [windows[0]["ends"][-1] for windows in found] == [10, 10]
    with pytest.raises(ValueError, match="--doc_stride is 30, but .* holds 28 tokens of the context; make doc_stride"):
        list(question_windows([("Where?", "Jan moved.")], encoding, 30, 8))


def test_a_context_of_which_the_tokenizer_makes_nothing_is_dropped_and_counted(tokenizers):
    task, encoding = Squad(doc_stride=4, max_query_length=8), Encoding(tokenizers("bert"), 40)
    example = {"id": "1", "question": "Where?", "context": "\u200b\u0007", "answers": [], "starts": [], "known": True}
    (feature,) = task.encode([{**example, "note": "", "record": 1}], encoding)
    assert feature["dropped"] == "the tokenizer makes nothing of the context"


def test_labels_are_the_answer_where_a_window_has_it_and_else_the_first_token(tokenizer):
    task, encoding = Squad(doc_stride=6, max_query_length=12), Encoding(tokenizer, 40)
    base = {"id": "1", "question": "Where?", "context": CONTEXT, "known": True, "note": "", "record": 7}
    gold = {"answers": ["Oslo (Norway)", "Oslo"], "starts": [23, 23]}
    features = task.encode([{**base, **gold}, {**base, "answers": [], "starts": []}], encoding)
    windows = len(features) // 2
    assert windows > 1
    held = [feature["labels"] for feature in features[:windows] if feature["labels"] != [0, 0]]
    assert held
    for feature in features[:windows]:
        first, last = (place - feature["positions"][1] for place in feature["labels"])
        if feature["labels"] != [0, 0]:
            assert CONTEXT[feature["starts"][first] : feature["ends"][last]] == "Oslo (Norway)"
    assert all(feature["labels"] == [0, 0] for feature in features[windows:])
    assert [json.loads(feature["answers"]) for feature in features if feature["answers"]] == [gold["answers"], []]
    (hidden, *_) = task.encode([{**base, "answers": [], "starts": [], "known": False}], encoding)
    assert (hidden["answers"], hidden["labels"]) == ("", [-100, -100])


# -- spans and scores ---------------------------------------------------------------------------------------------


def test_the_best_spans_are_those_of_a_search_through_all_of_them():
    rng = np.random.default_rng(0)
    for size, longest, count in itertools.product((1, 2, 7, 30), (1, 3, 40), (1, 5, 100)):
        start, end = rng.normal(size=(2, size)).round(1)
        start[rng.random(size) < 0.2] = -np.inf
        end[rng.random(size) < 0.2] = -np.inf
        pairs = [(i, j) for i in range(size) for j in range(i, min(size, i + longest))]
        known = [(i, j, start[i] + end[j]) for i, j in pairs if np.isfinite(start[i] + end[j])]
        expected = sorted(known, key=lambda one: -one[2])[:count]
        assert [tuple(span) for span in best_spans(start, end, count, longest)] == expected
    assert best_spans(np.empty(0), np.empty(0), 5, 3) == []


def test_scores_are_those_of_torchmetrics():
    from torchmetrics.text import SQuAD  # takes seconds

    rng = np.random.default_rng(1)
    words = ["the", "Beatles", "a", "1,000", "Oslo.", "“x”", "of"]

    def text():
        return " ".join(rng.choice(words, rng.integers(1, 4)))

    gold = [[text() for _ in range(rng.integers(1, 4))] for _ in range(300)]
    predicted = [one[0] if rng.random() < 0.3 else text() for one in gold]
    metric = SQuAD()
    expected = metric(
        [{"prediction_text": one, "id": str(i)} for i, one in enumerate(predicted)],
        [{"answers": {"answer_start": [0] * len(one), "text": one}, "id": str(i)} for i, one in enumerate(gold)],
    )
    found = squad_scores(predicted, gold)
    assert found.keys() == {"exact_match", "f1"}
    for name, value in found.items():
        assert 100 * value == pytest.approx(expected[name].item(), rel=1e-5)


def test_questions_with_and_without_answers_are_scored_apart_too():
    predicted, gold = ["Oslo", "", "Oslo", ""], [["Oslo city"], ["Oslo"], [], []]
    exact, f1 = answer_scores(predicted, gold)
    assert exact.tolist() == [0, 0, 0, 1]
    assert f1.tolist() == [pytest.approx(2 / 3), 0, 0, 1]
    found = squad_scores(predicted, gold)
    assert found["has_answer_exact"] == 0
    assert found["has_answer_f1"] == pytest.approx(1 / 3)
    assert found["no_answer_exact"] == 0.5
    assert found["f1"] == pytest.approx((2 / 3 + 1) / 4)


def test_the_best_threshold_is_that_of_a_search_through_all_of_them():
    rng = np.random.default_rng(2)
    for size in (1, 2, 5, 40):
        for _ in range(30):
            scores = rng.integers(-4, 4, size).astype(float)
            unanswerable = (rng.random(size) < 0.5).astype(float)
            answered = np.where(unanswerable, 0.0, rng.random(size).round(1))

            def total(threshold, scores=scores, answered=answered, unanswerable=unanswerable):
                return np.where(scores > threshold, unanswerable, answered).sum()

            found = best_threshold(scores, answered, unanswerable)
            best = max(total(threshold) for threshold in [scores.min() - 1, *scores])
            assert total(found) == pytest.approx(best)


# -- the recipe ---------------------------------------------------------------------------------------------------


def toy(folder, no_answer=False, count=24):
    """Who lives where: the name of a town decides the answer; without an answer nobody is asked for."""
    towns = ["Oslo", "Rome", "Bern", "Kyiv"]
    for split, begin in (("train", 0), ("dev", 1), ("test", 2)):
        rows = []
        for i in range(count if split == "train" else 8):
            town, other = towns[(i + begin) % 4], towns[(i + begin + 1) % 4]
            context = f"Ann lives in {town}. Bob lives in {other}. It is late."
            has = not (no_answer and i % 3 == 2)
            question = "Where is Bob?" if has else "Who is old?"
            found = answers(other, context=context) if has else answers()
            rows.append({"id": f"{split}{i}", "question": question, "context": context, "answers": found})
        write(folder / f"{split}.jsonl", rows)
    return folder


TOY = ("--max_seq_length", 48, "--learning_rate", 5e-3, "--eval_steps", 20, "--save_steps", 20)


@pytest.mark.slow
@pytest.mark.parametrize("no_answer", [False, True])
def test_a_tiny_model_learns_a_toy_squad(run, tmp_path, no_answer):
    folder = toy(tmp_path / "toy", no_answer)
    report, best = run(SQUAD, *SMALL, *TOY, "--data_dir", folder, steps=120)
    assert report["test"]["exact_match"] == 1.0
    if no_answer:
        assert report["test"]["no_answer_exact"] == report["test"]["has_answer_exact"] == 1.0


def test_the_recipe_writes_answers_as_the_official_evaluation_reads_them(run, tmp_path):
    folder = toy(tmp_path / "toy", no_answer=True)
    report, best = run(SQUAD, *SMALL, "--data_dir", folder, "--max_seq_length", 48)
    assert report["metric"] == "f1"
    names = ("exact_match", "f1", "has_answer_exact", "has_answer_f1", "no_answer_exact", "f1_at_0", "null_threshold")
    assert {*names} <= report["dev"].keys()
    assert report["dev"]["f1"] >= report["dev"]["f1_at_0"]
    assert report["test"]["null_threshold"] == report["dev"]["null_threshold"]
    saved = read_json(best / "best" / "config.json")["task"]["options"]
    assert saved["null_threshold"] == report["dev"]["null_threshold"]
    for split in ("dev", "test"):
        rows, gold = lines(best / f"predictions_{split}.jsonl"), lines(folder / f"{split}.jsonl")
        assert [row["id"] for row in rows] == [row["id"] for row in gold]
        given = read_json(best / f"answers_{split}.json")
        odds = read_json(best / f"null_odds_{split}.json")
        assert given == {row["id"]: row["predicted"] for row in rows}
        _, f1 = answer_scores([*given.values()], [row["answers"]["text"] for row in gold])
        assert report[split]["f1"] == pytest.approx(f1.mean())
        for row, source in zip(rows, gold, strict=True):
            assert row["f1"] == pytest.approx(f1[rows.index(row)])
            if row["predicted"]:
                assert source["context"][row["start"] : row["end"]] == row["predicted"]
            else:
                assert odds[row["id"]] >= report["dev"]["null_threshold"] - 1e-3


def test_a_model_without_evaluations_during_training_keeps_the_threshold_too(run, tmp_path):
    folder = toy(tmp_path / "toy", no_answer=True)
    report, best = run(
        SQUAD, *SMALL, "--data_dir", folder, "--max_seq_length", 48, "--evaluate_during_training", "", steps=2
    )
    saved = read_json(best / "config.json")["task"]["options"]
    assert saved["null_threshold"] == report["dev"]["null_threshold"]


def test_answers_of_test_may_be_kept_back(run, tmp_path):
    folder = toy(tmp_path / "toy")
    rows = [{name: value for name, value in row.items() if name != "answers"} for row in lines(folder / "test.jsonl")]
    write(folder / "test.jsonl", rows)
    report, best = run(SQUAD, *SMALL, "--data_dir", folder, "--max_seq_length", 48, steps=2)
    assert "test" not in report
    assert len(read_json(best / "answers_test.json")) == len(rows)


def test_the_predictor_answers_as_evaluation_did(run, tmp_path, capsys):
    folder = toy(tmp_path / "toy", no_answer=True)
    long = lines(folder / "dev.jsonl")
    long[0]["context"] += " It is late." * 12  # several windows
    write(folder / "dev.jsonl", long)
    _, best = run(SQUAD, *SMALL, "--data_dir", folder, "--max_seq_length", 48)
    predict, rows = Predictor(best / "best", batch_size=3), lines(best / "predictions_dev.jsonl")
    found = predict([{"question": row["question"], "context": row["context"]} for row in long])
    for one, row in zip(found, rows, strict=True):
        assert (one["answer"], one["start"], one["end"]) == (row["predicted"], row["start"], row["end"])
        shares = [other["score"] for other in one["best"]]
        assert sum(shares) + one["no_answer_score"] == pytest.approx(1)
        assert shares == sorted(shares, reverse=True)
        assert len({other["answer"] for other in one["best"]}) == len(one["best"])
        assert one["score"] == (shares[0] if one["answer"] else one["no_answer_score"])
    assert predict((long[0]["question"], long[0]["context"])) == found[0]
    for bad in ("Where?", {"question": "Where?"}, ("Where?", " "), ("a", "b", "c")):
        with pytest.raises(ValueError, match=r"input 0: .*give"):
            predict([bad])
    columns = ["id", "question", "context"]
    pandas.DataFrame(long)[columns].to_csv(tmp_path / "questions.csv", index=False)
    PREDICT.main(
        ["--model", f"{best / 'best'}", "--input", f"{tmp_path / 'questions.csv'}"]
        + ["--output", f"{tmp_path / 'out.jsonl'}", "--no_cuda"]
    )
    written = lines(tmp_path / "out.jsonl")
    assert [row["answer"] for row in written] == [row["predicted"] for row in rows]


def test_the_answer_of_several_windows_is_the_best_of_all_and_no_answer_the_least_of_all():
    task = Squad(no_answer=True, n_best_size=3)
    windows = [
        {"positions": [0, 2], "starts": [0, 5], "ends": [4, 9]},
        {"positions": [0, 2], "starts": [5, 10], "ends": [9, 14]},
    ]
    minus = -np.inf
    found = [
        {"start": np.array([1.0, minus, 2.0, 0.0]), "end": np.array([1.0, minus, 1.0, 3.0])},
        {"start": np.array([0.0, minus, 1.0, 4.0]), "end": np.array([0.5, minus, 2.0, 2.5])},
    ]
    joined, _ = task.merge_windows(found, windows)
    answer = task.answer(joined, {}, {"context": "aaaa bbbb cccc"}, None)
    assert answer["answer"] == "cccc"
    assert answer["logit"] == pytest.approx(6.5 - 0.5)
    assert [one["answer"] for one in answer["best"]] == ["cccc", "aaaa bbbb", "bbbb cccc"]
    logits = torch.tensor([6.5, 5.0, 3.5, 0.5])
    assert answer["no_answer_score"] == pytest.approx(logits.softmax(0)[3].item())
    withheld = Squad(no_answer=True, null_threshold=-7.0).answer(joined, {}, {"context": "aaaa bbbb cccc"}, None)
    assert (withheld["answer"], withheld["start"]) == ("", None)


def test_bad_flags_end_before_anything_is_read(run, tmp_path, capsys):
    with pytest.raises(ValueError, match="--doc_stride is 128, but beside a question of --max_query_length 64"):
        run(SQUAD)
