"""The switches: their defaults are the contract's, values are parsed, and every one is documented and tested."""

from dataclasses import fields
from pathlib import Path

import pytest

from app.sandbox.halopsa.switches import Switches, UnknownSwitch

ROOT = Path(__file__).resolve().parents[3]


def test_the_defaults_are_the_contracts() -> None:
    found = Switches()
    assert (found.token_lifetime_seconds, found.rate_limit, found.rate_window_seconds) == (3600, 300, 300)
    assert (found.post_status, found.page_size_cap, found.default_list_size) == (201, 100, 50)
    assert (found.rate_limit_header, found.strict_updates, found.clean_ids, found.always_array) == (False,) * 4
    assert (found.missing_id, found.null_dates, found.attachment_content) == ("404", "1900", "raw")
    assert found.delivery_retries == 0


def test_text_values_are_parsed() -> None:
    changed = Switches().changed(
        {"strict_updates": "ON", "rate_limit": "7", "rate_window_seconds": "0.5", "closed_status_ids": "8,9"}
    )
    assert (changed.strict_updates, changed.rate_limit, changed.rate_window_seconds) == (True, 7, 0.5)
    assert changed.closed_status_ids == (8, 9)
    assert Switches().changed({"clean_ids": False}).clean_ids is False


@pytest.mark.parametrize(
    "wrong",
    [{"nope": 1}, {"rate_limit": "x"}, {"rate_limit": -1}, {"clean_ids": "maybe"}, {"missing_id": "418"}],
)
def test_wrong_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UnknownSwitch):
        Switches().changed(wrong)


def test_every_switch_is_documented() -> None:
    page = (ROOT / "docs" / "sandbox-halopsa.md").read_text()
    missing = [item.name for item in fields(Switches) if f"`{item.name}`" not in page]
    assert missing == []


def test_every_switch_is_tested() -> None:
    files = (ROOT / "tests" / "sandbox" / "halopsa").glob("test_*.py")
    tests = "".join(path.read_text() for path in files if path != Path(__file__))
    missing = [item.name for item in fields(Switches) if tests.count(item.name) == 0]
    assert missing == []
