"""scripts/reproduce.py: the commands of a table, what it lacks, and whole tables with tiny models."""

import argparse
import json
import re
import shlex
from dataclasses import replace

import pytest
from conftest import DEMO_BACKBONE, ROOT, SMALL, load_script
from documents import parse, program_of

from kadapter import AdapterConfig, KAdapterModel

reproduce = load_script("scripts/reproduce.py")
tables = load_script("scripts/paper_tables.py")
report = load_script("scripts/reproduce_report.py")
PUBLISHED = json.loads((ROOT / "scripts" / "published.json").read_text(encoding="utf-8"))


def printed(capsys, *flags):
    """What is missing, and the commands, that --print prints."""
    reproduce.main([*map(str, flags), "--print"])
    lines = capsys.readouterr().out.splitlines()
    lacking = [line for line in lines if line.startswith("# missing: ")]
    return lacking, [shlex.split(line) for line in lines if line not in lacking]


def test_a_table_is_a_command_for_each_line_and_seed(tmp_path, capsys):
    flags = ["--table", "2", "--only", "openentity", "--seeds", "1,2", "--output", tmp_path]
    lacking, commands = printed(capsys, *flags, "--print", "--", "--bf16", "True")
    assert any("fac-adapter/pytorch_model.bin: The authors' adapters" in line for line in lacking)
    assert len(commands) == 5 * 2
    assert all("--learning_rate" in command and "--bf16" in command for command in commands)
    assert len({command[-1] for command in commands}) == 10
    both = next(command for command in commands if "/K-Adapter-F+L/" in command[-1])
    assert sum("pytorch_model.bin" in word for word in both) == 2
    none = next(command for command in commands if "/RoBERTa/" in command[-1])
    assert not any("pytorch_model.bin" in word for word in none)
    lin = next(command for command in commands if "/K-Adapter-L/" in command[-1])
    assert lin.index("--warmup_steps=1000") > lin.index("--warmup_steps")  # the README's, and the last one wins


@pytest.mark.parametrize("table", tables.TABLES)
def test_every_command_of_every_table_is_one_that_its_recipe_takes(table, tmp_path, capsys, monkeypatch):
    more = ["--multitask", "output/multitask"] if table in "234" else []
    _, commands = printed(capsys, "--table", table, "--seeds", "1", "--output", tmp_path, *more)
    done = set()
    for command in commands:
        if command[0] == "bash":
            text = (ROOT / command[1]).read_text()
            (recipe,) = re.findall(r'examples/(\w+\.py)"', text)
            own = shlex.split(text[text.index(recipe) + len(recipe) + 1 :].replace("\\\n", " "))[:-1]
            words = ["python", f"examples/{recipe}", *own, *command[2:]]
        else:
            words = ["python", *command[1:]]
        path, arguments = program_of(words)
        if str(arguments) not in done:
            parse(path, arguments, monkeypatch)
        done.add(str(arguments))
    assert done


def test_what_is_missing_is_listed_before_anything_runs(tmp_path):
    flags = ["--table", "4", "--data", str(tmp_path), "--fac", str(tmp_path / "fac"), "--output", str(tmp_path / "out")]
    expected = r"3 things are missing.*fac: The authors' adapters.*TACRED, licensed.*by hand.*no SHA-256 known"
    with pytest.raises(FileNotFoundError, match=expected):
        reproduce.main([*flags, "--lin", str(tmp_path / "lin")])
    assert not (tmp_path / "out").exists()
    with pytest.raises(
        FileNotFoundError, match=r"1 things are missing.*CoLA, .*RTE: GLUE's nine tasks; python scripts/ge"
    ):
        reproduce.main(["--table", "glue", "--data", str(tmp_path), "--output", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--table", "4", "--only", "figer"], "--only names 'figer'; table 4 has tacred"),
        (["--table", "9"], "invalid choice: '9'"),
        (["--table", "4", "--seeds", "1,1"], "names a seed twice"),
        (["--table", "texts"], "this table cannot be reproduced here. Adapter-BERT, table 2 (17 sets of texts)"),
        (["--table", "glue", "--multitask", "x"], "--multitask is a line of the tables 2, 3 and 4, not of glue"),
        ([], "name a --table, or give --list"),
    ],
)
def test_flags_that_cannot_be_are_refused(flags, message, capsys):
    with pytest.raises(SystemExit):
        reproduce.main(flags)
    assert message in capsys.readouterr().err


def test_the_list_tells_runs_what_is_missing_and_what_cannot_be_had(capsys, tmp_path):
    reproduce.main(["--list", "--data", str(tmp_path)])
    out = capsys.readouterr().out
    assert "--table 2: K-Adapter, table 2: entity typing; 30 runs; 4 things are missing" in out
    assert "not here: ELMo, no masked language model of transformers" in out
    assert "not here: Adapter-BERT, table 2 (17 sets of texts)" in out


def test_every_published_line_is_run_or_said_why_not():
    args = argparse.Namespace(data=ROOT, fac="f", lin="l", multitask="m", model_name_or_path="x", table="")
    told = set()
    for table in tables.TABLES.values():
        for experiment in table.make(args):
            made = {line.row for line in experiment.lines}
            for view in experiment.views:
                for row in PUBLISHED.get(view.task, {}).get(view.split, []):
                    name = report.name_of(row["label"])
                    assert view.why or name in made or name in (table.not_here or {}), (view, name)
                told.add((view.task, view.split))
    everything = {(task, split) for task, splits in PUBLISHED.items() for split in splits}
    untold = {(task, split) for task, split in everything - told if split != "others" and task != "lama"}
    assert untold == {("texts", "test")}  # which --table texts refuses with the reason


def test_every_published_number_stands_in_the_page_with_its_line_and_source():
    page = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in page.splitlines() if line.startswith("|")
    ]
    for task, splits in PUBLISHED.items():
        for published in (row for part in splits.values() for row in part):
            name, _, source = published["label"].rpartition(" (")
            source = {"Houlsby)": "Houlsby et al."}.get(source, source.rstrip(")"))
            numbers = {value for key, value in published.items() if key != "label"}
            found = [
                row for row in rows if row[0] == name and row[1].startswith(source) and numbers <= set(map(number, row))
            ]
            assert found, f"{task}: {published}"
            assert found[0][-1] != ""  # which command, or why none


def number(cell):
    return float(cell) if re.fullmatch(r"[\d.]+", cell) else None


# -- the report ---------------------------------------------------------------------------------------------------


def entries(**changes):
    line = tables.Line("Adapters 64", [])
    other = tables.Line("Adapters 64", [], "20 epochs")
    lines = {
        "lines": [line, other, tables.Line("Alone", [])],
        "views": [tables.View("glue", "test", "dev", {"RTE": "accuracy"})],
    }
    experiment = tables.Experiment("RTE", [], "glue", ROOT, **{**lines, **changes})
    runs = {"metric": "accuracy", "trained_parameters": 2, "parameters": 100}
    reports = {
        "Adapters 64": [{**runs, "dev": {"accuracy": value}} for value in (0.5, 0.6)],
        "Adapters 64, 20 epochs": [{**runs, "dev": {"accuracy": value}} for value in (0.7, 0.8)],
        "Alone": [{**runs, "dev": {"accuracy": 0.4}}] * 2,
    }
    return report.reported(experiment, reports, PUBLISHED, tables.TABLES["glue"])


def test_of_several_ways_to_a_line_the_best_on_dev_stands_beside_the_published_number():
    found = {entry.setting: entry for entry in entries()}
    best = found["Adapters 64"]
    assert best.ours["RTE"] == pytest.approx([70, 80])
    assert best.variant == "20 epochs"
    assert best.published == {"RTE": 68.8}
    assert best.trained == 2.0
    assert found["Alone"].published == {}
    text = report.markdown(list(found.values()), tables.TABLES["glue"])
    assert "| RTE, dev | Adapters 64 (20 epochs) | RTE | 75.00 ± 7.07 | ± 63.53 | 68.80, Houlsby | +6.20 |" in text
    assert "do not compare" not in text
    assert "- These runs have mine, the published ones bert-large-uncased" in report.markdown(
        [best], tables.TABLES["glue"], "mine"
    )
    assert "| RTE, dev | Alone | RTE | 40.00 ± 0.00 | ± 0.00 | – | – |" in text
    assert "| RTE, dev | BERT-large | RTE 70.10 | no run of this script makes it |" in text


def test_what_may_not_be_compared_is_published_and_not_run():
    (entry, *_) = entries(views=[tables.View("cosmosqa", "test", "test", why="the labels are kept back")])
    assert (entry.ours, entry.why) == ({}, "the labels are kept back")
    others = [
        one for one in entries(views=[tables.View("tacred", "test", "dev", {"f1": "accuracy"})]) if "another" in one.why
    ]
    assert [one.setting for one in others][:2] == ["C-GCN", "BERT-base"]


def test_precision_recall_and_f1_of_published_lines_fit_together_but_for_one():
    odd = []
    for task, splits in PUBLISHED.items():
        for rows in splits.values():
            for row in rows:
                if "precision" in row:
                    expected = 2 * row["precision"] * row["recall"] / (row["precision"] + row["recall"])
                    odd += [(task, row["label"])] if abs(expected - row["f1"]) > 0.05 else []
    assert odd == [("openentity", "K-Adapter without knowledge (paper)")]  # the paper's own, which the table remarks


# -- whole tables -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    shape = AdapterConfig(adapter_list=(0, 1), adapter_size=16, num_attention_heads=2, intermediate_size=24)
    model = KAdapterModel.from_pretrained(DEMO_BACKBONE, adapters={"fac": shape, "lin": shape})
    for name in ("fac", "lin"):
        model.save_adapter(folder / name, name)
    return folder


def whole(tmp_path, table, data, adapters, *flags, own=()):
    given = ["--table", table, "--data", str(data), "--output", str(tmp_path / "o"), "--seeds", "1", *own]
    if table in ("2", "3", "4", "lama"):
        given += ["--fac", str(adapters / "fac"), "--lin", str(adapters / "lin")]
    return [*given, "--model_name_or_path", str(DEMO_BACKBONE), "--", *flags]


@pytest.mark.slow
def test_a_whole_table_is_made_and_stands_beside_the_published_one(world, tmp_path, capsys, adapters):
    own = ["--only", "openentity", "--multitask", str(DEMO_BACKBONE)]
    flags = whole(tmp_path, "2", world, adapters, *SMALL.split(), "--max_steps", "2", own=own)
    rows = reproduce.main(flags)
    test = [row for row in rows if row["split"] == "test" and row["ours"]]
    expected = {"RoBERTa": 76.23, "RoBERTa + multitask": 76.97, "K-Adapter F": 77.53, "K-Adapter L": 76.89}
    expected |= {"K-Adapter without knowledge": 76.17, "K-Adapter F+L": 77.61}
    assert {row["setting"]: row["published"]["f1"] for row in test} == expected
    for row in test:
        (found,) = (tmp_path / "o" / "openentity").glob(
            f"runs/{row['setting'].replace(' ', '-')}/seed-1/*/metrics.json"
        )
        assert row["ours"]["f1"] == [pytest.approx(100 * json.loads(found.read_text())["test"]["f1"])]
    dev = [row["setting"] for row in rows if row["split"] == "dev" and row["ours"]]
    assert dev == ["K-Adapter F", "K-Adapter L", "K-Adapter F+L"]  # the README's
    out = capsys.readouterr().out
    assert "| openentity, test | RoBERTa + multitask | f1 |" in out
    assert "| openentity, test | ERNIE | precision 78.42, recall 72.90, f1 75.56 | another system" in out
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "o").rglob("checkpoint-*/state.json")}
    assert len(stamps) >= 6
    assert reproduce.main(flags) == rows
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "o").rglob("checkpoint-*/state.json")} == stamps


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    head = "index\tsentence1\tsentence2\tgold_label\n"
    labels = ("entailment", "neutral", "contradiction")
    pairs = "".join(f"{i}\ta film {i}\tno film {i}\t{labels[i % 3]}\n" for i in range(12))
    sentences = "".join(f"gj04\t{i % 2}\t\twe sleep {i}\n" for i in range(12))
    for split in ("train", "dev_matched", "dev_mismatched", "dev"):
        for task, text in (("MNLI", head + pairs), ("CoLA", sentences)):
            path = folder / "glue" / task / f"{split}.tsv"
            if (task == "MNLI") == (split != "dev") or split == "train":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    return folder


@pytest.mark.slow
def test_the_curve_of_adapter_bert_is_run_and_drawn(glue, tmp_path, capsys, monkeypatch):
    kept = ("Full fine-tuning", "Adapters 1", "Adapters 64", "Adapters 512", "Head alone", "LayerNorm alone")
    real = reproduce.TABLES["tradeoff"]

    def few(args):
        found = real.make(args)
        assert {f"Adapters {2**n}" for n in range(10)} < {line.row for line in found[0].lines}
        return [replace(one, lines=[line for line in one.lines if line.row in kept]) for one in found]

    monkeypatch.setitem(reproduce.TABLES, "tradeoff", replace(real, make=few))
    small = ("--max_steps", "2", "--max_seq_length", "16", "--no_cuda", "--save_steps", "0")
    rows = reproduce.main(whole(tmp_path, "tradeoff", glue, None, *small))
    mnli = {row["setting"]: row for row in rows if row["data"] == "MNLI" and row["ours"]}
    assert [name for name in mnli if name.startswith("Adapters ")] == ["Adapters 64", "Adapters 1", "Adapters 512"]
    assert mnli["Adapters 64"]["published"] == {"accuracy": 83.7}
    assert mnli["Full fine-tuning"]["trained"] > 90 > mnli["Adapters 512"]["trained"] > mnli["Adapters 1"]["trained"]
    assert (tmp_path / "o" / "tradeoff.png").read_bytes()[:4] == b"\x89PNG"
    out = capsys.readouterr().out
    assert mnli["Adapters 1"]["trained"] > mnli["LayerNorm alone"]["trained"] > mnli["Head alone"]["trained"]
    assert "| MNLI, dev | Top layer | accuracy 77.80 | no run of this script makes it |" in out  # left out above
    assert "| CoLA, dev | Adapters 64 | matthews |" in out


@pytest.mark.slow
def test_lama_is_asked_and_each_way_of_the_head_stands_beside_the_papers(tmp_path, capsys, adapters):
    rows = ["Ann", "Bob"], ["Oslo", "Rome"]
    folder = tmp_path / "data" / "lama"
    (folder / "TREx").mkdir(parents=True)
    facts = [{"sub_label": subject, "obj_label": object_} for subject, object_ in zip(*rows, strict=True)]
    (folder / "TREx" / "P19.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    template = {"relation": "P19", "template": "[X] was born in [Y] .", "type": "N-1", "label": "born"}
    (folder / "relations.jsonl").write_text(json.dumps(template) + "\n")
    from kadapter.storage.pretrained import read_tokenizer

    tokenizer = read_tokenizer(DEMO_BACKBONE)
    words = [word[1:] for word in tokenizer.get_vocab() if re.fullmatch("Ġ[a-z]{2,}", word)][:50]
    (folder / "common_vocab_cased.txt").write_text("\n".join(words))
    text = (folder / "TREx" / "P19.jsonl").read_text().replace("Oslo", words[0]).replace("Rome", words[1])
    (folder / "TREx" / "P19.jsonl").write_text(text)
    own = ["--beside", "--uhn_model", str(DEMO_BACKBONE)]
    found = reproduce.main(whole(tmp_path, "lama", tmp_path / "data", adapters, "--no_cuda", own=own))
    asked = [row for row in found if row["data"] == "T-REx" and row["ours"]]
    assert [row["setting"] for row in asked] == ["RoBERTa-large", "K-Adapter F"]
    assert [row["published"]["p1"] for row in asked] == [27.1, 29.1]
    out = capsys.readouterr().out
    assert "| T-REx, all | ELMo | p1 0.20 | no masked language model of transformers |" in out
    assert "| T-REx, all | BERT-large | p1 33.90 | was not asked; give --beside |" in out
    assert "| Google-RE, all | RoBERTa-large | p1 4.80 | the data have nothing of it |" in out
