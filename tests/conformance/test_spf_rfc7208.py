"""The openspf suites for RFC 7208 and RFC 4408: every scenario with its own zone, every case its own test.

The data stands beside the project; where it is absent these tests are skipped.
"""

from __future__ import annotations

import asyncio
import ipaddress
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.checks.spf import SpfChecker, sender_of
from relay.mail.errors import DnsTemporaryError
from relay.ports import DnsAnswer, SpfResult

SUITES = Path(__file__).parents[3] / "shared" / "suites" / "spf-rfc7208"
DEFAULT = "DEFAULT"


class Zone:
    """A resolver over the records of one scenario."""

    def __init__(self, data: dict[str, list[Any]]) -> None:
        self.names = {name.lower(): entries for name, entries in data.items()}

    async def query(self, name: str, rdtype: str) -> DnsAnswer:
        name = name.lower()
        for _ in range(16):
            if name not in self.names:
                return DnsAnswer((), exists=False)
            records = self._records(self.names[name], rdtype)
            if records or rdtype == "CNAME":
                return DnsAnswer(tuple(records))
            alias = self._records(self.names[name], "CNAME")
            if not alias:
                if "TIMEOUT" in self.names[name]:
                    raise DnsTemporaryError("time-out")
                return DnsAnswer(())
            name = alias[0]
        raise DnsTemporaryError("a chain of CNAMEs without end")

    def _records(self, entries: list[Any], rdtype: str) -> list[str]:
        found = [entry[rdtype] for entry in entries if isinstance(entry, dict) and rdtype in entry]
        if rdtype == "TXT" and not found:  # the suite's drivers copy the abandoned type SPF to TXT
            found = self._records(entries, "SPF")
        if "TIMEOUT" in found:
            raise DnsTemporaryError("time-out")
        return [self._text(value, rdtype) for value in found if value != "NONE"]

    @staticmethod
    def _text(value: Any, rdtype: str) -> str:
        if rdtype == "MX":
            return f"{value[0]} {value[1].lower().removesuffix('.')}"
        if rdtype in ("CNAME", "PTR"):
            return value.lower().removesuffix(".")
        text = "".join(value) if isinstance(value, list) else value
        if rdtype in ("TXT", "SPF"):
            return text.encode("utf-8").decode("latin-1")
        return str(ipaddress.ip_address(text))


def cases() -> list[Any]:
    found = []
    for name in ("rfc7208", "rfc4408"):
        path = SUITES / f"{name}-tests.yml"
        if not path.exists():
            continue
        for scenario in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            for test, case in scenario["tests"].items():
                found.append(pytest.param(case, scenario["zonedata"], id=f"{name}-{test}"))
    return found


CASES = cases()
pytestmark = pytest.mark.skipif(not CASES, reason=f"no SPF suites at {SUITES}")


@pytest.mark.parametrize(("case", "zone"), CASES)
def test_suite_case(case: dict[str, Any], zone: dict[str, list[Any]]) -> None:
    """The result, and the explanation where the case names one, are those of the suite."""
    checker = SpfChecker(Zone(zone), hostname="receiver.example")
    sender = sender_of(str(case["host"]), str(case["helo"]), str(case["mailfrom"]) or None)
    if isinstance(sender, SpfResult):
        result, explanation = sender.result, ""
    else:
        verdict, explanation = asyncio.run(checker.evaluate(sender))
        result = verdict.result
    wanted = case["result"] if isinstance(case["result"], list) else [case["result"]]
    assert result in wanted
    if "explanation" in case and result == "fail":
        said = "" if case["explanation"] == DEFAULT else case["explanation"]
        assert explanation == said
