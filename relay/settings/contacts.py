"""Who of a marketing platform hears of recipients."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from relay.settings.types import Name, NeededPath, OptionalPath, Rate, Seconds, Section, per_second

ContactEvent = Literal["queued", "sent", "delivered", "bounced", "unsubscribed", "complained"]


class ContactsSettings(Section):
    """A marketing platform whose contacts follow the mail: recipients, and what became of them. None: none does."""

    kind: Literal["sendx", "sendlio", "sendios"] = Field(description="Platform")
    api_key_file: NeededPath = Field(description="File that holds the key alone")
    accounts: tuple[str, ...] = Field((), description="Accounts whose recipients it hears of; empty: all")
    events: tuple[ContactEvent, ...] = Field(
        ("sent", "delivered", "bounced", "unsubscribed", "complained"),
        min_length=1,
        description="What it hears; queued: everybody a message was accepted for",
    )
    rate: Rate = Field("5/second", description="Contacts a second, minute or hour, all workers together")
    retry: Name = Field("sendarix", description="Retry profile of a contact it does not take")
    base_url: str = Field("", description="Empty: the vendor's own")
    ca_file: OptionalPath = Field(None, description="PEM file of CAs to trust; empty: the system's")
    timeout: Seconds = Field(60.0, description="Seconds without progress after which a call is given up")
    allow_private: bool = Field(False, description="Let base_url name a private or loopback address")
    options: dict[str, Any] = Field({}, description="The platform's own options; docs/howto/contacts.md")

    @property
    def per_second(self) -> float:
        return per_second(self.rate)
