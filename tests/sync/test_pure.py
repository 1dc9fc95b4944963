"""The small pure decisions: echoes, pacing, which tickets belong to a sync, settings."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.connectors.canonical import HookEvent, TicketField
from app.core import clock
from app.sync.echo import is_echo
from app.sync.models import SyncRun
from app.sync.pacing import FREE_SHARE, FULL_PAGE, HOLD_MAX_SECONDS, hold_seconds
from app.sync.service import eta_seconds
from app.sync.settings import DEFAULT_RULES, RelationshipSettings, covers, other
from tests.sync.values import NOON, moments

actors = st.one_of(st.none(), st.sampled_from(["12", "13"]))


def event(actor: str | None, updated_at: datetime | None) -> HookEvent:
    return HookEvent("d1", "ticket updated", b"{}", ticket_id="1", actor_id=actor, ticket_updated_at=updated_at)


class TestEcho:
    @given(actors, moments, actors, moments)
    def test_only_our_own_and_nothing_newer(
        self, actor: str | None, updated_at: datetime | None, ourselves: str | None, seen: datetime | None
    ) -> None:
        found = is_echo(event(actor, updated_at), our_actor_id=ourselves, seen_updated_at=seen)

        if found:
            assert actor is not None
            assert actor == ourselves
            assert updated_at is not None
            assert seen is not None
            assert updated_at <= seen

    def test_what_we_have_read_back(self) -> None:
        assert is_echo(event("12", NOON), our_actor_id="12", seen_updated_at=NOON)

    @pytest.mark.parametrize(
        ("actor", "updated_at", "ourselves", "seen"),
        [
            ("12", NOON + timedelta(seconds=1), "12", NOON),  # a rule of the desk ran under our account
            ("13", NOON, "12", NOON),
            ("12", None, "12", NOON),
            ("12", NOON, "12", None),
            (None, NOON, None, NOON),
        ],
    )
    def test_everything_else_is_news(
        self, actor: str | None, updated_at: datetime | None, ourselves: str | None, seen: datetime | None
    ) -> None:
        assert not is_echo(event(actor, updated_at), our_actor_id=ourselves, seen_updated_at=seen)


class TestPacing:
    @given(st.floats(0, 1), st.integers(0, 1000))
    def test_is_bounded(self, pressure: float, waiting: int) -> None:
        assert 0 <= hold_seconds(pressure, waiting) <= HOLD_MAX_SECONDS

    @given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 1000))
    def test_grows_with_the_pressure(self, one: float, two: float, waiting: int) -> None:
        low, high = sorted((one, two))
        assert hold_seconds(low, waiting) <= hold_seconds(high, waiting)

    def test_an_idle_lane_starts_at_once_and_a_full_page_does_not_wait(self) -> None:
        assert hold_seconds(FREE_SHARE, 1) == 0
        assert hold_seconds(1.0, FULL_PAGE) == 0
        assert hold_seconds(1.0, FULL_PAGE - 1) == HOLD_MAX_SECONDS


class TestCovers:
    @given(moments, moments, moments)
    def test_created_or_changed_since_the_start(
        self, start: datetime | None, created: datetime | None, changed: datetime | None
    ) -> None:
        found = covers(RelationshipSettings(start_at=start), created, changed)

        known = [moment for moment in (created, changed) if moment is not None]
        assert found == (start is None or not known or any(moment >= start for moment in known))


class TestSettings:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"colour": "red"},
            {"start_at": "2026-01-01T00:00:00"},
            {"status_map": [{"source": "", "target": "1"}]},
            {"fields": {"colour": {}}},
            {"fields": {"status": {"policy": "loudest"}}},
            {"poll_interval_seconds": 1},
            {"source_label": "x" * 101},
        ],
    )
    def test_what_makes_no_sense_is_refused(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ValidationError):
            RelationshipSettings.model_validate(wrong)

    def test_every_field_has_a_rule(self) -> None:
        settings = RelationshipSettings()

        assert {name: settings.rule(name) for name in TicketField} == dict(DEFAULT_RULES)

    def test_the_opposite_of_the_opposite(self) -> None:
        assert other("source") == "target"
        assert other("target") == "source"


class TestEta:
    @pytest.mark.parametrize(
        ("state", "done", "total", "expected"),
        [("queued", 0, 0, None), ("converging", 0, 10, None), ("converging", 25, 100, 30), ("done", 9, 9, 0)],
    )
    def test_a_guess_from_the_pace_so_far(self, state: str, done: int, total: int, expected: int | None) -> None:
        run = SyncRun(
            tenant_id=None,  # type: ignore[arg-type]  # the arithmetic does not ask whose it is
            relationship_id=None,  # type: ignore[arg-type]  # nor of what
            since=NOON,
            state=state,
            started_at=clock.now() - timedelta(seconds=10),
        )

        assert eta_seconds(run, done, total) == expected
