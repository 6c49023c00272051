"""Heads on their own: what is counted, what is kept, groups of different sizes."""

import pytest
import torch
from tiny import SIZES, build
from transformers import BertConfig

from kadapter.models.heads import MultipleChoiceHead, build_head
from kadapter.shapes import IGNORE, HeadConfig

STATES = torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(0))


def head(kind, labels, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_head(HeadConfig(kind, labels, **options), 4, 0.0, embedding_size=4).eval()


def test_an_example_with_fewer_choices_is_judged_by_its_own_alone():
    choices = head("multiple_choice", 1)
    sizes, labels = torch.tensor([2, 1]), torch.tensor([1, 0])
    output = choices(STATES, labels, group_sizes=sizes)
    scores = choices.classifier(STATES[:, 0])[:, 0]
    assert output.logits[0].tolist() == scores[:2].tolist()
    assert output.logits[1].tolist() == [scores[2].item(), -torch.inf]
    assert output.loss.item() == pytest.approx(-torch.log_softmax(scores[:2], 0)[1].item() / 2, rel=1e-5)
    kept = choices.kept(output, {"group_sizes": sizes})["logits"]
    assert kept.sizes.tolist() == [2, 1]
    with pytest.raises(ValueError, match="needs to know which sequences belong together"):
        choices(STATES)
    assert isinstance(choices, MultipleChoiceHead)


def test_hidden_tokens_each_have_a_loss_and_those_that_are_filled_up_none():
    tokens, embeddings = head("masked_lm", 6), torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    states = STATES.reshape(1, 3, 4).repeat(2, 1, 1)
    labels = torch.tensor([[5, 0, 2], [1, IGNORE, IGNORE]])
    output = tokens(states, labels, embeddings=embeddings)
    own = -torch.log_softmax(output.logits, -1).detach()
    expected = [[own[0, 0, 5], own[0, 1, 0], own[0, 2, 2]], [own[1, 0, 1], 0.0, 0.0]]
    torch.testing.assert_close(output.losses, torch.tensor(expected))
    assert output.loss.item() == pytest.approx(output.losses.sum().item() / 4)
    kept = tokens.kept(output, {"labels": labels})
    assert {name: one.sizes.tolist() for name, one in kept.items()} == {"predicted": [3, 1], "losses": [3, 1]}
    assert torch.equal(kept["predicted"].values, output.logits.argmax(-1))


def test_typing_is_the_mean_over_all_labels_of_an_example():
    typing = head("entity_typing", 3)
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    output = typing(STATES, labels)
    chances = output.logits.sigmoid()
    expected = -(labels * chances.log() + (1 - labels) * (1 - chances).log()).mean()
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert typing(STATES, labels, num_items=6).loss.item() == pytest.approx(expected.item() / 2, rel=1e-5)
    assert typing(STATES).loss is None


def test_a_head_takes_its_own_dropout_before_the_backbones():
    rates = [build_head(HeadConfig("relation", 2, dropout=rate), 4, 0.1, 4).dropout.p for rate in (None, 0.0, 0.5)]
    assert rates == [0.1, 0.0, 0.5]


def test_a_governor_is_the_likeliest_and_the_most_attended_word_and_padding_is_not_kept():
    words, states = head("dependency", 5), torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(2))
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    labels = torch.tensor([[4, 0, IGNORE], [1, IGNORE, IGNORE]])
    output = words(states, labels, attention_mask=mask)
    own = -torch.log_softmax(output.logits, -1)
    assert output.loss.item() == pytest.approx((own[0, 0, 4] + own[0, 1, 0] + own[1, 0, 1]).item() / 3, rel=1e-5)
    assert output.attention.shape == (2, 3, 3)
    assert not output.attention[1, :, 2].any()
    kept = words.kept(output, {"attention_mask": mask})
    assert kept["predicted"].sizes.tolist() == kept["attended"].sizes.tolist() == [3, 2]
    for name, scores in (("predicted", output.logits), ("attended", output.attention)):
        expected = [[row.index(max(row)) for row in sentence] for sentence in scores.tolist()]
        assert kept[name].values.tolist() == expected


def test_choices_in_a_third_dimension_are_groups_of_one_size():
    model = build(BertConfig(**SIZES), names=(), head=HeadConfig("multiple_choice", 1))
    ids = torch.arange(3, 27).reshape(2, 3, 4)
    types, mask = torch.tensor([0, 0, 1, 1]).expand(2, 3, 4), torch.ones(2, 3, 4, dtype=torch.long)
    mask[1, 2, 3] = 0
    flat = {"input_ids": ids.flatten(0, 1), "token_type_ids": types.flatten(0, 1), "attention_mask": mask.flatten(0, 1)}
    with torch.no_grad():
        for positions, each in (([[0], [1]], [0, 0, 0, 1, 1, 1]), ([[0, 1, 2], [2, 1, 0]], [0, 1, 2, 2, 1, 0])):
            found = model(ids, mask, types, positions=torch.tensor(positions)).logits
            flat |= {"positions": torch.tensor(each)[:, None], "group_sizes": torch.tensor([3, 3])}
            torch.testing.assert_close(found, model(**flat).logits)
        other = model(ids, mask, torch.zeros_like(types), positions=torch.tensor([[0], [1]])).logits
    assert found.shape == (2, 3)
    assert not torch.allclose(found, other)
