"""The operator's verbs as an operator meets them: their own processes, real servers, a sentence for each mistake."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from app.core.config import environment, generate_key
from tests.support.database import address, administer

ROOT = Path(__file__).resolve().parent.parent
NOWHERE = {
    "PARHELION_DATABASE_URL": "postgresql://nobody:x@127.0.0.1:1/none",
    "PARHELION_REDIS_URL": "redis://127.0.0.1:1",
    "PARHELION_SECRET_KEYS": generate_key(),
}


def parhelion(*verb: str, settings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in environment().items() if not name.startswith("PARHELION_")}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *verb],
        cwd=ROOT,
        env={**plain, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
async def empty_database_url(template_url: str) -> AsyncIterator[str]:
    await administer(template_url, "CREATE DATABASE empty_for_cli")
    try:
        yield address(template_url, "empty_for_cli")
    finally:
        await administer(template_url, "DROP DATABASE empty_for_cli WITH (FORCE)")


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What people read, as one line; never a traceback."""
    text = " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize("verb", [("migrate",), ("init", "--name", "Acme"), ("worker",), ("rotate-keys",)])
def test_a_database_that_is_not_there_is_a_sentence(verb: tuple[str, ...]) -> None:
    done = parhelion(*verb, settings=NOWHERE)

    assert done.returncode == 1
    assert "Check PARHELION_DATABASE_URL" in said(done)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"PARHELION_SECRET_KEYS": ""}, "PARHELION_SECRET_KEYS: at least one key is needed"),
        ({"PARHELION_LEASE_SECONDS": "30"}, "PARHELION_LEASE_SECONDS must be more than 5 s above"),
        ({"PARHELION_DATABASE_URL": "mysql://x"}, "must be a postgresql:// address"),
        ({"PARHELION_SWEEP_SECOND": "1"}, "did you mean PARHELION_SWEEP_SECONDS?"),
    ],
)
def test_settings_that_make_no_sense_stop_the_start(changes: dict[str, str], words: str) -> None:
    done = parhelion("serve", settings=NOWHERE | changes)

    assert done.returncode == 1
    assert words in said(done)


def test_variables_that_kubernetes_makes_are_no_typos() -> None:
    done = parhelion("worker", settings=NOWHERE | {"PARHELION_SERVICE_HOST": "10.0.0.1", "PARHELION_PORT": "tcp://x"})

    assert "is not a setting" not in said(done)


@pytest.mark.parametrize("verb", [("serve",), ("worker",), ("init", "--name", "Acme")])
def test_an_empty_database_has_to_be_migrated_first(empty_database_url: str, verb: tuple[str, ...]) -> None:
    done = parhelion(*verb, settings=NOWHERE | {"PARHELION_DATABASE_URL": empty_database_url})

    assert done.returncode == 1
    assert "Run: parhelion migrate" in said(done)


def test_the_first_tenant_and_its_key(empty_database_url: str) -> None:
    settings = NOWHERE | {"PARHELION_DATABASE_URL": empty_database_url}
    assert parhelion("migrate", "--json", settings=settings).stdout == '{"ok": true}\n'

    done = parhelion("init", "--name", "Brackets [/b] & Sons", "--json", settings=settings)

    made = json.loads(done.stdout)
    assert made["tenant_id"].startswith("ten_")
    assert made["api_key"].startswith("phk_")
    assert "Brackets [/b] & Sons" in done.stderr, "people's words are not on stdout"
    assert parhelion("rotate-keys", "--json", settings=settings).stdout == '{"resealed": 0}\n'


def test_without_settings_it_says_where_to_get_them(tmp_path: Path) -> None:
    done = parhelion("init", "--name", "Acme", "--data", str(tmp_path), settings={})

    assert done.returncode == 1
    assert "make run" in said(done)


def test_a_port_that_is_taken_is_a_sentence() -> None:
    done = parhelion("sandbox", "halopsa", "--port", "99999", settings={})

    assert done.returncode == 1
    assert "Choose another --port" in said(done)
