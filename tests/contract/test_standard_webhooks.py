"""Our signatures against the reference library of Standard Webhooks: each side believes the other."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.core import clock
from app.core.http.signing import StandardVerifier, sign_standard, verify

SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()
BODY = b'{"type":"ticket.updated","data":{"id":42}}'


def headers(signature: str, *, message_id: str = "msg_1", at: datetime | None = None) -> dict[str, str]:
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int((at or clock.now()).timestamp())),
        "webhook-signature": signature,
    }


def believed(sent: dict[str, str], content: bytes = BODY, secret: str = SECRET) -> bool:
    return bool(verify(StandardVerifier(), [secret], sent, content, clock.now()))


def test_the_vector_of_the_specification() -> None:
    """Secret, id, time and body as the library's own documentation uses them; the signature is a fixed value."""
    at = datetime.fromtimestamp(1614265330, UTC)
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    content = b'{"test": 2432232314}'

    signature = sign_standard(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, content)

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature == Webhook(secret).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, content.decode())


@settings(max_examples=50)
@given(
    st.binary(min_size=1, max_size=64),
    st.text(alphabet="abcXYZ_-0189", min_size=1, max_size=40),
    st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3),
)
def test_both_sign_alike(key: bytes, message_id: str, content: dict[str, str]) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    text = json.dumps(content, ensure_ascii=False)
    at = datetime.fromtimestamp(1_700_000_000, UTC)

    assert sign_standard(secret, message_id, at, text.encode()) == Webhook(secret).sign(message_id, at, text)


def test_the_library_believes_us() -> None:
    signature = sign_standard(SECRET, "msg_1", clock.now(), BODY)

    assert Webhook(SECRET).verify(BODY, headers(signature)) == json.loads(BODY)


def test_we_believe_the_library() -> None:
    signature = Webhook(SECRET).sign("msg_1", clock.now(), BODY.decode())

    assert believed(headers(signature))
    assert believed(headers(f"v1a,abc v1,{'A' * 43}= {signature}")), "several signatures, one of them right"


@pytest.mark.parametrize(
    ("sent", "content"),
    [
        (headers("v1,AAAA"), BODY),
        (headers(sign_standard(SECRET, "msg_1", clock.now(), BODY)), BODY + b" "),
        (headers(sign_standard(SECRET, "msg_2", clock.now(), BODY)), BODY),
        (headers(sign_standard(SECRET, "msg_1", clock.now(), BODY).replace("v1,", "v2,")), BODY),
    ],
    ids=["garbage", "another body", "another id", "another version"],
)
def test_both_refuse_alike(sent: dict[str, str], content: bytes) -> None:
    assert not believed(sent, content)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(content, sent)


@pytest.mark.parametrize("minutes", [-6, 6])
def test_both_refuse_what_is_old_or_from_the_future(minutes: int) -> None:
    at = clock.now() + timedelta(minutes=minutes)
    sent = headers(sign_standard(SECRET, "msg_1", at, BODY), at=at)

    assert not believed(sent)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY, sent)
