"""One mail transaction over one connection: MAIL, RCPTs, DATA and the message, in one flight where the peer pipelines.

In: a connection ready for MAIL, recipients that may be put to it, final bytes. Out: a Verdict with an outcome for each.
Never raises for what the peer does. Sources: RFC 5321 §3.3, RFC 2920, RFC 3030 (BDAT for binary messages).
"""

from __future__ import annotations

from typing import Final

from relay import faults
from relay.mail.envelope import Recipient
from relay.mail.reply import reply
from relay.ports import DeliveryRequest, LongContent
from relay.transports.smtp_client import SmtpConnection
from relay.transports.smtp_commands import (
    CHUNK_OCTETS,
    dot_stuffed,
    end_of_data,
    flight,
    mail_command,
    rcpt_command,
)
from relay.transports.smtp_dialogue import Verdict, judge_envelope, judge_message, settle
from relay.transports.smtp_reply import PeerReply

_GO_AHEAD: Final = PeerReply(354, (b"354 ",))
_RSET_REFUSED: Final = reply(451, "4.5.0", "Peer refused RSET")


class Transaction:
    """To be run once."""

    __slots__ = ("_asked", "_connection", "_content", "_final_hop", "_recipients", "_request", "_rset", "_verdict")

    def __init__(
        self,
        connection: SmtpConnection,
        request: DeliveryRequest,
        recipients: list[Recipient],
        content: bytes | LongContent,
        *,
        final_hop: bool,
    ) -> None:
        self._connection = connection
        self._request = request
        self._recipients = recipients
        self._content = content
        self._final_hop = final_hop
        self._rset = connection.needs_rset
        self._verdict: Verdict | None = None
        self._asked = 0

    async def run(self, *, utf8: bool) -> Verdict:
        """`utf8` puts the transaction under SMTPUTF8. Leaves the connection marked when it needs RSET next."""
        connection = self._connection
        connection.messages += 1
        connection.needs_rset = True
        binary = self._request.envelope.binary
        replies = await self._envelope(utf8=utf8, binary=binary)
        verdict = self._verdict or self._judge(replies)
        if self._asked:
            answer = replies[-1] if len(replies) > self._asked else None
        elif connection.trouble is not None or not verdict.data_open or (binary and not verdict.accepted):
            return verdict
        elif not verdict.accepted:
            # RFC 2920 §3.1: the peer waits for a message that nobody is to get; a lone dot ends the wait.
            await connection.exchange(b".\r\n", ["end of data"])
            return verdict
        else:
            answer = await connection.send_message(self._content, binary=binary)
        connection.needs_rset = answer is None or not answer.positive
        complete = connection.message_complete
        settle(verdict, judge_message(answer, connection.trouble, complete=complete, final_hop=self._final_hop))
        return verdict

    def _judge(self, replies: list[PeerReply]) -> Verdict:
        if self._rset:
            if replies and not replies[0].positive:
                self._connection.end(_RSET_REFUSED)
                replies = []
            replies = replies[1:]
        trouble = self._connection.trouble
        self._verdict = judge_envelope(self._recipients, replies, trouble, final_hop=self._final_hop)
        return self._verdict

    def _message_after(self, replies: list[PeerReply]) -> bytes | None:
        """The message as it goes over the wire, when these replies invite it. A large one is sent in chunks, later."""
        verdict, content = self._judge(replies), self._content
        if not verdict.data_open or not verdict.accepted or len(content) > CHUNK_OCTETS:
            return None
        if isinstance(content, LongContent):
            return None
        self._asked = len(replies)
        faults.point("before-message")
        return dot_stuffed(content) + end_of_data(content)

    async def _envelope(self, *, utf8: bool, binary: bool) -> list[PeerReply]:
        """Replies to RSET (where one is due), MAIL, each RCPT and DATA, as far as the dialogue came.

        Before a `binary` message there is no DATA, and so nobody who says that it may come.

        With PIPELINING, or after the last command without it, the reply to the message may be there as well.
        """
        connection, request, recipients = self._connection, self._request, self._recipients
        offer = connection.capabilities
        commands, steps = (["RSET"], ["RSET"]) if self._rset else ([], [])
        commands.append(mail_command(request, self._content, offer, utf8=utf8))
        timed = request.envelope.by_mode == "N" and offer.deliver_by is None and (request.by_seconds or 0) > 0
        commands += [rcpt_command(recipient, offer, utf8=utf8, timed=timed) for recipient in recipients]
        steps += ["MAIL", *["RCPT"] * len(recipients)]
        if binary:
            replies = await self._before_bdat(commands, steps)
            return [*replies, _GO_AHEAD] if len(replies) == len(steps) and connection.trouble is None else replies
        if not offer.pipelining:
            return await self._step_by_step(commands, steps)
        commands.append("DATA")
        steps.append("DATA")
        seconds = connection.timeouts.data
        return await connection.exchange(flight(commands), steps, last_seconds=seconds, then=self._message_after)

    async def _before_bdat(self, commands: list[str], steps: list[str]) -> list[PeerReply]:
        connection = self._connection
        if connection.capabilities.pipelining:
            return await connection.exchange(flight(commands), steps)
        replies: list[PeerReply] = []
        for command, step in zip(commands, steps, strict=True):
            replies += await connection.exchange(flight([command]), [step])
            if connection.trouble is not None or (step != "RCPT" and not replies[-1].positive):
                break
        return replies

    async def _step_by_step(self, commands: list[str], steps: list[str]) -> list[PeerReply]:
        """The same without PIPELINING. A refusal of MAIL, or of every RCPT, ends the dialogue early."""
        connection = self._connection
        replies: list[PeerReply] = []
        for command, step in zip(commands, steps, strict=True):
            answers = await connection.exchange(flight([command]), [step])
            replies += answers
            if connection.trouble is not None or (step != "RCPT" and not answers[0].positive):
                return replies
        if not any(answer.positive for answer in replies[-len(self._recipients) :]):
            return replies
        return replies + await connection.exchange(
            b"DATA\r\n",
            ["DATA"],
            last_seconds=connection.timeouts.data,
            then=lambda answers: self._message_after(replies + answers),
        )
