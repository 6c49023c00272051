"""Readers on values that nobody expects: odd labels, wrong types in every field, numbers and nesting without end."""

import random
import re

from kadapter.tasks.semeval import LABELS as SEMEVAL_LABELS
from kadapter.tasks.semeval import _entities, read_semeval

# -- SemEval ----------------------------------------------------------------------------------------------------

# What the reader had before, as the oracle: right, but quadratic where tags stay open.
PAIRS = re.compile(r"(.*?)<e([12])>(.*?)</e\2>(.*?)<e([12])>(.*?)</e\5>(.*)", re.DOTALL)


def test_the_tags_of_a_sentence_are_those_that_a_pattern_finds():
    rng = random.Random(0)
    found = 0
    for _ in range(4000):
        parts = rng.choices(["<e1>", "</e1>", "<e2>", "</e2>", "a", "<e3>"], k=rng.randrange(4, 16))
        sentence, tags = "".join(parts), _entities("".join(parts))
        match = PAIRS.fullmatch(sentence)
        found += match is not None
        assert len(tags) == (4 if match else 0)
        if match:
            ends = [match.start(3), match.start(4) - len("</e1>"), match.start(6), match.start(7) - len("</e1>")]
            assert [tags[0].end(), tags[1].start(), tags[2].end(), tags[3].start()] == ends
    assert found > 400


def test_a_sentence_of_many_open_tags_is_refused_without_looking_for_pairs_forever(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text('1\t"' + "<e1>" * 200_000 + '"\nOther\n\n2\t"<e2>A</e2> of <e1>B</e1>."\nOther\n')
    faults = []
    (example,) = read_semeval(path, SEMEVAL_LABELS, on_error=lambda error: faults.append(str(error)))
    assert example["pieces"] == ["", "A", " of ", "B", "."]
    assert not example["subject_first"]
    assert len(faults) == 1
    assert "train.txt, line 1: " in faults[0]
    assert "is no example; write number, tab and the sentence with one <e1>...</e1> and one <e2>" in faults[0]
