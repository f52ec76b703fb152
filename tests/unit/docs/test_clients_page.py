"""docs/howto/clients.md names every finding of the doctor."""

from __future__ import annotations

from pages import page, section, table

from relay.smtpd.symptoms import RULES, UNKNOWN


def test_every_finding_is_listed_and_none_is_invented() -> None:
    listed = [row[0].strip("`") for row in table(section(page("howto/clients.md"), "Findings"))]
    assert sorted(listed) == sorted([*(rule.symptom for rule in RULES), UNKNOWN.symptom])
