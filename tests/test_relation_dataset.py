"""From a graph and text to relation examples: reading, aliases, distant supervision, the script, bad input."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from conftest import ROOT, load_script, slow

from kadapter.data import texts
from kadapter.data.aliases import AliasRules, CompiledGraph, Sample, compile_graph, function_words
from kadapter.data.cleaned import read_cleaned
from kadapter.data.distant import AlignOptions, align
from kadapter.data.graph import Graph, readable, readable_relation
from kadapter.data.graph_files import read_graph
from kadapter.data.mentions import MatchStatistics
from kadapter.data.texts import TextOptions, documents, find_texts, sentences_of, text_pieces, words_of

pytestmark = pytest.mark.usefixtures("unpainted")

pytest.importorskip("ahocorasick_rs")
CREATE = load_script("scripts/create_relation_dataset.py")
SUBSET = load_script("scripts/create_subdataset-relation-classification.py")

TRIPLES = "Ada\tborn_in\tOslo\nAda\tknows\tBo Li\nOslo\tcapital of\tNorway\nAda\tlives in\tOslo\n"
TEXT = (
    "Ada was born in Oslo. She met Bo Li in Oslo!\nNorway has a capital, Oslo, and Ada's house.\nNobody is here.\n"
    "Bo Li likes Norway.\n"
)


@pytest.fixture
def files(tmp_path):
    """A small graph and its text."""
    (tmp_path / "graph.tsv").write_text(TRIPLES)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def create(folder, *flags, triples="graph.tsv", text="text.txt", workers=1):
    output = folder / "out" / "kg.jsonl"
    report = CREATE.main(
        ["--triples", str(folder / triples), "--text", str(folder / text), "--output", str(output)]
        + ["--max_share", "1", "--workers", str(workers), *map(str, flags)]
    )
    return report, [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def facts(rows):
    return [
        (
            " ".join(row["token"][row["subj_start"] : row["subj_end"] + 1]),
            row["relation"],
            " ".join(row["token"][row["obj_start"] : row["obj_end"] + 1]),
        )
        for row in rows
    ]


# -- the script -------------------------------------------------------------------------------------------------


def test_sentences_that_name_both_ends_of_a_triple_become_examples(files):
    report, rows = create(files)
    assert facts(rows) == [
        ("Ada", "born_in", "Oslo"),
        ("Ada", "lives in", "Oslo"),
        ("Oslo", "capital of", "Norway"),
        ("Ada", "born_in", "Oslo"),
        ("Ada", "lives in", "Oslo"),
    ]
    assert rows[0] == {
        "docid": "text-1",
        "token": ["Ada", "was", "born", "in", "Oslo", "."],
        "relation": "born_in",
        "subj_start": 0,
        "subj_end": 0,
        "obj_start": 4,
        "obj_end": 4,
        "subj_label": "Ada",
        "obj_label": "Oslo",
        "sentence": 1,
        "subj_alias": "Ada",
        "obj_alias": "Oslo",
        "subj_readings": 1,
        "obj_readings": 1,
        "of_relations": 2,
    }
    assert report["coverage"] == {
        "entities that the text names": [4, 4],
        "entities in examples": [3, 4],
        "relations in examples": [3, 4],
        "triples in examples": [3, 4],
    }
    assert report["counts"]["sentences"] == 5
    assert report["relations with one example"] == ["capital of"]
    assert report["relations"]["born_in"]["relation named"] == 0.5
    names = {path.name for path in (files / "out").iterdir()}
    assert names == {"kg.jsonl", "kg-report.json", "kg-report.md", "kg-relations.png", "kg-relations.pdf"}
    page = (files / "out" / "kg-report.md").read_text()
    assert "Relations with one example: 1: capital of." in page
    assert "1. " in page


def test_what_is_written_is_read_chosen_and_split_as_cleaned_examples(files):
    (files / "text.txt").write_text("".join(f"In {1900 + i} Ada left Oslo for Norway.\n" for i in range(60)))
    create(files)
    assert len(list(read_cleaned(files / "out" / "kg.jsonl", "read"))) == 180
    split = SUBSET.main(["--input", str(files / "out" / "kg.jsonl"), "--output_dir", str(files / "rc")])
    assert set(split["relations"]) == {"born_in", "capital of", "lives in"}


@pytest.mark.parametrize("workers", [slow(2), slow(3)])
def test_any_number_of_workers_writes_the_same_bytes(files, workers):
    folder = files / "corpus"
    folder.mkdir()
    for i in range(5):
        (folder / f"{i}.txt").write_text(TEXT * 3)
    create(files, "--negatives", "0.5", text="corpus")
    before = {path.name: path.read_bytes() for path in (files / "out").iterdir()}
    create(files, "--negatives", "0.5", text="corpus", workers=workers)
    assert {path.name: path.read_bytes() for path in (files / "out").iterdir()} == before


def test_a_killed_run_goes_on_with_the_pieces_that_are_left(files, monkeypatch):
    from kadapter.data import distant_run

    folder = files / "corpus"
    folder.mkdir()
    for i in range(4):
        (folder / f"{i}.txt").write_text(TEXT)
    _, whole = create(files, text="corpus")
    (files / "out" / "kg.jsonl").unlink()
    real, done = distant_run.align_piece, []

    def stop_at_the_third(work, **options):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(work)
        return real(work, **options)

    monkeypatch.setattr(distant_run, "align_piece", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        create(files, text="corpus")
    monkeypatch.setattr(distant_run, "align_piece", lambda work, **options: (done.append(work), real(work, **options)))
    monkeypatch.setattr(distant_run, "read_graph", lambda *args: pytest.fail("the graph is compiled already"))
    _, rows = create(files, text="corpus")
    assert rows == whole
    assert len(done) == 4
    assert not list((files / "out").glob(".*"))


@pytest.mark.slow
def test_sigkill_loses_nothing(files):
    folder = files / "corpus"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i:02d}.txt").write_text(TEXT * 40)
    _, whole = create(files, text="corpus")
    (files / "out" / "kg.jsonl").unlink()
    command = [sys.executable, str(ROOT / "scripts/create_relation_dataset.py"), "--triples", str(files / "graph.tsv")]
    command += [
        "--text",
        str(folder),
        "--output",
        str(files / "out" / "kg.jsonl"),
        "--max_share",
        "1",
        "--workers",
        "1",
    ]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while len(list((files / "out").glob(".kg*parts/*.counts"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (files / "out" / "kg.jsonl").exists()
    _, rows = create(files, text="corpus")
    assert rows == whole


def test_negatives_are_pairs_without_a_fact_in_the_wanted_number(files):
    (files / "text.txt").write_text("".join(f"Ada, Oslo, Bo Li and Norway {i}.\n" for i in range(100)))
    report, rows = create(files, "--negatives", "0.3")
    found = Counter(row["relation"] == "no_relation" for row in rows)
    assert found == {False: 400, True: 120}
    assert report["counts"]["examples of no_relation"] == 120
    known = {frozenset(line.split("\t")[::2]) for line in TRIPLES.splitlines()}
    lone = [row for row in rows if row["relation"] == "no_relation"]
    assert all(frozenset((row["subj_label"], row["obj_label"])) not in known for row in lone)
    assert {(row["subj_label"], row["obj_label"]) for row in lone} == {
        ("Ada", "Norway"),
        ("Norway", "Ada"),
        ("Oslo", "Bo Li"),
        ("Bo Li", "Oslo"),
        ("Bo Li", "Norway"),
        ("Norway", "Bo Li"),
    }
    assert create(files, "--negatives", "0.3")[1] == rows
    assert create(files, "--negatives", "0.3", "--seed", "7")[1] != rows


def test_negatives_that_are_not_there_are_counted(files):
    (files / "text.txt").write_text("Ada saw Oslo.\n" * 10)
    report, rows = create(files, "--negatives", "1")
    assert len(rows) == 20
    assert report["counts"]["examples of no_relation that were wanted, but had no pairs"] == 20


# -- aliases ----------------------------------------------------------------------------------------------------


def aligned(triples, aliases, sentences, rules=None, negatives=0.0, folder=None):
    """Facts in sentences, and what was counted."""
    graph = Graph()
    for triple in triples:
        graph.add(*triple)
    for own, names in aliases.items():
        graph.names += ((graph.entities[own], name) for name in names)
    graph.relation_names = {number: name for name, number in graph.relations.items()}
    rules = rules or AliasRules(stop=function_words())
    made = compile_graph(graph, rules, Sample(), folder / "graph")
    graph = CompiledGraph(folder / "graph", rules.case)
    found = MatchStatistics.of(graph)
    options = AlignOptions(case=rules.case, negatives=negatives)
    given = [("d", i, words_of(text)) for i, text in enumerate(sentences)]
    rows = list(align(given, graph, options, found))
    return rows, found, made


def test_an_ambiguous_alias_means_the_only_reading_with_a_fact(tmp_path):
    triples = [("Q1", "r", "Q9"), ("Q2", "r", "Q8"), ("Q3", "r", "Q8")]
    aliases = {"Q1": ["Paris"], "Q2": ["Paris"], "Q3": ["Paris"], "Q8": ["Texas"], "Q9": ["France"]}
    sentences = ["Paris in France.", "Paris in Texas.", "Paris, Texas and France."]
    rows, found, made = aligned(triples, aliases, sentences, folder=tmp_path)
    assert [(row["subj_label"], row["obj_label"], row["subj_readings"]) for row in rows] == [("Q1", "Q9", 3)]
    assert made["ambiguous"] == 1
    assert found.counts["pairs with a fact, left out since an alias has several readings with one"] == 5
    assert found.open.sum() == 2


def test_the_longest_alias_counts_and_words_are_whole(tmp_path):
    triples = [("York", "in", "England"), ("New York", "in", "England"), ("New York City", "in", "England")]
    aliases = {name: [name] for name in ("York", "New York", "New York City", "England")}
    sentences = ["New York City is not in England.", "Yorkshire in England.", "England's New York-based York."]
    rows, _, _ = aligned(triples, aliases, sentences, folder=tmp_path)
    assert facts(rows) == [
        ("New York City", "in", "England"),
        ("New York", "in", "England"),
        ("York", "in", "England"),
    ]


@pytest.mark.parametrize(
    ("case", "found"),
    [
        ("smart", [("aspirin", "Pain"), ("Aspirin", "Pain")]),
        ("exact", [("aspirin", "Pain")]),
        ("ignore", [("aspirin", "Pain"), ("Aspirin", "Pain"), ("ASPIRIN", "Pain"), ("aspirin", "pain")]),
    ],
)
def test_case_rules(tmp_path, case, found):
    aliases = {"Q1": ["aspirin"], "Q2": ["Pain"]}
    sentences = ["No aspirin for Pain.", "Aspirin and Pain.", "ASPIRIN, Pain.", "aspirin, pain."]
    rows, _, _ = aligned([("Q1", "r", "Q2")], aliases, sentences, AliasRules(case=case), folder=tmp_path)
    assert [(subject, object_) for subject, _, object_ in facts(rows)] == found


def test_only_mentions_of_other_entities_count_and_the_first_of_one(tmp_path):
    aliases = {"Q1": ["Ada", "Countess"], "Q2": ["Bo"]}
    triples = [("Q1", "r", "Q2"), ("Q1", "self", "Q1")]
    rules = AliasRules(min_characters=2)
    rows, _, _ = aligned(triples, aliases, ["Ada, the Countess, and Bo and Bo."], rules, folder=tmp_path)
    assert [(row["subj_start"], row["obj_start"], row["relation"]) for row in rows] == [(0, 6, "r")]


def test_rules_keep_aliases_out_and_show_them(tmp_path):
    triples = [(f"Q{i}", "r", "Q0") for i in range(1, 30)]
    aliases = {"Q0": ["Ada"], "Q1": ["Once", "IT", "1984", "ab", "UK", "U.S.", "!?", "May", "x"]}
    aliases |= {f"Q{i}": ["Everyman"] for i in range(2, 30)}
    _, _, made = aligned(triples, aliases, [], folder=tmp_path)
    kept = list(CompiledGraph(tmp_path / "graph", "smart").aliases)
    assert sorted(map(str.strip, kept)) == ["Ada", "IT", "U.S.", "UK"]
    assert made["refused"] == {
        "a function word": {"count": 2, "examples": ["Once", "May"]},
        "no letter": {"count": 2, "examples": ["1984", "!?"]},
        "fewer than 3 letters and digits": {"count": 2, "examples": ["ab", "x"]},
        "names more than 16 entities": {"count": 1, "examples": ["Everyman"]},
    }


def test_aliases_that_are_ordinary_words_of_the_text_or_stand_everywhere_are_not_used(files):
    (files / "graph.tsv").write_text("Apple\tmakes\tPhone\nAda\tknows\tBo Li\nPhone\tof\tBo Li\n")
    text = "Ada eats an apple.\n" * 60 + "Apple has a Phone. Bo Li knows Ada.\n" * 5 + "So.\n" * 900
    (files / "text.txt").write_text(text + "Bo Li has a Phone.\n")
    report, rows = create(files, "--max_share", "0.05")
    refused = report["aliases not used"]
    assert refused["mostly an ordinary word in this text"]["examples"] == ["Apple"]
    assert refused["in more than 5.0% of the sentences"]["examples"] == ["Ada"]
    assert facts(rows) == [("Phone", "of", "Bo Li")]


def test_many_sentences_agree_with_a_plain_search(tmp_path):
    """The oracle looks for every alias of every entity in every sentence."""
    rng = np.random.default_rng(5)
    names = [f"Na{a}{b}" for a in "bcdf" for b in "aeiou"]
    triples = sorted({(*rng.choice(names, 2, False).tolist(), f"r{rng.integers(3)}") for _ in range(60)})
    triples = [(subject, relation, object_) for subject, object_, relation in triples]
    known = {name for subject, _, object_ in triples for name in (subject, object_)}
    words = [*names, "a", "few", "other", "words"]
    sentences = [" ".join(rng.choice(words, 8)) for _ in range(2500)]  # several batches
    rows, _, _ = aligned(triples, {name: [name] for name in known}, sentences, folder=tmp_path)
    wanted = []
    for text in sentences:
        first = {}
        for i, word in enumerate(text.split()):
            first.setdefault(word, i)
        wanted += sorted(
            (first[subject], first[object_], relation)
            for subject, relation, object_ in triples
            if subject in first and object_ in first
        )
    assert [(row["subj_start"], row["obj_start"], row["relation"]) for row in rows] == wanted


# -- words and sentences ----------------------------------------------------------------------------------------


def test_words():
    assert words_of("Ada's U.S. co-worker paid 3,000.5 kr (don't ask).") == (
        ["Ada", "'s", "U.S.", "co", "-", "worker", "paid", "3,000.5", "kr", "(", "don't", "ask", ")", "."]
    )


def test_sentences_end_where_spacys_sentencizer_ends_them(world):
    spacy = pytest.importorskip("spacy")
    nlp = spacy.blank("en")
    sentencizer = nlp.add_pipe("sentencizer")
    text = " ".join((world / "text" / "train.txt").read_text().split("\n"))
    text += ' He left?! "Why?" she said... (No.) And so on: a; bee. 中文。好的。End'
    words = words_of(text)
    doc = sentencizer(spacy.tokens.Doc(nlp.vocab, words=words))
    assert sentences_of(words) == [[token.text for token in span] for span in doc.sents]
    assert len(sentences_of(words)) > 50


def test_abbreviations_and_initials_end_no_sentence():
    words = words_of("Dr. J. R. Li of Acme Inc. was here. So was Mr. Bo.")
    assert [len(sentence) for sentence in sentences_of(words)] == [14, 6]


@pytest.mark.parametrize("form", ["lines", "paragraphs"])
def test_pieces_of_a_file_hold_its_documents_in_order(tmp_path, form):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"line {i} é\n" + "\n" * (i % 3 == 2) for i in range(500)), encoding="utf-8")
    options = TextOptions(form)
    whole = list(documents(text_pieces(path, options)[0], "a", options))
    small = text_pieces(path, options, size=100)
    assert len(small) > 10
    assert [document for piece in small for document in documents(piece, "a", options)] == whole
    assert len(whole) == (500 if form == "lines" else 167)


def test_texts_of_records_gzip_and_lines_with_ids(tmp_path):
    rows = [{"docid": "x", "body": "Ada."}, {"docid": 7.0, "body": " "}, {"docid": 8.0, "body": "Bo."}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    options = TextOptions(text_field="body")
    for path, name in find_texts([tmp_path]).items():
        assert name == path.name[0]
        (piece,) = text_pieces(path, options)
        assert list(documents(piece, name, options)) == [("x", "Ada."), ("8", "Bo.")]
    (tmp_path / "c.txt").write_text("Q1\tAda.\n\nQ2\tBo.\n")
    options = TextOptions("id_lines")
    (piece,) = text_pieces(tmp_path / "c.txt", options)
    assert list(documents(piece, "c", options)) == [("Q1", "Ada."), ("Q2", "Bo.")]


# -- graphs -----------------------------------------------------------------------------------------------------

SAME = [("Q1", "P1", "Q2"), ("Q2", "P2", "Q1")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "Q1\tP1\tQ2\nQ2\tP2\tQ1\n"),
        ("a.txt", "Q1\tP1\tQ2\n\nQ2\tP2\tQ1\n"),
        ("a.tsv", "score\tTail\tHead\tRelation\n1\tQ2\tQ1\tP1\n2\tQ1\tQ2\tP2\n"),
        ("a.csv", "subject,predicate,object\nQ1,P1,Q2\nQ2,P2,Q1\n"),
        ("a.jsonl", '{"h": "Q1", "r": "P1", "t": "Q2"}\n{"head": "Q2", "relation": "P2", "tail": "Q1"}\n'),
        ("a.nt", "<http://x/Q1> <http://x/P1> <http://x/Q2> .\n<http://x/Q2> <http://x/P2> <http://x/Q1> .\n"),
        ("a.ttl", "@prefix x: <http://x/> .\nx:Q1 x:P1 x:Q2 .\nx:Q2 x:P2 x:Q1 .\n"),
    ],
)
def test_triples_of_every_form(tmp_path, name, content):
    if name.endswith(("nt", "ttl")):
        pytest.importorskip("rdflib")
    (tmp_path / name).write_text(content)
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(content.encode()))
    for path in (tmp_path / name, packed):
        graph = read_graph([path])
        entities, relations = ([readable(name) for name in names] for names in (graph.entities, graph.relations))
        assert [(entities[s], relations[r], entities[o]) for s, r, o in graph.table()] == SAME


def test_labels_of_rdf_are_names(tmp_path):
    pytest.importorskip("rdflib")
    (tmp_path / "a.ttl").write_text(
        """@prefix x: <http://x/> . @prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
        @prefix skos: <http://www.w3.org/2004/02/skos/core#> .
        x:a x:bornIn x:b ; rdfs:label "Ada"@en, "Adele"@de ; skos:altLabel "Countess" ; x:age 7 .
        x:bornIn rdfs:label "born in"@en-GB . x:b rdfs:label "Oslo" . x:c rdfs:label "not in a triple" ."""
    )
    graph = read_graph([tmp_path / "a.ttl"])
    names = [*graph.entities]
    assert sorted((names[i], name) for i, name in graph.names) == [
        ("http://x/a", "Ada"),
        ("http://x/a", "Countess"),
        ("http://x/b", "Oslo"),
    ]
    assert graph.relation_names == {0: "born in"}
    assert graph.counts["triples with a value instead of an entity"] == 1
    assert graph.counts["names in another language"] == 1


def test_wikidata5ms_three_files_as_they_are(tmp_path):
    (tmp_path / "triples.txt").write_text("Q1\tP19\tQ2\n")
    (tmp_path / "entity.txt").write_text("Q1\tAda Lovelace\tCountess of Lovelace\nQ2\tLondon\nQ3\tnobody\n")
    (tmp_path / "relation.txt").write_text("P19\tplace of birth\tborn in\n")
    (tmp_path / "text.txt").write_text("Q1\tThe Countess of Lovelace was born in London. London is a city.\n")
    aliases = ["--aliases", tmp_path / "entity.txt", tmp_path / "relation.txt", "--text_form", "id_lines"]
    report, rows = create(tmp_path, *aliases, triples="triples.txt")
    assert facts(rows) == [("Countess of Lovelace", "P19", "London")]
    assert (rows[0]["docid"], rows[0]["subj_label"], rows[0]["obj_label"]) == ("Q1", "Q1", "Q2")
    assert report["relations"]["P19"]["name"] == "place of birth"
    assert report["graph"]["aliases' ids that no triple has"] == 1


def test_names_are_made_readable():
    assert readable("http://dbpedia.org/resource/Bo_Li%C3%A9") == "Bo Lié"
    assert readable("New_York") == "New York"
    names = ("birthPlace", "place_of_birth", "/people/person/place_of_birth", "http://x/o#bornIn", "P19")
    assert [*map(readable_relation, names)] == ["birth Place", "place of birth", "place of birth", "born In", "P19"]


# -- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "a\tb\tc\na\tb\n", r'a.tsv, line 2: 2 columns in "a | b", not 3; give subject, relation and object'),
        ("a.csv", "a,b,c,d\n", r'a.csv, line 1: 4 columns in "a | b | c | d", not 3'),
        ("a.tsv", "a\tb\t \n", r"a.tsv, line 1: the object is empty in .*; give it, or remove the row"),
        ("a.tsv", "", "there is no triple; give subject, relation and object"),
        ("a.jsonl", '{"head": "a", "tail": "b"}\n', r"a.jsonl, record 1: there is no relation among .*; give it as"),
        ("a.jsonl", "", "a.jsonl is empty"),
        ("a.nt", "<http://x/a> <http://x/b> .\n", r"a.nt, line 1: .* is no triple of N-Triples; write"),
        ("a.ttl", "x:a x:b x:c", "a.ttl is not Turtle that rdflib can read"),
        ("b.tsv", None, "b.tsv: there is no such file; check the path"),
    ],
)
def test_bad_triples_are_named(files, name, content, message):
    if content is not None:
        (files / name).write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        create(files, triples=name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Q7\tSomeone\nQ8\tOther\n", r"none of its ids is in the triples, such as \"Q7\", \"Q8\"; write the ids as"),
        ("Ada\n", r"line 1: \"Ada\" has no alias; write the id, a tab and its names"),
        ("", "none of its ids is in the triples, for it holds none"),
    ],
)
def test_bad_aliases_are_named(files, content, message):
    (files / "aliases.tsv").write_text(content)
    with pytest.raises(ValueError, match=message):
        create(files, "--aliases", files / "aliases.tsv")


def test_a_graph_that_the_text_does_not_speak_of_is_refused_with_names(files):
    (files / "text.txt").write_text("Nothing of interest.\n")
    with pytest.raises(ValueError, match=r'do not name two entities .* such as "Ada", "Oslo", "Bo Li"; check that'):
        create(files)
    (files / "stop.txt").write_text("ada\n")
    with pytest.raises(ValueError, match=r'"Bo Li" \(1 aliases are not used by the rules: a function word\); check'):
        create(files, "--stop_aliases", files / "stop.txt")
    (files / "text.txt").write_text("Bo Li and Norway.\n")
    with pytest.raises(ValueError, match="no sentence names both ends of a triple; check that graph and text"):
        create(files)
    assert not list((files / "out").iterdir())


@pytest.mark.parametrize(
    ("name", "content", "flags", "message"),
    [
        ("t.txt.gz", gzip.compress(TEXT.encode() * 500)[:-20], (), "t.txt.gz cannot be unpacked"),
        ("t.txt.gz", TEXT.encode(), (), "t.txt.gz is not compressed with gzip"),
        ("t.txt", b"", (), "t.txt holds no text; give text, or leave it out"),
        ("t.txt", b"Ada\xff", (), "t.txt, line 1: the byte at offset 3 is not UTF-8"),
        ("t.txt", b"Ada and Oslo", ("--text_form", "id_lines"), "t.txt, line 1: no tab parts id and text"),
        (
            "t.jsonl",
            b'{"body": "x"}',
            (),
            "record 1: text is null .*; name the field that holds the text by --text_field",
        ),
    ],
)
@pytest.mark.parametrize("workers", [1, slow(2)])
def test_bad_text_is_named(files, name, content, flags, message, workers):
    folder = files / "corpus"
    folder.mkdir()
    (folder / name).write_bytes(content)
    (folder / "z.txt").write_text(TEXT)
    if workers == 2 and name != "t.txt":
        pytest.skip("one such file is enough")
    with pytest.raises(ValueError, match=message):
        create(files, *flags, text="corpus", workers=workers)


def test_sentences_that_are_too_long_are_counted(files):
    (files / "text.txt").write_text("Ada saw Oslo.\n" + "Ada " * 50 + "Oslo\n")
    report, rows = create(files, "--max_words", "40")
    assert len(rows) == 2
    assert report["counts"]["sentences of more than 40 words, left out"] == 1


def test_splitting_without_spacy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy.lang.en", None)
    texts._spacy_rules.cache_clear()
    with pytest.raises(ValueError, match=re.escape("run: pip install 'kadapter[graph]', or give a sentence a line")):
        sentences_of(["a"])
    texts._spacy_rules.cache_clear()


# -- evaluation -------------------------------------------------------------------------------------------------


def test_precision_and_recall_against_an_annotation(tmp_path):
    def mention(name, sentence):
        return {"name": name, "sent_id": sentence, "pos": [0, 1], "type": "X"}

    document = {
        "sents": [["Ada", "was", "in", "Oslo", "."], ["Bo", "Li", "met", "Ada", "."], ["Ada", "1984", "."]],
        "vertexSet": [
            [mention("Ada", 0), mention("Ada", 1), mention("Ada", 2)],
            [mention("Oslo", 0)],
            [mention("Bo Li", 1)],
            [mention("1984", 2)],
        ],
        "labels": [
            {"h": 0, "r": "P1", "t": 1, "evidence": [0]},
            {"h": 2, "r": "P2", "t": 0, "evidence": []},
            {"h": 0, "r": "P3", "t": 3, "evidence": [2]},  # a year, which is not looked for
        ],
    }
    (tmp_path / "docs.json").write_text(json.dumps([document]))
    evaluate = load_script("scripts/evaluate_relations.py")
    flags = ["--redocred", str(tmp_path / "docs.json"), "--output_dir", str(tmp_path / "out")]
    scores = evaluate.main(flags)
    assert {name: scores[name] for name in ("wanted", "wanted and stated", "found", "precision")} == {
        "wanted": 3,
        "wanted and stated": 2,
        "found": 2,
        "precision": 1.0,
    }
    assert scores["recall"] == pytest.approx(2 / 3)
    assert scores["precision, stated"] == scores["recall, stated"] == 0.5
