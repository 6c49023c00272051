"""Parity with numbers that the original computed, within 1e-5 in float32 (tests/golden/README.md)."""

import pytest
import torch
from conftest import golden_config, golden_state, slow

from kadapter import HeadConfig, KAdapterModel, TaskModel, load_original
from kadapter.models.fusion import Fusion


def assert_equal(ours, reference, tolerance=1e-5):
    """Relative to the size of the numbers, since single values may lie near zero."""
    ours, reference = torch.as_tensor(ours).detach().double(), torch.as_tensor(reference).double()
    assert ours.shape == reference.shape
    worst = (ours - reference).abs().max() / reference.abs().max()
    assert worst < tolerance, f"largest difference {worst:.2e} of the largest value"


def adapter_states(golden_weights, name):
    return {f"{name}_adapter.{key}": value for key, value in golden_weights[name].items() if key.startswith("adapter.")}


def pretraining_model(golden_weights, name, head):
    model = TaskModel(golden_config((name,), head=head))
    model.encoder.backbone.load_state_dict(
        {key.removeprefix("model."): value for key, value in golden_weights["backbone"].items()}
    )
    load_original(model, golden_weights[name])
    model.encoder.freeze("backbone")
    return model.eval()


@pytest.fixture(scope="module")
def fac_model(golden_weights):
    return pretraining_model(golden_weights, "fac", HeadConfig("relation", 7, dropout=0.0))


@pytest.fixture(scope="module")
def lin_model(golden_weights):
    return pretraining_model(golden_weights, "lin", HeadConfig("dependency", 12, dropout=0.0))


def test_backbone_gives_the_reference_hidden_states(golden, fac_model):
    output = fac_model.encoder(golden["input_ids"], golden["attention_mask"], output_hidden_states=True)
    assert_equal(torch.stack(output.hidden_states), golden["backbone_hidden_states"])


def fac_inputs(golden):
    return {
        "input_ids": golden["input_ids"],
        "attention_mask": golden["attention_mask"],
        "positions": torch.stack([golden["subj_start"], golden["obj_start"]], 1),
        "labels": torch.tensor([0, 3, 6]),
    }


def lin_inputs(golden):
    labels = golden["head_labels"].masked_fill(golden["attention_mask"] == 0, -100)
    return {"input_ids": golden["input_ids"], "attention_mask": golden["attention_mask"], "labels": labels}


def test_relation_pretraining_gives_the_reference_loss_and_logits(golden, fac_model):
    output = fac_model(**fac_inputs(golden))
    assert_equal(output.loss, golden["fac_loss"])
    assert_equal(output.logits, golden["fac_logits"])


def test_dependency_pretraining_gives_the_reference_loss_logits_and_attention(golden, lin_model):
    output = lin_model(**lin_inputs(golden))
    assert_equal(output.loss, golden["lin_loss"])
    assert_equal(output.logits, golden["lin_logits"])
    assert_equal(output.attention[:, None], golden["lin_attention"])


def trajectory(model, inputs):
    """Ten steps as the reference made them: AdamW on all but the backbone, one gradient norm, constant rate."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-5, eps=1e-8, weight_decay=0.0, fused=True)
    losses = []
    for _ in range(10):
        loss = model(**inputs).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return losses


@pytest.mark.parametrize("fusion_mode", ["concat", "add"])
@pytest.mark.parametrize("names", [slow(("fac",)), slow(("lin",)), ("fac", "lin")])
def test_features_are_the_reference_features(golden, golden_weights, fusion_mode, names):
    state = dict(golden_weights["backbone"])
    for name in names:
        state.update(adapter_states(golden_weights, name))
    if fusion_mode == "concat":
        full = golden_state("robertawithadapter_both_concat") if len(names) > 1 else fusion_state(names)
        state.update({name: value for name, value in full.items() if name.startswith("task_dense")})
    model = KAdapterModel(golden_config(names, fusion_mode)).eval()
    load_original(model, state)
    key = f"features_{fusion_mode}_{'both' if len(names) > 1 else names[0]}"
    assert_equal(model(golden["input_ids"], golden["attention_mask"]).last_hidden_state, golden[key])


def fusion_state(names):
    full = golden_state("robertawithadapter_both_concat")
    return {name: full[name] for name in full if name.startswith(f"task_dense_{names[0]}.")}


@pytest.mark.parametrize("skip", [2, 3])
def test_skip_connections_give_the_reference_features(golden, golden_weights, skip):
    model = KAdapterModel(golden_config(("fac",), "add", adapter_skip_layers=skip)).eval()
    load_original(model, {**golden_weights["backbone"], **adapter_states(golden_weights, "fac")})
    features = model(golden["input_ids"], golden["attention_mask"]).last_hidden_state
    assert_equal(features, golden[f"features_add_fac_skip{skip}"])


TASKS = {
    "openentity": ("entity_typing", 9),
    "figer": ("entity_typing", 5),
    "tacred": ("relation", 42),
    "cosmosqa": ("multiple_choice", 4),
}


def task_inputs(golden, task):
    inputs = {"input_ids": golden["input_ids"], "attention_mask": golden["attention_mask"]}
    first = golden["subj_start"][:, None]
    if task == "cosmosqa":
        ids, mask = golden["choice_ids"], golden["choice_mask"]
        first = torch.zeros(len(ids), 1, dtype=torch.long)
        return {"input_ids": ids, "attention_mask": mask, "positions": first, "labels": torch.tensor([1, 3])}
    if task == "tacred":
        positions = torch.cat([first, golden["obj_start"][:, None]], 1)
        return {**inputs, "positions": positions, "labels": torch.tensor([28, 0, 41])}
    return {**inputs, "positions": first, "labels": golden["entity_labels" if task == "openentity" else "figer_labels"]}


@pytest.mark.parametrize("task", TASKS)
def test_tasks_give_the_reference_losses_and_logits(golden, golden_weights, task):
    model, inputs = task_model(golden, golden_weights, task)
    added = Fusion(["fac", "lin"], 1024, "nested_add" if task == "cosmosqa" else "add")
    for fusion, name in ((model.encoder.fusion, "concat"), (added, "add")):
        model.encoder.fusion = fusion
        with torch.no_grad():
            output = model(**inputs)
        assert_equal(output.loss, golden[f"{task}_{name}_loss"])
        assert_equal(output.logits, golden[f"{task}_{name}_logits"])


def task_model(golden, golden_weights, task):
    kind, labels = TASKS[task]
    nested = "nested_" if task == "cosmosqa" else ""
    head = HeadConfig(kind, labels, dropout=0.0)
    model = TaskModel(golden_config(fusion_mode=f"{nested}concat", head=head)).eval()
    load_original(model, {**golden_state(task), **golden_weights["backbone"]})
    model.encoder.freeze("backbone")
    return model, task_inputs(golden, task)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_tasks_follow_the_reference_trajectories(golden, golden_weights, task):
    model, inputs = task_model(golden, golden_weights, task)
    assert_equal(trajectory(model, inputs), golden[f"{task}_trajectory"])


# The training tests come last in this file: they change the weights of the shared models.


@pytest.mark.slow
def test_relation_pretraining_follows_the_reference_trajectory(golden, fac_model):
    assert_equal(trajectory(fac_model, fac_inputs(golden)), golden["fac_trajectory"])


@pytest.mark.slow
def test_dependency_pretraining_follows_the_reference_trajectory(golden, lin_model):
    assert_equal(trajectory(lin_model, lin_inputs(golden)), golden["lin_trajectory"])
