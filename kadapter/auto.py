"""transformers' Auto classes know our models once both libraries are imported, in whichever order.

Registering as transformers documents it (`AutoModel.register`) takes our classes, whose modules import torch: seconds
that scripts which only prepare data do not wait. So only names are told, in those tables from which transformers
imports its own classes when they are first asked for; `kadapter` is found there as a module of `transformers.models`.
Where transformers' tables are not imported yet, a finder of the import system tells them as soon as they are. It runs
while their import is locked, and therefore imports nothing: threads that import ours at that moment would wait for it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

CONFIGURATIONS = "transformers.models.auto.configuration_auto"
MODELS = "transformers.models.auto.modeling_auto"
MODEL_TYPE, CONFIGURATION = "kadapter", "KAdapterConfig"
CLASSES = {
    "MODEL_MAPPING": "KAdapterModel",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING": "TaskModelForSequenceClassification",
    "MODEL_FOR_MULTIPLE_CHOICE_MAPPING": "TaskModelForMultipleChoice",
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING": "TaskModelForTokenClassification",
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING": "TaskModelForQuestionAnswering",
    "MODEL_FOR_MASKED_LM_MAPPING": "TaskModelForMaskedLM",
}


class Finder(MetaPathFinder):
    """Finds those two modules as Python does, and tells them our names once they are executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in (CONFIGURATIONS, MODELS):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _tell(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _tell(module: ModuleType) -> None:
    if module.__name__ == CONFIGURATIONS:
        module.CONFIG_MAPPING_NAMES[MODEL_TYPE] = CONFIGURATION
    elif module.__name__ == MODELS:
        for table, name in CLASSES.items():
            getattr(module, f"{table}_NAMES")[MODEL_TYPE] = name
            # Made of the names of configurations, perhaps before ours was among them.
            getattr(module, table)._reverse_config_mapping[CONFIGURATION] = MODEL_TYPE


def register(package: ModuleType) -> None:
    """Tell transformers now or later; a second time changes nothing."""
    sys.modules[f"transformers.models.{MODEL_TYPE}"] = package
    if not any(type(finder).__module__ == __name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
    for name in (CONFIGURATIONS, MODELS):
        if name in sys.modules:
            _tell(import_module(name))  # which waits for a thread that is importing it
