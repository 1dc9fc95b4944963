"""Everything `make check` looks at, one line per step; a failing step shows what it printed."""

import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
SOURCES = [name for name in ("app", "tests", "tools", "benchmarks") if (ROOT / name).is_dir()]
IMPORT_RULES = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def command(*arguments: str) -> Callable[[], str | None]:
    """A step that runs `python ARGUMENTS`; its answer is None or, when that fails, what it printed."""

    def run() -> str | None:
        done = subprocess.run(
            [PYTHON, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return None if done.returncode == 0 else done.stdout.strip() or f"exit code {done.returncode}"

    return run


def requirement_names(entries: list[str]) -> set[str]:
    """Normalised package names of requirement strings."""
    return {re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", entry, maxsplit=1)[0]).lower() for entry in entries}


def locks_fit() -> str | None:
    """Every declared dependency is locked, every locked line has a hash, and no line names a host."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime = requirement_names(declared["project"]["dependencies"])
    extras = [entry for entries in declared["project"]["optional-dependencies"].values() for entry in entries]
    groups = [entry for entries in declared["dependency-groups"].values() for entry in entries]
    wanted = {
        "requirements-runtime.lock": runtime,
        "requirements.lock": runtime | requirement_names(extras) | requirement_names(groups),
    }
    complaints = []
    for name, needed in wanted.items():
        text = (ROOT / name).read_text()
        entries = re.split(r"\n(?=\S)", text.strip())
        missing = sorted(needed - requirement_names(entries))
        complaints += [f"{name} lacks {package}: run make lock" for package in missing]
        complaints += [f"{name}: no hash for {entry.split()[0]}" for entry in entries if "--hash=sha256:" not in entry]
        complaints += [f"{name} names an address"] * ("://" in text)
    return "\n".join(complaints) or None


def steps() -> dict[str, Callable[[], str | None]]:
    """The steps by name, quick ones first."""
    return {
        "format": command("-m", "ruff", "format", "--check", "."),
        "lint": command("-m", "ruff", "check", "."),
        "locks": locks_fit,
        "import rules": command("-c", IMPORT_RULES, "--no-cache"),
        "kubernetes": command("tools/check_k8s.py"),
        "openapi": command("-m", "app.cli", "openapi", "--check"),
        "house rules": command("-m", "pytest", "-q", "tests/architecture"),
        "types": command("-m", "mypy", *SOURCES),
    }


def main() -> int:
    """Runs every step, or those named as arguments; exit code 1 when one of them fails."""
    chosen = sys.argv[1:]
    known = steps()
    unknown = [name for name in chosen if name not in known]
    if unknown:
        print(f"unknown step {unknown[0]!r}; the steps are: {', '.join(known)}")
        return 2
    failed = []
    for name, step in known.items():
        if chosen and name not in chosen:
            continue
        started = time.monotonic()
        complaint = step()
        verdict = "ok" if complaint is None else "FAILED"
        print(f"check {name:<13} {verdict:<6} {time.monotonic() - started:5.1f} s", flush=True)
        if complaint is not None:
            failed.append(name)
            print(complaint, flush=True)
    print(f"check: {', '.join(failed)} failed" if failed else "check: all well")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
