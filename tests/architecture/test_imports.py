"""Imports go down only: entrypoints, rooms, connectors, core."""

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from tests.architecture.sources import ROOT, imported, sources

ROOMS = sorted(
    path.name
    for path in (ROOT / "app").iterdir()
    if path.is_dir()
    and (path / "__init__.py").exists()
    and path.name not in ("core", "connectors", "embedded", "sandbox", "worker")
)
# What one room may know of another: decision 3. ``errors`` are part of what a service raises.
PUBLIC = {"service", "schemas", "canonical", "errors"}
KNOWN_DEEP_IMPORTS = {
    # A queue's room owns its SQL; the rooms that fill or watch it call these functions inside their own transaction.
    ("sync", "outbox.commands"),  # writes as values, which a room makes and is handed back
    ("sync", "outbox.repository"),
    ("sync", "outbox.send"),  # the Protocol of who is told about refused credentials
    ("sync", "inbox.dispatch"),  # the shape of what a room is handed
}
# Every room's routes ask who is calling.
FOR_EVERY_ROOM = {"auth.dependencies"}


def test_import_linter_contracts_hold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A room that imports an entrypoint, or core that imports a room, cannot be understood or replaced alone."""
    monkeypatch.chdir(ROOT)

    status = lint_imports(no_cache=True)

    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_rooms_meet_through_what_they_offer() -> None:
    """A room that reads another's tables or helpers breaks when that room is changed inside."""
    offenders, needed = [], set()
    for source in sources("app"):
        room = source.path.split("/")[1]
        if room not in ROOMS:
            continue
        for module, name, line in imported(source.tree):
            parts = module.split(".")
            if parts[0] != "app" or len(parts) < 2 or parts[1] not in ROOMS or parts[1] == room:
                continue
            inside = parts[2] if len(parts) > 2 else name
            place = f"{parts[1]}.{inside}"
            if inside in PUBLIC or place in FOR_EVERY_ROOM:
                continue
            needed.add((room, place))
            if (room, place) not in KNOWN_DEEP_IMPORTS:
                offenders.append(f"{source.path}:{line} imports {place}")
    assert offenders == []
    assert needed == KNOWN_DEEP_IMPORTS, "an exception that nobody needs would let the next one in unseen"


def test_connectors_know_no_table_and_no_room() -> None:
    """A connector that reads our tables cannot be tested against its vendor alone."""
    offenders = [
        f"{source.path}:{line} imports {module}"
        for source in sources("app/connectors")
        for module, _, line in imported(source.tree)
        if module.split(".")[0] in ("sqlalchemy", "sqlmodel", "asyncpg") or module.startswith("app.core.db")
    ]
    assert offenders == []
