"""What replies mean: from the replies to one mail transaction to an outcome for each recipient. No I/O.

In: the replies in command order, fewer than asked for when the connection ended, and the `trouble` that ended it.
Out: a Verdict, then outcomes. Never raises.

A Deferred may hold a 5xx reply: the reply is what the peer said, the outcome is what we make of it.
Sources: RFC 5321 §4.2, §4.5.3.1.10 (552 to RCPT), RFC 2920 §3.1 (pipelined replies), RFC 4954 §6 (53x).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from relay.mail.envelope import Recipient
from relay.mail.outcome import Deferred, Delivered, Failed, Fault, InDoubt, Outcome, Sent
from relay.mail.reply import Reply, reply
from relay.policy.hints import retry_after
from relay.transports.smtp_reply import PeerReply

# RFC 4954 §6: authentication required, too weak, wrong, or wanting encryption. The route is at fault, not the mail.
_AUTHENTICATION: Final = frozenset({530, 534, 535, 538})
_OUT_OF_STEP: Final = reply(451, "4.5.0", "Peer answered DATA with neither 354 nor a refusal")
_SENSELESS: Final = reply(451, "4.5.0", "Peer's reply to the message makes no sense")


@dataclass(slots=True)
class Verdict:
    """What the replies to MAIL, RCPT and DATA settled, and what they left open."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    accepted: list[str] = field(default_factory=list)
    overflow: list[Recipient] = field(default_factory=list)  # 452 after others were accepted: next transaction
    refused: Outcome | None = None  # MAIL was refused: holds for every recipient of the message
    data_open: bool = False  # the peer waits for the message
    answered: bool = False  # the peer said something to this transaction, other than a farewell


def outcome_for(answer: Reply, *, final_hop: bool) -> Outcome:
    """A reply to MAIL, RCPT, DATA or the message as an outcome."""
    if answer.temporary:
        return Deferred(answer, retry_after=retry_after(answer.text))
    if answer.positive:
        return Delivered(answer) if final_hop else Sent(answer)
    if not final_hop and answer.code in _AUTHENTICATION:
        return Deferred(answer, Fault.ROUTE)
    return Failed(answer)


def judge_envelope(
    recipients: Sequence[Recipient], replies: Sequence[PeerReply], trouble: Reply | None, *, final_hop: bool
) -> Verdict:
    """Read the replies to MAIL, to each RCPT and to DATA. `trouble` is given when replies are missing."""
    verdict = Verdict(answered=bool(replies) and replies[0].code != 421)
    unfinished = Deferred(trouble) if trouble is not None else None
    if not replies or not replies[0].positive:
        if replies:
            verdict.refused = outcome_for(_never_positive(replies[0]), final_hop=final_hop)
        elif unfinished is not None:
            verdict.refused = unfinished
        verdict.outcomes = dict.fromkeys((r.address for r in recipients), verdict.refused or Deferred(_OUT_OF_STEP))
        verdict.data_open = _is_open(replies, len(recipients))
        return verdict
    _judge_recipients(verdict, recipients, replies, unfinished, final_hop=final_hop)
    _judge_data(verdict, recipients, replies, unfinished, final_hop=final_hop)
    return verdict


def _judge_recipients(
    verdict: Verdict,
    recipients: Sequence[Recipient],
    replies: Sequence[PeerReply],
    unfinished: Deferred | None,
    *,
    final_hop: bool,
) -> None:
    for position, recipient in enumerate(recipients, 1):
        if position >= len(replies):
            verdict.outcomes[recipient.address] = unfinished or Deferred(_OUT_OF_STEP)
        elif replies[position].positive:
            verdict.accepted.append(recipient.address)
        else:
            answer = _never_positive(replies[position])
            verdict.outcomes[recipient.address] = _refused_recipient(answer, final_hop=final_hop)
            if verdict.accepted and _too_many(answer):
                verdict.overflow.append(recipient)


def _judge_data(
    verdict: Verdict,
    recipients: Sequence[Recipient],
    replies: Sequence[PeerReply],
    unfinished: Deferred | None,
    *,
    final_hop: bool,
) -> None:
    verdict.data_open = _is_open(replies, len(recipients))
    if verdict.data_open and unfinished is None:
        return
    outcome: Outcome = unfinished or Deferred(_OUT_OF_STEP)
    if len(replies) == len(recipients) + 2 and replies[-1].code >= 400:
        outcome = outcome_for(replies[-1].to_reply(), final_hop=final_hop)
    settle(verdict, outcome)


def settle(verdict: Verdict, outcome: Outcome) -> None:
    """Give `outcome` to every recipient that was accepted."""
    for address in verdict.accepted:
        verdict.outcomes[address] = outcome
    verdict.accepted = []


def judge_message(answer: PeerReply | None, trouble: Reply | None, *, complete: bool, final_hop: bool) -> Outcome:
    """The fate of the accepted recipients, from the reply after the message.

    `complete` says that the last byte had been written. A peer that then says nothing, or nothing that can be
    read, may or may not have taken the message (promise 3): InDoubt.
    """
    if answer is None or answer.code // 100 == 3:
        return InDoubt(trouble or _SENSELESS) if complete else Deferred(trouble or _SENSELESS)
    if answer.positive and not complete:
        return Deferred(trouble or _SENSELESS)
    return outcome_for(answer.to_reply(), final_hop=final_hop)


def _is_open(replies: Sequence[PeerReply], recipients: int) -> bool:
    return len(replies) == recipients + 2 and replies[-1].code // 100 == 3


def _never_positive(answer: PeerReply) -> Reply:
    # A 3xx here makes no sense; Reply.from_peer turns it into 451.
    return answer.to_reply()


def _refused_recipient(answer: Reply, *, final_hop: bool) -> Outcome:
    # RFC 5321 §4.5.3.1.10: 552 to RCPT means 452.
    if answer.code == 552:
        return Deferred(answer, retry_after=retry_after(answer.text))
    return outcome_for(answer, final_hop=final_hop)


def _too_many(answer: Reply) -> bool:
    """Too many recipients, as told from a full mailbox (x.2.2) or a full disk (x.3.1)."""
    status = answer.status
    return answer.code in (452, 552) and (status.subject, status.detail) in ((5, 3), (0, 0))


def at_once(outcome: Outcome) -> Outcome:
    """The same deferral, to be tried again without waiting: nothing but the transaction's size was in the way."""
    return replace(outcome, retry_after=0.0) if isinstance(outcome, Deferred) else outcome
