"""Raw T-REx to trex-rc: cleaning and the choice of relations, with archives, kills and bad input."""

import gzip
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT, load_script

from kadapter.data.few_shot import draw_few
from kadapter.data.jsonio import write_jsonl
from kadapter.data.labels import read_labels
from kadapter.data.subset import SubsetOptions, make_subset
from kadapter.data.trex import clean_document, clean_file
from kadapter.tasks.relations import read_relations


@pytest.fixture
def painted():
    """For the test that looks at the pictures."""


@pytest.fixture(autouse=True)
def _unpainted(request):
    if "painted" not in request.fixturenames:
        request.getfixturevalue("unpainted")


CLEAN = load_script("scripts/clean_T_REx.py")
SUBSET = load_script("scripts/create_subdataset-relation-classification.py")


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def cleaned(world, tmp_path_factory):
    path = tmp_path_factory.mktemp("cleaned") / "cleaned.jsonl"
    CLEAN.main(["--raw", str(world / "trex-raw"), "--output", str(path), "--workers", "1"])
    return path


# -- cleaning ---------------------------------------------------------------------------------------------------


def test_every_stated_fact_of_the_demo_world_is_found_in_its_raw_documents(cleaned, world):
    truth = json.loads((world / "world.json").read_text())
    facts = Counter()
    for path in (world / "trex-raw").iterdir():
        for document in json.loads(path.read_text()):
            facts.update(triple["predicate"]["uri"].rsplit("/")[-1] for triple in document["triples"])
    rows = lines(cleaned)
    assert Counter(row["relation"] for row in rows) == facts
    types = {entity["qid"]: entity["type"] for entity in truth["entities"].values()}
    names = {entity["qid"]: entity["name"] for entity in truth["entities"].values()}
    for row in rows:
        assert [types[row["subj_label"]], types[row["obj_label"]]] == truth["relations"][row["relation"]]
        assert " ".join(row["token"][row["subj_start"] : row["subj_end"] + 1]) == names[row["subj_label"]]
        assert " ".join(row["token"][row["obj_start"] : row["obj_end"] + 1]) == names[row["obj_label"]]
    assert list(json.loads((cleaned.parent / "relations.json").read_text()).values()) == list(range(len(facts)))


def document(**changes):
    triple = {
        "sentence_id": 1,
        "subject": {"boundaries": [8, 13], "uri": "http://x/Q1"},
        "object": {"boundaries": [20, 24], "uri": "http://x/Q2"},
        "predicate": {"uri": "http://x/P9"},
    }
    return {
        "docid": "http://x/Q7",
        "text": "Ann. Or Li Yu meets Oslo.",
        "sentences_boundaries": [[0, 4], [5, 25]],
        "words_boundaries": [[0, 3], [3, 4], [5, 7], [8, 10], [11, 13], [14, 19], [20, 24], [24, 25]],
        "triples": [{**triple, **changes}],
    }


def test_word_numbers_count_within_the_sentence():
    ((reason, example),) = clean_document(document())
    assert reason == ""
    assert example == {
        "docid": "Q7",
        "token": ["Or", "Li", "Yu", "meets", "Oslo", "."],
        "relation": "P9",
        "subj_start": 1,
        "subj_end": 2,
        "obj_start": 4,
        "obj_end": 4,
        "subj_label": "Q1",
        "obj_label": "Q2",
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"subject": {"boundaries": None, "uri": "x/Q1"}}, "the subject stands nowhere in the text"),
        ({"subject": {"boundaries": [8, 12], "uri": "x/Q1"}}, "the subject does not begin and end with words"),
        ({"object": {"boundaries": [9, 13], "uri": "x/Q1"}}, "the object does not begin and end with words"),
        ({"object": {"boundaries": [0, 3], "uri": "x/Q1"}}, "the object does not begin and end with words"),
        ({"sentence_id": 0}, "the subject does not begin and end with words of its sentence"),
        *(({"sentence_id": value}, "the triple has no sentence") for value in (None, -1, 2, True, 0.5, "1", [1])),
        *(
            ({"subject": {"boundaries": value, "uri": "x/Q1"}}, "the subject does not lie in the text")
            for value in ([20, 26], [-5, 13], [8], "ab", {}, [8, "13"], [13, 8], [True, 13], 8)
        ),
        ({"object": {"uri": "x/Q1"}}, "the object stands nowhere in the text"),
        *(({"predicate": value}, "the predicate has no uri") for value in ({}, None, {"uri": None}, {"uri": ["P1"]})),
        ({"subject": {"boundaries": [8, 13], "uri": ""}}, "the subject has no uri"),
        ({"object": [1]}, "the object has no uri"),
    ],
)
def test_triples_off_the_words_of_their_sentence_are_dropped_with_the_reason(changes, reason):
    ((found, example),) = clean_document(document(**changes))
    assert example is None
    assert found.startswith(reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        *(({key: None}, f"the document has no {key}") for key in document()),
        ({"text": ["a"]}, "the document has no text"),
        *(({"words_boundaries": v}, "the document has no words_boundaries") for v in ([], [[1]], [[0, 99]], {}, [3])),
        ({"sentences_boundaries": [[0, 4], [5]]}, "the sentence does not lie in the text"),
        ({"sentences_boundaries": [[0, 4], [5, 99]]}, "the sentence does not lie in the text"),
        ({"words_boundaries": [[3, 4], [0, 3]]}, "the document's words are not in order"),
        ({"triples": [None]}, "the triple is not an object"),
    ],
)
def test_documents_that_are_no_use_are_dropped_with_the_reason(changes, reason):
    ((found, example),) = clean_document({**document(), **changes})
    assert example is None
    assert found.startswith(reason)
    ((found, example),) = clean_document({key: v for key, v in {**document(), **changes}.items() if v is not None})
    assert example is None
    assert found.startswith(reason)


def test_whole_floats_are_taken_as_numbers():
    subject = {"boundaries": [8.0, 13.0], "uri": "http://x/Q1"}
    assert list(clean_document(document(sentence_id=1.0, subject=subject))) == list(clean_document(document()))


def test_a_literal_is_called_by_its_value_and_not_by_its_type():
    date = "1970-01-22T00:00:00Z^^http://www.w3.org/2001/XMLSchema#dateTime"
    for uri, label in ((date, "1970-01-22T00:00:00Z"), ("http://x/Q2", "Q2")):
        object_ = {"boundaries": [20, 24], "surfaceform": "Oslo", "uri": uri}
        ((_, example),) = clean_document(document(object=object_))
        assert example["obj_label"] == label


def test_one_bad_triple_or_document_leaves_the_rest_of_the_file(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([document(sentence_id=None), {"docid": "x"}, document()]))
    report = clean_file(("a.json", tmp_path / "part.jsonl"), tmp_path)
    assert report["counts"] == {
        "documents": 3,
        "kept": 1,
        "dropped: the triple has no sentence": 1,
        "dropped: the document has no text": 1,
    }
    assert [row["docid"] for row in lines(tmp_path / "part.jsonl")] == ["Q7"]


BROKEN = [
    ("", "is empty"),
    ("[]", "is an empty list"),
    (json.dumps([document()])[:-40], "broken JSON"),
    (json.dumps([document(), 3]), "record 2: 3 is not a JSON object"),
]


@pytest.mark.parametrize(("content", "message"), BROKEN)
def test_a_broken_or_empty_file_is_named_and_skipped_only_if_asked_for(tmp_path, content, message):
    (tmp_path / "b.json").write_text(content)
    part = tmp_path / "part.jsonl"
    with pytest.raises(ValueError, match=rf"b\.json.*{message}.* With --skip_broken_files the other files"):
        clean_file(("b.json", part), tmp_path)
    report = clean_file(("b.json", part), tmp_path, skip_broken=True)
    assert re.search(rf"b\.json.*{message}", report["broken"])
    assert not part.exists()
    assert not part.with_suffix(".counts").exists()


def test_encrypted_and_damaged_members_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/a.json", json.dumps([document()]))
    whole = (tmp_path / "a.zip").read_bytes()
    marked = bytearray(whole)
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        marked[whole.index(signature) + flags] |= 1  # says that the member is encrypted
    damaged = whole.replace(b"meets", b"means")  # the checksum does not fit
    for content, message in ((marked, "encrypted.*unpack it with its password"), (damaged, "CRC.*fetch the archive")):
        (tmp_path / "a.zip").write_bytes(content)
        with pytest.raises(ValueError, match=rf"a\.zip/in/a\.json cannot be unpacked .*{message}"):
            clean_file(("in/a.json", tmp_path / "part.jsonl"), tmp_path / "a.zip")


def test_what_macos_adds_and_what_is_no_file_are_no_data(tmp_path):
    raw = tmp_path / "raw"
    for name in ("a.json", "._a.json", "__MACOSX/a.json", "sub/b.json", "sub/__MACOSX/._b.json"):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).write_text("x")
    with zipfile.ZipFile(tmp_path / "raw.zip", "w") as archive:
        for path in raw.rglob("*.json"):
            archive.write(path, str(path.relative_to(raw)))
    os.mkfifo(raw / "c.json")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(raw)  # the path of a socket must be short
        listener.bind("d.json")
        os.chdir(here)
        for source in (raw, tmp_path / "raw.zip"):
            assert [name for name, _, _ in CLEAN.find_files(source)] == ["a.json", "sub/b.json"]
    with pytest.raises(OSError, match="is neither a folder nor a zip archive"):
        CLEAN.find_files(raw / "c.json")


def test_skipped_files_are_counted_and_listed(tmp_path, capsys):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.json").write_text(json.dumps([document()]))
    (tmp_path / "raw" / "b.json").write_text("")
    command = ["--raw", str(tmp_path / "raw"), "--output", str(tmp_path / "out.jsonl"), "--workers", "1"]
    with pytest.raises(ValueError, match=r"b\.json is empty"):
        CLEAN.main(command)
    CLEAN.main([*command, "--skip_broken_files"])
    shown = capsys.readouterr().out
    assert "1  files skipped as broken\n" in shown
    assert f"skipped: {tmp_path / 'raw' / 'b.json'} is empty" in shown
    assert len(lines(tmp_path / "out.jsonl")) == 1


def test_archive_folder_and_number_of_workers_give_the_same_bytes(cleaned, world, tmp_path, capsys):
    archive = tmp_path / "trex.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in (world / "trex-raw").iterdir():
            file.write(path, path.name)
    CLEAN.main(["--raw", str(archive), "--output", str(tmp_path / "a" / "cleaned.jsonl"), "--workers", "2"])
    assert (tmp_path / "a" / "cleaned.jsonl").read_bytes() == cleaned.read_bytes()
    assert "kept" in capsys.readouterr().out
    CLEAN.main(
        ["--raw", str(archive), "--output", str(tmp_path / "cleaned.json"), "--format", "json", "--workers", "1"]
    )
    assert json.loads((tmp_path / "cleaned.json").read_text()) == lines(cleaned)
    assert not list(tmp_path.glob(".*"))


def as_tar(path, names_and_bytes, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in names_and_bytes:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_one_file_lines_compressed_files_and_tar_archives_give_the_same_bytes(cleaned, world, tmp_path):
    files = sorted((world / "trex-raw").iterdir())
    documents = [document for path in files for document in json.loads(path.read_text())]
    (tmp_path / "one.json").write_text(json.dumps(documents))
    write_jsonl(tmp_path / "one.jsonl", documents)
    (tmp_path / "one.json.gz").write_bytes(gzip.compress((tmp_path / "one.json").read_bytes()))
    members = [(f"trex/{path.name}", path.read_bytes()) for path in files]
    as_tar(tmp_path / "trex.tgz", [("trex/README.txt", b"x"), *reversed(members), ("trex/._a.json", b"x")])
    as_tar(tmp_path / "trex.tar", [(f"{name}.gz", gzip.compress(content)) for name, content in members], "w")
    (tmp_path / "packed").mkdir()
    for name, content in members:
        (tmp_path / "packed" / f"{Path(name).name}.gz").write_bytes(gzip.compress(content))
    for name in ("one.json", "one.jsonl", "one.json.gz", "trex.tgz", "trex.tar", "packed"):
        output = tmp_path / "out" / "cleaned.jsonl"
        CLEAN.main(["--raw", str(tmp_path / name), "--output", str(output), "--workers", "1"])
        assert output.read_bytes() == cleaned.read_bytes()
        assert not list(output.parent.glob(".*"))
    assert [size for _, size, _ in CLEAN.find_files(tmp_path / "trex.tgz")] == [len(content) for _, content in members]


def test_faults_in_a_tar_archive_are_named_as_in_the_archive(tmp_path, capsys):
    good = json.dumps([document()]).encode()
    as_tar(tmp_path / "raw.tgz", [("in/a.json", good), ("in/b.json", good[:-9])])
    command = ["--output", str(tmp_path / "out.jsonl"), "--workers", "1", "--raw"]
    with pytest.raises(ValueError, match=r"raw\.tgz/in/b\.json, line 1.* With --skip_broken_files"):
        CLEAN.main([*command, str(tmp_path / "raw.tgz")])
    CLEAN.main([*command, str(tmp_path / "raw.tgz"), "--skip_broken_files"])
    assert f"skipped: {tmp_path / 'raw.tgz'}/in/b.json, line 1" in capsys.readouterr().out
    assert len(lines(tmp_path / "out.jsonl")) == 1
    (tmp_path / "cut.tgz").write_bytes((tmp_path / "raw.tgz").read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"cut\.tgz is not a complete tar archive .*; fetch it again"):
        CLEAN.main([*command, str(tmp_path / "cut.tgz")])
    as_tar(tmp_path / "twice.tar", [("a.json", good), ("a.json", good)], "w")
    with pytest.raises(ValueError, match=r"twice\.tar holds a\.json twice; unpack it"):
        CLEAN.main([*command, str(tmp_path / "twice.tar")])
    as_tar(tmp_path / "none.tar", [("../a.txt", good)], "w")
    with pytest.raises(ValueError, match=r"none\.tar holds no JSON file"):
        CLEAN.main([*command, str(tmp_path / "none.tar")])
    as_tar(tmp_path / "out.tar", [("../../evil.json", good)], "w")
    CLEAN.main([*command, str(tmp_path / "out.tar")])
    assert not list(tmp_path.parent.glob("**/evil.json"))


def test_a_killed_cleaning_goes_on_with_the_files_that_are_left(world, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for i in range(60):
        shutil.copy(world / "trex-raw" / "demo-0.json", raw / f"{i:02d}.json")
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "out" / "broken.jsonl"
    command = ["scripts/clean_T_REx.py", "--raw", str(raw), "--workers", "1", "--output"]
    CLEAN.main([*command[1:], str(whole)])
    process = subprocess.Popen([sys.executable, *command, str(broken)], cwd=ROOT, start_new_session=True)
    while len(list(broken.parent.glob(".*.parts/*.counts"))) < 3:
        assert process.poll() is None
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not broken.exists()
    CLEAN.main([*command[1:], str(broken)])
    assert broken.read_bytes() == whole.read_bytes()
    assert [path.name for path in broken.parent.iterdir()] == ["broken.jsonl", "relations.json"] or not list(
        broken.parent.glob(".*")
    )


def test_a_file_that_changed_since_the_kill_is_cleaned_anew(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    before = CLEAN.find_files(tmp_path)
    os.utime(tmp_path / "a.json", ns=(1, 1))  # as large as before
    assert CLEAN.find_files(tmp_path) != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"docid": "x"}]', r"no example is left of 1 files; documents 1; dropped: the document has no text 1; give"),
        ('[{"docid": ', "broken JSON"),
    ],
)
def test_a_broken_raw_file_is_refused_with_its_name_and_nothing_is_written(tmp_path, content, message):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.json").write_text(content)
    with pytest.raises((ValueError, OSError), match=message):
        CLEAN.main(["--raw", str(tmp_path / "raw"), "--output", str(tmp_path / "out.jsonl"), "--workers", "1"])
    assert not (tmp_path / "out.jsonl").exists()


def test_what_is_no_t_rex_is_refused(tmp_path):
    with pytest.raises((ValueError, OSError), match="is neither a folder nor a zip archive"):
        CLEAN.main(["--raw", str(tmp_path / "no"), "--output", str(tmp_path / "out.jsonl")])
    with pytest.raises((ValueError, OSError), match="holds no JSON file"):
        CLEAN.main(["--raw", str(tmp_path), "--output", str(tmp_path / "out.jsonl")])


# -- the subset -------------------------------------------------------------------------------------------------


def subset(path, output, *flags):
    SUBSET.main(["--input", str(path), "--output_dir", str(output), *map(str, flags)])
    train, dev = lines(output / "train.jsonl"), lines(output / "dev.jsonl")
    return train, dev, json.loads((output / "relations.json").read_text())


@pytest.fixture
def examples(tmp_path):
    """Relation P1 with 400 examples of 100 pairs, P2 with 60 of 6 pairs, P3 with 5, P31 with 100."""
    rows = []
    for relation, number, pairs in (("P1", 400, 100), ("P2", 60, 6), ("P3", 5, 5), ("P31", 100, 100)):
        for i in range(number):
            spans = {"subj_start": 0, "subj_end": 0, "obj_start": 1, "obj_end": 1}
            labels = {"subj_label": f"Q{i % pairs}", "obj_label": "Q0"}
            rows.append({"docid": "Q", "token": ["a", "b"], "relation": relation, **spans, **labels})
    path = tmp_path / "cleaned.json"
    path.write_text(json.dumps(rows))
    return path


def test_rare_relations_and_instance_of_are_dropped_and_the_rest_is_split(examples, tmp_path, painted):
    train, dev, relations = subset(examples, tmp_path / "a")
    assert relations == {"P1": 0, "P2": 1}
    assert len(train) + len(dev) == 460
    assert 25 < len(dev) < 70
    again = subset(examples, tmp_path / "b")
    for name in ("train.jsonl", "dev.jsonl", "relations.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert subset(examples, tmp_path / "c", "--seed", 1)[1] != again[1]
    for name in ("relations.png", "lengths.png"):
        assert (tmp_path / "a" / name).read_bytes()[:4] == b"\x89PNG"
    assert len(
        list(read_relations(tmp_path / "a" / "train.jsonl", read_labels(tmp_path / "a" / "relations.json")))
    ) == len(train)


def test_rarity_by_entity_pairs_and_a_split_by_them(examples, tmp_path):
    train, dev, relations = subset(examples, tmp_path / "a", "--count", "pairs", "--split_by", "pair")
    assert relations == {"P1": 0}
    pairs = [{(row["subj_label"], row["obj_label"]) for row in rows} for rows in (train, dev)]
    assert pairs[1]
    assert not pairs[0] & pairs[1]


def test_a_cap_takes_a_random_part_of_a_frequent_relation(examples, tmp_path):
    train, dev, _ = subset(examples, tmp_path / "a", "--max_per_relation", 80)
    assert Counter(row["relation"] for row in train + dev) == {"P1": 80, "P2": 60}
    other = subset(examples, tmp_path / "b", "--max_per_relation", 80, "--seed", 3)
    assert [row["subj_label"] for row in other[0]] != [row["subj_label"] for row in train]


def test_the_originals_label_order_can_be_kept(tmp_path, examples):
    rows = [
        {**row, "relation": "P17" if row["relation"] == "P1" else row["relation"]}
        for row in json.loads(examples.read_text())
    ]
    examples.write_text(json.dumps(rows))
    train, _, relations = subset(examples, tmp_path / "a", "--labels", "original")
    assert len(relations) == 410
    assert relations["P17"] == 1
    assert {row["relation"] for row in train} == {"P17"}


def test_a_split_by_document_shares_none_and_draws_from_each(examples, tmp_path, capsys):
    rows = [{**row, "docid": f"D{i % 40}"} for i, row in enumerate(json.loads(examples.read_text()))]
    examples.write_text(json.dumps(rows))
    train, dev, _ = subset(examples, tmp_path / "a", "--split_by", "document", "--dev_fraction", 0.3)
    documents = [{row["docid"] for row in part} for part in (train, dev)]
    assert not documents[0] & documents[1]
    assert len(documents[0] | documents[1]) == 40
    assert 4 <= len(documents[1]) <= 20
    shown = capsys.readouterr().out
    assert f"read 565, train {len(train)}, dev {len(dev)}, relations 2, " in shown
    assert "dropped for rare relations 5, dropped for --drop 100" in shown


def test_the_library_plots_without_pyplot_which_would_choose_a_backend_for_its_caller(examples, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it fails
    report = make_subset(examples, tmp_path / "a", SubsetOptions(drop=(), min_examples=1))
    assert report["read"] == report["train"].total() + report["dev"].total() == 565
    assert report["relations"] == report["labels"] == ["P1", "P31", "P2", "P3"]
    assert report["lengths"] == {2: 565}
    assert not report["dropped"]
    assert (tmp_path / "a" / "lengths.png").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token": "a b"}, "record 2: give token as a list of words"),
        ({"relation": 3}, "record 2: give token as a list of words and relation as a name"),
    ],
)
def test_a_broken_example_is_refused_with_its_record(examples, tmp_path, changes, message):
    rows = json.loads(examples.read_text())
    rows[1] |= changes
    examples.write_text(json.dumps(rows))
    with pytest.raises((ValueError, OSError), match=message):
        subset(examples, tmp_path / "a")
    del rows[1]["docid"]
    examples.write_text(json.dumps(rows))
    with pytest.raises((ValueError, OSError), match=r"record 2: the keys \['docid'\] are missing"):
        subset(examples, tmp_path / "a")


def test_few_shots_thin_train_alone_and_shuffled_labels_exchange_its_relations(examples, tmp_path, capsys):
    rows = [row | {"docid": f"d{number}"} for number, row in enumerate(json.loads(examples.read_text()))]
    examples.write_text(json.dumps(rows))
    flags = ("--dev_fraction", 0.3)
    train, dev, _ = subset(examples, tmp_path / "a", *flags)
    few, same, _ = subset(examples, tmp_path / "b", *flags, "--shots", 7)
    assert same == dev
    assert Counter(row["relation"] for row in few) == {"P1": 7, "P2": 7}
    numbers = [train.index(row) for row in few]
    assert numbers == sorted(numbers)
    assert numbers != list(range(14))  # drawn, not the first
    assert f"dropped for --shots {len(train) - 14}" in capsys.readouterr().out
    assert subset(examples, tmp_path / "b", *flags, "--shots", 7)[0] == few
    mixed, same, _ = subset(examples, tmp_path / "c", *flags, "--shuffle_labels")
    assert same == dev
    plain = [{**row, "relation": ""} for row in train]
    assert [{**row, "relation": ""} for row in mixed] == plain
    counts = Counter(row["relation"] for row in train)
    assert Counter(row["relation"] for row in mixed) == counts
    kept = sum(row["relation"] == other["relation"] for row, other in zip(train, mixed, strict=True))
    by_chance = sum(count**2 for count in counts.values()) / len(train)
    assert abs(kept - by_chance) < 4 * len(train) ** 0.5


def test_lengths_are_those_of_what_is_left_and_an_example_with_several_labels_counts_for_each(examples, tmp_path):
    report = make_subset(examples, tmp_path / "a", SubsetOptions(drop=(), min_examples=1, shots=3))
    assert report["read"] == report["train"].total() + report["dev"].total() + report["dropped"]["--shots"]
    assert report["lengths"].total() == report["train"].total() + report["dev"].total()
    labels = [["a", "b"], ["a"], ["b"], [], ["a", "b"], ["c"]]
    for seed in range(9):
        drawn = draw_few(labels, 1, seed)
        found = Counter(name for number in drawn for name in labels[number])
        assert found == {"a": 1, "b": 1, "c": 1}
        assert 3 not in drawn


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shots": 0}, "--shots is 0; give at least 1"),
        ({"min_examples": 0}, "--min_examples is 0; give at least 1"),
        ({"max_per_relation": -1}, "--max_per_relation is -1; give at least 1"),
        ({"dev_fraction": 0.0}, "--dev_fraction is 0.0; give a number between 0 and 1"),
    ],
)
def test_numbers_out_of_their_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        SubsetOptions(**values)


def test_a_share_that_leaves_dev_empty_is_refused(examples, tmp_path):
    with pytest.raises(ValueError, match="460 examples split by example leave dev empty"):
        subset(examples, tmp_path / "a", "--dev_fraction", 1e-9)
    assert not list(tmp_path.glob("a/*"))


def test_too_few_examples_are_refused(examples, tmp_path):
    with pytest.raises((ValueError, OSError), match="no relation has 1000 examples; lower --min_examples"):
        subset(examples, tmp_path / "a", "--min_examples", 1000)
    assert not (tmp_path / "a" / "train.jsonl").exists()
