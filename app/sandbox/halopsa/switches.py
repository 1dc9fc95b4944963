"""The switches: every behaviour in which real HaloPSA tenants and versions differ, with the default of the
contract.

A switch changes one tenant of the sandbox, at any moment. Run a connector under each value before trusting
it.
"""

import dataclasses
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints


class UnknownSwitch(ValueError):
    """The name is not a switch, or the value is not one it takes. The text says which are."""


@dataclass(slots=True)
class Switches:
    """One tenant's behaviour. Durations are in seconds unless the name says milliseconds."""

    # Tokens
    token_lifetime_seconds: int = 3600
    new_token_revokes_old: bool = False
    bad_tenant_is_500: bool = False
    auth_is_metered: bool = False

    # Rate limit
    rate_limit: int = 300
    rate_window_seconds: float = 300.0
    rate_limit_header: bool = False
    rate_limit_off: bool = False

    # Writes
    post_status: int = 201
    always_array: bool = False
    strict_updates: bool = False
    batch_atomic: bool = True
    match_third_party: bool = False
    trim_text: bool = True
    uppercase_team: bool = False
    apply_templates: bool = False
    agent_team_prompt: bool = False
    close_requires_outcome: bool = False
    closed_status_ids: tuple[int, ...] = (9,)
    keep_hidden_span: bool = True
    accept_who: bool = True
    action_dates: Literal["accepted", "ignored", "refused"] = "accepted"
    action_moves_last_update: bool = True
    attachment_moves_last_update: bool = False
    external_links: Literal["on", "not_kept", "forbidden"] = "on"

    # Reads
    default_list_size: int = 50
    page_size_cap: int = 100
    actions_default_count: int = 0
    actions_window_by: Literal["datetime", "created"] = "datetime"
    update_window: Literal["inclusive", "exclusive"] = "inclusive"
    agent_list_always_bare: bool = False
    missing_id: Literal["404", "400", "200_empty"] = "404"
    clean_ids: bool = False
    null_dates: Literal["1900", "null"] = "1900"
    date_style: Literal["naive", "z"] = "naive"
    alias_fields: Literal["lastupdate", "all", "none"] = "lastupdate"
    attachment_content: Literal["raw", "link"] = "raw"
    error_shape: Literal["object", "message", "exception", "text", "nested", "result", "rotating"] = "object"

    # Webhooks
    payload: Literal["as_configured", "full", "small", "event_only"] = "as_configured"
    action_key: Literal["action", "actions", "none"] = "action"
    hmac_space_after_prefix: bool = True
    quiet_flags_silence_webhooks: bool = False
    delivery_workers: int = 8
    delivery_timeout_seconds: float = 10.0
    delivery_delay_ms: int = 0
    delivery_retries: int = 0
    delivery_retry_delay_ms: int = 200
    resend_keeps_id: bool = True
    auto_disable_after: int = 0

    def changed(self, values: dict[str, Any]) -> "Switches":
        """A copy with ``values`` (typed, or text of a command line). Raises :class:`UnknownSwitch`."""
        return dataclasses.replace(self, **{name: _parsed(name, value) for name, value in values.items()})

    def apply(self, values: dict[str, Any]) -> None:
        """Change this object in place: all of ``values`` or, when one is wrong, none. Raises
        :class:`UnknownSwitch`.
        """
        parsed = {name: _parsed(name, value) for name, value in values.items()}
        for name, value in parsed.items():
            setattr(self, name, value)


_HINTS = get_type_hints(Switches)
_NAMES = tuple(item.name for item in fields(Switches))
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


def _parsed(name: str, value: Any) -> Any:
    if name not in _NAMES:
        raise UnknownSwitch(f"there is no switch {name!r}; the switches are {', '.join(_NAMES)}")
    hint = _HINTS[name]
    if get_origin(hint) is Literal:
        return _choice(name, value, get_args(hint))
    if hint is bool:
        return _boolean(name, value)
    return _number(name, value, hint)


def _choice(name: str, value: Any, choices: tuple[Any, ...]) -> str:
    text = str(value)
    if text not in choices:
        raise UnknownSwitch(f"{name} is one of {', '.join(choices)}, not {text!r}")
    return text


def _boolean(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise UnknownSwitch(f"{name} is true or false, not {value!r}")


def _number(name: str, value: Any, hint: Any) -> Any:
    try:
        if hint in (int, float):
            number = hint(value)
            if number < 0:
                raise UnknownSwitch(f"{name} is not negative")
            return number
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(int(part) for part in parts)
    except (TypeError, ValueError) as error:
        if isinstance(error, UnknownSwitch):
            raise
        raise UnknownSwitch(f"{name} is a number (or a list of numbers), not {value!r}") from error
