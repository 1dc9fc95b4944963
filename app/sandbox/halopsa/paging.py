"""Lists: cut without ``pageinate``, pages with a silent cap, the true total, and ordering (wire contract,
paging).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from app.sandbox.halopsa.calls import Call, Reply, Row

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

T = TypeVar("T")

_ORDERS = ("", "2", "3", "4", "5")


def slice_of(world: "TenantWorld", call: Call, found: Sequence[T]) -> tuple[Sequence[T], Row]:
    """The part of ``found`` that is answered, and the envelope's head (record_count is always the true
    total).

    ``count`` alone gives that many. Without ``pageinate=true`` or without ``page_no`` the list is cut to the
    agent's default list size. A page size above the cap is reduced without a word.
    """
    switches = world.switches
    total = len(found)
    page_no = call.number("page_no")
    if call.flag("pageinate") and page_no is not None:
        size = min(max(call.number("page_size") or switches.default_list_size, 1), switches.page_size_cap)
        start = (max(page_no, 1) - 1) * size
        return found[start : start + size], {"page_no": page_no, "page_size": size, "record_count": total}
    count = call.number("count")
    return found[: count if count is not None else switches.default_list_size], {"record_count": total}


def ordered(call: Call, found: list[T], value_of: Callable[[T, str], Any]) -> list[T]:
    """``found`` sorted by order, order2 … order5 (stable); as it is when no known order is asked for."""
    for suffix in reversed(_ORDERS):
        member = call.params.get(f"order{suffix}", "").strip().lower()
        if not member:
            continue
        found.sort(key=_key(value_of, member), reverse=call.flag(f"orderdesc{suffix}"))
    return found


def _key(value_of: Callable[[T, str], Any], member: str) -> Callable[[T], tuple[int, Any]]:
    return lambda item: _sortable(value_of(item, member))


def _sortable(value: Any) -> tuple[int, Any]:
    """Empty before everything, numbers before texts: a mixed column must not break the sort."""
    if value is None or value == "":
        return (0, 0)
    if isinstance(value, (bool, int, float)):
        return (1, value)
    if isinstance(value, str):
        return (2, value.casefold())
    return (3, str(value))


def enveloped(world: "TenantWorld", call: Call, key: str, found: Sequence[T], shape: Callable[[T], Row]) -> Reply:
    """A list in its envelope."""
    part, head = slice_of(world, call, found)
    return Reply(body=head | {key: [shape(item) for item in part]})


def bare_or_results(world: "TenantWorld", call: Call, found: Sequence[T], shape: Callable[[T], Row]) -> Reply:
    """A bare array, or with ``pageinate=true`` an envelope whose key is ``results``."""
    part, head = slice_of(world, call, found)
    rows = [shape(item) for item in part]
    return Reply(body=head | {"results": rows} if "page_no" in head else rows)
