"""scripts/get_data.py: from a server with the releases' own layouts to folders that recipes read."""

import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY_ADAPTER, fast, load_script
from served import a_server  # noqa: F401

from kadapter.models.adapter import KnowledgeAdapter
from kadapter.tasks import TASKS

pytestmark = pytest.mark.usefixtures("unpainted")

GET = load_script("scripts/get_data.py")
SOURCES = load_script("scripts/data_sources.py")
CONVERT_MRPC = load_script("scripts/convert_mrpc.py")


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def zipped(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return stream.getvalue()


def tarred(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return stream.getvalue()


# -- the releases, tiny, in their own layouts ---------------------------------------------------------------------


def cosmosqa():
    header = "id,context,question,answer0,answer1,answer2,answer3,label\n"
    rows = "".join(f"i{n},It rained {n}.,Why?,a,b,c,d,{n % 4}\n" for n in range(4))
    test = {"id": "t", "context": "It rained.", "question": "Why?", **{f"answer{n}": "x" for n in range(4)}}
    return {"train.csv": header + rows, "valid.csv": header + rows.replace("i", "v"), "test.jsonl": jsonl([test])}


def openentity():
    row = {
        "left_context_token": ["We", "met"],
        "mention_span": "Ann",
        "right_context_token": ["."],
        "y_str": ["person"],
    }
    crowd = {split: jsonl([{**row, "annot_id": f"{split}{n}"} for n in range(3)]) for split in ("train", "dev", "test")}
    files = {f"release/crowd/{split}.json": text for split, text in crowd.items()}
    return {"ultrafine_acl18.tar.gz": tarred({**files, "release/distant_supervision/train.json": "not wanted"})}


def find_head():
    rows = ["1\tCats\tcat\tNOUN\t_\t_\t2\tnsubj\t_\t_", "2\tsleep\tsleep\tVERB\t_\t_\t0\troot\t_\t_"]
    text = "# text = Cats sleep\n" + "\n".join(rows) + "\n\n"
    return {f"en_ewt-ud-{split}.conllu": text for split in ("train", "dev")}


def squad(version="1.1"):
    qas = [{"id": "q", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]}]
    data = {"version": version, "data": [{"title": "", "paragraphs": [{"context": "Ann slept.", "qas": qas}]}]}
    return {f"{split}-v{version}.json": json.dumps(data) for split in ("train", "dev")}


def semeval():
    example = '{}\t"The <e1>fire</e1> was caused by a <e2>spark</e2>."\nCause-Effect(e2,e1)\nComment:\n\n'
    top = "SemEval2010_task8_all_data"
    files = {
        f"{top}/SemEval2010_task8_training/TRAIN_FILE.TXT": "".join(map(example.format, range(1, 21))),
        f"{top}/SemEval2010_task8_testing_keys/TEST_FILE_FULL.TXT": "".join(map(example.format, range(21, 24))),
    }
    return {f"{top}.zip": zipped(files)}


def glue():
    pair = {"sentence1": "a", "sentence2": "b"}
    columns = {
        "SST-2": {"sentence": "good", "label": "1"},
        "STS-B": {**pair, "score": "2.5"},
        "QQP": {"question1": "a", "question2": "b", "is_duplicate": "0"},
        "MNLI": {**pair, "gold_label": "neutral"},
        "QNLI": {"question": "a", "sentence": "b", "label": "entailment"},
        "RTE": {**pair, "label": "entailment"},
        "WNLI": {**pair, "label": "1"},
    }
    found = {"CoLA.zip": zipped({f"CoLA/{split}.tsv": "gj04\t1\t\tWe slept.\n" for split in ("train", "dev")})}
    for task, row in columns.items():
        table = "index\t" + "\t".join(row) + "\n0\t" + "\t".join(row.values()) + "\n"
        splits = ("train", "dev_matched", "dev_mismatched") if task == "MNLI" else ("train", "dev")
        name, top = {"QQP": ("QQP-clean.zip", "QQP-clean"), "QNLI": ("QNLIv2.zip", "QNLI")}.get(
            task, (f"{task}.zip", task)
        )
        found[name] = zipped({f"{top}/{split}.tsv": table for split in splits} | {f"__MACOSX/{top}/x": ""})
    head = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    found["msr_paraphrase_train.txt"] = head + "1\t10\t11\tHe left .\tHe went .\n0\t12\t13\tA .\tB .\n"
    found["msr_paraphrase_test.txt"] = head + "1\t20\t21\tHe left .\tHe went .\n"
    found["mrpc_dev_ids.tsv"] = "12\t13\n"
    return found


def lama():
    fact = {"sub_label": "Ann", "obj_label": "Oslo", "uuid": "1", "masked_sentences": ["Ann was born in [MASK] ."]}
    template = {"relation": "P19", "template": "[X] was born in [Y] .", "type": "N-1", "label": "place of birth"}
    files = {
        "data/relations.jsonl": jsonl([template]),
        "data/TREx/P19.jsonl": jsonl([fact]),
        "data/Google_RE/place_of_birth_test.jsonl": jsonl([{**fact, "judgments": [{"judgment": "yes"}]}]),
        "data/Squad/test.jsonl": jsonl([fact]),
    }
    return {"data.zip": zipped(files), "common_vocab_cased.txt": "Oslo\nAnn\n"}


def fewrel():
    def rows(name):
        one = {"tokens": ["Ann", "met", "Bob", name], "h": ["ann", "Q1", [[0]]], "t": ["bob", "Q2", [[2]]]}
        return [{**one, "tokens": ["Ann", "met", "Bob", f"{name}{n}"]} for n in range(80)]

    return {"train_wiki.json": json.dumps({"P1": rows("a")}), "val_wiki.json": json.dumps({"P2": rows("b")})}


def redocred():
    def document(n):
        ends = [
            [{"name": name, "pos": [at, at + 1], "sent_id": 0, "type": "PER"}] for name, at in (("Ann", 0), ("Bob", 2))
        ]
        labels = [{"r": "P26", "h": 0, "t": 1, "evidence": [0]}]
        return {"title": f"d{n}", "sents": [["Ann", "met", "Bob", str(n)]], "vertexSet": ends, "labels": labels}

    documents = json.dumps([document(n) for n in range(80)])
    return {f"{split}_revised.json": documents for split in ("train", "dev", "test")}


def trex():
    def document(n):
        text = f"Ann met Bob {n} ."
        at = [(0, 3), (4, 7), (8, 11), (12, 12 + len(str(n))), (13 + len(str(n)), 14 + len(str(n)))]
        ends = {
            name: {"boundaries": span, "uri": uri, "surfaceform": ""}
            for name, span, uri in (("subject", at[0], "Q1"), ("object", at[2], f"Q{n + 2}"))
        }
        triple = {"sentence_id": 0, **ends, "predicate": {"uri": "http://www.wikidata.org/prop/direct/P26"}}
        return {
            "docid": f"d{n}",
            "text": text,
            "sentences_boundaries": [(0, len(text))],
            "words_boundaries": at,
            "triples": [triple],
        }

    return {"TREx.zip": zipped({"re-nlg_0-10000.json": json.dumps([document(n) for n in range(80)])})}


def openqa():
    question = json.dumps({"question": "Who met Bob?", "answers": ["Ann"]}) + "\n"
    paragraphs = json.dumps([{"question": ["Who", "met", "Bob", "?"], "document": ["Ann", "met", "Bob", "."]}]) + "\n"
    files = {}
    for name in ("searchqa", "quasart"):
        for split in ("train", "dev", "test"):
            files |= {f"data/datasets/{name}/{split}.txt": question, f"data/datasets/{name}/{split}.json": paragraphs}
    return {"OpenQA_data.tar.gz": tarred({**files, "data/embeddings/glove": "not wanted"})}


RELEASES = {
    **{
        one.__name__: one
        for one in (cosmosqa, openentity, find_head, squad, semeval, glue, lama, fewrel, redocred, trex)
    },
    "searchqa": openqa,
    "quasart": openqa,
    "squad2": lambda: squad("2.0"),
}


@pytest.fixture
def served(server, monkeypatch):
    """Puts a source's release on the server, with the digests of its files, and runs converters in this process."""
    real = SOURCES.load_sources()

    def call(name, **changes):
        files = {key: text if isinstance(text, bytes) else text.encode() for key, text in RELEASES[name]().items()}
        server.files |= {f"/{key}": content for key, content in files.items()}
        parts = []
        for part in real[name].files:
            own = part.url.rpartition("/")[2] if part.url.rpartition("/")[2] in files else part.filename
            content = files[own]
            known = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} if part.sha256 else {}
            parts.append(replace(part, url=server.url(own), name=part.filename, **{**known, **changes}))
        source = replace(real[name], files=parts)
        monkeypatch.setattr(GET, "load_sources", lambda: {**real, name: source})

    def started(command, check):
        load_script(command[1][len(str(GET.ROOT)) + 1 :]).main(command[2:])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(GET, "subprocess", SimpleNamespace(run=started))
    return call


@pytest.mark.parametrize("name", fast(("openentity", "semeval", "squad", "redocred"), RELEASES))
def test_a_release_becomes_a_folder_that_its_recipe_reads(name, served, server, tmp_path, capsys):
    served(name)
    command = [name, "--output", str(tmp_path)]
    GET.main(command)
    out = capsys.readouterr().out
    source = SOURCES.load_sources()[name]
    assert f"into: {tmp_path / source.folder}" in out
    asked = len(server.asked)
    assert asked == len(source.files)
    for kind, below in source.check:
        if kind in TASKS:
            task = TASKS[kind].for_folder(tmp_path / source.folder / below)
            assert list(task.read(task.path(tmp_path / source.folder / below, "train"), "train")), kind
    GET.main(command)  # nothing is fetched twice
    assert len(server.asked) == asked
    GET.main([*command, "--verify"])
    assert not [path for path in tmp_path.rglob("*") if ".." in path.parts]


def test_searchqa_and_quasart_share_one_download(served, server, tmp_path):
    served("searchqa")
    GET.main(["searchqa", "--output", str(tmp_path)])
    served("quasart")
    GET.main(["quasart", "--output", str(tmp_path)])
    assert len(server.asked) == 1
    assert (tmp_path / "quasart" / "test.json").is_file()
    assert not list(tmp_path.rglob("glove"))


def test_a_file_that_is_another_one_than_is_known_stops_before_anything_is_made(served, tmp_path):
    served("cosmosqa", sha256="0" * 64)
    with pytest.raises(ValueError, match=r"train\.csv.* has the SHA-256 .* instead of 000"):
        GET.main(["cosmosqa", "--output", str(tmp_path)])
    assert not (tmp_path / "cosmosQA" / "train.jsonl").exists()


def test_what_is_licensed_is_told_step_by_step_and_verified_once_it_is_there(tmp_path, capsys, world):
    with pytest.raises(SystemExit) as ended:
        GET.main(["tacred", "--output", str(tmp_path)])
    assert ended.value.code == 1
    out = capsys.readouterr().out
    assert "by hand: Get the corpus from https://catalog.ldc.upenn.edu/LDC2018T24." in out
    assert f"error: tacred: {tmp_path / 'TACRED'} is not there yet." in out
    GET.main(["tacred", "--output", str(world), "--verify"])
    assert "note: train.json has" in capsys.readouterr().out  # of other sizes than the official ones
    (tmp_path / "TACRED").mkdir()
    (tmp_path / "TACRED" / "train.json").write_text('[{"token": ["a"], "relation": "per:sister"}]')
    with pytest.raises(SystemExit):
        GET.main(["tacred", "--output", str(tmp_path), "--verify"])
    assert "error: tacred: " in capsys.readouterr().out


def test_the_authors_adapters_are_known_by_their_shape(tmp_path, capsys, monkeypatch):
    for name in ("fac", "lin"):
        folder = tmp_path / "pretrained_models" / f"{name}-adapter"
        folder.mkdir(parents=True)
        torch.save(dict(KnowledgeAdapter(TINY_ADAPTER, 32).state_dict()), folder / "pytorch_model.bin")
    command = ["adapters", "--output", str(tmp_path / "data"), "--verify"]
    with pytest.raises(SystemExit):
        GET.main(command)
    assert "parameters instead of the 47,251,200 of the authors'" in capsys.readouterr().out
    count = sum(value.numel() for value in GET.read_adapter(tmp_path / "pretrained_models/fac-adapter")[1].values())
    monkeypatch.setattr(GET, "ADAPTER_PARAMETERS", count)
    GET.main(command)
    (tmp_path / "pretrained_models" / "lin-adapter" / "pytorch_model.bin").write_bytes(b"<html>sign in</html>")
    with pytest.raises(SystemExit):
        GET.main(command)
    assert "an HTML page instead of the file" in capsys.readouterr().out


def test_the_list_names_every_source_with_size_licence_and_way(capsys, tmp_path):
    GET.main(["--list", "--output", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(SOURCES.load_sources())
    (line,) = [line for line in lines if line.startswith("tacred ")]
    assert all(text in line for text in ("by hand", "LDC user agreement", " no "))
    (line,) = [line for line in lines if line.startswith("cosmosqa ")]
    assert all(text in line for text in ("23.3 MiB", "known", "CC BY 4.0"))


def test_what_would_be_done_is_shown_without_doing_it(capsys, tmp_path):
    GET.main(["openentity", "--show", "--output", str(tmp_path)])
    out = capsys.readouterr().out
    assert (
        "fetch: http://nlp.cs.washington.edu/entity_type/data/ultrafine_acl18.tar.gz (size unknown, no SHA-256" in out
    )
    assert f"then: python scripts/convert_ufet.py --input {tmp_path}/raw/openentity/crowd" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"), [(["figr"], "there is no 'figr'; choose of"), ([], "name what to fetch")]
)
def test_a_wrong_command_is_answered(flags, message, capsys):
    with pytest.raises(SystemExit):
        GET.main(flags)
    assert message in capsys.readouterr().err


def test_every_source_is_whole():
    for name, source in SOURCES.load_sources().items():
        assert bool(source.files) != bool(source.by_hand), name
        assert source.check
        assert all((source.licence, source.stated_by)), name
        for part in source.files:
            assert part.url.startswith(("https://", "http://nlp.cs.washington.edu/"))
            assert (part.sha256 is None) == (part.recorded == ""), part.url  # a digest has someone who says it
            assert part.sha256 is None or len(part.sha256) == 64
        for script, *_ in source.steps:
            assert (GET.ROOT / script).is_file()


def test_mrpc_needs_its_files_to_belong_together(tmp_path):
    for name, text in glue().items():
        if name.startswith(("msr", "mrpc")):
            (tmp_path / name).write_text(text)
    (tmp_path / "mrpc_dev_ids.tsv").write_text("12\t99\n")
    command = ["--input", str(tmp_path), "--output_dir", str(tmp_path / "MRPC")]
    with pytest.raises(ValueError, match=r"1 of 1 pairs, such as \('12', '99'\), are not in msr_paraphrase_train"):
        CONVERT_MRPC.main(command)
    (tmp_path / "mrpc_dev_ids.tsv").write_text("12\t13\n")
    CONVERT_MRPC.main(command)
    found = {split: (tmp_path / "MRPC" / f"{split}.tsv").read_text().splitlines() for split in ("train", "dev", "test")}
    assert [len(lines) for lines in found.values()] == [2, 2, 2]
    assert found["dev"][1] == "0\t12\t13\tA .\tB ."
    assert found["test"] == ["index\t#1 ID\t#2 ID\t#1 String\t#2 String", "0\t20\t21\tHe left .\tHe went ."]


@pytest.mark.slow
def test_converters_run_as_commands_of_their_own(served, tmp_path, monkeypatch):
    served("openentity")
    monkeypatch.setattr(GET, "subprocess", subprocess)
    GET.main(["openentity", "--output", str(tmp_path)])
    assert len(json.loads((tmp_path / "OpenEntity" / "train.json").read_text())) == 3
