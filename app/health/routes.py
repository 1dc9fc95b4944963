"""Probes for orchestrators and people, and the metrics. No key is needed: nothing of a tenant is shown."""

from typing import Literal

from fastapi import APIRouter, Request, Response, status
from pydantic import BaseModel, ConfigDict, Field

from app.core import telemetry
from app.core.db.session import database_of
from app.core.errors import Unavailable
from app.core.problems import problems
from app.health import checks
from app.health.checks import Backlog, BacklogProbe, Result

router = APIRouter(tags=["health"], generate_unique_id_function=lambda route: route.name)


class Alive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Literal["ok"]


class CheckResult(BaseModel):
    """One check of readiness."""

    name: str
    ok: bool
    needed: bool = Field(description="Whether the service cannot work without it.")
    detail: str


class Readiness(BaseModel):
    """Whether this process can take requests."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "degraded",
                    "checks": [
                        {"name": "postgres", "ok": True, "needed": True, "detail": "PostgreSQL answers."},
                        {"name": "redis", "ok": False, "needed": False, "detail": "Redis does not answer."},
                    ],
                }
            ]
        }
    )

    status: Literal["ok", "degraded", "unavailable"]
    checks: list[CheckResult]


class QueueBacklog(BaseModel):
    """How far one queue is behind."""

    queue: str
    due_rows: int = Field(description="Rows that are due and not done.")
    late_rows: int = Field(description="Of these, rows that have been due for more than 5 minutes.")
    oldest_seconds: float = Field(description="How long the oldest has been due.")


class BacklogReport(BaseModel):
    """Whether the workers keep up."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "ok",
                    "queues": [{"queue": "inbox_message", "due_rows": 3, "late_rows": 0, "oldest_seconds": 0.2}],
                }
            ]
        }
    )

    status: Literal["ok", "behind"]
    queues: list[QueueBacklog]


@router.get("/health/live", summary="Is the process alive?")
async def health_live() -> Alive:
    """The event loop answers; nothing else is asked, so that a slow database does not restart every
    process."""
    return Alive(status="ok")


@router.get(
    "/health/ready",
    summary="Can this process take requests?",
    description="503 when PostgreSQL does not answer within a second. Without Redis the service is degraded but ready.",
    responses={503: {"model": Readiness, "description": "A needed part does not answer"}},
)
async def health_ready(request: Request, response: Response) -> Readiness:
    """Every part this process depends on, with its verdict."""
    results: list[Result] = [
        await checks.check_database(database_of(request)),
        await checks.check_redis(getattr(request.app.state, "redis", None)),
    ]
    ready = all(one.ok for one in results if one.needed)
    if not ready:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    degraded = not all(one.ok for one in results)
    return Readiness(
        status="unavailable" if not ready else "degraded" if degraded else "ok",
        checks=[CheckResult(name=one.name, ok=one.ok, needed=one.needed, detail=one.detail) for one in results],
    )


@router.get(
    "/health/backlog",
    summary="Are the workers keeping up?",
    description="503 when more than 10 rows of any queue have been due for more than 5 minutes.",
    responses={
        **problems(Unavailable),
    },
)
async def health_backlog(request: Request, response: Response) -> BacklogReport:
    """How far each queue is behind."""
    probes: list[BacklogProbe] = getattr(request.app.state, "backlog_probes", [])
    found: list[Backlog] = await checks.measure(probes)
    fine = checks.keeping_up(found)
    if not fine:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return BacklogReport(
        status="ok" if fine else "behind",
        queues=[
            QueueBacklog(
                queue=one.queue,
                due_rows=one.due_rows,
                late_rows=one.late_rows,
                oldest_seconds=one.oldest_seconds,
            )
            for one in found
        ],
    )


@router.get(
    "/metrics",
    summary="Prometheus metrics of this process",
    description="Counts and times only: no id, no name, nothing of a tenant.",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics() -> Response:
    """The metrics in the Prometheus text format."""
    return Response(telemetry.render(), media_type=telemetry.CONTENT_TYPE)
