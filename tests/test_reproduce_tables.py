"""scripts/reproduce.py: whole tables with tiny models and tiny data, by the real run scripts."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from conftest import DEMO_BACKBONE, ROOT, SMALL, load_script
from test_glue import write_task

from kadapter import AdapterConfig, KAdapterModel

reproduce = load_script("scripts/reproduce.py")
pytestmark = pytest.mark.slow
TINY = ["--max_steps", "2", "--save_steps", "1", "--eval_steps", "1", "--no_cuda", "--max_seq_length", "64"]
ACCUMULATED, WINDOWS = ["--gradient_accumulation_steps", "1"], ["--doc_stride", "8", "--max_query_length", "16"]
GLUE = {
    "CoLA": 56.9,
    "SST-2": 94.2,
    "MRPC": 89.6,
    "STS-B": 87.3,
    "QQP": 71.8,
    "MNLI-mm": 84.6,
    "QNLI": 91.4,
    "RTE": 68.8,
}


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


@pytest.fixture(scope="module")
def tiny_data(world, tmp_path_factory):
    """Data of all tables, in the folders in which they look for them."""
    folder = tmp_path_factory.mktemp("tables")
    names = {"OpenEntity": "OpenEntity", "FIGER": "FIGER", "cosmosQA": "cosmosQA", "TACRED": "TACRED", "squad": "squad"}
    for name, place in {**names, "searchqa": "questions", "quasart": "questions"}.items():
        shutil.copytree(world / place, folder / name)
    for task in reproduce.TABLES["glue"].make(reproduce.argparse.Namespace(data=folder, model_name_or_path="")):
        write_task(task.folder, task.name)
    return folder


KNOWLEDGE = ["RoBERTa", "K-Adapter F+L"]
WHOLE = {  # what is made -> table, its data sets, lines, flags, and in each data set a published number
    "typing": ("2", KNOWLEDGE, [], {"openentity": ("f1", 77.61), "figer": ("f1", 80.54)}),
    # CosmosQA's run script tells its length by --train_steps, which sets max_steps.
    "cosmosqa": ("3", KNOWLEDGE, [*ACCUMULATED, "--train_steps", "2"], {"cosmosqa": ("accuracy", 80.9)}),
    "questions": ("3", KNOWLEDGE, [], {"searchqa": ("exact_match", 61.96), "quasart": ("f1", 53.0)}),
    "tacred": ("4", ["K-Adapter without knowledge", "K-Adapter F+L"], [], {"tacred": ("f1", 72.04)}),
    "glue": (
        "glue",
        ["BERT-large", "Adapters 64"],
        [],
        {name.removesuffix("-mm"): (name, value) for name, value in GLUE.items()},
    ),
    "mrpc": ("mrpc", ["MRPC, BERT-base, adapters 64"], [], {"MRPC": ("accuracy", 85.78)}),
    "squad": ("squad", ["Full fine-tuning", "Adapters 64"], WINDOWS, {"squad": ("f1", 90.4)}),
}


@pytest.mark.parametrize("name", WHOLE)
def test_every_table_is_made_by_its_real_commands_two_at_a_time(name, tiny_data, adapters, tmp_path, capsys):
    table, lines, flags, expected = WHOLE[name]
    seeds = "1" if table == "glue" else "1,2"
    own = ["--only", *expected, "--lines", *lines, "--workers", "2", "--seeds", seeds]
    rows = reproduce.main(whole(tmp_path, table, tiny_data, adapters, *TINY, *flags, own=own))
    made = {}
    for row in rows:
        if row["ours"]:
            assert all(len(scores) == len(seeds.split(",")) for scores in row["ours"].values())
            made.setdefault(row["data"], []).append(row)
    for data, (metric, published) in expected.items():
        assert {row["setting"] for row in made[data]} == {*lines}
        assert [row["ours"][metric] for row in made[data] if row["published"].get(metric) == published]
    out = capsys.readouterr().out
    assert "do not compare them" in out
    assert (tmp_path / "o" / "reproduce.md").read_text() == out[out.index("# ") :]


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("checkpoint-*/state.json")}


def test_a_failed_run_is_told_the_others_go_on_and_it_alone_is_run_again(tiny_data, adapters, tmp_path, capsys):
    broken = tmp_path / "adapters"
    shutil.copytree(adapters, broken)
    weights = broken / "fac" / "adapter_model.safetensors"
    right = weights.read_bytes()
    weights.write_bytes(right[:100])
    own = ["--lines", "K-Adapter F", "RoBERTa", "--only", "openentity"]
    flags = whole(tmp_path, "2", tiny_data, broken, *TINY, own=own)
    with pytest.raises(ChildProcessError, match="1 of 2 runs failed, such as openentity, K-Adapter F with seed 1"):
        reproduce.main(flags)
    text = (tmp_path / "o" / "reproduce.md").read_text()
    assert "| openentity, test | RoBERTa | f1 |" in text
    assert "| openentity, test | K-Adapter F | precision 79.30, recall 75.84, f1 77.53 | all its runs failed |" in text
    assert re.search(r"- openentity, K-Adapter F with seed 1: exit \d+, see .*adapter_model.safetensors", text)
    done = stamps(tmp_path / "o" / "openentity" / "runs" / "RoBERTa")
    weights.write_bytes(right)
    rows = reproduce.main(flags)
    assert {row["setting"] for row in rows if row["ours"]} == {"RoBERTa", "K-Adapter F"}
    assert stamps(tmp_path / "o" / "openentity" / "runs" / "RoBERTa") == done
    assert "Failed" not in (tmp_path / "o" / "reproduce.md").read_text()


def test_printed_commands_run_as_they_are_printed_and_the_table_takes_what_they_left(
    tiny_data, adapters, tmp_path, capsys
):
    own = ["--lines", "RoBERTa", "K-Adapter F+L"]
    flags = whole(tmp_path, "4", tiny_data, adapters, *TINY, own=own)
    reproduce.main([*flags[: flags.index("--")], "--print", *flags[flags.index("--") :]])
    commands = tmp_path / "commands.txt"
    commands.write_text(capsys.readouterr().out)
    assert len(commands.read_text().splitlines()) == 2
    subprocess.run(["bash", "-e", str(commands)], check=True, cwd=tmp_path, capture_output=True)
    left = stamps(tmp_path / "o")
    assert len({path.parents[2] for path in left}) == 2
    rows = reproduce.main(flags)
    assert {row["setting"] for row in rows if row["ours"]} == {"RoBERTa", "K-Adapter F+L"}
    assert stamps(tmp_path / "o") == left


def test_a_killed_table_goes_on_from_the_checkpoint_to_the_same_scores(tiny_data, adapters, tmp_path):
    own = ["--lines", "RoBERTa", "--seeds", "1"]
    long = [*TINY, "--max_steps", "20", "--eval_steps", "10"]
    rows = reproduce.main(whole(tmp_path / "unbroken", "4", tiny_data, adapters, *long, own=own))
    flags = whole(tmp_path / "broken", "4", tiny_data, adapters, *long, own=own)
    started = subprocess.Popen([sys.executable, str(ROOT / "scripts" / "reproduce.py"), *flags])
    runs = tmp_path / "broken" / "o" / "tacred" / "runs"
    while not stamps(runs):
        assert started.poll() is None
        time.sleep(0.05)
    started.terminate()  # which it hands on to the recipe
    assert started.wait() == 128 + signal.SIGTERM
    assert not list(runs.rglob("metrics.json"))
    assert reproduce.main(flags) == rows
    log = (runs / "RoBERTa" / "seed-1" / "log.txt").read_text()
    assert "checkpoint" in log


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
