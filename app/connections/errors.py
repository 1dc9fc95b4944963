"""Named failures of connections."""

from app.core.errors import AppError, Conflict, Invalid


class UnknownKind(Invalid):
    """There is no connector of this kind."""

    code = "unknown_connection_kind"
    title = "There is no such kind of connection"


class NameTaken(Conflict):
    """Another connection of the tenant has this name."""

    code = "connection_name_taken"
    title = "Another connection has this name"


class IllegalMove(Conflict):
    """The connection is in a state from which this is not possible."""

    code = "connection_state"
    title = "The connection is not in a state for this"


class ConnectionNotUsable(Conflict):
    """The connection may not be used now."""

    code = "connection_not_usable"
    title = "The connection cannot be used now"


class ConnectionPaused(ConnectionNotUsable):
    """A person paused or archived the connection."""

    code = "connection_paused"
    title = "The connection is paused"


class ConnectionBroken(ConnectionNotUsable):
    """The other side refuses us, or the stored settings cannot be used."""

    code = "connection_broken"
    title = "The connection is broken"


class ConnectionUntested(ConnectionNotUsable):
    """The connection has not passed a test yet."""

    code = "connection_untested"
    title = "The connection has not been tested"


class SecretNotNeeded(Conflict):
    """The connection's verifier proves nothing and has no secret."""

    code = "secret_not_needed"
    title = "This connection verifies its sender without a secret"


class RemoteFailed(AppError):
    """The outside system refused what was asked, or answered with an error."""

    status = 502
    code = "remote_failed"
    title = "The outside system did not do it"


class RemoteTimedOut(AppError):
    """The outside system did not answer in time."""

    status = 504
    code = "remote_timed_out"
    title = "The outside system did not answer in time"


class RemoteBusy(AppError):
    """The call budget of the outside system is used up for now."""

    status = 503
    code = "remote_busy"
    title = "The outside system's call budget is used up"
