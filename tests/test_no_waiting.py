"""No step of training waits for its device between loggings: recipes run on a device that has shapes, but no numbers.

PyTorch's device "meta" computes nothing, so whatever the host would have to wait for fails: reading a number, shapes
that depend on numbers, copies back. Copies to it must not wait either.
"""

import pytest
import torch
from accelerate import Accelerator
from conftest import DATA, load_script, slow
from families import config
from tiny import MASK, build, features
from torch.utils._python_dispatch import TorchDispatchMode

from kadapter.models import masks
from kadapter.models.last_layer import FAMILIES, KERNELS
from kadapter.training import loop, states

STEPS = 3


class Done(Exception):
    """All steps were taken."""


class Copies(TorchDispatchMode):
    """Counts copies to the device and fails at one that the host would wait for."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if func is torch.ops.aten._to_copy.default and args[0].device.type == "cpu" and device == torch.device("meta"):
            self.count += 1
            assert kwargs.get("non_blocking"), f"a copy of {tuple(args[0].shape)} that the host waits for"
        return func(*args, **kwargs)


@pytest.fixture
def trained(run, monkeypatch):
    """Trains by a recipe on the device meta, until the loop looks at losses and weights for the first time."""
    copies, taken = Copies(), []

    def call(recipe, *flags):
        """Calls a recipe; gives the number of copies to the device."""
        _without_numbers(monkeypatch, copies, taken)
        intervals = ("--logging_steps", STEPS, "--save_steps", 0, "--eval_steps", 0)
        with pytest.raises(Done):
            run(load_script(f"examples/{recipe}.py"), *intervals, *FLAGS.get(recipe, ()), *flags, steps=STEPS)
        assert len(taken) == STEPS
        return copies.count

    return call


def _without_numbers(monkeypatch, copies, taken):
    monkeypatch.setattr(Accelerator, "device", property(lambda self: torch.device("meta")))
    accumulate = loop._accumulate

    def step(*args, **options):
        with copies:
            loss = accumulate(*args, **options)
        taken.append(loss)
        return loss

    def stop(self):
        raise Done

    monkeypatch.setattr(loop, "_accumulate", step)
    monkeypatch.setattr(loop._Losses, "finish", stop)


FLAGS = {
    "run_finetune_squad_adapter": ["--doc_stride", 8, "--max_query_length", 16],
    "run_finetune_classification_adapter": ["--bottleneck_size", 8],
    "run_finetune_openentity_adapter": ["--untrained", "fac", "--untrained", "lin", "--freeze_bert"],
    "run_pretrain_fac_adapter": ["--gradient_accumulation_steps", 2],
}
# How many paragraphs fit into a chunk is decided by their lengths, and which of them bear an answer by the labels.
WAITING = ("run_finetune_quasart_adapter", "run_finetune_searchqa_adapter")
LIKE_OTHERS = ("run_finetune_figer_adapter", "run_finetune_tacred_adapter", "run_finetune_semeval_adapter")


@pytest.mark.parametrize(
    "recipe", [slow(name) if name in LIKE_OTHERS else name for name in sorted(DATA) if name not in WAITING]
)
def test_no_step_of_a_recipe_waits_for_its_device(recipe, trained):
    assert trained(recipe) >= 3 * STEPS  # batches have input_ids, attention_mask and labels at least


@pytest.mark.parametrize("kernel", ["sdpa", slow("eager")])
def test_no_step_waits_where_states_come_from_a_cache(kernel, run, trained, monkeypatch, tmp_path):
    """They are computed by the same recipe on a CPU."""
    digests, real = [], states.backbone_digest
    monkeypatch.setattr(states, "backbone_digest", lambda *own: digests.append(real(*own)) or digests[0])
    flags = ("--cache_states", tmp_path / "states", "--attn_implementation", kernel)
    run(load_script("examples/run_pretrain_fac_adapter.py"), *flags, "--num_train_epochs", 1, steps=-1)
    monkeypatch.setattr(states, "backbone_digest", lambda *own: digests[0])
    assert trained("run_pretrain_fac_adapter", *flags, "--overwrite_output_dir") >= 8 * STEPS


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "not padded"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("family", FAMILIES)
def test_masks_that_are_always_made_give_the_same_features(family, kernel, padded, monkeypatch):
    backbone = config(family)
    backbone._attn_implementation = kernel
    model, mask = build(backbone).double(), MASK if padded else torch.ones_like(MASK)
    expected = features(model, mask=mask)
    monkeypatch.setattr(masks, "_can_be_read", lambda tensor: False)
    made, real = [], model.backbone.forward
    monkeypatch.setattr(
        model.backbone, "forward", lambda **given: made.append(given["attention_mask"]) or real(**given)
    )
    torch.testing.assert_close(features(model, mask=mask), expected, atol=1e-12, rtol=1e-12)
    assert made[0].shape == (2, 1, 6, 6)
