"""SendX's Python SDK: `EmailSendingApi.send_email`."""

from __future__ import annotations

import html
from typing import Any

import sendx_python_sdk as sendx
from common import ADDRESS, KEY, each_letter


def message(letter: dict[str, Any]) -> sendx.XEmailMessage:
    # One message has one addressee; the others of To stand in cc.
    first, *others = letter["to"]
    beside = {"cc": [*others, *letter.get("cc", ())], "bcc": letter.get("bcc", ())}
    copies = {role: [person["email"] for person in people] for role, people in beside.items() if people}
    return sendx.XEmailMessage(
        var_from=sendx.XFrom(**letter["from"]),
        to=[sendx.XTo(**first, **copies)],
        reply_to=sendx.XReplyTo(**letter["reply_to"]) if "reply_to" in letter else None,
        subject=letter["subject"],
        html_body=letter["html"] if "html" in letter else f"<pre>{html.escape(letter['text'])}</pre>",
        text_body=letter.get("text"),
        headers=letter["headers"],
    )


configuration = sendx.Configuration(host=f"http://{ADDRESS}/api/v1/rest", api_key={"TeamApiKey": KEY})
with sendx.ApiClient(configuration) as client:
    each_letter(
        lambda letter: [answer.error_code for answer in sendx.EmailSendingApi(client).send_email(message(letter))]
    )
