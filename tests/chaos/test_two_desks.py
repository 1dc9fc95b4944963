"""Two desks, the real engine, many histories: whatever happened on the way, in the end both hold the same."""

from collections.abc import Callable
from typing import Any

import pytest

from app.connectors.canonical import TicketField
from app.core import clock
from app.core.config import Settings
from app.core.crypto import Vault
from app.core.db.session import Database
from app.sync import decide
from app.sync.outbound import CommentCreate, TicketCreate
from tests.chaos.modelworld import TO_B, Hands, World, new_world

ROUNDS = 14
SEEDS = 60
EACH = 12  # histories in one test


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    """The model's clock, in the place of ours."""
    found = Hands()
    monkeypatch.setattr(clock, "now", found.now)
    return found


@pytest.fixture
def vault(settings: Settings) -> Vault:
    return Vault.from_settings(settings)


async def played(world: World, rounds: int = ROUNDS) -> list[str]:
    """Live through a history; what is wrong in the end."""
    await world.live(rounds)
    await world.settle()
    return await world.faults()


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("testdesk")
class TestConvergence:
    @pytest.mark.parametrize("first", range(0, SEEDS, EACH))
    async def test_every_history_ends_with_both_sides_equal(
        self, database: Database, vault: Vault, hands: Hands, first: int
    ) -> None:
        """Crashes after remote writes, lost answers, late lists, events that are lost, doubled and shuffled, people
        who act while we write: no ticket and no comment twice, none lost, nothing private seen, and then quiet."""
        crashes = 0
        for seed in range(first, first + EACH):
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

    async def test_the_richer_side_is_never_flattened(self, database: Database, vault: Vault, hands: Hands) -> None:
        """People at A alone, five statuses that are three at B: the hub never writes a field at A."""
        for seed in range(100, 106):
            world = await new_world(database, vault, hands, seed, people_at=("A",))
            assert await played(world) == [], f"seed {seed}"
            assert world.a.field_writes == 0, f"seed {seed}"
            assert {one.values[TicketField.STATUS] for one in world.a.tickets.values()} <= set(TO_B)
            await world.end()

    async def test_it_is_quiet_within_a_few_passes(self, database: Database, vault: Vault, hands: Hands) -> None:
        """After the last accident: what was in doubt is looked for, what was lost is polled for, and that is all."""
        for seed in range(200, 206):
            world = await new_world(database, vault, hands, seed)
            await world.live(ROUNDS)
            assert await world.settle() <= 8, f"seed {seed}"
            await world.end()


async def _blind(self: object, connector: object, commands: list[object]) -> list[None]:
    """A look that never finds anything."""
    return [None for _ in commands]


def without_ticket_look(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TicketCreate, "look", _blind)


def without_comment_look(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(CommentCreate, "look", _blind)


def without_recognising_our_own(patch: pytest.MonkeyPatch) -> None:
    real: Any = decide.to_carry
    patch.setattr("app.sync.plan.to_carry", lambda comments, *, ours: real(comments, ours=frozenset()))


@pytest.mark.slow
@pytest.mark.usefixtures("testdesk")
@pytest.mark.parametrize("ablation", [without_ticket_look, without_comment_look, without_recognising_our_own])
async def test_the_histories_can_fail(
    database: Database,
    vault: Vault,
    hands: Hands,
    monkeypatch: pytest.MonkeyPatch,
    ablation: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """Take one of its protections from the engine, and a few histories show it."""
    ablation(monkeypatch)
    for seed in range(12):
        world = await new_world(database, vault, hands, seed)
        try:
            wrong = await played(world, 8)
        except AssertionError:
            wrong = ["never quiet"]
        await world.end()
        if wrong:
            return
    raise AssertionError("twelve histories without this protection and nobody noticed")
