"""Two desks, the real engine, many histories: whatever happened on the way, in the end both hold the same."""

from collections.abc import Iterator

import pytest

from app.core import clock
from app.core.config import Settings
from app.core.crypto import Vault
from app.core.db.session import Database
from tests.chaos.modelworld import Hands, World, new_world

ROUNDS = 14
SEEDS = 24


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hands]:
    """The model's clock, in the place of ours."""
    found = Hands()
    monkeypatch.setattr(clock, "now", found.now)
    yield found


@pytest.fixture
def vault(settings: Settings) -> Vault:
    return Vault.from_settings(settings)


async def played(world: World, rounds: int = ROUNDS) -> list[str]:
    """Live through a history; what is wrong in the end."""
    await world.live(rounds)
    await world.settle()
    return await world.faults()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("testdesk")
class TestConvergence:
    @pytest.mark.parametrize("first", range(0, SEEDS, 6))
    async def test_every_history_ends_with_both_sides_equal(
        self, database: Database, vault: Vault, hands: Hands, first: int
    ) -> None:
        """Crashes after remote writes, lost answers, late lists, events that are lost, doubled and shuffled, people
        who act while we write: no ticket and no comment twice, none lost, nothing private seen, and then quiet."""
        crashes = 0
        for seed in range(first, first + 6):
            world = await new_world(database, vault, hands, seed)
            assert await played(world) == [], f"seed {seed}"
            crashes += world.crashes
            before = world.writes
            for _ in range(2):
                hands.pass_by(30)
                await world.deliver(all_of_them=True)
                await world.work(poll=True)
            assert world.writes == before, f"seed {seed}: the hub goes on writing"
            await world.end()
        assert crashes > 5, "the accidents did not happen, so nothing was tried"
