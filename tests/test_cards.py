"""Model cards: their Python runs as it stands, and no name in them means anything to Markdown or YAML."""

import re

import pytest
from conftest import load_script, slow
from huggingface_hub import ModelCard
from test_predictor import task_model

from kadapter import KAdapterModel, Predictor
from kadapter.storage.card import write_card
from kadapter.tasks import TASKS

TYPING = load_script("examples/run_finetune_openentity_adapter.py")
ODD = 'a|b `x` <script> # "q" [l](u) *s*'


def snippet(folder):
    (found,) = re.findall(r"```python\n(.*?)\n```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return found


def ran(folder, monkeypatch):
    """The names that a card's Python leaves, where it is typed beside the folder."""
    monkeypatch.chdir(folder.parent)
    names: dict = {}
    exec(compile(snippet(folder), "card", "exec"), names)
    return names


def test_the_card_of_an_adapter_loads_it_on_its_backbone(tiny_backbone, tmp_path, monkeypatch):
    (tmp_path / tiny_backbone.name).symlink_to(tiny_backbone)
    model = KAdapterModel.from_pretrained(tmp_path / tiny_backbone.name, adapters={})
    model.add_adapter("bio")
    model.save_adapter(tmp_path / ODD, "bio")
    assert "# the folder of the backbone that it was trained on" in snippet(tmp_path / ODD)
    assert list(ran(tmp_path / ODD, monkeypatch)["model"].adapters) == ["bio"]


def test_the_card_of_an_encoder_loads_it(tiny_model, tmp_path, monkeypatch):
    tiny_model.save_pretrained(tmp_path / ODD)
    assert list(ran(tmp_path / ODD, monkeypatch)["model"].adapters) == ["fac", "lin"]


@pytest.mark.parametrize(
    "name", ["openentity", "tacred", "semeval", "cosmosqa", "searchqa", "squad", "lin", "mlm", "RTE", "SST-2", "STS-B"]
)
def test_the_card_of_a_task_model_asks_it_something(
    name, tiny_backbone_config, tokenizer, tmp_path, monkeypatch, capsys
):
    kind = TASKS[name]
    options = {"doc_stride": 4, "max_query_length": 12} if name == "squad" else {}
    task = kind(labels=tuple(kind.own_labels(tmp_path)), **options)
    model = task_model(tiny_backbone_config, tokenizer, task)
    folder = tmp_path / ODD
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_card(folder, folder.name, model.config, sample=task.sample)
    assert isinstance(ran(folder, monkeypatch)["predict"], Predictor)
    assert re.search("score|heads", capsys.readouterr().out)


@pytest.mark.parametrize("recipe", [slow("openentity")])
def test_a_run_leaves_a_card_that_predicts(run, recipe, monkeypatch, capsys):
    _, folder = run(TYPING, "--task_adapter=own", steps=3)
    (folder / "best").rename(folder.parent / folder.name.replace("own", "best"))
    monkeypatch.chdir(folder.parent)
    best = folder.parent / folder.name.replace("own", "best")
    code = snippet(best)
    assert f'Predictor("{folder.name}")' in code
    exec(code.replace(folder.name, best.name), {})
    assert "labels" in capsys.readouterr().out


def test_names_in_a_card_mean_nothing_to_markdown_or_yaml(tiny_model, tmp_path):
    tiny_model.config.backbone_config._name_or_path = "x`y"
    title = f"{ODD}\n- item: 'x'"
    write_card(tmp_path, title, tiny_model.config, data=("d`a`|b", {"dev": 3}), scores={"dev": {"f|1": 0.5}})
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    (heading,) = [line for line in text.splitlines() if line.startswith("# ")]
    assert heading == r"""# a\|b \`x\` \<script\> \# "q" \[l\](u) \*s\* - item: 'x'"""
    assert "for `` x`y ``, made with" in text
    assert "`` d`a`|b ``: dev 3 examples" in text
    assert r"| dev | f\|1 | 0.5000 |" in text
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.tags == ["kadapter", "adapter", "fac", "lin"]
