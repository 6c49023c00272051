"""The example of a graph of one's own: what it is made of, and that its script runs from end to end."""

import json
import os
import subprocess

import pytest
from conftest import ROOT, load_script

example = load_script("scripts/make_own_knowledge_example.py")


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    example.main([f"--output_dir={folder}", "--facts_per_relation=10"])
    return folder


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def test_every_sentence_names_both_ends_of_a_triple_and_says_nothing_of_their_relation(mine):
    names = dict(line.split("\t") for line in lines(mine / "aliases.tsv"))
    facts = [line.split("\t") for line in lines(mine / "triples.tsv")]
    pairs = {frozenset((names[subject], names[object_])) for subject, _, object_ in facts}
    corpus = lines(mine / "corpus" / "text.txt")
    assert len(corpus) == 3 * len(facts)
    for sentence in corpus:
        found = frozenset(name for name in names.values() if f" {name} " in f" {sentence} ")
        assert found in pairs
    assert not any(names[relation] in sentence for _, relation, _ in facts[:20] for sentence in corpus)


def test_the_tasks_test_names_stand_in_the_graph_and_in_no_other_part_of_the_task(mine):
    splits = {split: json.loads((mine / "task" / f"{split}.json").read_text()) for split in ("train", "dev", "test")}
    names = {split: {row["sent"][row["start"] : row["end"]] for row in rows} for split, rows in splits.items()}
    assert not names["test"] & (names["train"] | names["dev"])
    assert names["test"] <= {line.split("\t")[1] for line in lines(mine / "aliases.tsv")}
    labels = json.loads((mine / "task" / "labels.json").read_text())
    assert {label for rows in splits.values() for row in rows for label in row["labels"]} == {*labels}


@pytest.mark.slow
def test_the_example_runs_from_the_graph_to_a_verdict(tmp_path):
    environment = {**os.environ, "OUT": str(tmp_path), "SEEDS": "1", "STEPS": "40", "OMP_NUM_THREADS": "1"}
    script = ["bash", str(ROOT / "run_own_knowledge_example.sh")]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.split()[2] for line in done.stdout.splitlines() if line.startswith("$ python")] == [
        "scripts/make_own_knowledge_example.py",
        "scripts/create_relation_dataset.py",
        "scripts/create_subdataset-relation-classification.py",
        "scripts/compare.py",
    ]
    assert done.stdout.splitlines()[-1].startswith("kg, frozen: ")
    assert (tmp_path / "compare" / "comparison.png").is_file()
