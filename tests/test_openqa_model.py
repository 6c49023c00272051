"""The formulas of selector and reader against a direct computation, and chunks against all sequences at once."""

import math

import numpy as np
import pytest
import torch
from tiny import SIZES, build
from transformers import RobertaConfig

from kadapter import HeadConfig, KAdapterModel, MultiTaskModel
from kadapter.inference.export import exported_program
from kadapter.models import openqa
from kadapter.models.chunks import in_chunks
from kadapter.models.openqa import Reading, best_spans, grouped, paragraph_mask, question_losses, reader_log_probs

GROUPS = [3, 1, 4]  # paragraphs of each question
SPANS = [(2, 7), (3, 9), (2, 2), (4, 8), (1, 9), (2, 6), (3, 4), (2, 9)]  # first and last token of each paragraph
PLACES = [  # of each question: (paragraph of the question, start, end)
    [(0, 2, 3), (0, 5, 5), (2, 2, 2)],
    [],
    [(0, 1, 4), (3, 2, 9), (3, 3, 3), (3, 8, 9)],
]


def drawn(scale=3.0, dtype=torch.float64):
    torch.manual_seed(1)
    return scale * torch.randn(len(SPANS), 10, 2, dtype=dtype), scale * torch.randn(len(SPANS), dtype=dtype)


def labels(places=PLACES):
    width = max(3, 3 * max(map(len, places)))
    rows = [[number for place in found for number in place] for found in places]
    return torch.tensor([row + [-100] * (width - len(row)) for row in rows])


def direct(logits, scores, reading):
    """The losses as original.md writes them, in float64, probability by probability."""
    logits, scores, begin, losses = logits.double().numpy(), scores.double().numpy(), 0, []
    for size, places in zip(GROUPS, PLACES, strict=True):
        own = range(begin, begin + size)
        weights = np.exp([scores[r] for r in own])
        selected = weights / weights.sum() if reading.confidence else np.full(size, 1 / size)
        answers = np.zeros(size)
        for i, r in enumerate(own):
            first, last = SPANS[r]
            start, end = (np.exp(logits[r, first : last + 1, side]) for side in (0, 1))
            found = [
                start[s - first] / start.sum() * end[e - first] / end.sum()
                for paragraph, s, e in places
                if paragraph == i
            ]
            if found:
                answers[i] = sum(found) if reading.marginal == "sum" else max(found)
        begin += size
        bearing = sorted({paragraph for paragraph, *_ in places})
        if not bearing:
            continue
        divergence = sum(math.log(1 / len(bearing) / selected[i]) / len(bearing) for i in bearing)
        if reading.mode == "reader":
            losses.append(-np.mean([math.log(answers[i]) for i in bearing]))
        elif reading.mode == "selector":
            losses.append(divergence)
        else:
            joint = -math.log(sum(selected[i] * answers[i] for i in range(size)))
            losses.append(joint + (0.5 * divergence if reading.confidence else 0))
    return np.array(losses)


READINGS = [
    *(Reading(mode, marginal) for mode in openqa.MODES for marginal in openqa.MARGINALS),
    Reading("all", "sum", confidence=False),
    Reading("all", "max", confidence=False),
]


def losses(logits, scores, reading):
    spans, sizes = torch.tensor(SPANS), torch.tensor(GROUPS)
    masked = logits.masked_fill(~paragraph_mask(spans, 10)[..., None], -torch.inf)
    return question_losses(masked, grouped(scores, sizes), labels(), reading)


@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_losses_are_those_of_a_direct_computation(reading):
    logits, scores = drawn()
    expected = direct(logits, scores, reading)
    np.testing.assert_allclose(losses(logits, scores, reading).numpy(), expected, rtol=1e-12)
    single = losses(logits.float(), scores.float(), reading)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_gradients_are_those_of_finite_differences(reading):
    logits, scores = (value.requires_grad_() for value in drawn(1.0))
    assert torch.autograd.gradcheck(lambda *given: losses(*given, reading), (logits, scores))


@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_logits_of_any_size_give_finite_losses_and_gradients(reading):
    logits, scores = (value.requires_grad_() for value in drawn(1e4, torch.float32))
    found = losses(logits, scores, reading)
    found.sum().backward()
    assert found.isfinite().all()
    assert all(value.grad is None or value.grad.isfinite().all() for value in (logits, scores))


def test_the_best_spans_are_those_of_a_search_through_all():
    logits, _ = drawn()
    log_probs = reader_log_probs(logits.masked_fill(~paragraph_mask(torch.tensor(SPANS), 10)[..., None], -torch.inf))
    found, starts, ends = best_spans(log_probs, 12, 4)
    for r, (first, last) in enumerate(SPANS):
        spans = [(s, e) for s in range(first, last + 1) for e in range(s, min(s + 3, last) + 1)]
        score = {span: float(log_probs[r, span[0], 0] + log_probs[r, span[1], 1]) for span in spans}
        best = sorted(score, key=lambda span: -score[span])[:12]
        count = len(best)
        assert [*zip(starts[r, :count].tolist(), ends[r, :count].tolist(), strict=True)] == best
        np.testing.assert_allclose(found[r, :count], [score[span] for span in best], rtol=1e-12)
        assert found[r, count:].isneginf().all()


def test_a_paragraph_shorter_than_the_number_of_spans_has_fewer():
    found, *_ = best_spans(reader_log_probs(torch.zeros(1, 2, 2)), 10, 15)
    assert found.isfinite().sum() == 3
    assert found.shape == (1, 10)


# -- chunks -----------------------------------------------------------------------------------------------------

CONFIG = RobertaConfig(**{**SIZES, "max_position_embeddings": 24})


def model(dropout=0.0):
    config = RobertaConfig(
        **{**SIZES, "max_position_embeddings": 24},
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    of_adapters = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return build(config, head=HeadConfig("openqa", 2, dropout=dropout), **of_adapters).double().train()


def batch():
    torch.manual_seed(2)
    lengths = torch.tensor([last + 2 for _, last in SPANS])
    mask = (torch.arange(12) < lengths[:, None]).long()
    ids = torch.randint(4, 60, mask.shape).masked_fill(mask == 0, CONFIG.pad_token_id)
    positions = torch.tensor([(0, *span) for span in SPANS])
    given = {"input_ids": ids, "attention_mask": mask, "positions": positions, "labels": labels()}
    return given | {"group_sizes": torch.tensor(GROUPS)}


def gradients(built, tokens, reading):
    built.head.chunk_tokens, built.head.reading = tokens, reading
    built.zero_grad()
    torch.manual_seed(3)
    loss = built(**batch()).loss
    loss.backward()
    return loss.item(), {name: p.grad for name, p in built.named_parameters() if p.grad is not None}


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("tokens", [1, 20, 40, 10**6])
@pytest.mark.parametrize("reading", [Reading(), Reading("selector"), Reading("all", "max", False)], ids=str)
def test_chunks_have_the_gradients_of_one_pass(tokens, reading):
    built = model()
    loss, found = gradients(built, tokens, reading)
    built.head.reading = reading
    built.zero_grad()
    whole = built(**batch(), output_hidden_states=True)  # which is never in chunks
    whole.loss.backward()
    assert loss == pytest.approx(whole.loss.item(), rel=1e-9)
    assert_close(found, {name: p.grad for name, p in built.named_parameters() if p.grad is not None})


def test_chunks_have_the_gradients_of_one_pass_with_dropout_too(monkeypatch):
    built = model(dropout=0.3)
    loss, found = gradients(built, 30, Reading())
    other, _ = gradients(built, 10**6, Reading())
    assert abs(loss - other) > 1e-4  # dropout is on
    # The same chunks with all their activations kept draw the same numbers once, in one pass.
    monkeypatch.setattr("kadapter.models.chunks.checkpoint", lambda run, part, use_reentrant: run(part))
    whole, expected = gradients(built, 30, Reading())
    assert loss == whole
    assert_close(found, expected)


def test_activations_of_one_chunk_are_kept_at_a_time():
    alive, most = set(), 0

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value, number):
            nonlocal most
            alive.add(number)
            most = max(most, len(alive))
            ctx.number = number
            ctx.save_for_backward(value)
            return value.clone()

        @staticmethod
        def backward(ctx, gradient):
            (_,) = ctx.saved_tensors
            alive.discard(ctx.number)
            return gradient, None

    weight = torch.ones((), requires_grad=True)

    def compute(part):
        value = Watched.apply(part["input_ids"].float() * weight, int(part["input_ids"][0, 0]))
        return (value, value.sum(1))

    ids = torch.arange(1, 7)[:, None].expand(-1, 4)
    found, sums = in_chunks(compute, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, 4)
    assert torch.equal(found, ids.float())
    alive.clear()  # what the passes without gradients made is gone
    most = 0
    alive.add(6)  # but the last chunk's, which is not computed twice
    (found.sum() + sums.sum()).backward()
    assert most <= 2
    assert weight.grad == 8 / 4 * ids.sum()


def test_sequences_that_adapters_attend_as_a_whole_are_not_cut():
    seen = []

    def compute(part):
        seen.append(part["input_ids"].shape)
        return (part["input_ids"].float(),)

    ids = torch.arange(12).view(3, 4)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]])
    (found,) = in_chunks(compute, {"input_ids": ids, "attention_mask": mask, "token_type_ids": None}, 4, False)
    assert seen == [(1, 4)] * 3
    assert torch.equal(found, ids.float())
    seen.clear()
    (found,) = in_chunks(compute, {"input_ids": ids, "attention_mask": mask, "token_type_ids": None}, 4)
    assert seen == [(1, 3), (2, 2)]
    assert torch.equal(found[mask.bool()], ids.float()[mask.bool()])


def test_among_many_tasks_questions_are_computed_as_alone(tmp_path):
    alone = build(CONFIG, names=("fac",), head=HeadConfig("openqa", 2))
    alone.encoder.save_pretrained(tmp_path / "encoder")
    alone.save_task(tmp_path / "questions")
    many = MultiTaskModel(KAdapterModel.from_pretrained(tmp_path / "encoder")).eval()
    many.add_task("questions", tmp_path / "questions")
    given = {name: value for name, value in batch().items() if name != "labels"}
    with torch.no_grad():
        found, expected = many(**given, task="questions"), alone(**given)
    inner = expected.logits.isfinite()
    torch.testing.assert_close(found.logits[inner], expected.logits[inner])
    torch.testing.assert_close(found.scores, expected.scores)


def test_what_cannot_be_exported_is_refused():
    with pytest.raises(ValueError, match="questions over many paragraphs cannot be exported; serve it with PyTorch"):
        exported_program(build(CONFIG, head=HeadConfig("openqa", 2)))


def test_a_head_without_its_positions_says_which_it_reads():
    given = batch()
    del given["positions"]
    with pytest.raises(ValueError, match="reads three positions of each sequence: the token that stands for it"):
        model()(**given)
