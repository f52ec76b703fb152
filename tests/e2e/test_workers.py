"""Several workers: one dies and is started again, and a smaller number of workers strands nobody's mail."""

from __future__ import annotations

import os
import signal
import time

from sandbox_server import Server


def send(server: Server, recipient: str) -> None:
    sender = server.facts["username"]
    with server.client() as client:
        client.sendmail(sender, [recipient], f"From: {sender}\r\nSubject: x\r\n\r\nx\r\n")


def test_a_killed_worker_is_started_again_and_its_mail_goes_out(server: Server) -> None:
    server.configure("workers = 1", "workers = 2")
    server.start()
    before = server.workers()
    assert len(before) == 2
    for number in range(6):
        send(server, f"first{number}@shop.example")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 20
    while len(after := server.workers()) < 2 or set(after) & set(before):
        assert time.monotonic() < end, server.log
        time.sleep(0.05)
    server.until_ready()
    for number in range(6):
        send(server, f"second{number}@shop.example")
    for number in range(6):
        server.arrived(f"first{number}@shop.example")
        server.arrived(f"second{number}@shop.example")
    assert server.stop() == 0


def test_spools_of_workers_that_are_no_more_are_emptied(server: Server) -> None:
    server.configure("workers = 1", "workers = 3")
    server.configure("[retry.sandbox]\ndelays = [2, 5", "[retry.sandbox]\ndelays = [600, 600")
    server.start()
    for number in range(12):
        send(server, f"451+{number}@shop.example")
    time.sleep(1)
    assert server.stop() == 0
    assert len(list((server.var / "spool").glob("*.db"))) == 3
    server.configure("workers = 3", "workers = 1")
    server.start()
    end = time.monotonic() + 15
    while 'relay_queue_recipients{state="deferred"} 12.0' not in server.get("/metrics").decode():
        assert time.monotonic() < end, server.get("/metrics").decode()
        time.sleep(0.1)


def test_metrics_of_all_workers_are_one_page(server: Server) -> None:
    server.configure("workers = 1", "workers = 2")
    server.start()
    for number in range(8):
        send(server, f"anna{number}@shop.example")
    for number in range(8):
        server.arrived(f"anna{number}@shop.example")
    assert 'relay_accepted_total{listener="submission"} 8.0' in server.get("/metrics").decode()


def test_a_server_started_right_after_a_kill_waits_for_the_workers_of_the_one_before(server: Server) -> None:
    server.configure("workers = 1", "workers = 2")
    server.start()
    assert server.process is not None
    workers = server.workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)  # they do not notice yet that they are alone
    try:
        server.process.kill()
        server.process.wait(30)
        server.start(wait=False)
        end = time.monotonic() + 60
        while "relay: waits until the server before this one has ended" not in server.log:
            assert time.monotonic() < end, server.log
            time.sleep(0.02)
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
    server.until_ready()
    send(server, "anna@shop.example")
    server.arrived("anna@shop.example")
    assert server.stop() == 0
