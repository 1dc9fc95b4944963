"""Asking the other side over HTTP: tests, webhooks, picklists."""

import pytest
from sqlalchemy import text

from app.connectors.canonical import Check, DeskError, ErrorClass, Verdict
from app.core.db.session import Database
from tests.support.application import Api, activate, body, create_connection, problem
from tests.support.testdesk import remote

pytestmark = pytest.mark.usefixtures("testdesk")


class TestTest:
    async def test_good_checks_make_a_draft_active(self, api: Api) -> None:
        made = await create_connection(api)

        found = body(await api.post(f"{made.path}/test"), 200)

        assert (found["overall"], found["state"]) == ("ok", "active")
        assert [check["name"] for check in found["checks"]] == ["address", "token"]
        assert found["identity"] == {"name": "Parhelion agent", "native_id": "12"}
        health = body(await api.get(made.path), 200)["health"]
        assert health["identity"]["native_id"] == "12"
        assert health["last_checked_at"].endswith("Z")

    async def test_a_failed_check_says_what_to_do_and_breaks_an_active_connection(self, api: Api) -> None:
        made = await create_connection(api)
        await activate(api, made)
        remote(made.json["config"]["base_url"]).checks = (
            Check("token", Verdict.FAILED, "The secret was refused.", "Make a new secret."),
        )

        found = body(await api.post(f"{made.path}/test"), 200)

        assert (found["overall"], found["state"]) == ("failed", "broken")
        assert found["checks"][0]["advice"] == "Make a new secret."
        assert body(await api.get(made.path), 200)["broken_reason"] == "The secret was refused."

    async def test_a_repaired_connection_becomes_active_again(self, api: Api) -> None:
        made = await create_connection(api)
        await activate(api, made)
        other = remote(made.json["config"]["base_url"])
        good, other.checks = other.checks, (Check("token", Verdict.FAILED, "Refused."),)
        body(await api.post(f"{made.path}/test"), 200)
        other.checks = good

        assert body(await api.post(f"{made.path}/test"), 200)["state"] == "active"
        assert body(await api.get(made.path), 200)["broken_reason"] is None

    async def test_could_not_ask_changes_nothing(self, api: Api) -> None:
        made = await create_connection(api)
        await activate(api, made)
        remote(made.json["config"]["base_url"]).checks = (Check("address", Verdict.UNKNOWN, "No answer."),)

        found = body(await api.post(f"{made.path}/test"), 200)

        assert (found["overall"], found["state"]) == ("unknown", "active")

    async def test_settings_changed_meanwhile_make_the_result_worthless(self, api: Api) -> None:
        made = await create_connection(api)
        other = remote(made.json["config"]["base_url"])

        async def change_now() -> tuple[Check, ...]:
            change = {"config": {"base_url": "https://elsewhere.test"}}
            body(await api.patch(made.path, json=change, headers={"If-Match": "*"}), 200)
            return (Check("token", Verdict.OK, "fine"),)

        other.on_check = change_now

        problem(await api.post(f"{made.path}/test"), 409, "connection_state")
        assert body(await api.get(made.path), 200)["state"] == "draft"


class TestNoTransactionIsOpen:
    async def test_while_the_other_side_is_asked(self, api: Api, database: Database) -> None:
        made = await create_connection(api)
        seen: list[str] = []

        async def look() -> tuple[Check, ...]:
            async with database.transaction() as session:
                connection = await session.connection()
                found = await connection.execute(
                    text(
                        "SELECT query FROM pg_stat_activity WHERE datname = current_database() "
                        "AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
                    )
                )
                seen.extend(query for (query,) in found)
            return (Check("token", Verdict.OK, "fine"),)

        remote(made.json["config"]["base_url"]).on_check = look

        body(await api.post(f"{made.path}/test"), 200)

        assert seen == []


class TestRemote:
    async def test_webhooks_are_registered_looked_at_and_removed(self, api: Api) -> None:
        made = await create_connection(api)
        other = remote(made.json["config"]["base_url"])

        before = body(await api.get(f"{made.path}/webhooks"), 200)
        registered = body(await api.post(f"{made.path}/webhooks"), 200)
        after = body(await api.get(f"{made.path}/webhooks"), 200)
        hooks = dict(other.hooks)
        removed = body(await api.delete(f"{made.path}/webhooks"), 200)

        assert (before["active"], before["problems"]) == (False, ["No webhook of ours is registered."])
        assert registered["hook_url"] == made.json["hook_url"]
        assert after["active"] is True
        assert hooks == {f"Parhelion {made.id}": (made.json["hook_url"], made.json["webhook_secret"])}
        assert removed == {"removed": 1}

    async def test_the_newest_secret_is_registered(self, api: Api) -> None:
        made = await create_connection(api)
        rotated = body(
            await api.post(f"{made.path}/rotate-secret", json={"purpose": "webhook"}, headers={"If-Match": "*"}),
            200,
        )

        body(await api.post(f"{made.path}/webhooks"), 200)

        [(_, secret)] = remote(made.json["config"]["base_url"]).hooks.values()
        assert secret == rotated["webhook_secret"]

    async def test_without_a_secret_there_is_nothing_to_register(self, api: Api) -> None:
        made = await create_connection(api, verifier={"kind": "none"})

        problem(await api.post(f"{made.path}/webhooks"), 409, "secret_not_needed")

    async def test_picklists(self, api: Api) -> None:
        made = await create_connection(api)

        found = body(await api.get(f"{made.path}/picklists"), 200)

        assert found["statuses"] == [{"native_id": "9", "name": "Closed", "closes": True}]
        assert set(found) == {"statuses", "priorities", "ticket_types", "outcomes", "teams", "clients"}

    @pytest.mark.parametrize(
        ("error", "status", "code", "retry_after"),
        [
            (DeskError(ErrorClass.TIMEOUT, "No answer."), 504, "remote_timed_out", None),
            (DeskError(ErrorClass.RATE, "Used up.", retry_after_seconds=12.2), 503, "remote_busy", "13"),
            (DeskError(ErrorClass.RATE, "Used up."), 503, "remote_busy", "60"),
            (
                DeskError(ErrorClass.PERMISSION, "403.", next_step="Tick the scope."),
                502,
                "remote_failed",
                None,
            ),
        ],
    )
    async def test_a_failure_there_is_named(
        self, api: Api, error: DeskError, status: int, code: str, retry_after: str | None
    ) -> None:
        made = await create_connection(api)
        remote(made.json["config"]["base_url"]).failure = error

        for answer in (
            await api.get(f"{made.path}/picklists"),
            await api.get(f"{made.path}/webhooks"),
            await api.post(f"{made.path}/webhooks"),
            await api.delete(f"{made.path}/webhooks"),
        ):
            found = problem(answer, status, code)
            assert found["detail"] == error.detail
            assert found["next_step"]
            assert found["remote_error"] == error.error.value
            assert answer.headers.get("retry-after") == retry_after

    async def test_refused_credentials_break_the_connection(self, api: Api) -> None:
        made = await create_connection(api)
        await activate(api, made)
        remote(made.json["config"]["base_url"]).failure = DeskError(ErrorClass.AUTH, "The secret is refused.")

        problem(await api.get(f"{made.path}/picklists"), 502, "remote_failed")

        found = body(await api.get(made.path), 200)
        assert (found["state"], found["broken_reason"]) == ("broken", "The secret is refused.")
