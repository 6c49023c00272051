"""What turns docs/ into the site, as hooks of mkdocs (mkdocs.yml): GitHub shows the same files without it.

Adds the pages that GitHub shows from other places (the notebooks, the changes) or not at all (the API, from the
docstrings), lets links to those files go to these pages, and gives Markdown the blank lines before lists and tables
that GitHub does not ask for, but Python's Markdown does.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "examples" / "notebooks"
# Page -> what it says first, and whose docstrings it shows.
API = {
    "models": (
        "models",
        "the calls, arguments and errors of models, adapters and configurations",
        [
            *("kadapter.KAdapterModel", "kadapter.RobertawithAdapter", "kadapter.TaskModel"),
            *("kadapter.MultiTaskModel", "kadapter.load_original"),
            *("kadapter.AdapterConfig", "kadapter.BottleneckConfig", "kadapter.HeadConfig", "kadapter.KAdapterConfig"),
            *("kadapter.KnowledgeAdapter", "kadapter.TransformerAdapter"),
        ],
    ),
    "prediction": (
        "prediction",
        "the calls that answer new inputs",
        [
            *("kadapter.Predictor", "kadapter.inference.exported.ExportedModel"),
            "kadapter.inference.passages",
        ],
    ),
    "training": (
        "tasks and training",
        "what a task is made of, and the calls that train and evaluate it",
        [
            "kadapter.training.task.Task",
            "kadapter.training.recipe",
            "kadapter.training.encoders",
            "kadapter.training.flags",
        ],
    ),
}
# A page as wide as our commands; words of code in tables stay whole where there is room.
STYLE = """
.md-grid { max-width: 78rem; }
.md-typeset table:not([class]) code { word-break: normal; overflow-wrap: anywhere; }
.md-typeset table:not([class]) { font-size: .68rem; }
"""
BEGINS = re.compile(r"(?:[-*] |\d+\. |\|)")  # a list or a table
FENCE = re.compile(r" *(```|~~~)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """All files of the site, with those that are made here."""
    pages = {"changes.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")}
    pages |= {f"notebooks/{path.stem}.md": notebook_page(path) for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    pages["site.css"] = STYLE
    pages |= {f"api/{name}.md": api_page(*page) for name, page in API.items()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    return "\n".join(with_blank_lines(links_inside(markdown, page.file.src_uri).splitlines())) + "\n"


def api_page(title: str, about: str, names: list[str]) -> str:
    """A page that mkdocstrings fills."""
    return f"# API: {title}\nThis page lists {about}.\n\n" + "\n\n".join(f"::: {name}" for name in names) + "\n"


def links_inside(markdown: str, source: str) -> str:
    """Links as the site has them: what has a page here becomes a link to it, any other file of the project its name.

    Args:
        source: the page; where the file that it is made of lies decides what a link means.
    """
    folder = {"changes.md": "", "notebooks": "examples/notebooks", "api": "."}.get(source.split("/")[0], "docs")

    def inside(match: re.Match[str]) -> str:
        text, target, anchor = match.groups()
        path = os.path.normpath(os.path.join(folder, target))
        pages = {"README.md": "index.md", "CHANGELOG.md": "changes.md"}
        if path.startswith("docs/"):
            page = path.removeprefix("docs/")
        elif path.startswith("examples/notebooks/") and path.endswith(".ipynb"):
            page = f"notebooks/{Path(path).stem}.md"
        elif path in pages:
            page, anchor = pages[path], None
        else:
            return f"{text} (`{path}`)" if text.strip("`") != path else f"`{path}`"
        return f"[{text}]({os.path.relpath(page, os.path.dirname(source))}{anchor or ''})"

    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)", inside, markdown)


def with_blank_lines(lines: list[str]) -> Iterator[str]:
    """The lines, a blank one before each list and table that follows a paragraph, outside of code."""
    before, code = "", False
    for line in lines:
        if FENCE.match(line):
            code = not code
        elif not code and BEGINS.match(line) and before.strip() and not BEGINS.match(before) and before[0] != " ":
            yield ""
        yield line
        before = line


def notebook_page(path: Path) -> str:
    """A notebook as Markdown: text, code, and what the code printed and drew."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                image = "".join(data["image/png"]).replace("\n", "")
                parts.append(f"![what the code above draws](data:image/png;base64,{image})")
            elif printed := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
                parts.append(f"```text\n{printed}\n```")
    return "\n\n".join(parts) + "\n"
