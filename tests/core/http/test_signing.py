"""Who sent this? Every kind of verifier against its own sender, an independent one, and hostile input."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from standardwebhooks import Webhook

from app.core.http.signing import (
    BasicVerifier,
    BearerVerifier,
    HmacVerifier,
    NoVerifier,
    StandardVerifier,
    decoy,
    sign_hmac,
    sign_standard,
    verifier_adapter,
    verify,
)

NOW = datetime(2026, 11, 3, 8, 0, tzinfo=UTC)
BODY = b'{"event":"ticket updated","object_id":7}'
SECRET = "s3cr3t: with a colon"
KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
ALL = [
    BasicVerifier(username="halo"),
    BearerVerifier(),
    BearerVerifier(header="X-Api-Key"),
    HmacVerifier(header="Token"),
    HmacVerifier(header="X-Sig", prefix="sha256=", encoding="base64"),
    HmacVerifier(header="X-Sig", prefix="sha256=", encoding="hex"),
    StandardVerifier(),
]


def digest(secret: str = SECRET, body: bytes = BODY) -> bytes:
    """The signature, computed without the code under test."""
    return hmac.new(secret.encode(), body, hashlib.sha256).digest()


def basic(username: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


def standard(secret: str = KEY, at: datetime = NOW, message_id: str = "msg_1", body: bytes = BODY) -> dict[str, str]:
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": sign_standard(secret, message_id, at, body),
    }


def test_no_verifier_takes_everything_even_without_a_secret() -> None:
    assert verify(NoVerifier(), [], {}, BODY, NOW)


@pytest.mark.parametrize("verifier", ALL)
def test_without_an_active_secret_nothing_is_verified(verifier: Any) -> None:
    for secrets in ([], [""], ["", ""]):
        assert not verify(verifier, secrets, {"authorization": "Bearer ", "token": ""}, BODY, NOW)
        assert not verify(verifier, secrets, basic("halo", ""), BODY, NOW)


@pytest.mark.parametrize("verifier", ALL)
def test_a_missing_header_is_refused(verifier: Any) -> None:
    result = verify(verifier, [SECRET], {}, BODY, NOW)
    assert not result
    assert "missing" in result.reason


def test_an_unknown_kind_is_refused() -> None:
    for odd in (None, {}, "none", object()):
        assert not verify(odd, [SECRET], {}, BODY, NOW)


def test_basic_takes_passwords_with_colons_and_compares_both_parts() -> None:
    verifier = BasicVerifier(username="halo")
    assert verify(verifier, ["old", SECRET], basic("halo", SECRET), BODY, NOW)
    assert verify(verifier, ["old", SECRET], basic("halo", "old"), BODY, NOW)
    assert not verify(verifier, [SECRET], basic("halo", "s3cr3t"), BODY, NOW)
    assert not verify(verifier, [SECRET], basic("other", SECRET), BODY, NOW)
    lower = {"authorization": basic("halo", SECRET)["authorization"].replace("Basic", "basic")}
    assert verify(verifier, [SECRET], lower, BODY, NOW)


@pytest.mark.parametrize("header", ["Basic", "Basic !!!", "Basic aGFsbw==", "Digest x", "Basic \xff", "Basic w4==="])
def test_broken_basic_headers_are_refused(header: str) -> None:
    assert not verify(BasicVerifier(username="halo"), [SECRET], {"authorization": header}, BODY, NOW)


def test_a_user_name_cannot_hold_a_colon() -> None:
    with pytest.raises(ValidationError, match="RFC 7617"):
        BasicVerifier(username="a:b")


def test_bearer() -> None:
    assert verify(BearerVerifier(), ["a", "b"], {"authorization": "Bearer b"}, BODY, NOW)
    assert verify(BearerVerifier(), ["b"], {"authorization": "bearer  b "}, BODY, NOW)
    assert not verify(BearerVerifier(), ["b"], {"authorization": "Bearer bb"}, BODY, NOW)
    assert not verify(BearerVerifier(), ["b"], {"authorization": "b"}, BODY, NOW)
    assert verify(BearerVerifier(header="X-Api-Key"), ["b"], {"x-api-key": "b"}, BODY, NOW)


@pytest.mark.parametrize("prefix", ["", "sha256=", "sha256= "])
@pytest.mark.parametrize("blank", ["", " ", "  "])
@pytest.mark.parametrize("case", [str, str.upper])
def test_hmac_in_each_form(prefix: str, blank: str, case: Any) -> None:
    as_base64, as_hex = base64.b64encode(digest()).decode(), case(digest().hex())
    for encoding, given_forms in (("base64", [as_base64]), ("hex", [as_hex]), ("either", [as_base64, as_hex])):
        verifier = HmacVerifier.model_validate({"header": "Token", "prefix": prefix, "encoding": encoding})
        for form in given_forms:
            headers = {"token": f" {prefix.strip()}{blank}{form} "}
            assert verify(verifier, ["old", SECRET], headers, BODY, NOW)
            assert not verify(verifier, ["old"], headers, BODY, NOW)
            assert not verify(verifier, [SECRET], headers, BODY + b" ", NOW)
    assert not verify(HmacVerifier(header="Token", encoding="hex"), [SECRET], {"token": as_base64}, BODY, NOW)
    assert not verify(HmacVerifier(header="Token", encoding="base64"), [SECRET], {"token": as_hex}, BODY, NOW)


def test_a_configured_prefix_is_demanded() -> None:
    verifier = HmacVerifier(header="Token", prefix="sha256=")
    assert "prefix" in verify(verifier, [SECRET], {"token": digest().hex()}, BODY, NOW).reason


@pytest.mark.parametrize("encoding", ["base64", "hex"])
def test_our_own_hmac_signature_is_the_independent_one(encoding: Any) -> None:
    signed = sign_hmac(SECRET, BODY, prefix="sha256=", encoding=encoding)
    expected = digest().hex() if encoding == "hex" else base64.b64encode(digest()).decode()
    assert signed == f"sha256={expected}"


@pytest.mark.parametrize("secret", [KEY, f"whsec_{KEY}"])
def test_standard_webhooks_agrees_with_the_reference_library(secret: str) -> None:
    now = datetime.now(UTC)
    headers = standard(secret, at=now)
    assert Webhook(secret).verify(BODY, headers)
    reference = Webhook(secret).sign("msg_1", now, BODY.decode())
    assert reference == headers["webhook-signature"]
    assert verify(StandardVerifier(), [secret], {**headers, "webhook-signature": reference}, BODY, now)


def test_standard_webhooks_takes_one_of_several_signatures_and_secrets() -> None:
    other = base64.b64encode(b"another key, thirty-two bytes lon").decode()
    headers = standard()
    several = {**headers, "webhook-signature": f"v1a,xx v1,AAAA {headers['webhook-signature']} junk"}
    assert verify(StandardVerifier(), [other, KEY], several, BODY, NOW)
    assert not verify(StandardVerifier(), [other], several, BODY, NOW)
    assert not verify(StandardVerifier(), [KEY], several, BODY + b" ", NOW)
    assert not verify(StandardVerifier(), [KEY], {**several, "webhook-id": "msg_2"}, BODY, NOW)
    assert not verify(StandardVerifier(), ["not base64!"], several, BODY, NOW)
    assert verify(StandardVerifier(), ["not base64!", KEY], several, BODY, NOW)


@pytest.mark.parametrize(("seconds", "accepted"), [(-301, False), (-299, True), (0, True), (299, True), (301, False)])
def test_standard_webhooks_refuses_replays(seconds: int, accepted: bool) -> None:
    headers = standard(at=NOW + timedelta(seconds=seconds))
    assert bool(verify(StandardVerifier(), [KEY], headers, BODY, NOW)) is accepted


@pytest.mark.parametrize("stamp", ["", "x", "1e9", "-5", "²", "9" * 5000, "1762156800.0", " 1"])
def test_odd_timestamps_are_refused(stamp: str) -> None:
    assert not verify(StandardVerifier(), [KEY], {**standard(), "webhook-timestamp": stamp}, BODY, NOW)


anything = st.text() | st.text(alphabet=st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF), min_size=1)


@given(
    st.sampled_from(ALL),
    st.lists(anything, max_size=3),
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ["authorization", "token", "x-sig", "x-api-key", "webhook-id", "webhook-timestamp", "webhook-signature"],
            anything | st.sampled_from(["Basic ", "sha256=", "v1,", "v1", ",", "Bearer "]),
        ),
    ),
    st.binary(max_size=50),
)
def test_nothing_a_stranger_sends_raises_or_is_accepted_by_accident(
    verifier: Any, secrets: list[str], headers: dict[str, str], body: bytes
) -> None:
    result = verify(verifier, secrets, headers, body, NOW)
    if result and not isinstance(verifier, BasicVerifier | BearerVerifier):
        pytest.fail(f"a guessed signature was accepted: {verifier}")
    if result:
        assert any(secret and secret in headers.get(verifier.header, "") for secret in secrets)


@given(st.text(min_size=1), st.binary(max_size=300), st.sampled_from(["base64", "hex"]))
def test_what_we_sign_we_verify(secret: str, body: bytes, encoding: Any) -> None:
    headers = {"x-sig": sign_hmac(secret, body, encoding=encoding)}
    verifier = HmacVerifier(header="X-Sig", encoding=encoding)
    assert verify(verifier, [secret], headers, body, NOW)
    assert not verify(verifier, [secret + "x"], headers, body, NOW)


def test_signing_with_a_secret_that_is_no_key_says_so() -> None:
    with pytest.raises(ValueError, match="whsec_"):
        sign_standard("not base64!", "msg_1", NOW, BODY)


@pytest.mark.parametrize("verifier", [NoVerifier(), *ALL])
def test_a_verifier_survives_its_json(verifier: Any) -> None:
    assert verifier_adapter.validate_json(verifier_adapter.dump_json(verifier)) == verifier


@pytest.mark.parametrize(
    "stored",
    [{}, {"kind": "sha1"}, {"kind": "hmac_sha256"}, {"kind": "hmac_sha256", "header": "a b"}, {"kind": "none", "x": 1}],
)
def test_other_configurations_are_refused(stored: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        verifier_adapter.validate_python(stored)


def test_the_decoy_computes_and_refuses() -> None:
    assert not verify(decoy(), ("decoy",), {"host": "hub.example"}, BODY, NOW)
