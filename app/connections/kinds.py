"""What a kind of connection accepts: its configuration, its credentials, how it signs webhooks."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from app.connections.errors import UnknownKind
from app.connectors import registry
from app.connectors.registry import ConnectorKind
from app.core import clock
from app.core.errors import Invalid, Pointer
from app.core.http.signing import HmacVerifier, StandardVerifier, Verifier, sign_standard, verifier_adapter
from app.core.problems import pointers_of

_SIGNATURE_HEADER = "x-parhelion-signature"


def kind_named(name: str) -> ConnectorKind:
    """The kind called ``name``. Raises :class:`UnknownKind` that lists the known ones."""
    try:
        return registry.kind(name)
    except KeyError:
        known = ", ".join(sorted(registry.KINDS))
        raise UnknownKind(
            f"There is no connector of the kind '{name[:60]}'.",
            next_step=f"Use one of: {known}.",
            pointers=(Pointer("/kind", f"must be one of: {known}"),),
        ) from None


def default_verifier(kind: ConnectorKind) -> Verifier:
    """How webhooks of this kind prove their sender unless the caller says otherwise."""
    found = getattr(kind, "verifier", None)
    return HmacVerifier(header=_SIGNATURE_HEADER) if found is None else verifier_adapter.validate_python(found)


def checked_config(kind: ConnectorKind, config: Mapping[str, Any]) -> BaseModel:
    """The configuration as the kind's model. Raises :class:`~app.core.errors.Invalid` with every place."""
    try:
        return kind.config.model_validate(dict(config))
    except ValidationError as error:
        raise _invalid(error, "config", f"The configuration does not fit a {kind.title} connection.") from None


def checked_credentials(kind: ConnectorKind, credentials: Mapping[str, Any]) -> BaseModel:
    """The credentials as the kind's model. The failure names places only, never what was sent."""
    try:
        return kind.credentials.model_validate(dict(credentials))
    except ValidationError as error:
        raise _invalid(
            error, "credentials", f"The credentials do not fit a {kind.title} connection.", quiet=True
        ) from None


def _invalid(error: ValidationError, field: str, detail: str, *, quiet: bool = False) -> Invalid:
    found = pointers_of([{**one, "loc": ("body", *one["loc"])} for one in error.errors()])
    plain = {"is required", "is not a known field"}
    return Invalid(
        detail,
        next_step="Correct what is listed under errors. GET /v1/connection-kinds shows what each kind takes.",
        pointers=tuple(
            Pointer(f"/{field}{one.pointer}", one.message if not quiet or one.message in plain else "is not valid")
            for one in found
        ),
    )


def usable_secret(verifier: Verifier, secret: str) -> bool:
    """Whether ``verifier`` can work with ``secret``: Standard Webhooks takes base64 only."""
    if isinstance(verifier, StandardVerifier):
        try:
            sign_standard(secret, "probe", clock.now(), b"")
        except ValueError:
            return False
    return bool(secret)
