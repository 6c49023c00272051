"""Whatever the words and the blanks: spans of find_head cut out exactly the words, and nothing but blanks is lost."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc
from test_converters import convert_one, row, slices

from kadapter.data.conllu import read_conllu, to_find_head
from kadapter.data.parsers import spacy_parser
from kadapter.data.parsing import parse_text


def outside(record: dict[str, Any]) -> str:
    """What of the sentence no word covers."""
    covered: set[int] = set()
    for number, token in enumerate(record["tokens"], start=1):
        covered |= set(range(token[str(number)]["start"], token[str(number)]["end"]))
    return "".join(character for i, character in enumerate(record["sent"]) if i not in covered)


# --- from a treebank ---

forms = st.text(st.characters(codec="utf-8", exclude_characters="\t\n"), min_size=1, max_size=6).filter(
    lambda form: form == form.strip() and form.strip() not in ("", "_")  # which stands for a form that is withheld
)


@st.composite
def treebank_sentences(draw: st.DrawFn) -> tuple[str, list[str], list[int]]:
    """CoNLL-U text with the surface form and the head of each word; heads always point backwards."""
    lines, text = "", ""
    expected: list[str] = []
    heads: list[int] = []
    for _ in range(draw(st.integers(1, 8))):
        parts = draw(st.lists(forms, min_size=1, max_size=3))
        fused = len(parts) > 1 and draw(st.booleans())
        surface = draw(forms) if fused else "".join(parts)
        space = draw(st.booleans())
        misc = "_" if space else "SpaceAfter=No"
        first = len(heads) + 1
        if len(parts) > 1:
            lines += row(f"{first}-{first + len(parts) - 1}", surface, "_", misc)
        for number, part in enumerate(parts, start=first):
            heads.append(draw(st.integers(0, number - 1)))
            lines += row(number, part, heads[-1], misc if len(parts) == 1 else "_")
        whole = surface != "".join(parts)
        expected.extend([surface] * len(parts) if whole else parts)
        text += surface + (" " if space else "")
    comment = f"# text = {text}\n" if draw(st.booleans()) else ""
    return comment + lines, expected, heads


@settings(max_examples=100, deadline=None)
@given(sentence=treebank_sentences())
def test_slicing_the_sentence_never_loses_a_word(
    tmp_path_factory: pytest.TempPathFactory, sentence: tuple[str, list[str], list[int]]
) -> None:
    text, expected, heads = sentence
    record = convert_one(tmp_path_factory.getbasetemp(), text)
    assert slices(record) == expected
    assert not outside(record).strip()
    assert [pair["governor_index"] for pair in record["pairs"]] == heads
    assert [pair["dependent_index"] for pair in record["pairs"]] == list(range(1, len(heads) + 1))


# --- from raw text ---


@Language.component("chain", assigns=["token.head"])
def chain(doc: Doc) -> Doc:
    """Each word hangs on the one before it; a sentence ends with ".", "!" or "?"."""
    words = [token.text for token in doc]
    heads = [i - (i > 0 and words[i - 1] not in ".!?") for i in range(len(words))]
    spaces = [bool(token.whitespace_) for token in doc]
    return Doc(doc.vocab, words=words, spaces=spaces, heads=heads, deps=["dep"] * len(words))


NLP = spacy.blank("en")
NLP.add_pipe("chain")
lines = st.lists(
    st.text(
        st.characters(codec="utf-8", exclude_characters="\n\ufeff_")
        | st.sampled_from(" \t\r\x0b\x0c\x1c\x85\u00a0\u2028\u3000.!?,'-a1#"),
        max_size=30,
    ),
    min_size=1,
    max_size=4,
).filter(lambda texts: any(text.strip() for text in texts))


@settings(max_examples=100, deadline=None)
@given(texts=lines)
def test_parsing_any_text_loses_nothing_but_blanks(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        text, conllu = Path(folder, "a.txt"), Path(folder, "a.conllu")
        text.write_bytes("\n".join(texts).encode())
        counts = parse_text([text], conllu, spacy_parser(NLP), batch_size=2)
        records = [to_find_head(sentence) for sentence in read_conllu(conllu)]
    words = [[token.text for token in NLP.make_doc(" ".join(text.split()))] for text in texts]
    assert [word for record in records for word in slices(record)] == sum(words, [])
    assert [outside(record).strip(" ") for record in records] == [""] * len(records)
    assert "".join("".join(slices(record)) for record in records) == "".join("".join(texts).split())
    assert counts["texts"] + counts["blank lines"] == len(texts) - (texts[-1] == "")
    assert counts["sentences"] == len(records)
