"""Triples to sentences, and masks that hide whole spans of them."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from conftest import load_script
from safetensors.torch import load_file

from kadapter.data.encoding import Encoding
from kadapter.data.features import load_features
from kadapter.tasks.masked_lm import MaskedLM, Masking, encode_text, read_text
from kadapter.tasks.span_masking import choose, merge_overlapping, read_spanned, token_spans

VERBALIZE = load_script("scripts/verbalize_triples.py")
CREATE = load_script("scripts/create_relation_dataset.py")
MLM = load_script("examples/run_pretrain_mlm_adapter.py")

TRIPLES = "Q1\tP19\tQ2\nQ1\tbirthPlace\tQ3\nQ2\tcapital_of\tQ3\nQ1\tP19\tQ2\n"
ALIASES = "Q1\tAda Lovelace\tAda\nQ2\tLondon\nQ3\tEngland\nP19\tborn in\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "graph.tsv").write_text(TRIPLES)
    (tmp_path / "aliases.tsv").write_text(ALIASES)
    return tmp_path


def verbalize(folder, *flags, output="train.txt", aliases=("--aliases", "aliases.tsv")):
    given = [str(folder / part) if not part.startswith("-") else part for part in aliases]
    flags = [str(flag) for flag in flags]
    path = folder / "out" / output
    counts = VERBALIZE.main(["--triples", str(folder / "graph.tsv"), *given, "--output", str(path), *flags])
    return counts, path.read_text(encoding="utf-8").splitlines()


# -- sentences --------------------------------------------------------------------------------------------------


def test_triples_become_sentences_with_readable_names_each_once(files):
    counts, lines = verbalize(files)
    assert lines == [
        "Ada Lovelace born in London.",
        "Ada Lovelace birth Place England.",
        "London capital of England.",
    ]
    assert counts["facts"] == counts["lines"] == 3


@pytest.mark.parametrize("name", ["t.json", "t.tsv"])
def test_templates_say_relations_in_words(files, name):
    template = "{object} is where {subject} {{sic}} was born."
    (files / name).write_text(json.dumps({"P19": template}) if name == "t.json" else f"P19\t{template}\n")
    counts, lines = verbalize(files, "--templates", files / name)
    assert lines[0] == "London is where Ada Lovelace {sic} was born."
    assert counts["relations without a template"] == 2


def test_facts_of_one_subject_share_a_line_and_spans_are_those_of_the_names(files):
    _, lines = verbalize(files, "--facts_per_line", "2", output="train.jsonl")
    rows = [json.loads(line) for line in lines]
    assert rows[0]["text"] == "Ada Lovelace born in London. Ada Lovelace birth Place England."
    assert [[row["text"][start:end] for start, end in row["spans"]] for row in rows] == [
        ["Ada Lovelace", "London", "Ada Lovelace", "England"],
        ["London", "England"],
    ]
    assert [row["subject"] for row in rows] == ["Q1", "Q2"]


def test_dev_takes_a_share_of_the_lines(files):
    (files / "graph.tsv").write_text("".join(f"A{i}\tlikes\tB{i}\n" for i in range(200)))
    dev = files / "out" / "dev.txt"
    counts, train = verbalize(files, "--dev_output", dev, "--dev_fraction", "0.2", aliases=())
    found = dev.read_text().splitlines()
    assert 20 < len(found) < 60
    assert counts["lines of dev"] == len(found)
    assert sorted(train + found) == sorted(f"A{i} likes B{i}." for i in range(200))


def test_ids_without_names_are_left_out_and_counted(files):
    (files / "aliases.tsv").write_text("Q1\tAda\nQ2\tLondon\n")
    counts, lines = verbalize(files)
    assert lines == ["Ada P19 London."]
    assert counts["triples of entities that have no name, left out"] == 2
    with pytest.raises(ValueError, match="no triple has names for both its ends; give --aliases for its ids"):
        verbalize(files, aliases=())
    assert not list((files / "out").glob(".*"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.json",
            '{"P19": "born in {object}"}',
            r't.json, "P19": the template is "born in {object}"; write',
        ),
        ("t.json", '{"P19": 7}', r"the template is 7; write {subject} and {object}, each once"),
        ("t.json", '{"P19": "{subject} {object} {object}"}', "each once"),
        ("t.json", '{"P19": "{subject} {"}', "each once"),
        ("t.json", "[]", r"t.json holds \[\]; write {relation: template}"),
        ("t.tsv", "P19\n", "t.tsv, line 1: 1 columns; write a relation, a tab and a template"),
        ("t.tsv", "P19\t{subject} {object}\nP19\t{subject} {object}\n", "line 2: the relation has a template already"),
        ("t.tsv", "", "t.tsv holds no template"),
    ],
)
def test_bad_templates_are_named(files, name, content, message):
    (files / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        verbalize(files, "--templates", files / name)


# -- spans ------------------------------------------------------------------------------------------------------


def test_spans_come_from_texts_and_from_cleaned_examples(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"text": "Ada saw Oslo.", "spans": [[8, 12], [0, 3]]}, {"text": "None.", "spans": []}]
    mentions = [(0, 1, 3, 3), (5, 5, 0, 1)]
    names = ("subj_start", "subj_end", "obj_start", "obj_end")
    token = ["Bo", "Li", "saw", "Oslo", "and", "Ada"]
    rows += [{"token": token, **dict(zip(names, places, strict=True))} for places in mentions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(read_spanned(path)) == [
        (1, "Ada saw Oslo.", [(0, 3), (8, 12)]),
        (2, "None.", []),
        (3, "Bo Li saw Oslo and Ada", [(0, 5), (10, 14), (19, 22)]),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "Ada"}, r"record 1: text is \"Ada\" and spans are null; give text, and spans as"),
        ({"text": "Ada", "spans": [[0, 4]]}, r"record 1: \[0, 4\] is not a span within the text's 3 characters"),
        ({"text": "Ada", "spans": [[2, 2]]}, r"\[2, 2\] is not a span"),
        ({"text": "Ada", "spans": ["x"]}, r'"x" is not a span'),
        ({"text": "Ada", "spans": []}, "holds no spans to hide; .* or leave --mask_spans out"),
        ({"token": ["a"], "subj_start": 0, "subj_end": 1, "obj_start": 0, "obj_end": 0}, "do not lie in the 1 words"),
    ],
)
def test_bad_spans_are_named(tmp_path, row, message):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(ValueError, match=message):
        list(read_spanned(path))


def test_spans_in_tokens_are_those_that_overlap_them():
    offsets = [(0, 3), (3, 5), (6, 10), (10, 12)]
    assert token_spans(offsets, [(0, 3), (4, 7), (10, 11)]) == [(0, 1), (1, 3), (3, 4)]
    assert token_spans(offsets, [(0, 4), (3, 6), (12, 14)]) == [(0, 2)]
    assert merge_overlapping([(5, 7), (0, 3), (2, 4), (4, 5)]) == [(0, 4), (4, 5), (5, 7)]


def test_whole_spans_are_hidden_first_and_the_number_stays():
    spans, usable = [(2, 5), (7, 9), (12, 18)], [i for i in range(1, 30) if i != 8]
    whole, sizes = Counter(), set()
    for seed in range(300):
        tokens, groups = choose(usable, spans, 4, np.random.default_rng(seed))
        sizes.add(len(tokens))
        found = set(tokens.tolist())
        assert tokens.tolist() == sorted(found)
        for start, end in spans:
            inside = found & set(range(start, end))
            if inside:
                assert inside == set(range(start, end)) & set(usable)  # never a part of one
                assert len({g for t, g in zip(tokens, groups, strict=True) if t in inside}) == 1
                whole[start] += 1
    assert sizes == {4}
    assert whole[2] == whole[7] == 300  # both fit together, the long one never does
    assert whole[12] == 0
    tokens, _ = choose([1, 2, 3], [(1, 4)], 2, np.random.default_rng(0))
    assert len(tokens) == 2  # a text of one long span hides single tokens of it


def test_of_several_spans_one_stays_to_tell_the_others():
    hidden = Counter()
    for seed in range(200):
        tokens, _ = choose(range(1, 9), [(2, 3), (5, 6)], 3, np.random.default_rng(seed))
        assert len(tokens) == 3
        assert len({2, 5} & {*tokens.tolist()}) == 1
        hidden.update({2, 5} & {*tokens.tolist()})
    assert min(hidden.values()) > 60


def spanned(tmp_path, tokenizer, size=64, share=0.15, lines=30):
    path = tmp_path / "train.jsonl"
    texts = [f"Lady Ada number {i} was born in the town of Oslo Sentrum." for i in range(lines)]
    rows = [{"text": text, "spans": [[0, 8], [text.index("Oslo"), len(text) - 1]]} for text in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return encode_text(list(read_text(path, spanned=True)), tokenizer, size, share, spanned=True)


def test_blocks_keep_their_spans_and_masks_hide_them_whole(tokenizer, tmp_path):
    masking = Masking.of(tokenizer, 0.15, seed=3)
    hidden = Counter()
    for feature in spanned(tmp_path, tokenizer):
        pairs = list(zip(feature["spans"][::2], feature["spans"][1::2], strict=True))
        names = {tokenizer.decode(feature["input_ids"][start:end]).strip() for start, end in pairs}
        assert names <= {"Lady Ada", "Oslo Sentrum"}
        for epoch in range(20):
            masked = masking(feature, epoch)
            assert len(masked["positions"]) == feature["items"] == masking.count(feature["input_ids"])
            found = set(masked["positions"])
            for start, end in pairs:
                inside = found & set(range(start, end))
                assert not inside or inside == set(range(start, end))
                hidden["whole" if inside else "seen"] += 1
                kinds = {masked["input_ids"][i] == tokenizer.mask_token_id for i in inside}
                assert len(kinds) <= 1
    assert hidden["whole"] > 100


def test_a_mask_of_spans_depends_on_seed_epoch_and_block_alone(tokenizer, tmp_path):
    feature = spanned(tmp_path, tokenizer)[0]
    masking = Masking.of(tokenizer, 0.15, seed=1)
    first = masking(feature, 4)
    masking(feature, 5)
    assert masking(feature, 4) == first
    assert masking(feature, 5) != first
    without = {name: value for name, value in feature.items() if name != "spans"}
    assert masking(without, 4)["positions"] != first["positions"]
    assert len(masking(without, 4)["positions"]) == len(first["positions"])


def test_blocks_whose_spans_never_fit_are_said(tokenizer, tmp_path, caplog):
    path = tmp_path / "train.jsonl"
    text = "Lady Ada Augusta King Lovelace."
    path.write_text(json.dumps({"text": text, "spans": [[0, 30]]}))
    with caplog.at_level("WARNING"):
        task = MaskedLM(line_by_line=True, mask_spans=True)
        load_features(task, tmp_path, "train", Encoding(tokenizer, 32), cache_dir=tmp_path)
    assert "1 of 1 examples are kept, but all their spans are longer than what is hidden" in caplog.text


def test_a_slow_tokenizer_is_refused(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(ValueError, match="--mask_spans needs a fast tokenizer"):
        spanned(tmp_path, tokenizer)


# -- the recipe -------------------------------------------------------------------------------------------------


@pytest.fixture
def domain(files):
    """Sentences with spans, as the script writes them."""
    names = [f"Na{a}{b}{c}" for a in "bcd" for b in "aeiou" for c in "lmnr"]
    rows = [f"{subject}\tlikes\t{names[(7 * i + 3) % len(names)]}\n" for i, subject in enumerate(names)]
    (files / "graph.tsv").write_text("".join(rows))
    dev = files / "out" / "dev.jsonl"
    verbalize(files, "--dev_output", dev, "--dev_fraction", "0.3", output="train.jsonl", aliases=())
    return files / "out"


def test_an_adapter_is_pretrained_on_masked_spans_and_on_the_same_file_without(run, domain):
    report, _ = run(MLM, "--data_dir", domain, "--mask_spans", "--comment", "spans")
    assert set(report["dev"]) == {"accuracy", "perplexity", "log_likelihood", "loss"}
    report, folder = run(MLM, "--data_dir", domain, "--comment", "tokens", steps=1)
    assert '"mask_spans": false' in (folder / "args.json").read_text()


def test_plain_text_has_no_spans_to_mask(run, world):
    with pytest.raises(ValueError, match=r"train.txt, line 1: text is .* and spans are null; give text, and spans as"):
        run(MLM, "--data_dir", world / "text", "--mask_spans")


@pytest.mark.slow
def test_a_broken_run_on_spans_goes_on_with_the_masks_of_an_unbroken_one(run, domain, terminated):
    flags = ("--data_dir", domain, "--mask_spans", "--line_by_line", "--mlm_probability", "0.4")
    _, whole = run(MLM, "--comment", "whole", *flags)
    with terminated():
        run(MLM, "--comment", "broken", *flags)
    _, broken = run(MLM, "--comment", "broken", *flags)
    for name in ("adapter_model.safetensors", "pretraining_head.safetensors"):
        one, other = load_file(whole / name), load_file(broken / name)
        assert all(torch.equal(one[key], other[key]) for key in one)
