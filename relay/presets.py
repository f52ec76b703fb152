"""Presets of smarthosts: what a vendor's SMTP server is called, how it wants TLS, and what limits it is known to have.

In: the word in `[smarthost.NAME] preset`. Out: values for settings the operator leaves out. Pure. The limits are
those the vendor states, with the page that states them, but for two that are marked; docs/howto/smarthosts.md shows the
same table.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Final, Literal

_MB: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class Preset:
    """Named as in SmarthostSettings; 0 and `""`: the vendor states none. `credentials`: what user and password are.

    `token_url`, and the scopes of a token for the application, for a user, and for one it speaks for: for
    [smarthost.NAME.oauth].
    """

    title: str
    host: str
    source: str
    credentials: str
    port: int = 587
    tls: Literal["starttls", "implicit"] = "starttls"
    username: str = ""
    message_size: int = 0
    recipients: int = 0
    connections: int = 0
    rate: str = ""
    dialect: str = ""
    token_url: str = ""
    app_scope: str = ""
    user_scope: str = ""
    signed_scope: str = ""

    def values(self) -> dict[str, Any]:
        """What it says about settings; nothing where it says nothing."""
        told = {
            "host": self.host,
            "port": self.port,
            "tls": self.tls,
            "username": self.username,
            "message_size": self.message_size,
            "recipients": self.recipients,
            "connections": self.connections,
            "rate": self.rate,
            "dialect": self.dialect,
        }
        return {name: value for name, value in told.items() if value}


PRESETS: Final[dict[str, Preset]] = {
    "brevo": Preset(
        "Brevo",
        "smtp-relay.brevo.com",
        "https://developers.brevo.com/docs/smtp-integration",
        "the SMTP login and an SMTP key, not the API key",
        dialect="brevo",
    ),
    "gmail": Preset(
        "Gmail, Google Workspace",
        "smtp.gmail.com",
        "https://support.google.com/a/answer/166852",
        "the address and an app password, or an access token",
        message_size=25 * _MB,
        recipients=100,
        token_url="https://oauth2.googleapis.com/token",  # noqa: S106 - an address
        signed_scope="https://mail.google.com/",
    ),
    "google-relay": Preset(
        "Google Workspace SMTP relay",
        "smtp-relay.gmail.com",
        "https://support.google.com/a/answer/2956491",
        "none where the relay's address is allowed there; else the address and an app password",
        message_size=25 * _MB,
        recipients=100,
    ),
    "mailgun": Preset(
        "Mailgun (US)",
        "smtp.mailgun.org",
        "https://documentation.mailgun.com/docs/mailgun/user-manual/sending-messages/send-smtp",
        "the domain's SMTP login and password",
        message_size=25 * _MB,
        dialect="mailgun",
    ),
    "mailgun-eu": Preset(
        "Mailgun (EU)",
        "smtp.eu.mailgun.org",
        "https://documentation.mailgun.com/docs/mailgun/user-manual/sending-messages/send-smtp",
        "the domain's SMTP login and password",
        message_size=25 * _MB,
        dialect="mailgun",
    ),
    "mailjet": Preset(
        "Mailjet",
        "in-v3.mailjet.com",
        "https://dev.mailjet.com/smtp-relay/configuration/",
        "the API key and the secret key",
        message_size=15 * _MB,  # not on that page
        dialect="mailjet",
    ),
    "mandrill": Preset(
        "Mailchimp Transactional (Mandrill)",
        "smtp.mandrillapp.com",
        "https://mailchimp.com/developer/transactional/docs/smtp-integration/",
        "any name and an API key",
        message_size=25 * _MB,
        dialect="mandrill",
    ),
    "office365": Preset(
        "Microsoft 365, Exchange Online",
        "smtp.office365.com",
        "https://learn.microsoft.com/office365/servicedescriptions/exchange-online-service-description/exchange-online-limits",
        "the mailbox and an access token, or its password where the tenant still allows that",
        message_size=150 * _MB,
        recipients=500,
        connections=3,
        rate="30/minute",
        app_scope="https://outlook.office365.com/.default",
        user_scope="https://outlook.office365.com/SMTP.Send offline_access",
    ),
    "postmark": Preset(
        "Postmark",
        "smtp.postmarkapp.com",
        "https://postmarkapp.com/developer/user-guide/send-email-with-smtp",
        "the server token, as both",
        message_size=10 * _MB,
        recipients=50,
        dialect="postmark",
    ),
    "resend": Preset(
        "Resend",
        "smtp.resend.com",
        "https://resend.com/docs/send-with-smtp",
        "the API key as password",
        port=465,
        tls="implicit",
        username="resend",
        message_size=40 * _MB,
        recipients=50,
        dialect="resend",
    ),
    "sendgrid": Preset(
        "SendGrid",
        "smtp.sendgrid.net",
        "https://www.twilio.com/docs/sendgrid/for-developers/sending-email/integrating-with-the-smtp-api",
        "the API key as password",
        username="apikey",
        message_size=30 * _MB,  # not on that page; it advises 20
        recipients=1000,
        connections=10_000,
        dialect="sendgrid",
    ),
    "sendpost": Preset(
        "SendPost",
        "smtp.sendpost.io",
        "https://docs.sendpost.io/",
        "the sub-account's SMTP user and password",
        dialect="sendpost",
    ),
    "ses": Preset(
        "Amazon SES (us-east-1)",
        "email-smtp.us-east-1.amazonaws.com",
        "https://docs.aws.amazon.com/ses/latest/dg/quotas.html",
        "SMTP credentials made in the console, not an access key",
        message_size=40 * _MB,
        recipients=50,
        dialect="ses",
    ),
    "sparkpost": Preset(
        "SparkPost (US)",
        "smtp.sparkpostmail.com",
        "https://developers.sparkpost.com/api/smtp",
        "an API key that may send via SMTP, as password",
        username="SMTP_Injection",
        connections=10,
        dialect="sparkpost",
    ),
    "sparkpost-eu": Preset(
        "SparkPost (EU)",
        "smtp.eu.sparkpostmail.com",
        "https://developers.sparkpost.com/api/smtp",
        "an API key that may send via SMTP, as password",
        username="SMTP_Injection",
        connections=10,
        dialect="sparkpost",
    ),
}


def with_preset(given: Any) -> Any:
    """A smarthost's table with what its preset adds to it. Raises ValueError for a preset nobody knows."""
    name = given.get("preset") if isinstance(given, dict) else None
    if not name or not isinstance(name, str):
        return given
    preset = PRESETS.get(name)
    if preset is None:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(PRESETS)}"
        raise ValueError(f"no preset {name!r}; {hint}")
    return {**preset.values(), **given}
