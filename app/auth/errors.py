"""Named failures of authentication and of key management."""

from app.core.errors import Conflict, Forbidden


class ScopeNotHeld(Forbidden):
    """A key may only make keys with scopes that it has itself."""

    code = "scope_not_held"
    title = "The key cannot give scopes it does not have"


class KeyRevoked(Conflict):
    """The key is revoked already; revoking cannot be undone or done again."""

    code = "key_revoked"
    title = "The key is revoked already"


class LastAdminKey(Conflict):
    """Without this key nobody could make keys for the tenant any more."""

    code = "last_admin_key"
    title = "This is the last key with the admin scope"
