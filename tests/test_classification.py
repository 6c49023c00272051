"""Classification of one's own tables: columns, kinds of labels, the dev part, scores, and the recipe on tiny models."""

import csv
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import load_script, slow
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from torch.nn import functional as F

from kadapter import Predictor, TaskModel
from kadapter.models.heads import ClassificationHead, MultiLabelHead
from kadapter.shapes import HeadConfig
from kadapter.tasks.classification import Classification
from kadapter.tasks.confusion import draw_confusion
from kadapter.tasks.held_out import held_out_rows
from kadapter.tasks.label_scores import multi_label_scores, number_scores, single_label_scores

CLASSIFY = load_script("examples/run_finetune_classification_adapter.py")
PREDICT = load_script("examples/run_predict.py")
WORDS = ["good", "bad", "fair"]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(path, header, rows):
    path.parent.mkdir(exist_ok=True, parents=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path.parent


def single(place, header=("text", "label"), count=60, labels=WORDS):
    """Rows whose text says the label."""
    rows = [
        [f"{WORDS[i % len(labels)]} {WORDS[i % len(labels)]} {WORDS[i % len(labels)]}", labels[i % len(labels)]]
        for i in range(count)
    ]
    return table(place / "train.csv", header, rows)


def read(place, split="train", **options):
    task = Classification.for_folder(place, **options)
    return task, list(task.read(task.path(place, split), split))


# -- columns -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (("text", "label"), ("text", "", "label")),
        (("Review", "Sentiment"), ("Review", "", "Sentiment")),
        (("id", "sentence1", "sentence2", "label"), ("sentence1", "sentence2", "label")),
        (("premise", "hypothesis", "target"), ("premise", "hypothesis", "target")),
        (("words_of_hers", "label"), ("words_of_hers", "", "label")),  # the only one that is left
    ],
)
def test_columns_are_guessed_from_the_header_and_said(tmp_path, caplog, header, expected):
    caplog.set_level("INFO")
    kinds = {"label": lambda i: WORDS[i % 2], "id": str}
    names = [name.lower() if name.lower() in kinds else name for name in header]
    rows = [[WORDS[i % 2] if name == expected[2] else f"{name} {WORDS[i % 2]}" for name in names] for i in range(40)]
    task = Classification.for_folder(table(tmp_path / "train.csv", header, rows))
    assert (task.text_column, task.pair_column, task.label_column) == expected
    (said,) = [record.message for record in caplog.records if "labels in" in record.message]
    assert repr(expected[0]) in said
    assert f"labels in {expected[2]!r}; single_label_classification, 2 labels" in said


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        (
            ("title", "text", "label"),
            {},
            "which column holds the texts; give --text_column: .*'title', 'text'",
        ),
        (("text", "label", "topic"), {}, "not clear which column holds the labels; give --label_column: .*'topic'"),
        (("a", "b", "c"), {}, "give --label_column: its columns are 'a', 'b', 'c'"),
        (
            ("text", "label"),
            {"text_column": "txt"},
            "no column 'txt' for --text_column; its columns are 'text'",
        ),
        (("text", "label"), {"text_column": "label", "label_column": "label"}, "one column cannot be two of"),
    ],
)
def test_columns_that_are_not_clear_are_refused_with_all_there_are(tmp_path, header, options, message):
    table(tmp_path / "train.csv", header, [[*"abc"][: len(header)]] * 4)
    with pytest.raises(ValueError, match=message):
        Classification.for_folder(tmp_path, **options)


def test_all_forms_of_files_give_the_same_examples(tmp_path):
    rows = [{"text": f"It is {WORDS[i % 2]}, {i}.", "label": WORDS[i % 2]} for i in range(40)]
    table(tmp_path / "csv" / "train.csv", [*rows[0]], [[*row.values()] for row in rows])
    for name in ("tsv", "jsonl", "parquet"):
        (tmp_path / name).mkdir()
    text = "\n".join("\t".join(row.values()) for row in rows)
    (tmp_path / "tsv" / "train.tsv").write_text("text\tlabel\n" + text + "\n")
    (tmp_path / "jsonl" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "parquet" / "train.parquet")
    found = []
    for name in ("csv", "tsv", "jsonl", "parquet"):
        task, train = read(tmp_path / name, label_column="label")
        dev = list(task.read(task.path(tmp_path / name, "dev"), "dev"))
        found.append([[(example["texts"], example["labels"]) for example in part] for part in (train, dev)])
    assert found[0] == found[1] == found[2] == found[3]
    assert (len(found[0][0]), len(found[0][1])) == (36, 4)


# -- kinds of labels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind", "labels"),
    [
        (["b", "a"], "single_label_classification", ("a", "b")),
        (["1.0", "0.0", "10.0"], "single_label_classification", ("0", "1", "10")),
        (["True", "False"], "single_label_classification", ("False", "True")),
        (['["a", "b"]', "[]", '["b"]'], "multi_label_classification", ("a", "b")),
        (["0.5", "2", "3.25"], "regression", ()),
    ],
)
def test_what_labels_are_is_seen_in_them(tmp_path, values, kind, labels):
    rows = [[f"Text {i}.", values[i % len(values)]] for i in range(30)]
    for column in ("label", "rating"):  # the first is read as JSON
        table(tmp_path / "train.csv", ("text", column), rows)
        task = Classification.for_folder(tmp_path)
        assert task.problem_type == kind
        assert tuple(label.lower() for label in task.labels) == tuple(label.lower() for label in labels)


def test_several_labels_in_a_cell_are_parted_by_the_separator(tmp_path):
    values = ["a; b", "", "b", "a;b"]
    table(tmp_path / "train.csv", ("text", "labels"), [[f"Text {i}.", values[i % 4]] for i in range(40)])
    task, found = read(tmp_path, label_separator=";", dev_share=0.2)
    assert (task.problem_type, task.labels) == ("multi_label_classification", ("a", "b"))
    assert {tuple(example["labels"]) for example in found} == {("a", "b"), (), ("b",)}
    assert all(example["known"] for example in found)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["same"], "holds only the label 'same' in 50 rows, of which nothing can be learnt"),
        ([""], "holds no labels in 50 rows"),
        ([f"id {i}" for i in range(50)], "holds 50 different labels in 50 rows, fewer than 2 rows for each"),
        ([str(i) for i in range(50)], "50 different whole numbers, which may be amounts or classes"),
    ],
)
def test_labels_of_which_nothing_can_be_learnt_are_refused(tmp_path, values, message):
    table(tmp_path / "train.csv", ("text", "label"), [[f"Text {i}.", values[i % len(values)]] for i in range(50)])
    with pytest.raises(ValueError, match=message):
        Classification.for_folder(tmp_path)


@pytest.mark.slow
def test_a_hundred_thousand_labels_are_refused(tmp_path):
    with (tmp_path / "train.csv").open("w") as file:
        file.write("text,label\n" + "".join(f"a,l{i}\n" for i in range(100_000)))
    with pytest.raises(ValueError, match="100,000 different labels in 100,000 rows"):
        Classification.for_folder(tmp_path)


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("single", ["", "good"], "the 'text' is \"\"; give a text or take the row out"),
        ("single", ["It is.", ""], "the label is empty"),
        ("single", ["It is.", "NaN"], 'the label is "NaN"; mend it'),
        ("single", ["It is.", "odd"], '"odd" is not among the 3 labels of train; mend it, or name all'),
        ("number", ["It is.", "NaN"], "is not a finite number"),
        ("number", ["It is.", "much"], "is not a finite number"),
    ],
)
def test_a_bad_row_of_dev_is_refused_with_its_line(tmp_path, kind, row, message):
    labels = WORDS if kind == "single" else ["0.5", "1.5", "2.5"]
    single(tmp_path, labels=labels)
    table(tmp_path / "dev.csv", ("text", "label"), [["It is good.", labels[0]], row])
    task = Classification.for_folder(tmp_path)
    with pytest.raises(ValueError, match=rf"dev\.csv, line 3: .*{message}"):
        list(task.read(tmp_path / "dev.csv", "dev"))


def test_a_nan_in_train_is_a_bad_row_and_not_a_label(tmp_path):
    rows = [["a text", "nan" if i == 5 else str(i / 7)] for i in range(40)]
    table(tmp_path / "train.csv", ("text", "score"), rows)
    with pytest.raises(ValueError, match=r"train\.csv, line 7: the label \"nan\" is not a finite number"):
        read(tmp_path)


def test_labels_that_differ_in_capitals_and_blanks_alone_are_said_with_their_rows(tmp_path, caplog):
    single(tmp_path)
    Classification.for_folder(tmp_path)
    assert "differ in capitals" not in caplog.text
    rows = [["a text", label] for label in ("good", "Good", "bad", "not  so", "Not so", "good") * 3]
    table(tmp_path / "train.csv", ("text", "label"), rows)
    assert len(Classification.for_folder(tmp_path).labels) == 5
    assert "alone and are kept apart: 'Good' (3 rows), 'good' (6 rows)." in caplog.text
    assert "'Not so' (3 rows), 'not  so' (3 rows)." in caplog.text


def test_labels_of_a_test_file_are_there_for_all_rows_or_for_none(tmp_path):
    single(tmp_path)
    task = Classification.for_folder(tmp_path)
    table(tmp_path / "test.csv", ("text",), [["It is good."]])
    (example,) = task.read(tmp_path / "test.csv", "test")
    assert not example["known"]
    table(tmp_path / "test.csv", ("text", "label"), [["a", "good"], ["b", ""]])
    with pytest.raises(ValueError, match=r"line 3: of this file some rows have a label and others have none"):
        list(task.read(tmp_path / "test.csv", "test"))
    with pytest.raises(FileNotFoundError, match=r"train\.csv is missing"):
        Classification.for_folder(tmp_path / "none")


def test_labels_from_a_file_have_its_order_and_may_be_more(tmp_path):
    single(tmp_path)
    (tmp_path / "labels.json").write_text(json.dumps(["bad", "fair", "good", "great"]))
    task, _ = read(tmp_path, labels=tmp_path / "labels.json")
    assert task.labels == ("bad", "fair", "good", "great")
    with pytest.raises(ValueError, match="the label 'great' has no row in train; leave --class_weights out"):
        Classification.for_folder(tmp_path, tmp_path / "labels.json", class_weights="balanced")


# -- the dev part ------------------------------------------------------------------------------------------------


def test_the_dev_part_is_stratified_seeded_and_apart_from_train(tmp_path, caplog):
    caplog.set_level("INFO")
    labels = ["good"] * 80 + ["bad"] * 20
    rows = [[f"Text {i}.", label] for i, label in enumerate(labels)]
    table(tmp_path / "train.csv", ("text", "label"), rows)
    task, train = read(tmp_path)
    dev = list(task.read(task.path(tmp_path, "dev"), "dev"))
    assert "there is no dev file; 10 % of the rows are dev" in caplog.text
    assert Counter(example["labels"][0] for example in dev) == {"good": 8, "bad": 2}
    assert sorted(example["record"] for example in [*train, *dev]) == list(range(2, 102))
    other, _ = read(tmp_path, split_seed=7)
    assert [e["record"] for e in other.read(task.path(tmp_path, "dev"), "dev")] != [e["record"] for e in dev]
    assert task.key(task.path(tmp_path, "dev"), "dev") != task.key(task.path(tmp_path, "train"), "train")


def test_labels_of_one_row_stay_in_train_and_too_small_a_part_is_refused(tmp_path):
    rows = [(i, "ab"[i % 2]) for i in range(40)] + [(40, "once")]
    for seed in range(5):
        found = held_out_rows(rows, 0.1, seed, tmp_path)
        assert len(found) == 4
        assert 40 not in found
    with pytest.raises(ValueError, match="1 of 8 rows would be dev, with 4 kinds of labels; give a dev file"):
        held_out_rows([(i, i % 4) for i in range(8)], 0.1, 0, tmp_path)


# -- losses and scores -------------------------------------------------------------------------------------------


def test_class_weights_are_scikit_learns_and_weigh_the_loss(tmp_path):
    from sklearn.utils.class_weight import compute_class_weight

    labels = ["good"] * 30 + ["bad"] * 10
    table(tmp_path / "train.csv", ("text", "label"), [["It is.", label] for label in labels])
    task = Classification.for_folder(tmp_path, class_weights="balanced")
    expected = compute_class_weight("balanced", classes=np.array(["bad", "good"]), y=np.array(labels))
    assert task.weights == pytest.approx(expected.tolist())
    assert task.key(tmp_path / "train.csv", "train") == Classification.for_folder(tmp_path).key(
        tmp_path / "train.csv", "train"
    )
    head = ClassificationHead(HeadConfig("classification", 2), 4, 0.0)
    features, gold = torch.randn(6, 1, 4), torch.tensor([0, 1, 1, 0, -100, 1])
    plain = head(features, gold)
    head.class_weights = torch.tensor(task.weights)
    losses = F.cross_entropy(plain.logits, gold, ignore_index=-100, reduction="none")
    weights = torch.tensor(task.weights)[gold.clamp(min=0)] * (gold != -100)
    assert head(features, gold).loss.item() == pytest.approx(((losses * weights).sum() / 5).item(), rel=1e-5)
    assert "class_weights" not in head.state_dict()


def test_the_loss_of_several_labels_is_the_mean_over_those_that_are_known():
    head = MultiLabelHead(HeadConfig("multi_label", 3), 4, 0.0)
    features = torch.randn(3, 1, 4)
    gold = torch.tensor([[0, 1, 1], [-100, -100, -100], [1, 0, 0]])
    output = head(features, gold)
    known = output.logits[[0, 2]]
    expected = F.binary_cross_entropy_with_logits(known, gold[[0, 2]].float())
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    head.class_weights = torch.tensor([1.0, 2.0, 3.0])
    weighed = F.binary_cross_entropy_with_logits(known, gold[[0, 2]].float(), pos_weight=head.class_weights)
    assert head(features, gold).loss.item() == pytest.approx(weighed.item(), rel=1e-5)


def test_scores_are_scikit_learns():
    rng = np.random.default_rng(0)
    gold, logits = rng.integers(4, size=200), rng.normal(size=(200, 4))
    logits[np.arange(200), gold] += 1
    found = single_label_scores(logits, gold)
    assert found["accuracy"] == accuracy_score(gold, logits.argmax(1)) == pytest.approx(found["micro_f1"])
    assert found["macro_f1"] == pytest.approx(f1_score(gold, logits.argmax(1), average="macro"))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert found["auroc"] == pytest.approx(roc_auc_score(gold, shares, multi_class="ovr"))
    two = single_label_scores(logits[:, :2], gold % 2)
    assert two["auroc"] == pytest.approx(roc_auc_score(gold % 2, logits[:, 1] - logits[:, 0]))
    present = (rng.random((200, 3)) < 0.3).astype(int)
    several = multi_label_scores(logits[:, :3], present)
    assert several["micro_f1"] == pytest.approx(f1_score(present, logits[:, :3] > 0, average="micro"))
    assert several["auroc"] == pytest.approx(roc_auc_score(present, logits[:, :3], average="macro"))
    assert "auroc" not in single_label_scores(logits, np.zeros(200, dtype=int))
    numbers = number_scores(gold + 0.0, gold + 0.0)
    assert numbers == pytest.approx({"pearson": 1.0, "spearman": 1.0, "rmse": 0.0})


@pytest.mark.parametrize("count", [2, slow(25), slow(90)])
def test_the_confusion_matrix_is_drawn_for_any_number_of_labels(tmp_path, count):
    rng = np.random.default_rng(0)
    gold, labels = rng.integers(count, size=300), [f"label number {i} of many" for i in range(count)]
    draw_confusion(tmp_path / "a.png", rng.integers(count, size=300), gold, labels, "test")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


# -- the recipe --------------------------------------------------------------------------------------------------


@pytest.fixture
def run(run, unpainted):
    """The recipe, whose confusion matrices are drawn without painting them."""
    return run


LEARN = ("--learning_rate", "3e-3", "--eval_steps", "20")


def test_single_labels_are_learnt_reported_and_predicted(run, tmp_path, caplog):
    single(tmp_path / "data", ("review", "stars"))
    table(tmp_path / "data" / "test.csv", ("review", "stars"), [[f"{word} {word} {word}", word] for word in WORDS])
    flags = ["--data_dir", tmp_path / "data", "--class_weights", "balanced", *LEARN]
    report, best = run(CLASSIFY, *flags, steps=60)
    assert report["metric"] == "macro_f1"
    assert report["test"]["accuracy"] == report["test"]["auroc"] == 1.0
    rows = lines(best / "predictions_test.jsonl")
    assert [(row["label"], row["predicted"]) for row in rows] == [(word, word) for word in WORDS]
    for split in ("dev", "test"):
        assert (best / f"confusion_{split}.png").read_bytes().startswith(b"\x89PNG")
    predict = Predictor(best / "best", device="cpu")
    answer = predict("bad bad bad")
    assert answer["label"] == "bad"
    assert sum(answer["scores"].values()) == pytest.approx(1)
    assert predict({"review": "bad bad bad"}) == predict({"text": "bad bad bad"}) == answer
    with pytest.raises(ValueError, match="input 0: .* is not an input of this model; give a text"):
        predict([("one", "two")])
    assert TaskModel.from_pretrained(best / "best").config.task["options"]["label_column"] == "stars"
    out = tmp_path / "out.jsonl"
    PREDICT.main(
        ["--model", f"{best / 'best'}", "--input", f"{tmp_path / 'data' / 'test.csv'}"]
        + ["--output", str(out), "--no_cuda"]
    )
    assert [row["label"] for row in lines(out)] == WORDS


def test_several_labels_are_scored_and_predicted(run, tmp_path):
    values = {"good": ["pos"], "bad": ["neg"], "fair": ["pos", "neg"], "none": []}
    rows = [{"text": f"{word} {word} {word}", "labels": found} for word, found in values.items()] * 12
    place = tmp_path / "data"
    place.mkdir()
    (place / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (place / "test.jsonl").write_text("\n".join(json.dumps({"text": row["text"]}) for row in rows[:4]))
    report, best = run(CLASSIFY, "--data_dir", place, "--class_weights", "balanced", *LEARN, steps=20)
    assert report["metric"] == "micro_f1"
    assert {"accuracy", "macro_f1", "micro_f1"} <= set(report["dev"])
    assert "test" not in report  # whose labels are kept back
    rows = lines(best / "predictions_test.jsonl")
    assert [row["labels"] for row in rows] == [None] * 4
    answers = Predictor(best / "best", device="cpu")([f"{word} {word} {word}" for word in values])
    assert [sorted(answer["labels"]) for answer in answers] == [sorted(row["predicted"]) for row in rows]
    assert TaskModel.from_pretrained(best / "best").config.problem_type == "multi_label_classification"


def test_numbers_are_learnt_for_pairs(run, tmp_path):
    rows = [
        [f"{word} {word} {word}", "Is it?", value] for word, value in zip(WORDS, (1.5, -100, 0.25), strict=True)
    ] * 20
    place = table(tmp_path / "data" / "train.csv", ("sentence1", "sentence2", "score"), rows)
    report, best = run(CLASSIFY, "--data_dir", place, *LEARN, steps=20)
    assert {"pearson", "spearman", "rmse"} <= set(report["dev"])
    assert report["metric"] == "spearman"
    found = {row["label"] for row in lines(best / "predictions_dev.jsonl")}
    assert None not in found  # -100 is a number as any other
    assert isinstance(Predictor(best / "best", device="cpu")(("bad bad bad", "Is it?"))["score"], float)


@pytest.mark.parametrize(
    "flags", [("--bottleneck_size", "8"), slow(("--freeze_bert", "--untrained", "a", "--task_adapter", "b"))]
)
def test_bottlenecks_and_adapters_go_with_it(run, flags):
    _, folder = run(CLASSIFY, *flags, steps=1)
    assert "label" in Predictor(folder / "best", device="cpu")("Ann sings.")


def test_mistakes_of_flags_end_before_anything_is_written(run, tmp_path):
    table(tmp_path / "data" / "train.csv", ("text", "score"), [["a", i / 7] for i in range(40)])
    with pytest.raises(ValueError, match="--class_weights is for labels, and these are numbers"):
        run(CLASSIFY, "--data_dir", tmp_path / "data", "--class_weights", "balanced")
    with pytest.raises(SystemExit):
        run(CLASSIFY, "--data_dir", tmp_path / "data", "--problem_type", "binary")
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
