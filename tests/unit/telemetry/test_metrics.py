"""The metrics: documented, bounded, and adding up."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from relay.mail.event import Event, EventKind
from relay.mail.reply import reply
from relay.telemetry.metrics import MOST_LABEL_VALUES, Metrics

ROOT = Path(__file__).parents[3]
_ROW = re.compile(r"^\| `(relay_\w+)` \| (\w+) \| ([^|]*)\| (.+) \|$", re.MULTILINE)


def _value(metrics: Metrics, sample: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for found in family.samples:
            if found.name == sample and found.labels == labels:
                return found.value
    return None


def _every_metric(metrics: Metrics) -> None:
    """Touch every labelled metric, so that the exposition shows it with its labels."""
    metrics.session_opened("submission")
    metrics.session_closed("submission")
    metrics.tls_session("in", "TLSv1.3")
    metrics.certificates({"/etc/tls/main.pem": 1.0})
    metrics.authenticated("submission", success=True)
    metrics.tolerated("submission", "bare_lf")
    metrics.rejected("submission", reply(550, "5.7.1", "no"))
    metrics.accepted("submission", 2, 4096, 0.004)
    metrics.repeated("submission")
    metrics.suppressed("bounce")
    metrics.contact("crm", "told")
    metrics.contacts_paused("crm", paused=True)
    metrics.contacts_waiting("crm", 0, 3)
    metrics.http_request("public", 200)
    metrics.commit(0.002, 3)
    metrics.queue(1, {"queued": 2}, 1.5)
    metrics.delivery("direct", 0.5, {"delivered": 1})
    metrics.recognised("local", "user:www-data")
    metrics.route_paused("provider:sendpost", paused=True)
    metrics.next_hop_open("direct:b.example", is_open=True)
    metrics.provider_silent("provider:main", silent=True)
    metrics.news("delivered")
    metrics.callback("sendpost", "taken")
    metrics.poll("sp", "taken")
    metrics.asked("provider:a", {"has": 1})


def test_the_document_lists_every_metric_with_its_type_labels_and_meaning() -> None:
    """docs/reference/metrics.md and the program must agree on names, types, labels and help texts."""
    documented = {
        name: (kind, frozenset(re.findall(r"`(\w+)`", labels)), text)
        for name, kind, labels, text in _ROW.findall((ROOT / "docs/reference/metrics.md").read_text())
    }
    metrics = Metrics(CollectorRegistry(), "1.0")
    _every_metric(metrics)

    exposed = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        if family.name.startswith("relay_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
            exposed[name] = (family.type, labels, family.documentation)

    assert documented == exposed


def test_contacts_that_wait_in_several_spools_are_added_up() -> None:
    """Each spool of a worker says how many it has."""
    metrics = Metrics(CollectorRegistry(), "1.0")
    for spool, waiting in ((0, 3), (2, 4), (0, 1)):
        metrics.contacts_waiting("crm", spool, waiting)

    assert _value(metrics, "relay_contacts_waiting", contacts="crm") == 5


def test_a_platform_that_nobody_tells_any_more_neither_waits_nor_pauses() -> None:
    metrics = Metrics(CollectorRegistry(), "1")
    metrics.contacts_waiting("crm", 0, 3)
    metrics.contacts_waiting("news", 0, 4)
    metrics.contacts_paused("crm", paused=True)
    metrics.contacts_left("crm")

    assert _value(metrics, "relay_contacts_waiting", contacts="crm") == 0
    assert _value(metrics, "relay_contacts_paused", contacts="crm") == 0
    assert _value(metrics, "relay_contacts_waiting", contacts="news") == 4
    metrics.contacts_waiting("crm", 1, 2)
    assert _value(metrics, "relay_contacts_waiting", contacts="crm") == 2


def test_label_values_beyond_the_cap_count_as_other() -> None:
    """However many different values arrive, a metric keeps a bounded number of series."""
    metrics = Metrics(CollectorRegistry(), "1.0")

    for number in range(MOST_LABEL_VALUES * 3):
        metrics.http_request(f"interface-{number}", 200)

    series = [line for line in metrics.exposition().splitlines() if line.startswith(b"relay_http_requests_total{")]
    assert len(series) == MOST_LABEL_VALUES + 1
    assert _value(metrics, "relay_http_requests_total", interface="other", status="other") == MOST_LABEL_VALUES * 2


def test_accepted_recipients_equal_finished_and_queued_ones() -> None:
    """The sums of the document's "Is anything lost?" come from what is counted."""
    metrics = Metrics(CollectorRegistry(), "1.0")

    metrics.accepted("submission", 5, 1000, 0.001)
    for kind in (EventKind.DELIVERED, EventKind.SENT, EventKind.BOUNCED, EventKind.DEFERRED, EventKind.QUEUED):
        metrics.event(Event(0.0, kind, "id-1", "a@b.example"))
    metrics.queue(1, {"deferred": 1, "queued": 1}, 3.0)

    states = ("sent", "delivered", "bounced", "expired", "cancelled")
    finished = sum(_value(metrics, "relay_finished_recipients_total", state=s) or 0 for s in states)
    waiting = sum(_value(metrics, "relay_queue_recipients", state=s) or 0 for s in ("queued", "deferred", "held"))
    assert _value(metrics, "relay_accepted_recipients_total", listener="submission") == finished + waiting == 5


def test_a_state_that_emptied_goes_back_to_zero() -> None:
    """A queue state missing from a report is 0, not its last value."""
    metrics = Metrics(CollectorRegistry(), "1.0")

    metrics.queue(1, {"held": 7}, 3.0)
    metrics.queue(0, {}, 0.0)

    assert _value(metrics, "relay_queue_recipients", state="held") == 0


def test_a_certificate_that_is_served_no_more_has_no_expiry() -> None:
    metrics = Metrics(CollectorRegistry(), "1.0")
    name = "relay_certificate_expiry_timestamp_seconds"

    metrics.certificates({"a.pem": 5.0, "b.pem": 6.0})
    metrics.certificates({"b.pem": 7.0})

    assert _value(metrics, name, file="a.pem") is None
    assert _value(metrics, name, file="b.pem") == 7.0


def test_the_expiry_is_that_of_the_worker_that_lags_behind(tmp_path: Path) -> None:
    """One that could not take over the renewed file must not be hidden by those that did."""
    program = (
        "import sys\n"
        "from prometheus_client import CollectorRegistry\n"
        "from relay.telemetry.metrics import Metrics\n"
        "metrics = Metrics(CollectorRegistry(), '1.0')\n"
        "metrics.certificates({'a.pem': float(sys.argv[1])})\n"
        "print(metrics.exposition().decode())\n"
    )
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    for expiry in ("5", "9"):
        command = [sys.executable, "-c", program, expiry]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    assert 'relay_certificate_expiry_timestamp_seconds{file="a.pem"} 5.0' in done.stdout


def test_any_worker_exposes_the_sum_of_all(tmp_path: Path) -> None:
    """With PROMETHEUS_MULTIPROC_DIR one process' exposition adds up what all of them counted."""
    program = (
        "from prometheus_client import CollectorRegistry\n"
        "from relay.telemetry.metrics import Metrics\n"
        "metrics = Metrics(CollectorRegistry(), '1.0')\n"
        "metrics.accepted('submission', 2, 100, 0.1)\n"
        "print(metrics.exposition().decode())\n"
    )
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}

    outputs = [
        subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]

    assert 'relay_accepted_recipients_total{listener="submission"} 2.0' in outputs[0].stdout
    assert 'relay_accepted_recipients_total{listener="submission"} 4.0' in outputs[1].stdout
