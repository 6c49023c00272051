"""Probe masked language models for facts: LAMA, LAMA-UHN, or a knowledge graph of your own, before and after.

    python scripts/probe_lama.py --model_name_or_path roberta-large --adapter fac=pretrained_models/fac-adapter \\
        --data lama/ --uhn_model bert-base-cased --output output/probe
    python scripts/probe_lama.py --model_name_or_path bert-base-cased roberta-base --data lama/
    python scripts/probe_lama.py --model_name_or_path roberta-base --adapter kg=RUN/best --untrained \\
        --facts graph.tsv --templates templates.json

--data is the folder of LAMA's data (https://dl.fbaipublicfiles.com/LAMA/data.zip). Each sentence has one gap, and the
right word is ranked among all words that are one token of every model and in --vocabulary. The paper's K-Adapter (F)
has 29.1 P@1 on T-REx, RoBERTa-large 27.1; how it put the head on is not known. So with --adapter the head reads the
bare last state, its sum with the adapter's ("add"), and the fusion that run_pretrain_mlm-adapter.sh --fusion_alone
trained. Adapters stand beside the first model. Writes probe.md, probe.json, probe.png and predictions/*.jsonl, see
docs/probing.md.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from probe_report import Answers, by_relation, differences, markdown, plot, published, rows

from kadapter.console import COUNT, Parser, absolute, hub_or_path, named_source, run
from kadapter.data.jsonio import write_json, write_jsonl
from kadapter.probing.facts import Facts, read_lama, read_own
from kadapter.probing.models import Probed, load_probed
from kadapter.probing.names import COLLECTIONS, guessed_from_names, object_in_subject
from kadapter.probing.ranking import fitting, rank
from kadapter.probing.scores import groups, interval, scores_of
from kadapter.probing.vocabulary import LISTS, answerable, candidates, read_words
from kadapter.storage.files import atomic_files
from kadapter.storage.locks import exclusive


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    args = _arguments(argv)
    adapters = _named(args.adapter)
    found = read_lama(args.data) if args.data else read_own(args.facts, args.templates, args.aliases)
    names = short_names(args.model_name_or_path)
    models = [
        load_probed(source, name, adapters if not i else None, args.untrained and not i)
        for i, (source, name) in enumerate(zip(args.model_name_or_path, names, strict=True))
    ]
    namer = load_probed(args.uhn_model, "names") if args.uhn_model else None
    words = candidates({model.name: model.tokenizer for model in models}, _words(args))
    relations = {fact.relation: fact.collection for fact in found.facts}
    facts = fitting(models, answerable(found, words), found)
    lost = {relation: name for relation, name in relations.items() if relation not in {f.relation for f in facts}}
    said = _what_was_read(found, facts, lost, len(words))
    print("\n".join(said))
    device = torch.device("cuda" if torch.cuda.is_available() and not args.no_cuda else "cpu")
    in_uhn = _in_uhn(facts, namer, args.batch_size, device)
    ranked = {
        model.label(setting): one
        for model in models
        for setting, one in rank(model, facts, words, args.batch_size, device).items()
    }
    answers = Answers(facts, in_uhn, groups(facts, in_uhn), ranked)
    return write(args, answers, {"said": said, "uhn": _uhn_named(args.uhn_model), "words": len(words)}, found)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    group = parser.add_argument_group("whom to ask")
    group.add_argument(
        "--model_name_or_path", type=hub_or_path, nargs="+", required=True, help="models to ask: folders or hub names"
    )
    group.add_argument(
        "--adapter",
        type=named_source,
        action="append",
        default=[],
        help="an adapter beside the first model (repeatable)",
    )
    group.add_argument(
        "--untrained", action="store_true", help="also ask a fresh adapter of each one's shape, as a control"
    )
    group = parser.add_argument_group("what to ask: LAMA, or your own graph")
    group.add_argument("--data", type=absolute, help="folder of LAMA's data")
    group.add_argument(
        "--uhn_model",
        type=hub_or_path,
        help="model that guesses objects from names, for LAMA-UHN; the paper's is bert-base-cased",
    )
    group.add_argument(
        "--facts", type=absolute, nargs="+", default=[], help="files of your own graph, instead of --data"
    )
    group.add_argument("--templates", type=absolute, help='JSON file for --facts: {relation: "[X] was born in [Y] ."}')
    group.add_argument(
        "--aliases", type=absolute, nargs="*", default=[], help="files for --facts, with the names of entities"
    )
    group.add_argument(
        "--vocabulary",
        type=absolute,
        help="file of the words to choose among, one in each line; default: LAMA's list, with --facts all words",
    )
    group = parser.add_argument_group("how, and where to")
    group.add_argument("--output", type=absolute, default="output/probe", help="folder to write")
    group.add_argument("--batch_size", type=COUNT, default=64, help="sentences at a time; default: 64")
    group.add_argument("--no_cuda", action="store_true", help="use the CPU even where there is a GPU")
    args = parser.parse_args(argv)
    if bool(args.data) == bool(args.facts):
        parser.error("give --data with LAMA's folder, or --facts with --templates.")
    if bool(args.facts) != bool(args.templates) or (args.aliases and not args.facts):
        parser.error("--facts, --templates and --aliases go together; --data has its own templates.")
    if args.uhn_model and args.facts:
        parser.error("--uhn_model is for LAMA's relations; leave it out with --facts.")
    if args.untrained and not args.adapter:
        parser.error("--untrained takes the shape of --adapter; give one.")
    if repeated := sorted({one for one in args.model_name_or_path if args.model_name_or_path.count(one) > 1}):
        parser.error(f"--model_name_or_path names {repeated[0]} twice; name each model once.")
    return args


def _named(pairs: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, source = pair.partition("=")
        if not (name and equals and source) or name in found:
            raise ValueError(f"--adapter is {pair!r}; write name=path, each name once.")
        found[name] = source
    return found


def _words(args: argparse.Namespace) -> list[str] | None:
    """What is chosen among: the words of --vocabulary, or of LAMA's list beside its data; None for all words."""
    if args.vocabulary:
        return read_words(args.vocabulary)
    if not args.data:
        return None
    path = next((args.data / name for name in LISTS if (args.data / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{args.data / LISTS[0]} is missing; fetch it from LAMA's page, or give --vocabulary.")
    return read_words(path)


def short_names(sources: Sequence[str]) -> list[str]:
    """Names of models by the last parts of their places, as many as tell them apart; never "best" alone."""
    parts = [Path(source).parts for source in sources]
    length = [2 if len(own) > 1 and own[-1] == "best" else 1 for own in parts]
    while True:
        names = ["/".join(own[-count:]) for own, count in zip(parts, length, strict=True)]
        twice = [i for i, name in enumerate(names) if names.count(name) > 1 and length[i] < len(parts[i])]
        if not twice:
            return names
        length = [count + (i in twice) for i, count in enumerate(length)]


def _in_uhn(facts: Sequence[Any], namer: Probed | None, batch_size: int, device: torch.device) -> list[bool] | None:
    """Whether each fact belongs to LAMA-UHN; None where no fact is of the collections that it filters."""
    if not any(fact.collection in COLLECTIONS for fact in facts):
        return None
    guessed = guessed_from_names(namer, facts, batch_size, device) if namer else [False] * len(facts)
    return [
        fact.collection in COLLECTIONS and not object_in_subject(fact) and not out
        for fact, out in zip(facts, guessed, strict=True)
    ]


def _uhn_named(uhn_model: str | None) -> str:
    if uhn_model:
        return f"UHN: without objects that stand in the subject's name or that {uhn_model} guesses from it."
    return "UHN: without objects that stand in the subject's name; --uhn_model adds the filter by guesses from names."


def _what_was_read(found: Facts, facts: Sequence[Any], lost: Mapping[str, str], words: int) -> list[str]:
    """What was read, left out and asked."""
    lines = []
    for collection, counts in found.counts.items():
        out = "".join(f", {count:,} {reason}" for reason, count in counts.items() if reason != "read")
        asked = sum(fact.collection == collection for fact in facts)
        gone = [relation for relation, name in lost.items() if name == collection]
        none = f"; nothing is left of {', '.join(gone)}, which no average holds" if gone else ""
        lacking = found.lacking.get(collection, [])
        more = f"; {len(lacking)} relations with a template have no file, such as {lacking[0]}" if lacking else ""
        lines.append(f"{collection}: {asked:,} facts asked of {counts['read']:,}{out}{none}{more}")
    return [*lines, f"{words:,} words to choose among"]


def write(args: argparse.Namespace, answers: Answers, about: Mapping[str, Any], found: Facts) -> dict[str, Any]:
    """Print and write all outputs together."""
    compared = differences(answers)
    slugs = {label: re.sub(r"[^\w.-]+", "-", label).strip("-") for label in answers.ranked}
    files = {label: f"predictions/{slug}.jsonl" for label, slug in slugs.items()}
    text = markdown(answers, compared, about)
    parts = ["  \n".join(about["said"]), text, published(answers), by_relation(answers)]
    whole = "\n\n".join(part for part in parts if part) + "\n"
    report = {
        "models": args.model_name_or_path,
        "adapters": args.adapter,
        "counts": {name: dict(counts) for name, counts in found.counts.items()},
        **about,
        "scores": {
            label: {
                group.name: {**scores_of(group, one.ranks), "p1_interval": interval(group, one.ranks)}
                for group in answers.groups
            }
            for label, one in answers.ranked.items()
        },
        "predictions": files,
        "differences": {label: {group: asdict(one) for group, one in own.items()} for label, own in compared.items()},
    }
    with exclusive(args.output / "probe.json", "give another --output"), atomic_files("the probe") as temporary:
        write_json(temporary(args.output / "probe.json"), report)
        temporary(args.output / "probe.md").write_text(whole, encoding="utf-8")
        plot(answers, args.output / "probe.png", temporary)
        for label, name in files.items():
            write_jsonl(temporary(args.output / name), rows(answers, label))
    print(f"\n{text}")
    return report


if __name__ == "__main__":
    run(main)
