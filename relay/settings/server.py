"""The process: folders, log, HTTP, DNS, spool, sandbox."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from relay.settings.types import BindAddress, NeededPath, Port, Seconds, SecondsOrNone, Section


class ServerSettings(Section):
    """The process as a whole."""

    hostname: str = Field("", description="Name in the banner, EHLO, Received and Message-ID; empty: the machine's")
    var: NeededPath = Field(Path("/var/lib/sendrelay"), description="Folder for spool, keys and registry")
    workers: int = Field(0, ge=0, le=255, description="Worker processes; 0: one a core")
    drain_timeout: Seconds = Field(25.0, description="Seconds to finish what is in flight after SIGTERM")
    user: str = Field("", description="User to become after binding the ports; empty: stay")

    @field_validator("hostname")
    @classmethod
    def _a_name(cls, hostname: str) -> str:
        """It stands in replies and header fields, where a space or a line end would make something else of them."""
        if len(hostname) > 255 or re.search(r"[^\w.:\[\]-]", hostname):
            raise ValueError("write a host name such as mail.example.com")
        return hostname

    @property
    def worker_count(self) -> int:
        return self.workers or len(os.sched_getaffinity(0))


class LogSettings(Section):
    """One line a business fact, on standard error."""

    format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else json")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is written")


class HttpSettings(Section):
    """Health, metrics and the HTTP interfaces."""

    address: BindAddress = Field(
        "127.0.0.1", description="Address to listen on; no key is asked for, so keep it private"
    )
    port: Port = Field(8025, description="Port to listen on")
    enabled: bool = Field(True, description="false: no HTTP at all")


class DnsSettings(Section):
    """The resolver."""

    nameservers: tuple[str, ...] = Field((), description="IP or IP:port; empty: /etc/resolv.conf")
    timeout: Seconds = Field(5.0, description="Seconds for one question, retries included")
    trust_ad: bool = Field(False, description="Believe the AD flag: only for a validating resolver on this machine")
    cache_size: int = Field(10_000, ge=0, description="Answers kept")
    minimum_ttl: SecondsOrNone = Field(5.0, description="Seconds an answer is kept at least")
    maximum_ttl: SecondsOrNone = Field(3600.0, description="Seconds an answer is kept at most")

    @model_validator(mode="after")
    def _has_room_between(self) -> Self:
        if self.minimum_ttl > self.maximum_ttl:
            raise ValueError(f"minimum_ttl is above maximum_ttl ({self.maximum_ttl:g}); lower it, or raise that")
        return self


class SpoolSettings(Section):
    """The spool."""

    file_threshold: int = Field(65_536, ge=0, description="Octets above which a body is a file of its own")
    minimum_free: int = Field(104_857_600, ge=0, description="Octets free below which MAIL gets 452 4.3.1")
    history: SecondsOrNone = Field(604_800.0, description="Seconds a message can be looked up after it was received")
    dead_letters: SecondsOrNone = Field(
        86_400.0, description="Seconds the text of what bounced or expired is kept for `relay dead`; 0: not kept"
    )
    dead_letters_size: int = Field(
        1_073_741_824, ge=0, description="Octets of dead letters a worker keeps at most; the oldest go first"
    )
    window: int = Field(20_000, ge=1, description="Messages a worker keeps scheduled in memory")
    memory: int = Field(
        134_217_728,
        ge=0,
        description="Octets of bodies kept in memory until delivered; and, beside those, of long messages"
        " that a way out other than SMTP needs whole at one time",
    )


class SandboxSettings(Section):
    """The built-in MX of `make run`: takes every domain's mail, keeps it, fails on request."""

    enabled: bool = Field(False, description="true only in the sandbox: no mail leaves")
    domain: str = Field("sandbox.example", description="Domain of its credential and DKIM key")
