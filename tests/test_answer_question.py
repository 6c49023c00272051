"""One question over passages: what is read, how answers are ranked, what is refused."""

import json
import sys

import pytest
import torch
from conftest import load_script
from test_squad import SMALL, SQUAD, toy

from kadapter import Predictor
from kadapter.data.answers import normalize_answer
from kadapter.inference.passages import Passage, answer_question, read_passages, retrieve

ASK = load_script("examples/answer_question.py")
TEXTS = [
    "Ann lives in Oslo. Bob lives in Bern.",
    "The ferry to Kyiv sails late.",
    "Bob lives in Rome, where it is late.",
    "It is late.",
]


@pytest.fixture(scope="module")
def passages(tmp_path_factory):
    """A folder of texts, and a file of records with the same passages."""
    folder = tmp_path_factory.mktemp("passages")
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("\n\n".join(TEXTS[:2]) + "\n")
    (folder / "notes" / "b.txt").write_text("\n\n".join(text.replace(". ", ".\n") for text in TEXTS[2:]))
    rows = [{"id": f"p{i}", "text": text, "body": text.upper()} for i, text in enumerate(TEXTS)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def reader(run, tmp_path):
    """A folder with a small reader that may find no answer."""
    _, best = run(SQUAD, *SMALL, "--data_dir", toy(tmp_path / "toy", no_answer=True), "--max_seq_length", 48)
    return best / "best"


def test_passages_are_paragraphs_of_texts_or_records(passages):
    found = read_passages(passages / "notes")
    assert [passage.text for passage in found] == TEXTS
    assert [passage.name for passage in found] == ["a-1", "a-3", "b-1", "b-3"]
    assert read_passages(passages / "rows.jsonl") == [Passage(f"p{i}", text) for i, text in enumerate(TEXTS)]
    assert read_passages(passages / "rows.jsonl", "body")[3].text == "IT IS LATE."
    with pytest.raises(ValueError, match=r"rows\.jsonl, record 1: .*name the field that holds the text"):
        read_passages(passages / "rows.jsonl", "context")
    with pytest.raises(FileNotFoundError, match="none: there is no such file or folder"):
        read_passages(passages / "none")


def test_bm25_takes_the_passages_that_share_the_rarest_words():
    pool = [Passage(str(i), text) for i, text in enumerate(TEXTS)]
    assert [one.name for one in retrieve("When sails the FERRY?", pool, 3)] == ["1"]
    assert {one.name for one in retrieve("Where is Bob, and is it late?", pool, 9)} == {"0", "1", "2", "3"}
    assert retrieve("Qwerty?", pool, 3) == []
    mixed = [Passage("a", "東京は大きい。"), Passage("b", "京都は古い。")]
    assert [one.name for one in retrieve("古い?", mixed, 2)][0] == "b"


def test_answers_are_ranked_by_logits_over_all_passages(reader):
    predict = Predictor(reader, batch_size=2, device="cpu")
    pool = [Passage(str(i), text) for i, text in enumerate(TEXTS)]
    found = answer_question(predict, "Where is Bob?", pool)
    each = predict([("Where is Bob?", text) for text in TEXTS])
    spans = [(one["logit"], i, one) for i, answer in enumerate(each) for one in answer["best"]]
    shares = torch.tensor([logit for logit, _, _ in spans], dtype=torch.float64).softmax(0).tolist()
    kept = {}
    for (logit, i, one), share in sorted(zip(spans, shares, strict=True), key=lambda entry: -entry[1]):
        if logit >= -predict.task.null_threshold:
            kept.setdefault(normalize_answer(one["answer"]), (one["answer"], share, i))
    assert [one[:2] for one in kept.values()] == [(one.answer, pytest.approx(one.score)) for one in found]
    assert [str(i) for _, _, i in kept.values()] == [one.passage.name for one in found]
    for one in found:
        assert one.passage.text[one.start : one.end] == one.answer
        assert 1 <= one.passages <= len(pool)
    assert answer_question(predict, "Where is Bob?", []) == []


def test_the_script_prints_answers_with_their_passages(reader, passages, tmp_path, capsys):
    command = ["--model", str(reader), "--question", "Where is Bob?", "--no_cuda", "--best", "2"]
    everything = ASK.main([*command, "--input", str(passages / "rows.jsonl"), "--output", str(tmp_path / "a.json")])
    assert json.loads((tmp_path / "a.json").read_text()) == everything
    said = capsys.readouterr().out
    assert "4 passages, 4 read." in said
    for one in everything:
        assert f"{one['score']:.3f}  {one['answer']}" in said
        assert f"[{one['answer']}]" in said
    few = ASK.main([*command, "--input", str(passages / "notes"), "--retrieve", "1"])
    assert "4 passages, 1 read." in capsys.readouterr().out
    assert {one["passage"]["name"] for one in few} <= {"b-1", "a-1"}
    with pytest.raises(ValueError, match="none of the 4 passages .* shares a word with the question; ask"):
        ASK.main(["--model", str(reader), "--question", "Qwerty?", "--input", str(passages / "notes"), "--retrieve=1"])


def test_a_reader_that_takes_no_answer_for_the_best_gives_none(reader, passages, capsys):
    config = json.loads((reader / "config.json").read_text())
    config["task"]["options"]["null_threshold"] = -1e6
    (reader / "config.json").write_text(json.dumps(config))
    found = ASK.main(["--model", str(reader), "--question", "Where?", "--input", str(passages / "notes"), "--no_cuda"])
    assert found == []
    assert "No answer was found in them." in capsys.readouterr().out


def test_a_missing_package_and_another_model_are_told_with_the_mend(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(ImportError, match=r"BM25 needs bm25s, which is missing .*pip install 'kadapter\[retrieval\]'"):
        retrieve("Where?", [Passage("a", "text")], 1)

    class Other:
        task = type("Task", (), {"head": "tagging", "name": "tagging"})

    with pytest.raises(ValueError, match="trained for 'tagging'; give one that finds answers in a context"):
        answer_question(Other(), "Where?", [])
