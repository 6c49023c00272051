"""Open-domain questions: raw SearchQA and Quasar-T to OpenQA's form, its reader, and answers as SQuAD judges them."""

import gzip
import json
import re
import zipfile

import pytest
from conftest import load_script
from hypothesis import given, settings
from hypothesis import strategies as st

from kadapter.data import answers, openqa_parts, searchqa
from kadapter.data.answers import exact_match, f1_score, find_answers, normalize_answer
from kadapter.data.openqa import openqa_lines, read_openqa

SEARCHQA = load_script("scripts/convert_searchqa.py")
QUASART = load_script("scripts/convert_quasart.py")

# -- scores -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("The  Beatles,", "beatles"),
        ("a rock-and-roll band", "rockandroll band"),
        ("An apple (the  red one)", "apple red one"),
        ("(Ann) Lee's", "ann lees"),
        ("Theatre", "theatre"),
        ("the", ""),
        ("A.", ""),
        ("“Home”\n\tSweet", "“home” sweet"),
    ],
)
def test_the_normalised_form_is_squads(text, form):
    assert normalize_answer(text) == form


WORDS = st.sampled_from(["The", "a", "Lee", "lee,", "Ann", "'an'", "U.S.", "1,000", "(", "Århus", "x-y"])
PHRASES = st.lists(WORDS, max_size=5).map(" ".join)


@settings(max_examples=80, deadline=None)
@given(prediction=PHRASES, gold=st.lists(PHRASES, min_size=1, max_size=3))
def test_exact_match_and_f1_are_torchmetrics(prediction, gold):
    from torchmetrics.text import SQuAD  # takes seconds

    metric = SQuAD()
    metric.update(
        [{"prediction_text": prediction, "id": "1"}],
        [{"answers": {"text": gold, "answer_start": [0] * len(gold)}, "id": "1"}],
    )
    found = {name: float(value) for name, value in metric.compute().items()}
    assert 100 * exact_match(prediction, gold) == found["exact_match"]
    assert 100 * f1_score(prediction, gold) == pytest.approx(found["f1"], abs=1e-4)


def test_f1_is_worked_out_by_hand_and_the_highest_of_several_answers():
    # lee sang songs / ann lee sang: 2 shared, precision 2/3, recall 2/3. / lee: precision 1/3, recall 1.
    assert f1_score("Lee sang songs", ["Ann Lee sang"]) == pytest.approx(2 / 3)
    assert f1_score("Lee sang songs", ["Lee", "Ann Lee sang", "Oslo"]) == pytest.approx(2 / 3)
    assert f1_score("Lee Lee", ["Lee"]) == pytest.approx(2 / 3)  # a word counts as often as both have it
    assert exact_match("the lee", ["Ann", "Lee!"]) == 1
    assert (exact_match("Lee", []), f1_score("Lee", [])) == (0, 0.0)


# -- places -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("songs by Beatles in 1963", "The  Beatles,", ["Beatles"]),
        ("songs by The  Beatles, in 1963", "the beatles", ["Beatles"]),
        ("Ann  Lee met (Ann) Lee; ann-lee", "Ann Lee", ["Ann  Lee", "Ann) Lee"]),
        ("Lord of the Rings, lord of rings", "The Lord of the Rings", ["Lord of the Rings", "lord of rings"]),
        ("It cost $1,000 then", "1000", ["1,000"]),
        ("Leeds and Leer", "Lee", []),
        ("the “Mystery Train”—Elvis", 'the "Mystery Train"', []),
        ("the “Mystery Train” left", 'the "Mystery Train"', ["Mystery Train"]),
        ("ha ha ha", "ha ha", ["ha ha", "ha ha"]),
        ("İstanbul is İZMİR, she said", "said", ["said"]),
        ("ΟΔΟΣ and οδος", "οδος", ["ΟΔΟΣ", "οδος"]),
        ("anything", "The", []),
        ("", "Lee", []),
    ],
)
def test_answers_are_found_where_they_stand_in_the_original_text(text, answer, found):
    assert [text[start:end] for start, end in find_answers(text, [answer])] == found


CHARACTERS = st.text(st.sampled_from(list("aAtThHeEn bB  .,-\"'“”İΣς\n")), max_size=24)


@settings(max_examples=300, deadline=None)
@given(text=CHARACTERS, answer=CHARACTERS)
def test_what_is_found_has_the_answers_form_and_what_is_a_whole_text_is_found(text, answer):
    for start, end in find_answers(text, [answer]):
        assert normalize_answer(text[start:end]) == normalize_answer(answer) != ""
        assert text[start:end] == text[start:end].strip()
    if normalize_answer(answer):
        [(start, end)] = find_answers(f"{answer}", [answer])
        assert normalize_answer(answer[start:end]) == normalize_answer(answer)


def test_several_answers_give_each_place_once_in_the_texts_order():
    assert find_answers("Lee, Ann", ["Ann", "lee", "the Lee"]) == [(0, 3), (5, 8)]


def test_regular_expressions_are_found_in_any_case_and_match_a_predictions_beginning():
    assert find_answers("In 1963 and 1971", [r"19[67]\d"], are_patterns=True) == [(3, 7), (12, 16)]
    assert find_answers("aXb", ["x*"], are_patterns=True) == [(1, 2)]
    assert exact_match("mt. Everest", [r"(Mt\.?|Mount) Everest"], are_patterns=True) == 1
    assert exact_match("the Mount Everest", [r"(Mt\.?|Mount) Everest"], are_patterns=True) == 0


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(Lee", r"the answer '\(Lee' is not a regular expression \(missing \).*; mend it"),
        ("x" * 3000, "regular expression of 3,000 characters; give one of at most 2,000"),
        (r"(a|aa)+$", r"takes more than 0.1 seconds in one text; repeat nothing"),
    ],
)
def test_a_pattern_that_is_broken_or_takes_forever_is_refused(pattern, message, monkeypatch):
    monkeypatch.setattr(answers, "MATCH_SECONDS", 0.1)
    text = "a" * 80 + "b"
    for ask in (lambda: find_answers(text, [pattern], True), lambda: exact_match(text, [pattern], True)):
        with pytest.raises(ValueError, match=message):
            ask()


# -- the reader -------------------------------------------------------------------------------------------------


def write(folder, questions, paragraphs, split="train"):
    """The files of a split; lines that are no strings are written as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for ending, lines in ((".txt", questions), (".json", paragraphs)):
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        (folder / f"{split}{ending}").write_text(text, encoding="utf-8")


ASKED = {"question": "Who sang ?", "answers": ["Ann Lee"]}
FOUND = [{"question": ["Who", "sang", "?"], "document": ["Ann", "Lee", "sang", "."]}]


def test_the_reader_gives_questions_answers_and_paragraphs_by_line(tmp_path):
    more = [*FOUND, {"document": [" "]}, {"document": ["Oslo", "sleeps"]}]
    write(tmp_path, [ASKED, "", {**ASKED, "answers": ["Lee", "A. Lee"]}, ""], [FOUND, "", more])
    first, second = read_openqa(tmp_path, "train")
    assert first == (1, f"{tmp_path / 'train.txt'}, line 1", "Who sang ?", ("Ann Lee",), ("Ann Lee sang .",))
    assert (second.number, second.answers) == (3, ("Lee", "A. Lee"))
    assert second.paragraphs == ("Ann Lee sang .", "Oslo sleeps")


def test_the_reader_takes_compressed_files_and_other_names_of_dev(tmp_path):
    write(tmp_path, [ASKED], [FOUND], "validation")
    (tmp_path / "validation.json.gz").write_bytes(gzip.compress((tmp_path / "validation.json").read_bytes()))
    (tmp_path / "validation.json").unlink()
    assert [question.question for question in read_openqa(tmp_path, "dev")] == ["Who sang ?"]


@pytest.mark.parametrize(
    ("asked", "found", "message"),
    [
        ({**ASKED, "answers": []}, FOUND, r"train\.txt, line 2: answers is \[\]; give a list of at least one text"),
        ({**ASKED, "answers": "Lee"}, FOUND, r'train\.txt, line 2: answers is "Lee"; give a list'),
        ({**ASKED, "answers": ["Lee", " "]}, FOUND, r'train\.txt, line 2: one of the answers is " "; give a text, or'),
        ({**ASKED, "answers": [7]}, FOUND, r"train\.txt, line 2: one of the answers is 7"),
        ({**ASKED, "question": "​"}, FOUND, r"train\.txt, line 2: question is .*; give a text"),
        ({"question": "Who?"}, FOUND, r"train\.txt, line 2: the keys \['answers'\] are missing"),
        ("[]", FOUND, r"train\.txt, line 2: \[\] is not a JSON object"),
        ("{", FOUND, r"train\.txt, line 2, column 2: broken JSON"),
        (ASKED, [], r'train\.json, line 2: "Who sang \?" has no paragraphs; give some, or remove its line from both'),
        (ASKED, [{"document": []}], r"train\.json, line 2: .* has no paragraphs"),
        (ASKED, {"document": ["Ann"]}, r"train\.json, line 2: .* is not a list of paragraphs"),
        (ASKED, [*FOUND, ["Ann"]], r'train\.json, line 2, paragraph 2: \["Ann"\] has no document'),
        (ASKED, [{"document": "Ann"}], r'train\.json, line 2, paragraph 1: document is "Ann"; give a list of tokens'),
        (ASKED, [{"document": ["Ann", None]}], r"paragraph 1: document holds the token null; make every token a str"),
        (ASKED, [{"question": [1], "document": ["Ann"]}], r"paragraph 1: question holds the token 1"),
        (ASKED, [{"question": ["Where", "is", "it"], "document": ["A"]}], 'is of the question "Where is it", but its'),
        (ASKED, "", r"train\.json, line 2 is empty, but train\.txt has a line for it; give both files that line"),
        (ASKED, r'[{"document": ["\ud800"]}]', r"train\.json, line 2: a \\u escape is half of a surrogate pair"),
    ],
)
def test_a_bad_question_is_refused_or_left_out_with_what_is_wrong(tmp_path, asked, found, message):
    write(tmp_path, [ASKED, asked, ASKED], [FOUND, found, FOUND])
    with pytest.raises(ValueError, match=message):
        list(read_openqa(tmp_path, "train"))
    faults = []
    assert [question.number for question in read_openqa(tmp_path, "train", faults.append)] == [1, 3]
    assert len(faults) == 1
    assert re.search(message, str(faults[0]))


@pytest.mark.parametrize(("questions", "paragraphs", "lost"), [(3, 1, "txt"), (1, 3, "json")])
def test_files_of_unequal_length_are_refused_with_both_numbers(tmp_path, questions, paragraphs, lost):
    write(tmp_path, [ASKED] * questions, [FOUND] * paragraphs)
    message = (
        rf"train\.txt has {questions} lines, but .*train\.json has {paragraphs}: nothing belongs to .*{lost}, line 2"
    )
    with pytest.raises(ValueError, match=message):
        list(read_openqa(tmp_path, "train", lambda error: None))


def test_a_line_that_is_no_utf8_does_not_shift_the_others(tmp_path):
    write(tmp_path, [ASKED, {**ASKED, "answers": ["Å"]}, {**ASKED, "answers": ["Oslo"]}], [FOUND] * 3)
    text = (tmp_path / "train.txt").read_bytes().replace(b"\\u00c5", b"\xc5")
    (tmp_path / "train.txt").write_bytes(text)
    faults = []
    found = list(read_openqa(tmp_path, "train", faults.append))
    assert [(question.number, question.answers) for question in found] == [(1, ("Ann Lee",)), (3, ("Oslo",))]
    assert len(faults) == 1


def test_a_missing_or_empty_file_is_said(tmp_path):
    write(tmp_path, [ASKED], [FOUND])
    (tmp_path / "train.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"train\.json is missing, which holds the paragraphs of train; .*train\.txt"
    ):
        list(read_openqa(tmp_path, "train"))
    write(tmp_path, [], [])
    with pytest.raises(ValueError, match="hold no question; give at least one"):
        list(read_openqa(tmp_path, "train"))


def test_what_is_written_is_read_again(tmp_path):
    question, paragraphs = openqa_lines("Who  sang\n?", ["Ann  Lee"], ["Ann\tLee “sang”, she", "Å"])
    write(tmp_path, [question], [paragraphs])
    [found] = read_openqa(tmp_path, "train")
    assert found[2:] == ("Who sang ?", ("Ann  Lee",), ("Ann Lee “sang”, she", "Å"))


# -- SearchQA ---------------------------------------------------------------------------------------------------


def record(number, answer="Ann Lee", snippets=("She is Ann \nLee, of\n Oslo (\nNorway)",), **changes):
    """A file of SearchQA with the keys that the release has."""
    results = [
        {"url": f"/url?q={i}", "snippet": s, "related_links": None, "title": "T"} for i, s in enumerate(snippets)
    ]
    return {
        "category": "SONGS", "search_results": results, "air_date": "2007-05-30", "question": f"Who sang No. {number}",
        "value": "$800", "id": number, "answer": answer, "round": "Jeopardy!", "show_number": "4680", **changes,
    }  # fmt: skip


def name(number):
    return f"{number:06d}-4680_jeopardy_songs_800.json"


# The six shapes: two files for each split on one line, and two indented ones in a folder that tells no split.
RELEASE = {
    "train": [record(19, "(Ann) Lee", ['+ "answer": "(Ann) Lee..."', "SONGS 800 (Ann) Lee."]), record(38, 'the "Sun"')],
    "val": [record(528, "tried & treed", ["It rained", "I | tried & treed."]), record(1506, snippets=["Ann", None])],
    "test": [record(529, "Oslo", ["No. 529 is..."] * 3), record(1507)],
}
RAW = [record(30000, "Oslo", [f"In \nOslo {i}" for i in range(50)]), record(30001, snippets=["Ann Lee..."] * 31)]


def release(folder):
    for split, records in RELEASE.items():
        (folder / split).mkdir(parents=True)
        for one in records:
            (folder / split / name(one["id"])).write_text(json.dumps(one), encoding="utf-8")
    return folder


def convert(script, source, target, *flags):
    script.main(["--input", str(source), "--output_dir", str(target), "--workers", "1", *flags])
    return {path.name: path.read_bytes() for path in sorted(target.iterdir())}


def test_searchqas_release_becomes_the_readers_splits_with_counts_by_reason(tmp_path, capsys):
    files = convert(SEARCHQA, release(tmp_path / "in"), tmp_path / "out")
    assert list(files) == [f"{split}.{ending}" for split in ("dev", "test", "train") for ending in ("json", "txt")]
    [train] = read_openqa(tmp_path / "out", "train")
    assert (train.question, train.answers) == ("Who sang No. 19", ("(Ann) Lee",))
    dev = list(read_openqa(tmp_path / "out", "dev"))
    assert [(q.answers[0], len(q.paragraphs)) for q in dev] == [("tried & treed", 2), ("Ann Lee", 1)]
    test = list(read_openqa(tmp_path / "out", "test"))
    assert test[1].paragraphs == ("She is Ann Lee, of Oslo (Norway)",)  # as before its lines were wrapped
    counts = re.findall(r"([\d,]+)  (.*)", capsys.readouterr().out)
    assert {line: int(count) for count, line in counts} == {
        "train: questions": 2, "train: kept": 1, "train: paragraphs": 2,
        "train: dropped: no paragraph bears the answer": 1,
        "dev: questions": 2, "dev: kept": 2, "dev: paragraphs": 3, "dev: blank paragraphs left out": 1,
        "dev: kept without an answer-bearing paragraph": 1,
        "test: questions": 2, "test: kept": 2, "test: paragraphs": 4,
        "test: kept without an answer-bearing paragraph": 1,
    }  # fmt: skip


def test_indented_files_in_a_folder_without_a_split_are_given_one(tmp_path):
    folder = tmp_path / "in" / "030000-49999"
    folder.mkdir(parents=True)
    for one in RAW:
        (folder / name(one["id"])).write_text(json.dumps(one, indent=4), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"030000-4680.* is in no folder or archive named train.*--split \(2 of 2 files"
    ):
        convert(SEARCHQA, tmp_path / "in", tmp_path / "out")
    convert(SEARCHQA, tmp_path / "in", tmp_path / "out", "--split", "test")
    assert [len(question.paragraphs) for question in read_openqa(tmp_path / "out", "test")] == [50, 31]


@pytest.mark.parametrize("layout", ["one archive", "an archive a split"])
def test_archives_give_the_same_bytes_as_folders(tmp_path, layout):
    expected = convert(SEARCHQA, release(tmp_path / "in"), tmp_path / "out")
    place = tmp_path / "zips"
    place.mkdir()
    for split, records in RELEASE.items():
        archive = "all.zip" if layout == "one archive" else f"{split}.zip"
        with zipfile.ZipFile(place / archive, "a") as target:
            for one in records:
                inner = f"data/{split}/" if layout == "one archive" else ""
                target.writestr(f"{inner}{name(one['id'])}", json.dumps(one))
            target.writestr(f"__MACOSX/{split}/._x.json", b"\0")
    source = place / "all.zip" if layout == "one archive" else place
    assert convert(SEARCHQA, source, tmp_path / "again") == expected


@pytest.mark.parametrize("escape", ["../train/x.json", "/etc/train/x.json", "C:\\train\\x.json", "train/../../x.json"])
def test_an_archive_whose_names_lead_out_of_it_is_refused(tmp_path, escape):
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.writestr(escape, json.dumps(record(1)))
    with pytest.raises(ValueError, match="which leads out of it; fetch it from its makers"):
        convert(SEARCHQA, tmp_path / "train.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"000001.*\.json, line 1, column 2: broken JSON .*; give SearchQA's files as released"),
        (json.dumps(record(1, answer=["Lee"])), r'000001.*\.json: the answer is \["Lee"\]; give a text'),
        (json.dumps(record(1, search_results={})), r"000001.*\.json: search_results is \{\}; give a list"),
        (json.dumps(record(1, snippets=[7])), r"the snippet of search result 1 is 7; give a text"),
        (json.dumps(record(1, search_results=[{}])), r"search result 1 is \{\}; give an object with a snippet"),
        (json.dumps({"question": "Who?"}), r"the keys \['answer', 'search_results'\] are missing"),
        (json.dumps(record(1, answer=None)), r"no question of train is left \(dropped: it has no answer 1; quest"),
        (json.dumps(record(1, search_results=None)), r"\(dropped: it has no paragraph 1; "),
    ],
)
def test_a_broken_file_of_searchqa_is_refused(tmp_path, text, message):
    (tmp_path / "in" / "train").mkdir(parents=True)
    (tmp_path / "in" / "train" / name(1)).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        convert(SEARCHQA, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_stopped_conversion_goes_on_with_the_parts_that_are_left(tmp_path, monkeypatch):
    source = release(tmp_path / "in")
    expected = convert(SEARCHQA, source, tmp_path / "whole")
    monkeypatch.setattr(searchqa, "FILES_A_PIECE", 1)
    read, done = openqa_parts._kept_lines, []

    def stopped(found, split, counts):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(found.name)
        return read(found, split, counts)

    monkeypatch.setattr(openqa_parts, "_kept_lines", stopped)
    with pytest.raises(KeyboardInterrupt):
        convert(SEARCHQA, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    again = []
    monkeypatch.setattr(openqa_parts, "_kept_lines", lambda *given: again.append(given[0].name) or read(*given))
    assert convert(SEARCHQA, source, tmp_path / "out") == expected
    assert len(again) == 3
    assert not set(again) & set(done)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "whole"]


# -- Quasar-T ---------------------------------------------------------------------------------------------------


def quasart(folder, questions, contexts, split="train", length="short"):
    """A split as released; returns the folder."""
    places = ((f"questions/{split}_questions", questions), (f"contexts/{length}/{split}_contexts", contexts))
    for place, lines in places:
        path = folder / f"{place}.json.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    return folder


def asked(number, **changes):
    return {"uid": f"s3q{number}", "question": f"Who sang {number} ?", "answer": "Ann Lee", "tags": ["2tok"], **changes}


def context(number, *texts):
    return {"uid": f"s3q{number}", "contexts": [[9.5 - i, text] for i, text in enumerate(texts)]}


def test_quasart_becomes_the_readers_splits_in_the_order_of_its_contexts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("kadapter.data.quasart.LINES_A_PIECE", 2)
    questions = [asked(i) for i in range(5)]
    contexts = [context(3, "ann lee sings", " "), context(0, "Oslo"), context(4), context(1, "The Ann, Lee", "Oslo")]
    for split in ("train", "dev"):
        quasart(tmp_path / "in", questions, contexts, split)
    convert(QUASART, tmp_path / "in", tmp_path / "out")
    found = {split: [*read_openqa(tmp_path / "out", split)] for split in ("train", "dev")}
    assert [question.question for question in found["train"]] == ["Who sang 3 ?", "Who sang 1 ?"]
    assert [question.question for question in found["dev"]] == ["Who sang 3 ?", "Who sang 0 ?", "Who sang 1 ?"]
    assert found["train"][1].paragraphs == ("The Ann, Lee", "Oslo")
    out = capsys.readouterr().out
    assert " 5  train: questions" in out
    assert " 2  train: dropped: it has no paragraph" in out
    assert " 1  train: dropped: no paragraph bears the answer" in out
    assert " 1  dev: kept without an answer-bearing paragraph" in out


def test_long_contexts_are_asked_for_and_files_may_be_unpacked(tmp_path):
    quasart(tmp_path / "in", [asked(1)], [context(1, "Ann Lee")], "test", "long")
    packed = tmp_path / "in" / "questions" / "test_questions.json.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    with pytest.raises(ValueError, match=r"test_questions\.json is there beside test_questions\.json\.gz; remove one"):
        convert(QUASART, tmp_path / "in", tmp_path / "out", "--contexts", "long")
    packed.unlink()
    with pytest.raises(FileNotFoundError, match=r"short/test_contexts\.json\.gz is missing; fetch it, or remove"):
        convert(QUASART, tmp_path / "in", tmp_path / "out")
    assert [*convert(QUASART, tmp_path / "in", tmp_path / "out", "--contexts", "long")] == ["test.json", "test.txt"]


@pytest.mark.parametrize(
    ("questions", "contexts", "message"),
    [
        ([asked(1), asked(1)], [context(1, "a")], r"train_questions.*line 2: the id 's3q1' stands at 1 already"),
        ([asked(1, answer=None)], [context(1, "a")], r"train_questions.*line 1: answer is null; give a text"),
        ([asked(1)], [context(2, "a")], r"train_contexts.*line 1: the uid 's3q2' is in no line of .*train_questions"),
        ([asked(1)], [context(1, "Ann Lee")] * 2, "train has the question s3q1 twice"),
        ([asked(1)], [{"uid": "s3q1"}], r"train_contexts.*line 1: the keys \['contexts'\] are missing"),
        ([asked(1)], [{"uid": "s3q1", "contexts": ["Ann"]}], r'line 1: context 1 is "Ann"; give \[score, text\]'),
        ([asked(1)], [[1]], r"train_contexts.*line 1: \[1\] is not a JSON object"),
    ],
)
def test_a_broken_release_of_quasart_is_refused(tmp_path, questions, contexts, message):
    with pytest.raises(ValueError, match=message):
        convert(QUASART, quasart(tmp_path / "in", questions, contexts), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_quasart_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="give Quasar-T's folder"):
        convert(QUASART, tmp_path, tmp_path / "out")
