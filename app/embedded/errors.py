"""What can go wrong when the embedded servers start, told with the next step."""

from pathlib import Path


class EmbeddedError(Exception):
    """A local server could not be provided.

    `str()` is a text for a person: what, where, and what to do next.
    """


class ServerMissingError(EmbeddedError):
    """The server's executable is not installed on this machine."""

    def __init__(self, server: str, advice: str) -> None:
        self.server = server
        super().__init__(f"No {server} to start here. {advice}")


class FolderInUseError(EmbeddedError):
    """Another live process runs its servers on this data folder."""

    def __init__(self, folder: Path, holder: str) -> None:
        self.folder = folder
        self.holder = holder
        super().__init__(
            f"The data folder {folder} is in use by {holder}. Stop that one first, or name another folder."
        )


class FolderUnusableError(EmbeddedError):
    """The data folder or a folder for sockets cannot be created, read or written."""

    def __init__(self, folder: Path, reason: str, advice: str) -> None:
        self.folder = folder
        super().__init__(f"{folder}: {reason}. {advice}")


class ServerFailedError(EmbeddedError):
    """The server was started and gave up, or did not get ready in time."""

    def __init__(self, server: str, reason: str, advice: str) -> None:
        self.server = server
        super().__init__(f"{server} did not start: {reason}. {advice}")


# Phrases a server writes just before it gives up, with what a person can do about it.
_KNOWN_FAILURES = (
    (
        "No space left on device",
        "The disk is full: free at least 300 MB, or name a data folder on another disk.",
    ),
    (
        "Disk quota exceeded",
        "Your disk quota is used up: free at least 300 MB, or name a data folder elsewhere.",
    ),
    (
        "could not create shared memory segment",
        "The kernel's shared memory is used up (see `ipcs -m`, kernel.shmmni).",
    ),
    ("could not create semaphores", "The kernel's semaphores are used up (see `ipcs -s`, kernel.sem)."),
    (
        "could not look up effective user ID",
        "This user id has no account: add a line to /etc/passwd, or set PARHELION_DATABASE_URL.",
    ),
    ("Cannot allocate memory", "There is not enough free memory: the servers need about 200 MB."),
    (
        "error while loading shared libraries",
        "A system library is missing: install the one the line above names.",
    ),
    ("incompatible with server", "Another PostgreSQL wrote this folder: move it away and start again."),
    (
        "could not locate a valid checkpoint",
        "The data is damaged: restore a copy, or move the folder away for a new one.",
    ),
)


def server_failure(server: str, log: Path, fallback: str, *, since: int = 0) -> ServerFailedError:
    """A `ServerFailedError` from the end of the server's log; `fallback` is the reason of a silent one.

    `since` is the log's size in bytes before this start: an earlier failure must not be told as this one.
    """
    try:
        text = log.read_bytes()[since:].decode(errors="replace")[-8000:]
    except OSError:
        text = ""
    advice = next((what_to_do for phrase, what_to_do in _KNOWN_FAILURES if phrase in text), f"Its log was {log}.")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "rror", "could not"))]
    reason = " | ".join((telling or lines)[-3:]) or fallback
    return ServerFailedError(server, reason.rstrip("."), advice)
