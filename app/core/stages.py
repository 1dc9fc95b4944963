"""Drains: loops that empty a queue when they are rung and look again on their own every few seconds.

A ring sets an event; rings that come while the drain works are kept as one. A drain never ends by an error of its
work: the error is logged and counted, and the next look comes with the next ring or sweep.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from app.core import telemetry
from app.core.logging import get_logger

log = get_logger(__name__)
Key = TypeVar("Key", bound=Hashable)


class Stage:
    """One drain loop. ``work`` does one round and says whether it found anything (then it is asked again).

    ``gather_seconds`` is waited after a round that found something, so that the next one takes more at once.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[bool]],
        *,
        sweep_seconds: float,
        gather_seconds: float = 0.0,
    ) -> None:
        self.name = name
        self._gather_seconds = gather_seconds
        self._work = work
        self._sweep_seconds = sweep_seconds
        self._rung = asyncio.Event()
        self._stopping = False

    def ring(self) -> None:
        """There may be work."""
        self._rung.set()

    @property
    def stopping(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stopping

    def stop(self) -> None:
        """End after the present round."""
        self._stopping = True
        self._rung.set()

    async def run(self) -> None:
        """Drain until :meth:`stop`."""
        while not self._stopping:
            self._rung.clear()
            try:
                while not self._stopping and await self._work():
                    if self._gather_seconds:
                        await asyncio.sleep(self._gather_seconds)
            except Exception as error:  # noqa: BLE001  the loop must outlive any round: the rows are still there
                telemetry.STAGE_ERRORS.labels(self.name).inc()
                log.error("stage.failed", stage=self.name, error=type(error).__name__, detail=str(error)[:500])
            if not self._stopping:
                await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._sweep_seconds):
                await self._rung.wait()
        except TimeoutError:
            return


class LocalDoorbell:
    """Rings the stages of this process. Names that no stage has are ignored."""

    def __init__(self) -> None:
        self._stages: dict[str, Stage] = {}

    def connect(self, stages: Mapping[str, Stage]) -> None:
        """Say which stage answers to which name."""
        self._stages.update(stages)

    def ring(self, name: str) -> None:
        """Wake the stage called ``name``."""
        stage = self._stages.get(name)
        if stage is not None:
            stage.ring()

    def ring_all(self) -> None:
        """Wake every stage."""
        for stage in self._stages.values():
            stage.ring()


class LanedStage(Generic[Key]):
    """The work of a stage split into serial lanes: one task for each key that has work, lanes side by side.

    ``due`` lists the keys with work, ``work`` does one round of a key and says whether to go on. A key that
    was due while its lane was running is looked at again when the lane ends.
    """

    def __init__(
        self,
        name: str,
        *,
        due: Callable[[], Awaitable[Iterable[Key]]],
        work: Callable[[Key], Awaitable[bool]],
        sweep_seconds: float,
        lanes_max: int = 16,
    ) -> None:
        self.stage = Stage(name, self._round, sweep_seconds=sweep_seconds)
        self._due = due
        self._work = work
        self._lanes: dict[Key, asyncio.Task[None]] = {}
        self._again: set[Key] = set()
        self._lanes_max = lanes_max

    async def _round(self) -> bool:
        for key in await self._due():
            if key in self._lanes:
                self._again.add(key)
            elif len(self._lanes) < self._lanes_max:
                self._lanes[key] = asyncio.create_task(self._lane(key), name=f"{self.stage.name} {key}")
        return False

    async def _lane(self, key: Key) -> None:
        try:
            while not self.stage.stopping and await self._work(key):
                pass
        except Exception as error:  # noqa: BLE001  one lane's trouble must not end the others; its rows are still there
            telemetry.STAGE_ERRORS.labels(self.stage.name).inc()
            log.error("lane.failed", stage=self.stage.name, error=type(error).__name__, detail=str(error)[:500])
            await asyncio.sleep(1.0)  # a lane that fails at once must not spin
        finally:
            self._lanes.pop(key, None)
            if key in self._again or len(self._lanes) == self._lanes_max - 1:
                # Rows came while the lane was ending, or another key waited for its place. Not in any other case: a
                # key that is due and has nothing to claim would spin.
                self._again.discard(key)
                self.stage.ring()

    async def run(self) -> None:
        """Drain until stopped, then wait for the lanes to finish their round."""
        await self.stage.run()
        if self._lanes:
            await asyncio.gather(*list(self._lanes.values()), return_exceptions=True)
