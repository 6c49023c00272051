"""Probing for facts: against cases worked out by hand, and against what transformers' own models compute."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from conftest import DEMO_BACKBONE, TINY_ADAPTER, load_script
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig, BertForMaskedLM, BertTokenizer

from kadapter import HeadConfig, KAdapterModel, TaskModel
from kadapter.data.jsonio import write_jsonl
from kadapter.models.language_model import pretrained_head
from kadapter.probing import ranking
from kadapter.probing.facts import Facts, Template, read_lama, read_own, read_templates
from kadapter.probing.models import BARE, load_probed
from kadapter.probing.names import guessed_from_names, object_in_subject
from kadapter.probing.ranking import encode, rank
from kadapter.probing.scores import average, groups, interval, score, scores_of
from kadapter.probing.vocabulary import answerable, candidates, read_words, single_tokens, token_table, whole_words

PROBE, MLM = load_script("scripts/probe_lama.py"), load_script("examples/run_pretrain_mlm_adapter.py")
CPU = torch.device("cpu")
WORDS = ["London", "Paris", "Rome", "Oslo", "France", "Jean", "Ann", "dog", "cat", "born", "was", "in", "died", "is"]
WORDS += [*"bcde", ".", ":", "common", "name", "following", "country", "city", "the", "a"]


def fact(relation="P19", subject="Ann", object_="Oslo", collection="T-REx", cardinality="N-1"):
    return Template("[X] was born in [Y] .", cardinality).fact(collection, relation, subject, object_)


def lama(folder, rows=None, **further):
    """A folder in LAMA's form; rows: relation -> (subject, object) pairs."""
    pairs = rows or {"P19": [("Ann", "Oslo"), ("Jean", "Paris")], "P106": [("Ann", "dog")]}
    kinds = {"P19": ("[X] was born in [Y] .", "N-1"), "P106": ("[X] is a [Y] .", "N-M")}
    (folder / "TREx").mkdir(parents=True, exist_ok=True)
    write_jsonl(
        folder / "relations.jsonl",
        [{"relation": name, "template": text, "type": kind} for name, (text, kind) in kinds.items()],
    )
    for name, own in pairs.items():
        write_jsonl(folder / "TREx" / f"{name}.jsonl", [{"sub_label": s, "obj_label": o} for s, o in own])
    for name, own in further.items():
        path = folder / {"google": "Google_RE/place_of_birth_test.jsonl", "squad": "Squad/test.jsonl"}[name]
        path.parent.mkdir(exist_ok=True)
        write_jsonl(path, own)
    (folder / "common_vocab_cased.txt").write_text("".join(f"{word}\n" for word in WORDS), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A random BERT with a masked-language-model head and a vocabulary of whole words."""
    folder = tmp_path_factory.mktemp("bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s"]
    tokenizer = BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=False)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, bert):
    """An adapter for it whose projections matter."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(1)
    model = KAdapterModel.from_pretrained(bert, adapters={"kg": TINY_ADAPTER})
    with torch.no_grad():
        for name, parameter in model.adapters.named_parameters():
            if "project.weight" in name:
                parameter.normal_(std=0.3)
    model.save_adapter(folder, "kg")
    return folder


# -- facts ------------------------------------------------------------------------------------------------------


def test_a_template_becomes_a_sentence_with_one_gap():
    one = Template("[Y] participated in the [X] .").fact("T-REx", "P1923", "Cup [Y] 1990 ", "Italy")
    assert one.sentence("<mask>") == "<mask> participated in the Cup [Y] 1990 ."
    assert fact().sentence("[MASK]") == "Ann was born in [MASK] ."


def test_lamas_files_become_queries_as_its_code_has_them(tmp_path):
    yes, no, skip = ({"judgment": word} for word in ("yes", "no", "skip"))
    google = [
        {"sub_label": "Ann", "obj_label": "Oslo", "judgments": [yes, yes, no]},
        {"sub_label": "Ann", "obj_label": "Oslo", "judgments": [yes]},  # the same again
        {"sub_label": "Jean", "obj_label": "Rome", "judgments": [yes, no, no]},
        {"sub_label": "Jean", "obj_label": "Oslo", "judgments": [yes, no, skip]},  # what is not "yes" is no
        {"sub_label": "Jean", "obj_label": "Paris", "judgments": [yes, no]},  # as often is enough
    ]
    squad = [
        {"masked_sentences": ["Ann is in [MASK] ."], "obj_label": "Rome"},
        {"masked_sentences": ["Ann is in [MASK] ."], "obj_label": "Rome"},  # sentences are not compared
        {"masked_sentences": ["Ann .", "[MASK] is a [MASK] ."], "obj_label": "dog", "sub_label": "Squad"},
        {"masked_sentences": ["word " * 100 + "[MASK]"], "obj_label": "dog"},
    ]
    found = read_lama(
        lama(tmp_path, {"P19": [("Ann", "Oslo"), ("Ann", "Oslo"), ("Ann", "Rome")]}, google=google, squad=squad)
    )
    asked = [(one.collection, one.relation, one.object, one.sentence("_")) for one in found.facts]
    assert asked == [
        ("Google-RE", "place_of_birth", "Oslo", "Ann was born in _ ."),
        ("Google-RE", "place_of_birth", "Paris", "Jean was born in _ ."),
        ("T-REx", "P19", "Oslo", "Ann was born in _ ."),
        ("T-REx", "P19", "Rome", "Ann was born in _ ."),
        ("SQuAD", "SQuAD", "Rome", "Ann is in _ ."),
        ("SQuAD", "SQuAD", "Rome", "Ann is in _ ."),
        ("SQuAD", "SQuAD", "dog", "Ann . _ is a _ ."),
    ]
    assert found.counts == {
        "Google-RE": {"read": 5, "repeated": 1, "denied by its annotators": 2},
        "T-REx": {"read": 3, "repeated": 1},
        "SQuAD": {"read": 4, "of more than 100 words": 1},
    }
    assert found.lacking == {"Google-RE": ["date_of_birth", "place_of_death"], "T-REx": ["P106"]}
    assert {one.cardinality for one in found.facts if one.collection == "T-REx"} == {"N-1"}


def test_facts_of_a_graph_take_templates_of_either_form(tmp_path):
    (tmp_path / "graph.tsv").write_text("Q1\tP19\tQ2\nQ1\tP9\tQ2\nQ1\tP19\tQ3\nQ1\tP20\tQ2\n")
    (tmp_path / "names.tsv").write_text("Q1\tAnn\tAnnie\nQ2\tOslo\n")
    forms = {"P19": "{subject} was born in {object}.", "P20": "[X] died in [Y]."}
    (tmp_path / "t.json").write_text(json.dumps(forms))
    found = read_own([tmp_path / "graph.tsv"], tmp_path / "t.json", [tmp_path / "names.tsv"])
    assert {one.sentence("_") for one in found.facts} == {"Ann was born in _.", "Ann died in _."}
    assert found.counts["own facts"] == {
        "read": 4,
        "of a relation without a template": 1,
        "of entities that have no name but an id": 1,
    }
    (tmp_path / "t.txt").write_text("P19\t[X] was born in [Y].\n\n")
    assert read_templates(tmp_path / "t.txt") == {"P19": Template("[X] was born in [Y].")}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.json", '{\n "P19": "[X] [Y]",\n "P20": "[X] died"\n}', r"t\.json, line 3: the template is \"\[X\] died\""),
        ("t.json", '{"P19": "{subject} {subject} {object}"}', r"line 1: the template is .*\{subject\} and \{object\}"),
        ("t.json", '{"P19": 3}', r"t\.json, line 1: the template is 3; write \[X\] for the subject"),
        ("t.json", "[]", r"holds \[\]; write \{relation: template\}"),
        ("t.json", "{}", "holds no template"),
        ("t.tsv", "P19\t[X] [Y]\nP20\t[X] [X] [Y]\n", r"t\.tsv, line 2: the template is"),
        ("t.tsv", "P19\t[X] [Y]\nP19\t[Y] [X]\n", "line 2: the relation 'P19' has a template already"),
        ("t.tsv", "P19 [X] [Y]\n", "line 1: 1 columns; write a relation, a tab and a template"),
        ("t.jsonl", '{"relation": "P19"}\n', r"the keys \['template'\] are missing"),
    ],
)
def test_a_bad_template_is_named_with_its_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_templates(tmp_path / name)


def test_what_is_wrong_with_lamas_files_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not there; give the folder of LAMA's data"):
        read_lama(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="holds no data of LAMA"):
        read_lama(tmp_path)
    folder = lama(tmp_path / "lama", squad=[{"masked_sentences": ["no gap"], "obj_label": "dog"}])
    with pytest.raises(ValueError, match=r"Squad/test\.jsonl, record 1: no \[MASK\] stands in"):
        read_lama(folder)
    write_jsonl(folder / "Squad" / "test.jsonl", [{"masked_sentences": "[MASK]", "obj_label": "dog"}])
    with pytest.raises(ValueError, match="masked_sentences is .*; give a list of texts"):
        read_lama(folder)
    write_jsonl(folder / "TREx" / "P9.jsonl", [{"sub_label": "a", "obj_label": "b"}])
    with pytest.raises(ValueError, match=r"has no template for P9\.jsonl; add 'P9'"):
        read_lama(folder)
    (folder / "TREx" / "P9.jsonl").unlink()
    write_jsonl(folder / "TREx" / "P19.jsonl", [{"sub_label": "a", "obj_label": None}])
    with pytest.raises(ValueError, match=r"P19\.jsonl, record 1: obj_label is null; give a text"):
        read_lama(folder)
    (folder / "TREx" / "P19.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"P19\.jsonl is empty"):
        read_lama(folder)


def test_a_graph_without_a_fitting_template_or_names_is_refused(tmp_path):
    graph, forms = tmp_path / "graph.tsv", tmp_path / "t.json"
    graph.write_text("Q1\tP19\tQ2\n")
    forms.write_text('{"P20": "[X] [Y]"}')
    with pytest.raises(ValueError, match=r"has templates for \[\"P20\"\], but the facts' relations are \[\"P19\"\]"):
        read_own([graph], forms)
    forms.write_text('{"P19": "[X] [Y]"}')
    with pytest.raises(ValueError, match="no triple has names for both its ends; give --aliases"):
        read_own([graph], forms)


# -- vocabulary -------------------------------------------------------------------------------------------------


def test_candidates_are_one_token_of_every_model(bert, tokenizer, tmp_path):
    words = AutoTokenizer.from_pretrained(bert)
    assert single_tokens(words, ["Oslo", "dogs", "Bergen"]) == {"Oslo": words.convert_tokens_to_ids("Oslo")}
    behind_blank = tokenizer.convert_ids_to_tokens(single_tokens(tokenizer, ["the"])["the"])
    assert behind_blank == "Ġthe"
    assert candidates({"bert": words, "demo": tokenizer}, ["Oslo", "the", "zzz", "in"]) == ["the", "in"]
    assert set(whole_words(words)) == {word for word in WORDS if word.isalnum()}
    with pytest.raises(ValueError, match="no word of the vocabulary is one token of bert"):
        candidates({"bert": words}, ["zzz"])
    (tmp_path / "v.txt").write_text("Oslo\n\nRome\nOslo\n")
    assert read_words(tmp_path / "v.txt") == ["Oslo", "Rome"]


def test_words_that_an_uncased_tokenizer_cannot_tell_apart_are_one_candidate():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "may", "paris"]
    uncased = BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=True)
    tokens, places = token_table(uncased, ["May", "may", "Paris"])
    assert tokens.tolist() == [5, 6]
    assert places == {"May": 0, "may": 0, "Paris": 1}
    said = ranking._predicted_words(
        [fact(object_="may"), fact(object_="Paris")], places, {0: "May", 1: "Paris"}, np.array([[0, 1]] * 2)
    )
    assert said == [["may", "Paris"], ["May", "Paris"]]  # so that the right word is what was predicted


def test_objects_outside_of_the_vocabulary_are_counted():
    found = Facts([fact(), fact(object_="New York"), fact(object_="Bergen")])
    assert answerable(found, ["Oslo"]) == [fact()]
    assert found.counts["T-REx"] == {"with an object outside of the vocabulary": 2}
    with pytest.raises(ValueError, match="no object is one token of every model .* such as 'Oslo', 'New York'"):
        answerable(found, ["Rome"])


# -- scores -----------------------------------------------------------------------------------------------------


def test_scores_are_those_worked_out_by_hand():
    one = score(np.array([1, 2, 10, 20]))
    assert (one.p1, one.p10, one.mrr) == pytest.approx((25.0, 75.0, (1 + 0.5 + 0.1 + 0.05) / 4))
    both = average([one, score(np.array([1]))])
    assert (both.facts, both.relations, both.p1) == (5, 2, 62.5)  # not weighted: 2 of 5 facts would be 40


def test_facts_are_grouped_by_collection_cardinality_and_uhn():
    facts = [
        fact(),
        fact(subject="Oslo"),
        fact("P106", cardinality="N-M"),
        fact("SQuAD", collection="SQuAD", cardinality=""),
    ]
    found = groups(facts, [True, False, True, False])
    shown = {group.name: {name: own.tolist() for name, own in group.members.items()} for group in found}
    assert shown == {
        "T-REx": {"P19": [0, 1], "P106": [2]},
        "T-REx, N-1": {"P19": [0, 1]},
        "T-REx, N-M": {"P106": [2]},
        "UHN T-REx": {"P19": [0], "P106": [2]},
        "SQuAD": {"SQuAD": [3]},
    }
    ranks = np.array([1, 5, 1, 1])
    assert scores_of(found[0], ranks)["average"]["p1"] == 75.0
    low, high = interval(found[0], ranks)
    assert (low, high) == (50.0, 100.0)  # P106 has one fact, which is right in every sample


def test_the_difference_that_is_tested_is_that_of_the_averages():
    report = load_script("scripts/probe_report.py")
    rng = np.random.default_rng(0)
    facts = [fact(f"P{i}") for i, size in enumerate((5, 50, 100)) for _ in range(size)]
    ranked = {name: report.Ranked(rng.integers(1, 4, len(facts)), [], np.zeros((0, 0))) for name in ("first", "second")}
    answers = report.Answers(facts, None, groups(facts, None), ranked)
    found = report.differences(answers)["second"]["T-REx"]
    first, second = (answers.p1(name, answers.groups[0]) for name in ("first", "second"))
    assert found.points == pytest.approx(second - first)
    assert found.low < found.points < found.high


def test_the_test_of_one_relation_is_that_of_other_comparisons():
    """`difference` resamples each example through scipy."""
    tests = load_script("scripts/paired_tests.py")
    rng = np.random.default_rng(1)
    base, other = rng.random(60) < 0.3, rng.random(60) < 0.5
    found = tests.difference_of_averages(base, other, [np.arange(60)])
    ones = np.ones(60)
    wanted = tests.difference(*(np.stack([right, ones, ones], axis=-1)[None] for right in (base, other)))
    assert found.points == pytest.approx(wanted.points)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=2)
    assert found.p_value == pytest.approx(wanted.p_value, abs=0.02)
    same = tests.difference_of_averages(base, base, [np.arange(60)])
    assert (same.points, same.low, same.high, same.p_value) == (0, 0, 0, 1)


# -- models and ranks -------------------------------------------------------------------------------------------


def ranks_by_hand(folder, facts, words):
    """One sentence at a time through transformers' own model."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokens = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0] for word in words]
    found, best = [], []
    for one in facts:
        before, after = one.sentence("|").split("|")
        ids = tokenizer(before.rstrip(), add_special_tokens=False)["input_ids"] + [tokenizer.mask_token_id]
        ids += tokenizer(after, add_special_tokens=False)["input_ids"]
        ids = [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, ids.index(tokenizer.mask_token_id), tokens]
        order = [words[i] for i in logits.argsort(descending=True)]
        found.append(order.index(one.object) + 1)
        best.append(order[0])
    return found, best


@pytest.mark.parametrize("family", ["bert", "demo"])
def test_ranks_are_those_of_one_sentence_at_a_time(bert, family, tokenizer):
    folder = bert if family == "bert" else DEMO_BACKBONE
    words = [word for word in WORDS if word.isalnum()] if family == "bert" else whole_words(tokenizer)[100:160]
    subjects = ["Ann", "Jean Ann", "the following Ann a b"]
    facts = [fact(subject=subject, object_=word) for word in words[:7] for subject in subjects]
    wanted, best = ranks_by_hand(folder, facts, words)
    (found,) = rank(load_probed(folder, "m"), facts, words, 4, CPU).values()
    assert found.ranks.tolist() == wanted
    assert [row[0] for row in found.top] == best
    assert found.probabilities.shape == (len(facts), 10)
    assert len(set(wanted)) > 5


def test_a_word_in_the_gap_and_a_mask_make_sentences_of_one_length(bert, tokenizer):
    """A tokenizer that makes a token of the blank before the mask would ask about a sentence that nobody writes."""
    for own in (tokenizer, AutoTokenizer.from_pretrained(bert)):
        (query,) = encode(own, [fact(subject="the", object_="in")])
        filled = own("the was born in in .")["input_ids"]
        assert len(query.ids) == len(filled)
        assert query.ids[: query.gap] + query.ids[query.gap + 1 :] == filled[: query.gap] + filled[query.gap + 1 :]


def test_a_model_that_scores_all_words_alike_finds_nothing(bert):
    model = load_probed(bert, "m")
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.zero_()
    (found,) = rank(model, [fact()], ["Oslo", "Rome", "Paris"], 4, CPU).values()
    assert found.ranks.tolist() == [3]


def test_scores_that_are_no_numbers_stop_the_probe(bert):
    model = load_probed(bert, "m")
    with torch.no_grad():
        next(model.module.parameters()).fill_(math.nan)
    with pytest.raises(FloatingPointError, match="m: own head scores 'Ann was born in ___ .'"):
        rank(model, [fact()], ["Oslo", "Rome"], 4, CPU)


def test_the_head_reads_the_bare_state_and_sums_with_adapters(bert, adapter):
    words = [word for word in WORDS if word.isalnum()]
    facts = [fact(subject=subject, object_=word) for word in words[:8] for subject in ("Ann", "Jean the cat")]
    model = load_probed(bert, "m", {"kg": str(adapter)}, untrained=True)
    assert model.settings == (BARE, "kg, add", "untrained kg, add")
    found = rank(model, facts, words, 4, CPU)
    (whole,) = rank(load_probed(bert, "m"), facts, words, 4, CPU).values()
    assert found[BARE].ranks.tolist() == whole.ranks.tolist()
    summed = TaskModel.from_encoder(
        KAdapterModel.from_pretrained(bert, adapters={"kg": str(adapter)}, fusion_mode="add"),
        HeadConfig("masked_lm", len(model.tokenizer)),
    )
    summed.head.load_state_dict(model.module.ways[BARE].head.state_dict())
    tokens, _ = token_table(model.tokenizer, words)
    queries = encode(model.tokenizer, facts)
    for i, query in enumerate(queries):
        ids = torch.tensor([query.ids])
        with torch.no_grad():
            logits = summed.eval()(ids, torch.ones_like(ids), positions=torch.tensor([[query.gap]])).logits[0, 0]
        order = logits[tokens].argsort(descending=True).tolist()
        assert order.index(words.index(facts[i].object)) + 1 == found["kg, add"].ranks[i]
    assert found["kg, add"].ranks.tolist() != found["untrained kg, add"].ranks.tolist() != found[BARE].ranks.tolist()
    two = load_probed(bert, "m", {"kg": str(adapter), "other": str(adapter)})
    assert two.settings == (BARE, "kg, add", "other, add", "all adapters, add")


def test_a_model_without_its_head_is_refused(tiny_backbone, bert, adapter, tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"lacks weights of a masked language model \(lm_head.*would answer at random"):
        load_probed(tiny_backbone, "m")
    with pytest.raises(ValueError, match="would answer at random"):
        load_probed(tiny_backbone, "m", {"kg": str(adapter)})
    ours = KAdapterModel.from_pretrained(bert, adapters={"kg": str(adapter)})
    ours.save_pretrained(tmp_path / "ours")
    AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path / "ours")
    with pytest.raises(ValueError, match="has no head, not a masked-language-model head"):
        load_probed(tmp_path / "ours", "m")
    tokenizer.save_pretrained(bert_copy := shutil.copytree(bert, tmp_path / "copy"))
    with pytest.raises(ValueError, match=r"has \d+ tokens, but the model 33"):
        load_probed(bert_copy, "m")
    with pytest.raises(ValueError, match="is a model with adapters already"):
        load_probed(tmp_path / "ours", "m", {"kg": str(adapter)})


# -- LAMA-UHN ---------------------------------------------------------------------------------------------------


def test_the_first_filter_of_uhn_looks_for_the_object_in_the_name():
    assert object_in_subject(fact(subject="University of oslo"))
    assert object_in_subject(fact(subject="Osloer Straße"))
    assert not object_in_subject(fact(subject="Ann"))


def test_the_second_filter_of_uhn_asks_for_each_word_of_the_name(bert):
    facts = [fact("P27", subject, word) for subject in ("Jean", "Ann Jean") for word in WORDS if word.isalnum()]
    facts += [fact("P106", "Jean", "cat")]
    found = guessed_from_names(load_probed(bert, "names"), facts, 4, CPU)
    tokenizer, model = AutoTokenizer.from_pretrained(bert), AutoModelForMaskedLM.from_pretrained(bert).eval()

    def guesses(word):
        ids = tokenizer(f"{word} is a common name in the following country : [MASK] .", return_tensors="pt").input_ids
        with torch.no_grad():
            logits = model(ids).logits[0, ids[0].tolist().index(tokenizer.mask_token_id)]
        return tokenizer.convert_ids_to_tokens(logits.topk(3).indices.tolist())

    wanted = [
        one.relation == "P27" and any(one.object in guesses(word) for word in one.subject.split()) for one in facts
    ]
    assert found == wanted
    assert 0 < sum(found) < len(found)


# -- the script -------------------------------------------------------------------------------------------------


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_script_probes_lama_with_everything(bert, adapter, tmp_path, capsys):
    squad = [{"masked_sentences": ["Ann is in [MASK] ."], "obj_label": "Rome"}]
    data = lama(
        tmp_path / "lama",
        {"P19": [("Ann", "Oslo"), ("Oslo", "Oslo"), ("Ann", "New York")], "P106": [("Ann", "dog")]},
        squad=squad,
    )
    flags = ["--model_name_or_path", str(bert), f"--adapter=kg={adapter}", "--untrained", "--data", str(data)]
    flags += ["--uhn_model", str(bert), "--output", str(tmp_path / "out"), "--no_cuda"]
    report = PROBE.main(flags)
    name = bert.name
    assert [*report["scores"]] == [f"{name}: {way}" for way in (BARE, "kg, add", "untrained kg, add")]
    assert report["counts"]["T-REx"] == {"read": 4, "with an object outside of the vocabulary": 1}
    own = report["scores"][f"{name}: kg, add"]["T-REx"]
    assert own["average"]["facts"] == 3
    assert own["average"]["p1"] == pytest.approx((own["relations"]["P19"]["p1"] + own["relations"]["P106"]["p1"]) / 2)
    rows = read(tmp_path / "out" / "predictions" / f"{name}-kg-add.jsonl")
    assert [row["label"] for row in rows] == ["Oslo", "Oslo", "dog", "Rome"] or len(rows) == 4
    for row in rows:
        assert (row["predicted"] == row["label"]) == (row["rank"] == 1)
        assert [*row["top"]][0] == row["predicted"]
    assert [row["uhn"] for row in rows if row["subject"] == "Oslo"] == [False]
    assert json.loads((tmp_path / "out" / "probe.json").read_text()) == json.loads(json.dumps(report))
    said = capsys.readouterr().out
    assert "T-REx: 3 facts asked of 4, 1 with an object outside of the vocabulary" in said
    assert "UHN T-REx" in said
    assert (tmp_path / "out" / "probe.png").stat().st_size > 1000
    text = (tmp_path / "out" / "probe.md").read_text(encoding="utf-8")
    assert "| T-REx | P106 | 1 |" in text
    assert "| published P@1 | T-REx | UHN T-REx |" in text
    assert "| K-Adapter F (paper) | 29.1 | 23.0 |" in text
    read_outcomes = load_script("scripts/paired_tests.py").read_outcomes
    assert len(read_outcomes(tmp_path / "out" / "predictions" / f"{name}-kg-add.jsonl")[0]) == 4


def test_several_models_choose_among_the_words_of_all(bert, tmp_path, capsys):
    data = lama(tmp_path / "lama", {"P19": [("Ann", "in"), ("Ann", "Oslo")]})
    models = [str(bert), str(DEMO_BACKBONE)]
    report = PROBE.main(["--model_name_or_path", *models, "--data", str(data), "--output", str(tmp_path / "out")])
    assert len(report["scores"]) == 2
    assert {own["T-REx"]["average"]["facts"] for own in report["scores"].values()} == {1}
    assert report["words"] < len(WORDS)
    assert report["differences"].keys() == {"roberta-demo: own head"}


def test_a_relation_without_facts_left_is_named(bert, tmp_path, capsys):
    data = lama(tmp_path / "lama", {"P19": [("Ann", "Oslo")], "P106": [("Ann", "baker")]})
    PROBE.main(["--model_name_or_path", str(bert), "--data", str(data), "--output", str(tmp_path / "out")])
    assert "nothing is left of P106, which no average holds" in capsys.readouterr().out


@pytest.mark.slow
def test_own_facts_are_probed_before_and_after_on_what_training_left(run, world, tmp_path):
    """A domain adapter, then the fusion alone beside it: each leaves what the probe reads."""
    backbone = ("--model_name_or_path", DEMO_BACKBONE)
    _, folder = run(MLM, *backbone, steps=2)
    _, fused = run(MLM, *backbone, "--fusion_alone", "--meta_adapter_model", folder, "--comment", "fusion", steps=2)
    names = [*json.loads((world / "world.json").read_text())["entities"]]
    own = [name for name in names if name in single_tokens(AutoTokenizer.from_pretrained(DEMO_BACKBONE), names)]
    (tmp_path / "facts.tsv").write_text("".join(f"{a}\tknows\t{b}\n" for a, b in zip(own, own[1:], strict=False)))
    (tmp_path / "t.json").write_text('{"knows": "[X] and [Y] ."}')
    flags = [
        *map(str, backbone),
        f"--adapter=bio={folder}",
        f"--adapter=same={fused}",
        "--output",
        str(tmp_path / "out"),
    ]
    flags += ["--facts", str(tmp_path / "facts.tsv"), "--templates", str(tmp_path / "t.json")]
    report = PROBE.main(flags)
    ways = [label.split(": ")[1] for label in report["scores"]]
    assert ways == [
        BARE,
        "bio, add",
        "same, add",
        "all adapters, add",
        "bio, trained concat and head",
        "same, trained concat",
    ]
    assert {own["own facts"]["average"]["facts"] for own in report["scores"].values()} == {len(own) - 1}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give --data with LAMA's folder, or --facts with --templates"),
        (["--data", "x", "--facts", "y"], "give --data with LAMA's folder, or --facts"),
        (["--facts", "y"], "--facts, --templates and --aliases go together"),
        (["--facts", "y", "--templates", "t", "--uhn_model", "m"], "--uhn_model is for LAMA's relations"),
        (["--data", "x", "--untrained"], "--untrained takes the shape of --adapter"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, message, capsys):
    with pytest.raises(SystemExit):
        PROBE.main(["--model_name_or_path", "m", *flags])
    assert message in capsys.readouterr().err


def test_names_of_models_tell_them_apart():
    assert PROBE.short_names(["roberta-base", "a/b/best", "a/c/best", "x/m", "y/m"]) == [
        "roberta-base",
        "b/best",
        "c/best",
        "x/m",
        "y/m",
    ]


def test_a_missing_list_of_words_is_named(bert, tmp_path):
    data = lama(tmp_path / "lama")
    (data / "common_vocab_cased.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"common_vocab_cased\.txt is missing; .*--vocabulary"):
        PROBE.main(["--model_name_or_path", str(bert), "--data", str(data), "--output", str(tmp_path / "out")])


# -- the fusion alone -------------------------------------------------------------------------------------------


def test_the_fusion_alone_is_trained_beside_a_finished_adapter(run, tmp_path):
    torch.manual_seed(0)
    model = KAdapterModel.from_pretrained(DEMO_BACKBONE, adapters={"kg": TINY_ADAPTER})
    model.save_adapter(tmp_path / "kg", "kg")
    flags = ("--model_name_or_path", DEMO_BACKBONE, "--meta_adapter_model", tmp_path / "kg", "--fusion_alone")
    _, folder = run(MLM, *flags, steps=1)
    trained = load_file(folder / "checkpoint-1" / "trained.safetensors")
    assert {*trained} == {"encoder.fusion.task_dense_mlm.weight", "encoder.fusion.task_dense_mlm.bias"}
    for name, value in load_file(folder / "adapter_model.safetensors").items():
        assert torch.equal(model.adapters["kg"].state_dict()[name], value)
    head, own = load_file(folder / "pretraining_head.safetensors"), pretrained_head(DEMO_BACKBONE)
    assert all(torch.equal(head[name], value) for name, value in own.items())
    assert not torch.equal(head["com_dense.weight"], torch.eye(128, 256))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--no_adapter"], "--fusion_alone needs a finished adapter"),
        ([], "--fusion_alone needs a finished adapter"),
        (["--meta_adapter_model", "x", "--fusion_mode", "add"], "--fusion_mode add has nothing to train"),
        (["--meta_adapter_model", "x"], "has no masked-language-model head of BERT's form"),
    ],
)
def test_the_fusion_alone_needs_something_to_train_and_a_head(run, flags, message):
    with pytest.raises(ValueError, match=message):
        run(MLM, "--fusion_alone", *flags)
