"""Calls to one HaloPSA: token, budget, one retry after a 401, and every answer read or turned into a named
failure.

Bodies are arrays, lists are paged (HaloPSA wire contract, 2.1 to 2.3). Reads are tried again after a broken
connection; a write never is, because HaloPSA knows no idempotency key: its fate goes to the caller instead.
"""

import asyncio
import copy
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from app.connectors.canonical import ErrorClass, Lane
from app.connectors.halopsa import refusals, wire
from app.connectors.halopsa.auth import TokenSource
from app.connectors.halopsa.config import HaloConfig
from app.connectors.halopsa.refusals import CallFailed
from app.core import clock
from app.core.http.budget import Budget, BudgetExhausted
from app.core.http.client import AsyncClient, Response
from app.core.http.outcome import Kind, of_exception, of_status

OnCall = Callable[[str, str, int, float], None]
Params = Mapping[str, str | int | bool]

_READ_TRIES = 3
_READ_PAUSE_SECONDS = 0.2
# A list of this many pages is a filter that the server ignored, not a day's work.
_MOST_PAGES = 2_000
# The budget's window is five minutes: after two of them something else is wrong.
_BUDGET_PATIENCE_SECONDS = 600.0
_BUDGET_PAUSE_SECONDS = 5.0


@dataclass(slots=True)
class Learnt:
    """What this process found out about one HaloPSA while talking to it."""

    clock_ahead_seconds: float | None = None
    public_outcome: str | None = None
    private_outcome: str | None = None
    hidden_markers_kept: bool | None = None
    original_dates_refused: bool = False
    actions_counted_unfiltered: bool = False


@dataclass(slots=True)
class HaloClient:
    """One HaloPSA through one API application. Copies made by :meth:`in_lane` share everything but the
    lane."""

    config: HaloConfig
    http: AsyncClient
    tokens: TokenSource
    budget: Budget
    lane: Lane = Lane.INTERACTIVE
    on_call: OnCall | None = None
    learnt: Learnt = field(default_factory=Learnt)

    def in_lane(self, lane: Lane) -> "HaloClient":
        """The same client, its calls counted against the lane's share."""
        other = copy.copy(self)
        other.lane = lane
        return other

    async def get(self, path: str, params: Params | None = None, *, template: str | None = None) -> Any:
        """The parsed answer of a GET; ``None`` for an empty one. Raises :class:`CallFailed`."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._call("GET", path, params or {}, None, template or path)
            except CallFailed as failure:
                # A time-out is not repeated here: three of 20 s would outlive the job that asked.
                broken = failure.error is ErrorClass.UNAVAILABLE and not failure.retry_after_seconds
                if not broken or attempt >= _READ_TRIES:
                    raise
            await asyncio.sleep(_READ_PAUSE_SECONDS * attempt * (0.5 + random.random()))

    async def post(self, path: str, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Save ``items`` with one call; the saved objects as HaloPSA gave them back (perhaps fewer
        than sent).

        Raises :class:`CallFailed`, whose ``perhaps_done`` says whether to look before doing it
        again."""
        params: Params = {"returnall": True} if len(items) > 1 else {}
        payload = await self._call("POST", path, params, orjson.dumps(list(items)), path)
        found = wire.saved(payload)
        if not found or (len(found) == 1 and _is_failure(found[0])):
            # A 2xx that carries an error text was reported from live systems; what it did is not known.
            said = refusals.explain(orjson.dumps(payload))
            if said:
                raise CallFailed(
                    ErrorClass.VALIDATION,
                    f"HaloPSA accepted POST {path} but answered: {said}",
                    next_step="Look at the record in HaloPSA, then replay this.",
                    perhaps_done=True,
                    said=said,
                )
        return found

    async def delete(self, path: str, params: Params | None = None, *, template: str) -> None:
        """Delete one record; one that is gone already counts as deleted. Raises :class:`CallFailed`."""
        try:
            await self._call("DELETE", path, params or {}, None, template)
        except CallFailed as failure:
            if failure.error is not ErrorClass.NOT_FOUND:
                raise

    async def pages(
        self, path: str, key: str, params: Params, *, descending: bool = False, patient: bool = False
    ) -> AsyncIterator[tuple[list[dict[str, Any]], int | None]]:
        """Pages of a list with the total the server states, ordered by id.

        A ``patient`` walk that has begun waits for budget where it stands, and gives an empty page each time
        so that its caller can renew a lease: begun anew each time, a walk of more pages than the budget has
        calls never ended.

        The end is where the stated total has been collected, or a page brings nothing new: the
        server may reduce the page size silently, so a short page means nothing (contract, 2.2)."""
        collected = 0
        last: list[Any] = []
        for page_no in range(1, _MOST_PAGES + 1):
            paged: Params = {
                **params,
                "pageinate": True,
                "page_size": self.config.page_size,
                "page_no": page_no,
                "order": "id",
                "orderdesc": descending,
            }
            waited = 0.0
            while True:
                try:
                    payload = await self.get(path, paged)
                    break
                except CallFailed as failure:
                    may_wait = patient and page_no > 1 and waited < _BUDGET_PATIENCE_SECONDS
                    if failure.error is not ErrorClass.RATE or not may_wait:
                        raise
                waited += _BUDGET_PAUSE_SECONDS
                yield [], None
                await asyncio.sleep(_BUDGET_PAUSE_SECONDS)
            found = self.rows(payload, path, key)
            ids = [row.get("id") for row in found]
            if not found or ids == last:
                return
            last = ids
            collected += len(found)
            total = wire.record_count(payload)
            yield found, total
            if total is not None and collected >= total:
                return
            if total is None and isinstance(payload, list) and len(found) != self.config.page_size:
                return  # a bare array was not paged at all

    def rows(self, payload: Any, path: str, *keys: str) -> list[dict[str, Any]]:
        """The rows of a list answer. Raises :class:`CallFailed` when it is something else: not an
        empty list."""
        try:
            return wire.rows(payload, *keys)
        except wire.NotAnObject as error:
            said = refusals.explain(orjson.dumps(payload))
            raise CallFailed(
                ErrorClass.MISCONFIGURED,
                f"HaloPSA answered GET {path} with something that is not a list: {said or 'no text'}",
                next_step="Check that the address leads to HaloPSA's API and what the agent may see.",
            ) from error

    async def _call(self, method: str, path: str, params: Params, body: bytes | None, template: str) -> Any:
        token = await self.tokens.token()
        response = await self._send(method, path, params, body, token, template)
        if response.status_code == 401:
            # Expired or revoked meanwhile: a 401 did nothing, so this is safe for writes too.
            self.tokens.reject(token)
            token = await self.tokens.token()
            response = await self._send(method, path, params, body, token, template)
        return await self._read(response, method, path)

    async def _send(
        self, method: str, path: str, params: Params, body: bytes | None, token: str, template: str
    ) -> Response:
        try:
            await self.budget.acquire(urgent=self.lane is Lane.INTERACTIVE)
        except BudgetExhausted as spent:
            raise CallFailed(
                ErrorClass.RATE,
                f"The budget of calls to this HaloPSA is spent for {spent.retry_after_seconds:.0f} s.",
                next_step="Nothing to do: the work goes on by itself.",
                retry_after_seconds=spent.retry_after_seconds,
            ) from spent
        headers = {
            "authorization": f"Bearer {token}",
            "accept": "application/json",
            "halo-app-name": "Parhelion",
        }
        if body is not None:
            headers["content-type"] = "application/json"
        query = {name: _query(value) for name, value in params.items()}
        started = time.perf_counter()
        status = 0
        try:
            response = await self.http.request(
                method, self.config.api_url + path, params=query, content=body, headers=headers
            )
            status = response.status_code
        except Exception as error:
            outcome = of_exception(error, writes=method != "GET")
            if outcome is None:
                raise
            raise refusals.lost(outcome, method, path, error) from error
        finally:
            if self.on_call is not None:
                self.on_call(method, template, status, time.perf_counter() - started)
        self._note_clock(response)
        return response

    async def _read(self, response: Response, method: str, path: str) -> Any:
        outcome = of_status(
            response.status_code,
            writes=method != "GET",
            retry_after=response.headers.get("retry-after"),
            now=clock.now(),
        )
        if outcome.kind is Kind.OK:
            return _parsed(response, method, path)
        bearer = response.request.headers.get("authorization", "").removeprefix("Bearer ")
        content = refusals.without(response.content.decode("utf-8", "replace"), bearer).encode()
        failure = refusals.refused(outcome, method, path, content)
        if outcome.kind is Kind.RATE_LIMITED:
            failure.retry_after_seconds = await self.budget.note_rate_limited(outcome.retry_after_seconds)
        raise failure

    def _note_clock(self, response: Response) -> None:
        stated = response.headers.get("date")
        if not stated:
            return
        try:
            theirs: datetime = parsedate_to_datetime(stated)
        except (ValueError, TypeError):
            return
        if theirs.tzinfo is not None:
            # The header has whole seconds: half a second is the best guess of what was cut off.
            self.learnt.clock_ahead_seconds = (theirs - clock.now()).total_seconds() + 0.5


def _parsed(response: Response, method: str, path: str) -> Any:
    if not response.content.strip():
        return None
    content_type = response.headers.get("content-type", "")
    try:
        return orjson.loads(response.content)
    except ValueError as error:
        raise refusals.not_json(response.status_code, method, path, content_type.partition(";")[0]) from error


def _is_failure(row: wire.Row) -> bool:
    """Whether a "saved object" is an error in disguise: it names no id."""
    return wire.first(row, "id", "ticket_id", "guid") is None


def _query(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
