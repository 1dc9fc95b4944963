"""Things that may happen in one place only, each for a failure it prevents."""

import ast

from tests.architecture.sources import Source, calls, dotted, imported, sources, within

Allowed = dict[str, str]


def offenders(allowed: Allowed, found: dict[str, list[int]]) -> list[str]:
    """``path:line`` of what stands elsewhere; an entry of the list that is not needed any more is one, too."""
    wrong = [f"{path}:{line}" for path, lines in found.items() if not within(path, *allowed) for line in lines]
    stale = [f"{place} is allowed for nothing" for place in allowed if not any(within(one, place) for one in found)]
    return wrong + stale


def lines_of_calls(names: set[str], *folders: str, last_part: bool = False) -> dict[str, list[int]]:
    """Lines by file on which something of ``names`` is called."""
    found: dict[str, list[int]] = {}
    for source in every(*folders):
        for name, line in calls(source.tree):
            if name in names or (last_part and name.rsplit(".", 1)[-1] in names):
                found.setdefault(source.path, []).append(line)
    return found


def lines_of_imports(modules: set[str], *folders: str) -> dict[str, list[int]]:
    """Lines by file on which a module (or something in it) is imported."""
    found: dict[str, list[int]] = {}
    for source in every(*folders):
        for module, _, line in imported(source.tree):
            if module in modules or any(module.startswith(f"{one}.") for one in modules):
                found.setdefault(source.path, []).append(line)
    return found


def every(*folders: str) -> list[Source]:
    return [source for folder in folders or ("app",) for source in sources(folder)]


def test_only_the_unit_of_work_commits() -> None:
    """A commit in the middle of a request leaves half of it behind when the other half fails."""
    allowed = {
        "app/core/db/session.py": "the unit of work itself",
        "app/core/db/claims.py": "the liveness lock: a session of its own that holds no row of ours",
        "app/worker/heartbeat.py": "the sign of life goes over that same connection, outside any unit of work",
        "migrations/env.py": "migrations have no request around them",
        "app/sandbox/": "the remote's own world in memory takes back refused batches; it has no database",
    }
    assert offenders(allowed, lines_of_calls({"commit", "rollback"}, "app", "migrations", last_part=True)) == []


def test_only_core_http_speaks_http() -> None:
    """A client of one's own has no time-out, no budget and no check of the address: the way to the metadata service."""
    allowed = {"app/core/http/": "the one client, its errors and its egress rules"}
    clients = {"httpx", "aiohttp", "requests", "urllib3", "http.client"}
    assert offenders(allowed, lines_of_imports(clients)) == []


def test_only_probes_of_our_own_processes_use_urllib() -> None:
    """The same, for the client that Python brings along."""
    allowed = {
        "app/operations.py": "`parhelion health` asks the operator's own address and starts no event loop",
        "app/embedded/": "`parhelion dev` waits for the api that it started itself",
    }
    assert offenders(allowed, lines_of_imports({"urllib.request"})) == []


def test_only_the_doorbell_enqueues() -> None:
    """A job with content would be lost with Redis; a ring may be."""
    allowed = {"app/core/queue.py": "the doorbell"}
    assert offenders(allowed, lines_of_calls({"enqueue_job"}, last_part=True)) == []


def test_only_the_clock_reads_the_time() -> None:
    """A second reading cannot be moved by a test, and a naive one is wrong by the offset of the machine."""
    allowed = {"app/core/clock.py": "the clock"}
    readings = {
        "datetime.now",
        "datetime.utcnow",
        "datetime.today",
        "datetime.datetime.now",
        "date.today",
        "datetime.date.today",
        "time.time",
        "time.time_ns",
    }
    assert offenders(allowed, lines_of_calls(readings)) == []


def test_only_the_settings_read_the_environment() -> None:
    """A variable that is read where it is used is in no documentation and in no check at boot."""
    allowed = {
        "app/core/config.py": "the settings",
        "app/embedded/": "child processes get an environment made for them",
    }
    found: dict[str, list[int]] = {}
    for source in sources("app"):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Attribute) and dotted(node) in ("os.environ", "os.getenv", "os.environb"):
                found.setdefault(source.path, []).append(node.lineno)
    assert offenders(allowed, found) == []


BUILDERS = {"select", "insert", "update", "delete", "text", "exists", "union", "union_all", "func"}


def test_only_repositories_build_sql() -> None:
    """SQL in a service forgets the tenant one day; in a repository it cannot."""
    allowed = {
        "app/core/db/": "the base of every repository, claims, idempotency",
        "app/worker/heartbeat.py": "its one table; a repository.py of its own would hold two statements",
    }
    found: dict[str, list[int]] = {}
    for source in sources("app"):
        file = source.path.rsplit("/", 1)[-1]
        if file == "repository.py" or "/repository/" in source.path:
            continue
        for module, name, line in imported(source.tree):
            if module.split(".")[0] not in ("sqlalchemy", "sqlmodel") or name not in BUILDERS:
                continue
            if file == "models.py" and name == "text":
                continue  # the predicate of a partial index
            found.setdefault(source.path, []).append(line)
    assert offenders(allowed, found) == []


def test_every_query_runs_in_a_transaction_of_the_house() -> None:
    """An engine of one's own has no time limits, and its connections are in nobody's count."""
    allowed = {
        "app/core/db/engine.py": "the one factory",
        "app/core/db/session.py": "the sessions on it",
    }
    makers = {"create_async_engine", "create_engine", "async_sessionmaker", "sessionmaker"}
    found = {
        path: lines
        for path, lines in lines_of_calls(makers, last_part=True).items()
        if any(
            module.startswith("sqlalchemy") and name in makers
            for source in sources("app")
            if source.path == path
            for module, name, _ in imported(source.tree)
        )
    }
    assert offenders(allowed, found) == []


def test_no_test_sleeps() -> None:
    """A sleep is too short on a busy machine and too long on every other; ask again and again instead."""
    found = lines_of_calls({"asyncio.sleep", "time.sleep", "anyio.sleep"}, "tests")
    assert offenders({}, found) == []


EVERY_FAILURE: Allowed = {
    "app/core/middleware.py": "the outermost edge of a request: nobody above could still answer",
    "app/core/stages.py": "a drain outlives every round; its rows are still there",
    "app/health/checks.py": "whatever Redis does, it must not take readiness down",
    "app/inbox/receive.py": "every waiter of a group commit gets the failure, none a 2xx",
    "app/inbox/tasks.py": "one event's trouble is written to its row and must not end the others",
    "app/outbox/send.py": "whatever a send raises, its writes may have been done: they are put in doubt, not lost",
    "app/sync/converge.py": "one link's trouble is written to its row and must not hold up the others",
    "app/worker/runtime.py": "the upkeep goes on while PostgreSQL is away",
}


def test_failures_are_caught_by_name() -> None:
    """`except Exception` hides the bug that nobody thought of. Catching all to clean up and raise again is fine."""
    found: dict[str, list[int]] = {}
    for source in sources("app"):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ExceptHandler) and _catches_all(node) and not _raises(node):
                found.setdefault(source.path, []).append(node.lineno)
            if isinstance(node, ast.Call) and _suppresses_all(node):
                found.setdefault(source.path, []).append(node.lineno)
    unexpected = {path: lines for path, lines in found.items() if path not in EVERY_FAILURE}
    assert unexpected == {}


def _suppresses_all(call: ast.Call) -> bool:
    everything = any(dotted(one) in ("Exception", "BaseException") for one in call.args)
    return everything and dotted(call.func).endswith("suppress")


def _catches_all(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(dotted(kind) in ("Exception", "BaseException") for kind in kinds)


def _raises(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(node, ast.Raise) for node in ast.walk(handler))
