"""Bottleneck adapters: the layer against its formula, where they stand, what is trained, saved and loaded."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import HIDDEN, MASK, SIZES, TEXT, build
from torch import nn
from transformers import AutoConfig, AutoModel, BertConfig, BertModel

from kadapter import AdapterConfig, BottleneckConfig, HeadConfig, KAdapterConfig, KAdapterModel, TaskModel
from kadapter.models.bottleneck import BottleneckAdapter
from kadapter.training.optimization import parameter_table

SMALL = {"default": BottleneckConfig(4)}
FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "deberta-v2")


def backbone(family="bert", **changes):
    torch.manual_seed(0)
    return AutoModel.from_config(AutoConfig.for_model(family, **{**SIZES, **changes})).eval()


def encoder(family="bert", **changes):
    model = backbone(family)
    config = KAdapterConfig(backbone_config=model.config, bottlenecks={"default": BottleneckConfig(4)}, **changes)
    return KAdapterModel(config, backbone=model).eval()


def enlarged(model, std=0.3):
    """Fresh bottlenecks are nearly the identity; these are not."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, BottleneckAdapter):
                for parameter in module.parameters():
                    parameter.normal_(std=std)
    return model


def state(model, **inputs):
    with torch.no_grad():
        return model(TEXT, attention_mask=MASK, **inputs).last_hidden_state


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    backbone().save_pretrained(folder)
    return folder


# -- the layer --------------------------------------------------------------------------------------------------


def formula(x, w1, b1, w2, b2):
    """x + W2 gelu(W1 x + b1) + b2 with BERT's gelu, and the gradients of its sum weighted by cos, in float64."""
    c = np.sqrt(2 / np.pi)
    z = x @ w1.T + b1
    t = np.tanh(c * (z + 0.044715 * z**3))
    h = 0.5 * z * (1 + t)
    y = x + h @ w2.T + b2
    dy = np.cos(np.arange(y.size)).reshape(y.shape)
    dz = (dy @ w2) * (0.5 * (1 + t) + 0.5 * z * (1 - t**2) * c * (1 + 3 * 0.044715 * z**2))
    return y, dy, {"x": dy + dz @ w1, "w1": dz.T @ x, "b1": dz.sum(0), "w2": dy.T @ h, "b2": dy.sum(0)}


def test_the_layer_and_its_gradients_are_those_of_the_formula():
    random = np.random.default_rng(0)
    sizes = {"x": (5, 8), "w1": (3, 8), "b1": (3,), "w2": (8, 3), "b2": (8,)}
    values = {name: random.standard_normal(size) for name, size in sizes.items()}
    y, dy, gradients = formula(**values)
    layer = BottleneckAdapter(BottleneckConfig(3), 8)
    weights = {
        "w1": layer.down_project.weight,
        "b1": layer.down_project.bias,
        "w2": layer.up_project.weight,
        "b2": layer.up_project.bias,
    }
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(torch.from_numpy(values[name]))
    x = torch.tensor(values["x"], dtype=torch.float32, requires_grad=True)
    out = layer(x)
    out.backward(torch.from_numpy(dy).float())
    np.testing.assert_allclose(out.detach().numpy(), y, rtol=1e-5, atol=1e-6)
    for name, tensor in {"x": x, **weights}.items():
        np.testing.assert_allclose(tensor.grad.numpy(), gradients[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_first_weights_are_a_truncated_normal_and_biases_zero():
    layer = BottleneckAdapter(BottleneckConfig(64, initializer_range=1e-2), 256)
    for part in (layer.down_project, layer.up_project):
        assert part.weight.abs().max() <= 2e-2
        assert part.weight.std().item() == pytest.approx(0.88e-2, rel=0.02)  # of a normal cut at two deviations
        assert not part.bias.any()


def test_a_model_made_of_its_configuration_starts_so_too(bert_folder):
    config = BertConfig(**SIZES)
    head = HeadConfig("classification", 2)
    loaded = KAdapterModel.from_pretrained(bert_folder, bottlenecks={"default": BottleneckConfig(4)})
    for model in (
        TaskModel(KAdapterConfig(backbone_config=config, bottlenecks={"default": BottleneckConfig(4)}, head=head)),
        TaskModel.from_encoder(loaded, head),
    ):
        weights = [p for name, p in model.named_parameters() if name.endswith("project.weight")]
        assert len(weights) == 2 * 2 * 2
        assert all(0 < p.abs().max() <= 2e-3 for p in weights)


def test_what_is_no_bottleneck_is_refused():
    with pytest.raises(ValueError, match="size is 0; it must be 1 or more"):
        BottleneckConfig(0)
    with pytest.raises(ValueError, match="initializer_range is 0; it must be above 0"):
        BottleneckConfig(initializer_range=0)
    with pytest.raises(ValueError, match="hidden_act is 'step'"):
        BottleneckConfig(hidden_act="step")
    with pytest.raises(ValueError, match=r"unknown keys \['width'\]"):
        KAdapterConfig(backbone_config=BertConfig(**SIZES), bottlenecks={"default": {"width": 3}})
    with pytest.raises(ValueError, match="bottlenecks have names"):
        KAdapterConfig(backbone_config=BertConfig(**SIZES), bottleneck=BottleneckConfig(4))
    with pytest.raises(ValueError, match="'a b' is not a plain word"):
        KAdapterConfig(backbone_config=BertConfig(**SIZES), bottlenecks={"a b": BottleneckConfig(4)})


# -- in the backbone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_both_sites_of_every_layer_stand_between_dropout_and_residual(family):
    model = enlarged(encoder(family))
    seen = {}
    for name, module in model.backbone.named_modules():
        if isinstance(module, (nn.Linear, nn.LayerNorm)) and name.endswith(("output.dense", "output.LayerNorm")):
            module.register_forward_hook(lambda m, i, o, name=name: seen.update({name: (i[0], o)}))
    before = {}
    for name, module in model.backbone.named_modules():
        if name.endswith("attention"):
            module.register_forward_pre_hook(
                lambda m, a, k, name=name: before.update({name: a[0] if a else k["hidden_states"]}), with_kwargs=True
            )
    state(model)
    for i in range(2):
        layer = model.backbone.encoder.layer[i]
        place = f"encoder.layer.{i}"
        middle = seen[f"{place}.attention.output.LayerNorm"][1]
        residuals = {"attention.output": before[f"{place}.attention"], "output": middle}
        for site, residual in residuals.items():
            adapter = layer.get_submodule(f"{site}.dropout.bottlenecks.default")
            weights = [p.detach().double().numpy() for p in adapter.parameters()]
            x = seen[f"{place}.{site}.dense"][1].double().numpy()
            expected = formula(x.reshape(-1, HIDDEN), *weights)[0].reshape(x.shape) + residual.double().numpy()
            found = seen[f"{place}.{site}.LayerNorm"][0]
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_fresh_bottlenecks_change_a_model_by_less_than_a_thousandth(family):
    plain, changed = state(backbone(family)), state(encoder(family))
    assert 0 < (plain - changed).norm() / plain.norm() < 1e-3


# Family -> where the layers stand, and the modules whose outputs are added to the residual.
OTHER_FAMILIES = {
    "distilbert": ("transformer.layer", ("attention.out_lin", "ffn")),
    "albert": ("encoder.albert_layer_groups.0.albert_layers", ("attention.output_dropout", "ffn_output")),
    "mpnet": ("encoder.layer", ("attention.dropout", "output.dropout")),
    "modernbert": ("layers", ("attn.out_drop", "mlp")),
    "gpt2": ("h", ("attn.resid_dropout", "mlp.dropout")),
    "llama": ("layers", ("self_attn.o_proj", "mlp.down_proj")),
}


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_bottlenecks_stand_before_both_residuals_in_every_layer_of_other_families(family):
    layers, sites = OTHER_FAMILIES[family]
    special = {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    plain = backbone(family, **special)
    model = KAdapterModel(KAdapterConfig(backbone_config=plain.config, bottlenecks=SMALL), copy.deepcopy(plain)).eval()
    by_hand, count = copy.deepcopy(plain), 0
    enlarged(model)
    for i in range(len(by_hand.get_submodule(layers))):
        for site in sites:
            adapter = model.backbone.get_submodule(f"{layers}.{i}.{site}").bottlenecks["default"]
            weights = [p.detach().double().numpy() for p in adapter.parameters()]
            module, count = by_hand.get_submodule(f"{layers}.{i}.{site}"), count + 1

            def changed(x, forward=module.forward, weights=weights):
                bare = forward(x)
                new = formula(bare.double().numpy().reshape(-1, HIDDEN), *weights)[0]
                return torch.from_numpy(new).float().reshape(bare.shape)

            module.forward = changed
    assert count == sum(isinstance(module, BottleneckAdapter) for module in model.modules())
    with torch.no_grad():
        expected = by_hand(TEXT, attention_mask=MASK).last_hidden_state
        bare = plain(TEXT, attention_mask=MASK).last_hidden_state
    torch.testing.assert_close(state(model), expected, atol=2e-5, rtol=1e-4)
    assert not torch.allclose(expected, bare, atol=1e-2)
    model.activate_bottlenecks(None)
    assert torch.equal(state(model), bare)


def test_a_family_whose_sites_are_not_known_is_refused():
    config = AutoConfig.for_model("gpt_neox", **SIZES)
    with pytest.raises(ValueError, match="bottlenecks cannot be put into gpt_neox, whose layers are not built like"):
        KAdapterModel(KAdapterConfig(backbone_config=config, bottlenecks=SMALL))


def test_sets_of_bottlenecks_do_not_know_each_other(tmp_path):
    model = enlarged(encoder())
    first = state(model)
    model.add_bottlenecks("type", BottleneckConfig(3))  # also a name that torch's modules have
    enlarged(model)
    model.activate_bottlenecks("default")
    fresh = state(model)
    model.freeze("backbone_but_bottlenecks")
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {name for names in model.bottleneck_parts().values() for name in names}
    assert all(".default." in name for name in trained)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in trained:
                parameter.add_(0.01)
    changed = state(model)
    assert not torch.equal(changed, fresh)
    model.activate_bottlenecks("type")
    second = state(model)
    assert model.bottlenecks() == ["default", "type"]
    model.save_pretrained(tmp_path)
    loaded = KAdapterModel.from_pretrained(tmp_path)
    assert loaded.active_bottlenecks == "type"
    assert torch.equal(state(loaded), second)
    for twin in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        twin.activate_bottlenecks("default")
        assert torch.equal(state(twin), changed)
        twin.delete_bottlenecks("type")
        assert torch.equal(state(twin), changed)
        assert not any(".type_." in name for name in twin.state_dict())
    assert torch.equal(state(model), second)
    assert not torch.equal(first, fresh)  # they were drawn anew
    with pytest.raises(ValueError, match=r"there are no bottlenecks 'qnli'; the model has \['default', 'type'\]"):
        model.activate_bottlenecks("qnli")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_backbone_of_half_precision_trains_bottlenecks_in_float32(dtype, tmp_path):
    backbone().to(dtype).save_pretrained(tmp_path)
    model = KAdapterModel.from_pretrained(tmp_path, bottlenecks=SMALL)
    model.freeze("backbone_but_bottlenecks")
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert model.backbone.embeddings.word_embeddings.weight.dtype == dtype
    before = {name: p.detach().clone() for name, p in trained.items()}
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-5, weight_decay=0)
    model.train()
    for _ in range(20):
        optimizer.zero_grad()
        output = model(TEXT, attention_mask=MASK).last_hidden_state.float()
        loss = output[:, 0].pow(2).mean() + (output[:, 1] * torch.arange(HIDDEN)).mean()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
    moved = [(p - before[name]).abs().max().item() for name, p in trained.items()]
    assert min(moved) > 2e-5  # twenty steps of about the rate; in 16 bits those of weights near 1 would be lost
    model.save_pretrained(tmp_path / "saved")
    loaded = KAdapterModel.from_pretrained(tmp_path / "saved")
    found = dict(loaded.named_parameters())
    assert {name: p.dtype for name, p in found.items()} == {name: p.dtype for name, p in model.named_parameters()}
    assert all(torch.equal(found[name], p) for name, p in trained.items())


def test_a_copy_has_bottlenecks_of_its_own():
    model = enlarged(encoder())
    twin = copy.deepcopy(model)
    before = state(model)
    enlarged(model, std=1.0)
    assert torch.equal(state(twin), before)
    assert not torch.equal(state(model), before)


# -- what is trained --------------------------------------------------------------------------------------------


def test_adapter_bert_trains_bottlenecks_every_layer_norm_and_the_last_layer(bert_folder):
    model = KAdapterModel.from_pretrained(bert_folder, bottlenecks={"default": BottleneckConfig(4)})
    model.freeze("backbone_but_bottlenecks")
    task = TaskModel.from_encoder(model, HeadConfig("classification", 2))
    trained = {name for name, p in task.named_parameters() if p.requires_grad}
    assert {name for name in trained if "bottlenecks" not in name and "LayerNorm" not in name} == {
        "head.out_proj.weight",
        "head.out_proj.bias",
    }
    sites = 2 * 2  # two layers
    assert sum("dropout.bottlenecks." in name for name in trained) == 4 * sites
    assert sum("LayerNorm" in name for name in trained) == 2 * (sites + 1)  # and that of the embeddings
    table = parameter_table(task).splitlines()
    assert table[0].split() == ["part", "parameters", "trained", "per", "cent"]
    count = sites * (2 * 4 * HIDDEN + 4 + HIDDEN)
    assert table[2].split() == ["bottlenecks", f"{count:,}", f"{count:,}", "100.00"]
    assert table[1].split()[2] == "0"
    total = sum(p.numel() for p in task.parameters())
    own = count + 2 * HIDDEN * (sites + 1) + 2 * HIDDEN + 2
    assert table[-1].split() == ["all", f"{total:,}", f"{own:,}", f"{100 * own / total:.2f}"]


def test_a_backbone_with_trained_bottlenecks_trains_and_a_frozen_one_does_not():
    model = encoder()
    model.freeze("backbone_but_bottlenecks")
    model.train()
    assert not model.backbone_is_frozen
    assert model.backbone.training
    assert model(TEXT, attention_mask=MASK).last_hidden_state.requires_grad
    model.freeze("backbone")
    assert model.backbone_is_frozen
    assert not model.backbone.training


def test_gradients_reach_every_bottleneck_and_nothing_frozen_with_checkpointing_too():
    norms = []
    for checkpointing in (False, True):
        model = enlarged(encoder())
        model.freeze("backbone_but_bottlenecks")
        if checkpointing:
            model.activation_checkpointing_enable()
        model.train()
        torch.manual_seed(1)
        model(TEXT, attention_mask=MASK).last_hidden_state.pow(3).sum().backward()
        trained = {name for names in model.bottleneck_parts().values() for name in names}
        assert {name for name, p in model.named_parameters() if p.grad is not None} == trained
        norms.append([p.grad.norm().item() for p in model.parameters() if p.grad is not None])
    assert min(norms[0]) > 0
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)


# -- the head ---------------------------------------------------------------------------------------------------


def test_the_pretrained_pooler_is_the_heads_first_layer(bert_folder):
    bert = BertModel.from_pretrained(bert_folder).eval()
    task = TaskModel.from_encoder(KAdapterModel.from_pretrained(bert_folder), HeadConfig("classification", 3)).eval()
    with torch.no_grad():
        pooled = bert(TEXT, attention_mask=MASK).pooler_output
        expected = task.head.out_proj(pooled)
        found = task(TEXT, attention_mask=MASK, positions=torch.zeros(2, 1, dtype=torch.long)).logits
    torch.testing.assert_close(found, expected)
    assert task.head.dense.weight.requires_grad  # nothing is frozen: full fine-tuning


def test_a_fresh_pooler_is_trained_however_much_is_frozen(tmp_path):
    backbone("roberta").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "pooler" not in name}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = KAdapterModel.from_pretrained(tmp_path, bottlenecks={"default": BottleneckConfig(4)})
    model.freeze("backbone")
    task = TaskModel.from_encoder(model, HeadConfig("classification", 2))
    assert all(p.requires_grad for p in task.head.parameters())


def test_the_losses_are_cross_entropy_and_squared_error():
    positions = torch.zeros(2, 1, dtype=torch.long)
    for count in (2, 3):
        task = build(backbone().config, names=(), head=HeadConfig("classification", count))
        out = task(TEXT, attention_mask=MASK, positions=positions, labels=torch.tensor([count - 1, 0]))
        logits = out.logits.detach().double().numpy()
        logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        assert out.loss.item() == pytest.approx(-(logs[0, count - 1] + logs[1, 0]) / 2, rel=1e-5)
    task = build(backbone().config, names=(), head=HeadConfig("classification", 1))
    out = task(TEXT, attention_mask=MASK, positions=positions, labels=torch.tensor([2.5, -100.0]), num_items=4)
    assert out.loss.item() == pytest.approx((out.logits[0, 0].item() - 2.5) ** 2 / 4, rel=1e-5)


# -- saving -----------------------------------------------------------------------------------------------------


def test_a_model_with_bottlenecks_is_saved_and_loaded_whole(tmp_path):
    model = enlarged(encoder("roberta", adapters={"fac": AdapterConfig(adapter_size=16, num_attention_heads=2)}))
    model.save_pretrained(tmp_path)
    loaded = KAdapterModel.from_pretrained(tmp_path)
    assert loaded.config.bottleneck_config("default") == BottleneckConfig(4)
    assert torch.equal(state(loaded), state(model))


def test_knowledge_adapters_stand_on_a_backbone_with_bottlenecks(tmp_path):
    model = enlarged(encoder())
    model.save_pretrained(tmp_path / "tuned")
    fresh = AdapterConfig(adapter_size=16, num_attention_heads=2)
    both = KAdapterModel.from_pretrained(tmp_path / "tuned", adapters={"fac": fresh}, bottlenecks=SMALL)
    both.freeze("backbone")
    assert torch.equal(both.backbone(TEXT, attention_mask=MASK).last_hidden_state, state(model))
    assert torch.equal(both(TEXT, attention_mask=MASK, output_hidden_states=True).hidden_states[-1], state(model))
    with pytest.raises(ValueError, match="there are bottlenecks 'default' already, {'size': 4"):
        KAdapterModel.from_pretrained(tmp_path / "tuned", bottlenecks={"default": BottleneckConfig(8)})
    task = TaskModel.from_encoder(both, HeadConfig("classification", 2))
    task.save_pretrained(tmp_path / "task")
    again = TaskModel.from_pretrained(tmp_path / "task")
    assert torch.equal(state(again.encoder), state(both))


def test_the_tasks_part_alone_makes_the_same_model_of_the_plain_backbone(bert_folder, tmp_path):
    model = enlarged(KAdapterModel.from_pretrained(bert_folder, bottlenecks={"default": BottleneckConfig(4)}))
    task = TaskModel.from_encoder(model, HeadConfig("classification", 2, labels=("no", "yes"))).eval()
    with torch.no_grad():
        task.encoder.backbone.embeddings.LayerNorm.weight.add_(0.5)
        task.head.dense.weight.add_(0.1)
    task.save_task(tmp_path / "part")
    names = set(load_file(tmp_path / "part" / "task_model.safetensors"))
    assert not any("word_embeddings" in name or "query" in name for name in names)
    again = TaskModel.load_task(tmp_path / "part", KAdapterModel.from_pretrained(bert_folder))
    positions = torch.zeros(2, 1, dtype=torch.long)
    with torch.no_grad():
        one, other = (m(TEXT, attention_mask=MASK, positions=positions).logits for m in (task, again))
    assert torch.equal(one, other)
    assert again.config.head_config().labels == ("no", "yes")


def test_a_tasks_part_that_does_not_fit_is_refused(bert_folder, tmp_path):
    model = KAdapterModel.from_pretrained(bert_folder, bottlenecks={"default": BottleneckConfig(4)})
    TaskModel.from_encoder(model, HeadConfig("classification", 2)).save_task(tmp_path / "part")
    with pytest.raises(FileNotFoundError, match=r"none/task_config\.json is missing"):
        TaskModel.load_task(tmp_path / "none", model)
    other = KAdapterModel.from_pretrained(bert_folder, bottlenecks={"default": BottleneckConfig(8)})
    with pytest.raises(ValueError, match="there are bottlenecks 'default' already"):
        TaskModel.load_task(tmp_path / "part", other)
    fac = {"fac": AdapterConfig(adapter_size=16, num_attention_heads=2)}
    with pytest.raises(ValueError, match=r"belongs to adapters \[\], not to \['fac'\]"):
        TaskModel.load_task(tmp_path / "part", KAdapterModel.from_pretrained(bert_folder, adapters=fac))
    path = tmp_path / "part" / "task_model.safetensors"
    weights = load_file(path)
    del weights["head.out_proj.bias"]
    save_file({**weights, "head.more": torch.zeros(1)}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 missing: head\.out_proj\.bias; 1 unexpected: head\.more"):
        TaskModel.load_task(tmp_path / "part", KAdapterModel.from_pretrained(bert_folder))


def test_a_task_of_before_bottlenecks_had_names_still_loads(bert_folder, tmp_path):
    model = enlarged(KAdapterModel.from_pretrained(bert_folder, bottlenecks=SMALL))
    task = TaskModel.from_encoder(model, HeadConfig("classification", 2)).eval()
    task.save_task(tmp_path)
    old = {
        name.replace(".bottlenecks.default.", ".adapter.").replace(".norms.default", ""): value
        for name, value in load_file(tmp_path / "task_model.safetensors").items()
    }
    save_file(old, tmp_path / "task_model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "task_config.json").read_text())
    del config["fusion_mode"]
    (tmp_path / "task_config.json").write_text(json.dumps(config))
    again = TaskModel.load_task(tmp_path, KAdapterModel.from_pretrained(bert_folder))
    with torch.no_grad():
        found, expected = (one(TEXT, attention_mask=MASK).logits for one in (again, task))
    assert torch.equal(found, expected)


def test_a_backbone_saved_alone_with_its_bottlenecks_is_refused_as_a_plain_encoder(tiny_backbone_config, tmp_path):
    model = build(tiny_backbone_config)
    model.add_bottlenecks("rte", BottleneckConfig(4))
    model.backbone.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"bottlenecks\.rte.* of a whole model where it has bottlenecks"):
        KAdapterModel.from_pretrained(tmp_path)
    model.delete_bottlenecks("rte")
    model.backbone.save_pretrained(tmp_path / "bare")
    KAdapterModel.from_pretrained(tmp_path / "bare")


# -- some layers alone ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "mpnet", "modernbert", "gpt2", "llama"])
def test_bottlenecks_stand_in_the_layers_that_are_named_and_none_below_gets_a_gradient(family):
    torch.manual_seed(0)
    special = {f"{token}_token_id": 1 for token in ("pad", "bos", "eos", "cls", "sep")}
    bare = AutoModel.from_config(AutoConfig.for_model(family, **{**SIZES, "num_hidden_layers": 3}, **special))
    config = KAdapterConfig(
        backbone_config=bare.config, bottlenecks={"default": BottleneckConfig(4, layers=(2, 1))}, fusion_mode="add"
    )
    model = KAdapterModel(config, backbone=bare).train()
    model.freeze("backbone_but_bottlenecks")
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len([name for name in names if "down_project.weight" in name]) == 4  # two sites in each of two layers
    outside = [name for name in names if not any(f".{layer}." in name for layer in (1, 2))]
    assert all(".norms." in name and "embed" not in name for name in outside)  # only what stands above all layers
    entered = []
    layers = next(m for m in model.backbone.modules() if isinstance(m, nn.ModuleList) and len(m) == 3)
    for i, layer in enumerate(layers):
        layer.register_forward_hook(
            lambda _, __, out, i=i: entered.append((i, (out[0] if isinstance(out, tuple) else out).requires_grad))
        )
    model(TEXT, attention_mask=MASK).last_hidden_state.sum().backward()
    assert entered == [(0, False), (1, True), (2, True)]
    assert all(p.grad is not None for name, p in model.named_parameters() if ".bottlenecks." in name)


def test_a_set_of_some_layers_is_saved_loaded_and_used_beside_a_whole_one(tmp_path):
    model = encoder()
    model.add_bottlenecks("upper", BottleneckConfig(4, initializer_range=0.5, layers=(1,)))
    model.eval()
    outputs = {}
    for name in ("default", "upper", None):
        model.activate_bottlenecks(name)
        outputs[name] = model(TEXT, attention_mask=MASK).last_hidden_state
    assert not torch.equal(outputs["upper"], outputs[None])
    model.activate_bottlenecks("upper")
    model.save_pretrained(tmp_path)
    loaded = KAdapterModel.from_pretrained(tmp_path)
    assert loaded.config.bottleneck_config("upper").layers == (1,)
    torch.testing.assert_close(loaded(TEXT, attention_mask=MASK).last_hidden_state, outputs["upper"])
    by_hand = copy.deepcopy(model)
    by_hand.activate_bottlenecks(None)
    states = by_hand(TEXT, attention_mask=MASK, output_hidden_states=True).hidden_states[1]
    model.activate_bottlenecks("upper")
    found = model(TEXT, attention_mask=MASK, output_hidden_states=True).hidden_states
    assert torch.equal(found[1], states)  # below, nothing changes


@pytest.mark.parametrize(
    ("layers", "said"),
    [((), "name each layer once"), ((1, 1), "once"), ((-1,), "from 0"), ((2,), "has 2, numbered from 0")],
)
def test_layers_that_cannot_have_bottlenecks_are_refused(layers, said):
    with pytest.raises(ValueError, match=said):
        KAdapterConfig(backbone_config=backbone().config, bottlenecks={"a": BottleneckConfig(4, layers=layers)})


def test_a_family_whose_layers_share_their_weights_has_bottlenecks_in_all_of_them():
    config = KAdapterConfig(
        backbone_config=backbone("albert").config, bottlenecks={"a": BottleneckConfig(4, layers=(1,))}
    )
    with pytest.raises(ValueError, match="each needs weights of its own"):
        KAdapterModel(config)


@pytest.mark.parametrize("text", ["x", "3-1", "1-2-3", "-1", "1,,2"])
def test_a_recipe_takes_numbers_and_ranges_of_layers(text):
    from kadapter.training.model_arguments import TaskArguments

    given = TaskArguments(bottleneck_size=4, bottleneck_layers="0,2-4")
    assert given.bottlenecks()["default"].layers == (0, 2, 3, 4)
    with pytest.raises(ValueError, match="--bottleneck_layers is"):
        TaskArguments(bottleneck_size=4, bottleneck_layers=text)
    with pytest.raises(ValueError, match="give --bottleneck_size"):
        TaskArguments(bottleneck_layers="1")
