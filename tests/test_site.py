"""The documentation as a site: what scripts/site_pages.py adds, and how pages begin. `make docs` builds it strictly."""

import json

import pytest
from conftest import ROOT, load_script

pytest.importorskip("mkdocs")
pages = load_script("scripts/site_pages.py")
DOCS = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_a_page_begins_with_what_one_can_do_after_reading_it(path):
    title, first, *_ = path.read_text(encoding="utf-8").splitlines()
    assert title.startswith("# ")
    assert first.startswith("After reading this page you ")


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for name in [*(path.name for path in DOCS), *(f"api/{name}.md" for name in pages.API), "changes.md"]:
        assert text.count(f": {name}\n") == 1, name


def test_nothing_of_the_site_is_fetched_from_elsewhere():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "http" not in text
    assert "font: false" in text
    assert "url(" not in pages.STYLE


def test_lists_and_tables_get_the_blank_line_that_python_markdown_needs():
    text = ["Text:", "- one", "- two", "", "And:", "| a |", "|---|", "| b |", "```bash", "x", "- y", "```", "1. end"]
    expected = ["Text:", "", "- one", "- two", "", "And:", "", "| a |", "|---|", "| b |"]
    assert list(pages.with_blank_lines(text)) == [*expected, "```bash", "x", "- y", "```", "", "1. end"]


def test_links_out_of_the_documentation_go_to_the_pages_that_stand_for_them():
    for given, expected in {
        "[a](own_tasks.md#x)": "[a](own_tasks.md#x)",
        "[a](https://x.org/y)": "[a](https://x.org/y)",
        "[a](#here)": "[a](#here)",
        "![a](../x.png)": "![a](../x.png)",
        "[the story](../README.md#use-it)": "[the story](index.md)",
        "[new](../CHANGELOG.md)": "[new](changes.md)",
        "[a](../examples/notebooks/probing.ipynb)": "[a](notebooks/probing.md)",
        "[data](../data/README.md)": "data (`data/README.md`)",
        "[`data/README.md`](../data/README.md)": "`data/README.md`",
    }.items():
        assert pages.links_inside(given, "page.md") == expected
    assert pages.links_inside("[a](docs/own_tasks.md#x)", "changes.md") == "[a](own_tasks.md#x)"
    assert pages.links_inside("[a](../../docs/own_tasks.md)", "notebooks/probing.md") == "[a](../own_tasks.md)"
    assert pages.links_inside("[a](probing.ipynb)", "notebooks/b.md") == "[a](probing.md)"


def test_a_notebook_becomes_a_page_with_its_outputs(tmp_path):
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Text."]},
        {
            "cell_type": "code",
            "source": "print(1)",
            "outputs": [
                {"output_type": "stream", "text": ["1\n"]},
                {"output_type": "display_data", "data": {"image/png": "aGk=\n", "text/plain": "<Figure>"}},
                {"output_type": "execute_result", "data": {"text/plain": ["2"]}},
            ],
        },
        {"cell_type": "code", "source": "x = 1", "outputs": []},
    ]
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    assert pages.notebook_page(path) == (
        "# Title\nText.\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\n"
        "![what the code above draws](data:image/png;base64,aGk=)\n\n```text\n2\n```\n\n```python\nx = 1\n```\n"
    )
