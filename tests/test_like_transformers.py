"""Models as users of transformers call them: outputs, inputs, pipelines, Trainer."""

import numpy as np
import pytest
import torch
from conftest import slow
from test_predictor import task_model
from tiny import MASK, TEXT, build
from transformers import AutoTokenizer, Trainer, TrainingArguments, pipeline

import kadapter  # noqa: F401  # registers with the Auto classes
from kadapter import HeadConfig, KAdapterConfig, TaskModel
from kadapter.models.heads import MaskedLMHead
from kadapter.tasks.glue import RTE, SST2
from kadapter.tasks.masked_lm import MaskedLM

FIRST = torch.zeros(2, 1, dtype=torch.long)


def task(config, kind="classification", labels=2, **changes):
    return build(config, ("fac",), head=HeadConfig(kind, labels), **changes)


# -- inputs and outputs -----------------------------------------------------------------------------------------------


def test_a_classifier_needs_nothing_but_what_a_tokenizer_gives(tiny_backbone_config, tokenizer):
    model = task_model(tiny_backbone_config, tokenizer, SST2(labels=("bad", "good")))
    inputs = tokenizer(["a text", "a longer text it is"], padding=True, return_tensors="pt")
    expected = model(**inputs, positions=FIRST).logits
    assert torch.equal(model(**inputs).logits, expected)
    tokenizer.padding_side = "left"
    left = tokenizer(["a text", "a longer text it is"], padding=True, return_tensors="pt")
    tokenizer.padding_side = "right"
    torch.testing.assert_close(model(**left).logits, expected, atol=1e-4, rtol=1e-4)


def test_a_causal_backbone_is_read_at_its_last_token_that_is_no_padding():
    from transformers import GPT2Config

    config = GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=2, n_positions=40, bos_token_id=0, eos_token_id=2)
    model = task(config)
    last = MASK.sum(1, keepdim=True) - 1
    assert torch.equal(model(TEXT, attention_mask=MASK).logits, model(TEXT, attention_mask=MASK, positions=last).logits)
    alone = model(TEXT[1:, : int(last[1]) + 1]).logits
    torch.testing.assert_close(model(TEXT, attention_mask=MASK).logits[1:], alone, atol=1e-5, rtol=1e-5)


def test_choices_are_read_at_their_first_tokens(tiny_backbone_config):
    model = task(tiny_backbone_config, "multiple_choice", 1)
    ids, mask = TEXT[None].expand(3, -1, -1), MASK[None].expand(3, -1, -1)
    logits = model(ids, attention_mask=mask).logits
    assert logits.shape == (3, 2)
    assert torch.equal(logits, model(ids, attention_mask=mask, positions=torch.zeros(3, 1, dtype=torch.long)).logits)


@pytest.mark.parametrize(("kind", "labels"), [("relation", 3), ("entity_typing", 3)])
def test_heads_of_marked_mentions_say_that_they_need_positions(tiny_backbone_config, kind, labels):
    model = task(tiny_backbone_config, kind, labels)
    with pytest.raises(
        ValueError, match=f"a head of the kind '{kind}' reads marked places of each text; give positions"
    ):
        model(TEXT, attention_mask=MASK)
    if kind == "relation":
        with pytest.raises(ValueError, match="a head of the kind 'relation' reads 2 positions of each sequence, but 1"):
            model(TEXT, attention_mask=MASK, positions=FIRST)


@pytest.mark.parametrize("kind", ["classification", "dependency", "masked_lm"])
def test_hidden_states_attentions_embeddings_and_tuples_as_in_transformers(tiny_backbone_config, kind):
    tiny_backbone_config._attn_implementation = "eager"
    model = task(tiny_backbone_config, kind, {"classification": 2, "dependency": 6, "masked_lm": 120}[kind])
    plain = model(TEXT, attention_mask=MASK)
    assert plain.hidden_states is None
    assert plain.attentions is None
    full = model(TEXT, attention_mask=MASK, output_hidden_states=True, output_attentions=True)
    with torch.no_grad():
        states = model.encoder.backbone(TEXT, attention_mask=MASK, output_hidden_states=True, output_attentions=True)
    assert all(torch.equal(a, b) for a, b in zip(full.hidden_states, states.hidden_states, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(full.attentions, states.attentions, strict=True))
    some = model(TEXT, attention_mask=MASK, output_hidden_states=[0, 3]).hidden_states
    assert [state is not None for state in some] == [True, False, False, True, False]
    embeds = model.get_input_embeddings()(TEXT)
    found = model(inputs_embeds=embeds[:1], attention_mask=MASK[:1]).logits
    torch.testing.assert_close(found, model(TEXT[:1], attention_mask=MASK[:1]).logits, atol=1e-4, rtol=1e-4)
    assert torch.equal(model(TEXT, attention_mask=MASK, return_dict=False)[0], plain.logits)
    ids = model.encoder.backbone.embeddings.create_position_ids_from_input_ids(TEXT, 1, 0)
    assert torch.equal(model(TEXT, attention_mask=MASK, position_ids=ids).logits, plain.logits)
    for wrong in ({}, {"input_ids": TEXT, "inputs_embeds": embeds}):
        with pytest.raises(ValueError, match="give either input_ids or inputs_embeds"):
            model(**wrong)
        with pytest.raises(ValueError, match="give either input_ids or inputs_embeds"):
            model.encoder(**wrong)


def test_a_tuple_has_the_loss_first(tiny_backbone_config):
    labels = torch.tensor([0, 1])
    model = task(tiny_backbone_config)
    output = model(TEXT, attention_mask=MASK, labels=labels)
    loss, logits = model(TEXT, attention_mask=MASK, labels=labels, return_dict=False)
    assert torch.equal(loss, output.loss)
    assert torch.equal(logits, output.logits)


def test_a_fresh_masked_language_model_head_is_drawn_where_transformers_fills_weights_in(tiny_backbone_config):
    config = KAdapterConfig(backbone_config=tiny_backbone_config, head=HeadConfig("masked_lm", 120))
    with torch.device("meta"):
        model = TaskModel(config)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    for module in model.modules():
        module._is_hf_initialized = False
    model.initialize_weights()
    assert isinstance(model.head, MaskedLMHead)
    assert not model.head.bias.any()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


# -- pipelines --------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tiny_backbone_config, tokenizer, tmp_path):
    def save(task, name):
        model = task_model(tiny_backbone_config, tokenizer, task)
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return model, str(tmp_path / name)

    return save


def test_a_pipeline_of_transformers_classifies_with_a_saved_folder(saved, tokenizer):
    model, folder = saved(SST2(labels=("bad", "good")), "sst2")
    texts = ["a text", "a longer text it is"]
    answers = pipeline("text-classification", model=folder, top_k=None)(texts)
    for text, scores in zip(texts, answers, strict=True):
        with torch.no_grad():
            expected = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
        found = {row["label"]: row["score"] for row in scores}
        assert found == pytest.approx({"bad": expected[0].item(), "good": expected[1].item()}, abs=1e-5)
    model, folder = saved(RTE(labels=("yes", "no")), "rte")
    (answer,) = pipeline("text-classification", model=folder)([{"text": "one", "text_pair": "two"}])
    assert answer["label"] in ("yes", "no")


def test_a_pipeline_of_transformers_fills_masks_and_gives_features(saved, tokenizer, tiny_model, tmp_path):
    model, folder = saved(MaskedLM(), "mlm")
    (best, *_) = pipeline("fill-mask", model=folder)("a <mask> text")
    inputs = tokenizer("a <mask> text", return_tensors="pt")
    with torch.no_grad():
        shares = (
            model(**inputs).logits[0, int((inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero())].softmax(-1)
        )
    assert best["token"] == int(shares.argmax())
    assert best["score"] == pytest.approx(shares.max().item(), abs=1e-5)
    model.encoder.save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    features = pipeline("feature-extraction", model=str(tmp_path / "encoder"))("a text")
    with torch.no_grad():
        expected = model.encoder(**tokenizer("a text", return_tensors="pt")).last_hidden_state
    np.testing.assert_allclose(features[0], expected[0], atol=1e-4)


# -- Trainer ----------------------------------------------------------------------------------------------------------


class Rows(torch.utils.data.Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def trainer(model, rows, folder):
    args = TrainingArguments(
        str(folder),
        per_device_train_batch_size=4,
        per_device_eval_batch_size=3,
        max_steps=3,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    )
    return Trainer(model, args, train_dataset=Rows(rows), eval_dataset=Rows(rows))


def test_trainer_trains_evaluates_and_predicts_with_its_own_collator(tiny_backbone_config, tokenizer, tmp_path):
    model = task_model(tiny_backbone_config, tokenizer, SST2(labels=("bad", "good")))
    encoded = tokenizer([f"text {i}" for i in range(8)], padding="max_length", max_length=12)
    rows = [
        {"input_ids": ids, "attention_mask": mask, "labels": i % 2}
        for i, (ids, mask) in enumerate(zip(encoded["input_ids"], encoded["attention_mask"], strict=True))
    ]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run = trainer(model, rows, tmp_path)
    run.train()
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert np.isfinite(run.evaluate()["eval_loss"])
    found = run.predict(Rows(rows))
    assert found.predictions.shape == (8, 2)
    assert found.label_ids.tolist() == [0, 1] * 4
    with torch.no_grad():
        batch = {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "attention_mask")}
        expected = model.eval()(**batch).logits
    np.testing.assert_allclose(found.predictions, expected, atol=1e-5)


@pytest.mark.parametrize("lengths", [(12, 12), slow((12, 9))])
def test_trainer_predicts_what_differs_in_length(tiny_backbone_config, tokenizer, tmp_path, lengths):
    config = tiny_backbone_config
    model = task(config, "dependency", 12)
    rows = [{"input_ids": [0, *([5] * (lengths[i > 2] - 2)), 2], "labels": [1] * lengths[i > 2]} for i in range(6)]
    found = trainer(model, rows, tmp_path).predict(Rows(rows))
    assert found.predictions.shape == (6, 12, 12)
    with torch.no_grad():
        expected = model.eval()(torch.tensor([rows[5]["input_ids"]])).logits[0]
    np.testing.assert_allclose(found.predictions[5][: lengths[1]], expected, atol=1e-5)


def test_a_saved_folder_is_a_module_of_sentence_transformers(saved, tokenizer, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    model, _ = saved(SST2(labels=("bad", "good")), "sst2")
    model.encoder.save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    words = modules.Transformer(str(tmp_path / "encoder"))
    pooling = modules.Pooling(model.config.hidden_size)
    embedder = sentence_transformers.SentenceTransformer(modules=[words, pooling], device="cpu")
    texts = ["a text", "a longer text it is"]
    inputs = AutoTokenizer.from_pretrained(tmp_path / "encoder")(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states, mask = model.encoder(**inputs).last_hidden_state, inputs["attention_mask"][..., None]
    expected = (states * mask).sum(1) / mask.sum(1)
    np.testing.assert_allclose(embedder.encode(texts), expected, atol=1e-4)


# -- loading as in transformers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_a_type_of_weights_is_given_by_either_name_and_auto_takes_the_saved_one(tiny_backbone_config, tmp_path, name):
    model = build(tiny_backbone_config, ("fac",))
    model.backbone.to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    for value, expected in (("auto", torch.bfloat16), ("float16", torch.float16), (torch.float32, torch.float32)):
        loaded = kadapter.KAdapterModel.from_pretrained(tmp_path, **{name: value})
        assert loaded.backbone.dtype == expected
        assert {p.dtype for p in loaded.adapters.parameters()} == {torch.float32}


def test_loading_onto_the_meta_device_is_refused_as_in_transformers(tiny_backbone_config, tmp_path):
    build(tiny_backbone_config, ("fac",)).save_pretrained(tmp_path)
    with torch.device("meta"), pytest.raises(RuntimeError, match="meta device context manager"):
        kadapter.KAdapterModel.from_pretrained(tmp_path)
