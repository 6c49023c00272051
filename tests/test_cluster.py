"""Work on data in several processes and on a Dask cluster of this machine: the same bytes as in one process."""

import gzip
import json
import os
import signal
import threading
import time
from pathlib import Path

import datasets
import pytest
from conftest import load_script, slow
from test_parsing import pipeline, write  # noqa: F401  # a fixture

from kadapter.data import executors
from kadapter.data.encoding import Encoding
from kadapter.data.executors import executor, in_order
from kadapter.data.features import load_features
from kadapter.data.pieces import pieces
from kadapter.data.subset import SubsetOptions, make_subset
from kadapter.tasks.relations import TrexRelations

pytestmark = pytest.mark.usefixtures("unpainted")

distributed = pytest.importorskip("distributed")
CLEAN = load_script("scripts/clean_T_REx.py")
CHOOSE = load_script("scripts/create_subdataset-relation-classification.py")
ALIGN = load_script("scripts/create_relation_dataset.py")
DEPENDENCIES = load_script("scripts/create_dependency_dataset.py")


@pytest.fixture(scope="module")
def cluster():
    """Two workers in processes of their own."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as found:
        yield found.scheduler_address


@pytest.fixture
def cleaned(tmp_path):
    path = tmp_path / "cleaned.jsonl"
    spans = {"subj_start": 0, "subj_end": 0, "obj_start": 1, "obj_end": 1}
    rows = [
        {"docid": i % 17, "token": ["a", "b", "é" * (i % 5)], "relation": f"P{i % 4}", **spans}
        | {"subj_label": f"Q{i % 31}", "obj_label": f"Q{i % 7}"}
        for i in range(400)
    ]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    lines[100] = f"\n\n{lines[100]}"  # blank lines count as lines
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".jsonl")}


# -- executors --------------------------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_work_and_no_more_is_handed_out_than_asked_for():
    taken = []

    def work():
        for i in range(6):
            taken.append(i)
            yield i

    class Now:
        """An executor that does the work at once."""

        def submit(self, function, piece):
            result = function(piece)
            return type("Future", (), {"result": lambda self: result})()

    found = in_order(Now(), lambda i: i * i, work(), ahead=2)
    assert next(found) == 0
    assert taken == [0, 1, 2]
    assert list(found) == [1, 4, 9, 16, 25]
    assert list(in_order(None, str, [1, 2], ahead=1)) == ["1", "2"]


@pytest.mark.slow
def test_a_cluster_aligns_a_graph_with_text_to_the_same_bytes(cluster, tmp_path):
    pytest.importorskip("ahocorasick_rs")
    (tmp_path / "graph.tsv").write_text("Ada\tborn in\tOslo\nBo Li\tknows\tAda\n")
    (tmp_path / "text").mkdir()
    for i in range(3):
        (tmp_path / "text" / f"{i}.txt").write_text(f"Ada left Oslo in {i}.\nBo Li saw Ada. Bo Li saw Oslo.\n" * 5)
    found = []
    for name, flags in (("here", ["--workers", "1"]), ("there", ["--cluster", cluster])):
        folder = tmp_path / name
        ALIGN.main(
            ["--triples", str(tmp_path / "graph.tsv"), "--text", str(tmp_path / "text"), "--max_share", "1"]
            + ["--output", str(folder / "kg.jsonl"), "--negatives", "0.4", *flags]
        )
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert found[0] == found[1]
    assert len(found[0]) == 5  # examples, two reports, two pictures


def refused(address, message, *shared):
    with pytest.raises(ValueError, match=message), executor(1, address, shared):
        pass


def test_a_cluster_that_cannot_work_is_refused_before_anything_begins(cluster, tmp_path, monkeypatch):
    refused(
        cluster, r"the worker tcp://\S+ does not see .*/nowhere; give paths of storage", tmp_path, tmp_path / "nowhere"
    )
    monkeypatch.setattr(executors, "version", lambda name: "9.9")
    refused(cluster, r"the worker tcp://\S+ has kadapter \d\S+, but here it is 9.9; install")
    monkeypatch.setattr(executors, "CONNECT_SECONDS", 0.5)
    refused("tcp://127.0.0.1:9", r"--cluster is 'tcp://127.0.0.1:9', where no Dask scheduler answers")
    refused("nonsense://x", r"--cluster is 'nonsense://x', where no Dask scheduler answers")


def test_a_scheduler_without_workers_says_how_to_start_some():
    with distributed.LocalCluster(n_workers=0, dashboard_address=None, processes=False) as empty:
        refused(empty.scheduler_address, r"has no workers; start some with: dask worker")


# -- pieces -----------------------------------------------------------------------------------------------------


def test_pieces_hold_whole_lines_and_together_the_whole_file(cleaned):
    whole = cleaned.read_bytes()
    for size in (1, 7, 1000, 10**9):
        found = pieces(cleaned, size)
        parts = [piece.open().read() for piece in found]
        assert b"".join(parts) == whole
        assert all(part.endswith(b"\n") for part in parts[:-1])
        assert [piece.with_line_number().first_line for piece in found] == [
            1 + b"".join(parts[:i]).count(b"\n") for i in range(len(found))
        ]
    assert len(pieces(cleaned, 10**9)) == 1


@pytest.mark.parametrize(
    "options", [{}, *map(slow, ({"count": "pairs"}, {"max_per_relation": 40}, {"split_by": "pair"}))]
)
def test_choosing_in_pieces_gives_the_same_bytes_as_in_one(cleaned, tmp_path, monkeypatch, options):
    chosen = SubsetOptions(min_examples=5, dev_fraction=0.3, **options)
    whole = make_subset(cleaned, tmp_path / "whole", chosen)
    monkeypatch.setattr("kadapter.data.subset.pieces", lambda path: pieces(path, 5000))
    assert len(pieces(cleaned, 5000)) > 5
    assert make_subset(cleaned, tmp_path / "pieces", chosen) == whole
    assert contents(tmp_path / "pieces") == contents(tmp_path / "whole")


def test_cleaned_examples_are_read_from_packed_files_and_tables_too(cleaned, tmp_path):
    rows = [json.loads(line) for line in cleaned.read_text(encoding="utf-8").splitlines() if line]
    (tmp_path / "b.json").write_text(json.dumps(rows))
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "d.parquet")
    options = SubsetOptions(min_examples=5, dev_fraction=0.3)
    found = []
    for name in ("b.json", "c.json.gz", "d.parquet"):
        make_subset(tmp_path / name, tmp_path / f"of-{name}", options)
        found.append(contents(tmp_path / f"of-{name}"))
    assert len(found[0]) == 3
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("line", [3, 350])
def test_a_bad_example_in_a_later_piece_is_named_by_its_line_in_the_file(cleaned, tmp_path, monkeypatch, line):
    lines = cleaned.read_text(encoding="utf-8").split("\n")
    lines[line - 1] = lines[line - 1].replace('"relation": "P', '"relation": 1, "was": "P')
    cleaned.write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setattr("kadapter.data.subset.pieces", lambda path: pieces(path, 5000))
    with pytest.raises(ValueError, match=rf"record {line}: give token as a list"):
        make_subset(cleaned, tmp_path / "out", SubsetOptions(min_examples=5))
    lines[line - 1] = "{"
    cleaned.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"line {line}\b"):
        make_subset(cleaned, tmp_path / "out", SubsetOptions(min_examples=5))


# -- a cluster, and processes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["cluster", slow("processes")])
def test_choosing_by_several_workers_gives_the_same_bytes(cleaned, tmp_path, monkeypatch, cluster, where):
    flags = ["--input", str(cleaned), "--min_examples", "5", "--dev_fraction", "0.3", "--output_dir"]
    CHOOSE.main([*flags, str(tmp_path / "one"), "--workers", "1"])
    monkeypatch.setattr("kadapter.data.subset.pieces", lambda path: pieces(path, 9000))
    workers = ["--cluster", cluster] if where == "cluster" else ["--workers", "2"]
    CHOOSE.main([*flags, str(tmp_path / "many"), *workers])
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_cleaning_on_a_cluster_gives_the_same_bytes(world, tmp_path, cluster):
    flags = ["--raw", str(world / "trex-raw"), "--output"]
    CLEAN.main([*flags, str(tmp_path / "one" / "c.jsonl"), "--workers", "1"])
    CLEAN.main([*flags, str(tmp_path / "many" / "c.jsonl"), "--cluster", cluster])
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert len(contents(tmp_path / "one")) == 2


@pytest.mark.slow
def test_a_broken_file_ends_the_cleaning_on_a_cluster_with_its_name(world, tmp_path, cluster, capsys):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.json").write_text('[{"docid": ')
    (raw / "b.json").write_text("[{}]")
    with pytest.raises(ValueError, match=r"a.json, line 1"):
        CLEAN.main(["--raw", str(raw), "--output", str(tmp_path / "c.jsonl"), "--cluster", cluster])


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(world, tmp_path):
    documents = json.loads(next((world / "trex-raw").iterdir()).read_text())
    raw = tmp_path / "raw"
    raw.mkdir()
    for i in range(60):
        (raw / f"{i:02d}.json").write_text(json.dumps(documents * 20))
    CLEAN.main(["--raw", str(raw), "--output", str(tmp_path / "one" / "c.jsonl"), "--workers", "1"])
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as found:
        with distributed.Client(found) as client:
            victim = sorted(client.run(os.getpid).values())[0]
        parts = tmp_path / "many"

        def kill_when_it_works():
            while len(list(parts.glob(".c.jsonl.*.parts/*.counts"))) < 3:
                time.sleep(0.005)
            os.kill(victim, signal.SIGKILL)
            killed.append(len(list(parts.glob(".c.jsonl.*.parts/*.counts"))))

        killed: list[int] = []
        thread = threading.Thread(target=kill_when_it_works, daemon=True)
        thread.start()
        CLEAN.main(["--raw", str(raw), "--output", str(parts / "c.jsonl"), "--cluster", found.scheduler_address])
        thread.join(5)
    assert killed
    assert killed[0] < 60
    assert contents(parts) == contents(tmp_path / "one")


@pytest.mark.parametrize("where", [slow("cluster"), slow("processes")])
def test_parsing_by_several_workers_gives_the_same_treebank(pipeline, tmp_path, cluster, where):  # noqa: F811
    text = write(tmp_path / "books.txt", "".join(f"Dogs bark . The cat {i} sleeps .\n" for i in range(60)))
    flags = ["--input", str(text), "--parser", "spacy", "--parser_model", pipeline, "--parse_batch_size", "7"]
    workers = ["--cluster", cluster] if where == "cluster" else ["--workers", "2"]
    DEPENDENCIES.main([*flags, "--output", str(tmp_path / "one" / "t.json")])
    DEPENDENCIES.main([*flags, "--output", str(tmp_path / "many" / "t.json"), *workers])
    found, expected = contents(tmp_path / "many"), contents(tmp_path / "one")
    assert found == expected
    assert (tmp_path / "many" / "t.conllu").read_bytes() == (tmp_path / "one" / "t.conllu").read_bytes()


@pytest.mark.slow
def test_tokenizing_on_a_cluster_gives_the_same_features(world, tokenizer, tmp_path, cluster, monkeypatch):
    monkeypatch.setattr("kadapter.data.features.EXAMPLES_A_SHARD", 100)
    task, encoding = TrexRelations.for_folder(world / "trex-rc"), Encoding(tokenizer, 32)
    found, expected = (
        load_features(task, world / "trex-rc", "train", encoding, cache_dir=tmp_path / name, cluster=address)
        for name, address in (("many", cluster), ("one", ""))
    )
    assert len(found) > 100
    assert found.features == expected.features
    assert found[:] == expected[:]
    stores = [next((tmp_path / name).iterdir()) for name in ("many", "one")]
    assert [store.name for store in stores] == [stores[0].name] * 2
    arrow = [sorted((path.name, path.read_bytes()) for path in store.glob("*.arrow")) for store in stores]
    assert arrow[0] == arrow[1]
