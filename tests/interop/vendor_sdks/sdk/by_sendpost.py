"""SendPost's Python SDK: `EmailApi.send_email`."""

from __future__ import annotations

from typing import Any

import sendpost_python_sdk as sendpost
from common import ADDRESS, KEY, each_letter


def message(letter: dict[str, Any]) -> sendpost.EmailMessageObject:
    # One message has one addressee; the others of To stand in cc.
    first, *others = letter["to"]
    beside = {"cc": [*others, *letter.get("cc", ())], "bcc": letter.get("bcc", ())}
    copies = {role: [sendpost.CopyTo(**person) for person in people] for role, people in beside.items() if people}
    files = [sendpost.Attachment(content=item["content"], filename=item["filename"]) for item in letter["attachments"]]
    return sendpost.EmailMessageObject(
        var_from=sendpost.EmailAddress(**letter["from"]),
        reply_to=sendpost.EmailAddress(**letter["reply_to"]) if "reply_to" in letter else None,
        to=[sendpost.Recipient(**first, **copies)],
        subject=letter["subject"],
        html_body=letter.get("html"),
        text_body=letter.get("text"),
        headers=letter["headers"],
        groups=letter.get("tags"),
        attachments=files or None,
        track_opens=False,
        track_clicks=False,
    )


configuration = sendpost.Configuration(host=f"http://{ADDRESS}/api/v1", api_key={"subAccountAuth": KEY})
with sendpost.ApiClient(configuration) as client:
    send = sendpost.EmailApi(client).send_email
    each_letter(lambda letter: [answer.message_id for answer in send(message({"attachments": (), **letter}))])
