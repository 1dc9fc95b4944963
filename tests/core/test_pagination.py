"""Pages of a list."""

import base64
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.models import ApiKey
from app.auth.repository import SORTS, ApiKeyRepository
from app.core import clock
from app.core.db.session import Database
from app.core.errors import Invalid
from app.core.pagination import PageRequest, decode_cursor, encode_cursor, paging
from tests.support.application import create_tenant

moments = st.datetimes(timezones=st.just(UTC))


@given(value=st.text() | moments, row_id=st.uuids(), sort=st.sampled_from(["name", "-created_at"]))
def test_a_cursor_gives_back_what_went_in(value: str | datetime, row_id: UUID, sort: str) -> None:
    try:
        cursor = encode_cursor(sort, value, row_id)
    except TypeError:
        return  # a lone surrogate, which Postgres could not have stored either

    assert decode_cursor(cursor, sort, type(value)) == (value, row_id)


@given(text=st.text(max_size=80))
def test_any_other_text_is_refused_in_one_way(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        decode_cursor(text, "name", str)

    assert caught.value.pointers[0].pointer == "?cursor"


@given(position=st.integers(0, 60), bit=st.integers(0, 7))
def test_a_changed_cursor_is_noticed(position: int, bit: int) -> None:
    cursor = encode_cursor("name", "alpha", UUID(int=5))
    blob = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    blob[position % len(blob)] ^= 1 << bit

    with pytest.raises(Invalid):
        decode_cursor(base64.urlsafe_b64encode(bytes(blob)).decode().rstrip("="), "name", str)


def test_a_cursor_of_another_order_is_refused() -> None:
    with pytest.raises(Invalid):
        decode_cursor(encode_cursor("name", "alpha", uuid4()), "-name", str)


def test_the_default_order_has_to_be_allowed() -> None:
    with pytest.raises(ValueError, match="not among"):
        paging("name", default="created_at")


class TestWalk:
    @pytest.mark.parametrize("sort", [sign + name for name in SORTS for sign in ("", "-")])
    @pytest.mark.parametrize("limit", [1, 3, 10, 200])
    async def test_every_row_comes_once_in_order(self, database: Database, sort: str, limit: int) -> None:
        tenant_id, _ = await create_tenant(database)
        await create_tenant(database)
        same_moment = clock.now()
        async with database.transaction() as session:
            for number in range(10):  # ties in both columns: only the id tells them apart
                session.add(
                    ApiKey(
                        tenant_id=tenant_id,
                        name=f"name {number // 4}",
                        prefix="x",
                        secret_hash=str(number) * 8,
                        scopes=[],
                        created_at=same_moment - timedelta(seconds=number % 3),
                    )
                )

        async with database.transaction() as session:
            keys = ApiKeyRepository(session, tenant_id)
            expected = (await keys.page(PageRequest(limit=200, sort=sort), state=None, at=same_moment)).rows
            seen, cursor = [], None
            while True:
                page = await keys.page(PageRequest(limit, cursor, sort), state=None, at=same_moment)
                seen += page.rows
                cursor = page.next_cursor
                if cursor is None:
                    break

        assert [row.id for row in seen] == [row.id for row in expected]
        assert len(seen) == 11
        values = [(getattr(row, sort.removeprefix("-")), row.id) for row in seen]
        assert values == sorted(values, reverse=sort.startswith("-"))

    async def test_a_row_that_comes_meanwhile_hides_no_other(self, database: Database) -> None:
        tenant_id, _ = await create_tenant(database)

        async def add(name: str) -> None:
            async with database.transaction() as session:
                row = ApiKey(tenant_id=tenant_id, name=name, prefix="x", secret_hash=name, scopes=[])
                await ApiKeyRepository(session, tenant_id).add(row)

        for name in ("b", "d", "e"):
            await add(name)
        async with database.transaction() as session:
            keys = ApiKeyRepository(session, tenant_id)
            first = await keys.page(PageRequest(2, None, "name"), state=None, at=clock.now())
        await add("a")
        await add("c")
        async with database.transaction() as session:
            keys = ApiKeyRepository(session, tenant_id)
            second = await keys.page(PageRequest(10, first.next_cursor, "name"), state=None, at=clock.now())

        assert [row.name for row in first.rows + second.rows] == ["b", "d", "e", "first key"]
