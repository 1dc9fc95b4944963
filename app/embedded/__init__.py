"""Real PostgreSQL and Redis for one machine, from wheels: for `parhelion dev`, the demo and the tests.

Production never imports this package and never installs its dependency group; it names its servers with
PARHELION_DATABASE_URL and PARHELION_REDIS_URL.
"""

from app.embedded.errors import (
    EmbeddedError,
    FolderInUseError,
    FolderUnusableError,
    ServerFailedError,
    ServerMissingError,
)
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.redis import EmbeddedRedis
from app.embedded.stack import EmbeddedServers, EmbeddedStack

__all__ = [
    "EmbeddedError",
    "EmbeddedPostgres",
    "EmbeddedRedis",
    "EmbeddedServers",
    "EmbeddedStack",
    "FolderInUseError",
    "FolderUnusableError",
    "ServerFailedError",
    "ServerMissingError",
]
