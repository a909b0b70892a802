"""Code blocks of the documentation, and what is to become of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
OTHERS = ("README.md", "CONTRIBUTING.md", "*/README.md")
SHOWN = {"text", "json", "yaml"}
"""Languages of blocks that are read, and not run."""

_MARK = re.compile(r"<!-- (not run|meanwhile): (.+?) -->\s*")


def pages() -> list[Path]:
    """List all that is checked: the pages of docs/, and those for readers of the repository."""
    return sorted([*ROOT.glob("docs/*.md"), *(p for name in OTHERS for p in ROOT.glob(name))])


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes
    ----------
    page, line
    language
        Empty for one that is only indented.
    text
    not_run
        Why, in the page's own words; None where it is run.
    meanwhile
        What happens before it that no command does; None where nothing does.
    output
        What the page says that it prints; None where it says nothing.
    """

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None
    meanwhile: str | None
    output: str | None

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Find the blocks of a page, those in lists too.

    ``<!-- not run: REASON -->`` on the line above marks one that is not run, and
    ``<!-- meanwhile: WHAT -->`` one before which something happens. A block of ``text`` right
    below one is what it prints.
    """
    tokens = MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
    found = []
    for index, token in enumerate(tokens):
        if token.type not in {"fence", "code_block"}:
            continue
        marks = dict(_MARK.findall(tokens[index - 1].content)) if index else {}
        below = tokens[index + 1] if index + 1 < len(tokens) else None
        prints = below is not None and below.type == "fence" and below.info == "text"
        found.append(
            Block(
                page,
                token.map[0] + 1,
                token.info.strip().partition(" ")[0],
                token.content,
                marks.get("not run"),
                marks.get("meanwhile"),
                below.content if prints else None,
            )
        )
    return found
