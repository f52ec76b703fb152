"""Resend's Python SDK: `Emails.send`, with an idempotency key."""

from __future__ import annotations

from typing import Any

import resend
from common import ADDRESS, IDEMPOTENCY_KEY, KEY, each_letter, labels, written


def send(letter: dict[str, Any]) -> str:
    params: resend.Emails.SendParams = {
        "from": written(letter["from"]),
        "to": [written(person) for person in letter["to"]],
        "subject": letter["subject"],
        "headers": letter["headers"],
    }
    for role in ("cc", "bcc"):
        if role in letter:
            params[role] = [written(person) for person in letter[role]]
    for body in ("text", "html"):
        if body in letter:
            params[body] = letter[body]
    if "reply_to" in letter:
        params["reply_to"] = [written(letter["reply_to"])]
    files = [*letter.get("images", ()), *letter.get("attachments", ())]
    if files:
        params["attachments"] = [attachment(item) for item in files]
    if tags := labels(letter):
        params["tags"] = [{"name": name, "value": value} for name, value in tags.items()]
    return resend.Emails.send(params, {"idempotency_key": IDEMPOTENCY_KEY})["id"]


def attachment(item: dict[str, str]) -> resend.Attachment:
    made: resend.Attachment = {"filename": item["filename"], "content": item["content"], "content_type": item["type"]}
    if "cid" in item:
        made["content_id"] = item["cid"]
    return made


resend.api_key = KEY
resend.api_url = f"http://{ADDRESS}"
each_letter(send)
