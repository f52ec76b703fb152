"""Mail that leaves as Sendlio campaigns: SMTP in, a query and a campaign for each recipient out, never two of them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from http_stub import Stub, states, until
from sandbox_server import Server

KEY = "SNLO0123456789:SNLOS0123456789"
CONFIG = """
[retry.quick]
delays = [1, 1, 1, 1, 1, 1]

[[route]]
name = "announcements"
match.recipient_domain = ["list.example"]
via = ["provider:sendlio"]
retry = "quick"

[provider.sendlio]
kind = "sendlio"
api_key_file = "{var}/sendlio.key"
poll = "10s"
base_url = "http://127.0.0.1:{port}/api/v1"
allow_private = true

[provider.sendlio.options]
campaign = true
senders = ["{sender}"]
connection_id = 19
db_table = "users"
timezone = "America/New_York"
"""


class Sendlio:
    """Queries and campaigns by number, over `stub`; who is in the data source is `known`."""

    def __init__(self, stub: Stub, *known: str) -> None:
        self.known = known
        self.queries: dict[int, dict[str, Any]] = {}
        self.campaigns: list[dict[str, Any]] = []
        self.lost = 0
        stub.answers = [(404, {}, {"error_code": 404, "error": "Resource not found"})]
        stub.by_path = {
            "/api/v1/query": self.query,
            "/api/v1/query/delete": self.forget,
            "/api/v1/campaign": self.campaign,
        }
        self.stub = stub

    def query(self, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        number = 100 + len(self.queries)
        self.queries[number] = body
        [clause] = body["clauses"]
        return 200, {}, {"id": number, "results_count": self.known.count(clause["value"])}

    def forget(self, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        self.queries[body["id"]]["deleted"] = True
        return 200, {}, {"status": "success"}

    def campaign(self, body: Any) -> tuple[int, dict[str, str], Any]:
        if not body:
            return self.search(self.stub.requests[-1][0])
        self.campaigns.append({**body, "id": 500 + len(self.campaigns)})
        if self.lost:
            self.lost -= 1
            return 504, {}, {}
        return 200, {}, {"id": self.campaigns[-1]["id"], "status": "enabled"}

    def search(self, target: str) -> tuple[int, dict[str, str], Any]:
        [wanted] = parse_qs(urlsplit(target).query).get("name", [""])
        found = [one for one in self.campaigns if wanted in one["name"]]
        return 200, {}, {"current_page": 1, "last_page": 1, "data": found}


@pytest.fixture
def bridged(server: Server, stub: Stub) -> Server:
    (server.var / "sendlio.key").write_text(KEY + "\n")
    text = CONFIG.format(var=server.var, port=stub.port, sender=server.facts["username"])
    server.config.write_text(server.config.read_text() + text)
    return server


def send(server: Server, *recipients: str, body: str = "{{ hello }} @all\r\n") -> None:
    sender = server.facts["username"]
    with server.client() as client:
        client.sendmail(sender, list(recipients), f"From: {sender}\r\nSubject: news\r\n\r\n{body}")


def test_each_recipient_is_a_campaign_and_who_is_not_in_the_data_source_bounces(bridged: Server, stub: Stub) -> None:
    sendlio = Sendlio(stub, "ann@list.example", "bob@list.example")
    bridged.start()
    send(bridged, "ann@list.example", "bob@list.example", "nobody@list.example")
    until(lambda: len(states(bridged)) >= 3, bridged)

    found = states(bridged)
    assert found["ann@list.example"] == found["bob@list.example"] == "sent"
    assert found["nobody@list.example"] == "bounced"
    assert len(sendlio.campaigns) == 2
    for one in sendlio.campaigns:
        assert "&#123;&#123; hello }} &#64;all" in one["blocks"][0]["code"]
    gone = [one["clauses"][0]["value"] for one in sendlio.queries.values() if one.get("deleted")]
    assert gone == ["nobody@list.example"]
    assert {headers["api_key"] for _, headers, _ in stub.requests} == {"SNLO0123456789"}
    [notice] = bridged.arrived(bridged.facts["username"])
    assert b"finds 0 people of this address" in bridged.raw(notice)
    assert "SNLOS" not in bridged.log


def test_a_campaign_whose_answer_was_lost_is_found_again_and_not_made_twice(bridged: Server, stub: Stub) -> None:
    sendlio = Sendlio(stub, "ann@list.example")
    sendlio.lost = 1
    bridged.start()
    send(bridged, "ann@list.example")
    until(lambda: states(bridged).get("ann@list.example") == "sent", bridged)

    assert len(sendlio.campaigns) == 1
    assert "in_doubt" in bridged.log


def test_a_bounce_that_a_campaign_counts_later_goes_back_to_the_sender(bridged: Server, stub: Stub) -> None:
    sendlio = Sendlio(stub, "ann@list.example", "bob@list.example")
    bridged.start()
    send(bridged, "ann@list.example", "bob@list.example")
    until(lambda: len(states(bridged)) == 2, bridged)
    [ann] = [one for one in sendlio.campaigns if one["audience_id"] == 100]
    ann["bounces"] = 1

    until(lambda: states(bridged)["ann@list.example"] == "bounced", bridged, 90)
    [notice] = bridged.arrived(bridged.facts["username"])
    assert b"Final-Recipient: rfc822; ann@list.example" in bridged.raw(notice)
    assert states(bridged)["bob@list.example"] == "sent"
