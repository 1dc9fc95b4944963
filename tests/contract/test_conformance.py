"""Generated requests against the running service: what it answers is what its contract says.

Operations that would call an outside system are left out; hooks have tests of their own. Each operation gets the same
requests in every run.
"""

import asyncio
import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode

from app.core.db.session import Database
from app.operations import openapi_document
from tests.support.application import create_tenant

EXAMPLES = 12
# These open a connection to the other side.
CALLS_OUTSIDE = ("/test", "/webhooks", "/picklists", "/identity")
SCHEMA = schemathesis.openapi.from_dict(json.loads(openapi_document()))


def inside(operation: Any) -> bool:
    """Whether nothing but our own stores answers."""
    return not operation.path.endswith(CALLS_OUTSIDE) and not operation.path.startswith("/hooks/")


load_all_checks()
CHECKED = {
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "ignored_auth",
}
# A value that the schema allows may still be refused for what it means (an id that nobody has, a name that is taken),
# and a resource that was made is not asked for again by these single requests.
OPERATIONS = [one.ok() for one in SCHEMA.get_all_operations() if isinstance(one, Ok) and inside(one.ok())]


def test_there_is_something_to_ask() -> None:
    """An empty list would pass every test."""
    assert len(OPERATIONS) > 25
    assert set(CHECKS.get_all_names()) >= CHECKED


REFUSABLE = [
    one for one in OPERATIONS if one.path.startswith("/v1/") and (one.body or one.query or one.path_parameters)
]


@pytest.mark.parametrize(
    ("operation", "mode"),
    [(one, GenerationMode.POSITIVE) for one in OPERATIONS] + [(one, GenerationMode.NEGATIVE) for one in REFUSABLE],
    ids=lambda one: one.label if hasattr(one, "label") else one.value,
)
async def test_answers_are_what_the_contract_says(
    operation: Any, mode: GenerationMode, live_url: str, database: Database
) -> None:
    """No 5xx, only documented statuses, media types and bodies, whatever is sent; nonsense is refused."""
    _, key = await create_tenant(database)
    headers = {"Authorization": f"Bearer {key}"}

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        response = case.call(base_url=live_url, headers=headers)
        if mode is GenerationMode.POSITIVE:  # nonsense may also be a header that hides the key
            assert response.status_code != 401
        case.validate_response(response, checks=CHECKS.get_by_names(sorted(CHECKED)))

    await asyncio.to_thread(ask)
