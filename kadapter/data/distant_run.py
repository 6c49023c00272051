"""The steps of distant supervision over whole files: graph, sample, pieces by workers, one output with its report."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kadapter.data.aliases import AliasRules, CompiledGraph, Sample, compile_graph
from kadapter.data.distant import AlignOptions, align_piece, read_sentences
from kadapter.data.distant_report import gather, markdown, plot
from kadapter.data.executors import as_finished, executor
from kadapter.data.graph_files import read_graph
from kadapter.data.jsonio import shorten, write_json
from kadapter.data.pieces import Piece
from kadapter.data.splits import files_of
from kadapter.data.texts import find_texts, text_pieces
from kadapter.storage.files import atomic_files, atomic_writer
from kadapter.storage.locks import exclusive
from kadapter.storage.reading import read_object

_VERSION = 1  # of what is found in the same input
_SAMPLED = 20_000  # sentences, spread over the pieces, from which frequent aliases are told


@dataclass(frozen=True)
class Inputs:
    """The files: triples, aliases, and files or folders of text; language: of labels in RDF."""

    triples: Sequence[Path]
    aliases: Sequence[Path]
    text: Sequence[Path]
    language: str = "en"


def create(
    inputs: Inputs, output: Path, rules: AliasRules, options: AlignOptions, workers: int = 1, cluster: str = ""
) -> dict[str, Any]:
    """Write the examples of all texts, the report and the plot, and return the report.

    Args:
        workers, cluster: as in `kadapter.data.executors.executor`; what is written does not depend on them.

    Raises:
        FileNotFoundError, ValueError: an input is bad, or no example is found; names file, value and mend.
        BlockingIOError: another process writes the same output.
    """
    texts = find_texts(inputs.text)
    with exclusive(output, "give another --output"):
        folder = output.with_name(f".{output.name}.{_key(inputs, texts, rules, options)}.parts")
        folder.mkdir(parents=True, exist_ok=True)
        work = [(piece, name) for path, name in texts.items() for piece in text_pieces(path, options.texts)]
        parts = [folder / f"{i:06d}.jsonl" for i in range(len(work))]
        try:
            about = _prepare(inputs, folder, rules, options, work)
        except ValueError:
            shutil.rmtree(folder)  # nothing is in it that would be gone on with
            raise
        _align(work, parts, folder, options, workers, cluster)
        graph = CompiledGraph(folder / "graph", options.case, finds=False)
        report = {"graph": about["graph"], **gather(parts, graph, about["triples"])}
        report["aliases not used"] = about["refused"]
        if not report["counts"].get("examples"):
            shutil.rmtree(folder)
            raise ValueError(_nothing(inputs, report, about["names"]))
        _write(parts, output, report)
        shutil.rmtree(folder)
    return report


def _key(inputs: Inputs, texts: dict[Path, str], rules: AliasRules, options: AlignOptions) -> str:
    """What the parts depend on."""
    graph = [file for path in (*inputs.triples, *inputs.aliases) for file in files_of(path) or [path]]
    stamps = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in [*graph, *texts] if path.exists()]
    ruled = asdict(rules) | {"stop": sorted(rules.stop)}
    values = [_VERSION, inputs.language, stamps, list(texts.values()), ruled, asdict(options)]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:12]


def _prepare(
    inputs: Inputs, folder: Path, rules: AliasRules, options: AlignOptions, work: Sequence[tuple[Piece, str]]
) -> dict[str, Any]:
    """Read and compile the graph, unless an earlier call did; returns what is said of it."""
    done = folder / "graph.json"
    if done.is_file() and (folder / "graph").is_dir():
        return read_object(done, "delete it and start again.", ["graph", "triples", "refused", "names"])
    graph = read_graph(inputs.triples, inputs.aliases, inputs.language)
    made = compile_graph(graph, rules, _sample(work, rules, options), folder / "graph")
    told = {"entities": len(graph.entities), "relations": len(graph.relations), **dict(sorted(graph.counts.items()))}
    told |= {"aliases that are used": made["aliases"], "of which name several entities": made["ambiguous"]}
    names = [name for _, name in graph.names[:3]]
    about = {"graph": told, "triples": made["facts"], "refused": made["refused"], "names": names}
    write_json(done, about)
    return about


def _sample(work: Sequence[tuple[Piece, str]], rules: AliasRules, options: AlignOptions) -> Sample:
    """The first sentences of each piece."""
    sample = Sample()
    each = -(-_SAMPLED // len(work))
    for piece, name in work:
        for _, _, words in islice(read_sentences(piece, name, options), each):
            sample.add(words, rules)
    return sample


def _align(
    work: Sequence[tuple[Piece, str]],
    parts: Sequence[Path],
    folder: Path,
    options: AlignOptions,
    workers: int,
    cluster: str,
) -> None:
    """Align those pieces that no earlier call finished."""
    pieces = {part: piece for (piece, _), part in zip(work, parts, strict=True)}
    left = [
        (*given, part) for given, part in zip(work, parts, strict=True) if not part.with_suffix(".counts").is_file()
    ]
    total, due = sum(piece.size for piece in pieces.values()), sum(piece.size for piece, _, _ in left)
    function = partial(align_piece, graph=folder / "graph", options=options)
    with (
        tqdm(total=total, initial=total - due, unit="B", unit_scale=True, desc="align", disable=None) as bar,
        executor(min(workers, len(left) or 1), cluster, [folder, *{piece.path.parent for piece, _, _ in left}]) as pool,
    ):
        for (_, _, part), _ in as_finished(pool, function, left):
            bar.update(pieces[part].size)


def _nothing(inputs: Inputs, report: dict[str, Any], names: Sequence[str]) -> str:
    """Why there is no example."""
    listed = ", ".join(map(shorten, names))
    text = ", ".join(map(str, inputs.text))
    named = report["coverage"]["entities that the text names"][0]
    sentences = report["counts"].get("sentences", 0)
    refused = sum(kept["count"] for kept in report["aliases not used"].values())
    rules = f" ({refused:,} aliases are not used by the rules: {', '.join(report['aliases not used'])})" * bool(refused)
    if not sentences:
        return f"{text} holds no sentence; give text."
    if named < 2:
        return (
            f"{text}: {sentences:,} sentences do not name two entities of the graph, whose names are such as {listed}"
            f"{rules}; "
            "check that these are names rather than ids (else give --aliases), the language, and --case ignore."
        )
    return (
        f"{text}: {named:,} entities such as {listed} are named, but no sentence names both ends of a triple{rules}; "
        "check that graph and text are about the same things, and the ids in --aliases."
    )


def _write(parts: Sequence[Path], output: Path, report: dict[str, Any]) -> None:
    with atomic_files("the relation examples") as temporary:
        with temporary(output).open("xb") as target:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, target, 1 << 20)
        write_json(temporary(output.with_name(f"{output.stem}-report.json")), report)
        with atomic_writer(temporary(output.with_name(f"{output.stem}-report.md"))) as page:
            page.write(markdown(report))
        plot(report, output.with_name(f"{output.stem}-relations.png"), temporary)
