"""The hot path over a real socket: who is believed, what is stored, what is answered."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import hmac
import httpx
import pytest
from sqlalchemy import text

from app.core import clock, ids
from app.core.http import signing
from app.inbox.models import InboxMessage
from tests.inbox.conftest import SECRET, Hooks, MakeSender, uuid_of
from tests.support.application import body

EVENT = {"id": "delivery-1", "type": "ticket updated", "object_id": 42}
NOBODY = "con_" + "0" * 31 + "1"


def digest(content: bytes, secret: str = SECRET) -> bytes:
    return hmac.digest(secret.encode(), content, "sha256")


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


RAW = json.dumps(EVENT).encode()
STANDARD_SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


def standard(content: bytes, secret: str = STANDARD_SECRET, **changes: str) -> dict[str, str]:
    now = clock.now()
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signing.sign_standard(secret, "msg_1", now, content),
    }
    return {**headers, **changes}


HMAC = {"kind": "hmac_sha256", "header": "X-Signature"}
ACCEPTED: list[tuple[str, dict[str, Any], str, dict[str, str]]] = [
    ("none", {"kind": "none"}, SECRET, {}),
    ("basic", {"kind": "basic", "username": "halo"}, SECRET, basic("halo", SECRET)),
    ("bearer", {"kind": "bearer"}, SECRET, {"authorization": f"Bearer {SECRET}"}),
    ("bearer elsewhere", {"kind": "bearer", "header": "X-Token"}, SECRET, {"x-token": SECRET}),
    ("hmac hex", HMAC, SECRET, {"x-signature": digest(RAW).hex()}),
    ("hmac base64", HMAC, SECRET, {"x-signature": base64.b64encode(digest(RAW)).decode()}),
    (
        "halo's prefix and blank",
        {**HMAC, "prefix": "sha256=", "encoding": "base64"},
        SECRET,
        {"x-signature": "sha256= " + base64.b64encode(digest(RAW)).decode()},
    ),
    (
        "prefix without a blank",
        {**HMAC, "prefix": "sha256=", "encoding": "hex"},
        SECRET,
        {"x-signature": "sha256=" + digest(RAW).hex().upper()},
    ),
    ("standard webhooks", {"kind": "standard_webhooks"}, STANDARD_SECRET, standard(RAW)),
]
REFUSED: list[tuple[str, dict[str, Any], str, dict[str, str]]] = [
    ("basic, wrong password", {"kind": "basic", "username": "halo"}, SECRET, basic("halo", "wrong")),
    ("basic, wrong user", {"kind": "basic", "username": "halo"}, SECRET, basic("hal", SECRET)),
    ("basic, none", {"kind": "basic", "username": "halo"}, SECRET, {}),
    ("bearer, wrong", {"kind": "bearer"}, SECRET, {"authorization": "Bearer wrong"}),
    ("bearer, bare", {"kind": "bearer"}, SECRET, {"authorization": SECRET}),
    ("hmac, none", HMAC, SECRET, {}),
    ("hmac, of another body", HMAC, SECRET, {"x-signature": digest(RAW + b" ").hex()}),
    ("hmac, of another secret", HMAC, SECRET, {"x-signature": digest(RAW, "other").hex()}),
    ("hmac, without the prefix", {**HMAC, "prefix": "sha256="}, SECRET, {"x-signature": digest(RAW).hex()}),
    (
        "hmac, in the other encoding",
        {**HMAC, "encoding": "base64"},
        SECRET,
        {"x-signature": digest(RAW).hex()},
    ),
    ("hmac, not ASCII", HMAC, SECRET, {"x-signature": "é"}),
    ("standard, none", {"kind": "standard_webhooks"}, STANDARD_SECRET, {}),
    (
        "standard, old",
        {"kind": "standard_webhooks"},
        STANDARD_SECRET,
        standard(RAW, **{"webhook-timestamp": "1700000000"}),
    ),
    (
        "standard, another id",
        {"kind": "standard_webhooks"},
        STANDARD_SECRET,
        standard(RAW, **{"webhook-id": "msg_2"}),
    ),
]


class TestVerified:
    @pytest.mark.parametrize(
        ("verifier", "secret", "headers"), [one[1:] for one in ACCEPTED], ids=[one[0] for one in ACCEPTED]
    )
    async def test_the_holder_of_the_secret_is_believed(
        self,
        hooks: Hooks,
        make_sender: MakeSender,
        verifier: dict[str, Any],
        secret: str,
        headers: dict[str, str],
    ) -> None:
        sender = await make_sender(verifier, secret)

        answer = await hooks.deliver(sender, RAW, headers)

        assert body(answer, 202) == {"accepted": 1, "duplicates": 0}
        [row] = await hooks.stored()
        assert (row.external_id, row.body, row.status) == ("delivery-1", RAW, "pending")
        assert row.tenant_id == hooks.api.tenant_id
        assert row.connection_id == uuid_of(sender)

    @pytest.mark.parametrize(
        ("verifier", "secret", "headers"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED]
    )
    async def test_anyone_else_is_refused_and_nothing_is_stored(
        self,
        hooks: Hooks,
        make_sender: MakeSender,
        verifier: dict[str, Any],
        secret: str,
        headers: dict[str, str],
    ) -> None:
        sender = await make_sender(verifier, secret)

        sent = {"content-type": "application/json", **headers}
        answer = await hooks.client.post(
            f"/hooks/{sender}",
            content=RAW,
            headers=[(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
        )

        assert body(answer, 401)["code"] == "delivery_refused"
        assert await hooks.stored() == []

    async def test_an_old_secret_counts_while_its_grace_lasts(self, hooks: Hooks, make_sender: MakeSender) -> None:
        sender = await make_sender(HMAC)
        rotated = await hooks.api.post(
            f"/v1/connections/{sender}/rotate-secret",
            json={"purpose": "webhook", "grace_seconds": 600, "webhook_secret": "the-new-secret"},
            headers={"If-Match": "*"},
        )
        body(rotated, 200)

        for number, secret in enumerate((SECRET, "the-new-secret")):
            content = json.dumps({"id": f"d{number}"}).encode()
            answer = await hooks.deliver(sender, content, {"x-signature": digest(content, secret).hex()})
            body(answer, 202)

    async def test_what_authenticates_is_not_stored(self, hooks: Hooks, make_sender: MakeSender) -> None:
        sender = await make_sender({"kind": "bearer"})

        headers = {"authorization": f"Bearer {SECRET}", "user-agent": "Halo", "x-other": "y", "cookie": "z"}
        body(await hooks.deliver(sender, EVENT, headers), 202)

        [row] = await hooks.stored()
        assert row.headers == {"content-type": "application/json", "user-agent": "Halo"}


class TestRefusal:
    async def test_an_unknown_address_and_a_wrong_signature_get_the_same_bytes(
        self, hooks: Hooks, make_sender: MakeSender
    ) -> None:
        sender = await make_sender(HMAC)
        headers = {"x-signature": digest(b"other").hex()}

        wrong = await hooks.deliver(sender, RAW, headers)
        unknown = await hooks.deliver(NOBODY, RAW, headers)
        nonsense = await hooks.deliver("con_zzz", RAW, headers)
        foreign = await hooks.deliver("key_" + "0" * 32, RAW, headers)

        assert [one.status_code for one in (wrong, unknown, nonsense, foreign)] == [401, 404, 404, 404]
        assert wrong.content == unknown.content == nonsense.content == foreign.content
        for answer in (wrong, unknown):
            assert answer.headers["content-type"] == "application/problem+json"
            assert sorted(answer.headers) == sorted(wrong.headers)

    @pytest.mark.parametrize(
        "headers",
        [{}, {"x-signature": "0" * 64}, {"x-parhelion-signature": "0" * 64}, basic("a", "b")],
        ids=["nothing", "another header", "our header", "basic"],
    )
    async def test_an_unknown_address_costs_what_a_wrong_signature_costs(
        self, hooks: Hooks, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
    ) -> None:
        """Or the time of the answer would tell which addresses exist: the whole body goes through HMAC once."""
        seen: list[int] = []

        def counting(key: bytes, content: bytes, algorithm: str) -> bytes:
            seen.append(len(content))
            return hmac.digest(key, content, algorithm)

        fake = SimpleNamespace(digest=counting, compare_digest=hmac.compare_digest)
        monkeypatch.setattr(signing, "hmac", fake)

        answer = await hooks.deliver(NOBODY, b"x" * 4000, headers)

        assert answer.status_code == 404
        assert seen == [4000]

    async def test_a_connection_that_was_archived_is_unknown(self, hooks: Hooks, open_sender: str) -> None:
        body(await hooks.api.post(f"/v1/connections/{open_sender}/archive", headers={"If-Match": "*"}), 200)

        assert (await hooks.deliver(open_sender, EVENT)).status_code == 404
        assert await hooks.stored() == []

    async def test_a_paused_connection_still_receives(self, hooks: Hooks, open_sender: str) -> None:
        path = f"/v1/connections/{open_sender}"
        body(await hooks.api.post(f"{path}/test"), 200)
        body(await hooks.api.post(f"{path}/pause", json={"reason": "x"}, headers={"If-Match": "*"}), 200)

        body(await hooks.deliver(open_sender, EVENT), 202)

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    async def test_only_posts_deliver(self, hooks: Hooks, open_sender: str, method: str) -> None:
        answer = await hooks.client.request(method, f"/hooks/{open_sender}")

        assert body(answer, 405)["code"] == "method_not_allowed"


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
