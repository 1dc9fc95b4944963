"""Logs: redaction, both formats, correlation."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from app.core import logging as app_logging
from app.core.logging import REDACTED, correlation_id, redact
from tests.support.database import make_settings


@pytest.fixture(params=["json", "console"])
def stream(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    settings = make_settings("postgresql://nobody@127.0.0.1:1/none", log_format=request.param)
    configured = structlog.get_config()
    before = logging.getLogger().handlers[:], logging.getLogger().level
    app_logging.configure(settings)
    found = io.StringIO()
    [handler] = logging.getLogger().handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(found)
    yield found
    logging.getLogger().handlers[:], level = before
    logging.getLogger().setLevel(level)
    structlog.configure(**configured)


@pytest.mark.parametrize(
    "key",
    [
        "authorization",
        "Authorization",
        "client_secret",
        "password",
        "token",
        "access_token",
        "api_key",
        "apikey",
        "credentials",
        "x-signature",
        "set-cookie",
        "secret_keys",
        "private_key",
        "body",
        "raw",
        "note_html",
        "summary",
    ],
)
def test_keys_that_look_like_secrets_or_text(key: str) -> None:
    assert redact({"outer": [{key: "canary"}]}) == {"outer": [{key: REDACTED}]}


@pytest.mark.parametrize(
    "key", ["key_prefix", "idempotency_key", "tokens_left_ratio", "secretary", "connection", "error"]
)
def test_keys_that_only_sound_like_it(key: str) -> None:
    assert redact({key: "shown"}) == {key: "shown"}


@pytest.mark.parametrize(
    "text",
    [
        "sent Authorization: Bearer canary0123456789",
        "key phk_a8Kd02mQ_canaryABCDEFGHIJKLMNOPQRSTUVWXYZ0123",
        "secret whsec_canaryQUJDREVGR0g=",
        "postgresql+asyncpg://parhelion:canary@db:5432/parhelion",
        "basic canaryOnBhc3N3b3Jk",
    ],
)
def test_secrets_inside_a_sentence(text: str) -> None:
    assert "canary" not in redact(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_nothing_makes_redaction_raise(value: object) -> None:
    redact(value)


def test_an_event_is_one_line_with_its_correlation_and_without_secrets(stream: io.StringIO) -> None:
    token = correlation_id.set("trace-77")
    try:
        app_logging.get_logger("app.test").info("thing.happened", client_secret="canary", count=3)
    finally:
        correlation_id.reset(token)

    line = stream.getvalue()
    assert line.count("\n") == 1
    assert "thing.happened" in line
    assert "trace-77" in line
    assert "canary" not in line


def test_the_standard_librarys_loggers_come_out_the_same_way(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").warning("listening with %s", "Bearer canary0123456789")
    logging.getLogger("uvicorn.access").info("GET /v1/things?token=canary")
    logging.getLogger("httpx").info("HTTP Request: GET https://x.test/?token=canary")

    assert "canary" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


def test_a_traceback_shows_no_values_of_variables(stream: io.StringIO) -> None:
    def inner(hidden: str) -> None:
        raise ValueError("went wrong")

    value = "canary-" + str(len(stream.getvalue())) + "-local"
    try:
        inner(value)
    except ValueError:
        app_logging.get_logger("app.test").exception("thing.failed")

    assert "went wrong" in stream.getvalue()
    assert value not in stream.getvalue()


def test_json_lines_are_json(stream: io.StringIO) -> None:
    app_logging.get_logger("app.test").info("thing.happened", count=3)
    line = stream.getvalue()
    if line.startswith("{"):
        found = json.loads(line)
        assert found["event"] == "thing.happened"
        assert found["count"] == 3
        assert found["level"] == "info"
        assert found["timestamp"].endswith("Z")
    else:
        assert "count" in line
