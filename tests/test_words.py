"""Texts tokenized word by word; one call of the tokenizer for the whole texts is the oracle."""

import random

import pytest
from families import FAMILIES, texts
from tokenizers import AddedToken
from transformers import AutoTokenizer

from kadapter.data import words
from kadapter.data.words import ids_of_texts

WORD_BY_WORD = ("roberta", "gpt2", "bert", "distilbert", "electra")
ODD = [
    "",
    " ",
    "  ",
    "a",
    " a",
    "a ",
    "a b",
    " a  b",
    "a\tb c",
    "a\u00a0b c",
    "a\u3000b",
    "don't we're I'll 's",
    "'s it",
    "x\n",
    "\n x",
]
ODD += [
    "1 22 333,4",
    "e\u0301 \u0301x",
    "a \u200b b",
    "日本 の 語",
    "naïve ﬁ ﬂ",
    "👩‍👩‍👧 ok",
    "a\x1cb c",
    "a \x85b",
    "A.B. C-D (e)",
    "\ufeffa b",
    "a \u2028 b",
    "\u180ea b",
]
ALPHABET = [
    *"aábBzé1.,'-",
    " ",
    " ",
    " ",
    "  ",
    "\t",
    "\u00a0",
    "\u0301",
    "日",
    "\u200d",
    "👩",
    "\n",
    "'s",
    " the",
    "\x1c",
]


@pytest.fixture(scope="module")
def tokenizers(world, tmp_path_factory):
    """Family -> a tokenizer as it is loaded from a folder."""
    found, lines = {}, texts(world)
    for family in FAMILIES:
        folder = tmp_path_factory.mktemp(family)
        FAMILIES[family][0](lines).save_pretrained(folder)
        found[family] = AutoTokenizer.from_pretrained(folder)
    return found


def plain(tokenizer, given):
    return tokenizer(given, add_special_tokens=False, verbose=False)["input_ids"]


def drawn(count=300):
    source = random.Random(0)
    return ["".join(source.choices(ALPHABET, k=source.randrange(14))) for _ in range(count)]


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_those_of_the_whole_texts(family, tokenizers, world):
    given = [*texts(world)[:200], *ODD, *drawn()]
    given += [f" {text.strip()}" for text in given if text.strip()]
    assert ids_of_texts(tokenizers[family], given) == plain(tokenizers[family], given)
    assert ids_of_texts(tokenizers[family], []) == []


@pytest.mark.parametrize("family", WORD_BY_WORD)
def test_a_word_that_repeats_is_tokenized_once(family, tokenizers, monkeypatch):
    seen = []
    monkeypatch.setattr(words, "_bare", lambda tokenizer, given: seen.extend(given) or plain(tokenizer, given))
    ids_of_texts(tokenizers[family], ["one two one", " two one", "one  two"])
    assert seen == ["one", "one  two", " two", " one"]


def test_tokenizers_that_are_not_known_to_part_at_blanks_see_whole_texts(tokenizers):
    assert {family for family, found in tokenizers.items() if words._parts_at_blanks(found)} >= set(WORD_BY_WORD)
    assert not any(words._parts_at_blanks(tokenizers[family]) for family in ("llama", "xlm-roberta", "deberta-v2"))


@pytest.mark.parametrize("token", [AddedToken("New York", special=False), AddedToken("ork", special=False), "bos eos"])
def test_tokens_that_were_added_are_found_in_whole_texts(token, tokenizers, tmp_path):
    tokenizers["roberta"].save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_special_tokens({"sep_token": token}) if isinstance(token, str) else tokenizer.add_tokens([token])
    given = ["in New York York", "a bos eos b"]
    assert ids_of_texts(tokenizer, given) == plain(tokenizer, given)


def test_what_an_earlier_call_cut_and_padded_changes_nothing(tokenizers):
    tokenizer, given = tokenizers["roberta"], ["a b c d", "a"]
    expected = plain(tokenizer, given)
    tokenizer(given, truncation=True, max_length=3, padding=True)
    assert ids_of_texts(tokenizer, given) == expected
