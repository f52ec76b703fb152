"""Mail that waits for an address which comes onto the list: not tried again, and its sender is told of the list."""

from __future__ import annotations

from http_stub import states, until
from sandbox_server import Server, relay


def test_what_waits_is_not_sent_and_the_list_is_named(server: Server) -> None:
    """While it is retried, the operator puts the address on the list; afterwards, off it again, mail goes as ever."""
    server.configure("delays = [2, 5, 10, 20, 40]", "delays = [2, 2, 2, 2, 2, 2, 2, 2, 2]\njitter = 0")
    with server.config.open("a") as config:
        config.write('\n[account.default]\nsuppress = "all"\n')
    server.start()
    sender, waiting = server.facts["username"], "450@shop.example"
    text = f"From: {sender}\r\nTo: {waiting}\r\nSubject: x\r\n\r\nHi\r\n"
    with server.client() as client:
        client.sendmail(sender, [waiting, "anna@shop.example"], text)
    server.arrived("anna@shop.example")
    until(lambda: states(server).get(waiting) == "deferred", server)

    about = ("--account", "default", waiting)
    assert relay("--config", server.config, "suppression", "add", *about, "--note", "asked by phone").returncode == 0
    until(lambda: states(server).get(waiting) == "bounced", server)
    [notice] = server.arrived(sender)
    content = server.raw(notice).replace(b"\r\n ", b" ")
    assert b"5.7.1 Not sent: on the suppression list of account default (manual: asked by phone)" in content
    assert b"relay suppression remove" in content
    assert b'relay_suppressed_total{reason="manual"} 1.0' in server.get("/metrics")

    assert relay("--config", server.config, "suppression", "remove", *about).returncode == 0
    with server.client() as client:
        client.sendmail(sender, [waiting], text)
    until(lambda: states(server).get(waiting) == "deferred", server)
