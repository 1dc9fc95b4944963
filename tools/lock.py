"""Resolves the dependencies again and writes both lock files, with hashes and naming no index host.

`requirements.lock` is for development (runtime, embedded servers, tests), `requirements-runtime.lock` for
the production image. Both hold for CPython 3.11 and newer on every platform. `--upgrade` moves pinned
versions on.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESOLVER = "uv==0.13.8"
RESOLVER_VENV = ROOT / ".venv-lock"
LOCKS = {
    "requirements.lock": ["--extra", "embedded", "--group", "test"],
    "requirements-runtime.lock": [],
}
FLAGS = [
    "--universal", "--python-version", "3.11", "--generate-hashes", "--quiet",
    "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links",
]  # fmt: skip


def resolver() -> str:
    """Path of the resolver, installed apart from `.venv` because only this verb needs its 20 MB."""
    python = RESOLVER_VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(RESOLVER_VENV)], check=True, stdout=sys.stderr)
    install = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", RESOLVER]
    subprocess.run(install, check=True, stdout=sys.stderr)
    return str(RESOLVER_VENV / "bin" / "uv")


def write(uv: str, name: str, selection: list[str], upgrade: list[str]) -> None:
    """One lock file, replaced only when the new one is complete and names no host.

    Raises SystemExit otherwise.
    """
    fresh = ROOT / f"{name}.new"
    if (ROOT / name).exists() and not upgrade:
        fresh.write_bytes((ROOT / name).read_bytes())
    command = [
        uv,
        "pip",
        "compile",
        "pyproject.toml",
        *FLAGS,
        *selection,
        *upgrade,
        "--output-file",
        fresh.name,
    ]
    try:
        subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)
        if re.search(r"://|^-", fresh.read_text(), flags=re.MULTILINE):
            raise SystemExit(f"{name} would name an address or carry an option; nothing was written")
        os.replace(fresh, ROOT / name)
    finally:
        fresh.unlink(missing_ok=True)


def main() -> int:
    """Writes both files; the exit code is the resolver's when it fails."""
    upgrade = [flag for flag in sys.argv[1:] if flag.startswith("--upgrade")]
    try:
        uv = resolver()
        for name, selection in LOCKS.items():
            write(uv, name, selection, upgrade)
    except subprocess.CalledProcessError as error:
        print("the dependencies could not be resolved; the lines above say why", file=sys.stderr)
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
