"""Measure distant supervision: sentences a second of one core, and the memory of the largest process.

    python scripts/convert_fewrel.py --input val_wiki.json --output_dir output/fewrel
    python scripts/benchmark_relations.py --cleaned output/fewrel/cleaned.jsonl --output_dir output/benchmark-relations

Makes names by recombining the words of the mentions in cleaned examples, in their lengths, spreads them over entities
(some name several), draws triples, and puts names into the sentences in place of their mentions, in a share of them
those of a triple. Then scripts/create_relation_dataset.py runs with one worker, on a little of this text and on all of
it: what the first takes is the graph's part, and what the second takes more is the text's. Prints a table for
docs/benchmarks.md.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from benchmark_data import SCRIPTS, measure

from kadapter.console import COUNT, SEED, Parser, absolute, run
from kadapter.data.cleaned import Example, mention_spans
from kadapter.data.tables import read_rows
from kadapter.storage.reading import read_object

LITTLE = 2  # megabytes
TOGETHER = 5  # sentences of a document


def names_like(examples: Sequence[Example], count: int, rng: np.random.Generator) -> list[str]:
    """That many different names of the words and lengths of mentions."""
    mentions = [example["token"][slice(*span)] for example in examples for span in mention_spans(example)]
    words = Counter(word for mention in mentions for word in mention)
    listed, weights = list(words), np.array(list(words.values()), float)
    sizes = np.array([len(mention) for mention in mentions])
    names: dict[str, None] = {}
    while len(names) < count:
        drawn = rng.choice(len(listed), (100_000, 8), p=weights / weights.sum())
        for row, size in zip(drawn.tolist(), rng.choice(sizes, 100_000).tolist(), strict=True):
            names[" ".join(listed[i] for i in row[:size])] = None
    return list(names)[:count]


def write_graph(names: Sequence[str], folder: Path, rng: np.random.Generator) -> tuple[list[int], np.ndarray]:
    """aliases.tsv and triples.tsv; gives the owner of each name, and the triples as [triples, 2].

    There are 0.6 entities and two triples for each name, and one name in 30 has a second owner.
    """
    entities = int(0.6 * len(names))
    owners = [*range(entities), *rng.integers(entities, size=len(names) - entities).tolist()]
    of: list[list[str]] = [[] for _ in range(entities)]
    for name, owner in zip(names, owners, strict=True):
        of[owner].append(name)
    for name in names[::30]:
        of[int(rng.integers(entities))].append(name)
    with (folder / "aliases.tsv").open("w", encoding="utf-8") as file:
        file.writelines("\t".join([f"Q{i}", *own]) + "\n" for i, own in enumerate(of))
    pairs = rng.integers(entities, size=(2 * len(names), 2))
    relations = rng.zipf(1.3, len(pairs)) % 800
    with (folder / "triples.tsv").open("w", encoding="utf-8") as file:
        file.writelines(f"Q{s}\tP{r}\tQ{o}\n" for (s, o), r in zip(pairs.tolist(), relations.tolist(), strict=True))
    return owners, pairs


def sentences(
    examples: Sequence[Example],
    names: Sequence[str],
    owners: Sequence[int],
    pairs: np.ndarray,
    share: float,
    rng: np.random.Generator,
) -> Iterator[str]:
    """Endless sentences with other names in the places of mentions; a share of them states a triple."""
    first = dict(zip(reversed(owners), reversed(names), strict=True))
    while True:
        rows, triples = rng.integers(len(examples), size=10_000), pairs[rng.integers(len(pairs), size=10_000)]
        others = rng.integers(len(names), size=(10_000, 2))
        for i, (row, triple, other) in enumerate(zip(rows.tolist(), triples.tolist(), others.tolist(), strict=True)):
            words, spans = list(examples[row]["token"]), mention_spans(examples[row])
            put = [first[entity] for entity in triple] if i < share * 10_000 else [names[place] for place in other]
            for (start, end), name in sorted(zip(spans, put, strict=True), reverse=True):
                words[start:end] = [name]
            yield " ".join(words)


def write_text(found: Iterator[str], path: Path, megabytes: int, together: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1e6:
            file.writelines(" ".join(next(found) for _ in range(together)) + "\n" for _ in range(1000))


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--cleaned", type=absolute, required=True, help="cleaned examples, as converters write them")
    parser.add_argument("--output_dir", type=absolute, required=True, help="folder to write; it is emptied first")
    parser.add_argument("--aliases", type=COUNT, default=1_000_000, help="aliases of the made-up graph")
    parser.add_argument("--megabytes", type=COUNT, default=100, help="megabytes of made-up text")
    parser.add_argument("--seed", type=SEED, default=42, help="seed of graph and text")
    args = parser.parse_args(argv)
    out, rng = args.output_dir, np.random.default_rng(args.seed)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    examples = [row.record for row in read_rows(args.cleaned)]
    names = names_like(examples, args.aliases, rng)
    graph = write_graph(names, out, rng)
    print("| text | with a triple | MB | sentences | graph, s | text, s | sentences/s | MB/s | peak MiB |")
    print("|---" * 9 + "|")
    for how, share, together in (("given", 0.5, 1), ("given", 0.1, 1), ("split", 0.1, TOGETHER)):
        found = sentences(examples, names, *graph, share, rng)
        runs = []
        for megabytes in (LITTLE, args.megabytes):
            text = out / f"{how}-{share}-{megabytes}.txt"
            write_text(found, text, megabytes, together)
            runs.append(create(out, text, how))
        (seconds, count, size, _), (all_seconds, all_count, all_size, peak) = runs
        more = all_seconds - seconds
        cells = [how, f"{share:.0%}", f"{all_size:.0f}", f"{all_count:,}", f"{seconds:.0f}", f"{more:.0f}"]
        cells += [f"{(all_count - count) / more:,.0f}", f"{(all_size - size) / more:.1f}", f"{peak:.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def create(out: Path, text: Path, how: str) -> tuple[float, int, float, float]:
    """Seconds of a core, sentences, megabytes and peak MiB of a run."""
    output = text.with_suffix(".jsonl")
    flags = ("--triples", out / "triples.tsv", "--aliases", out / "aliases.tsv", "--text", text)
    script = SCRIPTS / "create_relation_dataset.py"
    taken = measure(script, *flags, "--output", output, "--sentences", how, "--workers", 1)
    report = read_object(output.with_name(f"{output.stem}-report.json"), "run it again.", ["counts"])
    return taken.core_seconds, report["counts"]["sentences"], text.stat().st_size / 1e6, taken.peak_mib


if __name__ == "__main__":
    run(main)
