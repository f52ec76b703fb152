"""SparkPost's Python SDK: `transmissions.send` with the message's bytes. It speaks TLS only; requests trusts the stub's
certificate by $REQUESTS_CA_BUNDLE."""

from __future__ import annotations

from typing import Any

from common import ADDRESS, KEY, each_letter, everybody, raw
from sparkpost import SparkPost

client = SparkPost(KEY, base_uri=ADDRESS)


def send(letter: dict[str, Any]) -> str:
    more = {}
    if "tags" in letter:
        more["campaign"] = letter["tags"][0]
    more["metadata"] = {**letter.get("metadata", {}), "sendrelay": "id-1"}
    return client.transmissions.send(
        recipients=everybody(letter),
        email_rfc822=raw(letter).decode(),
        track_opens=False,
        track_clicks=False,
        transactional=True,
        perform_substitutions=False,
        **more,
    )["id"]


each_letter(send)
