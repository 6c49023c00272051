"""TensorFlow's BERT: names, orientation, shapes, what is refused; the true file where tensorflow is installed."""

import json

import numpy as np
import pytest
import torch
from conftest import load_script
from transformers import AutoModel, AutoTokenizer

TF_BERT = load_script("scripts/convert_tf_bert.py")
H, INNER, LAYERS, POSITIONS = 8, 12, 2, 16
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sat"]
CONFIG = {
    "vocab_size": len(TOKENS),
    "hidden_size": H,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": INNER,
    "max_position_embeddings": POSITIONS,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "directionality": "bidi",
}


@pytest.fixture
def variables():
    """All variables of a pretraining checkpoint, by their names there."""
    random, found = np.random.default_rng(0), {}

    def add(name, *shape):
        found[name] = random.standard_normal(shape).astype(np.float32)

    def dense(name, width, out):
        add(f"{name}/kernel", width, out)
        add(f"{name}/bias", out)

    def norm(name):
        add(f"{name}/LayerNorm/gamma", H)
        add(f"{name}/LayerNorm/beta", H)

    for name, rows in (("word", len(TOKENS)), ("token_type", 2), ("position", POSITIONS)):
        add(f"bert/embeddings/{name}_embeddings", rows, H)
    norm("bert/embeddings")
    for layer in (f"bert/encoder/layer_{i}" for i in range(LAYERS)):
        for name in ("query", "key", "value"):
            dense(f"{layer}/attention/self/{name}", H, H)
        dense(f"{layer}/attention/output/dense", H, H)
        norm(f"{layer}/attention/output")
        dense(f"{layer}/intermediate/dense", H, INNER)
        dense(f"{layer}/output/dense", INNER, H)
        norm(f"{layer}/output")
    dense("bert/pooler/dense", H, H)
    add("bert/pooler/dense/kernel/adam_m", H, H)
    add("cls/seq_relationship/output_weights", 2, H)
    found["global_step"] = np.int64(7)
    return found


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "tf"
    folder.mkdir()
    (folder / "bert_config.json").write_text(json.dumps(CONFIG))
    (folder / "vocab.txt").write_text("\n".join(TOKENS) + "\n")
    return folder


def test_every_weight_comes_to_its_place_the_right_way_round(variables, source, tmp_path, capsys):
    count = TF_BERT.convert(source, tmp_path / "out", variables, variables.__getitem__)
    said = capsys.readouterr().out
    assert "1 variables are left out: pretraining's heads" in said
    assert "2 variables are left out: the optimizer's" in said
    model = AutoModel.from_pretrained(tmp_path / "out").eval()
    assert sum(p.numel() for p in model.parameters()) == count
    layer, place = model.encoder.layer[1], "bert/encoder/layer_1"
    modules = {
        f"{place}/attention/self/query": layer.attention.self.query,
        f"{place}/attention/self/key": layer.attention.self.key,
        f"{place}/attention/self/value": layer.attention.self.value,
        f"{place}/attention/output/dense": layer.attention.output.dense,
        f"{place}/intermediate/dense": layer.intermediate.dense,
        f"{place}/output/dense": layer.output.dense,
        "bert/pooler/dense": model.pooler.dense,
    }
    for name, module in modules.items():
        kernel, bias = (variables[f"{name}/{part}"].astype(np.float64) for part in ("kernel", "bias"))
        x = np.random.default_rng(1).standard_normal((3, len(kernel)))
        found = module(torch.from_numpy(x).float()).detach().numpy()
        np.testing.assert_allclose(found, x @ kernel + bias, rtol=1e-4, atol=1e-4, err_msg=name)
    norms = {
        "bert/embeddings": model.embeddings.LayerNorm,
        f"{place}/attention/output": layer.attention.output.LayerNorm,
        f"{place}/output": layer.output.LayerNorm,
    }
    for name, module in norms.items():
        np.testing.assert_array_equal(module.weight.detach(), variables[f"{name}/LayerNorm/gamma"])
        np.testing.assert_array_equal(module.bias.detach(), variables[f"{name}/LayerNorm/beta"])
    for name in ("word", "token_type", "position"):
        weight = getattr(model.embeddings, f"{name}_embeddings").weight
        np.testing.assert_array_equal(weight.detach(), variables[f"bert/embeddings/{name}_embeddings"])


@pytest.mark.parametrize("cased", [False, True])
def test_the_tokenizer_follows_the_vocabularys_case(variables, source, tmp_path, cased):
    if cased:
        tokens = [*TOKENS[:-1], "The"]
        (source / "vocab.txt").write_text("\n".join(tokens) + "\n")
    TF_BERT.convert(source, tmp_path / "out", variables, variables.__getitem__)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    encoded = tokenizer("The cats", "the sat")
    first = "The" if cased else "the"
    last = "[UNK]" if cased else "sat"
    expected = ["[CLS]", first, "cat", "##s", "[SEP]", "the", last, "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"]) == expected
    assert encoded["token_type_ids"] == [0] * 5 + [1] * 3
    assert tokenizer.model_max_length == POSITIONS


def drop(values, name):
    del values[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: drop(v, "bert/pooler/dense/bias"), r"1 missing: pooler\.dense\.bias"),
        (
            lambda v: v.update({"bert/encoder/layer_0/more/kernel": np.zeros((1, 2))}),
            r"1 unexpected: encoder\.layer\.0\.mo",
        ),
        (
            lambda v: v.update({"bert/embeddings/word_embeddings": np.zeros((3, H))}),
            r"1 misshapen: .* \(\[3, 8\] instead",
        ),
    ],
)
def test_other_variables_are_refused_and_nothing_is_written(variables, source, tmp_path, change, message):
    change(variables)
    with pytest.raises(ValueError, match=message):
        TF_BERT.convert(source, tmp_path / "out", variables, variables.__getitem__)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("vocab.txt", "\n".join([*TOKENS, "more"]), "has 10 tokens, but bert_config.json says 9"),
        ("vocab.txt", "\n".join([*TOKENS, "cat"]), "line 10: the token 'cat' is empty or there already"),
        ("vocab.txt", "the\ncat\n", r"lacks \['\[PAD\]'"),
        ("bert_config.json", "{", r"bert_config\.json, line 1, column 2: broken JSON"),
        ("bert_config.json", "{}", r"the keys \['vocab_size', .* are missing"),
    ],
)
def test_bad_files_beside_the_checkpoint_are_refused(variables, source, tmp_path, name, text, message):
    (source / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        TF_BERT.convert(source, tmp_path / "out", variables, variables.__getitem__)


def test_missing_files_end_the_script_in_one_sentence(source, tmp_path):
    with pytest.raises((ValueError, OSError), match=r"bert_model\.ckpt\.index is missing; give the folder"):
        TF_BERT.main(["--input", str(source), "--output", str(tmp_path / "out")])
    (source / "bert_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"bert_config\.json is missing"):
        TF_BERT.convert(source, tmp_path / "out", {}, {}.__getitem__)


def test_a_true_checkpoint_gives_what_its_variables_give(variables, source, tmp_path):
    tf = pytest.importorskip("tensorflow")
    with tf.Graph().as_default():
        made = [tf.compat.v1.get_variable(name, initializer=value) for name, value in variables.items()]
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            tf.compat.v1.train.Saver(made).save(session, str(source / "bert_model.ckpt"), write_meta_graph=False)
    TF_BERT.main(["--input", str(source), "--output", str(tmp_path / "true")])
    TF_BERT.convert(source, tmp_path / "given", variables, variables.__getitem__)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("true", "given"))
    assert one == other
