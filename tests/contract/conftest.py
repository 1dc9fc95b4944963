"""Contract tests need the vendor's machine-readable contract, which stands beside the repository where it is at all.

Without the file there is nothing to compare with, so those modules are not collected, and the run's header says so.
"""

from pathlib import Path

HALOPSA_CONTRACT = Path(__file__).resolve().parents[3] / "shared" / "vendor" / "halopsa-api.json"
_NEEDS_HALOPSA = ["test_halopsa_sandbox.py"]

collect_ignore = [] if HALOPSA_CONTRACT.is_file() else _NEEDS_HALOPSA


def pytest_report_header() -> str | None:
    """Say which modules were not collected and why."""
    if not collect_ignore:
        return None
    return f"not collected: {', '.join(_NEEDS_HALOPSA)} (../shared/vendor/halopsa-api.json is not there)"
