"""The head for spans: its logits and losses against transformers' own reader, what is masked, what is saved."""

import pytest
import torch
from exporting import assert_equal_anywhere, model_with
from tiny import MASK, SIZES, TEXT, build
from transformers import (
    AutoModelForQuestionAnswering,
    RobertaConfig,
    RobertaForQuestionAnswering,
    Trainer,
    TrainingArguments,
)

from kadapter import HeadConfig, KAdapterModel, Predictor, TaskModel
from kadapter.inference.export import exported_program
from kadapter.models.heads import build_head
from kadapter.shapes import IGNORE
from kadapter.tasks.squad import Squad
from kadapter.training.task import saved_task

SPAN = HeadConfig("span", 2)
CONTEXT = torch.tensor([[0, 0, 1, 1, 1, 0], [1, 0, 1, 0, 0, 0]])


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A random reader of transformers, and a model of ours with the same weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("reader")
    theirs = RobertaForQuestionAnswering(RobertaConfig(**SIZES, type_vocab_size=1, pad_token_id=1)).eval()
    theirs.save_pretrained(folder)
    ours = TaskModel.from_encoder(KAdapterModel.from_pretrained(folder), SPAN)
    ours.head.qa_outputs.load_state_dict(theirs.qa_outputs.state_dict())
    return theirs, ours.eval()


def test_logits_and_loss_are_those_of_transformers_own_reader(reader):
    theirs, ours = reader
    ids, start, end = TEXT[:1].expand(3, -1), torch.tensor([2, 0, 4]), torch.tensor([3, 0, 4])
    with torch.no_grad():
        expected = theirs(ids, start_positions=start, end_positions=end)
        found = ours(ids, labels=torch.stack([start, end], 1))
    torch.testing.assert_close(found.logits[..., 0], expected.start_logits)
    torch.testing.assert_close(found.logits[..., 1], expected.end_logits)
    torch.testing.assert_close(found.loss, expected.loss)


def test_padding_begins_no_span_and_changes_none(reader):
    theirs, ours = reader
    with torch.no_grad():
        found = ours(TEXT, attention_mask=MASK, labels=torch.tensor([[1, 2], [1, 1]]))
        alone = theirs(TEXT[1:, :4], start_positions=torch.tensor([1]), end_positions=torch.tensor([1]))
        whole = theirs(TEXT[:1], start_positions=torch.tensor([1]), end_positions=torch.tensor([2]))
    assert found.logits[1, 4:].eq(-torch.inf).all()
    torch.testing.assert_close(found.logits[1, :4, 0], alone.start_logits[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.loss, (alone.loss + whole.loss) / 2)


def test_spans_lie_in_the_context_and_the_loss_is_over_it_alone():
    torch.manual_seed(0)
    head, states = build_head(SPAN, 4, 0.1, embedding_size=4), torch.randn(2, 6, 4)
    labels = torch.tensor([[2, 4], [0, 0]])
    output = head(states, labels, attention_mask=MASK, context_mask=CONTEXT)
    raw = head.qa_outputs(states)
    assert torch.equal(output.logits.isfinite(), CONTEXT.bool()[..., None].expand(-1, -1, 2))
    own = [
        -torch.log_softmax(raw[row, CONTEXT[row].bool(), side], 0)[place]
        for row, side, place in ((0, 0, 0), (0, 1, 2), (1, 0, 0), (1, 1, 0))
    ]
    assert output.loss.item() == pytest.approx(sum(own).item() / 4, rel=1e-5)
    assert head(states, labels, num_items=4, context_mask=CONTEXT).loss.item() == pytest.approx(
        output.loss.item() / 2, rel=1e-5
    )
    one = head(states, torch.tensor([[2, 4], [IGNORE, IGNORE]]), context_mask=CONTEXT)
    assert one.loss.item() == pytest.approx(sum(own[:2]).item() / 2, rel=1e-5)
    kept = head.kept(output, {"attention_mask": MASK})
    assert kept["start"].sizes.tolist() == [6, 4]
    assert torch.equal(kept["end"].values, output.logits[..., 1])
    assert head.dropout.p == 0.0
    assert build_head(HeadConfig("span", 2, dropout=0.3), 4, 0.1, 4).dropout.p == 0.3


def test_a_gold_span_outside_of_the_context_is_no_finite_loss():
    head = build_head(SPAN, 4, 0.0, embedding_size=4)
    assert head(torch.randn(1, 6, 4), torch.tensor([[1, 2]]), context_mask=CONTEXT[:1]).loss.isinf()


def test_a_span_has_two_numbers():
    with pytest.raises(ValueError, match="num_labels is 3; a span has 2, its start and its end"):
        HeadConfig("span", 3)


def test_question_answering_of_transformers_finds_its_names_and_trains(tmp_path):
    model = build(RobertaConfig(**SIZES), head=SPAN)
    model.save_pretrained(tmp_path / "saved")
    loaded = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "saved")
    start, end = torch.tensor([2, 0]), torch.tensor([4, 6])  # 6 is outside and does not count
    with torch.no_grad():
        output = loaded(TEXT, MASK, start_positions=start, end_positions=end, context_mask=CONTEXT)
        expected = model(TEXT, MASK, labels=torch.tensor([[2, 4], [0, IGNORE]]), context_mask=CONTEXT)
        pair = loaded(TEXT, MASK, return_dict=False)
        thin = loaded(
            attention_mask=MASK,
            inputs_embeds=loaded.get_input_embeddings()(TEXT),
            start_positions=start,
            end_positions=end,
        )
    torch.testing.assert_close(output.loss, expected.loss)
    assert torch.equal(output.start_logits, expected.logits[..., 0])
    assert torch.equal(output.end_logits, expected.logits[..., 1])
    assert [part.shape for part in pair] == [TEXT.shape, TEXT.shape]
    assert thin.loss.isfinite()
    rows = [{"input_ids": TEXT[0], "attention_mask": MASK[0], "start_positions": 2, "end_positions": 3}] * 4
    arguments = TrainingArguments(
        tmp_path, max_steps=2, report_to=[], use_cpu=True, logging_strategy="no", save_strategy="no"
    )
    trainer = Trainer(loaded, arguments, train_dataset=rows, eval_dataset=rows)
    assert trainer.train().training_loss > 0
    found = trainer.predict(rows)
    assert [part.shape for part in found.predictions] == [(4, 6), (4, 6)]
    assert [part.tolist() for part in found.label_ids] == [[2] * 4, [3] * 4]
    assert "test_loss" in found.metrics


def test_a_reader_of_an_auto_class_predicts_like_any_other(tokenizer, tmp_path):
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 80, "pad_token_id": tokenizer.pad_token_id}
    model = build(RobertaConfig(**{**SIZES, **sizes}), head=SPAN)
    model.config.task = saved_task(Squad(doc_stride=8, max_query_length=12), 48)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForQuestionAnswering.from_pretrained(tmp_path)
    given = [("Who sleeps?", "The cat sleeps. " * 6), ("Where?", "Ann lives in Oslo.")]
    assert Predictor(loaded, tokenizer=tokenizer)(given) == Predictor(model, tokenizer=tokenizer)(given)


@pytest.mark.slow
def test_an_exported_reader_gives_the_same_logits_for_any_batch():
    model = model_with("span")
    program = exported_program(model).module()
    assert_equal_anywhere(model, lambda batch: program(**batch), ["logits"])
