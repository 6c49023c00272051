"""GLUE: its files in all their forms, encoding, scores, and the recipe on tiny models."""

import json
import shutil

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import load_script
from safetensors.torch import load_file
from scipy import stats
from sklearn import metrics as sklearn_metrics
from test_cached_states import assert_same
from transformers import AutoTokenizer, BertConfig, BertModel, BertTokenizer

from kadapter import KAdapterModel, TaskModel
from kadapter.data.collation import Collator
from kadapter.data.encoding import encode_texts
from kadapter.data.jsonio import write_jsonl
from kadapter.shapes import IGNORE
from kadapter.tasks.glue import GLUE as ALL
from kadapter.tasks.glue import RTE, SST2, CoLA, encode_glue, glue_task, read_glue
from kadapter.tasks.label_scores import glue_scores

GLUE = load_script("examples/run_classifier.py")
TYPING = load_script("examples/run_finetune_openentity_adapter.py")
HEADERS = {  # of train and dev, and of test, in GLUE's download
    "CoLA": (None, "index sentence"),
    "SST-2": ("sentence label", "index sentence"),
    "MRPC": ("Quality,#1 ID,#2 ID,#1 String,#2 String", "index,#1 ID,#2 ID,#1 String,#2 String"),
    "STS-B": (
        "index genre filename year old_index source1 source2 sentence1 sentence2 score",
        "index genre filename year old_index source1 source2 sentence1 sentence2",
    ),
    "QQP": ("id qid1 qid2 question1 question2 is_duplicate", "id question1 question2"),
    "MNLI": (
        "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
        "sentence1 sentence2 label1 gold_label",
        "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
        "sentence1 sentence2",
    ),
    "QNLI": ("index question sentence label", "index question sentence"),
    "RTE": ("index sentence1 sentence2 label", "index sentence1 sentence2"),
    "WNLI": ("index sentence1 sentence2 label", "index sentence1 sentence2"),
}
NAMES = list(HEADERS)
WORDS = [
    "the",
    '"',
    "cat",
    "sat",
    "on",
    "red",
    "mat",
    "a",
    "dog",
    "ran",
    ",",
    "it",
    "was",
    "not",
    "here",
    "is",
    "this",
    "so",
]
QUOTED = 'the "cat sat'  # an open quote, which a reader of quoted files would run away with


def columns(header):
    return header.split("," if "," in header else " ")


def write(path, task, count, labelled=True, text=None):
    """A file of `count` rows, of which those with label 1 begin with "red"."""
    known = glue_task(task)
    header = HEADERS[task][0 if labelled else 1]
    names = columns(header) if header else list(known.header)
    lines = ["\t".join(names)] if header else []
    random = np.random.default_rng(count)
    for row in range(count):
        label = known.LABELS[row % len(known.LABELS)] if known.LABELS else f"{row % 6:.3f}"
        texts = [" ".join(random.choice(WORDS, 3)) for _ in known.texts]
        texts[0] = text or ("red " * (row % 3) + texts[0])
        cells = dict.fromkeys(names, "x") | {"index": str(row), "id": str(row)}
        cells |= dict(zip(known.texts, texts, strict=True)) | {known.label: label}
        lines.append("\t".join(cells[name] for name in names))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_task(folder, task, count=12):
    known = glue_task(task).for_folder(folder)
    for split in known.splits:
        write(known.path(folder, split), task, count, labelled=not split.startswith("test"))
    return folder


@pytest.fixture(scope="module")
def bert_tokenizer(tmp_path_factory):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    return BertTokenizer(vocab={token: i for i, token in enumerate(vocabulary)})


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory, bert_tokenizer):
    """A folder with a random BERT of 2 layers and 32 units, with dropout, and its tokenizer."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertModel(BertConfig(**sizes, intermediate_size=48, max_position_embeddings=40)).save_pretrained(folder)
    bert_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def classify(tiny_bert, tmp_path):
    """Calls the recipe with small sizes; gives the report and the run's folder."""

    def call(task, *flags, model=tiny_bert, steps=4, data=None):
        data = data or write_task(tmp_path / "glue" / task, task)
        output = tmp_path / "out" / (flags[flags.index("--comment") + 1] if "--comment" in flags else "runs")
        command = ["--do_train=true", "--do_eval=true", f"--task_name={task.lower()}", f"--data_dir={data}"]
        command += [f"--init_checkpoint={model}", f"--output_dir={output}", f"--max_steps={steps}", "--no_cuda"]
        command += ["--max_seq_length=16", "--train_batch_size=4", "--eval_batch_size=8", "--bottleneck_size=4"]
        report = GLUE.main([*command, *flags])
        (folder,) = [path.parent for path in output.glob("*/args.json")]
        return report, folder

    return call


# -- reading ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", NAMES)
def test_every_task_is_read_with_and_without_labels_and_quotes_are_text(tmp_path, task):
    known = glue_task(task)
    write(tmp_path / "train.tsv", task, 4, text=QUOTED)
    write(tmp_path / "test.tsv", task, 4, labelled=False, text=QUOTED)
    train, test = (list(read_glue(tmp_path / f"{split}.tsv", known, split == "train")) for split in ("train", "test"))
    assert len(train) == len(test) == 4
    assert {row["texts"][0] for row in train + test} == {QUOTED}
    assert {len(row["texts"]) for row in train} == {len(known.texts)}
    assert [row["label"] for row in train] == [
        known.LABELS[i % len(known.LABELS)] if known.LABELS else f"{i:.3f}" for i in range(4)
    ]
    assert [row["label"] for row in test] == [""] * 4
    assert [row["index"] for row in test] == [0, 1, 2, 3]
    assert [row["record"] for row in train] == [1, 2, 3, 4] if task == "CoLA" else [2, 3, 4, 5]


def test_microsofts_own_files_of_mrpc_are_read_in_their_encoding(tmp_path):
    write(tmp_path / "msr_paraphrase_train.txt", "MRPC", 3)
    path = tmp_path / "msr_paraphrase_train.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    task = glue_task("MRPC").for_folder(tmp_path)
    names = [task.path(tmp_path, split).name for split in task.splits]
    assert names == ["msr_paraphrase_train.txt", "dev.tsv", "test.tsv"]
    assert [row["label"] for row in task.read(path, "train")] == ["0", "1", "0"]
    (tmp_path / "train.tsv").touch()
    assert task.path(tmp_path, "train").name == "train.tsv"


def test_a_test_file_with_labels_keeps_them(tmp_path):
    write(tmp_path / "a.tsv", "RTE", 2)
    rows = read_glue(tmp_path / "a.tsv", glue_task("RTE"), labelled=False)
    assert [row["label"] for row in rows] == ["entailment", "not_entailment"]


def test_rows_that_end_early_are_dropped_in_train_and_refused_in_test(tmp_path, bert_tokenizer):
    write(tmp_path / "train.tsv", "QQP", 3)
    with (tmp_path / "train.tsv").open("a") as file:
        file.write("7\t8\t9\tthe cat\n\n")
    rows = list(read_glue(tmp_path / "train.tsv", glue_task("QQP")))
    features = encode_glue(rows, bert_tokenizer, 16, ("0", "1"))
    assert [feature["dropped"] for feature in features] == ["", "", "", "columns are missing"]
    assert {frozenset(feature) for feature in features} == {frozenset(features[0])}
    write(tmp_path / "test.tsv", "QQP", 1, labelled=False)
    with (tmp_path / "test.tsv").open("a") as file:
        file.write("7\tthe cat\n")
    with pytest.raises(ValueError, match=r"test\.tsv, line 3: 2 columns are too few; complete the row"):
        list(read_glue(tmp_path / "test.tsv", glue_task("QQP"), labelled=False))


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        (
            "RTE",
            "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tmaybe\n",
            "line 2: the label 'maybe' is not entailment, not",
        ),
        ("STS-B", "sentence1\tsentence2\tscore\na\tb\t5.5\n", "line 2: the label '5.5' is not a number from 0 to 5;"),
        ("STS-B", "sentence1\tsentence2\tscore\na\tb\tnan\n", "line 2: the label 'nan' is not a number from 0 to 5;"),
        ("STS-B", "sentence1\tsentence2\tscore\na\tb\t\n", "line 2: the label '' is not a number"),
        ("CoLA", "x\t2\t\ta cat\n", "line 1: the label '2' is not 0, 1; mend it"),
        (
            "QNLI",
            "0\ta\tb\tentailment\n",
            r"line 1: the columns \['question', 'sentence', 'label'\] of QNLI are not among",
        ),
        ("SST-2", "index\tsentence\n0\ta\n", r"line 1: the columns \['label'\] of SST-2 are not among \['index', 'sen"),
        ("SST-2", "sentence\tlabel\n", "holds no rows"),
        ("SST-2", "", "holds no rows"),
    ],
)
def test_bad_files_are_refused_with_line_value_and_mend(tmp_path, task, text, message):
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(ValueError, match=r"a\.tsv(, | )" + message):
        list(read_glue(tmp_path / "a.tsv", glue_task(task)))


def test_a_test_index_that_is_no_number_is_refused(tmp_path):
    (tmp_path / "test.tsv").write_text("index\tsentence\none\ta\n")
    with pytest.raises(ValueError, match="line 2: the index 'one' is not a number"):
        list(read_glue(tmp_path / "test.tsv", glue_task("SST-2"), labelled=False))


def test_an_unknown_task_is_refused_and_case_does_not_matter():
    assert glue_task("sst-2") is glue_task("SST2")
    with pytest.raises(
        ValueError, match="--task_name is 'SQuAD'; choose one of CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI"
    ):
        glue_task("SQuAD")
    assert [task.name for task in ALL] == [
        "CoLA",
        "SST-2",
        "MRPC",
        "STS-B",
        "QQP",
        "MNLI",
        "QNLI",
        "RTE",
        "WNLI",
    ]


# -- encoding ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [1, 7, 20])
@pytest.mark.parametrize("second", [None, 1, 8, 20])
@pytest.mark.parametrize("size", [8, 15, 16])
def test_texts_are_cut_token_by_token_from_the_longer_one(bert_tokenizer, tokenizer, first, second, size):
    texts = ["cat " * first] + ([] if second is None else ["dog " * second])
    cat, dog = bert_tokenizer.convert_tokens_to_ids(["cat", "dog"])
    a, b = [cat] * first, [dog] * (second or 0)
    special = 2 if second is None else 3
    while len(a) + len(b) > size - special:
        (a if len(a) > len(b) else b).pop()
    (feature,) = encode_texts(bert_tokenizer, [texts], size)
    cls, sep = bert_tokenizer.cls_token_id, bert_tokenizer.sep_token_id
    assert feature["input_ids"] == [cls, *a, sep, *([*b, sep] if b else [])]
    assert feature["token_type_ids"] == [0] * (len(a) + 2) + [1] * (len(b) + 1 if b else 0)
    (feature,) = encode_texts(tokenizer, [texts], size)  # RoBERTa's has no token types, and two separators between
    assert "token_type_ids" not in feature
    assert len(feature["input_ids"]) <= size
    assert feature["input_ids"].count(tokenizer.sep_token_id) == (1 if second is None else 3)


def test_labels_and_token_types_reach_the_batch(bert_tokenizer):
    rows = [
        {"texts": ["cat", "dog sat"], "label": "1.5", "index": 0, "fault": ""},
        {"texts": ["cat", "dog"], "label": "", "index": 1, "fault": ""},
    ]
    batch = Collator(0)(encode_glue(rows, bert_tokenizer, 16, ()))
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0]]
    assert batch["labels"].tolist() == [1.5, IGNORE]
    assert batch["positions"].tolist() == [[0], [0]]


# -- as hubs have it ----------------------------------------------------------------------------------------------

# The names of the hubs' columns and the order of their label numbers, by task.
HUB = {
    "CoLA": (("sentence",), ("unacceptable", "acceptable"), ("0", "1")),
    "SST-2": (("sentence",), ("negative", "positive"), ("0", "1")),
    "MRPC": (("sentence1", "sentence2"), ("not_equivalent", "equivalent"), ("0", "1")),
    "QQP": (("question1", "question2"), ("not_duplicate", "duplicate"), ("0", "1")),
    "MNLI": (("premise", "hypothesis"), MNLI_ORDER := ("entailment", "neutral", "contradiction"), MNLI_ORDER),
    "QNLI": (("question", "sentence"), TWO := ("entailment", "not_entailment"), TWO),
    "RTE": (("sentence1", "sentence2"), TWO, TWO),
    "WNLI": (("sentence1", "sentence2"), ("not_entailment", "entailment"), ("0", "1")),
}


def hub_rows(task, count=6, labelled=True):
    texts, names, _ = HUB[task]
    return [
        {**{name: f"the {name} cat {i}" for name in texts}, "label": i % len(names) if labelled else -1, "idx": 10 + i}
        for i in range(count)
    ]


@pytest.mark.parametrize("task", HUB)
def test_numbers_and_names_of_the_hubs_are_the_downloads_labels(tmp_path, task):
    texts, names, expected = HUB[task]
    rows, known = hub_rows(task), glue_task(task)
    features = datasets.Features(
        {**{name: datasets.Value("string") for name in texts}, "label": datasets.ClassLabel(names=list(names))}
        | {"idx": datasets.Value("int32")}
    )
    write_jsonl(tmp_path / "train.jsonl", rows)
    datasets.Dataset.from_list(rows, features).to_parquet(str(tmp_path / "named.parquet"))
    datasets.Dataset.from_list(rows).to_csv(str(tmp_path / "train.csv"))
    write_jsonl(tmp_path / "names.json", [{**row, "label": names[row["label"]]} for row in rows])
    for name in ("train.jsonl", "named.parquet", "train.csv", "names.json"):
        found = list(read_glue(tmp_path / name, known))
        assert [example["label"] for example in found] == [expected[i % len(names)] for i in range(6)]
        assert [example["texts"] for example in found] == [[row[key] for key in texts] for row in rows]
        assert [example["index"] for example in found] == [10, 11, 12, 13, 14, 15]
    write_jsonl(tmp_path / "test.jsonl", hub_rows(task, labelled=False))
    assert {example["label"] for example in read_glue(tmp_path / "test.jsonl", known, labelled=False)} == {""}
    with pytest.raises(ValueError, match=r"test\.jsonl, record 1: the label -1 is not "):
        next(read_glue(tmp_path / "test.jsonl", known))
    for wrong in (3, "yes", True, 0.5, None, [1]):
        write_jsonl(tmp_path / "wrong.jsonl", [{**rows[0], "label": wrong}])
        with pytest.raises(ValueError, match=r"wrong\.jsonl, record 1: the label .* is not .*, or its number; mend it"):
            next(read_glue(tmp_path / "wrong.jsonl", known))


def test_stsb_of_the_hubs_has_numbers_and_minus_one_for_none(tmp_path):
    pair = {"sentence1": "a", "sentence2": "b"}
    write_jsonl(tmp_path / "a.jsonl", [{**pair, "label": label, "idx": i} for i, label in enumerate((2.5, 5, 0.0))])
    found = list(read_glue(tmp_path / "a.jsonl", glue_task("STS-B")))
    assert [float(example["label"]) for example in found] == [2.5, 5.0, 0.0]
    write_jsonl(tmp_path / "a.jsonl", [{**pair, "label": -1.0}])
    assert next(read_glue(tmp_path / "a.jsonl", glue_task("STS-B"), labelled=False))["label"] == ""
    for wrong in (5.1, -2.0, "x", True):
        write_jsonl(tmp_path / "a.jsonl", [{**pair, "label": wrong}])
        with pytest.raises(ValueError, match="record 1: the label .* is not a number from 0 to 5"):
            next(read_glue(tmp_path / "a.jsonl", glue_task("STS-B")))


def test_columns_of_another_task_are_refused(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", hub_rows("MNLI"))
    with pytest.raises(ValueError, match=r"record 1: the columns \['sentence1', 'sentence2'\] of RTE are not among"):
        next(read_glue(tmp_path / "a.jsonl", glue_task("RTE")))
    write_jsonl(tmp_path / "a.jsonl", [{**hub_rows("RTE")[0], "sentence2": None}])
    with pytest.raises(ValueError, match="record 1: .* and null should be texts; mend them"):
        next(read_glue(tmp_path / "a.jsonl", glue_task("RTE")))


def test_the_recipe_trains_and_predicts_on_the_hubs_shards(classify, tmp_path):
    folder = tmp_path / "mnli"
    folder.mkdir()
    for split in ("train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched"):
        records = hub_rows("MNLI", 12, not split.startswith("test"))
        for i, part in enumerate((records[:7], records[7:])):
            pq.write_table(pa.Table.from_pylist(part), folder / f"{split}-0000{i}-of-00002.parquet")
    report, output = classify("MNLI", "--do_predict", data=folder)
    assert {"dev", "dev_mismatched"} <= set(report)
    for name in glue_task("MNLI").for_folder("").server_files().values():
        assert [int(index) for index, _ in rows(output / name)[1:]] == [*range(10, 22)]
    (folder / "test_matched-00001-of-00002.parquet").unlink()
    with pytest.raises(ValueError, match="holds 1 shards of 2: test_matched-00000-of-00002.parquet"):
        classify("MNLI", "--do_predict", "--comment", "again", data=folder)


# -- scores -----------------------------------------------------------------------------------------------------


def test_scores_are_those_of_independent_computations():
    random = np.random.default_rng(0)
    gold, predicted = random.integers(0, 2, 50), random.integers(0, 2, 50)
    found = glue_scores(predicted, gold, ("accuracy", "f1", "matthews"))
    tp, tn, fp, fn = (int(((predicted == p) & (gold == g)).sum()) for p, g in ((1, 1), (0, 0), (1, 0), (0, 1)))
    root = np.sqrt(float((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))
    assert found["matthews"] == pytest.approx((tp * tn - fp * fn) / root)
    assert found["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert found["accuracy"] == sklearn_metrics.accuracy_score(gold, predicted)
    numbers, other = random.random(50), np.round(random.random(50), 1)
    found = glue_scores(numbers, other, ("pearson", "spearman"))
    assert found["pearson"] == pytest.approx(stats.pearsonr(numbers, other)[0])
    assert found["spearman"] == pytest.approx(stats.spearmanr(numbers, other)[0])
    assert glue_scores(np.ones(3), np.arange(3), ("pearson", "spearman")) == {"pearson": 0.0, "spearman": 0.0}


# -- the recipe -------------------------------------------------------------------------------------------------


def rows(path):
    return [line.split("\t") for line in path.read_text().splitlines()]


@pytest.mark.parametrize("task", ["CoLA", "STS-B", "MNLI"])
def test_the_recipe_trains_reports_and_predicts(classify, task):
    report, folder = classify(task, "--do_predict")
    known = glue_task(task).for_folder("")
    assert set(known.scores) <= set(report["dev"])
    assert ("dev_mismatched" in report) == (task == "MNLI")
    for split, name in known.server_files().items():
        header, *answers = rows(folder / name)
        assert header == ["index", "prediction"]
        assert [int(index) for index, _ in answers] == list(range(12))
        values = np.array(rows(folder / f"{split}_results.tsv"), dtype=float)
        if known.labels:
            assert values.shape == (12, len(known.labels))
            np.testing.assert_allclose(values.sum(1), 1)
            assert [known.labels[i] for i in values.argmax(1)] == [answer for _, answer in answers]
        else:
            assert [float(answer) for _, answer in answers] == pytest.approx(values[:, 0].clip(0, 5), abs=1e-3)
    predictions = [json.loads(line) for line in (folder / "predictions_test.jsonl").read_text().splitlines()]
    assert {row["label"] for row in predictions} == {None}


def test_all_that_is_frozen_stays_bit_identical_and_the_tasks_part_is_written_alone(classify, tiny_bert):
    _, folder = classify("RTE")
    before, after = load_file(tiny_bert / "model.safetensors"), load_file(folder / "model.safetensors")
    assert all(torch.equal(after[f"encoder.backbone.{name}"], value) for name, value in before.items())
    norms = {name.replace(".norms.default", ""): value for name, value in after.items() if ".norms.default." in name}
    moved = {name for name, value in norms.items() if not torch.equal(after[name], value)}
    assert moved
    assert all("LayerNorm" in name for name in moved)
    assert torch.equal(after["head.dense.weight"], before["pooler.dense.weight"])
    biases = [value for name, value in after.items() if name.endswith("project.bias")]
    assert len(biases) == 2 * 2 * 2
    assert all(value.any() for value in biases)  # zero before
    again = TaskModel.load_task(folder / "task", KAdapterModel.from_pretrained(tiny_bert))
    assert all(torch.equal(value, after[name]) for name, value in again.state_dict().items())


def test_a_broken_run_resumes_to_the_same_weights(classify):
    options = ["--save_steps", "2"]
    report, whole = classify("SST-2", *options, "--comment", "whole")
    _, broken = classify("SST-2", *options, "--comment", "broken")
    shutil.rmtree(broken / "checkpoint-4")
    (broken / "metrics.json").unlink()
    again, _ = classify("SST-2", *options, "--comment", "broken")
    one, other = load_file(whole / "model.safetensors"), load_file(broken / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert again["dev"] == report["dev"]


def test_what_is_trained_follows_the_flags(classify):
    def trained(*flags):
        name = f"run{len(flags)}"
        _, folder = classify("WNLI", "--comment", name, *flags)
        return set(load_file(folder / "checkpoint-4" / "trained.safetensors"))

    last = {"head.out_proj.weight", "head.out_proj.bias"}
    assert trained("--bottleneck_size=0", "--freeze_bert") == last
    pooler = {"head.dense.weight", "head.dense.bias"}
    assert trained("--bottleneck_size=0", "--freeze_bert", "--train_pooler") == last | pooler
    everything = trained("--bottleneck_size=0")
    assert last | pooler < everything
    assert any("word_embeddings" in name for name in everything)


def test_roberta_takes_bottlenecks_in_the_recipe_too(classify, tiny_backbone):
    report, folder = classify("MRPC", "--do_predict", model=tiny_backbone)
    assert {"accuracy", "f1"} <= set(report["dev"])
    assert len(rows(folder / "MRPC.tsv")) == 13
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert "token_type_ids" not in tokenizer("a", "b")


def test_a_knowledge_adapter_is_trained_on_a_backbone_with_bottlenecks(classify, run, tiny_backbone):
    _, tuned = classify("RTE", model=tiny_backbone)
    assert tuned.name.endswith("_bottleneck4")
    _, folder = run(TYPING, f"--model_name_or_path={tuned}", "--freeze_bert=True", "--task_adapter=own", steps=2)
    before, after = (load_file(path / "model.safetensors") for path in (tuned, folder))
    backbone = [name for name in after if name.startswith("encoder.backbone.")]
    assert sum("dropout.bottlenecks" in name for name in backbone) == 4 * 2 * 4  # four layers, two sites, four tensors
    assert all(torch.equal(after[name], before[name]) for name in backbone)
    trained = load_file(folder / "checkpoint-2" / "trained.safetensors")
    assert {name.split(".")[1] for name in trained if name.startswith("encoder.")} == {"adapters", "fusion"}


def test_the_originals_flags_are_accepted_and_tensorflows_checkpoints_pointed_on(classify, tiny_bert, caplog):
    flags = [f"--vocab_file={tiny_bert / 'tokenizer.json'}", f"--bert_config_file={tiny_bert / 'config.json'}"]
    flags += ["--do_lower_case=true", "--warmup_proportion=0.5", "--use_tpu=false", "--predict_batch_size=8"]
    report, folder = classify("QNLI", *flags, "--save_checkpoints_steps=2")
    assert "warmup-0.5" in folder.name
    assert {path.name for path in folder.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}
    said = [record.message for record in caplog.records if "accepted but does nothing" in record.message]
    assert len(said) == 3
    for flag in ("--init_checkpoint=bert/bert_model.ckpt", "--bert_config_file=bert/bert_config.json"):
        with pytest.raises(ValueError, match=r"is TensorFlow's; run scripts/convert_tf_bert\.py --input bert --output"):
            classify("QNLI", flag)
    with pytest.raises(ValueError, match="--bert_config_file is other, but .* brings its own configuration"):
        classify("QNLI", "--bert_config_file=other")


def test_mistakes_end_before_anything_is_written(classify, tmp_path, capsys):
    data = write_task(tmp_path / "RTE", "RTE")
    (data / "test.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.tsv is missing; .* or leave --do_predict out"):
        classify("RTE", "--do_predict", data=data)
    with pytest.raises(SystemExit):
        classify("RTE", "--freeze_bert", data=data)
    assert "give --bottleneck_size 0 to train the head alone" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("blank", ["", " ", "\u200b", "\u00a0\ufeff"])
def test_rows_with_an_empty_text_are_dropped_and_counted_but_kept_for_the_server(tmp_path, tokenizer, blank):
    rows = ["index\tsentence1\tsentence2\tlabel", "0\ta\tb\tentailment", f"1\t{blank}\tb\tentailment"]
    rows.append(f"2\ta\t{blank}\tentailment")
    (tmp_path / "train.tsv").write_text("\n".join(rows) + "\n")
    examples = list(read_glue(tmp_path / "train.tsv", RTE))
    assert [example["fault"] for example in examples] == ["", "a text is empty", "a text is empty"]
    features = encode_glue(examples, tokenizer, 32, RTE.LABELS)
    assert [feature["dropped"] for feature in features] == ["", "a text is empty", "a text is empty"]
    tested = encode_glue(list(read_glue(tmp_path / "train.tsv", RTE, labelled=False)), tokenizer, 32, RTE.LABELS)
    assert [(feature["dropped"], feature["note"]) for feature in tested[1:]] == [("", "a text is empty")] * 2
    (tmp_path / "train.tsv").write_text(f"gj04\t1\t\t{blank}\ngj04\t1\t\ta\n")
    assert [example["fault"] for example in read_glue(tmp_path / "train.tsv", CoLA)] == ["a text is empty", ""]


def test_whole_floats_are_labels_and_indices_as_pandas_writes_them(tmp_path):
    (tmp_path / "train.tsv").write_text("index\tsentence\tlabel\n7.0\ta\t1.0\n8\tb\t0\n")
    examples = list(read_glue(tmp_path / "train.tsv", SST2, labelled=False))
    assert [(example["index"], example["label"]) for example in examples] == [(7, "1"), (8, "0")]
    for label in ("True", "1.5", "-1.0", ".0"):
        (tmp_path / "train.tsv").write_text(f"index\tsentence\tlabel\n7\ta\t{label}\n")
        with pytest.raises(ValueError, match=r"line 2: the label '.*' is not 0, 1"):
            list(read_glue(tmp_path / "train.tsv", SST2))


def test_with_the_frozen_bottom_kept_losses_and_weights_are_those_without(classify, tmp_path):
    flags = ("--bottleneck_layers=1", "--bottleneck_initializer_range=0.3", "--frozen_dropout=False", "--train_pooler")
    _, plain = classify("RTE", *flags, "--comment", "plain", steps=6)
    cache = f"--cache_states={tmp_path / 'states'}"
    kept, again = (classify("RTE", *flags, cache, "--comment", name, steps=6)[1] for name in ("kept", "again"))
    assert_same(kept, plain)
    assert_same(again, plain)
    assert {path.name for path in (tmp_path / "states").rglob("*.bin")} == {"state-1.bin"}
