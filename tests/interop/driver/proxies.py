"""Proxies: HAProxy and nginx in front of the relay, as docs/howto/balancer.md has them, and the client's address."""

from __future__ import annotations

import base64
import re
import smtplib
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from driver.farend import check_suffix
from driver.frontdoor import BALANCED, BALANCED_TLS, PROXIED, UNWRAPPED, FrontDoor
from driver.libraries import Library
from driver.options import SUBMISSION, Sent, compose, received_has
from driver.refusals import expect
from driver.samples import PLAIN, Letter
from driver.table import Table
from driver.workplace import CheckError, listens, wait_for

CLIENT = "127.0.0.9"  # where the clients of these checks come from
_MODULE = "usr/lib/nginx/modules/ngx_mail_module.so"
_HEADERS = (
    "send-proxy",
    "send-proxy-v2",
    "send-proxy-v2-ssl",
    "send-proxy-v2-ssl-cn",
    "send-proxy-v2 proxy-v2-options unique-id,crc32c",
)


@dataclass(frozen=True, slots=True)
class Way:
    """A port of HAProxy's: which listener of the relay is behind it, and the words of its `server` line."""

    name: str
    target: int
    words: str
    tls_here: bool = False
    check: bool = False


_WAYS = (
    *(Way(f"{words}, STARTTLS", BALANCED, words) for words in _HEADERS),
    *(Way(f"{words}, port 465", BALANCED_TLS, words) for words in _HEADERS),
    Way("TLS ends at HAProxy, send-proxy-v2-ssl", UNWRAPPED, "send-proxy-v2-ssl", tls_here=True),
    Way("health checks", BALANCED, "send-proxy-v2 check-send-proxy check inter 200ms", check=True),
    Way("no header where one is due", BALANCED, ""),
    Way("a header where none is due", SUBMISSION, "send-proxy"),
)


def run_proxies(table: Table, door: FrontDoor, offset: int) -> None:
    ports = {way.name: offset + 3100 + number for number, way in enumerate(_WAYS)}
    table.group("HAProxy", lambda: _run_haproxy(table, door, ports))
    root = next((root for root in (Path("/"), door.workplace.root / "nginx") if (root / _MODULE).exists()), None)
    if root is not None:
        table.group("nginx", lambda: _run_nginx(table, door, root, offset + 3130))
    else:
        print("nginx          skipped: nginx and its mail module could not be installed", flush=True)
    table.check("swaks", "XCLIENT, its client has IPv6 and logged in there", partial(_swaks_xclient, door))


def _run_haproxy(table: Table, door: FrontDoor, ports: Mapping[str, int]) -> None:
    with _haproxy(door, ports):
        for way in _WAYS[:-2]:
            for client in ("nodemailer", "PHPMailer") if way.words in _HEADERS else ("nodemailer",):
                check = partial(_through_haproxy, door, Library(client, door.clients), way, ports[way.name])
                table.check("HAProxy", f"{way.name}: {client}"[:52], check)
        table.check("HAProxy", _WAYS[-2].name, partial(_no_header, door, ports[_WAYS[-2].name]))
        table.check("HAProxy", _WAYS[-1].name, partial(_undue_header, ports[_WAYS[-1].name]))


@contextmanager
def _haproxy(door: FrontDoor, ports: Mapping[str, int]) -> Iterator[None]:
    certs = door.sandbox.var / "certs"
    pair = door.workplace.file("haproxy.pem", (certs / "server.pem").read_bytes() + (certs / "server.key").read_bytes())
    text = "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n timeout check 2s\n"
    for number, way in enumerate(_WAYS):
        tls = f" ssl crt {pair}" if way.tls_here else ""
        text += f"listen way{number}\n bind 127.0.0.1:{ports[way.name]}{tls}\n unique-id-format %{{+X}}o%ci_%cp\n"
        text += " option smtpchk EHLO haproxy.example\n" if way.check else ""
        text += f" server relay 127.0.0.1:{door.sandbox.ports[way.target]} {way.words}\n"
    config = door.workplace.file("haproxy.cfg", text.encode())
    with door.workplace.daemon("haproxy", ["haproxy", "-db", "-f", config]):
        for port in ports.values():
            wait_for(f"HAProxy on port {port}", partial(listens, port))
        yield


def _through_haproxy(door: FrontDoor, library: Library, way: Way, port: int) -> str:
    case = f"haproxy-{library.name}-{port}".lower()
    recipient = f"anna@{case}.example"
    implicit = way.tls_here or way.target == BALANCED_TLS
    transport = {
        "nodemailer": {"port": port, "localAddress": CLIENT, "secure": implicit, "requireTLS": not implicit},
        "PHPMailer": {
            "Port": port,
            "SMTPSecure": "ssl" if implicit else "tls",
            "SMTPOptions": {"socket": {"bindto": f"{CLIENT}:0"}},
        },
    }[library.name]
    if way.check:
        # As many health checks as would take the server out if they failed.
        wait_for("health checks", lambda: _local_sessions(door) >= 5)
    mail = compose(door.sender, [recipient], f"Interop {case}")
    library.taken(case, SUBMISSION, {"transport": transport, "mails": [mail]})
    look = received_has(f"[{CLIENT}]", "ESMTPA " if way.tls_here else "ESMTPSA ")
    return look(Sent(door, door.one(recipient))) or ""


def _local_sessions(door: FrontDoor) -> int:
    return door.connections("balanced")


def _no_header(door: FrontDoor, port: int) -> str:
    """The connection is cut without a word, and the log says why."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as session:
        session.sendall(b"EHLO client.example\r\n")
        with suppress(ConnectionResetError):
            said = session.recv(100)
            if said:
                raise CheckError(f"the client was told {said!r}")
    log = door.workplace.logs / "front-door.log"
    wait_for("proxy_header_refused in the log", lambda: b'"proxy_header_refused"' in log.read_bytes())
    return "cut, proxy_header_refused"


def _undue_header(port: int) -> str:
    """It is no command, so the client hears 500 after the greeting."""
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as session:
        return expect(session.getreply(), "500 5.5.2")


class _Passwords(BaseHTTPRequestHandler):
    """What nginx asks whether a login is good, and where its session goes: ngx_mail_auth_http_module."""

    target = 0
    login = ("", "")

    def do_GET(self) -> None:
        good = (self.headers["Auth-User"], self.headers["Auth-Pass"]) == self.login
        self.send_response(200)
        self.send_header("Auth-Status", "OK" if good else "Invalid login or password")
        if good:
            self.send_header("Auth-Server", "127.0.0.1")
            self.send_header("Auth-Port", str(self.target))
        self.end_headers()

    def log_message(self, *facts: object) -> None: ...


def _run_nginx(table: Table, door: FrontDoor, root: Path, port: int) -> None:
    with _nginx(door, root, port):
        table.check("nginx", "XCLIENT, STARTTLS there: nodemailer", partial(_through_nginx, door, "nodemailer", port))
        table.check("nginx", "XCLIENT, STARTTLS there: PHPMailer", partial(_through_nginx, door, "PHPMailer", port))
        table.check("nginx", "its client cannot rename itself", partial(_renames_itself, door, port))
        table.check("nginx", "a wrong password never comes here", partial(_wrong_password, door, port))


@contextmanager
def _nginx(door: FrontDoor, root: Path, port: int) -> Iterator[None]:
    sandbox, folder = door.sandbox, door.workplace.run / "nginx"
    folder.mkdir()
    facts = {"target": sandbox.ports[PROXIED], "login": (sandbox.username, sandbox.password)}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Passwords", (_Passwords,), facts)) as passwords:
        threading.Thread(target=passwords.serve_forever, daemon=True).start()
        config = folder / "nginx.conf"
        config.write_text(
            f"load_module {root / _MODULE};\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\ndaemon off;\n"
            "master_process off;\nevents {}\n"
            f"mail {{\n auth_http 127.0.0.1:{passwords.server_port}/;\n server_name proxy.example;\n"
            f" ssl_certificate {sandbox.var}/certs/server.pem;\n ssl_certificate_key {sandbox.var}/certs/server.key;\n"
            f" server {{\n  listen 127.0.0.1:{port};\n  protocol smtp;\n  smtp_auth plain login;\n  starttls on;\n"
            "  xclient on;\n }\n}\n"
        )
        try:
            with door.workplace.daemon("nginx", [root / "usr/sbin/nginx", "-c", config, "-e", folder / "error.log"]):
                wait_for(f"nginx on port {port}", partial(listens, port))
                yield
        finally:
            passwords.shutdown()


def _through_nginx(door: FrontDoor, client: str, port: int) -> str:
    case = f"nginx-{client.lower()}"
    recipient = f"anna@{case}.example"
    transport = {
        "nodemailer": {"port": port, "localAddress": CLIENT, "requireTLS": True, "name": "app.client.example"},
        "PHPMailer": {
            "Port": port,
            "SMTPSecure": "tls",
            "Helo": "app.client.example",
            "SMTPOptions": {"socket": {"bindto": f"{CLIENT}:0"}},
        },
    }[client]
    mail = compose(door.sender, [recipient], f"Interop {case}")
    Library(client, door.clients).taken(case, SUBMISSION, {"transport": transport, "mails": [mail]})
    login = f"authenticated as {door.sandbox.username}"
    return received_has(f"from app.client.example ([{CLIENT}])", login)(Sent(door, door.one(recipient))) or ""


def _renames_itself(door: FrontDoor, port: int) -> str:
    """nginx passes on unread what comes after the login; who the client is must not be the client's to say."""
    with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=20, source_address=(CLIENT, 0)) as session:
        session.login(door.sandbox.username, door.sandbox.password)
        return expect(session.docmd("XCLIENT", "ADDR=192.0.2.1"), "503 5.5.1")


def _wrong_password(door: FrontDoor, port: int) -> str:
    before = door.connections("proxied")
    with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=20) as session:
        session.ehlo()
        wrong = base64.b64encode(f"\0{door.sandbox.username}\0not the password".encode()).decode()
        said = expect(session.docmd("AUTH", f"PLAIN {wrong}"), "535")
    if door.connections("proxied") != before:
        raise CheckError("nginx connected all the same")
    return f"{said} by nginx"


def _swaks_xclient(door: FrontDoor) -> str:
    letter = Letter("swaks-xclient", door.sender, PLAIN)
    content = door.workplace.file(f"{letter.case}.eml", letter.content.removesuffix(b"\r\n"))
    (recipient,) = letter.recipients
    said = door.workplace.program(
        letter.case,
        [
            *(
                "swaks",
                "--server",
                f"{door.sandbox.host}:{door.sandbox.ports[PROXIED]}",
                "--tls",
                "--helo",
                "real.example",
            ),
            *("--xclient-addr", "IPV6:2001:db8::7", "--xclient-name", "[UNAVAILABLE]", "--xclient-port", "4711"),
            *("--xclient-delim", "--xclient-helo", "client.example", "--xclient-proto", "ESMTP"),
            *("--xclient-login", door.sandbox.username),
            *("--from", letter.sender, "--to", recipient, "--data", f"@{content}", "--suppress-data"),
        ],
    )
    if not re.search(r"XCLIENT .*ADDR=IPV6:2001:db8::7", said):
        raise CheckError("swaks sent no XCLIENT")
    arrived = door.one(recipient)
    check_suffix(arrived.raw, letter.content)
    words = ("from real.example ([IPv6:2001:db8::7])", f"authenticated as {door.sandbox.username}", "ESMTPSA")
    return received_has(*words)(Sent(door, arrived)) or ""
