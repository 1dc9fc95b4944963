"""Reading and writing trails, against a HaloPSA on a socket: visibility, order, markers, completeness."""

from datetime import timedelta
from typing import Any

import pytest

from app.connectors.canonical import CommentKind, DeskError, ErrorClass, Visibility, Written
from app.connectors.halopsa import markers
from app.core import clock
from tests.connectors.halopsa.rig import AGENT, Rig, deferred, note, refused, rigged, written
from tests.connectors.halopsa.test_tickets import SWITCHES


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: ",".join(f"{k}={v}" for k, v in s.items()))
async def test_comments_are_written_read_and_found_under_every_switch(switches: dict[str, Any]) -> None:
    async with rigged(switches=switches) as rig:
        desk = rig.halo.desk
        first, second = rig.human_ticket(), rig.human_ticket()
        human = rig.human_note(first, "Have you tried water?", hiddenfromuser=False)
        secret = rig.human_note(first, "The user is lying.", hiddenfromuser=True)
        drafts = [
            note(1, first),
            note(2, first, visibility=Visibility.PRIVATE, text="Line one\nLine <two> & 'more'"),
            note(3, second),
            note(4, first),
        ]
        ids = [one.native_id for one in written(await desk.add_comments(drafts))]
        assert [one.partition(":")[0] for one in ids] == [first, first, second, first]
        assert rig.calls("POST /Actions") <= 3

        window = await desk.read_comments([first, second], None)
        assert window.complete_for == {first, second}
        read = {one.native_id: one for one in window.comments if one.kind is CommentKind.COMMENT}
        assert set(read) == {human, secret, *ids}
        assert read[human].visibility is Visibility.PUBLIC
        assert read[secret].visibility is Visibility.PRIVATE
        assert [read[one].visibility for one in ids] == [one.visibility for one in drafts]
        assert "Line one\nLine <two> & 'more'" in read[ids[1]].text
        assert not read[human].markers

        for place, one in enumerate(drafts[1:], start=1):
            found = await rig.find_comment(one.marker, one.ticket_id)
            assert found == ids[place], f"comment {place} is not found by its marker"
        assert await rig.find_comment("PHL-note-none", first) is None
        assert await rig.find_comment(drafts[1].marker, second) is None


async def test_where_no_hidden_marker_survives_the_next_ones_are_visible() -> None:
    async with rigged(switches={"keep_hidden_span": False, "external_links": "not_kept"}) as rig:
        ticket_id = rig.human_ticket()
        written(await rig.halo.desk.add_comments([note(1, ticket_id)]))
        written(await rig.halo.desk.add_comments([note(2, ticket_id)]))
        assert rig.actions_of(ticket_id)[1]["note"] == "Note 2\n[ref:PHL-note-0002]"


async def test_the_original_date_is_kept_where_it_is_taken() -> None:
    for mode, kept in (("accepted", True), ("ignored", False), ("refused", False)):
        async with rigged(switches={"action_dates": mode}) as rig:
            ticket_id = rig.human_ticket()
            drafts = [note(n, ticket_id, minutes_ago=300) for n in range(10)]
            written(await rig.halo.desk.add_comments(drafts))
            window = await rig.halo.desk.read_comments([ticket_id], None)
            dated = [one.created_at for one in window.comments if one.kind is CommentKind.COMMENT]
            assert (dated == [one.created_at for one in drafts]) is kept
            assert rig.calls("POST /Actions") == (3 if mode == "refused" else 2)


@pytest.mark.parametrize("kept", [0, 1, 4, 9])
@pytest.mark.parametrize("links", ["on", "not_kept", "forbidden"])
async def test_a_half_saved_array_of_comments_writes_none_twice_and_keeps_the_order(kept: int, links: str) -> None:
    async with rigged(switches={"external_links": links}) as rig:
        tickets = [rig.human_ticket() for _ in range(3)]
        written(await rig.halo.desk.add_comments([note(99, rig.human_ticket())]))  # the one that tells
        rig.world.faults.add({"match": {"method": "POST", "path": "/Actions"}, "effect": {"partial_batch": kept}})
        drafts = [note(n, tickets[n % 3]) for n in range(10)]
        results = written(await rig.halo.desk.add_comments(drafts))
        assert [one.key for one in results] == [one.key for one in drafts]
        for place, ticket_id in enumerate(tickets):
            expected = [one.text for one in drafts if one.ticket_id == ticket_id]
            assert [row["note"] for row in rig.actions_of(ticket_id)] == expected, place


async def test_after_a_refused_comment_the_later_ones_of_its_ticket_wait_and_others_do_not(rig: Rig) -> None:
    blocked, free = rig.human_ticket(tickettype_id=7), rig.human_ticket()
    drafts = [
        note(1, blocked),
        note(2, free),
        note(3, blocked, outcome="4444"),
        note(4, blocked),
        note(5, free),
    ]
    results = await rig.halo.desk.add_comments(drafts)
    assert [isinstance(one, Written) for one in results] == [True, True, False, False, True]
    assert refused(results[2]).error is ErrorClass.VALIDATION
    assert not deferred(results[3]).perhaps_done
    assert [row["note"] for row in rig.actions_of(blocked)] == ["Note 1"]
    assert [row["note"] for row in rig.actions_of(free)] == ["Note 2", "Note 5"]


async def test_an_outcome_that_the_workflow_forbids_falls_back_to_the_usual_one(rig: Rig) -> None:
    ticket_id = rig.human_ticket(tickettype_id=7)
    results = written(await rig.halo.desk.add_comments([note(1, ticket_id, outcome="11"), note(2, ticket_id)]))
    assert [row["outcome_id"] for row in rig.actions_of(ticket_id)] == [10, 10]
    assert len(results) == 2


async def test_a_lost_answer_leaves_every_comment_in_doubt_and_each_is_found(rig: Rig) -> None:
    ticket_id = rig.human_ticket()
    await rig.halo.desk.add_comments([note(0, ticket_id)])
    rig.world.faults.add({"match": {"method": "POST", "path": "/Actions"}, "effect": {"timeout_after_write": True}})
    drafts = [note(1, ticket_id), note(2, ticket_id)]
    assert all(deferred(one).perhaps_done for one in await rig.halo.desk.add_comments(drafts))
    for one in drafts:
        assert await rig.find_comment(one.marker, ticket_id)
    assert [row["note"] for row in rig.actions_of(ticket_id)] == ["Note 0", "Note 1", "Note 2"]


async def test_nothing_mails_the_end_user_and_private_stays_private_with_any_outcome(rig: Rig) -> None:
    ticket_id = rig.human_ticket()
    outcomes = ["7", "10", "11", "15", "17", "Some text of its own"]
    drafts = [note(n, ticket_id, visibility=Visibility.PRIVATE, outcome=outcome) for n, outcome in enumerate(outcomes)]
    written(await rig.halo.desk.add_comments(drafts))
    rows = rig.actions_of(ticket_id)
    assert len(rows) == len(outcomes)
    assert all(row["hiddenfromuser"] for row in rows)
    assert not any(row["sendemail"] for row in rows)


async def test_a_comment_made_visible_against_our_word_is_hidden_at_once(rig: Rig) -> None:
    ticket_id = rig.human_ticket()
    shown = {"id": 2, "ticket_id": int(ticket_id), "hiddenfromuser": False, "note": "Note 1"}
    rig.human_note(ticket_id, "Note 1", hiddenfromuser=False)  # what an outcome of its own mind leaves behind
    rig.world.faults.add({"match": {"method": "POST", "path": "/Actions"}, "effect": {"status": 201, "body": shown}})
    result = await rig.halo.desk.add_comments([note(1, ticket_id, visibility=Visibility.PRIVATE)])
    assert written(result)[0].native_id == f"{ticket_id}:2"
    assert [row["hiddenfromuser"] for row in rig.actions_of(ticket_id)] == [True]


async def test_a_comment_that_cannot_be_hidden_is_removed_and_refused(rig: Rig) -> None:
    ticket_id = rig.human_ticket()
    shown = {"id": 2, "ticket_id": int(ticket_id), "hiddenfromuser": False, "note": "Note 1"}
    rig.human_note(ticket_id, "Note 1", hiddenfromuser=False)
    rig.world.faults.add(
        {
            "match": {"method": "POST", "path": "/Actions"},
            "effect": {"status": 201, "body": shown},
            "times": 2,
        }
    )
    results = await rig.halo.desk.add_comments([note(1, ticket_id, visibility=Visibility.PRIVATE)])
    assert "removed" in refused(results[0]).detail
    assert rig.actions_of(ticket_id) == []


async def test_many_young_trails_are_one_call(rig: Rig) -> None:
    ids = [rig.human_ticket() for _ in range(30)]
    for one in ids:
        rig.human_note(one, f"About {one}")
    since = clock.now() - timedelta(hours=1)
    before = rig.total_calls()
    window = await rig.halo.desk.read_comments(ids, since)
    assert rig.total_calls() - before == 1
    assert window.complete_for == set(ids)
    assert [one.text for one in window.comments if one.kind is CommentKind.COMMENT] == [f"About {one}" for one in ids]


async def test_an_older_since_reads_each_trail_and_leaves_older_entries_out(rig: Rig) -> None:
    with clock.shifted(timedelta(days=-5)):
        ids = [rig.human_ticket() for _ in range(3)]
        rig.human_note(ids[0], "Old")
    rig.human_note(ids[0], "New")
    window = await rig.halo.desk.read_comments(ids, clock.now() - timedelta(days=2))
    assert window.complete_for == set(ids)
    assert [one.text for one in window.comments] == ["New"]


async def test_a_long_window_is_read_in_parts_until_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.connectors.halopsa.reading._ACTIONS_PER_CALL", 7)
    async with rigged() as rig:
        ids = []
        for minutes in range(60, 20, -1):
            with clock.shifted(timedelta(minutes=-minutes)):
                ids.append(rig.human_ticket())
                rig.human_note(ids[-1], f"About {ids[-1]}")
        since = clock.now() - timedelta(hours=2)
        window = await rig.halo.desk.read_comments(ids, since)
        assert window.complete_for == set(ids)
        assert {one.ticket_id for one in window.comments if one.kind is CommentKind.COMMENT} == set(ids)
        recent = await rig.halo.desk.recent_comments(since)
        assert recent.complete_for == set(ids)


async def test_a_window_that_cannot_be_read_whole_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.connectors.halopsa.reading._ACTIONS_PER_CALL", 3)
    async with rigged() as rig:
        with clock.shifted(timedelta(minutes=-1)):
            ids = [rig.human_ticket() for _ in range(9)]
        for row in rig.world.tickets.by_id.values():  # nine entries in one second, three per answer
            for action in row.actions.values():
                action.values["datetime"] = clock.now().replace(microsecond=0)
        window = await rig.halo.desk.read_comments(ids, clock.now() - timedelta(hours=2))
        assert window.complete_for == frozenset()


async def test_the_opening_and_the_systems_own_entries_are_not_comments(rig: Rig) -> None:
    ticket_id = rig.human_ticket()
    rig.world.act("POST", "/Tickets", agent_id=AGENT, body=[{"id": int(ticket_id), "status_id": 2}])
    window = await rig.halo.desk.read_comments([ticket_id], None)
    assert window.complete_for == {ticket_id}
    assert [one.kind for one in window.comments] == [CommentKind.SYSTEM]


async def test_a_marker_inside_a_quotation_is_not_ours(rig: Rig) -> None:
    ticket_id = rig.human_ticket()
    written(await rig.halo.desk.add_comments([note(1, ticket_id)]))
    quoted = f"Thanks!<blockquote>{markers.markup('Note 1', 'PHL-note-0001')}</blockquote>"
    human = rig.human_note(ticket_id, "Thanks!", note_html=quoted)
    window = await rig.halo.desk.read_comments([ticket_id], None)
    by_id = {one.native_id: one for one in window.comments}
    assert by_id[human].markers == ()
    found = await rig.find_comment("PHL-note-0001", ticket_id)
    assert found == f"{ticket_id}:2"


async def test_a_trail_that_cannot_be_read_raises(rig: Rig) -> None:
    ticket_id = rig.human_ticket()
    rig.world.faults.add({"match": {"path": "/Actions"}, "effect": {"status": 403}, "times": None})
    with pytest.raises(DeskError) as caught:
        await rig.halo.desk.read_comments([ticket_id], None)
    assert caught.value.error is ErrorClass.PERMISSION
    with pytest.raises(DeskError):
        await rig.find_comment("PHL-note-0001", ticket_id)


async def test_a_comment_on_a_ticket_that_is_gone_is_refused_as_not_found(rig: Rig) -> None:
    ticket_id = rig.human_ticket()
    rig.world.act("DELETE", f"/Tickets/{ticket_id}", agent_id=AGENT)
    results = await rig.halo.desk.add_comments([note(1, ticket_id), note(2, "no number")])
    assert [refused(one).error for one in results] == [ErrorClass.NOT_FOUND, ErrorClass.NOT_FOUND]


async def test_authors_are_told_apart(rig: Rig) -> None:
    ticket_id = rig.human_ticket(user_id=next(iter(rig.world.users)))
    rig.human_note(ticket_id, "By an agent")
    user = next(row for row in rig.world.users.values() if row["name"] != "General User")
    rig.world.act(
        "POST",
        "/Actions",
        user_id=user["id"],
        body=[{"ticket_id": int(ticket_id), "outcome_id": 17, "note": "By a user"}],
    )
    written(await rig.halo.desk.add_comments([note(1, ticket_id, minutes_ago=-1)]))
    window = await rig.halo.desk.read_comments([ticket_id], None)
    by_text = {one.text: one.author for one in window.comments}
    assert by_text["By an agent"].is_agent
    assert by_text["By an agent"].native_id == str(AGENT)
    assert not by_text["By a user"].is_agent
    assert by_text["By a user"].native_id == str(user["id"])
    assert by_text["Note 1"] == (await rig.halo.desk.identity()) or (
        by_text["Note 1"].native_id == (await rig.halo.desk.identity()).native_id
    )


async def test_versions_that_count_their_own_entries_into_the_total_are_not_taken_for_cut(rig: Rig) -> None:
    ticket_id = rig.human_ticket()
    rig.human_note(ticket_id, "The only one")
    counted = {"record_count": 9, "actions": []}
    rig.world.faults.add({"match": {"path": "/Actions"}, "effect": {"status": 200, "body": counted}})
    for calls in (2, 1):
        before = rig.total_calls()
        window = await rig.halo.desk.read_comments([ticket_id], None)
        assert window.complete_for == {ticket_id}
        assert [one.text for one in window.comments if one.kind is CommentKind.COMMENT] == ["The only one"]
        assert rig.total_calls() - before == calls


async def test_nothing_raises_after_something_was_sent(rig: Rig) -> None:
    ticket_id = rig.human_ticket(tickettype_id=7)
    rig.world.faults.add({"match": {"path": "/Outcome"}, "effect": {"status": 403}, "times": None})
    results = await rig.halo.desk.add_comments([note(1, ticket_id, outcome="11"), note(2, ticket_id, outcome="10")])
    assert refused(results[0]).error is ErrorClass.WORKFLOW_BLOCKED
    assert not deferred(results[1]).perhaps_done
    with pytest.raises(DeskError):
        await rig.halo.desk.add_comments([note(3, ticket_id)])
    assert rig.actions_of(ticket_id) == []
