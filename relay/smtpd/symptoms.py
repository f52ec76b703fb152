"""Symptoms: the table of what goes wrong between a client and the front door, what each means and what to change.

Pure. The order is from causes to consequences: the first that fits is what matters.
"""

from __future__ import annotations

import re
import ssl
from typing import Final

from relay.smtpd.session_record import NO_COMMAND, SECRET, TLS_HELLO
from relay.smtpd.symptom import Case, Rule, Test, after, either, noted, said

_DISTRUST: Final = re.compile(
    r"alert (unknown ca|bad certificate|certificate (unknown|expired|revoked)|unsupported cert)"
)
_TOO_OLD: Final = re.compile(
    r"unsupported protocol|no (shared cipher|suitable signature)"
    r"|alert (protocol version|insufficient security)|version too low"
)
_PLAIN: Final = re.compile(
    r"wrong version number|http request|unknown protocol|https proxy request|packet length too long"
)
_SPACED: Final = re.compile(rb"(?:MAIL +FROM|RCPT +TO)(?:[ \t]+:|:[ \t]+)", re.IGNORECASE)
_LOGGING_IN: Final = re.compile(b"AUTH|" + SECRET)
_BRACKETLESS: Final = re.compile(rb"(?:MAIL +FROM|RCPT +TO) *: *[^<> ]", re.IGNORECASE)


def _tls_failed(words: re.Pattern[str]) -> Test:
    return lambda case: words.search(case.tls_words) is not None


def _speaks_http(case: Case) -> bool:
    return any(entry in _HTTP for entry in case.record if isinstance(entry, bytes)) or "http" in case.tls_words


def _hello_where_tls_is(wanted: bool) -> Test:
    return lambda case: TLS_HELLO in case.record and (case.listener.tls != "none") is wanted


def _no_hello(case: Case) -> bool:
    """Implicit TLS, and the client sent plain text, or waited for a greeting until somebody gave up."""
    if case.listener.tls != "implicit" or case.failure is None or "http" in case.tls_words:
        return False
    silent = not isinstance(case.failure, ssl.SSLError)
    return silent or _PLAIN.search(case.tls_words) is not None or "eof" in case.tls_words


def _left_after_handshake(case: Case) -> bool:
    began = case.listener.tls == "implicit" or case.spoke
    return case.session.tls is not None and not case.session.helo and not case.refusals and began


def _left_in_handshake(case: Case) -> bool:
    """After STARTTLS; on an implicit port that looks the same as a client that never began."""
    silent = case.failure is not None and not isinstance(case.failure, ssl.SSLError | TimeoutError)
    return silent and case.listener.tls == "starttls"


def _in_clear(case: Case) -> bool:
    """An application that never began TLS: it was refused for want of AUTH, or left when it saw no AUTH."""
    if case.session.tls is not None or case.failure is not None or case.listener.plaintext_auth:
        return False
    if case.listener.tls != "starttls" or case.listener.role != "submission" or not case.session.helo:
        return False
    return bool(_NEEDS_AUTH(case)) or not (case.refusals or case.began_mail)


def _no_login(case: Case) -> bool:
    return bool(_NEEDS_AUTH(case)) and not _in_clear(case) and not _TRIED_AUTH(case)


def _timed_out(case: Case) -> bool:
    return bool(said("421 4.4.2")(case)) and not (case.began_mail and not case.in_data)


_HTTP: Final = frozenset((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"DELETE", b"PATCH"))
_NEEDS_AUTH: Final = said("530 5.7.0")
_KNOWN_TLS: Final = either(_no_hello, _left_in_handshake, _tls_failed(_DISTRUST), _tls_failed(_TOO_OLD), _speaks_http)
_TRIED_AUTH: Final = either(said("535"), said("538"), said("504", "AUTH"), after("501 5.5.2", _LOGGING_IN))

# --- the table ---------------------------------------------------------------------------------------------

RULES: Final = (
    Rule(
        "tls_on_starttls_port",
        _hello_where_tls_is(True),
        "It began with TLS at once, on a port where a connection begins in the clear and STARTTLS switches to TLS.",
        "In the client choose STARTTLS, or keep its TLS and use the port with implicit TLS (465). "
        "PHPMailer: SMTPSecure = 'tls' (not 'ssl'); nodemailer: secure: false.",
    ),
    Rule(
        "tls_on_plain_port",
        _hello_where_tls_is(False),
        "It began with TLS, and listener {listener} has none.",
        "Switch TLS off in the client, or let it use a port that has TLS (587 with STARTTLS, 465 with implicit TLS).",
    ),
    Rule(
        "http",
        _speaks_http,
        "It spoke HTTP: a browser, a health check or a scanner, not a mail client.",
        "Point it to an HTTP address; a health check of this port should do no more than connect.",
    ),
    Rule(
        "plain_on_tls_port",
        _no_hello,
        "It did not begin TLS, or left in the handshake, on a port where every connection begins with TLS. A "
        "client without TLS waits here for a greeting that never comes.",
        'In the client choose "SSL/TLS" (implicit TLS), or keep STARTTLS and use port 587. '
        "PHPMailer: SMTPSecure = 'ssl'; nodemailer: secure: true. If it has that, it does not trust our certificate "
        "and hangs up without a word, as nodemailer does: give it one it trusts.",
    ),
    Rule(
        "certificate_refused",
        _tls_failed(_DISTRUST),
        "It got our certificate and does not trust it {tls}.",
        "Give the server a certificate of a public CA for the name the client connects to, or install this server's CA "
        "in the client. PHPMailer: SMTPOptions ssl cafile; nodemailer: tls.ca. If it uses TLS only because it is "
        "offered and the network is yours: PHPMailer SMTPAutoTLS = false, nodemailer ignoreTLS: true.",
    ),
    Rule(
        "tls_too_old",
        _tls_failed(_TOO_OLD),
        "It has no TLS version or cipher in common with us {tls}.",
        "Update the client or its TLS library; it needs TLS 1.2 at least, and more where tls.minimum says so. A "
        "device that cannot be updated: old_tls on a listener of its own, docs/howto/devices.md.",
    ),
    Rule(
        "left_at_handshake",
        either(_left_after_handshake, _left_in_handshake),
        "It left in the TLS handshake or right after it, without a word. Clients that check certificates themselves do "
        "so when they do not trust ours (nodemailer and all of Node.js).",
        "Give the server a certificate the client trusts, for the name it connects to, or install this server's CA in "
        "the client. nodemailer: tls: {{ca: ...}}; tls.servername where it connects by address.",
    ),
    Rule(
        "handshake_failed",
        lambda case: case.failure is not None and not _KNOWN_TLS(case),
        "The TLS handshake broke off {tls}.",
        "See what the client says of it; without words here it took too long, or something between us cuts TLS.",
    ),
    Rule(
        "starttls_not_here",
        said("502 5.5.1 STARTTLS"),
        "It wants STARTTLS, and listener {listener} does not offer it.",
        'Let it use port 587; or on a port with implicit TLS (465) choose "SSL/TLS" in the client, on one without TLS '
        "none. PHPMailer: SMTPSecure = 'ssl' or ''; nodemailer: secure: true, or no requireTLS.",
    ),
    Rule(
        "auth_in_clear",
        said("538 5.7.11"),
        "It sent AUTH without TLS; passwords are not taken in the clear. One that came along may have been seen.",
        "Switch STARTTLS on in the client. PHPMailer: SMTPSecure = 'tls' and SMTPAutoTLS = true; nodemailer: "
        "requireTLS: true and no ignoreTLS. For a device without TLS on this machine: listener.plaintext_auth.",
    ),
    Rule(
        "no_starttls",
        _in_clear,
        "It never sent STARTTLS, and without TLS no AUTH is offered, so it could not log in.",
        'Switch STARTTLS on in the client ("TLS", not "none"). PHPMailer: SMTPSecure = \'tls\'; nodemailer: '
        "requireTLS: true and no ignoreTLS.",
    ),
    Rule(
        "no_auth",
        _no_login,
        "It sent mail without logging in.",
        "Give the client user name and password of a credential (`relay credential add`). PHPMailer: SMTPAuth = true; "
        "nodemailer: auth: {{user, pass}}.",
    ),
    Rule(
        "wrong_password",
        said("535 5.7.8", "credentials invalid"),
        "User name or password is wrong, or the credential is disabled.",
        "Compare the user name with `relay credential list`; a new password: `relay credential rotate`. Passwords cut "
        "at a length, or with letters the client encodes otherwise, look the same.",
    ),
    Rule(
        "auth_mechanism",
        either(said("504", "AUTH"), after("501 5.5.2", _LOGGING_IN)),
        "Its way to log in is not understood: {reply}",
        "Set the client's authentication to PLAIN or LOGIN, which every credential can.",
    ),
    Rule(
        "sender_right",
        either(said("550 5.7.1", "no right to"), said("550 5.7.60")),
        "It logged in as {login} and wrote as somebody this login may not write as: {reply}",
        "Set the sender in the client to one the credential may use, or add a credential that may use this one "
        "(`relay credential add --sender ... --sender-domain ...`).",
    ),
    Rule(
        "relaying",
        said("550 5.7.1", "Relaying denied"),
        "It wanted to send to another domain without logging in.",
        "An application: let it log in, on port 587 or 465. Another mail server: the domain is not in "
        "inbound.domains here; correct its MX, or add it.",
    ),
    Rule(
        "too_big",
        said("552 5.3.4"),
        "Its message is larger than limits.message_size.",
        "Send less, or by link; or raise limits.message_size (next hops have limits of their own, often 25 MB).",
    ),
    Rule(
        "bare_lf",
        either(said("500 5.5.2", "bare LF"), said("554 5.6.0", "Bare CR or LF")),
        "It ends lines with LF alone where SMTP wants CRLF.",
        'Let the program write CRLF (PHP: "\\r\\n"; Unix tools: unix2dos, `nc -C`). For a device that cannot: '
        'tolerate = ["bare_lf"], docs/howto/devices.md.',
    ),
    Rule(
        "space_after_colon",
        after("501 5.5.4 Syntax", _SPACED),
        "It writes a space beside the colon: MAIL FROM: <a@b.example>.",
        "Correct the program: MAIL FROM:<a@b.example>. For a device that cannot be corrected: "
        'tolerate = ["space_after_colon"], docs/howto/devices.md.',
    ),
    Rule(
        "no_brackets",
        after("501 5.5.4 Syntax", _BRACKETLESS),
        "It writes addresses without angle brackets: MAIL FROM:a@b.example.",
        "Correct the program: MAIL FROM:<a@b.example>. For a device that cannot be corrected: "
        'tolerate = ["no_brackets"], docs/howto/devices.md.',
    ),
    Rule(
        "undeclared_8bit",
        said("554 5.6.3"),
        "Its message has 8-bit octets, and it did not say BODY=8BITMIME.",
        "Let it encode text as quoted-printable or base64 (PHPMailer: Encoding = 'quoted-printable'), or tolerate it: "
        'tolerate = ["undeclared_8bit"], docs/howto/devices.md.',
    ),
    Rule(
        "bad_helo",
        either(said("501 5.5.4 Say your host name"), said("501 5.5.4 That is no host name")),
        "It names itself in HELO or EHLO by nothing that is a host name.",
        "Set host name or domain in the client, such as printer.example.com. PHPMailer: Hostname; nodemailer: name. "
        'For a device that cannot: tolerate = ["bad_helo"], docs/howto/devices.md.',
    ),
    Rule(
        "bad_address",
        either(said("501 5.1.7"), said("553 5.1.3"), said("55", "Non-ASCII address")),
        "An address is none: {reply}",
        "Correct the address in the program; for letters outside ASCII it has to use SMTPUTF8.",
    ),
    Rule(
        "parameter_not_offered",
        said("555 5.5.4"),
        "It used a parameter of MAIL or RCPT that this port does not offer: {reply}",
        "Switch that off in the client, which may use what EHLO names and nothing else. PHPMailer: do_verp = false.",
    ),
    Rule(
        "helo_first",
        said("503 5.5.1", "HELO or EHLO first"),
        "It sent mail without HELO or EHLO; after STARTTLS it has to say EHLO again.",
        "Correct the program; a script had better use a library or msmtp than nc or telnet.",
    ),
    Rule(
        "other_networks",
        said("554 5.7.1 This port serves"),
        "It came to listener {listener} from a network that is not in its only_from.",
        "Let it use another port, or add its network to only_from.",
    ),
    Rule(
        "from_our_limits",
        either(said("421 4.7.0", "address"), said("450 4.7.0"), said("452 4.5.3", "24 hours")),
        "A limit for one client holds it back: {reply}",
        "If it is yours, raise the limit or put its network into guard.exempt: docs/howto/guard.md.",
    ),
    Rule(
        "left_in_message",
        lambda case: case.in_data and not said("421 4.4.2")(case),
        "The connection broke in the middle of a message.",
        "If it happens again with large messages: a firewall, virus scanner or MTU between us, or the client's own "
        "time-out.",
    ),
    Rule(
        "timeout",
        _timed_out,
        "It was silent until the time was over (limits.command_timeout, limits.data_timeout).",
        "A client that waits too: something between us drops packets (firewall, MTU), or it expects TLS from the first "
        "octet. One that thinks long: raise the limit.",
    ),
    Rule(
        "no_smtp",
        noted(NO_COMMAND),
        "It sent lines that are no commands: another protocol, or a message although DATA was refused.",
        "See the reply before the first of them; a program that goes on after a refusal has to be corrected.",
    ),
    Rule(
        "too_many_errors",
        either(said("421 4.7.0 Too many errors"), said("421 4.7.0 Too many failed authentications, closing")),
        "It went on after so many refusals that the connection was closed.",
        "Correct what was refused first; programs have to look at replies.",
    ),
)

UNKNOWN: Final = Rule(
    "refused", lambda case: True, "It was refused: {reply}", "What the reply means: docs/reference/replies.md."
)
