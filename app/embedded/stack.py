"""PostgreSQL and Redis together: what `parhelion dev`, the demo and the tests start."""

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from app.embedded.postgres import EmbeddedPostgres
from app.embedded.redis import EmbeddedRedis


@dataclass(frozen=True)
class EmbeddedServers:
    """Where the running servers are: for PARHELION_DATABASE_URL and PARHELION_REDIS_URL.

    Both hold passwords.
    """

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)


class EmbeddedStack:
    """Both servers, started and stopped as one; a context manager that gives `EmbeddedServers`.

    `data_dir` defaults to `.parhelion` in the project. `ephemeral` keeps nothing. Without `with_redis` only
    the database is started and `redis_url` is empty. `fast` trades safety against power failure for speed:
    tests only.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        ephemeral: bool = False,
        with_redis: bool = True,
        fast: bool = False,
    ) -> None:
        self.postgres = EmbeddedPostgres(data_dir, ephemeral=ephemeral, fast=fast)
        self.redis: EmbeddedRedis | None = EmbeddedRedis() if with_redis else None

    def start(self) -> EmbeddedServers:
        """Starts both, or neither. Raises an `EmbeddedError` that says what to do."""
        try:
            database_url = self.postgres.start()
            redis_url = self.redis.start() if self.redis else ""
        except BaseException:
            self.stop()
            raise
        return EmbeddedServers(database_url, redis_url)

    def stop(self) -> None:
        """Stops what runs. Safe to call twice."""
        if self.redis:
            self.redis.stop()
        self.postgres.stop()

    @property
    def data_dir(self) -> Path:
        """The folder the database lies in. Raises `EmbeddedError` before the start."""
        return self.postgres.data_dir

    def __enter__(self) -> EmbeddedServers:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
