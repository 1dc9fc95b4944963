"""The sandbox as a process of its own: it prints where it is and ends on a signal."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.sandbox.halopsa.cli import serve
from app.sandbox.halopsa.switches import UnknownSwitch

ROOT = Path(__file__).resolve().parents[3]
START = (
    "from app.sandbox.halopsa.cli import serve; serve('127.0.0.1', 0, ['acme', 'globex'], {'strict_updates': 'true'})"
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_until_it_is_told_to_stop(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", START], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Stop with"):
                break
        process.send_signal(number)
        assert process.wait(15) == 0
    text = "".join(lines)
    assert re.search(r"resource server +http://127\.0\.0\.1:\d+/globex/api", text)
    assert re.search(r"client secret +acme-app-secret", text)


def test_a_wrong_switch_is_refused_before_anything_runs() -> None:
    with pytest.raises(UnknownSwitch):
        serve("127.0.0.1", 0, [], {"nope": "1"})
