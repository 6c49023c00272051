"""transformers' Auto classes know our models, in whatever order the two libraries are imported."""

import importlib
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from test_loading import CLASSES, HEADS
from tiny import SIZES, assert_same, build, weights
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    RobertaConfig,
)

import kadapter
from kadapter import KAdapterModel, TaskModel, auto


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Folders of an encoder and of a task model."""
    folder = tmp_path_factory.mktemp("models")
    build(RobertaConfig(**SIZES)).save_pretrained(folder / "encoder")
    build(RobertaConfig(**SIZES), head=CLASSES).save_pretrained(folder / "task")
    return folder


FITTING = {
    "classification": AutoModelForSequenceClassification,
    "multiple_choice": AutoModelForMultipleChoice,
    "masked_lm": AutoModelForMaskedLM,
    "tagging": AutoModelForTokenClassification,
    "span": AutoModelForQuestionAnswering,
}
ALIKE = {"classification": ("classification", "multi_label")}  # the kinds that one class takes


@pytest.mark.parametrize("kind", HEADS)
def test_an_auto_class_loads_the_heads_that_fit_and_refuses_the_others(tmp_path, kind):
    model = build(RobertaConfig(**SIZES), head=HEADS[kind])
    model.save_pretrained(tmp_path / "new")
    for fitting, loader in FITTING.items():
        kinds = ALIKE.get(fitting, (fitting,))
        if kind in kinds:
            loaded = loader.from_pretrained(tmp_path / "new")
            assert isinstance(loaded, TaskModel)
            assert_same(weights(loaded), weights(model))
            loaded.save_pretrained(tmp_path / "again")
            assert_same(weights(TaskModel.from_pretrained(tmp_path / "again")), weights(model))
            assert isinstance(loader.from_config(loaded.config), TaskModel)
            continue
        taken = " or ".join(map(repr, kinds))
        message = rf"has a head of the kind '{kind}', but {loader.__name__} takes {taken}; load it with kadapter"
        with pytest.raises(ValueError, match=rf"{tmp_path}/new {message}"):
            loader.from_pretrained(tmp_path / "new")
        with pytest.raises(ValueError, match=f"this configuration {message}"):
            loader.from_config(model.config)


def test_an_auto_class_for_heads_asks_an_encoder_for_one(saved):
    for loader in FITTING.values():
        with pytest.raises(ValueError, match="encoder is a kadapter without a head; give head=HeadConfig"):
            loader.from_pretrained(saved / "encoder")


def in_child(work):
    """Whether `work` ends well in a copy of this process."""
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def forget(*prefixes):
    for name in [name for name in sys.modules if name.startswith(prefixes)]:
        del sys.modules[name]


def loads_both(module, saved):
    """Both kinds of folders through Auto classes, before any model of ours is imported."""
    assert "kadapter.models.modeling" not in sys.modules
    encoder = module.AutoModel.from_pretrained(saved / "encoder")
    task = module.AutoModelForSequenceClassification.from_pretrained(saved / "task")
    return type(encoder).__name__ == "KAdapterModel" and task.config.num_labels == 3


def test_kadapter_imported_after_transformers_is_known_to_it(saved):
    def work():
        module = sys.modules[auto.MODELS]
        for table in auto.CLASSES:  # as if transformers had never heard of ours
            mapping = getattr(module, table)
            mapping._extra_content.clear(), mapping._modules.pop("kadapter", None)
            mapping._reverse_config_mapping.pop("KAdapterConfig"), mapping._model_mapping.pop("kadapter")
        configurations = sys.modules[auto.CONFIGURATIONS]
        configurations.CONFIG_MAPPING._extra_content.clear()
        configurations.CONFIG_MAPPING_NAMES.pop("kadapter")
        forget("kadapter", "transformers.models.kadapter")
        importlib.import_module("kadapter")
        return loads_both(module, saved)

    assert in_child(work) == 0


def test_transformers_imported_after_kadapter_knows_it(saved):
    def work():
        forget("kadapter", "transformers.models.auto", "transformers.models.kadapter")
        sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != auto.__name__]
        importlib.import_module("kadapter")
        importlib.reload(importlib.import_module("kadapter"))
        assert auto.MODELS not in sys.modules
        assert sum(type(finder).__module__ == auto.__name__ for finder in sys.meta_path) == 1
        return loads_both(importlib.import_module(auto.MODELS), saved)

    assert in_child(work) == 0


def test_importing_kadapter_again_changes_nothing(saved):
    before = [*sys.meta_path]
    importlib.reload(kadapter)
    importlib.reload(auto)
    importlib.reload(kadapter)
    assert [type(finder).__name__ for finder in sys.meta_path] == [type(finder).__name__ for finder in before]
    assert isinstance(AutoModel.from_pretrained(saved / "encoder"), KAdapterModel)


SCRIPTS = {
    "kadapter first": """
import kadapter
assert "torch" not in sys.modules and "transformers" not in sys.modules
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
""",
    "transformers first": """
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
import kadapter
""",
    "the bare package of transformers first": """
import transformers
import kadapter
assert "torch" not in sys.modules
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
""",
    "configurations first": """
from transformers import AutoConfig
import kadapter.data.trex
from transformers import AutoModel, AutoModelForSequenceClassification
""",
    "kadapter's models first": """
from kadapter import TaskModel
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
""",
    "reloaded": """
import importlib, kadapter
importlib.reload(kadapter)
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
importlib.reload(sys.modules["transformers.models.auto.modeling_auto"])
importlib.reload(kadapter)
""",
    # After the bare package, whose first import by two threads fails in transformers itself.
    "threads": """
import threading
import transformers
errors = []
def work(script):
    barrier.wait()
    try:
        exec(script, {})
    except BaseException as error:
        errors.append(error)
scripts = ["import kadapter", "from transformers import AutoModel", "from kadapter import TaskModel",
    "from transformers import AutoTokenizer", "import kadapter.models.task_model",
    "from kadapter import KAdapterConfig"]
barrier = threading.Barrier(len(scripts))
threads = [threading.Thread(target=work, args=[script]) for script in scripts]
[thread.start() for thread in threads], [thread.join() for thread in threads]
assert not errors, errors
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("order", SCRIPTS)
def test_the_auto_classes_know_our_models_in_any_order_of_imports(saved, order):
    script = f"""
import sys
{SCRIPTS[order]}
folder = sys.argv[1]
assert type(AutoConfig.from_pretrained(folder + "/task")).__name__ == "KAdapterConfig"
assert type(AutoModel.from_pretrained(folder + "/encoder")).__name__ == "KAdapterModel"
assert AutoModelForSequenceClassification.from_pretrained(folder + "/task").config.num_labels == 3
"""
    subprocess.run([sys.executable, "-c", script, str(saved)], check=True, cwd=ROOT, timeout=120)
