"""Entity typing on T-REx: scripts/create_subdataset-entity-typing.py and --objective entity_typing."""

import json

import pytest
from conftest import ROOT, golden_json, load_script
from safetensors.torch import load_file

from kadapter.data.jsonio import write_json, write_jsonl
from kadapter.data.labels import read_labels

pytestmark = pytest.mark.usefixtures("unpainted")

SUBSET = load_script("scripts/create_subdataset-entity-typing.py")
FAC = load_script("examples/run_pretrain_fac_adapter.py")
TYPING = load_script("examples/run_finetune_openentity_adapter.py")


def example(words, subject, object_, relation, names):
    (a, b), (c, d) = subject, object_
    spans = {"subj_start": a, "subj_end": b, "obj_start": c, "obj_end": d}
    return {
        "docid": "d",
        "token": words.split(),
        "relation": relation,
        **spans,
        **dict(zip(("subj_label", "obj_label"), names, strict=True)),
    }


def cleaned(path, count=30):
    """Towns and rivers by turns, and facts that state no type."""
    rows = []
    for i in range(count):
        kind = ("Q515", "town") if i % 2 else ("Q4022", "river")
        rows.append(example(f"Old Name{i} is a {kind[1]} .", (0, 1), (4, 4), "P31", (f"E{i}", kind[0])))
        rows.append(example(f"Name{i} lies in Land .", (0, 0), (3, 3), "P17", (f"E{i}", "Q1")))
    rows.append(example("Old Name1 is a town .", (0, 1), (4, 4), "P31", ("E1", "Q486972")))
    write_jsonl(path, rows)
    return rows


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def make(tmp_path, *flags, count=30):
    cleaned(tmp_path / "cleaned.jsonl", count)
    folder = tmp_path / "trex-et"
    SUBSET.main(["--input", str(tmp_path / "cleaned.jsonl"), "--output_dir", str(folder), *map(str, flags)])
    return folder


def test_the_objects_of_p31_are_the_types_of_their_subjects(tmp_path, capsys):
    folder = make(tmp_path, "--min_examples", 1)
    rows = lines(folder / "train.jsonl") + lines(folder / "dev.jsonl")
    assert sorted(row["sent"][row["start"] : row["end"]] for row in rows) == sorted(f"Old Name{i}" for i in range(30))
    types = {row["sent"].split()[1]: row["labels"] for row in rows}
    assert types.pop("Name1") == ["Q515", "Q486972"]  # two facts of one mention
    assert all(found == (["Q515"] if int(name[4:]) % 2 else ["Q4022"]) for name, found in types.items())
    assert json.loads((folder / "labels.json").read_text()) == ["Q4022", "Q515", "Q486972"]
    assert f"train {len(lines(folder / 'train.jsonl'))}, dev" in capsys.readouterr().out


def test_rare_types_are_left_out_and_mentions_without_any_counted(tmp_path, capsys):
    folder = make(tmp_path, "--min_examples", 15)
    assert json.loads((folder / "labels.json").read_text()) == ["Q4022", "Q515"]
    types = tmp_path / "types.json"
    write_json(types, {**{f"E{i}": ["a"] for i in range(20)}, "E3": ["a", "b"], "Q515": ["kind"]})
    make(tmp_path, "--min_examples", 5, "--types", types)
    rows = lines(folder / "train.jsonl") + lines(folder / "dev.jsonl")
    assert json.loads((folder / "labels.json").read_text()) == ["a", "kind"]
    found = {(row["sent"][row["start"] : row["end"]], *row["labels"]) for row in rows}
    assert {("Old Name3", "a"), ("Name3", "a"), ("town", "kind")} <= found
    assert not any("Land" in mention for mention, *_ in found)  # Q1 has no types
    mentions = 4 * 30  # two each; those of the last example are there already
    dropped = int(capsys.readouterr().out.splitlines()[-1].rsplit(maxsplit=1)[1])
    assert dropped == mentions - len(rows)


def test_the_originals_570_labels_keep_their_order(tmp_path):
    labels = read_labels(ROOT / "scripts" / "trex_et_labels.json")
    assert labels == golden_json("labels")["trex_entity_typing"]
    assert len(labels) == 570
    folder = make(tmp_path, "--labels", "original", "--min_examples", 1)
    assert read_labels(folder / "labels.json") == labels
    rows = lines(folder / "train.jsonl") + lines(folder / "dev.jsonl")
    assert {name for row in rows for name in row["labels"]} == {"Q4022"}  # the only one of ours among them


def test_the_same_input_gives_the_same_bytes_and_no_sentence_is_on_both_sides(tmp_path):
    folder = make(tmp_path, "--min_examples", 1, count=60)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    make(tmp_path, "--min_examples", 1, count=60)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    train, dev = ({row["sent"] for row in lines(folder / f"{split}.jsonl")} for split in ("train", "dev"))
    assert not train & dev
    assert 0 < len(dev) < len(train)


def test_few_mentions_of_each_type_are_left_in_train_and_documents_are_not_divided(tmp_path, capsys):
    rows = cleaned(tmp_path / "cleaned.jsonl", 60)
    write_jsonl(tmp_path / "cleaned.jsonl", [row | {"docid": f"d{i // 2 % 7}"} for i, row in enumerate(rows)])
    flags = [
        "--input",
        str(tmp_path / "cleaned.jsonl"),
        "--min_examples=2",
        "--split_by=document",
        "--dev_fraction=0.5",
    ]
    SUBSET.main([*flags, "--output_dir", str(tmp_path / "all")])
    SUBSET.main([*flags, "--output_dir", str(tmp_path / "few"), "--shots", "4"])
    train, dev, few = (lines(tmp_path / name) for name in ("all/train.jsonl", "all/dev.jsonl", "few/train.jsonl"))
    assert not {row["docid"] for row in train} & {row["docid"] for row in dev}
    assert lines(tmp_path / "few" / "dev.jsonl") == dev
    assert sorted(row["labels"] for row in few) == [["Q4022"]] * 4 + [["Q515"]] * 4
    assert all(row in train for row in few)
    assert f"dropped for --shots {len(train) - 8}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subj_end": 9}, r"record 1: subj_start 0 and subj_end 9 do not lie in the 6 words"),
        ({"obj_start": None}, r"record 1: obj_start null and obj_end 4 do not lie"),
        ({"relation": 3}, r"record 1: give token as a list of words and relation as a name"),
        ({"relation": "P17"}, r"0 mentions leave train or dev empty; lower --min_examples"),
    ],
)
def test_a_bad_example_is_refused_and_nothing_is_written(tmp_path, change, message):
    row = example("Old Name1 is a town .", (0, 1), (4, 4), "P31", ("E1", "Q515")) | change
    write_jsonl(tmp_path / "cleaned.jsonl", [row])
    with pytest.raises((ValueError, OSError), match=message):
        SUBSET.main(["--input", str(tmp_path / "cleaned.jsonl"), "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_file_of_types_of_another_form_is_refused(tmp_path):
    write_json(tmp_path / "types.json", ["Q515"])
    with pytest.raises(
        (ValueError, OSError), match=r"types\.json is not \{entity: \[type, \.\.\.\]\}; write a list of types"
    ):
        make(tmp_path, "--types", tmp_path / "types.json")


def test_an_adapter_learns_types_and_serves_as_the_typing_adapter(run, tmp_path):
    folder = make(tmp_path, "--min_examples", 1, count=60)
    flags = ("--objective", "entity_typing", "--data_dir", folder)
    report, made = run(FAC, *flags)
    assert {"precision", "recall", "f1"} <= set(report["dev"])
    assert report["best"]["f1"] == report["dev"]["f1"]
    head = load_file(made / "pretraining_head.safetensors")
    assert head["out_proj.weight"].shape[0] == 3
    rows = lines(made / "predictions_dev.jsonl")
    assert [row["labels"] for row in rows] == [row["labels"] for row in lines(folder / "dev.jsonl")]
    assert "_et" in made.name
    _, task = run(TYPING, f"--meta_et_adaptermodel={made}", steps=1)
    assert "_et" in task.name
    (folder / "labels.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"labels\.json is missing"):
        run(FAC, *flags, "--comment", "again")


def test_labels_that_cannot_be_written_leave_the_splits_as_they_were(tmp_path, monkeypatch):
    folder = make(tmp_path, "--min_examples", 1)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(path, value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SUBSET, "write_json", full)
    with pytest.raises(OSError, match=r"labels\.json cannot be written: No space left on device"):
        make(tmp_path, "--min_examples", 1, "--seed", 7)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
