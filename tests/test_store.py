"""The feature store: what makes a new one, and what finds the old one again."""

import dataclasses
import gzip
import importlib.util
import json
import shutil
import sys

import pytest
from tokenizers import normalizers
from transformers import AutoTokenizer

from kadapter.data import features
from kadapter.data.encoding import Encoding
from kadapter.data.features import load_features, store_name
from kadapter.data.jsonio import read_records, write_json
from kadapter.tasks.relations import SpanRelations, TrexRelations
from kadapter.tasks.semeval import Semeval
from kadapter.training.task import Task


@pytest.fixture
def folder(world, tmp_path):
    return shutil.copytree(world / "trex-rc", tmp_path / "data")


@pytest.fixture
def own_tokenizer(tiny_backbone):
    return AutoTokenizer.from_pretrained(tiny_backbone)


def name(task, folder, tokenizer, size=32, split="train", causal=False):
    return store_name(task, task.path(folder, split), split, Encoding(tokenizer, size, causal))


def test_everything_that_features_depend_on_names_the_store(folder, own_tokenizer, tmp_path):
    task = TrexRelations.for_folder(folder)
    first = name(task, folder, own_tokenizer)
    assert name(TrexRelations.for_folder(folder), shutil.copytree(folder, tmp_path / "copy"), own_tokenizer) == first
    reordered = dataclasses.replace(task, labels=task.labels[::-1])
    windowed = dataclasses.replace(task, keep_markers=True)
    others = [name(other, folder, own_tokenizer) for other in (reordered, windowed)]
    others += [name(task, folder, own_tokenizer, **change) for change in ({"size": 31}, {"causal": True})]
    others.append(name(task, folder, own_tokenizer, split="dev"))
    (folder / "train.json").write_text((folder / "train.json").read_text() + "\n")
    others.append(name(task, folder, own_tokenizer))
    assert len({first, *others}) == 7


def test_another_version_of_a_library_or_another_schema_makes_another_store(folder, own_tokenizer, monkeypatch):
    task = TrexRelations.for_folder(folder)
    names = {name(task, folder, own_tokenizer)}
    for library in ("datasets", "tokenizers", "transformers"):
        with monkeypatch.context() as patch:
            patch.setattr(features, "version", lambda of, library=library: "other" if of == library else "same")
            names.add(name(task, folder, own_tokenizer))
    monkeypatch.setattr(TrexRelations, "schema", {})
    assert len({*names, name(task, folder, own_tokenizer)}) == 5


def test_every_shard_and_its_compression_names_the_store(folder, own_tokenizer):
    task = TrexRelations.for_folder(folder)
    records = [record for _, record in read_records(task.path(folder, "train"))]
    task.path(folder, "train").unlink()

    def store(parts, ending):
        for path in folder.glob("train*"):
            path.unlink()
        for i, part in enumerate(parts):
            text = "".join(json.dumps(record) + "\n" for record in part).encode()
            text = gzip.compress(text) if ".gz" in ending else text
            (folder / f"train-{i}-of-{len(parts)}{ending}").write_bytes(text)
        return name(task, folder, own_tokenizer)

    first, rest = records[:5], records[5:]
    names = {
        store([records], ".jsonl"),
        store([records], ".jsonl.gz"),
        store([first, rest], ".jsonl"),
        store([first, rest], ".json"),  # the form too
        store([first, rest[:-1]], ".jsonl"),
        store([rest, first], ".jsonl"),
    }
    assert len(names) == 6
    assert store([first, rest], ".jsonl") in names
    store([first, rest], ".jsonl.gz")
    assert len(load_features(task, folder, "train", Encoding(own_tokenizer, 64))) == len(records)
    (folder / "train-1-of-2.jsonl.gz").unlink()
    with pytest.raises(ValueError, match="holds 1 shards of 2"):
        load_features(task, folder, "train", Encoding(own_tokenizer, 64))


def test_two_splits_of_one_content_have_stores_of_their_own(folder, own_tokenizer):
    """A task may read both from one file, as SemEval's dev part, which is held out of train."""
    shutil.copy(folder / "train.json", folder / "dev.json")
    task = TrexRelations.for_folder(folder)
    assert name(task, folder, own_tokenizer) != name(task, folder, own_tokenizer, split="dev")


def test_what_is_only_reported_does_not_name_the_store(folder, own_tokenizer):
    task = TrexRelations.for_folder(folder)
    reporting = dataclasses.replace(task, report_per_class=True)
    assert name(reporting, folder, own_tokenizer) == name(task, folder, own_tokenizer)


def test_another_tokenizer_makes_another_store_and_a_padded_call_of_the_same_one_does_not(folder, own_tokenizer):
    task = TrexRelations.for_folder(folder)
    first = name(task, folder, own_tokenizer)
    own_tokenizer(["a", "a longer text"], padding="max_length", truncation=True, max_length=9)
    assert name(task, folder, own_tokenizer) == first
    own_tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    assert name(task, folder, own_tokenizer) != first


def test_a_reader_of_the_same_name_elsewhere_makes_another_store(folder, own_tokenizer, tmp_path):
    class TrexRelations2(SpanRelations):  # the same code under another qualified name
        read = TrexRelations.read
        score = TrexRelations.score

    found = {name(TrexRelations.for_folder(folder), folder, own_tokenizer)}
    labels = TrexRelations.for_folder(folder).labels
    found.add(name(TrexRelations2(labels=labels, keep_markers=False), folder, own_tokenizer))
    assert len(found) == 2


def test_code_that_changed_makes_another_store(folder, own_tokenizer, tmp_path):
    """A task of one's own, in a module that is edited between two runs."""
    code = "from kadapter.tasks.relations import TrexRelations\nclass Mine(TrexRelations):\n    name = 'mine'\n"
    names = []
    for text in (code, code + "    # edited\n"):
        path = tmp_path / "mine.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("mine", path)
        module = sys.modules["mine"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        names.append(name(module.Mine.for_folder(folder), folder, own_tokenizer))
    del sys.modules["mine"]
    assert names[0] != names[1]


def test_semeval_s_dev_part_depends_on_whether_there_is_a_dev_file(world, own_tokenizer, tmp_path):
    folder = shutil.copytree(world / "semeval2010_task8", tmp_path / "data")
    task = Semeval.for_folder(folder)
    before = name(task, folder, own_tokenizer)
    shutil.copy(folder / "test.txt", folder / "dev.txt")
    assert name(task, folder, own_tokenizer) != before


def test_a_store_is_made_once_and_anew_when_asked(folder, own_tokenizer, tmp_path, monkeypatch):
    made, build = [], features._build
    monkeypatch.setattr(features, "_build", lambda *args: made.append(args) or build(*args))
    task, encoding = TrexRelations.for_folder(folder), Encoding(own_tokenizer, 32)
    rows = [load_features(task, folder, "dev", encoding, cache_dir=tmp_path / "s", overwrite=o)[:] for o in (0, 0, 1)]
    assert len(made) == 2
    assert rows[0] == rows[1] == rows[2]


def test_one_example_makes_a_store_too(folder, own_tokenizer, tmp_path):
    write_json(folder / "dev.json", json.loads((folder / "dev.json").read_text())[:1])
    task = TrexRelations.for_folder(folder)
    (row,) = load_features(task, folder, "dev", Encoding(own_tokenizer, 32), cache_dir=tmp_path / "s")
    assert (row["record"], row["items"], row["length"]) == (1, 1, len(row["input_ids"]))


def test_a_store_whose_counts_are_of_another_form_is_made_anew(folder, own_tokenizer, tmp_path, caplog):
    task, encoding = TrexRelations.for_folder(folder), Encoding(own_tokenizer, 32)
    first = load_features(task, folder, "dev", encoding, cache_dir=tmp_path / "s")[:]
    (counts,) = (tmp_path / "s").glob("*/counts.json")
    counts.write_text(counts.read_text().replace("dropped", "droppde"))  # of the same size
    assert load_features(task, folder, "dev", encoding, cache_dir=tmp_path / "s")[:] == first
    assert "is damaged" in caplog.text
    assert "dropped" in counts.read_text()


def test_every_task_of_the_registry_tells_what_its_features_depend_on():
    from kadapter.tasks import TASKS

    for kind in TASKS.values():
        assert issubclass(kind, Task)
        fields = {f.name for f in dataclasses.fields(kind) if not f.metadata.get("report")}
        labels = ("no_relation",)
        assert set(kind(labels=labels).options()) == fields - {"labels"}


def test_a_helper_of_a_readers_own_package_belongs_to_its_code(monkeypatch):
    """Markers are put in by another module than the one that defines the task."""
    seen = []
    monkeypatch.setattr(features, "file_digest", lambda path: seen.append(path.name) or "")
    features.code_digest.cache_clear()
    features.code_digest(TrexRelations)
    features.code_digest.cache_clear()
    assert {"relations.py", "marking.py", "encoding.py"} <= set(seen)
