"""The vendors whose SDKs are asked: what is installed, what the API answers, where the relay's request may differ.

A difference is allowed by its field's name, with the reason; a name may end in `*`. What a vendor's API does not carry
(`refuses`) the relay refuses, and the SDK is not asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stub import Answer

_ITSELF = "each client names itself"
EVERYWHERE = {
    "header user-agent": _ITSELF,
    "header content-length": "JSON is spaced and escaped in more than one way",
    "header accept-encoding": "the relay's transport adds its own",
    "header connection": "the relay's connections are kept",
    "header accept": "the relay wants JSON and says so; some SDKs leave it open",
    "header accept-language": "the SDK's HTTP client has one",
    "header sec-fetch-mode": "the SDK's HTTP client has one",
}


@dataclass(frozen=True)
class Vendor:
    """`path` is what the relay's base_url has behind the host, which the SDK adds by itself.

    `signer`: the script that has the SDK sign the relay's request.
    """

    kind: str
    package: str
    answer: Answer
    path: str = ""
    script: str = ""
    key: str = "key-interop-0123456789"
    options: Mapping[str, Any] = field(default_factory=dict)
    refuses: tuple[str, ...] = ()
    allowed: Mapping[str, str] = field(default_factory=dict)
    tls: bool = False
    signer: str = ""

    @property
    def npm(self) -> bool:
        return self.script.endswith(".js")


def _answer(status: int, body: Any, **headers: str) -> Answer:
    given = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Answer(status, json.dumps(body) if body is not None else "", given)


_KEY = "made of the message's id and the copy's recipients; an application makes its own"

VENDORS = (
    Vendor(
        "sendgrid",
        "sendgrid==6.12.5",
        _answer(202, None, X_Message_Id="sg-1"),
        path="/v3",
    ),
    Vendor(
        "mailgun",
        "mailgun==1.10.0",
        _answer(200, {"id": "<mg-1@example.com>", "message": "Queued. Thank you."}),
        path="/v3",
        allowed={
            "form message[0] filename": "the SDK hands bytes on without a name, its HTTP client takes the field's",
            "form message[0] type": "the relay says what it is; the SDK leaves it open",
        },
    ),
    Vendor(
        "postmark",
        "postmark@5.1.0",
        _answer(200, {"To": "x", "SubmittedAt": "2026-11-24", "MessageID": "pm-1", "ErrorCode": 0, "Message": "OK"}),
        script="by_postmark.js",
        options={"stream": "outbound"},
        allowed={
            "Attachments[*].ContentID": "the SDK writes null where there is none",
        },
    ),
    Vendor(
        "resend",
        "resend==2.52.0",
        _answer(200, {"id": "re-1"}),
        allowed={"header idempotency-key": _KEY},
    ),
    Vendor(
        "brevo",
        "brevo-python==5.1.0",
        _answer(201, {"messageId": "<br-1@smtp-relay.mailin.fr>"}),
        path="/v3",
        refuses=("inline image",),
        allowed={"headers.idempotencyKey": _KEY, "header x-fern-*": _ITSELF},
    ),
    Vendor(
        "sparkpost",
        "sparkpost==1.3.10",
        _answer(200, {"results": {"id": "sp-1", "total_accepted_recipients": 1, "total_rejected_recipients": 0}}),
        path="/api/v1",
        tls=True,
    ),
    Vendor(
        "mailjet",
        "mailjet-rest==1.9.1",
        _answer(200, {"Messages": [{"Status": "success", "To": [{"Email": "x", "MessageID": 1}]}]}),
        path="/v3.1",
        key="public0123456789:private0123456789",
        allowed={
            "header idempotency-key": "the SDK's own; the vendor documents none, so the relay promises nothing by it"
        },
    ),
    Vendor(
        "ses",
        "boto3==1.44.5",
        _answer(200, {"MessageId": "ses-1"}),
        key="AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        options={"region": "eu-central-1", "configuration_set": "relay"},
        signer="sign_ses.py",
        allowed={
            "header amz-sdk-*": _ITSELF,
            "header x-amz-date": "the moment of the call",
            "header authorization": "over another date and other headers; sign_ses.py makes it anew for the relay's",
        },
    ),
    Vendor(
        "sendpost",
        "sendpost-python-sdk==3.0.0",
        _answer(200, [{"submittedAt": 1, "messageId": "4f2c0d5e-0000-4000-8000-000000000001", "errorCode": 0}]),
        path="/api/v1",
        refuses=("inline image",),
        allowed={
            "header x-sendpost-public-contract": "the relay says which contract it reads; the SDK takes the default"
        },
    ),
    Vendor(
        "sendx",
        "sendx==2.0.0",
        _answer(200, [{"to": "x", "submittedAt": 1, "messageId": "sx-1", "errorCode": 0, "message": "ok"}]),
        path="/api/v1/rest",
        refuses=("files", "inline image"),
    ),
)
