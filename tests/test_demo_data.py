"""The demo world's files hold what they promise: right offsets, no clue about types, separate splits."""

import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import load_script
from transformers import AutoModel, AutoTokenizer

from kadapter.data.openqa import read_openqa

SIZES = "--entities_per_type 20 --facts_per_relation 20 --trees 200 --backbone_lines 2000"
SPLITS = ("train", "dev", "test")


demo = load_script("scripts/make_demo_data.py")
VERBS, ADVERBS = (set(getattr(sys.modules["demo_trees"], name)) for name in ("VERBS", "ADVERBS"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo")
    demo.main(["--output_dir", str(path), *SIZES.split()])
    return path


def read(path: Path) -> list | dict:
    return json.loads(path.read_text(encoding="utf-8"))


def files_of(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def raw_documents(folder: Path) -> list[dict]:
    return [document for path in sorted((folder / "trex-raw").iterdir()) for document in read(path)]


def template_of(row: dict) -> str:
    return row["sent"][: row["start"]] + "{}" + row["sent"][row["end"] :]


def test_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    demo.main(["--output_dir", str(tmp_path), *SIZES.split()])
    assert files_of(tmp_path) == files_of(folder)
    assert len(files_of(folder)) == 38


def test_another_seed_gives_another_world(folder: Path, tmp_path: Path) -> None:
    demo.main(["--output_dir", str(tmp_path), "--seed", "7", *SIZES.split()])
    same = [name for name, content in files_of(tmp_path).items() if content == files_of(folder)[name]]
    assert sorted(same) == ["stated/templates.json", "trex-rc/relations.json"]


def test_of_a_questions_paragraphs_one_tells_and_three_deny(folder: Path) -> None:
    entities, seen = read(folder / "world.json")["entities"], {}
    for split in ("train", "dev", "test"):
        for one in read_openqa(folder / "questions", split):
            denied = [text for text in one.paragraphs if " not " in text]
            (told,) = set(one.paragraphs) - set(denied)
            assert len(denied) == 3
            assert told.endswith(f" with {one.answers[0]} .")
            assert len({text.split(" with ")[1] for text in denied}) == 1
            seen.setdefault(split, set()).add(one.answers[0])
        assert {entities[name]["split"] for name in seen[split]} == {split}


def test_names_are_unique_and_no_name_is_a_part_of_another(folder: Path) -> None:
    names = list(read(folder / "world.json")["entities"])
    assert len(names) == 120
    assert not [(a, b) for a in names for b in names if a != b and a.lower() in b.lower()]


@pytest.mark.parametrize("split", ["train", "dev"])
def test_trex_rc_rows_mark_the_names_and_their_types_decide_the_relation(folder: Path, split: str) -> None:
    world = read(folder / "world.json")
    by_qid = {entity["qid"]: entity for entity in world["entities"].values()}
    rows = read(folder / "trex-rc" / f"{split}.json")
    assert {row["relation"] for row in rows} == set(read(folder / "trex-rc" / "relations.json"))
    for row in rows:
        subject, object_ = by_qid[row["subj_label"]], by_qid[row["obj_label"]]
        assert " ".join(row["token"][row["subj_start"] : row["subj_end"] + 1]) == subject["name"]
        assert " ".join(row["token"][row["obj_start"] : row["obj_end"] + 1]) == object_["name"]
        assert world["relations"][row["relation"]] == [subject["type"], object_["type"]]
    assert 0.4 < sum(row["subj_start"] < row["obj_start"] for row in rows) / len(rows) < 0.6


def test_dev_facts_are_not_in_train_and_their_entities_are(folder: Path) -> None:
    train, dev = (
        {(row["subj_label"], row["obj_label"]) for row in read(folder / "trex-rc" / f"{split}.json")}
        for split in ("train", "dev")
    )
    assert not train & dev
    assert {entity for pair in dev for entity in pair} <= {entity for pair in train for entity in pair}


def test_raw_triples_fall_on_word_boundaries_of_their_sentence(folder: Path) -> None:
    for document in raw_documents(folder):
        text = document["text"]
        starts, ends = zip(*document["words_boundaries"], strict=True)
        words = [text[start:end] for start, end in document["words_boundaries"]]
        assert "".join(words) == text.replace(" ", "")
        assert not any(" " in word for word in words)
        for triple in document["triples"]:
            low, high = document["sentences_boundaries"][triple["sentence_id"]]
            assert low in starts
            assert high in ends
            for side in (triple["subject"], triple["object"]):
                start, end = side["boundaries"]
                assert low <= start < end <= high
                assert start in starts
                assert end in ends
                assert text[start:end] == side["surfaceform"]
                assert side in document["entities"]


def test_raw_facts_are_the_facts_of_trex_rc(folder: Path) -> None:
    raw = [
        tuple(triple[key]["uri"].rsplit("/", 1)[1] for key in ("subject", "predicate", "object"))
        for document in raw_documents(folder)
        for triple in document["triples"]
    ]
    rows = read(folder / "trex-rc" / "train.json") + read(folder / "trex-rc" / "dev.json")
    assert len(raw) == len(set(raw))
    assert set(raw) == {(row["subj_label"], row["relation"], row["obj_label"]) for row in rows}


def test_trees_have_one_root_and_no_cycle_and_their_offsets_give_the_words(folder: Path) -> None:
    rows = read(folder / "find_head" / "train.json")
    distances = Counter()
    for row in rows:
        heads = {pair["dependent_index"]: pair["governor_index"] for pair in row["pairs"]}
        assert [next(iter(token)) for token in row["tokens"]] == [str(i) for i in heads]
        spans = [span for token in row["tokens"] for span in token.values()]
        words = [row["sent"][span["start"] : span["end"]] for span in spans]
        assert "".join(words) == row["sent"].replace(" ", "")
        assert all(re.fullmatch(r"\w+|[.,]", word) for word in words)
        assert list(heads.values()).count(0) == 1
        for node in heads:
            for _ in heads:
                node = heads[node] if node else 0
            assert node == 0
        distances.update(head - dependent for dependent, head in heads.items() if head)
    assert min(distances) < -5
    assert max(distances) > 5


def actors(folder: Path, split: str) -> list[tuple[list[str], list[str]]]:
    """Words and tags of each sentence."""
    blocks = (folder / "actors" / f"{split}.conll").read_text(encoding="utf-8").strip().split("\n\n")
    lines = [[line.split("\t") for line in block.split("\n")] for block in blocks]
    return [tuple(map(list, zip(*rows, strict=True))) for rows in lines]


def test_who_acts_is_told_by_that_before_the_first_verb_and_by_no_other_word(folder: Path) -> None:
    found: dict[str, list[list[str]]] = {"B-first": [], "B-second": []}
    for split in SPLITS:
        for words, tags in actors(folder, split):
            assert [tag for tag in tags if tag != "O"] == [tags[-2]]
            assert words[-4:-2][0] == "and"
            verbs = [i for i, word in enumerate(words) if word in VERBS]
            before = [word for word in words[: verbs[0]] if word not in ADVERBS]
            assert (before[-1] == "that") == (tags[-2] == "B-first")
            found[tags[-2]].append(words)
    assert len(found["B-first"]) == len(found["B-second"])
    for one in (lambda words: len([word for word in words if word in VERBS]), lambda words: words[-2]):
        shares = [Counter(map(one, sentences)) for sentences in found.values()]
        assert all(abs(shares[0][key] - count) < 100 for key, count in shares[1].items())


def test_sentences_of_who_acts_share_no_name_between_splits_and_are_in_no_tree(folder: Path) -> None:
    entities = read(folder / "world.json")["entities"]
    first = {name.split()[0]: entity["split"] for name, entity in entities.items()}
    assert len(first) == len(entities)
    trees = {row["sent"] for split in ("train", "dev") for row in read(folder / "find_head" / f"{split}.json")}
    for split in SPLITS:
        for words, _ in actors(folder, split):
            assert [first[word] for word in words if word in first] == [split, split]
            assert " ".join(words[:-1]) + "." not in trees


def test_stated_facts_have_one_object_each_which_is_marked_and_half_are_not_stated_as_they_are_asked(
    folder: Path,
) -> None:
    names = {entity["qid"]: name for name, entity in read(folder / "world.json")["entities"].items()}
    triples = [line.split("\t") for line in (folder / "stated" / "triples.tsv").read_text().splitlines()]
    objects = {names[subject]: names[object_] for subject, _, object_ in triples}
    assert len(objects) == len(triples) == len(set(objects.values()))
    rows = [json.loads(line) for line in (folder / "stated" / "train.jsonl").read_text().splitlines()]
    templates = read(folder / "stated" / "templates.json")
    relations = {names[subject]: relation for subject, relation, _ in triples}
    count = {relation: list(relations.values()).count(relation) for relation in templates}
    assert count["P9501"] <= count["P9500"] <= count["P9501"] + 1
    assert len(rows) == 2 * len(triples) + count["P9500"]
    for row in rows:
        ((start, end),) = row["spans"]
        subject = names[row["subject"]]
        assert objects[subject] == row["text"][start:end]
        assert f" {subject} " in row["text"]
        question = templates[relations[subject]].replace("[X]", subject).replace("[Y]", objects[subject])
        assert row["text"] != question or relations[subject] == "P9500"
    assert all(" " not in object_ for object_ in objects.values())


def test_no_tree_is_in_train_and_dev(folder: Path) -> None:
    train, dev = ([row["sent"] for row in read(folder / "find_head" / f"{split}.json")] for split in ("train", "dev"))
    assert len(set(train)) == len(train) == 200
    assert len(set(dev)) == len(dev) == 20
    assert not set(train) & set(dev)


@pytest.mark.parametrize("split", ["train", "dev"])
def test_conllu_and_find_head_hold_the_same_trees(folder: Path, split: str) -> None:
    conllu = pytest.importorskip("kadapter.data.conllu")
    rows = read(folder / "find_head" / f"{split}.json")
    sentences = list(conllu.read_conllu(folder / "conllu" / f"{split}.conllu"))
    assert [conllu.to_find_head(sentence) for sentence in sentences] == rows


def test_typing_offsets_give_the_name_and_its_type(folder: Path) -> None:
    entities = read(folder / "world.json")["entities"]
    for split in SPLITS:
        for row in read(folder / "OpenEntity" / f"{split}.json"):
            entity = entities[row["sent"][row["start"] : row["end"]]]
            assert row["labels"] == [entity["type"]]
            assert entity["split"] == split


def test_typing_splits_share_neither_entities_nor_templates(folder: Path) -> None:
    names, templates = [], []
    for split in SPLITS:
        rows = read(folder / "OpenEntity" / f"{split}.json")
        names.append({row["sent"][row["start"] : row["end"]] for row in rows})
        templates.append({template_of(row) for row in rows})
    for groups in (names, templates):
        assert len(set.union(*groups)) == sum(map(len, groups))
    assert not set.union(*templates) & set(demo.PAIR_TEMPLATES)


@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_balanced_and_every_template_serves_every_type(folder: Path, split: str) -> None:
    rows = read(folder / "OpenEntity" / f"{split}.json")
    labels = Counter(row["labels"][0] for row in rows)
    assert set(labels) == set(demo.TYPES)
    assert len(set(labels.values())) == 1
    assert len({(row["sent"], row["start"]) for row in rows}) == len(rows)  # no example twice
    used = Counter((template_of(row), row["labels"][0]) for row in rows)
    assert len(used) == len(demo.TYPING_TEMPLATES[split]) * len(demo.TYPES)
    assert max(used.values()) - min(used.values()) <= 1


def test_no_text_says_a_type(folder: Path) -> None:
    texts = [(folder / "backbone" / "text.txt").read_text(encoding="utf-8")]
    texts += [row["sent"] for split in SPLITS for row in read(folder / "OpenEntity" / f"{split}.json")]
    texts += [" ".join(row["token"]) for row in read(folder / "trex-rc" / "train.json")]
    words = {word for text in texts for word in re.findall(r"\w+", text.lower())}
    assert not [word for word in words for kind in demo.TYPES if kind in word]


def test_the_backbone_text_names_every_entity_and_states_no_fact(folder: Path) -> None:
    names = list(read(folder / "world.json")["entities"])
    lines = (folder / "backbone" / "text.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2000
    rows = read(folder / "trex-rc" / "train.json") + read(folder / "trex-rc" / "dev.json")
    by_qid = {entity["qid"]: name for name, entity in read(folder / "world.json")["entities"].items()}
    stated = {frozenset(by_qid[row[key]] for key in ("subj_label", "obj_label")) for row in rows}
    pattern = re.compile(r"\b(?:" + "|".join(names) + r")\b")
    found = [frozenset(pattern.findall(line)) for line in lines]
    assert set().union(*found) == set(names)
    assert not stated.intersection(found)
    assert all(f" {marker} " in "\n".join(lines) for marker in demo.MARKERS)


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--entities_per_type", "3"], "entities_per_type 3"), (["--facts_per_relation", "9999"], "only")],
)
def test_impossible_sizes_are_refused(flags: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        demo.main(["--output_dir", str(tmp_path), *flags])


@pytest.mark.slow
def test_the_script_of_the_demo_backbone_leaves_a_roberta_with_its_tokenizer(folder: Path, tmp_path: Path) -> None:
    script = load_script("scripts/make_demo_backbone.py")
    flags = ["--data_dir", str(folder), "--output_dir", str(tmp_path / "out"), "--vocab_size", "400", "--steps", "2"]
    script.main([*flags, "--batch_size", "4"])
    model, tokenizer = AutoModel.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    assert model.config.model_type == "roberta"
    assert tokenizer("@ a # b ^", add_special_tokens=False)["input_ids"]
    assert len(tokenizer) == model.config.vocab_size
    assert sum(file.stat().st_size for file in (tmp_path / "out").iterdir()) < 6e6
