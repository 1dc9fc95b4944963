"""Sizes, names and shapes that keep the house readable."""

import ast
import inspect
from pathlib import Path
from typing import TypeVar

import pytest
from pydantic import BaseModel

from app.core import contract
from app.core.errors import AppError
from app.core.strict import In, Out
from app.operations import openapi_document
from tests.architecture.sources import ROOT, calls, functions, sources, within

KindT = TypeVar("KindT")

LINES_MAX = 400
FUNCTION_LINES_MAX = 60
FORBIDDEN_NAMES = {"util", "utils", "helper", "helpers", "manager", "managers", "common", "misc", "base_utils"}
EVERYTHING = ("app", "tests", "tools", "migrations")


@pytest.mark.parametrize("folder", EVERYTHING)
def test_files_are_short_enough_to_be_read(folder: str) -> None:
    """A file that nobody reads to the end is where the second way of doing the same thing grows."""
    too_long = {
        source.path: source.lines
        for source in sources(folder)
        if source.lines > LINES_MAX and not within(source.path, "migrations/versions/")
    }
    assert too_long == {}


@pytest.mark.parametrize("folder", EVERYTHING)
def test_functions_fit_on_a_screen(folder: str) -> None:
    """What does not fit on a screen is not understood as a whole. A docstring does not count."""
    too_long = {}
    for source in sources(folder):
        if within(source.path, "migrations/versions/"):
            continue
        for function in functions(source.tree):
            length = (function.end_lineno or function.lineno) - function.lineno + 1 - _docstring_lines(function)
            if length > FUNCTION_LINES_MAX:
                too_long[f"{source.path}:{function.lineno} {function.name}"] = length
    assert too_long == {}


def _docstring_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return (first.end_lineno or first.lineno) - first.lineno + 1
    return 0


@pytest.mark.parametrize("folder", EVERYTHING)
def test_nothing_is_called_by_a_word_that_says_nothing(folder: str) -> None:
    """Whatever fits nowhere else ends in `utils`, and nobody finds it there again."""
    wrong = [
        source.path for source in sources(folder) if FORBIDDEN_NAMES & set(Path(source.path).with_suffix("").parts)
    ]
    wrong += [
        f"{source.path}:{node.lineno} {node.name}"
        for source in sources(folder)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and FORBIDDEN_NAMES & set(_words(node.name))
    ]
    assert wrong == []


def _words(name: str) -> list[str]:
    spaced = "".join(f"_{one.lower()}" if one.isupper() else one for one in name)
    return spaced.strip("_").split("_")


VENDORS = ("halo", "gravityzone", "gocardless", "zendesk", "freshservice", "connectwise", "autotask")
NO_VENDOR = (
    "app/connectors/ports.py",
    "app/connectors/canonical.py",
    "app/sync/",
    "app/inbox/",
    "app/outbox/",
    "app/core/",
)
TABLES_BY_KIND = {"app/inbox/dispatch.py": "which room takes in the events of which kind"}


def test_rooms_speak_no_vendors_language() -> None:
    """A vendor's word in a room means that the next vendor needs a change there. Texts and comments may explain."""
    wrong = []
    for source in sources("app"):
        if not within(source.path, *NO_VENDOR) or source.path in TABLES_BY_KIND:
            continue
        for node in ast.walk(source.tree):
            name = (
                node.id
                if isinstance(node, ast.Name)
                else node.attr
                if isinstance(node, ast.Attribute)
                else node.name
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                else node.arg
                if isinstance(node, ast.arg)
                else node.module or ""
                if isinstance(node, ast.ImportFrom)
                else node.value
                # A word alone is a key or a value that code compares with; a sentence is for people.
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value
                else ""
            )
            if any(vendor in name.lower() for vendor in VENDORS):
                wrong.append(f"{source.path}:{getattr(node, 'lineno', 0)} {name}")
    assert wrong == []


def test_every_room_has_tests_of_its_name() -> None:
    """Tests that stand elsewhere are not found by whoever changes the room."""
    rooms = [path.name for path in (ROOT / "app").iterdir() if path.is_dir() and (path / "__init__.py").exists()]
    without = [room for room in rooms if not list((ROOT / "tests" / room).rglob("test_*.py"))]
    assert without == []


def _is_silent(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return not node.name.startswith("_") and ast.get_docstring(node) is None


@pytest.mark.parametrize("folder", ["app", "tools"])
def test_public_things_say_what_they_are(folder: str) -> None:
    """Without shapes, units and failures in words each caller reads the code again."""
    silent = []
    for source in sources(folder):
        if source.text.strip() and ast.get_docstring(source.tree) is None:
            silent.append(source.path)
        silent += [
            f"{source.path}:{node.lineno} {node.name}"
            for node in source.tree.body
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _is_silent(node)
        ]
    assert silent == []


def _subclasses(kind: type[KindT]) -> list[type[KindT]]:
    found: list[type[KindT]] = []
    for child in kind.__subclasses__():
        found += [child, *_subclasses(child)]
    return found


def test_answers_carry_every_field() -> None:
    """A default in an answer hides a field that somebody forgot to fill."""
    with_default = [
        f"{kind.__name__}.{name}"
        for kind in _subclasses(Out)
        if kind.__module__.startswith("app.")
        for name, field in kind.model_fields.items()
        if not field.is_required()
    ]
    assert with_default == []


def test_requests_refuse_what_they_do_not_know() -> None:
    """A misspelt field that is ignored looks like success and is none."""
    lenient = [
        kind.__name__
        for kind in _subclasses(In)
        if issubclass(kind, BaseModel) and kind.model_config.get("extra") != "forbid"
    ]
    assert _subclasses(In)
    assert lenient == []


def _failures() -> list[type[AppError]]:
    return [kind for kind in contract.kinds().values() if kind.__module__.startswith("app.")]


def test_every_failure_is_explained() -> None:
    """Its docstring is the page behind the `type` of the problem."""
    silent = [kind.__qualname__ for kind in _failures() if not (kind.__doc__ or "").strip()]
    inherited = [
        kind.__qualname__ for kind in _failures() if kind is not AppError and kind.__doc__ == kind.__mro__[1].__doc__
    ]
    assert silent == inherited == []


def test_every_failure_is_promised_by_a_route_or_shown_by_a_test() -> None:
    """A failure that no route lists and no test meets is a surprise for the caller, or dead."""
    document = openapi_document()
    tests = "\n".join(source.text for source in sources("tests"))
    made = {name.rsplit(".", 1)[-1] for source in sources("app") for name, _ in calls(source.tree)}
    unknown = [
        f"{kind.__qualname__} ({kind.code})"
        for kind in _failures()
        if not (kind.__subclasses__() and kind.__name__ not in made)  # a base that is never raised itself
        and f'"{kind.code}"' not in document
        and f"/problems/{kind.code}" not in document
        and kind.__name__ not in tests
        and f'"{kind.code}"' not in tests
    ]
    assert unknown == []


def test_the_rules_see_what_they_forbid() -> None:
    """A rule that finds nothing because it looks at nothing would always pass."""
    tree = ast.parse("def long():\n" + "    x = 1\n" * 70)
    [function] = functions(tree)
    assert (function.end_lineno or 0) - function.lineno > FUNCTION_LINES_MAX
    assert FORBIDDEN_NAMES & set(_words("ConnectionManager"))
    assert inspect.getmodule(AppError) is not None
