"""Brevo's Python SDK: `transactional_emails.send_transac_email` with its types."""

from __future__ import annotations

from typing import Any

from brevo import Brevo
from brevo.transactional_emails import (
    SendTransacEmailRequestAttachmentItem,
    SendTransacEmailRequestBccItem,
    SendTransacEmailRequestCcItem,
    SendTransacEmailRequestReplyTo,
    SendTransacEmailRequestSender,
    SendTransacEmailRequestToItem,
)
from common import ADDRESS, IDEMPOTENCY_KEY, KEY, each_letter

client = Brevo(api_key=KEY, base_url=f"http://{ADDRESS}/v3")


def send(letter: dict[str, Any]) -> str:
    more: dict[str, Any] = {}
    for body in ("text", "html"):
        if body in letter:
            more[f"{body}_content"] = letter[body]
    if "cc" in letter:
        more["cc"] = [SendTransacEmailRequestCcItem(**person) for person in letter["cc"]]
    if "bcc" in letter:
        more["bcc"] = [SendTransacEmailRequestBccItem(**person) for person in letter["bcc"]]
    if "reply_to" in letter:
        more["reply_to"] = SendTransacEmailRequestReplyTo(**letter["reply_to"])
    if "tags" in letter:
        more["tags"] = letter["tags"]
    if "attachments" in letter:
        more["attachment"] = [
            SendTransacEmailRequestAttachmentItem(name=item["filename"], content=item["content"])
            for item in letter["attachments"]
        ]
    answer = client.transactional_emails.send_transac_email(
        sender=SendTransacEmailRequestSender(**letter["from"]),
        to=[SendTransacEmailRequestToItem(**person) for person in letter["to"]],
        subject=letter["subject"],
        headers={**letter["headers"], "idempotencyKey": IDEMPOTENCY_KEY},
        **more,
    )
    return answer.message_id


each_letter(send)
