"""Every command and every snippet of the documentation works, as it stands there."""

import importlib.util
import re
import shutil
import tomllib

import pytest
import torch
from conftest import DEMO_BACKBONE, ROOT, load_script, slow
from documents import blocks, calls, parse, program_of

from kadapter import AdapterConfig, HeadConfig, KAdapterModel, TaskModel

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("block", blocks("bash"), ids=str)
def test_a_documented_command_is_one_that_its_program_takes(block, tmp_path, monkeypatch):
    started = calls(block, tmp_path)
    assert started or "source" in block.text
    for number, call in enumerate(started):
        check(call, tmp_path / str(number), monkeypatch)


def check(call, folder, monkeypatch):
    """One call of a program: its flags parse, its target, file or extra is there."""
    folder.mkdir()
    if found := program_of(call):
        path, arguments = found
        nested = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
        parse(path, arguments, monkeypatch)
        if nested:  # compare.py, sweep.py, benchmarks: the command that they repeat
            check_nested(nested, folder, monkeypatch)
    elif call[0] == "make":
        targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(call[1:]) <= set(targets), call
    elif call[0] == "bash-recorded":
        assert (ROOT / call[1]).is_file()
    else:
        check_installation(call)


def check_nested(command, folder, monkeypatch):
    """The command behind `--`, which is a shell's words without its variables."""
    if command[0] == "bash":
        from documents import Block

        words = " ".join(f"'{word}'" for word in command)
        for i, call in enumerate(calls(Block(ROOT / "README.md", "bash", words, 0), folder)):
            check(call, folder / str(i), monkeypatch)
    else:
        check(["python", *command] if command[0].endswith(".py") else command, folder / "nested", monkeypatch)


def check_installation(call):
    """What pip is asked for is this project or one of its extras, or a package that one of them names."""
    named = re.findall(r"kadapter\[([\w,-]+)\]|\.\[([\w,-]+)\]", " ".join(call))
    for extras in named:
        for extra in "".join(extras).split(","):
            assert extra in PROJECT["optional-dependencies"], f"there is no extra {extra}"
    if call[0] in ("python", "python3"):
        assert call[1] in ("-m", "-c"), f"{call} is no program of this project"


# -- Python -----------------------------------------------------------------------------------------------------

# What a block of a document finds in its folder as RUN/best, by the recipe that made it.
RUNS = {
    "README.md": "run_finetune_classification_adapter",
    "prediction.md": "run_finetune_classification_adapter",
    "open_domain.md": "run_finetune_searchqa_adapter",
}


@pytest.fixture
def place(tmp_path, monkeypatch, tiny_backbone, tokenizer, run):
    """A folder in which the names that the documentation uses mean tiny models: roberta-large, bert-base-uncased, …"""

    def prepare(document):
        shutil.copytree(DEMO_BACKBONE, tmp_path / "pretrained_models" / "roberta-demo")
        for name in ("roberta-large", "roberta-base", "bert-base-uncased"):
            (tmp_path / name).symlink_to(tiny_backbone)
        config = AdapterConfig(adapter_list=(0, 1, 2), adapter_size=16, num_attention_heads=2, intermediate_size=24)
        model = KAdapterModel.from_pretrained(tiny_backbone, adapters={"fac": config, "lin": config})
        for name in ("fac", "lin"):
            model.save_adapter(tmp_path / "pretrained_models" / f"{name}-adapter", name)
        model.save_pretrained(tmp_path / "out")
        tokenizer.save_pretrained(tmp_path / "out")
        head = HeadConfig("classification", 2)
        for name in ("RTE", "CoLA"):
            task = TaskModel.from_encoder(KAdapterModel.from_pretrained(tiny_backbone), head)
            task.save_task(tmp_path / "output" / name / "best" / "task")
        if document in RUNS:
            _, folder = run(load_script(f"examples/{RUNS[document]}.py"), steps=2)
            (tmp_path / "RUN").symlink_to(folder)
        if document == "prediction.md":
            export = ["--model", tmp_path / "RUN" / "best", "--format", "torch", "--output", tmp_path / "exported"]
            load_script("scripts/export_model.py").main([str(word) for word in export])
        monkeypatch.chdir(tmp_path)

    return prepare


def prelude(tokenizer):
    """Names that snippets use for what their reader has at hand."""
    batch = tokenizer(["Here is some text to encode."] * 3, return_tensors="pt")
    return {
        "batch": dict(batch),
        "input_ids": batch["input_ids"],
        "mask": batch["attention_mask"],
        "texts": ["A film."],
    }


@pytest.mark.parametrize(
    "document",
    [
        slow(name) if name in ("prediction.md", "open_domain.md") else name
        for name in sorted({block.document.name for block in blocks("python")})
    ],
)
def test_the_snippets_of_a_document_run_one_after_the_other(document, place, tokenizer, capsys):
    """Later blocks see the names of earlier ones. A comment `# prints: …` behind a `print` is what it prints."""
    place(document)
    names = prelude(tokenizer)
    for block in blocks("python"):
        if block.document.name != document:
            continue
        needed = re.findall(r"^(?:from|import) (\w+)", block.text, re.MULTILINE)
        if any(importlib.util.find_spec(name) is None for name in needed):
            continue  # of an extra that is not installed
        torch.manual_seed(0)
        capsys.readouterr()
        exec(compile(block.text, str(block), "exec"), names)
        expected = re.findall(r"print\(.*  # prints: (.*)$", block.text, re.MULTILINE)
        assert expected == [] or capsys.readouterr().out.splitlines() == expected
