"""CoNLL-U: the reader, and scripts/create_dependency_dataset.py that makes find_head of it."""

import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import load_script

from kadapter.data.conllu import SentenceError, read_conllu, to_find_head, word_on_cycle
from kadapter.data.jsonio import read_records
from kadapter.tasks.tagging import Tagging

dependency_script = load_script("scripts/create_dependency_dataset.py")


def row(number: int | str, form: str, head: int | str, misc: str = "_") -> str:
    return f"{number}\t{form}\t_\t_\t_\t_\t{head}\t_\t_\t{misc}\n"


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def slices(record: dict[str, Any]) -> list[str]:
    """The text of each word of a find_head record, cut out by its span."""
    spans = [token[str(number)] for number, token in enumerate(record["tokens"], start=1)]
    return [record["sent"][span["start"] : span["end"]] for span in spans]


def convert_one(tmp_path: Path, text: str) -> dict[str, Any]:
    (sentence,) = read_conllu(write(tmp_path / "one.conllu", text))
    return to_find_head(sentence)


# --- conllu ---


def test_a_sentence_becomes_spans_and_one_pair_a_word(tmp_path: Path) -> None:
    text = "# sent_id = s1\n# text = Dogs bark.\n"
    text += row(1, "Dogs", 2) + row(2, "bark", 0, "SpaceAfter=No") + row(3, ".", 2)
    assert convert_one(tmp_path, text) == {
        "sent": "Dogs bark.",
        "tokens": [
            {"1": {"start": 0, "end": 4}},
            {"2": {"start": 5, "end": 9}},
            {"3": {"start": 9, "end": 10}},
        ],
        "pairs": [
            {"dependent_index": 1, "governor_index": 2},
            {"dependent_index": 2, "governor_index": 0},
            {"dependent_index": 3, "governor_index": 2},
        ],
    }


def test_the_text_comment_decides_the_spacing(tmp_path: Path) -> None:
    record = convert_one(tmp_path, "# text = a   a\u3000b\n" + row(1, "a", 0) + row(2, "a", 1) + row(3, "b", 1))
    assert record["sent"] == "a   a\u3000b"
    assert slices(record) == ["a", "a", "b"]
    assert record["tokens"][1] == {"2": {"start": 4, "end": 5}}


def test_without_a_text_comment_the_text_is_rebuilt(tmp_path: Path) -> None:
    words = row(1, "10 000", 2) + row(2, "Euro", 0, "Gloss=x|SpaceAfter=No") + row(3, "!", 2)
    record = convert_one(tmp_path, words)
    assert record["sent"] == "10 000 Euro!"
    assert slices(record) == ["10 000", "Euro", "!"]


@pytest.mark.parametrize("comment", ["", "# text = I don't.\n"])
def test_a_multiword_token_is_split_where_its_words_make_it_up(tmp_path: Path, comment: str) -> None:
    words = row(1, "I", 2) + row("2-3", "don't", "_", "SpaceAfter=No")
    words += row(2, "do", 0) + row(3, "n't", 2) + row(4, ".", 2)
    record = convert_one(tmp_path, comment + words)
    assert record["sent"] == "I don't."
    assert slices(record) == ["I", "do", "n't", "."]


def test_a_fused_token_gives_each_word_the_whole_surface_span(tmp_path: Path) -> None:
    words = row("1-2", "zum", "_") + row(1, "zu", 3) + row(2, "dem", 3) + row(3, "Haus", 0)
    record = convert_one(tmp_path, words)
    assert record["sent"] == "zum Haus"
    assert slices(record) == ["zum", "zum", "Haus"]


def test_empty_nodes_are_skipped_and_several_roots_kept(tmp_path: Path) -> None:
    words = row("0.1", "x", "_") + row(1, "a", 0) + row("1.1", "_", "_") + row(2, "b", 0)
    record = convert_one(tmp_path, words)
    assert record["sent"] == "a b"
    assert [pair["governor_index"] for pair in record["pairs"]] == [0, 0]


@pytest.mark.parametrize(
    ("lines", "reason", "message"),
    [
        (row(1, "a", "_"), "head is not a number", "line 2, .*: word 1 'a' has the head '_'"),
        (row(1, "a", "²"), "head is not a number", "word 1 'a' has the head '²'"),
        (row(1, "a", 2), "head out of range", "word 1 'a' has the head 2 in a sentence of 1 words"),
        (row(1, "a", 1), "cycle", "from word 1 'a' leads back"),
        (row(1, "a", 0) + row(2, "b", 3) + row(3, "c", 2), "cycle", "from word 2 'b' leads back"),
        ("1 a _ _ 0\n", "broken line", "line 4, .*: 1 tab-separated columns instead of 10"),
        (row(1, "", 0), "broken line", "word 1 has no form"),
        (row(1, " ", 0), "no words", "no words but blanks"),
        (row(1, "_", 2) + row(2, "_", 0), "the text is withheld", "every form is '_'"),
        ("# text = _\n" + row("1-2", "_", "_") + row(1, "_", 2) + row(2, "_", 0), "the text is withheld", "every form"),
        (row(1, "a", 0) + row(3, "b", 1), "word numbering", "line 5, .*'3' where 2 is due"),
        (row("1-2", "ab", "_") + row(1, "a", 0), "word numbering", "multiword token 1-2 'ab' overlaps"),
        (row("2-1", "ab", "_") + row(1, "a", 0) + row(2, "b", 1), "word numbering", "token 2-1"),
    ],
)
def test_a_bad_sentence_is_refused_with_place_and_reason(tmp_path: Path, lines: str, reason: str, message: str) -> None:
    path = write(tmp_path / "bad.conllu", "\n# sent_id = s7\n# note\n" + lines + "\n")
    with pytest.raises(SentenceError, match=r"bad\.conllu, line \d+, sentence 's7': ") as caught:
        list(read_conllu(path))
    assert caught.value.reason.startswith(reason)
    caught.match(message)


def test_reading_goes_on_after_a_bad_sentence_when_asked_to(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conllu", row(1, "a", 9) + "\n \n\r\n" + row(1, "b", 0))
    errors: list[SentenceError] = []
    sentences = list(read_conllu(path, on_error=errors.append))
    assert [(sentence.line, sentence.text) for sentence in sentences] == [(5, "b")]
    assert [error.reason for error in errors] == ["head out of range"]
    assert "a sentence without sent_id" in str(errors[0])


WE_REST = row(1, "We", 2) + row(2, "rest", 0)


@pytest.mark.parametrize(
    ("text", "words", "spans"),
    [
        ("We\u200b rest", ("We", "rest"), [(0, 2), (4, 8)]),
        ("\u200eWe\u200f\u202a rest\u202c", ("We", "rest"), [(1, 3), (6, 10)]),
        ("W\u00ade\u00a0rest", ("We", "rest"), [(0, 3), (4, 8)]),
        ("We rest", ("W\u200be", "\ufeffrest"), [(0, 2), (3, 7)]),
        ("café rest", ("cafe\u0301", "rest"), [(0, 4), (5, 9)]),
        ("cafe\u0301 rest", ("café", "rest"), [(0, 5), (6, 10)]),
        ("ạ\u0302 rest", ("â\u0323", "rest"), [(0, 2), (3, 7)]),  # marks in another order
        ("10\u00a0000 rest", ("10 000", "rest"), [(0, 6), (7, 11)]),
        ("10000 rest", ("10 000", "rest"), [(0, 5), (6, 10)]),
        ("각 rest", ("\u1100\u1161\u11a8", "rest"), [(0, 1), (2, 6)]),
    ],
)
def test_words_are_found_whatever_cannot_be_seen(tmp_path: Path, text: str, words: tuple[str, str], spans: Any) -> None:
    rows = row(1, words[0], 2) + row(2, words[1], 0)
    (sentence,) = read_conllu(write(tmp_path / "a.conllu", f"# text = {text}\n{rows}"))
    assert [(word.start, word.end) for word in sentence.words] == spans
    assert sentence.text == text
    assert "differ in invisible characters" in sentence.note


@pytest.mark.parametrize(
    ("text", "rows", "rebuilt"),
    [
        ("We sleep", WE_REST, "We rest"),
        ("We", WE_REST, "We rest"),
        ("We rest now", WE_REST, "We rest"),
        ("é", row(1, "e", 0, "SpaceAfter=No") + row(2, "\u0301", 1), "e\u0301"),  # two words in one character
        ("zu Haus", row("1-2", "zum", "_") + row(1, "zu", 3) + row(2, "dem", 3) + row(3, "Haus", 0), "zum Haus"),
    ],
)
def test_a_text_that_is_not_the_words_is_rebuilt_from_them(tmp_path: Path, text: str, rows: str, rebuilt: str) -> None:
    (sentence,) = read_conllu(write(tmp_path / "a.conllu", f"# text = {text}\n{rows}"))
    assert sentence.text == rebuilt
    assert sentence.note.startswith("the text does not match the words")
    assert all(rebuilt[word.start : word.end] for word in sentence.words)


@pytest.mark.parametrize("comment", ["", "# text = We  rest .\n"])
@pytest.mark.parametrize("blank", [" ", "\u00a0", "\n", "\n\n", " \n \n", "\u3000"])
def test_tokens_of_blanks_are_no_words_and_heads_lead_past_them(tmp_path: Path, blank: str, comment: str) -> None:
    fields = [blank, blank, "SPACE", "_SP", "_", "1", "dep", "_", "SpaceAfter=No"]
    space = "\t".join(["2", *fields]) + "\n"
    rows = row(1, "We", 3, "SpaceAfter=No") + space + row(3, "rest", 0) + row(4, ".", 2)
    found = list(read_conllu(write(tmp_path / "a.conllu", f"{comment}{rows}\n{WE_REST}")))
    assert [sentence.text for sentence in found] == ["We  rest ." if comment else "We rest .", "We rest"]
    assert [word.head for word in found[0].words] == [2, 0, 1]
    assert not found[0].note


def test_a_token_of_blanks_may_be_the_root_the_first_or_the_last(tmp_path: Path) -> None:
    rows = row(1, "\n", 0) + row(2, "a", 1) + row(3, " ", 2) + row("4-5", "b c", "_") + row(4, "b", 3)
    rows += row(5, "c", 4) + row(6, "\n\n", 2)
    (sentence,) = read_conllu(write(tmp_path / "a.conllu", rows))
    assert sentence.text == "a b c"
    assert [(word.form, word.head) for word in sentence.words] == [("a", 0), ("b", 1), ("c", 2)]


def test_a_row_that_is_cut_off_stays_a_broken_line(tmp_path: Path) -> None:
    errors: list[SentenceError] = []
    text = "1\ta\t_\n\n" + row(1, "b", 0) + "\n1\tc\n# text = d\n\n" + row(1, "d", 0) + "\n1\te\tx\n" + "f\n" * 30
    found = list(read_conllu(write(tmp_path / "a.conllu", text), on_error=errors.append))
    assert [sentence.text for sentence in found] == ["b", "d"]
    assert [error.reason for error in errors] == ["broken line"] * 3


def test_comments_with_a_blank_line_behind_belong_to_the_next_sentence(tmp_path: Path) -> None:
    columns = "ID FORM LEMMA UPOS XPOS FEATS HEAD DEPREL DEPS MISC"
    text = f"# global.columns = {columns}\n\n# newdoc\n# sent_id = 1\n# text = We  rest\n\n" + WE_REST
    text += "\n# sent_id = 2\n" + row(1, "a", 0) + "\n# the end\n\n"
    errors: list[SentenceError] = []
    found = list(read_conllu(write(tmp_path / "a.conllu", text), on_error=errors.append))
    assert [(sentence.sent_id, sentence.text, sentence.note) for sentence in found] == [
        ("1", "We  rest", ""),
        ("2", "a", ""),
    ]
    assert not errors
    with pytest.raises(ValueError, match=r"b\.conllu is empty or has only comments"):
        list(read_conllu(write(tmp_path / "b.conllu", "# a\n\n# b\n")))


def test_a_blank_line_within_a_sentence_does_not_part_it(tmp_path: Path) -> None:
    first, second = row(1, "We", 2) + row(2, "rest", 4), row("3-4", "don't", "_") + row(3, "do", 4) + row(4, "n't", 0)
    found = list(read_conllu(write(tmp_path / "a.conllu", f"# text = We rest don't\n{first}\n{second}\n{WE_REST}")))
    assert [sentence.text for sentence in found] == ["We rest don't", "We rest"]
    assert [word.head for word in found[0].words] == [2, 4, 4, 0]


def test_words_that_are_numbered_through_a_file_are_numbered_anew(tmp_path: Path) -> None:
    second = row("3-4", "don't", "_") + row(3, "do", 4) + row(4, "n't", 0) + row("4.1", "x", "_")
    third = "# text = ab\n" + row(5, "a", 6) + row(6, "b", 0)
    found = list(read_conllu(write(tmp_path / "a.conllu", f"{WE_REST}\n{second}\n{third}")))
    assert [sentence.text for sentence in found] == ["We rest", "don't", "ab"]
    assert [[word.head for word in sentence.words] for sentence in found] == [[2, 0]] * 3
    with pytest.raises(SentenceError, match="'3' where 1 is due"):  # another sentence, but its heads are not in it
        list(read_conllu(write(tmp_path / "a.conllu", f"{WE_REST}\n# next\n{row(3, 'a', 1)}")))


def test_the_script_counts_sentences_that_are_kept_although_their_text_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["# text = We\u200b rest\n", "# text = No\n", "", "# text = We\u200e rest\n"]
    bank = "# header\n\n" + "\n".join(text + WE_REST for text in texts) + "\n" + row(1, "_", 0)
    path = write(tmp_path / "a.conllu", bank)
    dependency_script.main(["--input", str(path), "--output", str(tmp_path / "out.json")])
    shown = capsys.readouterr()
    assert "read 5, kept 4, dropped 1 (the text is withheld 1); 2 kept although text and words differ" in shown.out
    assert "; 1 kept although the text does not match the words and was rebuilt from them" in shown.out
    assert "a.conllu, line 18, a sentence without sent_id: every form is '_'" in shown.err


def test_a_treebank_that_is_empty_or_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"void\.conllu is empty"):
        list(read_conllu(write(tmp_path / "void.conllu", "\n\n")))
    with pytest.raises(ValueError, match="line 1: the byte at offset 2 is not UTF-8"):
        list(read_conllu(write(tmp_path / "latin.conllu", b"# \xe9\n"), on_error=lambda error: None))


# --- other dialects of CoNLL ---

TREE = [(1, "Dogs", 2), (2, "bark", 0), (3, "loudly", 2)]
DIALECTS = {
    "conllu": [f"{n}\t{form}\t_\tX\t_\t_\t{head}\tdep\t_\t_" for n, form, head in TREE],
    "conllx": [f"{n}\t{form}\t_\tNN\tNN\t_\t{head}\tdep\t{3 - n}\tother" for n, form, head in TREE],
    "corenlp": [f"{n}\t{form}\tlemma\tNN\tO\t{head}\tdep" for n, form, head in TREE],
    "conll2009": [
        f"{n}\t{form}\tl\tl\tNN\tNN\t_\t_\t{head}\t{3 - n}\tdep\tdep\t_\t_" + "\tA0" * (n - 1) for n, form, head in TREE
    ],
    "cupt": [
        "# global.columns = ID FORM LEMMA UPOS XPOS FEATS HEAD DEPREL DEPS MISC PARSEME:MWE",
        *(f"{n}\t{form}\t_\tX\t_\t_\t{head}\tdep\t_\t_\t{n}:VID" for n, form, head in TREE),
    ],
    "conllup": ["#global.columns=HEAD ID FORM", *(f"{head}\t{n}\t{form}" for n, form, head in TREE)],
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_same_tree(tmp_path: Path, dialect: str) -> None:
    text = "\n".join(DIALECTS[dialect]) + "\n\n" + "\n".join(DIALECTS[dialect][-3:]) + "\n"
    sentences = [to_find_head(sentence) for sentence in read_conllu(write(tmp_path / f"a.{dialect}", text))]
    assert len(sentences) == 2
    expected = convert_one(tmp_path, "\n".join(DIALECTS["conllu"]))
    assert sentences == [expected] * 2
    write(tmp_path / f"a.{dialect}.gz", gzip.compress(text.encode()))
    assert len(list(read_conllu(tmp_path / f"a.{dialect}.gz"))) == 2


@pytest.mark.parametrize(
    ("dialect", "known"),
    [
        ("conllu", {"upos": "X", "deprel": "dep"}),
        ("conllx", {"upos": "NN", "xpos": "NN", "deprel": "dep"}),
        ("corenlp", {"xpos": "NN", "deprel": "dep"}),
        ("conll2009", {"xpos": "NN", "deprel": "dep"}),
        ("cupt", {"upos": "X", "deprel": "dep"}),
        ("conllup", {}),
    ],
)
def test_every_dialect_gives_the_tags_that_it_has(tmp_path: Path, dialect: str, known: dict[str, str]) -> None:
    (sentence,) = read_conllu(write(tmp_path / f"a.{dialect}", "\n".join(DIALECTS[dialect]) + "\n"))
    expected = {"upos": "_", "xpos": "_", "deprel": "_"} | known
    assert [word.tags for word in sentence.words] == [expected] * 3


def test_named_columns_keep_spacing_ranges_and_empty_nodes(tmp_path: Path) -> None:
    rows = ["1-2 SpaceAfter=No don't _", "1 _ do 0", "2 _ n't 1", "2.1 _ x _", "3 _ . 1"]
    text = "\n".join(["# global.columns = ID MISC FORM HEAD", *(row.replace(" ", "\t") for row in rows)])
    record = convert_one(tmp_path, text)
    assert record["sent"] == "don't."
    assert slices(record) == ["do", "n't", "."]


@pytest.mark.parametrize("dialect", ["corenlp", "conll2009", "cupt"])
def test_a_row_of_another_width_is_refused_even_if_conllu_would_take_it(tmp_path: Path, dialect: str) -> None:
    rows = DIALECTS[dialect]
    for bad in (
        rows[-1] + "\tx" if dialect != "conll2009" else "3\tx",
        row(3, "c", 2).strip(),
        rows[-1].rsplit("\t", 4)[0],
    ):
        text = "\n".join([*rows[:-1], bad, "", *rows[-3:]])
        errors: list[SentenceError] = []
        sentences = list(read_conllu(write(tmp_path / "a", text), errors.append))
        assert [error.reason for error in errors] == ["broken line"]
        assert len(sentences) == 1


def test_columns_without_heads_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conllup", "# global.columns = ID FORM UPOS\n1\ta\tX\n")
    with pytest.raises(
        ValueError, match=r"a\.conllup, line 1: the columns ID FORM UPOS lack HEAD; give a treebank with"
    ):
        list(read_conllu(path))
    path = write(tmp_path / "ner.conll", "EU\tNNP\tB-NP\tB-ORG\n")
    with pytest.raises(ValueError, match="no sentence could be used, .*broken line 1.*10 columns separated by tabs"):
        dependency_script.main(["--input", str(path), "--output", str(tmp_path / "out.json")])


# --- scripts/create_dependency_dataset.py ---


@pytest.mark.parametrize("style", ["json", "jsonl"])
def test_the_dependency_script_keeps_the_good_and_counts_the_bad(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], style: str
) -> None:
    first = write(tmp_path / "1.conllu", row(1, "a", 0) + "\n" + row(1, "b", 4) + "\n" + row(1, "c", 5))
    second = write(tmp_path / "2.conllu", row(1, "d", 0) + row(2, "e", 1) + row(3, "f", 1))
    output = tmp_path / "new" / "out"
    arguments = ["--input", str(first), str(second), "--output", str(output), "--format", style]
    dependency_script.main([*arguments, "--max_words", "2"])
    shown = capsys.readouterr()
    assert "read 4, kept 1, dropped 3 (head out of range 2, too long 1)" in shown.out
    assert shown.out.count("\n") == 1
    assert shown.err.count("dropped: ") == 2
    assert [record["sent"] for _, record in read_records(output)] == ["a"]


def test_the_dependency_script_writes_nothing_without_a_good_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "1.conllu", row(1, "a", 1))
    with pytest.raises((ValueError, OSError), match=r"no sentence could be used, .*\(read 1, kept 0, .*cycle 1"):
        dependency_script.main(["--input", str(path), "--output", str(tmp_path / "out.json")])
    assert os.listdir(tmp_path) == ["1.conllu"]


def test_the_dependency_script_refuses_bad_files_and_options(tmp_path: Path) -> None:
    path = write(tmp_path / "1.conllu", row(1, "a", 0))
    with pytest.raises((ValueError, OSError), match=r"gone\.conllu: there is no such file"):
        dependency_script.main(["--input", str(tmp_path / "gone.conllu"), "--output", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="2"):
        dependency_script.main(["--input", str(path), "--output", str(path)])
    with pytest.raises(SystemExit, match="2"):
        dependency_script.main(["--input", str(path), "--output", str(tmp_path / "o"), "--max_words", "0"])
    assert path.read_text() == row(1, "a", 0)


def test_a_second_output_without_a_sentence_leaves_the_first_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path / "1.conllu", "\n".join(row(1, word, 0) for word in ("a", "b", "c", "d", "e", "f", "g", "h")))
    outputs = [tmp_path / "train.json", tmp_path / "dev.json"]
    command = ["--input", str(path), "--output", str(outputs[0]), "--dev_output", str(outputs[1])]
    dependency_script.main([*command, "--dev_fraction", "0.5"])
    before = [output.read_bytes() for output in outputs]
    for nearly in ("0.0000001", "0.9999999"):  # leaves dev, or train, without a sentence
        with pytest.raises(ValueError, match="no sentence could be used"):
            dependency_script.main([*command, "--dev_fraction", nearly])
        assert [output.read_bytes() for output in outputs] == before
    assert sorted(os.listdir(tmp_path)) == ["1.conllu", "dev.json", "train.json"]


def tagged_row(number: int | str, form: str, head: int, upos: str, deprel: str) -> str:
    return f"{number}\t{form}\t_\t{upos}\t_\t_\t{head}\t{deprel}\t_\t_\n"


def test_words_with_their_tags_are_what_the_tagging_recipe_reads(tmp_path: Path, capsys: Any) -> None:
    sentences = [
        "1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_\n"
        + tagged_row(1, "do", 0, "AUX", "root")
        + tagged_row(2, "n't", 1, "PART", "advmod:neg"),
        tagged_row(1, "Dogs", 2, "NOUN", "nsubj") + tagged_row(2, "bark", 0, "VERB", "root"),
        tagged_row(1, "Oh", 0, "_", "root"),
    ]
    path = write(tmp_path / "a.conllu", "\n".join(sentences))
    folder = tmp_path / "deprel"
    command = ["--input", str(path), "--output", str(folder / "train.jsonl"), "--labels", str(folder / "labels.json")]
    dependency_script.main([*command, "--tags", "deprel", "--universal"])
    rows = [record for _, record in read_records(folder / "train.jsonl")]
    assert rows[:2] == [
        {"tokens": ["do", "n't"], "tags": ["root", "advmod"]},
        {"tokens": ["Dogs", "bark"], "tags": ["nsubj", "root"]},
    ]
    assert json.loads((folder / "labels.json").read_text()) == ["advmod", "nsubj", "root"]
    task = Tagging.for_folder(folder, folder / "labels.json")
    assert (task.scheme, task.labels) == ("plain", ("advmod", "nsubj", "root"))
    assert [example["labels"] for example in task.read(folder / "train.jsonl", "train")] == [
        row["tags"] for row in rows
    ]
    dependency_script.main([*command, "--tags", "upos"])
    assert "kept 2, dropped 1 (no upos 1)" in capsys.readouterr().out
    dependency_script.main([*command, "--tags", "deprel"])
    assert "advmod:neg" in (folder / "labels.json").read_text()


def test_labels_name_the_tags_of_both_outputs(tmp_path: Path) -> None:
    tags = [f"tag{i}" for i in range(12)]
    path = write(tmp_path / "a.conllu", "\n".join(tagged_row(1, tag, 0, "X", tag) for tag in tags))
    command = ["--input", str(path), "--tags", "deprel", "--labels", str(tmp_path / "labels.json")]
    outputs = ["--output", str(tmp_path / "train.jsonl"), "--dev_output", str(tmp_path / "dev.jsonl")]
    dependency_script.main([*command, *outputs, "--dev_fraction", "0.5"])
    parts = [{row["tags"][0] for _, row in read_records(tmp_path / f"{split}.jsonl")} for split in ("train", "dev")]
    assert all(parts)
    assert json.loads((tmp_path / "labels.json").read_text()) == sorted(parts[0] | parts[1]) == sorted(tags)


def test_shuffled_trees_keep_their_shape_and_lose_the_words_that_stood_in_it(tmp_path: Path) -> None:
    heads = [2, 3, 0, 3, 6, 4, 6]
    block = "".join(row(number, f"w{number}", head) for number, head in enumerate(heads, start=1))
    path = write(tmp_path / "a.conllu", "\n".join([block] + [block.replace("w", f"w{i}x") for i in range(9)]))
    outputs = ["--output", str(tmp_path / "train.json"), "--dev_output", str(tmp_path / "dev.json")]
    dependency_script.main(["--input", str(path), *outputs, "--dev_fraction", "0.4", "--shuffle_trees"])

    def trees(split: str) -> list[list[int]]:
        records = json.loads((tmp_path / f"{split}.json").read_text())
        return [[pair["governor_index"] for pair in record["pairs"]] for record in records]

    assert trees("dev") == [heads] * len(trees("dev"))
    shuffled = trees("train")
    assert len({*map(tuple, shuffled)}) > 1
    for tree in shuffled:
        assert word_on_cycle(tree) is None
        assert sorted(Counter(tree).values()) == sorted(Counter(heads).values())


@pytest.mark.parametrize(
    "flags", [["--tags", "upos", "--shuffle_trees"], ["--universal"], ["--labels", "l.json"], ["--tags", "lemma"]]
)
def test_flags_of_tags_that_do_not_go_together_are_refused(tmp_path: Path, flags: list[str], capsys: Any) -> None:
    path = write(tmp_path / "1.conllu", row(1, "a", 0))
    with pytest.raises(SystemExit, match="2"):
        dependency_script.main(["--input", str(path), "--output", str(tmp_path / "o.json"), *flags])
    assert flags[0] in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["1.conllu"]
