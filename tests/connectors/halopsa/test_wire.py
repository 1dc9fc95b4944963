"""Reading HaloPSA's values in all their spellings, and the texts of its refusals. Pure."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.connectors.canonical import CommentKind, ErrorClass, TicketField, Visibility
from app.connectors.halopsa import mapping, markers, refusals, wire
from app.core import clock
from app.core.http.outcome import of_status

CLOSED = frozenset({9})

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3),
        (3.0, 3),
        ("3", 3),
        ("3.0", 3),
        (" 3 ", 3),
        (3.5, None),
        ("", None),
        (None, None),
        (True, None),
        ("x", None),
        ([], None),
    ],
)
def test_ids_in_their_spellings(value: Any, number: int | None) -> None:
    assert wire.whole(value) == number


@pytest.mark.parametrize("value", [0, -1, "0", None])
def test_zero_and_negative_ids_mean_none(value: Any) -> None:
    assert wire.identifier(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-02-10T00:00:00", datetime(2026, 2, 10, tzinfo=UTC)),
        ("2026-02-10T08:09:10.5", datetime(2026, 2, 10, 8, 9, 10, 500_000, tzinfo=UTC)),
        ("2026-02-10T08:09:10.1234567Z", datetime(2026, 2, 10, 8, 9, 10, 123_456, tzinfo=UTC)),
        ("2026-02-10T08:09:10+02:00", datetime(2026, 2, 10, 6, 9, 10, tzinfo=UTC)),
        ("2026-02-10", datetime(2026, 2, 10, tzinfo=UTC)),
        ("1900-01-01T00:00:00", None),
        ("1980-12-31T00:00:00", None),
        ("0001-01-01T00:00:00Z", None),
        ("tomorrow morning", None),
        ("9999-12-31T23:59:59-01:00", None),
        ("", None),
        (None, None),
        (20260210, None),
    ],
)
def test_times_in_their_spellings(value: Any, expected: datetime | None) -> None:
    assert wire.moment(value) == expected


def test_a_time_is_sent_as_utc_to_the_second() -> None:
    assert wire.sent(datetime.fromisoformat("2026-02-10T08:09:10.9+02:00")) == "2026-02-10T06:09:10Z"


@pytest.mark.parametrize(
    ("payload", "count"),
    [
        ([{"id": 1}], 1),
        ({"record_count": 1, "tickets": [{"id": 1}]}, 1),
        ({"results": [{"id": 1}, {"id": 2}]}, 2),
        ({"record_count": 0}, 0),
        ({}, 0),
        (None, 0),
        ([], 0),
        ([None, "x"], 0),
    ],
)
def test_lists_in_their_envelopes(payload: Any, count: int) -> None:
    assert len(wire.rows(payload, "tickets")) == count


@pytest.mark.parametrize("payload", [{"error": "no"}, "text", 7, {"assets": []}, {"record_count": 3}])
def test_something_else_is_never_an_empty_list(payload: Any) -> None:
    with pytest.raises(wire.NotAnObject):
        wire.rows(payload, "tickets")


TICKET = {
    "id": 311.0,
    "summary": "Printer on fire",
    "details": "It burns.",
    "status_id": "9",
    "priority_id": 2.0,
    "tickettype_id": 1,
    "client_id": "2.0",
    "last_update": "2026-11-03T08:15:29",
    "dateoccurred": "2026-11-03T08:00:00",
    "user_name": "Iris Quill",
    "user_id": 4,
    "useremail": "iris@client.example",
    "third_party_id_string": "PHL-abc-1",
    "external_links": [
        {"integration_name": "parhelion", "third_party_id": "PHL-abc-2"},
        {"integration_name": "Jira", "third_party_id": "J-1"},
        {"module_id": 18},
    ],
    "merged_into_id": 0,
    "something_new": {"a": 1},
}


def test_a_ticket_is_read_from_any_spelling() -> None:
    ticket = mapping.ticket(TICKET, CLOSED)
    assert ticket.native_id == "311"
    assert ticket.values == {
        TicketField.SUMMARY: "Printer on fire",
        TicketField.DESCRIPTION: "It burns.",
        TicketField.STATUS: "9",
        TicketField.PRIORITY: "2",
    }
    assert ticket.closed
    assert ticket.context == {"tickettype_id": "1", "client_id": "2"}
    assert ticket.markers == ("PHL-abc-2", "PHL-abc-1")
    assert ticket.foreign_links == ("Jira", "module 18")
    assert ticket.requester is not None
    assert ticket.requester.email == "iris@client.example"
    assert ticket.merged_into is None
    assert not ticket.deleted


def test_a_missing_member_is_unknown_and_not_empty() -> None:
    assert mapping.ticket({"id": 1, "summary": "x"}, CLOSED).values == {TicketField.SUMMARY: "x"}
    with pytest.raises(ValueError, match="without an id"):
        mapping.ticket({"summary": "x"}, CLOSED)


@given(st.dictionaries(st.sampled_from([*TICKET, "deleted", "inactive", "lastupdate", "details_html"]), json_values))
def test_no_ticket_of_any_form_breaks_the_reader(row: dict[str, Any]) -> None:
    ticket = mapping.ticket({**row, "id": 7}, CLOSED)
    assert ticket.native_id == "7"
    assert all(isinstance(value, str) for value in ticket.values.values())


ACTION_MEMBERS = [
    "note", "note_html", "hiddenfromuser", "who", "who_type", "who_agentid", "actionby_user_id", "datetime",
    "actiondatecreated", "timetaken", "action_systemid", "outcome_id", "external_links", "new_external_link",
]  # fmt: skip


@given(st.dictionaries(st.sampled_from(ACTION_MEMBERS), json_values))
def test_no_action_of_any_form_breaks_the_reader_or_becomes_public_by_accident(row: dict[str, Any]) -> None:
    comment = mapping.comment({**row, "id": 2, "ticket_id": 1})
    assert comment is not None
    if comment.visibility is Visibility.PUBLIC:
        hidden = row["hiddenfromuser"]
        assert hidden == 0 or str(hidden).strip().lower() in ("false", "0", "no")


@pytest.mark.parametrize(
    ("hidden", "visibility"),
    [
        (False, Visibility.PUBLIC),
        ("false", Visibility.PUBLIC),
        (0, Visibility.PUBLIC),
        (True, Visibility.PRIVATE),
        ("true", Visibility.PRIVATE),
        (1, Visibility.PRIVATE),
        (None, Visibility.PRIVATE),
        ("perhaps", Visibility.PRIVATE),
        ("", Visibility.PRIVATE),
        ([], Visibility.PRIVATE),
        ({}, Visibility.PRIVATE),
    ],
)
def test_unknown_visibility_is_private(hidden: Any, visibility: Visibility) -> None:
    comment = mapping.comment({"ticket_id": 1, "id": 2, "note": "x", "hiddenfromuser": hidden})
    assert comment is not None
    assert comment.visibility is visibility
    bare = mapping.comment({"ticket_id": 1, "id": 2, "note": "x"})
    assert bare is not None
    assert bare.visibility is Visibility.PRIVATE


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"id": 1, "note": "The opening text"}, CommentKind.SYSTEM),
        ({"id": 2, "note": "Status changed", "action_systemid": 2}, CommentKind.SYSTEM),
        ({"id": 2, "note": "Hello", "timetaken": 0.5}, CommentKind.COMMENT),
        ({"id": 2, "note": "", "timetaken": 0.5}, CommentKind.TIME_ENTRY),
        ({"id": 2, "note": "", "timetaken": 0}, CommentKind.COMMENT),
    ],
)
def test_what_an_action_is(row: dict[str, Any], kind: CommentKind) -> None:
    comment = mapping.comment({"ticket_id": 1, **row})
    assert comment is not None
    assert comment.kind is kind


def test_an_action_without_a_ticket_or_an_id_is_nothing() -> None:
    assert mapping.comment({"id": 2, "note": "x"}) is None
    assert mapping.comment({"ticket_id": 2, "note": "x"}) is None


def test_html_becomes_text() -> None:
    markup = "<style>p{}</style><p>Hello&nbsp;<b>you</b> &amp; me</p><p>Second<br>third</p>"
    assert (
        wire.plain(markup) == "Hello you & me\n\nSecond\nthird" or wire.plain(markup) == "Hello you & me\nSecond\nthird"
    )
    comment = mapping.comment({"ticket_id": 1, "id": 2, "note_html": "<div>Only HTML</div>"})
    assert comment is not None
    assert comment.text == "Only HTML"


MARKER = "PHL-0123456789abcdef0123-fedcba9876543210"


def test_a_hidden_marker_is_found_again_whatever_the_text() -> None:
    for text in ("", "plain", "a < b & c", "line\nline", f"[ref:{MARKER}x] not at the end\nend"):
        assert markers.in_texts("", markers.markup(text, MARKER)) == (MARKER,)
        assert markers.in_texts(markers.with_last_line(text, MARKER), "") == (MARKER,)


@pytest.mark.parametrize(
    "markup",
    [
        "Thanks!<blockquote>{0}</blockquote>",
        '<div>New</div><div class="gmail_quote">{0}</div>',
        "{0}<p>and more words</p>",
        '<span data-parhelion="&quot;><script>" style="display:none"></span>',
        '<span data-parhelion="" style="display:none"></span>',
    ],
)
def test_a_quoted_or_broken_marker_is_not_ours(markup: str) -> None:
    assert markers.in_texts("", markup.format(markers.markup("old", MARKER))) == ()


@pytest.mark.parametrize("note", [f"> old\n> [ref:{MARKER}]", f"[ref:{MARKER}]\nnew words", f"see [ref:{MARKER}]"])
def test_a_marker_line_counts_only_as_the_last_line_by_itself(note: str) -> None:
    assert markers.in_texts(note, "") == ()


@given(st.text(max_size=200), st.text(max_size=200))
def test_no_text_breaks_the_search_for_markers(note: str, markup: str) -> None:
    assert isinstance(markers.in_texts(note, markup), tuple)


# One body for each of the known error shapes (HaloPSA wire contract, errors).
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("text", "text"),
        ({"error": "text"}, "text"),
        ({"error": {"error_description": "text"}}, "text"),
        ({"error": "invalid_client", "error_description": "text"}, "text"),
        ({"ClassName": "System.Exception", "Message": "text"}, "text"),
        ({"Message": "text"}, "text"),
        ({"resultCode": 4, "errorMessage": "text"}, "text"),
        ({"id": ["The value 'x' is not valid."]}, "id: The value 'x' is not valid."),
        ({"[0].id": ["one", "two"]}, "[0].id: one two"),
        ({"title": "One or more", "status": 400, "errors": {"id": ["bad"]}}, "One or more: id: bad"),
        ([{"error": "text"}, "more"], "text; more"),
        ({}, ""),
        (None, ""),
        (7, ""),
    ],
)
def test_each_error_shape_is_read(body: Any, said: str) -> None:
    assert refusals.explain(orjson.dumps(body)) == said


def test_other_bodies_are_read_as_far_as_they_go() -> None:
    assert refusals.explain(b"") == ""
    assert refusals.explain(b"<!DOCTYPE html><html>secret page</html>") == ""
    assert refusals.explain(b"\xff\xfe broken") != ""
    assert len(refusals.explain(b"x" * 100_000)) == 500


@given(st.binary(max_size=300) | json_values.map(lambda value: repr(value).encode()))
def test_no_body_breaks_the_reader_of_errors(body: bytes) -> None:
    assert len(refusals.explain(body)) <= 500


@pytest.mark.parametrize(
    ("status", "said", "error", "advice"),
    [
        (400, "Record not found", ErrorClass.NOT_FOUND, "deleted"),
        (404, "", ErrorClass.NOT_FOUND, "deleted"),
        (400, "An Outcome must be entered for this Action", ErrorClass.REQUIRED_FIELD, "outcome"),
        (400, "Details and Category were required", ErrorClass.REQUIRED_FIELD, "defaults"),
        (400, "CODE:APP03/2 Please select the CAB members to approve", ErrorClass.REQUIRED_FIELD, "defaults"),
        (400, "Outcome 44 was not found", ErrorClass.VALIDATION, "Correct"),
        (403, "You do not have access to this Action at the moment", ErrorClass.WORKFLOW_BLOCKED, "outcome"),
        (403, "", ErrorClass.PERMISSION, "edit:tickets"),
        (413, "", ErrorClass.TOO_LARGE, "smaller"),
        (401, "", ErrorClass.AUTH, "secret"),
        (429, "Rate Limit Reached", ErrorClass.RATE, "Nothing to do"),
        (500, "Object reference not set", ErrorClass.UNAVAILABLE, "Nothing to do"),
        (302, "", ErrorClass.MISCONFIGURED, "redirects"),
    ],
)
def test_every_refusal_has_a_class_and_a_next_step(status: int, said: str, error: ErrorClass, advice: str) -> None:
    outcome = of_status(status, writes=True, now=clock.now())
    failure = refusals.refused(outcome, "POST", "/Tickets", orjson.dumps({"error": said}) if said else b"")
    assert failure.error is error
    assert advice in failure.next_step
    assert failure.perhaps_done is (status == 500)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/Tickets/12", "read:tickets"),
        ("POST", "/Actions", "edit:tickets"),
        ("GET", "/Client", "read:customers"),
        ("GET", "/Notification", "admin:webhooks"),
        ("DELETE", "/Webhook/abc", "admin:webhooks"),
        ("GET", "/Status", "read:tickets"),
    ],
)
def test_the_missing_scope_is_named(method: str, path: str, scope: str) -> None:
    assert refusals.missing_scope(method, path) == scope
