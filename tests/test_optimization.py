"""The optimizer against its formula, which parameters decay, clipping, and the warm-up by share."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from tiny import SIZES
from torch import nn
from transformers import AutoConfig, AutoModel, get_linear_schedule_with_warmup

from kadapter import BottleneckConfig, HeadConfig, KAdapterConfig, KAdapterModel, TaskModel
from kadapter.data.collation import Collator
from kadapter.models.head import HeadOutput
from kadapter.training.arguments import TrainingArguments
from kadapter.training.batches import Feed, Plan, Step
from kadapter.training.loop import _accumulate
from kadapter.training.optimization import (
    UncorrectedAdamW,
    build_optimizer,
    build_schedule,
    clip_gradients,
    parameter_table,
)


@pytest.mark.parametrize("fused", [False, True])
def test_adam_without_correction_is_the_formula_of_bert(fused):
    random = np.random.default_rng(0)
    start, gradients = random.standard_normal((3, 4)), random.standard_normal((10, 3, 4))
    rates = np.linspace(1e-2, 1e-3, 10)
    p, m, v = start.copy(), np.zeros((3, 4)), np.zeros((3, 4))
    for rate, g in zip(rates, gradients, strict=True):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        p = p - rate * (m / (np.sqrt(v) + 1e-6) + 0.01 * p)
    parameter = nn.Parameter(torch.tensor(start, dtype=torch.float32))
    optimizer = UncorrectedAdamW([parameter], lr=1.0, eps=1e-6, weight_decay=0.01, fused=fused)
    for rate, g in zip(rates, gradients, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        parameter.grad = torch.tensor(g, dtype=torch.float32)
        optimizer.step()
    np.testing.assert_allclose(parameter.detach().numpy(), p, rtol=1e-5)


def test_a_stopped_optimizer_goes_on_where_it_was():
    def run(steps, state=None):
        torch.manual_seed(0)
        parameter = nn.Parameter(torch.ones(4))
        optimizer = UncorrectedAdamW([parameter], lr=0.1)
        if state is not None:
            parameter.data, saved = state
            optimizer.load_state_dict(saved)
        for _ in range(steps):
            parameter.grad = parameter.detach().clone() ** 2
            optimizer.step()
        return parameter.data, optimizer.state_dict()

    assert torch.equal(run(2, run(3))[0], run(5)[0])


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "gpt2", "distilbert"])
def test_decay_spares_biases_and_every_norm_whatever_its_name(family):
    config = AutoConfig.for_model(family, **SIZES, pad_token_id=0, cls_token_id=1, sep_token_id=2)
    model = AutoModel.from_config(config)
    decayed, plain = (group["params"] for group in build_optimizer(model, TrainingArguments()).param_groups)
    assert len(decayed) + len(plain) == len(list(model.parameters()))
    norms = [p for module in model.modules() if isinstance(module, nn.LayerNorm) for p in module.parameters()]
    assert len(norms) >= 4
    assert {id(p) for p in norms} <= {id(p) for p in plain}
    assert all(p.dim() == 1 for p in plain)
    assert all(p.dim() == 2 for p in decayed)


def test_decay_reaches_bottlenecks_and_head_but_neither_biases_nor_norms():
    config = AutoConfig.for_model("bert", **SIZES)
    encoder = KAdapterModel(KAdapterConfig(backbone_config=config, bottlenecks={"default": BottleneckConfig(4)}))
    encoder.freeze("backbone_but_bottlenecks")
    model = TaskModel.from_encoder(encoder, HeadConfig("classification", 2))
    args = TrainingArguments(correct_bias=False, weight_decay=0.01, adam_epsilon=1e-6)
    optimizer = build_optimizer(model, args)
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, plain = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert isinstance(optimizer, UncorrectedAdamW)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    assert all(group["eps"] == 1e-6 for group in optimizer.param_groups)
    assert all(name.endswith("project.weight") or name.startswith("head.") for name in decayed)
    assert sum(name.endswith("project.weight") for name in decayed) == 2 * 2 * 2
    assert all(name.endswith("bias") or "LayerNorm" in name for name in plain)
    assert sum(".norms." in name and name.endswith("weight") for name in plain) == 5


@pytest.mark.parametrize("separately", [True, False])
def test_gradients_are_clipped_together_or_apart(separately):
    model = nn.ModuleDict({"backbone": nn.Linear(1, 1, bias=False), "head": nn.Linear(1, 1, bias=False)})
    for name, value in (("backbone", 3.0), ("head", 4.0)):
        model[name].weight.grad = torch.full((1, 1), value)
    clip_gradients(model, 1.0, separately)
    found = [model[name].weight.grad.item() for name in ("backbone", "head")]
    assert found == pytest.approx([1.0, 1.0] if separately else [0.6, 0.8], rel=1e-5)


def test_the_table_of_a_model_without_parts_is_one_line():
    assert parameter_table(nn.Linear(3, 2)).splitlines()[1].split() == ["all", "8", "8", "100.00"]


def test_a_warm_up_share_beyond_the_training_is_refused():
    with pytest.raises(ValueError, match=r"--warmup_proportion is 1\.5; it must be in \[0, 1\)"):
        TrainingArguments(warmup_proportion=1.5)


def test_a_schedule_that_would_never_train_is_refused():
    with pytest.raises(ValueError, match="--schedule_steps is -1; it must be 0 or more"):
        TrainingArguments(schedule_steps=-1)


def rates(make, steps):
    """The learning rate of each step, the peak being 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, found = make(optimizer), []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


def test_the_rate_moves_as_that_of_transformers_or_as_in_either_original():
    def ours(**options):
        return rates(lambda optimizer: build_schedule(optimizer, TrainingArguments(**options), 10), 10)

    linear = rates(lambda optimizer: get_linear_schedule_with_warmup(optimizer, 4, 10), 11)
    assert ours(warmup_steps=4) == ours(warmup_proportion=0.4) == linear[:10]
    assert ours(warmup_steps=4, schedule="linear_ahead") == linear[1:]
    longer = rates(lambda optimizer: get_linear_schedule_with_warmup(optimizer, 0, 40), 10)
    assert ours(schedule_steps=40) == longer
    # adapter-bert optimization.py: polynomial_decay from step 0, replaced by step / warmup as long as that is below 1
    decay = [1 - step / 10 for step in range(10)]
    assert ours(warmup_steps=4, schedule="bert") == pytest.approx([0, 0.25, 0.5, 0.75, *decay[4:]])


@pytest.mark.parametrize("original", [False, True])
def test_micro_batches_are_averaged_and_clipped_together_or_as_in_the_original_each_for_itself(original):
    class Squares(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))

        def forward(self, x, num_items):
            return HeadOutput(((self.weight - x) ** 2).sum() / num_items)

    x = torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    indices = [np.array([0, 1]), np.array([2])]
    options = {"lengths": np.ones(3), "batch_size": 2, "accumulation": 2, "world": 1, "seed": 0}
    plan = Plan(items=np.ones(3), group_by_length=False, mean_of_means=original, **options)
    args = TrainingArguments(original_accumulation=original, max_grad_norm=1.0)
    model, batches = Squares(), [{"x": x[batch]} for batch in indices]
    feed = Feed(Dataset.from_dict({}), Collator(0))
    step = Step(feed, indices, plan.divisors(indices, rank=0), batches)
    loss = _accumulate(Accelerator(cpu=True), model, step, args)
    if original:
        first = -2 * x[:2].mean(0) / 2
        expected = first / first.norm() - 2 * x[2] / 2  # the first, of norm 2, was clipped to 1
        assert loss.item() == pytest.approx((5 + 4) / 2)
    else:
        expected = -2 * x.mean(0)
        assert loss.item() == pytest.approx(14 / 3)
    np.testing.assert_allclose(model.weight.grad, expected, rtol=1e-5)
