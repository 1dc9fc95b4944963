"""The operator's verbs: ``parhelion --help``.

What a script may want comes as JSON on the last line of stdout with ``--json``; everything for people goes to stderr
then, so that the output of a verb can be piped.
"""

import asyncio
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from app import __version__

cli = typer.Typer(no_args_is_help=True, add_completion=False, help="Parhelion: the integration hub around HaloPSA.")
sandbox_cli = typer.Typer(no_args_is_help=True, help="Servers that behave like the outside systems, to test against.")
cli.add_typer(sandbox_cli, name="sandbox")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line of stdout.")]
WithParent = Annotated[bool, typer.Option("--with-parent", hidden=True, help="End when stdin ends.")]


def _people(as_json: bool) -> Console:
    console = Console(stderr=as_json, highlight=False)
    # A path or an address that was wrapped in the middle can be neither copied nor searched for.
    console.soft_wrap = not console.is_terminal
    return console


def _result(value: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(value))


def _fail(text: str) -> typer.Exit:
    Console(stderr=True, highlight=False).print(f"[bold red]Not done:[/] {escape(text)}", soft_wrap=True)
    return typer.Exit(1)


def _end_with_parent() -> None:
    """Our parent holds the other end of stdin; when it dies we stop like on SIGTERM."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True, name="parent watch").start()


@cli.command()
def dev(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
    data: Annotated[Path | None, typer.Option(help="Folder for the data; .parhelion when left out.")] = None,
    as_json: Json = False,
) -> None:
    """Start everything on this machine: PostgreSQL, Redis, migrations, api and worker. Ctrl-C stops it."""
    from app.embedded import EmbeddedError
    from app.embedded.dev import DevService

    people = _people(as_json)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    service = DevService(data_dir=data, host=host, port=port, say=lambda text: people.print(f"[dim]{text}[/]"))
    try:
        service.start()
    except EmbeddedError as error:
        raise _fail(str(error)) from None
    try:
        people.print(f"Parhelion answers at [bold]{service.url}[/] (API documentation: {service.url}/docs)")
        people.print(f"Data and logs: {service.stack.data_dir}")
        people.print("First time? In another terminal: [bold]parhelion init --name 'Your company'[/]")
        _result({"url": service.url, "data": str(service.stack.data_dir)}, as_json=as_json)
        sys.stdout.flush()
        service.watch(stop.is_set)
    finally:
        people.print("[dim]stopping[/]")
        service.stop()


@cli.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
    with_parent: WithParent = False,
) -> None:
    """Run the API against the given PostgreSQL and Redis."""
    import uvicorn

    from app.core import memory
    from app.core.logging import configure
    from app.embedded import EmbeddedError
    from app.embedded.dev import port_must_be_free
    from app.main import create_app
    from app.operations import check_database

    settings = _settings()
    configure(settings)
    if with_parent:
        _end_with_parent()
    try:
        port_must_be_free(host, port)
    except EmbeddedError as error:
        raise _fail(str(error)) from None
    asyncio.run(check_database(settings, needed=False))
    app = create_app(settings)
    memory.settle()
    uvicorn.run(
        app,
        host=host,
        port=port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=30,
        server_header=False,
        date_header=True,
    )


@cli.command()
def worker(with_parent: WithParent = False) -> None:
    """Run a worker against the given PostgreSQL and Redis."""
    from app.core import memory
    from app.core.logging import configure
    from app.operations import check_database
    from app.worker.main import run

    settings = _settings()
    configure(settings)
    if with_parent:
        _end_with_parent()
    asyncio.run(check_database(settings, needed=True))
    memory.settle()
    _run(run(settings))


def _run(work: Any) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


@cli.command()
def migrate(as_json: Json = False) -> None:
    """Bring the database to the newest version."""
    from app import schema

    settings = _settings()
    schema.upgrade(settings.database_url.get_secret_value())
    _people(as_json).print("The database is at the newest version.")
    _result({"ok": True}, as_json=as_json)


@cli.command()
def init(
    name: Annotated[str, typer.Option(help="The tenant's name: your company.")],
    data: Annotated[Path | None, typer.Option(help="Data folder of a running `parhelion dev`.")] = None,
    as_json: Json = False,
) -> None:
    """Make the first tenant and its API key. The key is shown once."""
    from app.operations import make_tenant

    tenant_id, key = asyncio.run(make_tenant(_settings(data), name))
    people = _people(as_json)
    people.print(f"Tenant {escape(name)} ({tenant_id}). Its first API key, shown this once:")
    people.print(f"[bold]{escape(key)}[/]")
    _result({"tenant_id": tenant_id, "api_key": key}, as_json=as_json)


@cli.command("new-secret-key")
def new_secret_key(
    name: Annotated[str, typer.Option(help="A name for the key, for example the month.")] = "k1",
) -> None:
    """Print a fresh entry for PARHELION_SECRET_KEYS."""
    from app.core.config import ConfigurationError, generate_key

    try:
        typer.echo(generate_key(name))
    except ConfigurationError as error:
        raise _fail(str(error)) from None


@cli.command("rotate-keys")
def rotate_keys(as_json: Json = False) -> None:
    """Re-encrypt every stored secret under the first key of PARHELION_SECRET_KEYS; the others can go then."""
    from app.operations import reseal

    done = asyncio.run(reseal(_settings(), _people(as_json)))
    _people(as_json).print(f"{done} secrets are under the newest key.")
    _result({"resealed": done}, as_json=as_json)


@cli.command()
def openapi(
    write: Annotated[bool, typer.Option("--write", help="Write openapi/service.json.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Fail when openapi/service.json differs.")] = False,
) -> None:
    """Print, write or check the OpenAPI document."""
    from app.operations import openapi_document

    path = Path(__file__).resolve().parent.parent / "openapi" / "service.json"
    text = openapi_document()
    if write:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    elif check:
        if not path.exists() or path.read_text() != text:
            raise _fail("openapi/service.json differs from the routes. Run `make openapi` and look at the difference.")
    else:
        typer.echo(text)


@cli.command()
def health(
    what: Annotated[
        str, typer.Argument(help="worker: was PARHELION_WORKER_NAME seen in the last 30 s? api: is it ready?")
    ] = "api",
    url: Annotated[
        str, typer.Option(help="Where the api answers; port 8080 here, or the running `dev`, when left out.")
    ] = "",
) -> None:
    """Exit 0 when healthy: for container probes."""
    from app.core.config import environment
    from app.embedded.dev import use_running_service
    from app.operations import api_is_ready, worker_is_alive

    if what not in ("api", "worker"):
        raise _fail("say api or worker")
    if what == "worker":
        fine = asyncio.run(worker_is_alive(_settings()))
    else:
        running = None if url or "PARHELION_DATABASE_URL" in environment() else use_running_service(None)
        fine = api_is_ready(url or running or "http://127.0.0.1:8080")
    if not fine:
        raise _fail(f"the {what} is not healthy")


@cli.command()
def demo(
    as_json: Json = False,
    tickets: Annotated[int, typer.Option(min=1, help="How many tickets the story has.")] = 300,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the data folder for a look.")] = False,
) -> None:
    """Play the main story on this machine with two sandbox HaloPSA organisations, trouble included, and count."""
    from app.embedded.demo import play

    result = play(tickets=tickets, people=_people(as_json), keep=keep)
    _result(result.as_json(), as_json=as_json)
    raise typer.Exit(0 if result.ok else 1)


@sandbox_cli.command("halopsa")
def sandbox_halopsa(
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 9000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    tenant: Annotated[list[str] | None, typer.Option(help="A tenant's name; may be given several times.")] = None,
    switch: Annotated[list[str] | None, typer.Option(help="name=value of a switch, for every tenant.")] = None,
    with_parent: WithParent = False,
) -> None:
    """A HaloPSA to test against: several tenants, faults on demand. See docs/sandbox-halopsa.md."""
    from app.sandbox.halopsa.cli import serve as serve_sandbox

    if with_parent:
        _end_with_parent()
    pairs = dict(one.partition("=")[::2] for one in switch or [])
    try:
        serve_sandbox(host, port, tenant or ["acme", "globex"], pairs)
    except (ValueError, OverflowError, OSError) as error:
        raise _fail(f"the sandbox cannot start on {host}:{port}: {error}. Choose another --port or --host.") from None


@cli.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _settings(data: Path | None = None) -> Any:
    """The settings of the environment, or of the `parhelion dev` that runs on this machine."""
    from app.core.config import ConfigurationError, environment, settings

    if "PARHELION_DATABASE_URL" not in environment():
        from app.embedded.dev import use_running_service

        if not use_running_service(data):
            raise _fail(
                "no settings, and no running `parhelion dev` to take them from.\nStart one (make run), or set "
                "PARHELION_DATABASE_URL, PARHELION_REDIS_URL and PARHELION_SECRET_KEYS (docs/operate.md)."
            )
    try:
        return settings()
    except ConfigurationError as error:
        raise _fail(f"the settings are not usable.\n{error}") from None


def main() -> None:
    """The console script. Expected failures are a sentence; only a bug shows a traceback."""
    from sqlalchemy.exc import SQLAlchemyError

    from app.core.crypto import UndecipherableError
    from app.core.errors import AppError
    from app.schema import NotMigrated

    try:
        cli(prog_name="parhelion")
    except (NotMigrated, UndecipherableError) as error:
        sys.exit(_fail(str(error)).exit_code)
    except AppError as error:
        sys.exit(_fail(f"{error.detail} {error.next_step or ''}").exit_code)
    except (SQLAlchemyError, OSError) as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()
        words = f"{type(error).__name__}: {cause[0] if cause else ''}"
        hint = "Check PARHELION_DATABASE_URL and PARHELION_REDIS_URL, and whether both servers run."
        sys.exit(_fail(f"{words}\n{hint}").exit_code)


if __name__ == "__main__":
    main()
