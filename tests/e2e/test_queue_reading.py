"""`relay queue` as programs read it: shapes, exit codes and errors, beside a running sandbox and after it stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sandbox_server import Server, relay

UNKNOWN_IN_SPOOL_0 = "0000000000000001"
UNKNOWN_SPOOL = "0000000000005001"


class Queue:
    """The verbs over one server whose retries are far away, so that only the operator moves anything."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def verb(self, *arguments: str) -> tuple[int, Any, str]:
        """Exit code, the JSON document, standard error."""
        done = relay("--config", self.server.config, "queue", *arguments, "--json")
        return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr

    def act(self, *arguments: str) -> tuple[int, int]:
        """Exit code and how many recipients a verb touched."""
        code, answer, error = self.verb(*arguments)
        assert answer is not None, error
        return code, answer["recipients"]

    def text(self, *arguments: str) -> str:
        done = relay("--config", self.server.config, "queue", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def send(self, *recipients: str) -> str:
        """Returns the id of the 250 reply."""
        with self.server.client() as client:
            client.mail(self.server.facts["username"])
            for recipient in recipients:
                assert client.rcpt(recipient)[0] == 250
            code, answer = client.data(b"Subject: Hello\r\n\r\nHello\r\n")
        assert code == 250
        return answer.decode().split()[-1]

    def until(self, message_id: str, *states: str) -> dict[str, Any]:
        """The message once its recipients have these states."""
        end = time.monotonic() + 60
        while True:
            code, message, error = self.verb("show", message_id)
            assert code == 0, error
            if [one["state"] for one in message["recipients"]] == list(states):
                shown: dict[str, Any] = message
                return shown
            assert time.monotonic() < end, message
            time.sleep(0.05)


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queue]:
    server = Server(tmp_path_factory.mktemp("queue") / "var")
    server.configure("delays = [2, 5, 10, 20, 40]", "delays = [3600, 3600]")
    server.start()
    yield Queue(server)
    if server.process is not None:
        server.kill()


def test_list_shows_what_waits_and_why_and_nothing_that_is_finished(queue: Queue) -> None:
    finished = queue.send("anna@list.example")
    waiting = queue.send("451@list.example", "berta@list.example")
    queue.until(finished, "delivered")
    queue.until(waiting, "deferred", "delivered")
    code, answer, _ = queue.verb("list")
    assert code == 0
    assert finished not in [one["id"] for one in answer["messages"]]
    (message,) = queue.verb("list", "--domain", "list.example")[1]["messages"]
    assert message["id"] == waiting
    assert message["from"] == queue.server.facts["username"]
    first, second = message["recipients"]
    assert (first["address"], first["state"], first["attempts"]) == ("451@list.example", "deferred", 1)
    assert first["reply"].startswith("451 4.3.0 ")
    assert first["next_at"] > message["received_at"]
    assert (second["state"], second["next_at"]) == ("delivered", None)
    text = queue.text("list", "--domain", "list.example")
    assert waiting in text
    assert "deferred  451@list.example" in text
    assert "berta@list.example" not in text


def test_list_is_narrowed_by_domain_account_and_limit(queue: Queue) -> None:
    for recipient in ("451@narrow.example", "452@narrow.example"):
        queue.until(queue.send(recipient), "deferred")
    assert len(queue.verb("list", "--domain", "NARROW.example", "--account", "default")[1]["messages"]) == 2
    assert len(queue.verb("list", "--domain", "narrow.example", "--limit", "1")[1]["messages"]) == 1
    for options in (["--domain", "nobody.example"], ["--domain", "narrow.example", "--account", "other"]):
        assert queue.verb("list", *options)[:2] == (0, {"messages": []})


def test_show_tells_attempts_and_events_in_their_order(queue: Queue) -> None:
    message_id = queue.send("451@show.example", "550@show.example")
    message = queue.until(message_id, "deferred", "bounced")
    assert (message["id"], message["account"]) == (message_id, "default")
    (attempt,) = message["attempts"]
    assert (attempt["transport"], attempt["destination"], attempt["recipients"]) == ("direct", "show.example", [0, 1])
    first, *others = [(one["kind"], one["recipient"]) for one in message["events"]]
    assert first == ("queued", None)
    assert sorted(others) == [("bounced", 1), ("deferred", 0)]
    lines = queue.text("show", message_id).splitlines()
    assert any(line.startswith("  event") and "deferred 451@show.example 451 4.3.0" in line for line in lines)


def test_explain_tells_in_order_what_was_decided_and_what_holds_it(queue: Queue) -> None:
    message_id = queue.send("451@explain.example", "550@explain.example")
    queue.until(message_id, "deferred", "bounced")
    queue.verb("hold", message_id)
    code, answer, _ = queue.verb("explain", message_id)
    assert (code, answer["id"], answer["server"]) == (0, message_id, "running")
    accepted, attempt, *decided, held = [line["what"] for line in answer["record"]]
    assert accepted.startswith(f"accepted ({queue.server.facts['username']}, account default) from ")
    assert attempt.startswith("attempt by direct to explain.example for 451@explain.example, 550@explain.example at ")
    assert sorted(line.split(" 4", 1)[0].split(" 5", 1)[0] for line in decided) == [
        "451@explain.example: put off:",
        "550@explain.example: given up:",
    ]
    assert held == "451@explain.example: held by the operator"
    first, second = [one["now"] for one in answer["recipients"]]
    assert first == f"held by the operator; `relay queue release {message_id}` lets it go"
    assert second == "finished: given up"
    lines = queue.text("explain", message_id).splitlines()
    assert lines[-2] == f"now: 451@explain.example is held: {first}"
    queue.act("cancel", message_id)


def test_top_shows_rates_and_what_waits(queue: Queue) -> None:
    message_id = queue.send("451@top.example")
    queue.until(message_id, "deferred")
    offset = str(queue.server.offset)
    done = relay("--config", queue.server.config, "top", "--once", "--json", "--port-offset", offset)
    assert done.returncode == 0, done.stderr
    picture = json.loads(done.stdout)
    assert set(picture["rates"]) == {"accepted", "delivered", "sent", "deferred", "bounced"}
    assert picture["queue"]["deferred"] >= 1
    assert picture["oldest_seconds"] > 0
    assert (picture["sessions"], picture["silent_spools"]) == (0, [])
    queue.act("cancel", message_id)


def test_retry_leaves_alone_whoever_does_not_wait(queue: Queue) -> None:
    message_id = queue.send("451@retry.example", "anna@retry.example")
    queue.until(message_id, "deferred", "delivered")
    assert queue.act("retry", message_id) == (0, 1)
    end = time.monotonic() + 60
    while (message := queue.until(message_id, "deferred", "delivered"))["recipients"][0]["attempts"] < 2:
        assert time.monotonic() < end, message
    assert message["recipients"][1]["attempts"] == 1
    assert len(queue.server.inbox("anna@retry.example")) == 1


def test_cancel_sends_no_notice(queue: Queue) -> None:
    message_id = queue.send("451@cancel.example")
    queue.until(message_id, "deferred")
    assert queue.act("cancel", message_id) == (0, 1)
    refused = queue.send("550@notice.example")
    queue.until(refused, "bounced")
    sender = queue.server.facts["username"]
    notices = [queue.server.raw(one) for one in queue.server.arrived(sender)]
    assert not [one for one in notices if b"cancel.example" in one]


def test_a_filter_acts_in_the_running_server_and_a_dry_run_does_not(queue: Queue) -> None:
    ids = [queue.send("451@filter.example"), queue.send("451@filter.example", "452@other.example")]
    queue.until(ids[0], "deferred")
    queue.until(ids[1], "deferred", "deferred")
    code, answer, _ = queue.verb("hold", "--domain", "filter.example", "--state", "deferred", "--dry-run")
    assert (code, answer["recipients"], answer["dry_run"]) == (0, 2, True)
    assert [message["id"] for message in answer["messages"]] == ids
    assert queue.act("hold", "--domain", "filter.example", "--older", "1h") == (1, 0)
    text = queue.text("hold", "--domain", "@filter.example", "--account", "default")
    assert text.splitlines() == [f"{one}  451@filter.example  deferred  hold" for one in ids]
    queue.until(ids[1], "held", "deferred")
    assert [event["kind"] for event in queue.verb("show", ids[0])[1]["events"]][-1] == "held"
    assert queue.act("release", "--sender", queue.server.facts["username"], "--domain", "filter.example") == (0, 2)
    queue.until(ids[1], "deferred", "deferred")
    assert queue.act("cancel", *ids) == (0, 3)


def test_thousands_of_ids_in_one_command_are_counted_together_and_once(queue: Queue) -> None:
    ids = [queue.send("451@several.example"), queue.send("452@several.example", "454@several.example")]
    queue.until(ids[0], "deferred")
    queue.until(ids[1], "deferred", "deferred")
    unknown = [UNKNOWN_SPOOL, *(f"{number:012x}0001" for number in range(0, 10_500 * 256, 256))]
    assert queue.act("cancel", ids[0], *unknown, *ids) == (0, 3)


@pytest.mark.parametrize("message_id", [UNKNOWN_IN_SPOOL_0, UNKNOWN_SPOOL])
def test_an_id_nobody_knows_is_exit_code_1(queue: Queue, message_id: str) -> None:
    for verb in ("show", "explain"):
        assert queue.verb(verb, message_id) == (1, None, f"relay: no message {message_id}\n")
    for verb in ("retry", "cancel"):
        assert queue.act(verb, message_id) == (1, 0)


def test_without_a_server_reading_works_and_acting_says_what_to_start(queue: Queue) -> None:
    message_id = queue.send("451@later.example")
    queue.until(message_id, "deferred")
    assert queue.server.stop() == 0
    assert queue.verb("list", "--domain", "later.example")[1]["messages"][0]["id"] == message_id
    assert queue.verb("show", message_id)[1]["recipients"][0]["state"] == "deferred"
    code, answer, _ = queue.verb("explain", message_id)
    assert (code, answer["server"]) == (0, "no answer")
    assert answer["recipients"][0]["now"].endswith(", once a server runs")
    for verb in ("retry", "cancel"):
        code, answer, error = queue.verb(verb, message_id)
        assert (code, answer) == (2, None)
        assert error.startswith(f"relay: {queue.server.var / 'run' / 'control-0.sock'}: the server does not run; start")
        assert error.count("\n") == 1
    queue.server.start()
    assert queue.act("cancel", message_id) == (0, 1)
