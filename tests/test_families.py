"""Backbones of every family: features, templates, positions, refusals, and every recipe on each of them."""

import json

import pytest
import torch
from conftest import fast, load_script
from families import DECODERS, FAMILIES, config, save, texts
from tiny import HIDDEN, adapter, difference, enlarge, features
from tokenizers import Tokenizer, models, normalizers
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from kadapter import AdapterConfig, KAdapterConfig, KAdapterModel, TaskModel
from kadapter.configuration import is_causal
from kadapter.data.encoding import Template, encode_texts, marker, tokenize_pieces
from kadapter.shapes import IGNORE
from kadapter.tasks.dependencies import encode_dependencies
from kadapter.tasks.entity_typing import encode_entity_typing
from kadapter.tasks.multiple_choice import encode_choices
from kadapter.tasks.relations import encode_relations
from kadapter.training.encoders import check_length

RECIPES = {
    name: load_script(f"examples/run_{name}.py")
    for name in (
        "pretrain_fac_adapter",
        "pretrain_lin_adapter",
        "pretrain_mlm_adapter",
        "finetune_openentity_adapter",
        "finetune_figer_adapter",
        "finetune_tacred_adapter",
        "finetune_semeval_adapter",
        "finetune_cosmosqa_adapter",
        "finetune_squad_adapter",
        "classifier",
        "example",
    )
}
ENCODERS = [family for family in FAMILIES if family not in DECODERS]
SHAPE = AdapterConfig(adapter_size=16, num_attention_heads=2, intermediate_size=24)
IDS = torch.tensor([[0, 11, 12, 13, 14, 15], [0, 21, 22, 23, 24, 25]])


@pytest.fixture(scope="module")
def folders(world, tmp_path_factory):
    """Family -> a folder that AutoModel and AutoTokenizer load."""
    lines = texts(world)
    return {family: save(family, lines, tmp_path_factory.mktemp("families") / family) for family in FAMILIES}


@pytest.fixture
def tokenizer_of(folders):
    return lambda family: AutoTokenizer.from_pretrained(folders[family])


def model(family):
    torch.manual_seed(0)
    return enlarge(KAdapterModel(KAdapterConfig(backbone_config=config(family), adapters={"own": SHAPE}))).eval()


# -- features ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_features_do_not_depend_on_padding(family):
    wanted = features(model(family), IDS, torch.ones_like(IDS))
    padded = torch.nn.functional.pad(IDS, (0, 5), value=1)
    found = features(model(family), padded, torch.nn.functional.pad(torch.ones_like(IDS), (0, 5)))
    assert difference(found[:, : IDS.shape[1]], wanted) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_see_the_states_that_the_family_itself_gives(family):
    tiny = model(family)
    with torch.no_grad():
        states = tiny.backbone(IDS, attention_mask=torch.ones_like(IDS), output_hidden_states=True)
        alone = tiny.adapters["own"](states.hidden_states, torch.ones_like(IDS))
        output = tiny(IDS, attention_mask=torch.ones_like(IDS))
    assert tiny.adapters["own"].taps == (0, 1, 2)
    assert len(states.hidden_states) == 5
    assert torch.equal(states.hidden_states[-1], states.last_hidden_state)
    assert torch.allclose(output.adapter_states["own"], alone, atol=1e-6)
    assert not torch.allclose(alone, states.hidden_states[2], atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_of_each_family_gives_the_same_features(family, folders, tmp_path):
    tiny = enlarge(KAdapterModel.from_pretrained(folders[family], adapters={"own": SHAPE}))
    tiny.save_pretrained(tmp_path / "saved")
    loaded = KAdapterModel.from_pretrained(tmp_path / "saved")
    assert torch.equal(features(loaded, IDS, torch.ones_like(IDS)), features(tiny, IDS, torch.ones_like(IDS)))


@pytest.mark.parametrize("family", ["roberta", "distilbert", "deberta-v2", "mpnet", "modernbert", *DECODERS])
def test_token_types_are_left_out_where_the_backbone_has_no_use_for_them(family):
    tiny, types = model(family), torch.ones_like(IDS)
    assert torch.equal(features(tiny, IDS, types, token_type_ids=types), features(tiny, IDS, types))


@pytest.mark.parametrize("family", ["bert", "albert", "electra"])
def test_token_types_reach_a_backbone_that_has_them(family):
    tiny, types = model(family), torch.ones_like(IDS)
    assert not torch.allclose(features(tiny, IDS, types, token_type_ids=types), features(tiny, IDS, types), atol=1e-3)


# -- causal attention -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("changes", [{}, {"attend_padding": True}])
@pytest.mark.parametrize("mask", [None, "ones", "right"])
def test_a_causal_adapter_sees_nothing_of_what_follows(attention, changes, mask):
    causal, both = (adapter(causal=value, **changes).eval() for value in (True, False))
    for one in (causal, both):
        enlarge(one)
        one.transformer_config._attn_implementation = attention
    torch.manual_seed(1)
    states = torch.randn(3, 2, 8, HIDDEN)
    other = states.clone()
    other[:, :, 4:] = torch.randn(3, 2, 4, HIDDEN)
    given = None if mask is None else torch.ones(2, 8, dtype=torch.long)
    if mask == "right":
        given[1, 6:] = 0
    with torch.no_grad():
        assert torch.allclose(causal(states, given)[:, :4], causal(other, given)[:, :4], atol=1e-6)
        assert not torch.allclose(causal(states, given)[:, 4:], causal(other, given)[:, 4:], atol=1e-2)
        assert not torch.allclose(both(states, given)[:, :4], both(other, given)[:, :4], atol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_causal_adapter_masks_padding_on_either_side(side):
    causal = enlarge(adapter(causal=True).eval())
    torch.manual_seed(1)
    states, mask, room = torch.randn(3, 2, 5, HIDDEN), torch.ones(2, 5, dtype=torch.long), (3, 0)
    room = room if side == "left" else room[::-1]
    padded = torch.nn.functional.pad(states, (0, 0, *room), value=7.0)
    with torch.no_grad():
        wanted = causal(states, mask)
        found = causal(padded, torch.nn.functional.pad(mask, room))
    assert torch.allclose(found[:, 3:] if side == "left" else found[:, :5], wanted, atol=1e-5)


def test_adapters_tell_a_decoder_what_follows_unless_they_are_causal():
    changed = IDS.clone()
    changed[:, 4:] = 50
    for causal in (False, True):
        torch.manual_seed(0)
        shape = AdapterConfig(**{**SHAPE.to_dict(), "causal": causal})
        tiny = enlarge(KAdapterModel(KAdapterConfig(backbone_config=config("llama"), adapters={"own": shape}))).eval()
        left, right = (features(tiny, ids, torch.ones_like(IDS))[:, :4] for ids in (IDS, changed))
        assert torch.allclose(left, right, atol=1e-5) == causal
    assert KAdapterConfig.from_dict(tiny.config.to_dict()).adapter_config("own").causal


def test_causal_backbones_are_known_by_their_configuration():
    assert [family for family in FAMILIES if is_causal(config(family))] == list(DECODERS)
    assert is_causal(AutoConfig.for_model("bert", is_decoder=True))
    for family in ("qwen2", "mistral", "gpt_neox", "opt"):
        assert is_causal(AutoConfig.for_model(family))


# -- tokenizers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ENCODERS)
def test_the_template_is_the_tokenizers_own(family, tokenizer_of):
    tokenizer = tokenizer_of(family)
    for words in (["Anna lives"], ["Anna lives", "in a city"]):
        found = tokenizer(*words, return_token_type_ids=True)
        pieces = tokenizer(words, add_special_tokens=False)["input_ids"]
        joined = Template.of(tokenizer, len(words)).join(*pieces)
        assert joined["input_ids"] == found["input_ids"]
        assert joined.get("token_type_ids", [0] * len(found["input_ids"])) == found["token_type_ids"]
        assert encode_texts(tokenizer, [words], 64)[0]["input_ids"] == found["input_ids"]


@pytest.mark.parametrize(
    ("family", "bos", "eos"), [("gpt2", "<|endoftext|>", "<|endoftext|>"), ("llama", "<s>", "<s>")]
)
def test_decoders_get_a_first_token_and_a_separator(family, bos, eos, tokenizer_of):
    tokenizer = tokenizer_of(family)
    (feature,) = encode_texts(tokenizer, [["a", "a"]], 64, causal=True)
    (word,) = tokenizer("a", add_special_tokens=False)["input_ids"]
    first, between = tokenizer.convert_tokens_to_ids([bos, eos])
    assert feature["input_ids"] == [first, word, between, word]
    assert feature["positions"] == [3]


@pytest.mark.parametrize("family", FAMILIES)
def test_words_and_markers_keep_their_signs_in_every_tokenizer(family, tokenizer_of):
    tokenizer = tokenizer_of(family)
    pieces = ["Anna Smith", ", who", "lives ( near", "Oslo ) ."]
    ids = tokenize_pieces(tokenizer, pieces)
    assert tokenizer.unk_token_id not in {token for piece in ids for token in piece}
    spelled = "".join(tokenizer.decode([token for piece in ids for token in piece]).split())
    assert spelled.lower() == "".join("".join(pieces).split()).lower()
    whole = tokenizer(" " + " ".join(pieces), add_special_tokens=False)["input_ids"]
    assert [token for piece in ids for token in piece] == whole
    for sign in "@#^":
        assert len(marker(tokenizer, sign, bare=True)) == 1
        assert all(tokenizer.decode(marker(tokenizer, sign, bare)).strip() == sign for bare in (True, False))


def test_a_tokenizer_that_puts_a_space_before_every_text_gets_no_second_one():
    vocab = {token: i for i, token in enumerate(["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "▁b", "▁▁"])}
    legacy = Tokenizer(models.BPE(vocab=vocab, merges=[("▁", "a"), ("▁", "b"), ("▁", "▁")]))
    legacy.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=legacy, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    assert tokenize_pieces(tokenizer, ["a b", "b"]) == [[6, 7], [7]]
    assert tokenizer(" b", add_special_tokens=False)["input_ids"] != [7]


def test_a_marker_that_the_vocabulary_lacks_is_refused():
    tokenizer = BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 5, "@": 6})
    assert marker(tokenizer, "@") == [6]
    for bare in (True, False):
        with pytest.raises(ValueError, match=r"has no token '\^', which marks entities"):
            marker(tokenizer, "^", bare)


def test_a_tokenizer_without_any_special_token_is_refused(tokenizer_of):
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer_of("gpt2").backend_tokenizer)
    with pytest.raises(ValueError, match="has neither cls nor bos nor eos token to put around texts"):
        Template.of(bare)


def test_a_text_whose_tokenizer_ends_with_cls_is_read_there(tokenizer_of):
    tokenizer = tokenizer_of("xlm-roberta")
    last = Template(([], [7, 0]), ([0], [0, 0]), (0,), False, 0)  # XLNet's: text, sep, cls
    assert last.summary(9, causal=False) == 8
    assert Template.of(tokenizer).summary(9, causal=False) == 0
    assert Template.of(tokenizer).summary(9, causal=True) == 8


# -- where heads read -------------------------------------------------------------------------------------------


def test_causal_heads_read_the_last_token_of_what_they_are_about(tokenizer_of):
    tokenizer = tokenizer_of("gpt2")
    mark, other = (marker(tokenizer, sign, bare=True)[0] for sign in "@#")
    pieces = ["Yesterday", "Anna Smith", "met", "Peter", "in Oslo"]
    for first in (True, False):
        row = {"pieces": pieces, "subject_first": first, "relation": "x"}
        (feature,) = encode_relations([row], tokenizer, 64, ["x"], causal=True)
        ids = feature["input_ids"]
        closing = [max(i for i, token in enumerate(ids) if token == sign) for sign in (mark, other)]
        assert feature["positions"] == closing
        (short,) = encode_relations([row], tokenizer, max(closing) + 1, ["x"], causal=True)
        assert short["positions"] == closing
        (lost,) = encode_relations([row], tokenizer, max(closing), ["x"], causal=True)
        assert lost["dropped"]
    row = {"sent": "When Anna Smith came", "start": 5, "end": 15, "labels": ["x"]}
    mark = marker(tokenizer, "@")[0]
    (feature,) = encode_entity_typing([row], tokenizer, 64, ["x"], causal=True)
    before, after = (place for place, token in enumerate(feature["input_ids"]) if token == mark)
    assert before < feature["positions"][0] == after
    (short,) = encode_entity_typing([row], tokenizer, 4, ["x"], causal=True)  # the mention itself is cut
    assert short["positions"] == [3]
    row = {"context": "Anna came .", "endings": [["Who ?", "Anna"], ["Who ?", "Anna Smith and Peter"]], "label": 0}
    (feature,) = encode_choices([row], tokenizer, 64, causal=True)
    assert feature["positions"] == [len(ids) - 1 for ids in feature["input_ids"]]
    assert len(set(feature["positions"])) == 2


def test_causal_dependencies_stand_at_the_last_sub_words(tokenizer_of):
    tokenizer = tokenizer_of("gpt2")
    words, heads = ["Xylophones", "are", "unbelievable"], [3, 3, 0]
    lengths = [len(ids) for ids in tokenize_pieces(tokenizer, words)]
    assert lengths[0] > 1 < lengths[2]
    ends = [sum(lengths[: i + 1]) for i in range(3)]  # behind the first token, which is the root
    (feature,) = encode_dependencies([{"words": words, "heads": heads}], tokenizer, 64, False, causal=True)
    wanted = [IGNORE] * len(feature["input_ids"])
    wanted[ends[0]] = wanted[ends[1]] = ends[2]
    wanted[ends[2]] = 0
    assert feature["labels"] == wanted


@pytest.mark.parametrize("family", ["xlm-roberta", "mpnet", "bert", "albert", "deberta-v2", "modernbert"])
def test_choices_have_one_separator_between_parts_and_the_second_type_behind_the_context(family, tokenizer_of):
    tokenizer = tokenizer_of(family)
    row = {"context": "Anna came .", "endings": [["Who ?", "Anna"], ["Who ?", "Peter"]], "label": 0}
    (feature,) = encode_choices([row], tokenizer, 64)
    ids = feature["input_ids"][0]
    assert ids.count(tokenizer.sep_token_id) == 3
    assert feature["positions"] == [0, 0]
    if family not in ("xlm-roberta", "mpnet"):
        cut = ids.index(tokenizer.sep_token_id) + 1
        assert feature["token_type_ids"][0] == [0] * cut + [1] * (len(ids) - cut)


# -- lengths and refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_longest_sequence_is_what_the_backbone_can_take(family):
    backbone = config(family)
    longest = {"roberta": 128, "xlm-roberta": 128, "camembert": 128, "mpnet": 128, "deberta-v2": 1000}.get(family, 130)
    check_length(backbone, longest)
    with torch.no_grad():
        AutoModel.from_config(backbone).eval()(torch.full((1, longest), 5))
    if family == "deberta-v2":
        return  # its positions are relative
    with pytest.raises(ValueError, match=f"--max_seq_length is {longest + 1}, but this {family} has {longest} pos"):
        check_length(backbone, longest + 1)
    if family not in ("modernbert", "llama"):  # rotary: a longer one would only be unlike all that was trained
        with pytest.raises((IndexError, RuntimeError)):
            AutoModel.from_config(backbone).eval()(torch.full((1, longest + 1), 5))


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("t5", "t5 is an encoder-decoder; take an encoder such as roberta, or a decoder"),
        ("bart", "bart is an encoder-decoder"),
        ("vit", "vit has no vocab_size; K-Adapter needs stacked layers over tokens of text"),
        ("clip", "clip has no hidden_size"),
    ],
)
def test_models_that_are_no_stack_over_tokens_are_refused(family, message):
    with pytest.raises(ValueError, match=message):
        KAdapterConfig(backbone_config=AutoConfig.for_model(family))


def test_a_model_of_speech_is_refused():
    tiny = AutoConfig.for_model(
        "wav2vec2", hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    with pytest.raises(ValueError, match="wav2vec2 reads input_values; take a backbone of text"):
        KAdapterModel(KAdapterConfig(backbone_config=tiny))


def test_a_backbone_whose_states_differ_in_width_is_refused():
    sizes = {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 200}
    narrow = AutoConfig.for_model("opt", word_embed_proj_dim=16, do_layer_norm_before=False, **sizes)
    tiny = KAdapterModel(KAdapterConfig(backbone_config=narrow, adapters={"own": SHAPE}))
    with pytest.raises(ValueError, match=r"hidden states of opt have the shapes .*\[2, 6, 16\].*take another backbone"):
        tiny(IDS)
    wide = AutoConfig.for_model("opt", word_embed_proj_dim=32, **sizes)
    assert features(KAdapterModel(KAdapterConfig(backbone_config=wide)), IDS, None).shape == (2, 6, 32)


# -- recipes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def glue(tmp_path):
    """A folder of RTE, invented."""
    rows = [f"{i}\tAnna lives in Oslo .\tShe is {'not ' * (i % 2)}there .\t" for i in range(8)]
    labels = ("entailment", "not_entailment")
    lines = ["index\tsentence1\tsentence2\tlabel", *(row + labels[i % 2] for i, row in enumerate(rows))]
    (tmp_path / "RTE").mkdir()
    for split in ("train", "dev"):
        (tmp_path / "RTE" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path / "RTE"


def two_steps(name, folder, run, glue, tmp_path):
    """The loss on dev after two steps of a recipe with one fresh adapter, a causal one beside GPT-2."""
    recipe, flags = RECIPES[name], [f"--model_name_or_path={folder}"]
    causal = folder.name == "gpt2"
    flags.append(f"--adapter_causal={causal}")
    if name == "example":
        found = recipe.main([*flags, "--adapter_list=", "--no_cuda", f"--output_dir={tmp_path / 'example'}"])
        return found.abs().mean().item()  # features: there is no loss
    if not name.startswith("pretrain"):
        flags.append("--task_adapter=own")
    if "squad" in name:
        flags += ["--doc_stride=8", "--max_query_length=16"]
    if name == "classifier":
        sizes = "--do_train --do_eval --max_steps=2 --bottleneck_size=0 --adapter_size=16 --max_seq_length=64 --no_cuda"
        output = [f"--output_dir={tmp_path / 'glue'}", f"--data_dir={glue}", "--task_name=RTE"]
        report = recipe.main([*flags, *output, *sizes.split()])
    else:
        report, left = run(recipe, *flags, steps=2)
        saved = json.loads((left / "config.json").read_text()) if (left / "config.json").is_file() else None
        shape = saved["adapters"]["own"] if saved else json.loads((left / "adapter_config.json").read_text())
        assert shape["causal"] == causal
        assert shape["adapter_list"] == [0, 1, 2]
    assert report["steps"] == 2
    return report["dev"]["loss"]


ALL = [(family, name) for family in FAMILIES for name in RECIPES]
REFUSED = [(family, "pretrain_mlm_adapter") for family in DECODERS]
# In the fast suite each family meets one recipe, and each recipe a family.
UNLIKE = ("bert", "deberta-v2", "modernbert", "gpt2")  # positions added, relative, rotary; a decoder
SOME = [(family, list(RECIPES)[i % len(RECIPES)]) for i, family in enumerate(FAMILIES)]


@pytest.mark.parametrize(("family", "name"), fast([pair for pair in SOME if pair[0] in UNLIKE], SOME))
def test_every_family_runs_a_recipe(family, name, folders, run, glue, tmp_path):
    assert 0 < two_steps(name, folders[family], run, glue, tmp_path) < 10


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), [pair for pair in ALL if pair not in (*SOME, *REFUSED)])
def test_every_family_runs_every_recipe(family, name, folders, run, glue, tmp_path):
    assert 0 < two_steps(name, folders[family], run, glue, tmp_path) < 10


@pytest.mark.parametrize("family", fast(UNLIKE, FAMILIES))
def test_adapter_bert_runs_on_every_family(family, folders, glue, tmp_path):
    flags = "--task_name=RTE --do_train --do_eval --max_steps=2 --bottleneck_size=4 --max_seq_length=64 --no_cuda"
    output = [f"--model_name_or_path={folders[family]}", f"--data_dir={glue}", f"--output_dir={tmp_path / 'run'}"]
    report = RECIPES["classifier"].main([*output, *flags.split()])
    assert report["steps"] == 2
    assert 0 < report["dev"]["loss"] < 10
    plain = AutoModel.from_pretrained(folders[family]).state_dict()
    trained = TaskModel.from_pretrained(next(tmp_path.glob("run/*/best"))).encoder
    assert trained.bottlenecks() == ["default"]
    state = trained.backbone.state_dict()
    assert all(torch.equal(state[name], value) for name, value in plain.items())  # the backbone itself stays as it was
    up = [value for name, value in state.items() if name.endswith("bottlenecks.default.up_project.bias")]
    assert len(up) == (2 if family == "albert" else 8)
    assert all(value.abs().max() > 0 for value in up)


@pytest.mark.parametrize(("family", "name"), REFUSED)
def test_a_decoder_hides_no_tokens(family, name, folders, run):
    with pytest.raises(ValueError, match="has no mask token; take a masked-language model"):
        run(RECIPES[name], f"--model_name_or_path={folders[family]}", steps=2)
