"""AWS's SDK for Python: `sesv2` `send_email` with the message's bytes."""

from __future__ import annotations

from typing import Any

import boto3
from common import ADDRESS, KEY, each_letter, everybody, labels, raw

key_id, _, secret = KEY.partition(":")
client = boto3.client(
    "sesv2",
    region_name="eu-central-1",
    endpoint_url=f"http://{ADDRESS}",
    aws_access_key_id=key_id,
    aws_secret_access_key=secret,
)


def send(letter: dict[str, Any]) -> str:
    given = [{"Name": name, "Value": value} for name, value in labels(letter).items()]
    return client.send_email(
        Destination={"ToAddresses": everybody(letter)},
        Content={"Raw": {"Data": raw(letter)}},
        ConfigurationSetName="relay",
        **({"EmailTags": given} if given else {}),
    )["MessageId"]


each_letter(send)
