"""Postfix as its experts would run it on loopback: own configuration, queue and ports; nothing of /etc is touched.

fsync stays on, as Postfix always has it. Port `plain` is for mail as it comes, `signed` wants AUTH and goes through
OpenDKIM, `login` wants STARTTLS and AUTH (Cyrus SASL over sasldb, the cheapest password check Postfix has).
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from bench.process import BenchError, Child, cpu_seconds, family, free_port, needed, run
from bench.sink import Sink

DOMAIN = "bench.example"
USERNAME = f"app@{DOMAIN}"
PASSWORD = "loopback-only"  # noqa: S105 - guards a queue that lives for minutes on 127.0.0.1

_MAIN = """
compatibility_level = 3.6
queue_directory = {work}/queue
data_directory = {work}/data
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.bench.example
mydestination =
local_recipient_maps =
local_transport = error:no local mail
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
local_header_rewrite_clients =
relayhost = [127.0.0.1]:{sink}
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtp_connection_cache_on_demand = no
default_destination_concurrency_limit = 20
initial_destination_concurrency = 20
default_process_limit = 200
max_use = 10000
in_flow_delay = 0
qmgr_message_active_limit = 50000
qmgr_message_recipient_limit = 50000
message_size_limit = 104857600
mailbox_size_limit = 0
maillog_file = {work}/postfix.log
maillog_file_prefixes = {work}
milter_default_action = tempfail
tls_random_source = dev:/dev/urandom
smtpd_tls_cert_file = {work}/server.pem
smtpd_tls_key_file = {work}/server.key
cyrus_sasl_config_path = {work}/conf/sasl
smtpd_sasl_local_domain = bench.example
"""

_MASTER = """
{plain} inet n - n - - smtpd
{signed} inet n - n - - smtpd
  -o smtpd_milters=unix:{work}/milter
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
{login} inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
cleanup unix n - n - 0 cleanup
pickup unix n - n 60 1 pickup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

_OPENDKIM = """
Mode s
Domain bench.example
Selector bench
KeyFile {work}/dkim.key
Socket local:{work}/milter
UMask 000
Canonicalization relaxed/relaxed
SignatureAlgorithm rsa-sha256
InternalHosts 127.0.0.1
RequireSafeKeys no
Background no
Syslog no
"""


class Postfix:
    """One Postfix instance with its OpenDKIM."""

    name = "postfix"
    title = "Postfix"

    def __init__(self, work: Path, certificate: tuple[Path, Path]) -> None:
        """`certificate` is PEM chain and key, the same as the rival's. Raises BenchError without root."""
        if os.geteuid() != 0:
            raise BenchError("Postfix starts only as root; run the bench as root")
        self._work = work
        self._certificate = certificate
        self.sink = Sink(free_port(), work)
        self.ports = {name: free_port() for name in ("plain", "signed", "login")}
        self._children: list[Child] = []
        self._postfix = needed("postfix", "postfix")

    @property
    def version(self) -> str:
        postfix = run([needed("postconf", "postfix"), "-dh", "mail_version"], "postconf").strip()
        opendkim = run(["dpkg-query", "-W", "-f", "${Version}", "opendkim"], "dpkg-query").strip()
        return f"Postfix {postfix}, OpenDKIM {opendkim}"

    @property
    def login(self) -> tuple[str, str]:
        return USERNAME, PASSWORD

    def start(self, overrides: dict[str, str] | None = None) -> None:
        """Write the configuration and come up; `overrides` are lines of main.cf."""
        self._write(overrides or {})
        self.sink.restart()
        self.launch()

    def launch(self) -> None:
        """Come up with the configuration and the queue that are there."""
        milter = [needed("opendkim", "opendkim"), "-f", "-x", str(self._work / "opendkim.conf")]
        self._children.append(Child(milter, self._work / "opendkim.log"))
        self._wait_for_milter()
        command = [self._postfix, "-c", str(self._work / "conf"), "start-fg"]
        self._children.append(Child(command, self._work / "start.log"))
        for port in self.ports.values():
            self._children[-1].wait_for_port(port)

    def set(self, name: str, value: str) -> None:
        """Change a line of main.cf; counts from the next launch on."""
        run([needed("postconf", "postfix"), "-c", str(self._work / "conf"), f"{name}={value}"], "postconf")

    def flush(self) -> None:
        """Let it try all that was deferred, now."""
        run([needed("postqueue", "postfix"), "-c", str(self._work / "conf"), "-f"], "postqueue -f")

    def _wait_for_milter(self) -> None:
        end = time.monotonic() + 10
        while not (self._work / "milter").exists():
            if time.monotonic() > end:
                raise BenchError(f"opendkim makes no socket; see {self._work / 'opendkim.log'}")
            time.sleep(0.05)

    def stop(self) -> None:
        if len(self._children) == 2:
            # Its own `stop` knows the master's pid from its own queue; nobody else's Postfix is touched.
            run([self._postfix, "-c", str(self._work / "conf"), "stop"], "postfix stop")
        for child in reversed(self._children):
            child.stop()
        self._children.clear()
        self.sink.stop()

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds(child.pid) for child in self._children)

    def pids(self) -> list[int]:
        return [pid for child in self._children for pid in family(child.pid)]

    def queued(self) -> int:
        """Queue files: 0 when all that was accepted has left."""
        folders = ("maildrop", "incoming", "active", "deferred", "hold")
        return sum(path.is_file() for folder in folders for path in (self._work / "queue" / folder).rglob("*"))

    def deferred(self) -> int:
        """Queue files that wait for another attempt."""
        return sum(path.is_file() for path in (self._work / "queue" / "deferred").rglob("*"))

    def _write(self, overrides: dict[str, str]) -> None:
        work, conf = self._work, self._work / "conf"
        shutil.rmtree(work, ignore_errors=True)
        for folder in (conf, conf / "sasl", work / "queue", work / "data"):
            folder.mkdir(parents=True)
        shutil.chown(work / "data", "postfix")
        values = {"work": work, "sink": self.sink.port, **self.ports}
        main = _MAIN.format(**values) + "".join(f"{key} = {value}\n" for key, value in overrides.items())
        (conf / "main.cf").write_text(main)
        (conf / "master.cf").write_text(_MASTER.format(**values))
        for name, source in zip(("server.pem", "server.key"), self._certificate, strict=True):
            shutil.copyfile(source, work / name)
        (work / "server.key").chmod(0o600)
        (work / "opendkim.conf").write_text(_OPENDKIM.format(**values))
        run(["openssl", "genrsa", "-out", str(work / "dkim.key"), "2048"], "openssl genrsa")
        self._write_passwords()

    def _write_passwords(self) -> None:
        # Debian's smtpd looks for its SASL settings here and nowhere else.
        folder = self._work / "conf" / "sasl"
        database = folder / "passwords.db"
        (folder / "smtpd.conf").write_text(
            f"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN\nsasldb_path: {database}\n"
        )
        user, _, realm = USERNAME.partition("@")
        command = [needed("saslpasswd2", "sasl2-bin"), "-p", "-c", "-f", str(database), "-u", realm, user]
        run(command, "saslpasswd2", text=PASSWORD)
        shutil.chown(database, "postfix")
