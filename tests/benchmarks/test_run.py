"""A miniature of the whole benchmark: it starts, measures, reports and stops."""

import asyncio
from pathlib import Path

import pytest

from app.core.http.signing import sign_hmac
from app.sandbox.serving import serving
from benchmarks import __main__ as benchmark
from benchmarks import bodies, load
from benchmarks.bare import create_bare
from benchmarks.load import Load
from benchmarks.report import GOALS


def test_the_ring_is_unique_and_signed(tmp_path: Path) -> None:
    template = bodies.sandbox_event()
    bodies.write_ring(tmp_path / "ring", template, "an-invented-secret", 50)

    pairs = [line.split(" ") for line in (tmp_path / "ring").read_text().splitlines()]

    assert len({ident for ident, _ in pairs}) == 50
    for ident, signature in pairs:
        body = template.body(ident)
        assert body.count(ident.encode()) == 1
        assert signature == sign_hmac("an-invented-secret", body, encoding="base64")


@pytest.mark.parametrize("tool", ["python", "wrk"])
async def test_a_round_against_the_bare_route(tmp_path: Path, tool: str) -> None:
    if tool == "wrk" and load.chosen_tool() != "wrk":
        pytest.skip(load.INSTALL_WRK)
    template = bodies.sandbox_event()
    bodies.write_ring(tmp_path / "ring", template, "an-invented-secret", 20_000)
    bodies.write_template(tmp_path / "template", template)

    async with serving(create_bare()) as url:
        round_ = await asyncio.to_thread(
            load.drive, Load(tool, 4, 1.0), f"{url}/hooks/con_1", tmp_path / "ring", tmp_path / "template"
        )

    assert round_.requests > 10
    assert (round_.refused, round_.broken) == (0, 0)
    assert 0.9 < round_.seconds < 3


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_miniature_of_everything() -> None:
    said: list[str] = []

    report = benchmark.run(benchmark.NAMES, quick=True, say=said.append)

    assert report["failures"] == {}
    assert all(isinstance(report[goal.key], int | float) for goal in GOALS)
    assert report["ingest_nothing_lost"] is True
    assert report["ingest_fsync"] == "on"
    assert report["flow_changes_arrived"] == report["flow_changes"] > 0
    assert report["flow_p50_ms"] <= report["flow_p95_ms"]
    assert report["halo_calls"] > 0
    assert set(report["met"].values()) <= {True, False}
    assert any("linked" in line for line in said)
