"""In the SDK's virtual environment: every letter of letters.json by `EmailApi.send_email`, as its users write it.

sdk_send.py LETTERS BASE_URL, the API key in $SENDPOST_KEY. Prints one line a letter: what the SDK made of the answer.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import sendpost_python_sdk as sendpost


def message(letter: dict) -> sendpost.EmailMessageObject:
    cc = [sendpost.CopyTo(**copy) for copy in letter.get("cc", ())]
    bcc = [sendpost.CopyTo(**copy) for copy in letter.get("bcc", ())]
    attachments = [
        sendpost.Attachment(content=item["content"], filename=item["filename"])
        for item in letter.get("attachments", ())
    ]
    asks = {"ippool": "transactional", "track_opens": True, "track_clicks": False, **letter.get("asks", {})}
    return sendpost.EmailMessageObject(
        var_from=sendpost.EmailAddress(**letter["from"]),
        reply_to=sendpost.EmailAddress(**letter["reply_to"]) if "reply_to" in letter else None,
        to=[sendpost.Recipient(**letter["to"], cc=cc or None, bcc=bcc or None)],
        subject=letter["subject"],
        html_body=letter.get("html"),
        text_body=letter.get("text"),
        amp_body=letter.get("amp"),
        headers=letter["headers"],
        groups=letter.get("groups"),
        attachments=attachments or None,
        **asks,
    )


def main() -> None:
    letters = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    configuration = sendpost.Configuration(host=sys.argv[2], api_key={"subAccountAuth": os.environ["SENDPOST_KEY"]})
    with sendpost.ApiClient(configuration) as client:
        for letter in letters:
            for answer in sendpost.EmailApi(client).send_email(message(letter)):
                print(f"{letter['name']}: {answer.to} {answer.error_code} {answer.message_id}")


main()
