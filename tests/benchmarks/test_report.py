"""The arithmetic of the report."""

import pytest

from benchmarks.ingest import Stored, summary
from benchmarks.load import Round
from benchmarks.report import GOALS, compose, lines, percentile

MACHINE = {"cores": 2, "python": "3.11.0"}


class TestPercentile:
    @pytest.mark.parametrize(("share", "value"), [(50, 50), (95, 95), (99, 99), (100, 100), (0.5, 1)])
    def test_nearest_rank(self, share: float, value: float) -> None:
        assert percentile([float(number) for number in range(100, 0, -1)], share) == value

    def test_of_one_value_is_that_value(self) -> None:
        assert percentile([7.5], 95) == 7.5

    @pytest.mark.parametrize(("values", "share"), [([], 50), ([1.0], 0), ([1.0], 101)])
    def test_of_nothing_is_refused(self, values: list[float], share: float) -> None:
        with pytest.raises(ValueError, match="percentile"):
            percentile(values, share)


class TestIngest:
    def rounds(self, *rates: tuple[int, int]) -> list[tuple[Round, Round]]:
        return [(Round(bare * 2, 2.0, 0, 0), Round(durable * 2, 2.0, 0, 0)) for bare, durable in rates]

    def test_ratio_of_medians(self) -> None:
        pairs = self.rounds((1000, 100), (1000, 900), (5000, 800))

        found = summary(pairs, Stored(0, 0, "on"), Stored(3600, 3600, "on"), 64)

        assert found["ingest_ratio"] == 0.8
        assert found["ingest_rounds"] == [0.1, 0.9, 0.16]

    @pytest.mark.parametrize(
        ("stored", "acknowledged", "fine"), [(200, 200, True), (264, 264, True), (199, 199, False), (201, 202, False)]
    )
    def test_nothing_lost_means_stored_is_acknowledged_and_read(
        self, stored: int, acknowledged: int, fine: bool
    ) -> None:
        before, after = Stored(50, 40, "on"), Stored(50 + stored, 40 + acknowledged, "on")

        assert summary(self.rounds((100, 100)), before, after, 64)["ingest_nothing_lost"] is fine

    def test_refused_answers_are_not_counted(self) -> None:
        assert Round(100, 2.0, 40, 0).per_second == 30


class TestCompose:
    def test_each_target_is_judged_in_its_own_direction(self) -> None:
        good = {"ingest_ratio": 0.8, "flow_p95_ms": 250.0, "halo_calls_per_change": 0.1, "rss_mib": 300.0}
        bad = {"ingest_ratio": 0.79, "flow_p95_ms": 251.0, "halo_calls_per_change": 0.11, "rss_mib": 301.0}

        assert set(compose(good, {}, MACHINE)["met"].values()) == {True}
        assert set(compose(bad, {}, MACHINE)["met"].values()) == {False}

    def test_what_was_not_measured_is_not_judged(self) -> None:
        report = compose({"rss_mib": 100.0}, {"ingest": "LoadFailed: no"}, MACHINE)

        assert report["met"] == {goal.key: True if goal.key == "rss_mib" else None for goal in GOALS}
        assert report["machine"] == MACHINE
        assert lines(report)[-1] == "ingest did not run: LoadFailed: no"
