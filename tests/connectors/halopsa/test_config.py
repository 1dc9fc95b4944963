"""What people paste becomes one address, or a sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.connectors.halopsa import HaloConfig, HaloCredentials, HaloSideOptions
from app.connectors.halopsa.config import normal_base


@pytest.mark.parametrize(
    ("pasted", "base"),
    [
        ("https://acme.halopsa.com", "https://acme.halopsa.com"),
        ("https://acme.halopsa.com/", "https://acme.halopsa.com"),
        ("https://acme.halopsa.com/api", "https://acme.halopsa.com"),
        ("https://acme.halopsa.com/api/", "https://acme.halopsa.com"),
        ("https://acme.halopsa.com/auth", "https://acme.halopsa.com"),
        ("https://acme.halopsa.com/auth/token?tenant=acme", "https://acme.halopsa.com"),
        ("https://acme.halopsa.com/tickets?id=44&area=1", "https://acme.halopsa.com"),
        ("https://acme.halopsa.com/api/swagger/index.html", "https://acme.halopsa.com"),
        ("acme.halopsa.com", "https://acme.halopsa.com"),
        ("  ACME.HaloPSA.com/API  ", "https://acme.halopsa.com"),
        ("https://acme.halopsa.com:443/", "https://acme.halopsa.com"),
        ("https://desk.example:8443/halo/api", "https://desk.example:8443/halo"),
        ("http://127.0.0.1:9000/acme/", "http://127.0.0.1:9000/acme"),
        ("127.0.0.1:9000/acme", "http://127.0.0.1:9000/acme"),
        ("localhost:9000", "http://localhost:9000"),
        ("https://[::1]:9000/acme/api", "https://[::1]:9000/acme"),
        ("<https://acme.halopsa.com>", "https://acme.halopsa.com"),
    ],
)
def test_pasted_addresses(pasted: str, base: str) -> None:
    config = HaloConfig(base_url=pasted)
    assert config.base_url == base
    assert config.api_url == f"{base}/api"
    assert config.token_url == f"{base}/auth/token"
    assert normal_base(config.base_url) == base


@pytest.mark.parametrize(
    ("pasted", "says"),
    [
        ("", "no host"),
        ("https://", "no host"),
        ("ftp://acme.halopsa.com", "https"),
        ("https://user:pass@acme.halopsa.com", "user name or password"),
        ("https://acme.halopsa.com:99999", "not a web address"),
        ("https://[::1", "not a web address"),
        ("acme halopsa com", "no host"),
    ],
)
def test_addresses_that_cannot_be_used(pasted: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        HaloConfig(base_url=pasted)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_sentence(text: str) -> None:
    try:
        found = normal_base(text)
    except ValueError:
        return
    assert found.startswith(("http://", "https://"))
    assert not found.endswith("/")


@pytest.mark.parametrize(
    ("given_config", "tenant"),
    [
        ({"base_url": "acme.halopsa.com"}, "acme"),
        ({"base_url": "acme.haloservicedesk.com"}, "acme"),
        ({"base_url": "desk.acme.example"}, None),
        ({"base_url": "desk.acme.example", "tenant": " acme "}, "acme"),
        ({"base_url": "acme.halopsa.com", "tenant": "other"}, "other"),
        ({"base_url": "acme.halopsa.com", "tenant": ""}, "acme"),
    ],
)
def test_the_tenant_is_known_where_it_can_be(given_config: dict[str, str], tenant: str | None) -> None:
    assert HaloConfig.model_validate(given_config).token_tenant == tenant


def test_an_own_authorisation_server() -> None:
    config = HaloConfig(base_url="desk.acme.example", auth_url="https://login.acme.example/auth/token")
    assert config.token_url == "https://login.acme.example/auth/token"


def test_a_secret_is_not_shown() -> None:
    credentials = HaloCredentials.model_validate({"client_id": " id ", "client_secret": " s3cr3t\n"})
    assert credentials.client_id == "id"
    assert credentials.client_secret.get_secret_value() == "s3cr3t"
    assert "s3cr3t" not in f"{credentials!r} {credentials} {credentials.model_dump_json()}"


def test_every_setting_says_what_it_is() -> None:
    for model in (HaloConfig, HaloCredentials, HaloSideOptions):
        assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_defaults_of_created_tickets_use_halopsa_s_names() -> None:
    options = HaloSideOptions(
        customer=2,
        site=3,
        end_user=4,
        team="A",
        agent=1,
        ticket_type=5,
        category="C",
        impact=1,
        urgency=2,
        priority=3,
        source=0,
    )
    assert options.created_ticket_defaults() == {
        "client_id": 2,
        "site_id": 3,
        "user_id": 4,
        "team": "A",
        "agent_id": 1,
        "tickettype_id": 5,
        "category_1": "C",
        "impact": 1,
        "urgency": 2,
        "priority_id": 3,
        "source": 0,
    }
    assert HaloSideOptions().created_ticket_defaults() == {}
