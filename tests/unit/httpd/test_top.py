"""`relay top`: rates from counters, the screen, and what it says where nobody answers."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from typer.testing import CliRunner

from relay.cli.main import app
from relay.cli.top import Picture, rates, render, totals

EXPOSITION = """\
# HELP relay_accepted_recipients_total Recipients
relay_accepted_recipients_total{listener="submission"} 10.0
relay_accepted_recipients_total{listener="smtp"} 5.0
relay_finished_recipients_total{state="delivered"} 7.0
relay_finished_recipients_total{state="bounced"} 1.0
relay_deliveries_total{outcome="deferred",transport="direct"} 2.0
relay_deliveries_total{outcome="deferred",transport="provider:a"} 1e+03
relay_deliveries_total{outcome="delivered",transport="direct"} 7.0
relay_accepted_recipients_created{listener="smtp"} 1.8e+09
"""


def test_counters_are_summed_over_their_other_labels() -> None:
    assert totals(EXPOSITION) == {"accepted": 15, "delivered": 7, "sent": 0, "deferred": 1002, "bounced": 1}


def test_a_rate_is_the_difference_by_the_time_and_a_restart_counts_from_nought() -> None:
    assert rates({"accepted": 10.0}, {"accepted": 15.0}, 2.0) == {"accepted": 2.5}
    assert rates({"accepted": 10.0}, {"accepted": 4.0}, 2.0) == {"accepted": 2.0}
    assert rates(None, {"accepted": 4.0}, 2.0) is rates({"accepted": 4.0}, None, 2.0) is None


def test_the_screen_shows_all_of_it_and_no_control_character_of_a_peer() -> None:
    hops = [{"next_hop": f"direct:{n}.example\x1b[2J", "waiting": n, "running": 1} for n in range(17)]
    queue = {"queued": 3, "deferred": 2, "held": 1}
    screen = render(Picture({"accepted": 2.5}, queue, 61.2, 4, hops, {"provider:main": 30.0}, [7]))
    lines = screen.splitlines()
    assert lines[:5] == [
        "recipients/s  accepted 2.5",
        "queue         queued 3  deferred 2  held 1  oldest 61 s",
        "sessions      4",
        "spool 7: no answer from its worker",
        "shut          provider:main  30 s more",
    ]
    assert lines[-1] == "and 2 more"
    assert "\x1b" not in screen


def test_without_a_server_it_says_so_and_ends(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    config = tmp_path / "relay.toml"
    config.write_text(f'[server]\nvar = "{tmp_path}"\n[http]\nport = {port}\n')
    result = CliRunner().invoke(app, ["--config", str(config), "top", "--once", "--json"])
    assert result.exit_code == 0, result.stderr
    picture = json.loads(result.stdout)
    assert (picture["rates"], picture["oldest_seconds"], picture["next_hops"]) == (None, None, [])
    assert picture["queue"] == {"queued": 0, "deferred": 0, "held": 0}
