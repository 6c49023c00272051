"""Tasks: a module for each family, a class for each task, found by name in `TASKS`."""

from kadapter.tasks.classification import Classification
from kadapter.tasks.dependencies import DependencyHeads
from kadapter.tasks.entity_typing import EntityTyping, Figer, OpenEntity, TrexTyping
from kadapter.tasks.glue import GLUE
from kadapter.tasks.masked_lm import MaskedLM
from kadapter.tasks.multiple_choice import CosmosQA
from kadapter.tasks.openqa import QuasarT, SearchQA
from kadapter.tasks.relations import RelationClassification, Tacred, TrexRelations
from kadapter.tasks.semeval import Semeval
from kadapter.tasks.squad import Squad
from kadapter.tasks.tagging import Tagging
from kadapter.training.task import Task

_PRETRAINING: tuple[type[Task], ...] = (TrexRelations, DependencyHeads, TrexTyping, MaskedLM)
_QUESTIONS: tuple[type[Task], ...] = (CosmosQA, SearchQA, QuasarT, Squad)
_FINETUNING: tuple[type[Task], ...] = (OpenEntity, Figer, Tacred, Semeval, *_QUESTIONS, Classification, Tagging, *GLUE)
TASKS = {task.name: task for task in (*_PRETRAINING, *_FINETUNING)}

__all__ = ["TASKS", "EntityTyping", "RelationClassification", "Task"]
