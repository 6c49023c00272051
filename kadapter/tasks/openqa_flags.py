"""The flags that recipes of open-domain question answering share."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from kadapter.console import local_path
from kadapter.models.openqa import MARGINALS, MODES
from kadapter.tasks.openqa import OpenQA
from kadapter.training.flags import check_ranges, flag


@dataclass(frozen=True, kw_only=True)
class QuestionArguments:
    """Questions and paragraphs."""

    mode: str = flag("train the reader of answers, the selector of paragraphs, or all", "all", choices=MODES)
    init_from: str = flag("best/ of an earlier stage's run, whose weights training starts from", "", type=local_path)
    answer_marginal: str = flag("how the places of an answer in a paragraph are combined", "sum", choices=MARGINALS)
    no_paragraph_confidence: bool = flag("all paragraphs weigh the same, as in the paper's runs", False)
    regex_answers: bool = flag("answers are regular expressions", False)
    num_paragraphs: int = flag(
        "paragraphs of each question of train that are read, the first ones", 50, within="[1, inf)"
    )
    num_paragraphs_test: int = flag("the same for dev and test", 50, within="[1, inf)")
    stride: int = flag("tokens that two windows of a long paragraph share", 32, within="[0, inf)")
    max_answer_tokens: int = flag("tokens of the longest answer", 15, within="[1, inf)")
    chunk_tokens: int = flag(
        "tokens that are computed at once; fewer take less memory and change no gradient", 2048, within="[1, inf)"
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.mode == "selector" and self.no_paragraph_confidence:
            raise ValueError(
                "--mode selector trains what --no_paragraph_confidence does without; leave one of the two out."
            )


def question_task(kind: type[OpenQA], own: QuestionArguments) -> OpenQA:
    """The task as its flags describe it."""
    return kind(**asdict(own))
