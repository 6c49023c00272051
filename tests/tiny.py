"""Tiny models for several test files, and how to compare them."""

import torch
from conftest import TINY_ADAPTER

from kadapter import AdapterConfig, KAdapterConfig, KAdapterModel, KnowledgeAdapter, TaskModel

HIDDEN = 32  # width of the tiny backbone
SIZES = {  # of a backbone of any family
    "vocab_size": 60,
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
TEXT = torch.tensor([[0, 11, 12, 13, 14, 2], [0, 21, 22, 2, 1, 1]])
MASK = (TEXT != 1).long()


def build(backbone, names=("fac", "lin"), fusion_mode="concat", head=None, seed=0, **changes):
    """A model whose adapters matter: their projections are large."""
    torch.manual_seed(seed)
    adapter = AdapterConfig(**{**TINY_ADAPTER.to_dict(), **changes})
    config = KAdapterConfig(
        backbone_config=backbone, adapters=dict.fromkeys(names, adapter), fusion_mode=fusion_mode, head=head
    )
    model = KAdapterModel(config) if head is None else TaskModel(config)
    return enlarge(model).eval()


def enlarge(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "project.weight" in name:
                parameter.normal_(std=0.3)
    return model


def features(model, input_ids=TEXT, mask=MASK, **options):
    with torch.no_grad():
        return model(input_ids, attention_mask=mask, **options).last_hidden_state


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(left, right):
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert not different, different


def difference(left, right):
    """Largest difference, relative to the largest value."""
    return ((left - right).abs().max() / right.abs().max()).item()


def adapter(seed=0, **changes) -> KnowledgeAdapter:
    torch.manual_seed(seed)
    return KnowledgeAdapter(AdapterConfig(**{**TINY_ADAPTER.to_dict(), **changes}), HIDDEN)


def released(labels=7, sequence=None) -> dict[str, torch.Tensor]:
    """The tensors of a pretrained adapter as the original released them; with `sequence` the linguistic one."""
    state = dict(adapter().state_dict())
    head = {
        "com_dense": (HIDDEN, 2 * HIDDEN),
        "dense": (HIDDEN, HIDDEN if sequence else 2 * HIDDEN),
        "out_proj": (sequence or labels, HIDDEN),
    }
    if sequence:
        head |= {
            f"self_attention.{name}": (HIDDEN, HIDDEN)
            for name in ("self.query", "self.key", "self.value", "output.dense")
        }
        state |= {
            "self_attention.output.LayerNorm.weight": torch.ones(HIDDEN),
            "self_attention.output.LayerNorm.bias": torch.zeros(HIDDEN),
        }
    for name, shape in head.items():
        state |= {f"{name}.weight": torch.randn(shape), f"{name}.bias": torch.randn(shape[0])}
    return state
