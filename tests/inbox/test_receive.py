"""The hot path over a real socket: what is stored, what is answered, and when."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import text

from app.core import ids
from app.inbox.models import InboxMessage
from tests.inbox.conftest import Hooks, MakeSender
from tests.support.application import body

EVENT = {"id": "delivery-1", "type": "ticket updated", "object_id": 42}
RAW = json.dumps(EVENT).encode()


class TestMalformed:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"not json",
            b'{"id": 1',
            b"[]",
            b"[1, 2]",
            b'[{"id": "a"}, 7]',
            b'"text"',
            b"null",
            b"\xff\xfe{}",
            b'{"id": "\xed\xa0\x80"}',
            b'{"id": NaN}',
            b'{"id": "a"} trailing',
            b'{"a": ' + b"[" * 3000 + b"]" * 3000 + b"}",
            b'[{"a": ' + b"[" * 1010 + b"]" * 1010 + b"}]",
            b'[{"a": ' + b"[" * 980 + b"]" * 980 + b"}, 7]",
        ],
    )
    async def test_is_told_and_not_stored(self, hooks: Hooks, open_sender: str, content: bytes) -> None:
        answer = await hooks.deliver(open_sender, content)

        assert body(answer, 400)["code"] == "malformed_body"
        assert await hooks.stored() == []

    @pytest.mark.parametrize("depth", [500, 900, 985, 1000, 1015])
    async def test_a_deeply_nested_batch_is_stored_or_refused_by_name(
        self, hooks: Hooks, open_sender: str, depth: int
    ) -> None:
        content = b'[{"id": "deep", "a": ' + b"[" * depth + b"]" * depth + b"}]"

        answer = await hooks.deliver(open_sender, content)

        assert answer.status_code in (202, 400), answer.text
        assert len(await hooks.stored()) == (1 if answer.status_code == 202 else 0)


class TestTooLarge:
    async def test_told_by_its_length_before_a_byte_is_read(self, hooks: Hooks, open_sender: str) -> None:
        address = urlsplit(hooks.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            head = f"POST /hooks/{open_sender} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
            writer.write(head.encode())
            await writer.drain()
            status = await asyncio.wait_for(reader.readline(), 10)
        finally:
            writer.close()
            await writer.wait_closed()

        assert b" 413 " in status
        assert await hooks.stored() == []

    async def test_found_while_reading(self, hooks: Hooks, open_sender: str) -> None:
        limit = 5 * 1024 * 1024

        async def chunks() -> AsyncIterator[bytes]:
            yield b'{"id": "'
            for _ in range(limit // 65536 + 1):
                yield b"x" * 65536
            yield b'"}'

        answer = await hooks.client.post(f"/hooks/{open_sender}", content=chunks())

        assert body(answer, 413)["code"] == "body_too_large"
        assert str(limit) in answer.json()["detail"]
        assert await hooks.stored() == []

    async def test_exactly_at_the_cap_is_fine(self, hooks: Hooks, open_sender: str) -> None:
        limit = 5 * 1024 * 1024
        content = b'{"id":"' + b"x" * (limit - 9) + b'"}'
        assert len(content) == limit

        body(await hooks.deliver(open_sender, content), 202)

    async def test_a_sender_that_goes_away_stores_nothing(self, hooks: Hooks, open_sender: str) -> None:
        """What came until then is a whole JSON object, but not the whole delivery."""
        address = urlsplit(hooks.url)
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        head = f"POST /hooks/{open_sender} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n"
        writer.write(head.encode() + RAW)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

        # Another delivery, on a connection of its own, comes after it: by then the first has been handled.
        for number in range(20):
            body(await hooks.deliver(open_sender, {"id": f"later {number}"}), 202)

        assert "delivery-1" not in {row.external_id for row in await hooks.stored()}


class TestBatches:
    async def test_each_event_is_a_row_with_its_own_bytes(self, hooks: Hooks, open_sender: str) -> None:
        pieces = [
            b'{"id":"a","n":1.0}',
            b'{ "id" : "b" , "text" : "}],[{ \\" \\u00e9" }',
            '{"id":"c","inner":[{"id":"x"}],"ü":"é"}'.encode(),
        ]

        answer = await hooks.deliver(open_sender, b" [\n" + b" ,\r\n ".join(pieces) + b"\t] ")

        assert body(answer, 202) == {"accepted": 3, "duplicates": 0}
        assert {row.external_id: row.body for row in await hooks.stored()} == dict(zip("abc", pieces, strict=True))

    async def test_an_event_without_an_id_is_known_by_its_bytes(self, hooks: Hooks, open_sender: str) -> None:
        content = b'{"type":"x"}'

        first = await hooks.deliver(open_sender, content)
        again = await hooks.deliver(open_sender, content)
        other = await hooks.deliver(open_sender, b'{"type":"y"}')

        assert [body(one, 202)["accepted"] for one in (first, again, other)] == [1, 0, 1]
        rows = await hooks.stored()
        assert {row.external_id for row in rows} == {
            hashlib.sha256(one).hexdigest() for one in (content, b'{"type":"y"}')
        }


class TestDuplicates:
    async def test_a_repeat_is_counted_and_keeps_the_first(self, hooks: Hooks, open_sender: str) -> None:
        await hooks.deliver(open_sender, {"id": "a", "n": 1})
        again = await hooks.deliver(open_sender, {"id": "a", "n": 2})

        assert body(again, 202) == {"accepted": 0, "duplicates": 1}
        [row] = await hooks.stored()
        assert row.duplicates == 1
        assert json.loads(row.body)["n"] == 1

    async def test_within_one_batch(self, hooks: Hooks, open_sender: str) -> None:
        answer = await hooks.deliver(open_sender, [{"id": "a"}, {"id": "b"}, {"id": "a"}, {"id": "a"}])

        assert body(answer, 202) == {"accepted": 2, "duplicates": 2}
        assert {row.external_id: row.duplicates for row in await hooks.stored()} == {"a": 2, "b": 0}

    async def test_at_the_same_moment(self, hooks: Hooks, open_sender: str) -> None:
        answers = await asyncio.gather(
            *(hooks.deliver(open_sender, [{"id": "same"}, {"id": f"own {n}"}]) for n in range(40))
        )

        assert sum(body(one, 202)["accepted"] for one in answers) == 41
        rows = {row.external_id: row.duplicates for row in await hooks.stored()}
        assert len(rows) == 41
        assert rows["same"] == 39

    async def test_through_two_processes_in_opposite_order(self, hooks: Hooks, settings: Any, open_sender: str) -> None:
        """Two inserts of the same rows in opposite orders deadlock unless rows go in sorted."""
        from app.core.db.session import SilentDoorbell
        from app.main import create_app
        from app.sandbox.serving import serving

        events = [{"id": f"e{number}"} for number in range(50)]
        second = create_app(settings, doorbell=SilentDoorbell())
        async with serving(second) as url, httpx.AsyncClient(base_url=url, timeout=20) as there:
            answers = await asyncio.gather(
                *(
                    client.post(f"/hooks/{open_sender}", json=batch)
                    for _ in range(10)
                    for client, batch in ((hooks.client, events), (there, events[::-1]))
                )
            )

        assert sum(body(one, 202)["accepted"] for one in answers) == 50
        assert sum(row.duplicates for row in await hooks.stored()) == 50 * 19

    async def test_the_same_id_from_two_connections_is_two_events(self, hooks: Hooks, make_sender: MakeSender) -> None:
        one, two = await make_sender(), await make_sender()

        assert body(await hooks.deliver(one, {"id": "a"}), 202)["accepted"] == 1
        assert body(await hooks.deliver(two, {"id": "a"}), 202)["accepted"] == 1

    async def test_long_ids_that_begin_alike_are_different(self, hooks: Hooks, open_sender: str) -> None:
        answer = await hooks.deliver(open_sender, [{"id": "x" * 250 + "1"}, {"id": "x" * 250 + "2"}])

        assert body(answer, 202) == {"accepted": 2, "duplicates": 0}


class TestPoison:
    async def test_an_id_that_cannot_be_stored_as_text_is_stored_all_the_same(
        self, hooks: Hooks, open_sender: str
    ) -> None:
        answer = await hooks.deliver(open_sender, b'{"id": "a\\u0000b"}')

        assert body(answer, 202) == {"accepted": 1, "duplicates": 0}

    async def test_one_bad_delivery_does_not_fail_those_that_share_its_commit(
        self, hooks: Hooks, open_sender: str
    ) -> None:
        answers = await asyncio.gather(
            *(
                hooks.deliver(open_sender, b'{"id": "bad\\u0000%d"}' % n if n % 2 else {"id": f"good {n}"})
                for n in range(30)
            )
        )

        assert [one.status_code for one in answers[::2]] == [202] * 15
        assert len([row for row in await hooks.stored() if row.external_id.startswith("good")]) == 15


FAILING_COMMIT = """
CREATE FUNCTION refuse_commit() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = '53100'; END $$;
"""
DEFERRED = """
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON inbox_message
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.external_id LIKE 'doomed%') EXECUTE FUNCTION refuse_commit();
"""


class TestCommit:
    @pytest.fixture
    async def failing_commit(self, hooks: Hooks) -> AsyncIterator[None]:
        """PostgreSQL takes every statement and refuses the COMMIT itself."""
        async with hooks.database.engine.begin() as connection:
            for statement in (FAILING_COMMIT, DEFERRED):
                await connection.execute(text(statement))
        try:
            yield
        finally:
            async with hooks.database.engine.begin() as connection:
                await connection.execute(text("DROP FUNCTION refuse_commit() CASCADE"))

    @pytest.mark.usefixtures("failing_commit")
    async def test_a_commit_that_fails_is_never_acknowledged(self, hooks: Hooks, open_sender: str) -> None:
        answer = await hooks.deliver(open_sender, {"id": "doomed"})

        assert body(answer, 503)["code"] == "unavailable"
        assert answer.headers["retry-after"] == "5"
        assert await hooks.stored() == []
        body(await hooks.deliver(open_sender, {"id": "fine"}), 202)

    @pytest.mark.usefixtures("failing_commit")
    async def test_nobody_who_shared_it_is_acknowledged_either(self, hooks: Hooks, open_sender: str) -> None:
        answers = await asyncio.gather(
            *(hooks.deliver(open_sender, {"id": f"{'doomed' if n == 7 else 'fine'} {n}"}) for n in range(20))
        )

        acknowledged = {f"fine {n}" for n, one in enumerate(answers) if one.status_code == 202}
        assert {one.status_code for one in answers} <= {202, 503}
        assert answers[7].status_code == 503
        assert {row.external_id for row in await hooks.stored()} == acknowledged

    async def test_many_at_once_share_few_transactions(self, hooks: Hooks, open_sender: str) -> None:
        async with httpx.AsyncClient(base_url=hooks.url, limits=httpx.Limits(max_connections=50), timeout=20) as client:
            answers = await asyncio.gather(
                *(client.post(f"/hooks/{open_sender}", json={"id": f"e{n}"}) for n in range(400))
            )

        assert {one.status_code for one in answers} == {202}
        async with hooks.database.transaction() as session:
            connection = await session.connection()
            used = await connection.scalar(text("SELECT count(DISTINCT xmin::text) FROM inbox_message"))
        assert len(await hooks.stored()) == 400
        assert used is not None
        assert used <= 200, "rows of one transaction carry one xmin"

    async def test_a_request_alone_does_not_wait_for_company(self, hooks: Hooks, open_sender: str) -> None:
        body(await hooks.deliver(open_sender, EVENT), 202)

        assert len(await hooks.stored()) == 1


class TestIds:
    async def test_rows_sort_by_arrival(self, hooks: Hooks, open_sender: str) -> None:
        for number in range(5):
            await hooks.deliver(open_sender, {"id": f"e{number}"})

        rows: list[InboxMessage] = await hooks.stored()
        assert [row.external_id for row in rows] == [f"e{number}" for number in range(5)]
        assert ids.public("inm", rows[0].id).startswith("inm_")
