"""Tagging: files in all their forms, windows, scores as seqeval counts them, and the recipe on tiny models."""

import json
import random

import pytest
import torch
from conftest import load_script, slow
from safetensors.torch import load_file
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities

from kadapter import Predictor
from kadapter.data.encoding import Encoding
from kadapter.data.tagged import bio_tags, entities_in, odd_prefixes, scheme_of, word_spans
from kadapter.data.windows import best_windows, window_begins
from kadapter.tasks.entity_scores import entity_scores, entity_table
from kadapter.tasks.tagged_examples import JUMP
from kadapter.tasks.tagging import Tagging

TAGGING = load_script("examples/run_finetune_tagging_adapter.py")
PREDICT = load_script("examples/run_predict.py")
SENTENCES = [
    ("Ann Lee lives in New York .", "B-PER I-PER O O B-LOC I-LOC O"),
    ("Bob met Ann .", "B-PER O B-PER O"),
    ("Oslo Bergen are far .", "B-LOC B-LOC O O O"),
]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_conll(path, sentences, row="{word}\tX\t{tag}", before=""):
    path.parent.mkdir(exist_ok=True, parents=True)
    blocks = [
        "\n".join(row.format(word=w, tag=t) for w, t in zip(words.split(), tags.split(), strict=True))
        for words, tags in sentences
    ]
    path.write_text(before + "\n\n".join(blocks) + "\n", encoding="utf-8")


def folder(place, sentences=SENTENCES, **options):
    for split in ("train", "dev"):
        write_conll(place / f"{split}.conll", sentences, **options)
    return place


def examples(place, **options):
    task = Tagging.for_folder(place, **options)
    return task, list(task.read(task.path(place, "train"), "train"))


def random_tags(rng, prefixes):
    return [
        rng.choice(["O", *(f"{prefix}-{kind}" for prefix in prefixes for kind in "xy")])
        for _ in range(rng.randint(1, 12))
    ]


# -- tags --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefixes", ["BI", "BIES", "I", "IES"])
def test_entities_of_any_tags_are_seqevals(prefixes):
    rng = random.Random(0)
    for _ in range(500):
        tags = random_tags(rng, prefixes)
        expected = [(start, end + 1, kind) for kind, start, end in get_entities(tags)]
        assert [tuple(entity) for entity in entities_in(tags)] == expected, tags


def test_bio_tags_of_entities_give_these_entities_again():
    rng = random.Random(1)
    for _ in range(200):
        entities = entities_in(random_tags(rng, "BIES"))
        assert entities_in(bio_tags(12, entities)) == entities


def test_scores_are_seqevals():
    rng = random.Random(2)
    gold = [random_tags(rng, "BI") for _ in range(60)]
    predicted = [[tag if rng.random() < 0.7 else rng.choice(["O", "B-x", "I-y"]) for tag in tags] for tags in gold]
    found = entity_scores(predicted, gold)
    for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert found[name] == pytest.approx(score(gold, predicted))
    report = classification_report(gold, predicted, output_dict=True)
    assert found["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
    for row in entity_table(predicted, gold):
        assert row["f1"] == pytest.approx(report[row["label"]]["f1-score"])
        assert row["gold"] == report[row["label"]]["support"]
    assert entity_scores([["O"]], [["O"]])["f1"] == 0.0


def test_schemes_are_told_apart_and_a_jump_in_bio_is_one():
    assert scheme_of([["B-x", "I-x", "O"], ["B-y"]]) == "BIO"
    assert scheme_of([["I-x", "I-x", "B-x"], ["O", "I-y"]]) == "IOB1"
    assert scheme_of([["B-x", "O"], ["O", "I-x"]]) == "BIO"  # with a mistake
    assert scheme_of([["S-x", "B-x", "E-x"]]) == "BIOES"
    assert scheme_of([["U-x", "B-x", "L-x"]]) == "BIOES"
    assert scheme_of([["NN", "-LRB-", "O"]]) == "plain"
    assert odd_prefixes(["O", "I-x", "B-x"]) == (1, 0)
    assert odd_prefixes(["B-y", "I-x"]) == (1, 1)


def test_all_schemes_of_the_same_entities_give_the_same_examples(tmp_path):
    iob1 = [
        (SENTENCES[0][0], "I-PER I-PER O O I-LOC I-LOC O"),
        (SENTENCES[1][0], "I-PER O I-PER O"),
        (SENTENCES[2][0], "I-LOC B-LOC O O O"),
    ]
    bioes = [
        (SENTENCES[0][0], "B-PER E-PER O O B-LOC E-LOC O"),
        (SENTENCES[1][0], "S-PER O S-PER O"),
        (SENTENCES[2][0], "S-LOC S-LOC O O O"),
    ]
    found = {}
    for name, sentences in (("BIO", SENTENCES), ("IOB1", iob1), ("BIOES", bioes)):
        task, found[name] = examples(folder(tmp_path / name, sentences))
        assert task.scheme == name
        assert task.labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert found["BIO"] == found["IOB1"] == found["BIOES"]
    assert not any(example["note"] for example in found["IOB1"])
    first = found["BIO"][0]
    assert first["labels"] == SENTENCES[0][1].split()
    assert [first["text"][a:b] for a, b in zip(first["starts"], first["ends"], strict=True)] == first["text"].split()


# -- files -------------------------------------------------------------------------------------------------------


def test_comments_documents_numbers_and_blanks_between_columns(tmp_path):
    _, expected = examples(folder(tmp_path / "plain"))
    head = "# newdoc id = 7\n-DOCSTART-\t-X-\tO\n\n# text = Ann\n"
    _, commented = examples(folder(tmp_path / "commented", before=head))
    _, spaced = examples(folder(tmp_path / "spaced", row="{word} X {tag}"))
    _, numbered = examples(folder(tmp_path / "numbered", row="1\t{word}\t{tag}\t-"), word_column=2, tag_column=3)
    for found in (commented, spaced, numbered):
        assert [example["labels"] for example in found] == [example["labels"] for example in expected]
        assert [example["text"] for example in found] == [example["text"] for example in expected]
    _, marks = examples(folder(tmp_path / "marks", [*SENTENCES, ("# tag", "O O")], row="{word} X {tag}"))
    assert marks[-1]["text"] == "# tag"  # a word, since it has all columns
    assert commented[0]["record"] == 5


def test_spans_of_texts_are_the_tags_of_their_words(tmp_path):
    records = [
        {"text": "Ann Lee, of Oslo.", "entities": [{"start": 12, "end": 16, "label": "LOC"}, [0, 7, "PER"]]},
        {"text": "Nothing.", "spans": []},
        {"text": "东京塔 rises", "label": [[0, 2, "LOC"]]},
        {"tokens": ["Ann", "rests"], "ner_tags": ["B-PER", "O"]},
    ]
    for split in ("train", "dev"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    task, found = examples(tmp_path)
    assert task.labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert found[0]["labels"] == ["B-PER", "I-PER", "O", "O", "B-LOC", "O"]
    assert found[2]["labels"] == ["B-LOC", "I-LOC", "O", "O"]
    assert found[3]["labels"] == ["B-PER", "O"]
    records = [{"text": "Osloers sing", "entities": [[0, 4, "LOC"]]}]
    (tmp_path / "dev.jsonl").write_text(json.dumps(records[0]))
    (widened,) = task.read(tmp_path / "dev.jsonl", "dev")
    assert widened["labels"] == ["B-LOC", "O"]
    assert "within a word" in widened["note"]


def test_plain_tags_are_tags_of_words(tmp_path):
    sentences = [("Ann rests .", "NOUN VERB PUNCT"), ("Bob naps .", "NOUN VERB PUNCT")]
    task, found = examples(folder(tmp_path, sentences))
    assert (task.scheme, task.metric, task.labels) == ("plain", "accuracy", ("NOUN", "PUNCT", "VERB"))
    assert found[1]["labels"] == ["NOUN", "VERB", "PUNCT"]


BAD_RECORDS = {
    "lies outside of the text, which has 4": {"text": "Oslo", "entities": [[0, 9, "LOC"]]},
    "overlap, but a word has one tag": {"text": "Oslo Bay", "entities": [[0, 8, "LOC"], [5, 8, "SEA"]]},
    "give a text or take the record out": {"text": "  ", "entities": []},
    "is not a span; write": {"text": "Oslo", "entities": [{"start": 0, "end": "4"}]},
    "there is no list of spans under": {"text": "Oslo"},
    "are parts of one word": {"text": "Osloer", "entities": [[0, 4, "LOC"], [4, 6, "PER"]]},
    "the span 4 to 5 is blank": {"text": "Oslo Bay", "entities": [[4, 5, "LOC"]]},
    "2 words have 1 tags": {"tokens": ["a", "b"], "tags": ["O"]},
}


@pytest.mark.parametrize("message", BAD_RECORDS)
def test_a_bad_record_is_refused_with_its_line(tmp_path, message):
    good = {"text": "Oslo", "entities": [[0, 4, "LOC"]]}
    for split, records in (("train", [good, BAD_RECORDS[message]]), ("dev", [good])):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    task = Tagging.for_folder(tmp_path)
    with pytest.raises(ValueError, match=rf"train\.jsonl, record 2: .*{message}"):
        list(task.read(task.path(tmp_path, "train"), "train"))


def test_bad_conll_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train\.conll is missing"):
        Tagging.for_folder(tmp_path)
    with pytest.raises(ValueError, match="it holds only 'O', of which nothing can be learnt"):
        Tagging.for_folder(folder(tmp_path / "o", [("a b", "O O"), ("c", "O")]))
    with pytest.raises(ValueError, match="has 3 columns; give --word_column and --tag_column from 1 to 3"):
        Tagging.for_folder(folder(tmp_path / "few"), tag_column=5)
    for tags in ("B-1 B-2 B-3 B-4 B-1", "B-1 B-2 B-3 B-4 O"):
        with pytest.raises(ValueError, match="holds 4 types of entities, each fewer than twice on average"):
            Tagging.for_folder(folder(tmp_path / "ids", [("a b c d e", tags)]))
    task = Tagging.for_folder(folder(tmp_path / "good"))
    write_conll(tmp_path / "good" / "dev.conll", [("a b", "O B-EVENT")])
    with pytest.raises(ValueError, match=r"dev\.conll, line 1: 'EVENT' is not among the types of train"):
        list(task.read(task.path(tmp_path / "good", "dev"), "dev"))
    write_conll(tmp_path / "good" / "dev.conll", [("a b", "O NN")])
    with pytest.raises(ValueError, match=r"line 1: the tag 'NN' is neither O nor one such as B-PER"):
        list(task.read(task.path(tmp_path / "good", "dev"), "dev"))
    (tmp_path / "good" / "dev.conll").write_text("a\tX\tO\nb\tO\n")
    with pytest.raises(ValueError, match=r"line 2: the row has not 3 columns"):
        list(task.read(task.path(tmp_path / "good", "dev"), "dev"))


def test_a_jump_is_said_with_its_count(tmp_path, run, caplog):
    jumping = [*SENTENCES, ("see New York", "O I-LOC I-LOC")]
    _, found = examples(folder(tmp_path / "jump", jumping))
    assert found[-1]["labels"] == ["O", "B-LOC", "I-LOC"]
    assert [example["note"] for example in found] == ["", "", "", JUMP]
    run(TAGGING, "--data_dir", tmp_path / "jump", steps=1)
    assert f"1 of 4 examples are kept, but {JUMP}" in caplog.text


# -- windows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "size", "overlap"), [(5, 8, 2), (8, 8, 3), (9, 8, 3), (40, 8, 3), (41, 8, 7)])
def test_every_place_is_read_where_it_has_the_most_context(length, size, overlap):
    begins = window_begins(length, size, overlap)
    assert begins[0] == 0
    assert begins[-1] == max(0, length - size)
    assert all(later - one <= size - overlap for one, later in zip(begins, begins[1:], strict=False))
    chosen = best_windows(range(length), begins, size, length)

    def context(place, begin):
        if not begin <= place < begin + size:
            return -1
        before = place - begin if begin else length
        after = begin + size - 1 - place if begin + size < length else length
        return min(before, after)

    for place, window in enumerate(chosen):
        assert context(place, begins[window]) == max(context(place, begin) for begin in begins)


@pytest.mark.parametrize("causal", [False, True])
def test_words_are_read_once_at_their_own_tokens(tokenizer, tmp_path, causal):
    words = " ".join(f"Word{i} walks" for i in range(60))
    place = folder(tmp_path, [*SENTENCES, (words, " ".join(["B-PER", "O"] * 60))])
    task, found = examples(place, stride=8)
    features = task.encode(found, Encoding(tokenizer, 32, causal))
    assert all(len(feature["input_ids"]) <= 32 for feature in features)
    long = [feature for feature in features if feature["record"] == found[-1]["record"]]
    assert len(long) > 3
    assert [feature["block"] for feature in long] == sorted({feature["block"] for feature in long})
    starts = [start for feature in long for start in feature["starts"]]
    assert starts == found[-1]["starts"]  # each word once, in order
    labels = [task.labels[label] for feature in long for label in feature["labels"]]
    assert labels == found[-1]["labels"]
    for feature in long:
        for position, start, end in zip(feature["positions"], feature["starts"], feature["ends"], strict=True):
            token = tokenizer.decode([feature["input_ids"][position]]).strip()
            word = found[-1]["text"][start:end]
            assert token
            assert word.endswith(token) if causal else word.startswith(token)


def test_a_stride_as_long_as_a_window_is_refused(tokenizer, tmp_path):
    task, found = examples(folder(tmp_path), stride=40)
    with pytest.raises(ValueError, match="--stride is 40; it must be 0 or more and below 30"):
        task.encode(found, Encoding(tokenizer, 32))


def test_words_and_marks_of_texts():
    text = "Ann's 2nd flat, 東京 3.5"
    assert [text[a:b] for a, b in word_spans(text)] == [
        *("Ann", "'", "s", "2", "nd", "flat", ",", "東", "京", "3", ".", "5")
    ]


# -- the recipe ----------------------------------------------------------------------------------------------------


def test_the_recipe_learns_and_predicts_spans_of_the_text(run, tmp_path, world):
    report, best = run(TAGGING, "--learning_rate", "1e-2", "--task_adapter", "own", steps=30)
    assert {"precision", "recall", "f1", "macro_f1", "accuracy"} <= set(report["test"])
    rows = lines(best / "predictions_test.jsonl")
    source = lines(world / "tagging" / "test.jsonl")
    assert [row["text"] for row in rows] == [record["text"] for record in source]
    for row, record in zip(rows, source, strict=True):
        told = [{key: span[key] for key in ("start", "end", "label")} for span in row["entities"]]
        assert told == record["entities"]
        assert all(row["text"][span["start"] : span["end"]] == span["text"] for span in row["predicted"])
    hits = sum(span in row["entities"] for row in rows for span in row["predicted"])
    guessed = sum(len(row["predicted"]) for row in rows)
    assert report["test"]["precision"] == pytest.approx(hits / max(1, guessed))
    assert {row["label"] for row in json.loads((best / "per_type_test.json").read_text())} >= {
        span["label"] for record in source for span in record["entities"]
    }
    predict = Predictor(best / "best", device="cpu")
    answers = predict([record["text"] for record in source])
    strip = [[{k: v for k, v in span.items() if k != "score"} for span in answer["entities"]] for answer in answers]
    assert strip == [row["predicted"] for row in rows]
    assert all(0 < span["score"] <= 1 for answer in answers for span in answer["entities"])
    PREDICT.main(
        ["--model", f"{best / 'best'}", "--input", f"{world / 'tagging' / 'test.jsonl'}"]
        + ["--output", f"{tmp_path / 'out.jsonl'}", "--no_cuda"]
    )
    assert [row["entities"] for row in lines(tmp_path / "out.jsonl")] == [answer["entities"] for answer in answers]


def test_long_texts_are_answered_as_their_evaluation_found_them(run, tmp_path):
    rng = random.Random(0)
    names = ["Ann", "Oslo", "runs", "far"]
    sentences = []
    for _ in range(6):
        words = [rng.choice(names) for _ in range(80)]
        sentences.append((" ".join(words), " ".join({"Ann": "B-PER", "Oslo": "B-LOC"}.get(w, "O") for w in words)))
    place = folder(tmp_path / "long", sentences)
    flags = ["--data_dir", place, "--max_seq_length", "32", "--stride", "8", "--learning_rate", "1e-2"]
    _, best = run(TAGGING, *flags, steps=12)
    rows = lines(best / "predictions_dev.jsonl")
    assert len(rows) == len(sentences)
    predict = Predictor(best / "best", device="cpu", batch_size=3)
    answers = predict([words.split() for words, _ in sentences])
    for row, answer in zip(rows, answers, strict=True):
        assert row["predicted"] == [{k: v for k, v in s.items() if k != "score"} for s in answer["entities"]]
    with pytest.raises(ValueError, match="input 1: .* is not an input of this model"):
        predict(["Ann", {"text": 3}])
    with pytest.raises(ValueError, match="input 0: the text is"):
        predict([" "])


def test_plain_tags_are_learnt_and_reported(run, tmp_path):
    sentences = [("Ann rests .", "NOUN VERB PUNCT"), ("Bob naps .", "NOUN VERB PUNCT")] * 4
    report, best = run(TAGGING, "--data_dir", folder(tmp_path / "pos", sentences), "--learning_rate", "1e-2", steps=20)
    assert report["metric"] == "accuracy"
    assert report["dev"]["accuracy"] == 1.0
    answer = Predictor(best / "best", device="cpu")("Ann rests.")
    assert [(span["text"], span["label"]) for span in answer["entities"]][1:] == [("rests", "VERB"), (".", "PUNCT")]


def test_padding_and_other_batches_do_not_change_the_loss(run, tmp_path):
    place = folder(tmp_path / "data", SENTENCES * 4)
    found = [
        run(TAGGING, "--data_dir", place, "--comment", f"b{i}", "--per_gpu_eval_batch_size", size, *more, steps=2)[0]
        for i, (size, more) in enumerate([(1, ()), (7, ()), (7, ("--pad_to_max_length",))])
    ]
    assert found[0]["dev"]["loss"] == pytest.approx(found[1]["dev"]["loss"], rel=1e-4)
    assert found[1]["dev"]["loss"] == pytest.approx(found[2]["dev"]["loss"], rel=1e-4)


@pytest.mark.parametrize(
    "flags", [slow(("--bottleneck_size", "8")), ("--freeze_bert", "--untrained", "a", "--task_adapter", "b")]
)
def test_bottlenecks_and_adapters_go_with_it(run, flags):
    _, folder = run(TAGGING, *flags, steps=1)
    assert isinstance(Predictor(folder / "best", device="cpu")("Ann sings.")["entities"], list)


def test_a_stopped_run_goes_on_to_the_same_weights(run, tmp_path, terminated):
    place = folder(tmp_path / "data", SENTENCES * 4)
    _, whole = run(TAGGING, "--data_dir", place, "--comment", "whole")
    with terminated(step=4):
        run(TAGGING, "--data_dir", place, "--comment", "stopped")
    _, stopped = run(TAGGING, "--data_dir", place, "--comment", "stopped")
    one, other = (load_file(path / "model.safetensors") for path in (whole, stopped))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_saved_model_works_in_transformers_pipeline(run):
    from transformers import pipeline

    _, folder = run(TAGGING, steps=1)
    found = pipeline("token-classification", model=str(folder / "best"), device="cpu", ignore_labels=[])("Ann sings.")
    assert {token["entity"] for token in found} <= set(Predictor(folder / "best", device="cpu").task.labels)
