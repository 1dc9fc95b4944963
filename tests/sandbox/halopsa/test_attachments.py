"""Attachments: upload, list, raw bytes or a link, inline, visibility."""

import base64

import pytest

from tests.sandbox.halopsa.calling import Tenant

CONTENT = b"hello \x00 world"
ENCODED = base64.b64encode(CONTENT).decode()


async def upload(acme: Tenant, **members: object) -> dict[str, object]:
    body = {"ticket_id": 1, "filename": "päge 1.txt", "data_base64": f"data:text/plain;base64,{ENCODED}"} | members
    answer = await acme.post("/Attachment", [body])
    assert answer.status_code == 201, answer.text
    found: dict[str, object] = answer.json()
    return found


async def test_upload_list_and_raw_download(acme: Tenant) -> None:
    await acme.new_ticket()
    stored = await upload(acme)
    assert (stored["filesize"], stored["unique_id"], stored["content_type"]) == (len(CONTENT), 1, "text/plain")
    listed = (await acme.get("/Attachment", ticket_id=1)).json()
    assert (listed["record_count"], listed["attachments"][0]["id"]) == (1, stored["id"])
    assert (await acme.get("/Attachment")).json()["attachments"] == []
    raw = await acme.get(f"/Attachment/{stored['id']}")
    assert raw.content == CONTENT
    assert raw.headers["content-type"] == "text/plain"
    assert raw.headers["content-disposition"] == "attachment; filename*=UTF-8''p%C3%A4ge%201.txt"
    assert (await acme.get("/Tickets/1")).json()["attachment_count"] == 1


async def test_the_link_needs_no_token(acme: Tenant) -> None:
    await acme.new_ticket()
    stored = await upload(acme)
    acme.world.switches.attachment_content = "link"
    shown = (await acme.get(f"/Attachment/{stored['id']}")).json()
    del acme.client.headers["Authorization"]
    assert (await acme.client.get(shown["link"])).content == CONTENT
    assert (await acme.client.get(shown["link"] + "x")).status_code == 404


async def test_inline_files_follow_their_action(acme: Tenant) -> None:
    await acme.new_ticket(attachments=[{"filename": "a.png", "data_base64": ENCODED}])
    action = await acme.note(1, attachments=[{"filename": "b.txt", "data_base64": ENCODED}])
    assert [item["filename"] for item in action["attachments"]] == ["b.txt"]
    assert action["attachments"][0]["showforusers"] is False
    assert (await acme.get("/Attachment", ticket_id=1)).json()["record_count"] == 2
    of_action = (await acme.get("/Attachment", ticket_id=1, action_id=action["id"])).json()
    assert [item["filename"] for item in of_action["attachments"]] == ["b.txt"]
    listed = (await acme.get("/Actions", ticket_id=1, includeattachments="true")).json()["actions"]
    assert [item["attachment_count"] for item in listed] == [1, 0]
    assert (await acme.get("/Tickets/1")).json()["attachments"][0]["isimage"] is True


@pytest.mark.parametrize(
    "wrong", [{"ticket_id": None}, {"ticket_id": 9}, {"action_id": 9}, {"data_base64": ""}, {"data_base64": "§§"}]
)
async def test_what_cannot_be_stored_is_refused(acme: Tenant, wrong: dict[str, object]) -> None:
    await acme.new_ticket()
    body = {"ticket_id": 1, "filename": "a", "data_base64": ENCODED} | wrong
    assert (await acme.post("/Attachment", [body])).status_code == 400
    assert acme.world.attachments.by_id == {}


async def test_deleting(acme: Tenant) -> None:
    await acme.new_ticket()
    stored = await upload(acme)
    assert (await acme.delete(f"/Attachment/{stored['id']}")).json()["id"] == stored["id"]
    assert (await acme.get(f"/Attachment/{stored['id']}")).status_code == 404
    assert (await acme.delete(f"/Attachment/{stored['id']}")).status_code == 404


async def test_an_upload_moves_the_last_update_only_with_the_switch(acme: Tenant) -> None:
    acme.world.skew_seconds = -60
    ticket = await acme.new_ticket()
    acme.world.skew_seconds = 0
    await upload(acme)
    assert (await acme.get("/Tickets/1")).json()["last_update"] == ticket["lastupdate"]
    acme.world.switches.attachment_moves_last_update = True
    await upload(acme)
    assert (await acme.get("/Tickets/1")).json()["last_update"] > ticket["lastupdate"]
