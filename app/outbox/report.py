"""What a send tells afterwards: a row for each try, and lines for people."""

from collections.abc import Sequence

from app.connectors.canonical import Refused, Written
from app.core import telemetry
from app.core.logging import get_logger
from app.outbox.batch import Outcome
from app.outbox.models import OutboundAttempt

log = get_logger(__name__)


def attempt_of(outcome: Outcome) -> OutboundAttempt:
    """The row that tells what one try brought."""
    result = outcome.result
    if isinstance(result, Written):
        name, error, detail = ("adopted" if outcome.adopted else "written"), None, None
    elif isinstance(result, Refused):
        name, error, detail = "refused", result.error.value, result.detail
    else:
        name, error, detail = (
            ("unknown" if result.perhaps_done else "deferred"),
            result.error.value,
            result.detail,
        )
    return OutboundAttempt(
        tenant_id=outcome.command.tenant_id,
        command_id=outcome.command.id,
        outcome=name,
        error_class=error,
        error_detail=detail[:2000] if detail else None,
        duration_ms=outcome.milliseconds,
    )


def tell(outcomes: Sequence[Outcome]) -> None:
    """One wide line for each kind of result; a line of its own only for what was not simply written, because at a
    hundred changes a second a line for each would cost more than the change."""
    written: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        attempt = attempt_of(outcome)
        telemetry.OUTBOX_ATTEMPTS.labels(outcome.command.kind, attempt.outcome).inc()
        if attempt.outcome == "written":
            written.setdefault(outcome.command.kind, []).append(outcome)
            continue
        log.warning(
            "outbox.attempted",
            command=str(outcome.command.id),
            kind=outcome.command.kind,
            connection=str(outcome.command.connection_id),
            link=str(outcome.command.subject_id),
            outcome=attempt.outcome,
            error=attempt.error_class,
            attempt=outcome.command.attempts,
            ms=outcome.milliseconds,
        )
    for kind, done in written.items():
        connection = str(done[0].command.connection_id)
        log.info("outbox.written", kind=kind, commands=len(done), connection=connection, ms=done[0].milliseconds)
