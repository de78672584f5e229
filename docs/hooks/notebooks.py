"""Notebooks as pages: text, code, and the small outputs that were saved with them. Nothing is executed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

LONGEST = 60  # lines of an output


def on_files(files: Files, config: Any) -> Files:
    """Called by MkDocs with all files: each notebook becomes a Markdown page of the same address."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            files.remove(file)
            text = page_of(Path(str(file.abs_src_path)))
            files.append(File.generated(config, file.src_uri.replace(".ipynb", ".md"), content=text))
    return files


def on_config(config: Any) -> Any:
    """Called by MkDocs first: the navigation names notebooks."""
    config["nav"] = json.loads(json.dumps(config["nav"]).replace(".ipynb", ".md"))
    return config


def on_page_markdown(text: str, **_: Any) -> str:
    """Called by MkDocs with a page's text: links to notebooks lead to their pages."""
    return text.replace(".ipynb)", ".md)")


def page_of(notebook: Path) -> str:
    """The notebook as Markdown."""
    parts = []
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [_shown(output) for output in cell.get("outputs", [])]
    parts.append(f"*This page is the notebook `docs/tutorials/{notebook.name}` of the repository; the tests run it.*")
    return "\n\n".join(part for part in parts if part)


def _shown(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return f"![A figure](data:image/png;base64,{''.join(data['image/png']).strip()})"
    if "text/html" in data:
        table = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
        return '<div class="output">' + re.sub(r"\n\s*", "", table) + "</div>"
    text = "".join(data.get("text/plain", output.get("text", ""))).rstrip()
    lines = text.splitlines()
    if not text or output.get("name") == "stderr":
        return ""
    return "````{ .text .output }\n" + "\n".join(lines[:LONGEST]) + "\n````"  # what is printed may hold a fence itself
