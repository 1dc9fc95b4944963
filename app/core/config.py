"""Settings: everything an operator can set, read once from the environment (prefix ``PARHELION_``) at boot.

Numbers that contradict each other stop the boot with a sentence (timeouts nest: connect 5 < http 20 < job 60 <
lease 90 s, because a lease that ends before the call it guards would let two workers do the same work).
"""

import base64
import binascii
import os
from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError


class ConfigurationError(Exception):
    """The settings do not make sense together; the message is meant for the operator."""


class Settings(BaseSettings):
    """The settings with their defaults. Units stand in the names."""

    model_config = SettingsConfigDict(env_prefix="PARHELION_", extra="ignore", frozen=True)

    database_url: SecretStr = Field(description="postgresql+asyncpg://user:password@host/database")
    redis_url: SecretStr = Field(description="redis://, rediss:// or unix:// address")
    secret_keys: SecretStr = Field(
        description="Encryption keys, newest first: name:base64 of 32 bytes, separated by commas. "
        "The first encrypts, all decrypt."
    )
    public_url: str = Field(
        default="http://127.0.0.1:8080", description="Where HaloPSA and partners reach this service."
    )
    allow_private_egress: bool = Field(
        default=False, description="Let connections reach loopback and private addresses (development)."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"
    docs_enabled: bool = True

    database_pool_size: int = Field(default=10, ge=2, le=100)
    database_statement_timeout_seconds: int = Field(default=30, ge=1)
    database_lock_timeout_seconds: int = Field(default=5, ge=1)

    hook_body_max_bytes: int = Field(default=5 * 1024 * 1024, ge=1024)
    api_body_max_bytes: int = Field(default=1024 * 1024, ge=1024)
    hook_commit_batch_max: int = Field(default=256, ge=1, le=5000, description="Deliveries that share one commit.")

    http_timeout_seconds: float = Field(default=20.0, gt=0)
    job_timeout_seconds: float = Field(default=60.0, gt=0)
    lease_seconds: float = Field(default=90.0, gt=0)
    doorbell_poll_seconds: float = Field(default=0.025, ge=0.005, le=1.0)
    sweep_seconds: float = Field(default=3.0, ge=0.2, le=60.0, description="A lost doorbell costs at most this.")
    drain_batch_size: int = Field(default=200, ge=1, le=5000)
    max_attempts: int = Field(default=8, ge=1, le=50)
    retry_base_seconds: float = Field(default=5.0, gt=0)
    retry_cap_seconds: float = Field(default=1800.0, gt=0)
    poll_interval_seconds: float = Field(default=300.0, ge=2.0, le=3600.0, description="Reconciling poll of a side.")
    poll_overlap_seconds: float = Field(default=600.0, ge=30.0)
    visibility_lag_seconds: float = Field(
        default=120.0, ge=0.0, le=900.0, description="How late a desk may list what it has just created."
    )
    recovery_after_seconds: float = Field(
        default=5.0, ge=0.0, description="Wait after an unknown outcome before looking."
    )
    inbox_retention_days: int = Field(default=30, ge=1)
    outbox_retention_days: int = Field(default=90, ge=1)
    worker_metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Where a worker serves its metrics; nowhere when not set."
    )
    worker_name: str = Field(default="worker", max_length=60)

    @field_validator("public_url")
    @classmethod
    def _no_trailing_slash(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @field_validator("database_url")
    @classmethod
    def _async_driver(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if text.startswith(("postgres://", "postgresql://")):
            return SecretStr("postgresql+asyncpg://" + text.split("://", 1)[1])
        if not text.startswith("postgresql+asyncpg://"):
            raise ValueError("must be a postgresql:// address (the asyncpg driver is used)")
        try:
            make_url(text)
        except (ArgumentError, ValueError):  # its own words would show the password
            raise ValueError("is not an address: postgresql://user:password@host:port/database") from None
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must be a redis://, rediss:// or unix:// address")
        return value

    @field_validator("secret_keys")
    @classmethod
    def _keys_parse(cls, value: SecretStr) -> SecretStr:
        parse_keys(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _timeouts_nest(self) -> Self:
        if self.http_timeout_seconds < 5.0:
            raise ValueError("PARHELION_HTTP_TIMEOUT_SECONDS must be at least the connect timeout of 5 s")
        if self.job_timeout_seconds <= self.http_timeout_seconds:
            raise ValueError(
                "PARHELION_JOB_TIMEOUT_SECONDS must be greater than PARHELION_HTTP_TIMEOUT_SECONDS: "
                "a job has to outlive the slowest single call it makes"
            )
        if self.lease_seconds <= self.job_timeout_seconds + 5:
            raise ValueError(
                "PARHELION_LEASE_SECONDS must be more than 5 s above PARHELION_JOB_TIMEOUT_SECONDS: "
                "a lease that ends earlier would let two workers do the same work"
            )
        if self.retry_cap_seconds < self.retry_base_seconds:
            raise ValueError("PARHELION_RETRY_CAP_SECONDS must not be below PARHELION_RETRY_BASE_SECONDS")
        return self


def parse_keys(text: str) -> Mapping[str, bytes]:
    """Encryption keys by name, newest first, from ``name:base64,name:base64``.

    Raises ``ValueError`` that names the bad part without showing it.
    """
    keys: dict[str, bytes] = {}
    for position, part in enumerate(filter(None, (piece.strip() for piece in text.split(","))), start=1):
        name, separator, encoded = part.partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not separator or not name or len(key) != 32:
            raise ValueError(f"key number {position} is not of the form name:base64 of 32 bytes")
        if name in keys:
            raise ValueError(f"key number {position} repeats a name")
        keys[name] = key
    if not keys:
        raise ValueError("at least one key is needed; make one with: parhelion new-secret-key")
    return keys


def generate_key(name: str = "k1") -> str:
    """A fresh entry for ``PARHELION_SECRET_KEYS``. Raises :class:`ConfigurationError` for a name that breaks it."""
    if not name or any(character in ":," or character.isspace() for character in name):
        raise ConfigurationError(f"'{name}' cannot name a key: leave out colons, commas and spaces.")
    return f"{name}:{base64.b64encode(os.urandom(32)).decode()}"


def _refuse_misspelt() -> None:
    """A variable that is nearly one of ours is a typo, and a setting that silently stays at its default is worse than
    a start that fails. Others are left alone: Kubernetes puts PARHELION_SERVICE_HOST and the like into every pod."""
    known = {f"PARHELION_{name.upper()}" for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.startswith("PARHELION_") and name not in known:
            close = get_close_matches(name, known, n=1, cutoff=0.9)
            if close:
                raise ConfigurationError(f"{name} is not a setting; did you mean {close[0]}?")


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings. Raises :class:`ConfigurationError` with one line per problem."""
    _refuse_misspelt()
    try:
        return Settings()  # values come from the environment
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = "PARHELION_" + str(problem["loc"][0]).upper() if problem["loc"] else "settings"
            text = "is not set" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
            lines.append(f"{name}: {text}" if problem["loc"] else text)
        raise ConfigurationError("\n".join(lines)) from None


def set_environment(values: Mapping[str, str]) -> None:
    """Put settings into this process's environment and forget those read before (``parhelion dev`` and tests)."""
    os.environ.update(values)
    settings.cache_clear()


def environment() -> Mapping[str, str]:
    """The present environment, for child processes."""
    return dict(os.environ)
