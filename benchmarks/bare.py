"""What durable ingest is compared with: a FastAPI route that answers 202 and stores nothing.

Served as ``parhelion serve`` is: one uvicorn process, uvloop and httptools where installed, no access log.
"""

import argparse

import uvicorn
from fastapi import FastAPI, Request, Response

from benchmarks.children import end_with_parent


def create_bare() -> FastAPI:
    """The application: the body is read, as any receiver of webhooks must, and dropped."""
    app = FastAPI()

    @app.post("/hooks/{connection_id}", status_code=202)
    async def receive(connection_id: str, request: Request) -> Response:
        await request.body()
        return Response(b'{"accepted":1,"duplicates":0}', status_code=202, media_type="application/json")

    return app


def main() -> None:
    """Serve until the parent goes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port: int = parser.parse_args().port
    end_with_parent()
    uvicorn.run(
        create_bare(),
        host="127.0.0.1",
        port=port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=30,
        server_header=False,
        date_header=True,
    )


if __name__ == "__main__":
    main()
