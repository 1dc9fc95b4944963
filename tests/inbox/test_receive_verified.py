"""Who is believed, who is refused, and that a refusal tells nothing."""

import base64
import hmac
import json
from types import SimpleNamespace
from typing import Any

import pytest

from app.core import clock
from app.core.http import signing
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
