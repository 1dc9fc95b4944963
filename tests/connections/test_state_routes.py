"""Pause, resume, archive over HTTP."""

import pytest

from tests.support.application import Api, activate, body, create_connection, problem

pytestmark = pytest.mark.usefixtures("testdesk")


class TestStates:
    async def test_pause_and_resume(self, api: Api) -> None:
        made = await create_connection(api)
        etag = await activate(api, made)

        paused = await api.post(f"{made.path}/pause", json={"reason": "upgrade"}, headers={"If-Match": etag})
        assert (body(paused, 200)["state"], body(paused, 200)["paused_reason"]) == ("paused", "upgrade")
        resumed = await api.post(f"{made.path}/resume", headers={"If-Match": paused.headers["etag"]})

        assert (body(resumed, 200)["state"], body(resumed, 200)["paused_reason"]) == ("active", None)

    async def test_a_draft_cannot_be_paused(self, api: Api) -> None:
        made = await create_connection(api)

        answer = await api.post(f"{made.path}/pause", json={"reason": "x"}, headers={"If-Match": made.etag})

        assert problem(answer, 409, "connection_state")["state"] == "draft"

    async def test_what_is_not_paused_cannot_be_resumed(self, api: Api) -> None:
        made = await create_connection(api)

        problem(await api.post(f"{made.path}/resume", headers={"If-Match": made.etag}), 409, "connection_state")

    async def test_archived_is_the_end(self, api: Api) -> None:
        made = await create_connection(api)
        answer = await api.post(f"{made.path}/archive", headers={"If-Match": made.etag})
        assert (body(answer, 200)["state"], body(answer, 200)["credentials_set"]) == ("archived", False)

        match = {"If-Match": "*"}
        problem(await api.patch(made.path, json={"name": "x"}, headers=match), 409, "connection_state")
        problem(await api.post(f"{made.path}/archive", headers=match), 409, "connection_state")
        problem(await api.post(f"{made.path}/test"), 409, "connection_paused")
        problem(
            await api.post(f"{made.path}/rotate-secret", json={"purpose": "webhook"}, headers=match),
            409,
            "connection_state",
        )
