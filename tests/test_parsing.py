"""Raw text to find_head: sentences, blanks, kills, missing models; with spaCy pipelines made here, Stanza's writer."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import spacy
from conftest import ROOT, load_script
from spacy.tokens import Doc
from spacy.training import Example
from test_alignment import NLP
from test_converters import slices, write

from kadapter.data import parsing
from kadapter.data.conllu import read_conllu, to_find_head
from kadapter.data.jsonio import read_records
from kadapter.data.parsers import Parser, load_parser, spacy_parser, spacy_sentences, stanza_sentences
from kadapter.data.parsing import parse_text

SCRIPT = load_script("scripts/create_dependency_dataset.py")
CHAIN = spacy_parser(NLP)


class Counting:
    """The chain parser, with the texts that it was asked for."""

    def __init__(self, **identity: str) -> None:
        self.texts: list[str] = []
        self.parser = Parser(CHAIN.identity | identity, self.parse)

    def parse(self, texts):
        self.texts += texts
        return CHAIN.parse(texts)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a real, if foolish, spaCy parser: a few steps on two sentences."""
    spacy.util.fix_random_seed(0)
    nlp = spacy.blank("en")
    model = {"@architectures": "spacy.HashEmbedCNN.v2", "pretrained_vectors": None, "width": 16, "depth": 1}
    model |= {"embed_size": 50, "window_size": 1, "maxout_pieces": 2, "subword_features": True}
    state = {"@architectures": "spacy.TransitionBasedParser.v2", "state_type": "parser", "extra_state_tokens": False}
    state |= {"hidden_width": 16, "maxout_pieces": 2, "use_upper": False, "nO": None, "tok2vec": model}
    nlp.add_pipe("parser", config={"model": state, "min_action_freq": 1})
    words, heads = ["Dogs", "bark", ".", "The", "cat", "sleeps", "."], [1, 1, 1, 4, 5, 5, 5]
    deps = ["nsubj", "ROOT", "punct", "det", "nsubj", "ROOT", "punct"]
    examples = [Example.from_dict(nlp.make_doc("Dogs bark . The cat sleeps ."), {"heads": heads, "deps": deps})]
    assert [token.text for token in examples[0].x] == words
    nlp.initialize(lambda: examples)
    for _ in range(30):
        nlp.update(examples)
    folder = tmp_path_factory.mktemp("pipeline") / "chain"
    nlp.to_disk(folder)
    return str(folder)


def sentences(conllu: Path) -> list[str]:
    return [sentence.text for sentence in read_conllu(conllu)]


# --- one text ---


def test_a_paragraph_becomes_a_sentence_each_with_heads_within_it(tmp_path: Path) -> None:
    text = write(tmp_path / "books.txt", "\n  I don't   know.\tDo you?\r\n")
    counts = parse_text([text], tmp_path / "out" / "books.conllu", CHAIN)
    assert counts == {"texts": 1, "blank lines": 1, "sentences": 2}
    rows = [
        "# sent_id = books-2-1\n# text = I don't know.",
        "1\tI\t_\t_\t_\t_\t0\troot\t_\t_",
        "2\tdo\t_\t_\t_\t_\t1\tdep\t_\tSpaceAfter=No",
        "3\tn't\t_\t_\t_\t_\t2\tdep\t_\t_",
        "4\tknow\t_\t_\t_\t_\t3\tdep\t_\tSpaceAfter=No",
        "5\t.\t_\t_\t_\t_\t4\tdep\t_\t_\n",
        "# sent_id = books-2-2\n# text = Do you?",
        "1\tDo\t_\t_\t_\t_\t0\troot\t_\t_",
        "2\tyou\t_\t_\t_\t_\t1\tdep\t_\tSpaceAfter=No",
        "3\t?\t_\t_\t_\t_\t2\tdep\t_\t_\n\n",
    ]
    assert (tmp_path / "out" / "books.conllu").read_text() == "\n".join(rows)


def test_blank_tokens_are_no_words_and_heads_lead_past_them(tmp_path: Path) -> None:
    # "Dogs" hangs on a blank below "bark", and the last sentence is nothing but blanks.
    words = ["\n", "Dogs", "\t ", "bark", ".", "  ", "\n"]
    spaces = [False, True, False, False, False, False, False]
    doc = Doc(NLP.vocab, words=words, spaces=spaces, heads=[3, 2, 3, 3, 3, 3, 6], deps=["x"] * 7)
    ((text, rows),) = spacy_sentences(doc)
    assert text == "Dogs bark."
    assert [row.split("\t")[1] for row in rows] == ["Dogs", "bark", "."]
    assert [row.split("\t")[6] for row in rows] == ["2", "0", "2"]
    assert [row.split("\t")[9] for row in rows] == ["_", "SpaceAfter=No", "_"]


def test_words_below_a_blank_root_are_roots() -> None:
    doc = Doc(NLP.vocab, words=["a", " ", "b"], spaces=[True, False, False], heads=[1, 1, 1], deps=["x"] * 3)
    ((_, rows),) = spacy_sentences(doc)
    assert [row.split("\t")[6:8] for row in rows] == [["0", "root"], ["0", "root"]]


def test_stanzas_sentences_become_the_same_find_head_as_their_treebank(tmp_path: Path) -> None:
    conll = pytest.importorskip("stanza.utils.conll")
    rows = ["# text = I don't know.", "1\tI\ti\tPRON\t_\t_\t4\tnsubj\t_\t_", "2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_"]
    rows += ["2\tdo\tdo\tAUX\t_\t_\t4\taux\t_\t_", "3\tn't\tnot\tPART\t_\t_\t4\tadvmod\t_\t_"]
    rows += ["4\tknow\tknow\tVERB\t_\t_\t0\troot\t_\tSpaceAfter=No", "5\t.\t.\tPUNCT\t_\t_\t4\tpunct\t_\t_"]
    rows += [
        "",
        "# text = Do you?",
        "1\tDo\t_\t_\t_\t_\t0\troot\t_\t_",
        "2\tyou\t_\t_\t_\t_\t1\tnsubj\t_\tSpaceAfter=No",
    ]
    gold = "\n".join([*rows, "3\t?\t_\t_\t_\t_\t1\tpunct\t_\t_", "", ""])
    document = conll.CoNLL.conll2doc(input_str=gold)
    parser = Parser({"parser": "stanza"}, lambda texts: [stanza_sentences(document) for _ in texts])
    parse_text([write(tmp_path / "a.txt", "I don't know. Do you?\n")], tmp_path / "a.conllu", parser)
    found = [to_find_head(sentence) for sentence in read_conllu(tmp_path / "a.conllu")]
    assert found == [to_find_head(sentence) for sentence in read_conllu(write(tmp_path / "gold.conllu", gold))]
    assert [slices(record) for record in found] == [["I", "do", "n't", "know", "."], ["Do", "you", "?"]]
    assert "SpaceAfter=No" in (tmp_path / "a.conllu").read_text()


# --- many texts ---


def test_a_finished_file_is_not_parsed_again_but_a_changed_text_parser_or_input_is(tmp_path: Path) -> None:
    text, conllu = write(tmp_path / "a.txt", "One.\nTwo.\n\nThree.\n"), tmp_path / "a.conllu"
    first = Counting()
    counts = parse_text([text], conllu, first.parser, batch_size=2)
    assert first.texts == ["One.", "Two.", "Three."]
    again = Counting()
    assert parse_text([text], conllu, again.parser, batch_size=2) == counts
    assert again.texts == []
    for changed in ("One.\nTwo.\n\nThree.\nFour.", "One!\nTwo.\n\nThree.\nFour.", "One!", "One!\n\n\nTwo."):
        write(text, changed)
        parse_text([text], conllu, again.parser, batch_size=2)
        assert sentences(conllu) == changed.split()
    again.texts.clear()
    parse_text([text], conllu, Counting(version="2").parser)
    parse_text([text], conllu, again.parser)
    assert again.texts == ["One!", "Two."]
    other = write(tmp_path / "b.txt", "Six.\n")
    assert parse_text([text, other], conllu, again.parser)["texts"] == 3
    assert [sentence.sent_id for sentence in read_conllu(conllu)] == ["a-1-1", "a-4-1", "b-1-1"]
    assert sorted(os.listdir(tmp_path)) == ["a.conllu", "a.conllu.json", "a.txt", "b.txt"]


def test_a_text_that_fails_is_named_and_after_its_mending_the_run_goes_on(tmp_path: Path) -> None:
    class Fails(Counting):
        def parse(self, texts):
            if any("bad" in text for text in texts):
                raise RuntimeError("too odd")
            return super().parse(texts)

    text, conllu = write(tmp_path / "a.txt", "One.\nTwo.\nThree.\n\nbad\n"), tmp_path / "a.conllu"
    with pytest.raises(ValueError, match=r"a\.txt, line 5: a text of 3 characters .*RuntimeError: too odd.; mend or"):
        parse_text([text], conllu, Fails().parser, batch_size=2)
    assert not conllu.exists()
    write(text, "One.\nTwo.\nThree.\n\nFour.\n")
    rest = Fails()
    parse_text([text], conllu, rest.parser, batch_size=2)
    assert rest.texts == ["Three.", "Four."]
    assert sentences(conllu) == ["One.", "Two.", "Three.", "Four."]


def test_a_batch_that_fails_as_a_whole_asks_for_smaller_ones(tmp_path: Path) -> None:
    class Small(Counting):
        def parse(self, texts):
            if len(texts) > 2:
                raise MemoryError
            return super().parse(texts)

    text = write(tmp_path / "a.txt", "One.\nTwo.\nThree.\n")
    with pytest.raises(ValueError, match=r"line 1: the 3 texts from here .*MemoryError.*lower --parse_batch_size"):
        parse_text([text], tmp_path / "a.conllu", Small().parser)
    assert parse_text([text], tmp_path / "a.conllu", Small().parser, batch_size=2)["sentences"] == 3


def test_a_batch_torn_by_a_kill_is_cut_off_and_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, conllu = write(tmp_path / "a.txt", "One.\nTwo.\nThree.\n"), tmp_path / "a.conllu"
    parse_text([text], tmp_path / "whole.conllu", CHAIN, batch_size=1)

    def killed(stream, batch, parser):
        if batch[0][2] == "Two.":
            stream.write(b"# sent_id = a-2-1\n# te")
            raise KeyboardInterrupt
        return written(stream, batch, parser)

    written = parsing._write
    monkeypatch.setattr(parsing, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        parse_text([text], conllu, CHAIN, batch_size=1)
    monkeypatch.undo()
    assert (tmp_path / ".a.conllu.part").read_bytes().endswith(b"# te")
    rest = Counting()
    parse_text([text], conllu, rest.parser, batch_size=1)
    assert rest.texts == ["Two.", "Three."]
    assert conllu.read_bytes() == (tmp_path / "whole.conllu").read_bytes()


def test_a_treebank_of_the_users_own_is_not_overwritten(tmp_path: Path) -> None:
    text, conllu = write(tmp_path / "a.txt", "One.\n"), write(tmp_path / "a.conllu", "mine")
    with pytest.raises(ValueError, match=r"a\.conllu would be overwritten, .*move it away"):
        parse_text([text], conllu, CHAIN)
    conllu.unlink()
    parse_text([text], conllu, CHAIN)
    with conllu.open("a") as file:
        file.write("# mended by hand\n")
    with pytest.raises(ValueError, match="or was changed since"):
        parse_text([text], conllu, CHAIN)
    assert "mended" in conllu.read_text()


def test_files_without_text_or_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"void\.txt: there is nothing to parse"):
        parse_text([write(tmp_path / "void.txt", "\n \t\n")], tmp_path / "a.conllu", CHAIN)
    with pytest.raises(FileNotFoundError, match=r"gone\.txt: there is no such file"):
        parse_text([tmp_path / "gone.txt"], tmp_path / "a.conllu", CHAIN)
    with pytest.raises(ValueError, match=r"latin\.txt, line 2: the byte at offset 4 is not UTF-8"):
        parse_text([write(tmp_path / "latin.txt", b"One\n\xe9")], tmp_path / "a.conllu", CHAIN)
    assert not (tmp_path / "a.conllu").exists()


# --- the script ---


def test_the_script_parses_a_file_and_splits_it(tmp_path: Path, pipeline: str, capsys) -> None:
    chosen = random.Random(0)
    texts = [f"Dogs bark {chosen.randrange(150)} ." for _ in range(300)]
    text, train, dev = write(tmp_path / "a.txt", "\n".join(texts)), tmp_path / "train.json", tmp_path / "dev.json"
    flags = ["--input", str(text), "--parser", "spacy", "--parser_model", pipeline, "--output", str(train)]
    SCRIPT.main([*flags, "--dev_output", str(dev), "--dev_fraction", "0.3"])
    shown = capsys.readouterr().out
    assert "train.conllu: texts 300, blank lines 0, sentences " in shown
    sides = [{record["sent"] for _, record in read_records(path)} for path in (train, dev)]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == set(sentences(tmp_path / "train.conllu"))
    numbers = [sum(1 for _ in read_records(path)) for path in (train, dev)]
    assert sum(numbers) == len(sentences(tmp_path / "train.conllu"))
    assert 0.2 < len(sides[1]) / len(sides[0] | sides[1]) < 0.4
    before = dev.read_bytes()
    SCRIPT.main([*flags, "--dev_output", str(dev), "--dev_fraction", "0.3", "--seed", "7"])
    assert dev.read_bytes() != before
    SCRIPT.main(flags)
    assert sum(1 for _ in read_records(train)) == sum(numbers)


@pytest.mark.slow
def test_a_run_killed_while_parsing_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, pipeline: str) -> None:
    words = ["the", "cat", "dogs", "bark", "sleeps", ".", ",", "a", "don't"]
    chosen = random.Random(0)
    lines = [" ".join(chosen.choices(words, k=chosen.randrange(1, 12))) for _ in range(800)]
    text = write(tmp_path / "a.txt", "\n".join(lines))
    command = ["scripts/create_dependency_dataset.py", "--input", str(text), "--parser", "spacy"]
    command += ["--parser_model", pipeline, "--parse_batch_size", "16", "--output"]
    whole, broken = tmp_path / "whole" / "train.json", tmp_path / "broken" / "train.json"
    SCRIPT.main([*command[1:], str(whole)])
    report, conllu = broken.with_suffix(".conllu.json"), broken.with_suffix(".conllu")
    process = subprocess.Popen([sys.executable, *command, str(broken)], cwd=ROOT)
    while not report.is_file() or json.loads(report.read_text())["texts"] < 64:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not conllu.exists()
    assert 64 <= json.loads(report.read_text())["texts"] < 800
    SCRIPT.main([*command[1:], str(broken)])
    for name in ("train.conllu", "train.conllu.json", "train.json"):
        assert (broken.parent / name).read_bytes() == (whole.parent / name).read_bytes()
    assert len(os.listdir(broken.parent)) == 3


def test_a_missing_library_or_model_is_named_with_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--input", str(write(tmp_path / "a.txt", "One.")), "--output", str(tmp_path / "a.json"), "--parser"]
    with pytest.raises(
        (ValueError, OSError), match="'en_core_web_none' is not installed; run: python -m spacy download"
    ):
        SCRIPT.main([*flags, "spacy", "--parser_model", "en_core_web_none"])
    with pytest.raises((ValueError, OSError), match="spaCy cannot use the pipeline '.*'"):
        SCRIPT.main([*flags, "spacy", "--parser_model", str(tmp_path)])
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(
        (ValueError, OSError), match=r"none of its components \[\] assigns heads; give a pipeline with a parser"
    ):
        SCRIPT.main([*flags, "spacy", "--parser_model", str(tmp_path / "blank")])
    for name in ("spacy", "stanza"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises((ValueError, OSError), match=rf"{name} cannot be imported .*pip install {name}"):
            SCRIPT.main([*flags, name])
    assert not (tmp_path / "a.conllu").exists()


def test_stanzas_missing_models_are_named_and_not_fetched() -> None:
    pytest.importorskip("stanza")
    with pytest.raises(
        FileNotFoundError, match=r"language 'tlh-none' .*run: python -c .*stanza.download\('tlh-none'\)"
    ):
        load_parser("stanza", "tlh-none")


def test_no_output_may_be_an_input_or_another_output(tmp_path: Path, capsys) -> None:
    text = str(write(tmp_path / "a.txt", "One."))
    for flags in (["--output", text], ["--output", "b.json", "--dev_output", "b.json"]):
        with pytest.raises(SystemExit, match="2"):
            SCRIPT.main(["--input", text, *flags])
        assert "is also an --input or another output" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        SCRIPT.main(["--input", text, "--output", str(tmp_path / "b.conllu"), "--parser", "spacy"])


def test_a_text_beyond_the_parsers_limit_is_parsed_in_parts_and_said(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(NLP, "max_length", 20)
    text = write(tmp_path / "long.txt", "Dogs bark . The cat sleeps . Birds sing .\n" + "x" * 45 + "\n")
    counts = parse_text([text], tmp_path / "long.conllu", CHAIN)
    words = " ".join(sentences(tmp_path / "long.conllu")).split()
    assert words == [
        "Dogs",
        "bark",
        ".",
        "The",
        "cat",
        "sleeps",
        ".",
        "Birds",
        "sing",
        ".",
        "x" * 20,
        "x" * 20,
        "x" * 5,
    ]
    assert counts["texts"] == 2
    assert "longer than the 20 characters that spaCy parses at once" in caplog.text
    names = [sentence.sent_id for sentence in read_conllu(tmp_path / "long.conllu")]
    assert len(set(names)) == len(names)
