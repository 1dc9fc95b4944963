"""HaloPSA's answers to "no", read for people: which class of failure, what it said, and what to do next.

There is no single error format: eleven shapes are known (HaloPSA wire contract, errors), and a missing right
is usually a 403 with nothing in it, so the text is built from what we know about the call."""

import re
from typing import Any
from urllib.parse import quote, quote_plus

import orjson

from app.connectors.canonical import DeskError, ErrorClass
from app.connectors.halopsa import wire
from app.core.http.outcome import Kind, Outcome

_LONGEST_DETAIL = 500
_TEXT_MEMBERS = ("error_description", "errorMessage", "Message", "message", "detail", "title", "error")
_MARKUP = re.compile(rb"^\s*<(?:!doctype|html|\?xml)", re.IGNORECASE)

# Which scope a call needs, by the first word of its path (contract, 1.4).
_SCOPES = {
    "tickets": "tickets",
    "actions": "tickets",
    "attachment": "tickets",
    "externallink": "tickets",
    "client": "customers",
    "site": "customers",
    "users": "customers",
    "asset": "assets",
    "item": "items",
    "invoice": "invoices",
    "recurringinvoice": "invoices",
}
_WEBHOOK_PATHS = frozenset({"webhook", "notification", "webhookevent"})

_WORKFLOW = re.compile(
    r"do not have access to this action|workflow|not allowed at|cannot be closed directly|not available at",
    re.IGNORECASE,
)
_REQUIRED = re.compile(r"required|mandatory|must be entered|must enter|please select|CODE:APP03", re.IGNORECASE)
# "Outcome 12 was not found" is a wrong setting, not a ticket that has gone.
_MISSING = re.compile(r"record (?:was )?not found|no longer exists", re.IGNORECASE)
_DATE = re.compile(r"\bdate(?:time)?\b", re.IGNORECASE)


class CallFailed(DeskError):
    """A call to HaloPSA that brought nothing usable.

    ``perhaps_done`` is true when a write may have happened all the same; ``status`` is HaloPSA's own, if
    it answered."""

    def __init__(
        self,
        error: ErrorClass,
        detail: str,
        *,
        next_step: str = "",
        retry_after_seconds: float | None = None,
        status: int | None = None,
        perhaps_done: bool = False,
        said: str = "",
    ) -> None:
        super().__init__(error, detail, next_step=next_step, retry_after_seconds=retry_after_seconds)
        self.status = status
        self.perhaps_done = perhaps_done
        self.said = said

    @property
    def is_content(self) -> bool:
        """Whether HaloPSA refused what was in the request, so that a part of it might be accepted."""
        if self.perhaps_done or self.status is None or self.error not in _ABOUT_CONTENT:
            return False
        # A 403 without a word is a missing scope, the same for every part; with words it is about one record.
        return self.status != 403 or bool(self.said)

    @property
    def is_about_dates(self) -> bool:
        """Whether the refusal speaks of a date: some systems take no original date on an action."""
        return self.is_content and bool(_DATE.search(self.said))


_ABOUT_CONTENT = frozenset(
    {
        ErrorClass.VALIDATION,
        ErrorClass.REQUIRED_FIELD,
        ErrorClass.WORKFLOW_BLOCKED,
        ErrorClass.NOT_FOUND,
        ErrorClass.TOO_LARGE,
        ErrorClass.PERMISSION,
    }
)


def refused(outcome: Outcome, method: str, path: str, body: bytes) -> CallFailed:
    """The failure behind an answer that is not a success."""
    status = outcome.status or 0
    said = explain(body)
    error, next_step = _classify(status, outcome.kind, said, method, path)
    if error is ErrorClass.PERMISSION and not said:
        detail = f"HaloPSA answered 403 without a word to {method} {path}: a right is missing."
    else:
        detail = f"HaloPSA answered {status} to {method} {path}: {said or outcome.reason}"
    return CallFailed(
        error,
        detail,
        next_step=next_step,
        retry_after_seconds=outcome.retry_after_seconds,
        status=status,
        perhaps_done=outcome.perhaps_done,
        said=said,
    )


def not_json(status: int, method: str, path: str, content_type: str) -> CallFailed:
    """A success that is not the API's: the web application answers every unknown address with its start
    page."""
    return CallFailed(
        ErrorClass.MISCONFIGURED,
        f"The address answered {method} {path} with {content_type or 'no content type'} instead of JSON.",
        next_step="Use the address of the HaloPSA itself, as shown under Configuration > Integrations > "
        "Halo API, and make sure that no log-in page or proxy answers in its place.",
        status=status,
        perhaps_done=method != "GET",
    )


def lost(outcome: Outcome, method: str, path: str, error: Exception) -> CallFailed:
    """A call that ended without an answer."""
    kind = ErrorClass.TIMEOUT if outcome.perhaps_done or "time" in outcome.reason else ErrorClass.UNAVAILABLE
    return CallFailed(
        kind,
        f"{method} {path} ended without an answer from HaloPSA: {outcome.reason}.",
        next_step=unreachable_advice(error),
        perhaps_done=outcome.perhaps_done,
    )


def unreachable_advice(error: Exception) -> str:
    """What to look at when no connection comes about."""
    words = f"{error} {error.__cause__ or ''}".lower()
    if "does not call" in words:
        return "The name leads to a private address; that is allowed in development only."
    if "does not resolve" in words or "name or service" in words or "getaddrinfo" in words:
        return "Check the host name in the address; this machine cannot resolve it."
    if "wrong_version_number" in words or "wrong version number" in words or "record layer" in words:
        return "This port speaks plain http, not https; check the port in the address."
    if "certificate" in words or "ssl" in words or "tls" in words:
        return "The TLS certificate of this address is not valid for it; check the host name or the certificate."
    if "refused" in words or "all connection attempts failed" in words:
        return "Nothing listens at this address; check host and port, or whether a firewall is in between."
    return "Try again later; check the network between here and HaloPSA if it stays so."


def explain(body: bytes) -> str:
    """The sentence in an error's body, whichever of the known shapes it has; empty when there is none."""
    if not body.strip() or _MARKUP.match(body):
        return ""
    try:
        payload = orjson.loads(body)
    except ValueError:
        return _trim(body[: 4 * _LONGEST_DETAIL].decode("utf-8", "replace"))
    return _trim(_sentence(payload, depth=0))


def _sentence(payload: Any, *, depth: int) -> str:
    if isinstance(payload, str):
        return payload
    if depth > 4:  # a body that nests deeper is not an error message
        return ""
    if isinstance(payload, list):
        return "; ".join(filter(None, (_sentence(item, depth=depth + 1) for item in payload[:5])))
    if not isinstance(payload, dict):
        return ""
    for member in _TEXT_MEMBERS:
        found = _sentence(payload.get(member), depth=depth + 1)
        if found:
            extra = _sentence(payload.get("errors"), depth=depth + 1) if member == "title" else ""
            return f"{found}: {extra}" if extra else found
    # ASP.NET model state: the member's name leads to a list of sentences.
    named = (
        f"{name}: {' '.join(map(wire.text, found))}"
        for name, found in payload.items()
        if isinstance(found, list) and found
    )
    return "; ".join(named)


def _classify(status: int, kind: Kind, said: str, method: str, path: str) -> tuple[ErrorClass, str]:
    if kind is Kind.AUTH_BROKEN:
        return (
            ErrorClass.AUTH,
            "Check client id and secret of the API application; a new secret may have been made.",
        )
    if kind is Kind.RATE_LIMITED:
        return ErrorClass.RATE, "Nothing to do: calls go on by themselves when HaloPSA allows them again."
    if kind in (Kind.UNKNOWN, Kind.RETRY):
        return ErrorClass.UNAVAILABLE, "Nothing to do unless it stays so; HaloPSA has trouble of its own."
    if 300 <= status < 400:
        return ErrorClass.MISCONFIGURED, "The address redirects. Use the address it leads to, with https."
    if status == 403:
        if _WORKFLOW.search(said):
            return ErrorClass.WORKFLOW_BLOCKED, _WORKFLOW_ADVICE
        return ErrorClass.PERMISSION, permission_advice(method, path)
    return _classify_content(status, said)


def _classify_content(status: int, said: str) -> tuple[ErrorClass, str]:
    if status == 413:
        return ErrorClass.TOO_LARGE, "Make the text or the file smaller."
    if "outcome must be entered" in said.lower():
        return (
            ErrorClass.REQUIRED_FIELD,
            "Choose an outcome in this side's settings: HaloPSA takes no action without one.",
        )
    if _WORKFLOW.search(said):
        return ErrorClass.WORKFLOW_BLOCKED, _WORKFLOW_ADVICE
    if _MISSING.search(said) or (status == 404 and not said):
        return (
            ErrorClass.NOT_FOUND,
            "It was deleted in HaloPSA, or the API's agent may not see it: check its teams and clients.",
        )
    if _REQUIRED.search(said):
        return (
            ErrorClass.REQUIRED_FIELD,
            "Set the named fields in the defaults for created tickets, or make them optional in HaloPSA.",
        )
    return (
        ErrorClass.VALIDATION,
        "Correct what HaloPSA names (there, or in the relationship's settings), then replay this.",
    )


_WORKFLOW_ADVICE = (
    "The ticket's workflow does not allow this now: choose an outcome that the step allows, or move the "
    "ticket on in HaloPSA, then replay this."
)


def missing_scope(method: str, path: str) -> str:
    """The scope that a call needs."""
    head = path.strip("/").partition("/")[0].lower()
    if head in _WEBHOOK_PATHS:
        return "admin:webhooks"
    return f"{'read' if method == 'GET' else 'edit'}:{_SCOPES.get(head, 'tickets')}"


def permission_advice(method: str, path: str) -> str:
    """Where in HaloPSA the right is given."""
    return (
        f"Tick {missing_scope(method, path)} on the Permissions tab of the API application (Configuration > "
        "Integrations > Halo API > View applications), and give the agent it logs in as the same right, "
        "all teams and all clients."
    )


def without(text: str, secret: str) -> str:
    """``text`` with ``secret`` blacked out, also in the forms it takes in an address or a form body: a debugging
    proxy that answers with what it was sent must not put our secret in front of people."""
    for form in {secret, quote(secret, safe=""), quote_plus(secret)} - {""}:
        text = text.replace(form, "[removed]")
    return text


def _trim(text: str) -> str:
    line = " ".join(text.replace("\x00", "").split())
    return line if len(line) <= _LONGEST_DETAIL else line[: _LONGEST_DETAIL - 1] + "…"
