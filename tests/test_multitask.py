"""Many tasks on one backbone: a mixed batch against each task alone; nothing of a task changes another."""

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from test_bottleneck import backbone, enlarged
from tiny import TEXT

from kadapter import AdapterConfig, BottleneckConfig, HeadConfig, KAdapterModel, MultiTaskModel, TaskModel

FRESH = AdapterConfig(adapter_size=16, num_attention_heads=2)
# Name -> head, adapters that it reads, fusion, width of its bottlenecks.
TASKS = {
    "rte": (HeadConfig("classification", 2), (), "concat", 4),
    "type": (HeadConfig("classification", 3, ("a", "b", "c")), (), "concat", 3),
    "figer": (HeadConfig("entity_typing", 5), ("fac",), "concat", None),
    "tacred": (HeadConfig("relation", 7), ("fac", "lin"), "concat", None),
    "gated": (HeadConfig("relation", 4), ("lin",), "add", None),
    "heads": (HeadConfig("dependency", 6), ("lin",), "concat", 5),
    "choice": (HeadConfig("multiple_choice", 1), ("fac",), "concat", None),
    "words": (HeadConfig("masked_lm", 60), ("lin",), "concat", 4),
}
ROWS = TEXT[[0, 1, 0, 1, 1, 0, 0, 1, 1, 0]].clone()
ROWS[torch.arange(10), torch.arange(10) % 4 + 1] = torch.arange(10) + 20  # ten different texts
MASK = torch.ones_like(ROWS)
MASK[::3, -2:] = 0
PLACES = (torch.arange(20).reshape(10, 2) * 3) % 5
# The choices are two sequences each.
NAMES = ["tacred", "rte", "heads", "figer", "choice", "type", "words", "rte", "gated"]
SIZES = [1, 1, 1, 1, 2, 1, 1, 1, 1]


def encoder(folder, names=("fac", "lin"), mode="concat"):
    adapters = {name: folder / name for name in names}
    return KAdapterModel.from_pretrained(folder, adapters=adapters, fusion_mode=mode)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A backbone, two adapters, and a folder of every task."""
    place = tmp_path_factory.mktemp("tasks")
    backbone().save_pretrained(place)
    both = KAdapterModel.from_pretrained(place, adapters={"fac": FRESH, "lin": FRESH})
    with torch.no_grad():
        for parameter in both.adapters.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for name in both.adapters:
        both.save_adapter(place / name, name)
    for name, (head, adapters, mode, size) in TASKS.items():
        model = encoder(place, adapters, mode)
        if size:
            model.add_bottlenecks("own", BottleneckConfig(size))
            enlarged(model, 0.2)
        task = TaskModel.from_encoder(model, head)
        with torch.no_grad():
            for key in task.task_names():
                if ".norms." in key:
                    task.get_parameter(key).add_(0.1)
        task.save_task(place / f"task-{name}")
    return place


@pytest.fixture(scope="module")
def model(folder):
    found = MultiTaskModel(encoder(folder)).eval()
    for name in TASKS:
        found.add_task(name, folder / f"task-{name}")
    return found


def alone(folder, name):
    _, adapters, mode, _ = TASKS[name]
    return TaskModel.load_task(folder / f"task-{name}", encoder(folder, adapters, mode))


def inputs(name, rows):
    batch = {"input_ids": ROWS[rows], "attention_mask": MASK[rows]}
    kind = TASKS[name][0].kind
    if kind != "dependency":
        batch["positions"] = PLACES[rows] if kind in ("relation", "masked_lm") else PLACES[rows][:, :1]
    if kind == "multiple_choice":
        batch["group_sizes"] = torch.tensor([len(rows)])
    return batch


def mixed(model, names=NAMES, sizes=SIZES):
    batch = {"input_ids": ROWS, "attention_mask": MASK, "positions": PLACES, "group_sizes": torch.tensor(sizes)}
    with torch.no_grad():
        return model(**batch, task_names=names)


@torch.no_grad()
def test_every_example_of_a_mixed_batch_gets_what_its_task_gives_it_alone(folder, model):
    output, begin = mixed(model), 0
    assert len(output.logits) == len(NAMES)
    for name, size, logits in zip(NAMES, SIZES, output.logits, strict=True):
        rows = list(range(begin, begin + size))
        expected = alone(folder, name)(**inputs(name, rows)).logits
        torch.testing.assert_close(logits[None], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model(**inputs(name, rows), task=name).logits, expected, atol=1e-5, rtol=1e-5)
        begin += size
    assert output.examples["rte"] == [1, 7]
    assert output.by_task["rte"].logits.shape == (2, 2)


@torch.no_grad()
def test_the_backbone_runs_once_and_an_adapter_only_on_the_rows_that_ask_for_it(model):
    seen = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda module, args, kwargs, name=name: seen.setdefault(name, []).append(len(args[0][0] if args else ROWS)),
            with_kwargs=True,
        )
        for name, module in (("backbone", model.encoder.backbone), *model.encoder.adapters.items())
    ]
    lin = (
        model.encoder.adapters["lin"]
        .adapter[0]
        .register_forward_pre_hook(lambda module, args: seen.setdefault("rows", []).append(len(args[0])))
    )
    mixed(model)
    for hook in (*hooks, lin):
        hook.remove()
    assert len(seen["backbone"]) == len(seen["lin"]) == len(seen["fac"]) == 1
    assert seen["rows"] == [4]  # tacred, heads, words, gated


def test_labels_give_each_task_its_loss(folder, model):
    gold = {"rte": torch.tensor([1, 0]), "tacred": torch.tensor([3])}
    names, rows = ["rte", "tacred", "rte"], [0, 1, 2]
    batch = {"input_ids": ROWS[rows], "attention_mask": MASK[rows], "positions": PLACES[rows]}
    output = model(**batch, task_names=names, labels=gold)
    first = {name: value[[0, 2]] for name, value in batch.items()}
    first["positions"] = first["positions"][:, :1]
    expected = alone(folder, "rte")(**first, labels=gold["rte"]).loss
    torch.testing.assert_close(output.by_task["rte"].loss, expected)
    torch.testing.assert_close(model(**first, task="rte", labels=gold["rte"]).loss, expected)
    assert output.by_task["tacred"].loss > 0


def test_a_further_task_changes_nothing_for_the_others_and_is_deleted_without_a_trace(folder):
    one = MultiTaskModel(encoder(folder)).eval()
    one.add_task("rte", folder / "task-rte")
    batch = ["rte"] * 10, [1] * 10
    first = mixed(one, *batch)
    names = set(one.state_dict())
    one.add_task("again", folder / "task-type")
    one.add_task("forward", folder / "task-heads")
    assert all(torch.equal(a, b) for a, b in zip(mixed(one, *batch).logits, first.logits, strict=True))
    one.delete_task("again")
    one.delete_task("forward")
    assert set(one.state_dict()) == names
    with pytest.raises(ValueError, match=r"there is no task 'again'; the model has \['rte'\]"):
        one.delete_task("again")


def test_a_model_of_several_tasks_is_saved_loaded_copied_and_pickled(model, tmp_path):
    expected = mixed(model).logits
    model.save_pretrained(tmp_path)
    loaded = MultiTaskModel.from_pretrained(tmp_path)
    assert list(loaded.tasks) == list(TASKS)
    pickled = pickle.dumps(MultiTaskModel.from_pretrained(tmp_path))  # after a call transformers' own hooks refuse it
    for twin in (loaded, copy.deepcopy(model), pickle.loads(pickled)):
        assert all(torch.equal(a, b) for a, b in zip(mixed(twin).logits, expected, strict=True))
    assert not KAdapterModel.from_pretrained(tmp_path / "encoder").bottlenecks()
    (tmp_path / "tasks" / "rte" / "task_config.json").unlink()
    with pytest.raises(FileNotFoundError, match="rte/task_config.json is missing"):
        MultiTaskModel.from_pretrained(tmp_path)
    (tmp_path / "tasks.json").write_text(json.dumps({"tasks": ["../rte"]}))
    with pytest.raises(ValueError, match=r"tasks is \['../rte'\]; give the names of the folders"):
        MultiTaskModel.from_pretrained(tmp_path)


def test_threads_share_a_model_and_each_gets_its_own_answers(model):
    orders = [(NAMES, SIZES), *((names, [1] * 10) for names in (["rte"] * 10, ["figer"] * 10, ["type", "rte"] * 5))]
    expected = [mixed(model, *order).logits for order in orders]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            for found, wanted in zip(
                pool.map(lambda order: mixed(model, *order).logits, orders), expected, strict=True
            ):
                assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_what_does_not_fit_is_refused_and_adds_nothing(folder, model, tmp_path):
    bare = MultiTaskModel(encoder(folder, ("fac",)))
    with pytest.raises(ValueError, match=r"task-tacred reads adapters \['lin'\], but the encoder has \['fac'\]"):
        bare.add_task("tacred", folder / "task-tacred")
    names = set(bare.state_dict())
    TaskModel.load_task(folder / "task-rte", encoder(folder, ())).save_task(tmp_path / "rte")
    config = json.loads((tmp_path / "rte" / "task_config.json").read_text())
    (tmp_path / "rte" / "task_config.json").write_text(json.dumps({**config, "bottleneck": None}))
    with pytest.raises(ValueError, match=r"does not fit this task: \d+ unexpected: encoder.backbone"):
        bare.add_task("rte", tmp_path / "rte")
    assert set(bare.state_dict()) == names
    assert not len(bare.tasks)
    with pytest.raises(ValueError, match="there is a task or a set of bottlenecks 'rte' already"):
        model.add_task("rte", folder / "task-rte")
    with pytest.raises(ValueError, match="'a b' is not a plain word"):
        bare.add_task("a b", folder / "task-rte")
    rows = {"input_ids": ROWS, "attention_mask": MASK}
    with pytest.raises(ValueError, match="give either task, for the whole batch, or task_names"):
        model(**rows)
    with pytest.raises(ValueError, match="3 names for 10 examples, whose groups add up to 10"):
        model(**rows, task_names=["rte"] * 3)
    with pytest.raises(ValueError, match="group_sizes gives task 'rte' 2 sequences for an example; it reads one"):
        model(**rows, task_names=["rte"] * 9, group_sizes=torch.tensor(SIZES))
    with pytest.raises(ValueError, match="there is no task 'qnli'"):
        model(**rows, task="qnli")
    with pytest.raises(ValueError, match="'relation' reads marked places of each text; give positions"):
        model(**rows, task="tacred")


def test_a_second_saved_task_on_one_encoder_is_refused_instead_of_changing_the_first(folder):
    shared = encoder(folder, ())
    TaskModel.load_task(folder / "task-rte", shared)
    with pytest.raises(ValueError, match="carries a task already; several tasks on one backbone are"):
        TaskModel.load_task(folder / "task-type", shared)


def test_a_mixed_batch_trains_each_tasks_own_weights_but_not_with_checkpointing(folder):
    model = MultiTaskModel(encoder(folder)).train()
    for name in ("rte", "type"):
        model.add_task(name, folder / f"task-{name}")
    batch = {"input_ids": ROWS[:4], "attention_mask": MASK[:4]}
    labels = {"rte": torch.tensor([0, 1]), "type": torch.tensor([2, 1])}
    output = model(**batch, task_names=["rte", "type", "type", "rte"], labels=labels)
    output.by_task["rte"].loss.backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(".bottlenecks.rte." in name for name in trained)
    assert not any(".type_." in name for name in trained)
    model.encoder.activation_checkpointing_enable()
    with pytest.raises(ValueError, match="with gradient checkpointing layers run a second time"):
        model(**batch, task="rte")
