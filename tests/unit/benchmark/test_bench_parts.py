"""What a run measures beside rates: its figures as a document, tables, a chart and a page; and the mail it makes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import dns.message
import dns.query
import pytest

from bench.backlog import Backlog
from bench.cases import CASES, SIGNED
from bench.chart import chart
from bench.document import Document, from_json, to_json
from bench.features import FEATURES, PREFIX
from bench.figures import Round
from bench.history import EMPTY, FULL, History
from bench.idle import Idle
from bench.latency import Latency
from bench.machine import Machine
from bench.memory import forget_peaks, held, largest_peak, together
from bench.name_server import name_server
from bench.process import family, share
from bench.publish import BEGIN, DOCS, END, page
from bench.relay_config import PORTS, configuration
from bench.table import markdown
from bench.tables import backlog_table, feature_table, history_table, tables
from relay.ports import SystemClock
from relay.settings import Settings
from relay.store.ids import spool_of
from relay.store.spool import SqliteSpool

FILL = Path(__file__).parents[3] / "bench" / "fill.py"
MACHINE = Machine("Example <9000>", 2, 4.0, "6.1", "Debian", "3.11", "ext4 on /dev/vda", 0.2, 0.1, "abc")
QUANTILES = {"p50": 1.0, "p90": 2.0, "p99": 3.0, "max": 4.0}


def rounds(case, rates):
    """One round for each system with that rate."""
    return [Round(case, system, 0, 1000, 1000 / rate, 1.0, 0.01, {}, 50.0) for system, rate in rates.items()]


def backlog(system, queued, drained):
    return Backlog(
        system, queued, "so", 5.0, 0.5, 1.0, 100.0, 120.0, 60.0, drained, QUANTILES, [(1.0, 5), (2.0, queued)]
    )


@pytest.fixture
def document():
    return Document(
        date="2026-01-01",
        machine=MACHINE,
        versions={"relay": "sendrelay 1", "Postfix": "Postfix 3"},
        cases=[CASES[0]],
        rounds=rounds("kept", {"relay": 2000.0, "postfix": 500.0}),
        latency=[Latency("relay", "half", 100.0, 200.0, QUANTILES, QUANTILES)],
        backlog=[backlog("relay", 1000, 2.0), backlog("Postfix", 50, 1.0)],
        history=History(1000, 10.0, {EMPTY: 1.0, FULL: 1.2}, rounds("kept", {EMPTY: 1000.0, FULL: 900.0})),
        features=rounds("feature:dkim", {"off": 1000.0, "on": 800.0}),
        idle=[Idle("relay", "after the start", 3, 120.0, 40.0, 0.01, 5000.0)],
    )


# --- figures -------------------------------------------------------------------------------------------------


def test_a_document_reads_back_as_it_was_written(document):
    assert from_json(to_json(document)) == document


def test_a_document_of_one_part_reads_back_too():
    alone = Document("2026-01-01", MACHINE)
    assert from_json(to_json(alone)) == alone


@pytest.mark.parametrize("text", ["{}", "[]", "not json", '{"date": "x", "machine": {"cpu": 1}}'])
def test_another_file_is_refused_as_no_figures(text):
    with pytest.raises(ValueError):  # noqa: PT011 - json raises one of its own
        from_json(text)


def test_there_is_a_table_for_each_part_and_none_for_what_was_not_measured(document):
    assert len(list(tables(document))) == 6
    assert list(tables(Document("2026-01-01", MACHINE))) == []


def test_every_line_of_every_table_has_as_many_cells_as_its_head(document):
    for table in tables(document):
        assert {len(row) for row in table.rows} == {len(table.head)}, table.title


def test_a_long_queue_is_compared_by_the_rate_at_which_it_drains(document):
    table = backlog_table(document.backlog)
    assert {row[0]: row[-1] for row in table.rows if row[-1]} == {"drained from the start on, msg/s": "10.00x"}
    assert backlog_table(document.backlog[:1]).head == ["", "relay"]


def test_history_is_compared_as_full_over_empty(document):
    [*_, last] = history_table(document.history).rows
    assert last[:2] == ("ratio", "0.90x")


def test_a_feature_shows_its_rate_over_the_rate_without_and_the_cpu_a_message_more():
    both = [replace(one, cpu={"off": 1.0, "on": 1.25}[one.system]) for one in rounds(
        "feature:dkim", {"off": 1000.0, "on": 800.0})]  # fmt: skip
    [row] = feature_table(both).rows
    assert row[2:5] == ("1,000", "800", "0.80x")
    assert row[-1] == "+250"


def test_a_table_of_a_page_has_figures_at_the_right(document):
    lines = markdown(next(iter(tables(document)))).splitlines()
    assert lines[1].startswith("| --- | --- | ---: |")
    assert len({line.count("|") for line in lines}) == 1


# --- docs ----------------------------------------------------------------------------------------------------


def test_the_chart_is_xml_with_a_bar_for_each_system_and_the_machine_named(document):
    root = ElementTree.fromstring(chart(document))
    bars = [one for one in root.iter() if one.tag.endswith("rect") and one.get("height") == "16"]
    assert [int(bar.get("width")) for bar in bars] == [320, 80]
    words = [one.text for one in root.iter() if one.tag.endswith("text")]
    assert "4.00x" in words
    assert any("Example <9000>" in text for text in words)


def test_a_case_measured_on_one_side_alone_is_not_in_the_chart(document):
    document.rounds = document.rounds[:1]
    root = ElementTree.fromstring(chart(document))
    assert not [one for one in root.iter() if one.get("height") == "16"]


def test_publishing_replaces_what_stands_between_the_marks_and_nothing_else(document):
    text = f"# Title\n\n{BEGIN}\n\nold\n\n{END}\n\nend\n"
    once = page(text, document)
    assert once.startswith(f"# Title\n\n{BEGIN}\n")
    assert once.endswith(f"{END}\n\nend\n")
    assert "old" not in once
    assert page(once, document) == once


def test_a_page_without_marks_is_refused(document):
    with pytest.raises(ValueError, match="no marks"):
        page("# Title\n", document)


def test_the_page_and_its_chart_show_the_figures_that_stand_beside_them():
    figures = DOCS / "benchmark.json"
    if not figures.exists():
        pytest.skip("docs/benchmark.json is not there: no run of make bench-all has been published by make bench-docs")
    published = from_json(figures.read_text())
    text = (DOCS / "benchmark.md").read_text()
    assert page(text, published) == text
    assert (DOCS / "benchmark.svg").read_text() == chart(published)


def test_the_page_has_the_marks_that_publishing_looks_for(document):
    assert "example" in page((DOCS / "benchmark.md").read_text(), document).lower()


# --- the relay of a part -------------------------------------------------------------------------------------


def settings_of(changes):
    ports = {name: 10_000 + place for place, name in enumerate(PORTS)}
    text = configuration("/tmp/x", 1, ports, 25, "bench.example", "rcpt.example", changes)
    return Settings.model_validate(tomllib.loads(text))


@pytest.mark.parametrize("feature", FEATURES, ids=lambda one: one.name)
def test_each_feature_differs_between_off_and_on_in_settings_or_load(feature):
    off, on = settings_of(feature.off), settings_of(feature.on)
    assert (off != on) != bool(feature.load)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda one: one.name)
def test_each_feature_is_a_load_the_generator_knows(feature):
    case = replace(CASES[0], name=PREFIX + feature.name, **feature.both, **{k: v for k, v in feature.load.items()
                                                                            if k not in feature.both})  # fmt: skip
    assert case.sender.endswith(SIGNED) == (feature.name == "dkim")
    assert case.arrivals == (2 if feature.name == "dsn" else 1)


def test_a_changed_setting_leaves_the_rest_of_its_table_alone():
    changed = settings_of({"inbound": {"spf": "enforce"}})
    assert changed.inbound.spf == "enforce"
    assert changed.inbound.domains == ("rcpt.example",)


def test_every_name_has_the_text_record_the_name_server_was_given():
    with name_server("v=spf1 -all") as address:
        host, port = address.split(":")
        question = dns.message.make_query("any.example", "TXT")
        answer = dns.query.udp(question, host, port=int(port), timeout=60)
        assert '"v=spf1 -all"' in answer.answer[0].to_text()
        assert not dns.query.udp(dns.message.make_query("any.example", "A"), host, port=int(port), timeout=60).answer


# --- the mail that is made -----------------------------------------------------------------------------------


def fill(what, folder, number, count):
    command = [sys.executable, "-P", str(FILL), what, str(folder), str(number), str(count)]
    return int(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)


def asked(folder, number, question):
    """What `question(spool)` finds in a spool opened as a server opens it."""

    async def scene():
        spool = SqliteSpool.open(folder, number, SystemClock(), file_threshold=65_536)
        try:
            return await question(spool)
        finally:
            await spool.close()

    return asyncio.run(scene())


def test_a_queue_that_was_made_is_due_at_once(tmp_path):
    assert fill("queue", tmp_path, 1, 700) == 700

    async def question(spool):
        return await spool.due(0.0, SystemClock.now(), 1000), await spool.counts()

    due, counts = asked(tmp_path, 1, question)
    assert len({message.id for message in due}) == 700
    assert {spool_of(message.id) for message in due} == {1}
    assert counts.messages == 700


def test_a_history_that_was_made_is_finished_mail_as_a_server_leaves_it(tmp_path):
    assert fill("history", tmp_path, 3, 1000) == 1000

    async def question(spool):
        newest = await spool.digests(0.0, 1)
        [(_, number, _)] = newest
        return await spool.counts(), await spool.message(f"{number:016x}")

    counts, message = asked(tmp_path, 3, question)
    assert counts.messages == 0
    assert [one["state"] for one in message["recipients"]] == ["sent"]
    assert [event["kind"] for event in message["events"]] == ["queued", "sent"]
    assert len(message["attempts"]) == 1


def test_shares_add_up_and_differ_by_one_at_most():
    assert share(10, 3) == [4, 3, 3]


# --- memory --------------------------------------------------------------------------------------------------


def test_memory_of_this_process_is_some_and_its_peak_no_less():
    me = os.getpid()
    assert 1 < held(me).own <= held(me).pss + 1
    assert together([me]) > 1
    forget_peaks([me])
    assert largest_peak([me]) > 1


def test_a_process_that_is_gone_holds_nothing():
    assert together([2**22 + 1]) == 0
    assert largest_peak([2**22 + 1]) == 0


def test_a_family_is_a_process_and_its_children(tmp_path):
    parent = subprocess.Popen(["/bin/sh", "-c", "sleep 20 & echo; wait"], stdout=subprocess.PIPE)
    try:
        parent.stdout.readline()
        found = family(parent.pid)
        assert found[0] == parent.pid
        assert len(found) == 2
    finally:
        for pid in reversed(family(parent.pid)):
            os.kill(pid, 9)
        parent.wait()
        parent.stdout.close()
