"""Samples: the messages every client sends, each with something in it that careless software breaks.

A sample is a text, recipients and perhaps an attachment; `content` is it as the exact bytes of a finished message.
Recipient domains carry the name of the case, so that each message is found again at the far end.
"""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass

LINE_LIMIT = 998  # RFC 5322 §2.1.1


@dataclass(frozen=True, slots=True)
class Sample:
    """What is sent. `bcc` recipients stand in the envelope only."""

    name: str
    text: str
    to: tuple[str, ...] = ("anna@{case}.example",)
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    attachment: bytes = b""


@dataclass(frozen=True, slots=True)
class Letter:
    """A sample addressed by one case from one sender."""

    case: str
    sender: str
    sample: Sample

    @property
    def to(self) -> list[str]:
        return self._named(self.sample.to)

    @property
    def cc(self) -> list[str]:
        return self._named(self.sample.cc)

    @property
    def bcc(self) -> list[str]:
        return self._named(self.sample.bcc)

    @property
    def recipients(self) -> list[str]:
        return self.to + self.cc + self.bcc

    @property
    def subject(self) -> str:
        return f"Interop {self.case}"

    @property
    def content(self) -> bytes:
        """The message with CRLF line ends, 8-bit text as it is, the attachment in base64."""
        fold = ",\n "
        head = [f"From: <{self.sender}>", f"To: {fold.join(self.to)}"]
        if self.cc:
            head.append(f"Cc: {fold.join(self.cc)}")
        head += [
            f"Subject: {self.subject}",
            "Date: Sun, 22 Nov 2026 10:00:00 +0000",
            f"Message-ID: <{self.case}@client.example>",
            "MIME-Version: 1.0",
        ]
        part = ["Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit", "", self.sample.text]
        if self.sample.attachment:
            part = ['Content-Type: multipart/mixed; boundary="=-=-="', "", "--=-=-=", *part, "--=-=-="]
            part += ["Content-Type: application/octet-stream", "Content-Transfer-Encoding: base64"]
            part += ['Content-Disposition: attachment; filename="sample.bin"', ""]
            part += [base64.encodebytes(self.sample.attachment).decode("ascii").rstrip("\n"), "--=-=-=--"]
        text = "\n".join([*head, *part]).rstrip("\n") + "\n"
        return text.replace("\n", "\r\n").encode("utf-8")

    def _named(self, addresses: tuple[str, ...]) -> list[str]:
        return [address.format(case=self.case) for address in addresses]


_FIFTY = tuple(f"reader-{number:02}@{{case}}.example" for number in range(1, 31)) + tuple(
    f"reader-{number:02}@second-{{case}}.example" for number in range(31, 51)
)

PLAIN = Sample("one recipient", "A plain message.")
SAMPLES = (
    PLAIN,
    Sample(
        "Bcc in the envelope only",
        "To Anna and Carla; Berta must stay unseen.",
        cc=("carla@{case}.example",),
        bcc=("berta@{case}.example",),
    ),
    Sample("8-bit text", "Grüße aus Zürich, 東京 and Łódź.\nDrei Zeilen – mit €.\n☃"),
    Sample("lines of dots", ".\n..\n.dot first\n...\ndots inside . .. ...\n.\n\n.\nlast"),
    Sample("long lines", "x" * LINE_LIMIT + "\n" + ("a long line " * 400).rstrip() + "\nshort"),
    Sample("5 MB attachment", "See the attachment.", attachment=random.Random(1).randbytes(5 * 1024 * 1024)),
    Sample("50 recipients", "To many.", to=_FIFTY),
)
