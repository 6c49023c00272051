"""Prediction: what a user asks about in, answers for people out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from kadapter.data.collation import Collator
from kadapter.data.encoding import Feature, sequences
from kadapter.inference.exported import ExportedModel
from kadapter.inference.loading import Loaded, load
from kadapter.models.task_model import TaskModel
from kadapter.storage.checkpoint import digest
from kadapter.training.task import Task

WINDOW = 64  # batches that are read ahead and sorted by length, so that little is padded


class Predictor:
    """Answers for texts, pairs of texts, marked mentions, words or choices, by the model's task.

    ```python
    predict = Predictor("RUN/best")
    predict("A fine film.")  # {"label": "1", "score": 0.93, "scores": {"0": 0.07, "1": 0.93}}
    predict([{"sent": "Ann lives in Oslo.", "start": 13, "end": 17}])  # [{"labels": ["location"], "scores": {...}}]
    ```
    A table in docs/prediction.md shows the inputs and answers of each task. The `note` of an answer says if its input
    was too long and what was done to it.

    Args:
        model: folder of a saved task model or of an exported one; folder of `save_task`, with `backbone`; or a
            `TaskModel`.
        batch_size: inputs that are computed at once; inputs of similar length make a batch.
        device: where to compute, by default on a GPU if there is one. A `TaskModel` stays where it is.
        dtype: type of the backbone, such as torch.bfloat16; adapters and head stay float32.
        tokenizer, task, backbone, threads, encoder: see `kadapter.inference.loading.load`.

    Raises:
        OSError, ValueError: as `load`.
    """

    def __init__(
        self,
        model: str | os.PathLike | TaskModel | Loaded,
        *,
        batch_size: int = 32,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        tokenizer: Any = None,
        task: Task | None = None,
        backbone: str | os.PathLike | None = None,
        threads: int | None = None,
        **encoder: Any,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be 1 or more.")
        loaded = model
        if not isinstance(model, Loaded):
            loaded = load(model, backbone, tokenizer, task, dtype, threads, **encoder)
        assert isinstance(loaded, Loaded)
        self.model, self.task, self.encoding = loaded.model, loaded.task, loaded.encoding
        self.batch_size = batch_size
        if isinstance(self.model, torch.nn.Module):
            given = model if isinstance(model, torch.nn.Module) else None
            default = next(given.parameters()).device if given else "cuda" if torch.cuda.is_available() else "cpu"
            self.device = torch.device(default if device is None else device)
            self.model.to(self.device)
        else:  # an exported model reads tensors of the CPU
            self.device = torch.device("cpu")
        self._collate = Collator(self.task.pad_token_id(self.encoding.tokenizer))

    def __call__(self, inputs: Any) -> Any:
        """One answer for a text or a dictionary, a list of them for a list.

        A list of two texts is two inputs; a pair of texts as one input is a tuple, or a dictionary.

        Raises:
            ValueError: names the input that cannot be used, and says why.
        """
        if isinstance(inputs, str | Mapping | tuple):
            return next(self.stream([inputs]))
        return list(self.stream(inputs))

    def stream(self, inputs: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """Answers in the order of the inputs, which are read as needed, so that memory does not grow with them."""
        rest, number = iter(inputs), 0
        while given := list(islice(rest, WINDOW * self.batch_size)):
            wheres = [f"input {number + i}" for i in range(len(given))]
            yield from self.answers(given, wheres)  # type: ignore[misc]  # none is None where nothing is left out
            number += len(given)

    def digest(self) -> str:
        """SHA-256 of the weights, which identifies a model wherever it is stored."""
        if isinstance(self.model, ExportedModel):
            return self.model.digest()
        return digest(self.model.state_dict()) if isinstance(self.model, torch.nn.Module) else ""

    def batches(self, given: Sequence[Any], wheres: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        """The tensors that the model gets for these inputs, in their order.

        Raises:
            ValueError: names the input that cannot be used.
        """
        examples = [self.task.example(one, where) for one, where in zip(given, wheres, strict=True)]
        features: list[Any] = list(self.task.encode_unlabelled(examples, self.encoding))
        for i, feature in enumerate(features):
            if reason := feature.get("dropped"):
                raise ValueError(f"{wheres[feature.get('window_of', i)]} cannot be used: {reason}.")
        return [self._batch(features[i : i + self.batch_size]) for i in range(0, len(features), self.batch_size)]

    def answers(
        self, given: Sequence[Any], wheres: Sequence[str], bad: dict[int, ValueError] | None = None
    ) -> list[dict[str, Any] | None]:
        """Answers to some inputs at once, in their order.

        Args:
            wheres: what messages call each of them.
            bad: gets what is wrong with inputs that cannot be used, by their place among these, and they get None
                instead of an answer; where it is not given, the first of them raises.
        """
        examples: dict[int, dict[str, Any]] = {}
        errors: dict[int, ValueError] = {}
        for i, (one, where) in enumerate(zip(given, wheres, strict=True)):
            try:
                examples[i] = self.task.example(one, where)
            except ValueError as error:
                errors[i] = error
        found = self.task.encode_unlabelled(list(examples.values()), self.encoding) if examples else []
        places = list(examples)
        features = [(places[feature.get("window_of", i)], feature) for i, feature in enumerate(found)]
        for i, feature in features:
            if reason := feature.get("dropped"):
                errors[i] = ValueError(f"{wheres[i]} cannot be used: {reason}.")
        if errors and bad is None:
            raise errors[min(errors)]
        (bad if bad is not None else {}).update(errors)
        good = [(i, feature) for i, feature in features if i not in errors]
        answers: list[dict[str, Any] | None] = [None] * len(given)
        windows: dict[int, list[tuple[dict[str, np.ndarray], Feature]]] = {}
        for (i, feature), kept in zip(good, self._in_batches([feature for _, feature in good]), strict=True):
            windows.setdefault(i, []).append((kept, feature))
        for i, parts in windows.items():
            joined, feature = self.task.merge_windows(*zip(*parts, strict=True))
            answer, note = self.task.answer(joined, feature, examples[i], self.encoding), feature.get("note")
            answers[i] = {**answer, "note": note} if note else answer
        return answers

    def _in_batches(self, features: Sequence[Feature]) -> list[dict[str, np.ndarray]]:
        """What is kept of the output for each of those features, which are computed the longest first."""
        found: dict[int, dict[str, np.ndarray]] = {}
        order = sorted(range(len(features)), key=lambda i: -max(map(len, sequences(features[i]))))
        for begin in range(0, len(order), self.batch_size):
            batch = order[begin : begin + self.batch_size]
            found.update(zip(batch, self._found([features[i] for i in batch]), strict=True))
        return [found[i] for i in range(len(features))]

    def _batch(self, features: Sequence[Feature]) -> dict[str, torch.Tensor]:
        unlabelled: list[Any] = [{name: value for name, value in f.items() if name != "labels"} for f in features]
        return {name: value.to(self.device) for name, value in self._collate(unlabelled).items()}

    @torch.inference_mode()
    def _found(self, features: Sequence[Feature]) -> list[dict[str, np.ndarray]]:
        """What is kept of the output, for each of a batch's features."""
        batch = self._batch(features)
        kept = self.task.kept(self.model(**batch), batch)
        rows: list[dict[str, np.ndarray]] = [{} for _ in features]
        for name, part in kept.items():
            values = part.values.float() if part.values.is_floating_point() else part.values
            for i, row in enumerate(values.cpu().numpy()):
                rows[i][name] = row if part.sizes is None else row[: int(part.sizes[i])]
        return rows
