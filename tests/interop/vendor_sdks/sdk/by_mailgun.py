"""Mailgun's Python SDK: `client.mimemessage.create` with the message's bytes as a file."""

from __future__ import annotations

from typing import Any

from common import ADDRESS, KEY, each_letter, everybody, raw
from mailgun.client import Client

client = Client(auth=("api", KEY), api_url=f"http://{ADDRESS}")


def send(letter: dict[str, Any]) -> str:
    data = {"to": everybody(letter), "o:tracking-opens": "no", "o:tracking-clicks": "no"}
    if "tags" in letter:
        data["o:tag"] = letter["tags"]
    data |= {f"v:{name}": value for name, value in letter.get("metadata", {}).items()}
    answer = client.mimemessage.create(data=data, files={"message": raw(letter)}, domain="example.com")
    return answer.json()["id"]


each_letter(send)
