"""What a mistake says is a sentence: it wraps, where other output keeps its lines."""

from __future__ import annotations

import re
from typing import Any

SENTENCE = re.compile(r"^```text\n(?=(?:agl|\w+Error): )", re.MULTILINE)


def on_page_markdown(text: str, **_: Any) -> str:
    """Called by MkDocs with a page's text."""
    return SENTENCE.sub("```{ .text .sentence }\n", text)
