"""examples/run_predict.py: rows of any form in, answers in their order out; resumed, refused, named."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, load_script, slow
from test_predictor import lines, task_model

from kadapter import KAdapterModel, Predictor, TaskModel
from kadapter.inference import predictor
from kadapter.tasks.glue import SST2
from kadapter.training.task import saved_task

PREDICT = load_script("examples/run_predict.py")
TASK = SST2(labels=("bad", "good"))
TEXTS = [f"word {i} " * (1 + 3 * i % 7) for i in range(20)]


@pytest.fixture
def folder(tiny_backbone_config, tokenizer, tmp_path):
    place = tmp_path / "model"
    task_model(tiny_backbone_config, tokenizer, TASK).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def predict(folder, given, output, *flags):
    command = ["--model", str(folder), "--input", str(given), "--output", str(output), "--no_cuda", *flags]
    return PREDICT.main(command)


def write(path, texts):
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "sentence", "label"])
            rows.writerows([i, text, "?"] for i, text in enumerate(texts))
    elif path.suffix == ".parquet":
        pq.write_table(pa.table({"sentence": texts}), path)
    elif path.suffix == ".txt":
        path.write_text("\n".join(texts) + "\n")
    else:
        rows = [json.dumps({"text": text}) for text in texts]
        path.write_text("\n".join(rows) if path.suffix == ".jsonl" else f"[{','.join(rows)}]")
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.txt", "a.parquet"])
def test_rows_of_every_form_are_answered_in_their_order(folder, tmp_path, name):
    given = write(tmp_path / name, TEXTS)
    counts = predict(folder, given, tmp_path / "out.jsonl")
    assert counts == {"rows": 20, "bad": 0}
    found, expected = lines(tmp_path / "out.jsonl"), Predictor(folder)(TEXTS)
    first = 2 if name == "a.csv" else 1  # the line behind the header
    assert [row.pop("row") for row in found] == list(range(first, first + 20))
    for row, answer in zip(found, expected, strict=True):
        assert row["label"] == answer["label"]
        assert row["scores"] == pytest.approx(answer["scores"], abs=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted([name, "out.jsonl"])


def test_a_bad_row_is_named_before_anything_is_written_or_marked_and_passed_by(folder, tmp_path):
    given = write(tmp_path / "a.jsonl", [*TEXTS[:3], " ", *TEXTS[3:]])
    with pytest.raises(ValueError, match=r"a.jsonl, record 4: .* holds no text.*With --skip_bad_rows the other rows"):
        predict(folder, given, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
    assert predict(folder, given, tmp_path / "bad.jsonl", "--skip_bad_rows") == {"rows": 21, "bad": 1}
    rows = lines(tmp_path / "bad.jsonl")
    assert [row["row"] for row in rows] == list(range(1, 22))
    assert rows[3].keys() == {"row", "error"}


def test_a_start_that_was_broken_off_goes_on_and_gives_the_same_bytes(folder, tmp_path, monkeypatch):
    given = write(tmp_path / "a.jsonl", TEXTS)
    monkeypatch.setattr(PREDICT, "WINDOW", 1)
    flags = ("--batch_size", "4")
    predict(folder, given, tmp_path / "whole.jsonl", *flags)
    answered = []

    def broken(self, batch, *rest):
        if len(answered) == 3:
            raise KeyboardInterrupt
        answered.append(len(batch))
        return original(self, batch, *rest)

    original = predictor.Predictor.answers
    monkeypatch.setattr(predictor.Predictor, "answers", broken)
    with pytest.raises(KeyboardInterrupt):
        predict(folder, given, tmp_path / "out.jsonl", *flags)
    assert not (tmp_path / "out.jsonl").exists()
    with (tmp_path / ".out.jsonl.part").open("a") as file:
        file.write('{"row": 13, "lab')  # what a kill left of an answer
    answered[:] = []
    monkeypatch.setattr(predictor.Predictor, "answers", original)
    answers = []
    monkeypatch.setattr(
        predictor.Predictor, "answers", lambda self, batch, *r: answers.append(len(batch)) or original(self, batch, *r)
    )
    predict(folder, given, tmp_path / "out.jsonl", *flags)
    assert sum(answers) == 8
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_start_with_another_input_or_model_is_refused(folder, tmp_path, monkeypatch, tiny_backbone_config, tokenizer):
    given = write(tmp_path / "a.jsonl", TEXTS)
    monkeypatch.setattr(PREDICT, "WINDOW", 1)
    original = predictor.Predictor.answers
    monkeypatch.setattr(
        predictor.Predictor, "answers", lambda self, batch, *r: calls.pop() and original(self, batch, *r)
    )
    calls = [1]
    with pytest.raises(IndexError):
        predict(folder, given, tmp_path / "out.jsonl", "--batch_size", "4")
    calls = [1] * 99
    write(given, TEXTS[::-1])
    with pytest.raises(ValueError, match=r"was begun with another input; delete it and \.out\.jsonl\.state\.json"):
        predict(folder, given, tmp_path / "out.jsonl")
    write(given, TEXTS)
    task_model(tiny_backbone_config, tokenizer, TASK, seed=1).save_pretrained(folder)
    with pytest.raises(ValueError, match=r"was begun with another weights"):
        predict(folder, given, tmp_path / "out.jsonl")


def test_a_task_saved_alone_is_taken_with_its_backbone(tiny_backbone, tokenizer, tmp_path):
    encoder = KAdapterModel.from_pretrained(tiny_backbone)
    model = TaskModel.from_encoder(encoder, TASK.head_config(32, encoder.config.vocab_size))
    model.config.task = saved_task(TASK, 32)
    model.save_task(tmp_path / "task")
    given = write(tmp_path / "a.txt", TEXTS)
    command = ["--input", str(given), "--output", str(tmp_path / "out.jsonl"), "--no_cuda"]
    task = ["--task_folder", str(tmp_path / "task"), "--model_name_or_path", str(tiny_backbone)]
    assert PREDICT.main([*command, *task]) == {"rows": 20, "bad": 0}
    expected = Predictor(tmp_path / "task", backbone=tiny_backbone)(TEXTS)
    assert [row["label"] for row in lines(tmp_path / "out.jsonl")] == [answer["label"] for answer in expected]
    with pytest.raises(ValueError, match="holds only what a task adds; give its backbone"):
        PREDICT.main([*command, *task[:2]])
    with pytest.raises(ValueError, match="give --model, or --task_folder"):
        PREDICT.main(command)
    with pytest.raises(ValueError, match="are for --task_folder; leave them out"):
        PREDICT.main([*command, "--model", "x", "--model_name_or_path", "y"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", None, "a.jsonl is not there"),
        ("a.jsonl", "", "a.jsonl is empty"),
        ("a.csv", "id,sentence\n", "a.csv"),
        ("a.jsonl", '{"other": 1}\n', "record 1: .* holds no text; give one, or a dictionary with 'sentence'"),
    ],
)
def test_an_input_that_holds_nothing_to_answer_is_refused(folder, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises((ValueError, OSError), match=message):
        predict(folder, tmp_path / name, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.slow
def test_a_killed_process_is_gone_on_with(folder, tmp_path):
    given = write(tmp_path / "a.txt", TEXTS * 400)
    command = [sys.executable, str(ROOT / "examples" / "run_predict.py"), "--model", str(folder), "--no_cuda"]
    command += ["--input", str(given), "--batch_size", "2", "--output"]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads that wait for each other take minutes on a busy machine
    process = subprocess.Popen([*command, str(tmp_path / "out.jsonl")], env=alone)
    state = tmp_path / ".out.jsonl.state.json"
    while not state.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < json.loads(state.read_text())["counts"]["rows"] < 8000
    for name in ("out.jsonl", "whole.jsonl"):
        subprocess.run([*command, str(tmp_path / name)], check=True, env=alone)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("name", ["run_finetune_classification_adapter", slow("run_pretrain_fac_adapter")])
def test_a_run_ends_with_the_next_command(run, name, tmp_path, caplog):
    """It is followed here to its end: a prediction, or a fine-tuning that takes the adapter."""
    caplog.set_level("INFO")
    _, folder = run(load_script(f"examples/{name}.py"), steps=2)
    (told,) = [record.getMessage() for record in caplog.records if "the best model in" in record.getMessage()]
    assert f"scores are in {folder / 'metrics.json'}" in told
    if "predict:" in told:
        (tmp_path / "new.csv").write_text("text\nZorvel is here.\n", encoding="utf-8")
        words = told.split("run_predict.py ")[1].replace("FILE", str(tmp_path / "new.csv")).split()
        words[-1] = str(tmp_path / words[-1])
        load_script("examples/run_predict.py").main(words)
        assert len((tmp_path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 1
    else:
        _, tuned = run(load_script("examples/run_finetune_openentity_adapter.py"), *told.split("recipe: ")[1].split())
        assert json.loads((tuned / "best" / "config.json").read_text(encoding="utf-8"))["adapters"].keys() == {"fac"}
