"""SendGrid's Python SDK: `SendGridAPIClient.send` of a `Mail` made of its helpers."""

from __future__ import annotations

from typing import Any

import sendgrid
from common import ADDRESS, KEY, each_letter
from sendgrid.helpers import mail

ROLES = {"to": (mail.To, "add_to"), "cc": (mail.Cc, "add_cc"), "bcc": (mail.Bcc, "add_bcc")}


def message(letter: dict[str, Any]) -> mail.Mail:
    made = mail.Mail(
        from_email=mail.From(letter["from"]["email"], letter["from"].get("name")),
        subject=letter["subject"],
        plain_text_content=letter.get("text"),
        html_content=letter.get("html"),
    )
    personalization = mail.Personalization()
    for role, (kind, add) in ROLES.items():
        for person in letter.get(role, ()):
            getattr(personalization, add)(kind(person["email"], person.get("name")))
    made.add_personalization(personalization)
    for name, value in letter["headers"].items():
        made.add_header(mail.Header(name, value))
    # The SDK turns the order of these and of files around.
    for tag in reversed(letter.get("tags", ())):
        made.add_category(mail.Category(tag))
    for name, value in letter.get("metadata", {}).items():
        made.add_custom_arg(mail.CustomArg(name, value))
    for item in reversed([*letter.get("images", ()), *letter.get("attachments", ())]):
        made.add_attachment(attachment(item))
    if "reply_to" in letter:
        made.reply_to = mail.ReplyTo(letter["reply_to"]["email"], letter["reply_to"]["name"])
    tracking = mail.TrackingSettings()
    tracking.open_tracking = mail.OpenTracking(enable=False)
    tracking.click_tracking = mail.ClickTracking(enable=False, enable_text=False)
    made.tracking_settings = tracking
    return made


def attachment(item: dict[str, str]) -> mail.Attachment:
    made = mail.Attachment(
        mail.FileContent(item["content"]),
        mail.FileName(item["filename"]),
        mail.FileType(item["type"]),
        mail.Disposition("inline" if "cid" in item else "attachment"),
    )
    if "cid" in item:
        made.content_id = mail.ContentId(item["cid"])
    return made


client = sendgrid.SendGridAPIClient(KEY, host=f"http://{ADDRESS}")
each_letter(lambda letter: client.send(message(letter)).headers["X-Message-Id"])
