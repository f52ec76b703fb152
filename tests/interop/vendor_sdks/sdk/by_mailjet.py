"""Mailjet's Python SDK: its `MessageBuilder`, and what that has no word for in the payload, as its types name it."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

from common import ADDRESS, KEY, each_letter
from mailjet_rest import Client
from mailjet_rest.builders import MessageBuilder

client = Client(auth=tuple(KEY.split(":")), version="v3.1", api_url=f"http://{ADDRESS}/")


def send(letter: dict[str, Any]) -> str:
    made = MessageBuilder().set_sender(**letter["from"]).set_subject(letter["subject"])
    made.set_content(letter.get("text"), letter.get("html")).set_headers(taken_headers(letter))
    for role, add in (("to", made.add_recipient), ("cc", made.add_cc), ("bcc", made.add_bcc)):
        for person in letter.get(role, ()):
            add(**person)
    if "reply_to" in letter:
        made.set_reply_to(**letter["reply_to"])
    with tempfile.TemporaryDirectory() as folder:
        for name, attach in (("attachments", made.attach_file), ("images", made.attach_inline)):
            for item in letter.get(name, ()):
                path = Path(folder) / item["filename"]
                path.write_bytes(base64.b64decode(item["content"]))
                attach(path, item["type"], base_dir=folder)
    message: dict[str, Any] = {**made.build(), "TrackOpens": "disabled", "TrackClicks": "disabled", "CustomID": "id-1"}
    if not message["Headers"]:
        del message["Headers"]
    for number, item in enumerate(letter.get("images", ())):
        message["InlinedAttachments"][number]["ContentID"] = item["cid"]
    if "tags" in letter:
        message["CustomCampaign"] = letter["tags"][0]
    if "metadata" in letter:
        message["EventPayload"] = json.dumps(letter["metadata"], ensure_ascii=False)
    return client.send.create(data={"Messages": [message]}).json()["Messages"][0]["Status"]


def taken_headers(letter: dict[str, Any]) -> dict[str, str]:
    """The API refuses a message that sets its own Message-ID."""
    return {name: value for name, value in letter["headers"].items() if name != "Message-ID"}


each_letter(send)
