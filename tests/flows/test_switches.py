"""The main story under every habit that a HaloPSA may have, at both sides at once."""

import asyncio
from dataclasses import fields
from typing import Any

import pytest

from app.sandbox.halopsa.switches import Switches
from tests.support.comparing import differences
from tests.support.stage import Pair, Stage

# Every value of a switch that may concern the story, but the default. Several at once are one HaloPSA.
HABITS: dict[str, dict[str, Any]] = {
    "tokens that end each other": {"new_token_revokes_old": True, "token_lifetime_seconds": 1},
    "metered log-ins": {"auth_is_metered": True},
    "answers 200": {"post_status": 200},
    "always arrays": {"always_array": True},
    "strict updates": {"strict_updates": True},
    "batches one by one": {"batch_atomic": False},
    "matches third parties": {"match_third_party": True},
    "keeps blanks": {"trim_text": False},
    "capital teams": {"uppercase_team": True},
    "templates": {"apply_templates": True},
    "asks about teams": {"agent_team_prompt": True},
    "closes by outcome only": {"close_requires_outcome": True},
    "drops hidden markers": {"keep_hidden_span": False},
    "its own authors": {"accept_who": False},
    "its own dates": {"action_dates": "ignored"},
    "refuses dates": {"action_dates": "refused"},
    "still tickets": {"action_moves_last_update": False},
    "files move tickets": {"attachment_moves_last_update": True},
    "drops links": {"external_links": "not_kept"},
    "forbids links": {"external_links": "forbidden"},
    "drops links and markers": {"external_links": "not_kept", "keep_hidden_span": False},
    "short lists": {"default_list_size": 1, "page_size_cap": 2},
    "short actions": {"actions_default_count": 2},
    "windows by creation": {"actions_window_by": "created"},
    "exclusive windows": {"update_window": "exclusive"},
    "bare agents": {"agent_list_always_bare": True},
    "missing is 400": {"missing_id": "400"},
    "missing is empty": {"missing_id": "200_empty"},
    "clean ids": {"clean_ids": True},
    "null dates": {"null_dates": "null"},
    "zulu dates": {"date_style": "z"},
    "aliases everywhere": {"alias_fields": "all"},
    "no aliases": {"alias_fields": "none"},
    "other errors": {"error_shape": "rotating"},
    "full payloads": {"payload": "full", "action_key": "actions"},
    "small payloads": {"payload": "small"},
    "bare events": {"payload": "event_only"},
    "no action in payloads": {"action_key": "none"},
    "tight signatures": {"hmac_space_after_prefix": False},
    "quiet flags": {"quiet_flags_silence_webhooks": True},
    "one delivery at a time": {"delivery_workers": 1},
    "slow deliveries": {"delivery_delay_ms": 150},
    "new ids when sent again": {"resend_keeps_id": False},
    "switches webhooks off": {"auto_disable_after": 3},
}
# What has nothing to do with tickets, or is the subject of other tests.
ELSEWHERE = {
    "attachment_content": "files are not carried",
    "bad_tenant_is_500": "test_mistakes",
    "closed_status_ids": "below: it needs a word in the connection",
    "delivery_retries": "one delivery is as good as two",
    "delivery_retry_delay_ms": "the same",
    "delivery_timeout_seconds": "a patience, not a habit",
    "rate_limit": "test_regressions",
    "rate_window_seconds": "test_regressions",
    "rate_limit_header": "test_regressions",
    "rate_limit_off": "on in every story but those",
}


def test_no_switch_is_forgotten() -> None:
    told = {name for habit in HABITS.values() for name in habit}
    assert told | set(ELSEWHERE) == {item.name for item in fields(Switches)}


async def story(stage: Stage, pair: Pair) -> None:
    """Birth, talk, status, words, closing, reopening."""
    source, target = pair.desks
    born = source.new_ticket("  Printer  is on fire ", priority_id=2)
    twin = await stage.twin(pair, born)
    source.say(born, "one")
    target.say(twin, "two")
    source.say(born, "a secret of acme", hidden=True)
    target.say(twin, "a secret of globex", hidden=True)
    source.change(born, status_id=2, summary="Printer burns")
    await stage.settled()
    source.say(born, "three")
    target.resolve(twin, "solved")
    await stage.settled()
    source.reopen(born, "again")
    target.say(twin, "five")
    await stage.settled()


def judged(pair: Pair) -> list[str]:
    wrong = differences(pair.source, pair.target, ["Printer burns"])
    # "its own dates" and the like may change when a note says it was written, never which notes there are.
    for desk in pair.desks:
        spoken = sorted(note.said for note in desk.notes(desk.tickets[0]))
        if spoken != ["again", "five", "one", "solved", "three", "two"]:
            wrong.append(f"{desk.name} holds {spoken}")
    return wrong


GROUPS = [list(HABITS)[start : start + 11] for start in range(0, len(HABITS), 11)]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[0])
async def test_the_story_holds_whatever_the_habit(stage: Stage, group: list[str]) -> None:
    """Every habit in a story of its own; those of a group are told at the same time."""
    pairs = {name: await stage.pair(switches=HABITS[name]) for name in group}
    await asyncio.gather(*(story(stage, pair) for pair in pairs.values()))
    writes = {name: [desk.writes() for desk in pair.desks] for name, pair in pairs.items()}
    await stage.poll()
    assert {name: found for name, pair in pairs.items() if (found := judged(pair))} == {}
    again = {name: [desk.writes() for desk in pair.desks] for name, pair in pairs.items()}
    assert again == writes, "the hub answers its own writes"


async def test_other_statuses_that_close(stage: Stage) -> None:
    """A HaloPSA where Resolved closes as well, and a connection that says so."""
    source, target = stage.desk("acme", closed_status_ids=(8, 9)), stage.desk("globex", closed_status_ids=(8, 9))
    made = [await stage.create(desk, config={"closed_status_ids": [8, 9]}) for desk in (source, target)]
    for one in made:
        assert (await stage.test(one["id"]))["state"] == "active"
        await stage.api.post(f"/v1/connections/{one['id']}/webhooks")
    relationship = await stage.relate(made[0]["id"], made[1]["id"])
    pair = Pair(source, target, made[0]["id"], made[1]["id"], relationship)
    born, twin = await stage.twins(pair)
    source.change(born, status_id=8)
    await stage.settled()
    assert target.field(twin, "status_id") == 8
