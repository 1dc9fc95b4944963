"""The table of connector kinds: what each needs to be configured, and how one is opened.

Adding a vendor is one folder beside this file and one line in :data:`KINDS`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from app.connectors.canonical import HookEvent
from app.connectors.ports import Connector
from app.core.http.budget import BudgetStore
from app.core.http.signing import Verifier


def parse_generic_hook(body: bytes) -> Sequence[HookEvent]:
    """The events of a body whose sender has no connector: each JSON object is one, named by its ``type``.

    Raises ``ValueError`` when the body is neither a JSON object nor an array of objects.
    """
    return tuple(
        HookEvent(
            external_id=str(item.get("id") or hashlib.sha256(raw).hexdigest()),
            name=str(item.get("type") or "event"),
            raw=raw,
        )
        for item, raw in split_batch(body)
    )


def split_batch(body: bytes) -> Sequence[tuple[dict[str, Any], bytes]]:
    """The objects of a webhook body, each with its own bytes: one for an object, several for a batch
    array.

    A single object (the usual case, on the hot path) is parsed once by orjson. Raises ``ValueError`` for
    anything else, and for an empty array: a delivery that says nothing is a fault of the sender's
    set-up."""
    parsed = orjson.loads(body)
    if isinstance(parsed, dict):
        return ((parsed, body),)
    if not isinstance(parsed, list) or not parsed or not all(isinstance(item, dict) for item in parsed):
        raise ValueError("the body must be a JSON object or a non-empty array of objects")
    text, decoder, position = body.decode(), json.JSONDecoder(), 0
    slices: list[tuple[dict[str, Any], bytes]] = []
    position = text.index("[") + 1
    for item in parsed:
        position = text.index("{", position)
        try:
            _, end = decoder.raw_decode(text, position)
        except RecursionError:
            raise ValueError("the body is nested too deeply") from None
        slices.append((item, text[position:end].encode()))
        position = end
    return slices


class SideOptions(BaseModel):
    """Settings of one side of a relationship. Each kind extends this with its own words; all are
    optional here and checked against the live desk by the preflight of the relationship."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    resolution: str | None = Field(
        default=None, description="How this desk resolves a ticket: an outcome's id or a resolution code."
    )
    comment_outcome: str | None = Field(
        default=None,
        description="How this desk files a public comment: an outcome's id; its default when absent.",
    )

    def created_ticket_defaults(self) -> Mapping[str, Any]:
        """Values put on every ticket created at this side, in the desk's own words."""
        return {}


@dataclass(frozen=True, slots=True)
class OpenContext:
    """What a connector gets besides its own settings. ``budget_key`` names the budget it shares with
    other processes; ``allow_private`` lets it reach loopback and private addresses (development only).
    ``on_call`` is told each call for the metrics: method, path template, status (0: no answer),
    seconds."""

    budget_key: str
    budgets: BudgetStore
    allow_private: bool = False
    on_call: Callable[[str, str, int, float], None] | None = None


@dataclass(frozen=True, slots=True)
class ConnectorKind:
    """One kind of outside system."""

    name: str
    title: str
    config: type[BaseModel]
    credentials: type[BaseModel]
    side_options: type[SideOptions]
    open: Callable[[BaseModel, BaseModel, OpenContext], Connector]
    parse_hook: Callable[[bytes], Sequence[HookEvent]] = parse_generic_hook
    # What receiving needs of a delivery, (its id, its bytes) for each event; parse_hook tells the same and more, at
    # twice the price.
    split_hook: Callable[[bytes], Sequence[tuple[str, bytes]]] | None = None
    verifier: Verifier | None = None  # how this kind signs its webhooks unless the connection says otherwise


# Resolved on first use, so that importing the table does not import every vendor.
KINDS: Mapping[str, str] = {"halopsa": "app.connectors.halopsa"}


@lru_cache(maxsize=64)
def kind(name: str) -> ConnectorKind:
    """The kind called ``name``. Raises ``KeyError`` for an unknown one; :data:`KINDS` lists the known."""
    found = import_module(KINDS[name]).KIND
    assert isinstance(found, ConnectorKind)
    return found
