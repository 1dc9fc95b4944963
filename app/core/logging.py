"""Logs: one wide event per unit of work, ids always, payloads never.

A redaction step looks at every event on its way out, because the one forgotten `extra=` is the one that
leaks. It is the second line: code does not log secrets or ticket text in the first place.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

import orjson
import structlog

from app.core.config import Settings

correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)

REDACTED = "[redacted]"

# Keys whose value is never shown. `key_prefix` (eight characters of an API key) and `idempotency_key` are not
# secret.
_SECRET_KEY = re.compile(
    r"(?:^|[_-])(?:authorization|cookie|credentials?|password|passwd|passphrase|secrets?|token|api[_-]?key|private[_-]?key"
    r"|signature|sealed)(?:$|[_-])",
    re.IGNORECASE,
)
# Keys that would carry what people wrote. Ticket text has no business in a log.
_TEXT_KEY = re.compile(r"^(?:body|raw|payload|note|note_html|comment_text|description|summary|html)$", re.IGNORECASE)
_SECRET_VALUE = re.compile(
    r"phk_[0-9A-Za-z]{8}_[0-9A-Za-z]+"  # our API keys
    r"|whsec_[0-9A-Za-z+/=_-]+"  # webhook secrets
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"  # user:password in an address
    r"|(?i:\b(?:bearer|basic)\s+[0-9a-z._~+/=-]{8,})"
)
_MAX_DEPTH = 6


def redact(value: Any, *, depth: int = 0) -> Any:
    """``value`` with everything that looks like a secret replaced; containers are copied, not changed."""
    if isinstance(value, str):
        return _SECRET_VALUE.sub(REDACTED, value)
    if depth >= _MAX_DEPTH:
        return REDACTED
    if isinstance(value, dict):
        return {key: _redact_item(str(key), item, depth) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redact(item, depth=depth + 1) for item in value]
    return value


def _redact_item(key: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if _SECRET_KEY.search(key) or _TEXT_KEY.match(key):
        return REDACTED
    return redact(value, depth=depth + 1)


def _redaction(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        event[key] = _redact_item(key, value, 0)
    return event


def _correlation(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    found = correlation_id.get()
    if found is not None:
        event.setdefault("correlation_id", found)
    return event


def _dumps(value: Any, **_ignored: Any) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure(settings: Settings) -> None:
    """Set up structlog and the standard library's logging (uvicorn, arq, SQLAlchemy) with one output format
    on standard error. May be called again; the last call holds."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _correlation,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any
    if settings.log_format == "json":
        renderer = structlog.processors.JSONRenderer(serializer=_dumps)
        last: list[Any] = [structlog.processors.format_exc_info, _redaction, renderer]
    else:
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        last = [structlog.processors.format_exc_info, _redaction, renderer]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "arq"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # Our own access line replaces uvicorn's, which prints query values.
    logging.getLogger("uvicorn.access").disabled = True
    # httpx prints whole addresses at INFO, and an address may carry a partner's token.
    # arq prints two lines for every doorbell, some sixty a second under load.
    for name in ("httpx", "httpcore", "arq"):
        logging.getLogger(name).setLevel(logging.WARNING)


def get_logger(name: str) -> Any:
    """A logger of events: ``log.info("noun.happened", key=value)``."""
    return structlog.stdlib.get_logger(name)
