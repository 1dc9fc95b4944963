"""The sources as syntax trees: what the house rules look at."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Source:
    """One Python file. ``path`` is relative to the repository, with forward slashes."""

    path: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """How long it is."""
        return self.text.count("\n")


@lru_cache(maxsize=4)
def sources(folder: str) -> tuple[Source, ...]:
    """Every Python file under ``folder``; a folder without one would make every rule pass, so that is an error."""
    found = tuple(
        Source(path.relative_to(ROOT).as_posix(), text, ast.parse(text, str(path)))
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (text := path.read_text()) is not None
    )
    assert found, f"there is no Python in {folder}"
    return found


def calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of every call whose callee is a plain dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := dotted(node.func)):
            yield name, node.lineno


def dotted(node: ast.AST) -> str:
    """``a.b.c`` for a chain of names, else the empty text; a call in front of the chain is left out."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr}" if head else node.attr
    return ""


def imported(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """(module, name, line) of every import; the name is empty for ``import module``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, "", node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield node.module, alias.name, node.lineno


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function, methods and inner ones included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def within(path: str, *places: str) -> bool:
    """Whether ``path`` is one of ``places`` or inside one that ends with a slash."""
    return any(path.startswith(place) if place.endswith("/") else path == place for place in places)
