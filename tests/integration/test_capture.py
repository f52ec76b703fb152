"""Capture: what is in the folder after a delivery, and what becomes of the mail when it cannot be written."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from smtp_setting import request

from relay.mail.envelope import Recipient
from relay.mail.errors import SettingsError
from relay.mail.outcome import Deferred, Fault, Sent
from relay.ports import DeliveryReport, DeliveryRequest
from relay.transports.capture import CaptureTransport

CONTENT = b"Subject: \xff\r\n\r\n.dot\r\nno line end"


def deliver(folder: Path, wanted: DeliveryRequest, content: bytes = CONTENT) -> DeliveryReport:
    return asyncio.run(CaptureTransport(folder).deliver(wanted, content))


def test_message_and_envelope_are_files(tmp_path: Path) -> None:
    """The bytes as they are, the envelope as JSON, both for the owner alone; every recipient is Sent."""
    ann = Recipient("ann@mx.example", notify=("FAILURE",), orcpt="rfc822;a@mx.example")
    report = deliver(tmp_path / "new" / "folder", request(ann, "jürgen@mx.example", sender=None, ret="HDRS"))
    envelope = json.loads((tmp_path / "new/folder/id1-1.json").read_text())

    assert {type(outcome) for outcome in report.outcomes.values()} == {Sent}
    assert set(report.outcomes) == {"ann@mx.example", "jürgen@mx.example"}
    assert (tmp_path / "new/folder/id1-1.eml").read_bytes() == CONTENT
    assert (envelope["reverse_path"], envelope["ret"]) == (None, "HDRS")
    assert envelope["recipients"][0] == {
        "address": "ann@mx.example", "notify": ["FAILURE"], "orcpt": "rfc822;a@mx.example",
    }  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "new/folder").iterdir()} == {0o600}
    assert (tmp_path / "new/folder").stat().st_mode & 0o777 == 0o700


def test_second_delivery_of_a_message_overwrites_nothing(tmp_path: Path) -> None:
    """Each has its number."""
    deliver(tmp_path, request("ann@mx.example"), b"one")
    deliver(tmp_path, request("bob@mx.example"), b"two")

    assert (tmp_path / "id1-1.eml").read_bytes() == b"one"
    assert (tmp_path / "id1-2.eml").read_bytes() == b"two"
    assert len(list(tmp_path.iterdir())) == 4


def test_folder_that_vanished_keeps_the_mail(tmp_path: Path) -> None:
    """An operator's problem: the route rests, nothing bounces."""
    transport = CaptureTransport(tmp_path / "folder")
    os.rmdir(tmp_path / "folder")
    outcome = asyncio.run(transport.deliver(request(), CONTENT)).outcomes["ann@mx.example"]

    assert isinstance(outcome, Deferred)
    assert outcome.fault is Fault.ROUTE
    assert str(outcome.reply).startswith("452 4.3.1 ")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a\0b", "x" * 300])
def test_message_id_that_is_no_file_name_writes_nothing(name: str, tmp_path: Path) -> None:
    """An id never leads out of the folder."""
    with pytest.raises(ValueError, match="file name"):
        deliver(tmp_path / "folder", replace(request(), message_id=name))

    assert list((tmp_path / "folder").iterdir()) == []


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """One line with the path and the fix."""
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError, match=r"file/folder: cannot create it .*; check the owner"):
        CaptureTransport(tmp_path / "file" / "folder")
