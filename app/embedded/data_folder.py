"""The folders of the embedded servers: data that stays, data that goes, sockets with a path short enough.

Three rules. One process at a time holds a data folder (an advisory lock that its guard inherits, so it is
free again only when the servers are down). As root, everything lies where the unprivileged account can
reach it. A socket's path has at most 107 bytes on Linux and 103 on macOS, so sockets get a short folder of
their own below the temp folder.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from app.embedded.engines import ServerUser, root_folder
from app.embedded.errors import FolderInUseError, FolderUnusableError

LONGEST_SOCKET_PATH_BYTES = 103
SOCKET_FOLDER_PREFIX = "phl-"
SOCKET_NAME_BYTES = len("/phl-12345678/.s.PGSQL.5432")
DYING_HOLDER_SECONDS = 25.0
# mkdtemp makes folders there that nobody else can enter or guess.
SHORT_TEMP_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - private folders inside, see above
NEEDED_FREE_BYTES = 150 * 1024 * 1024
LOG_LIMIT_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class DataFolder:
    """A folder this process holds alone. Give it back with `release`."""

    path: Path
    ephemeral: bool
    lock: int

    def release(self) -> None:
        """Lets others use the folder; an ephemeral one is removed."""
        if self.ephemeral:
            shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self.lock)

    def log_file(self, name: str) -> Path:
        """The log of one server, begun anew once it has passed 10 MB."""
        log = self.path / f"{name}.log"
        if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
            log.unlink()
        log.touch(mode=0o600)
        return log

    def new_socket_folder(self, user: ServerUser) -> Path:
        """A folder for this run's sockets; the one of a run that nobody could clean up after is removed."""
        note = self.path / "sockets"
        with contextlib.suppress(OSError):
            earlier = Path(note.read_text())
            if earlier.name.startswith(SOCKET_FOLDER_PREFIX) and earlier.stat().st_mode & 0o777 == 0o700:
                shutil.rmtree(earlier, ignore_errors=True)
        made = socket_folder(user)
        note.write_text(str(made))
        return made


def default_data_folder() -> Path:
    """`.parhelion` in the project when we run from its sources, else the user's data folder."""
    project = Path(__file__).resolve().parents[2]
    if (project / "pyproject.toml").exists():
        return project / ".parhelion"
    share = os.environ.get("XDG_DATA_HOME")
    return (Path(share) if share else Path("~/.local/share").expanduser()) / "parhelion"


def open_data_folder(wanted: Path | None, user: ServerUser, *, ephemeral: bool) -> DataFolder:
    """Creates, if need be, and takes a data folder.

    Root's servers run as an account that may not be able to enter `wanted`; the data then lies below
    `root_folder()`, in a folder that belongs to `wanted` alone. Raises `FolderInUseError` and
    `FolderUnusableError`.
    """
    path = _temporary_folder("phl-data-", user) if ephemeral else placed_for(wanted or default_data_folder(), user)
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if user.uid is not None:
            path.chmod(0o711)  # the account enters, but cannot list
        if not user.can_enter(path):
            advice = "Make the folders above it with mode 0755, or name another data folder."
            raise FolderUnusableError(path, "the account the servers run as cannot get there", advice)
        lock = _take(path)
        if shutil.disk_usage(path).free < NEEDED_FREE_BYTES:
            os.close(lock)
            advice = "Free some, or name a data folder on another disk."
            raise FolderUnusableError(path, "the disk has less than 150 MB left", advice)
    except OSError as error:
        advice = "Name a data folder you may write, or mend its owner and mode."
        raise FolderUnusableError(path, error.strerror or str(error), advice) from error
    return DataFolder(path, ephemeral, lock)


def placed_for(wanted: Path, user: ServerUser) -> Path:
    """Where the data wanted at `wanted` really lies: there, unless the servers' user cannot get there."""
    resolved = wanted.expanduser().resolve()
    if user.can_enter(resolved.parent):
        return resolved
    digest = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:16]
    return root_folder() / f"data-{digest}"


def socket_folder(user: ServerUser) -> Path:
    """A new private folder (0700) below the temp folder, with a path short enough for any socket in it."""
    folder = _temporary_folder(SOCKET_FOLDER_PREFIX, user, longest=LONGEST_SOCKET_PATH_BYTES - SOCKET_NAME_BYTES)
    user.owns(folder)
    return folder


def _temporary_folder(prefix: str, user: ServerUser, longest: int = 1000) -> Path:
    """A new folder in the first temp folder that is short, plain and reachable.

    Raises `FolderUnusableError`.
    """
    places = [tempfile.gettempdir(), *SHORT_TEMP_FOLDERS]
    for place in places:
        # The path becomes part of a URL: no character in it may need escaping.
        plain = re.fullmatch(r"[A-Za-z0-9/._+-]+", place) is not None
        if plain and len(place) <= longest and user.can_enter(Path(place)):
            with contextlib.suppress(OSError):
                return Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    raise FolderUnusableError(
        Path(places[0]),
        "no temp folder with a short path can be written",
        "Set TMPDIR to one below 70 characters.",
    )


def _take(folder: Path) -> int:
    """The descriptor that holds the folder's lock. Waits for a holder that is already dying."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + DYING_HOLDER_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            if holder is not None or time.monotonic() > deadline:
                os.close(descriptor)
                raise FolderInUseError(folder, holder or "servers that are still stopping") from None
            time.sleep(0.05)
        else:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "command": _own_command()}).encode(), 0)
            return descriptor


def _own_command() -> str:
    return " ".join(Path(word).name if os.sep in word else word for word in sys.orig_argv[:5])


def _holder(descriptor: int) -> str | None:
    """Who wrote the lock, if that process lives; None when only its guard is left, about to finish."""
    try:
        written = json.loads(os.pread(descriptor, 4096, 0))
        pid, command = int(written["pid"]), str(written["command"])
    except (ValueError, KeyError, TypeError):
        return None
    return f"process {pid} ({command})" if is_alive(pid) else None


def is_alive(pid: int) -> bool:
    """Whether a process with this id exists, ours or not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def keep_password(folder: Path) -> tuple[str, bool]:
    """The folder's database password and whether it was made just now (readable by the caller only)."""
    path = folder / "password"
    if path.exists():
        found = path.read_text().strip()
        if found:
            return found, False
    password = secrets.token_hex(24)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(password)
    return password, True
