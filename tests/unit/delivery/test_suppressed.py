"""Who is on the account's list when mail for him is tried is not sent to, and his sender hears of the list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from delivery_kit import YES, FakeTransport, Setting, addresses, everybody, route, run, settings, until

from relay.delivery.engine import Engine
from relay.mail.outcome import Deferred
from relay.mail.reply import Reply, reply
from relay.ports import DeliveryReport

LATER = Deferred(reply(451, "4.2.1", "Try again"))
ON_IT = reply(550, "5.1.1", "Not sent: on the suppression list of account acme; relay suppression remove")


class Listed(Setting):
    """With a list that may change."""

    def __init__(self, folder, **sections):
        given = settings(route=[route("direct")], **sections)
        super().__init__(folder / "spool", given, {"direct": FakeTransport()})
        self.listed: set[str] = set()
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def suppressed(self, account: str, among: Sequence[str]) -> Mapping[str, Reply]:
        self.asked.append((account, tuple(among)))
        return {address: ON_IT for address in among if address in self.listed}

    def build(self, spool=None):
        super().build(spool)
        self.engine = Engine(
            self.settings, self.spool, self.transports, self.signer, self.clock, self.dice, self.heard, self.heard,
            suppressed=self.suppressed,
        )  # fmt: skip
        self.feeder.__init__(self.spool, self.engine, self.clock)


def sent_to(one):
    return [address for request in one.transports["direct"].requests for address in addresses(request)]


def test_who_is_on_the_list_is_not_sent_to_and_the_others_are(tmp_path):
    """One notice names the list; nobody of the list was in a transaction."""

    async def scene():
        async with Listed(tmp_path) as one:
            one.transports["direct"].answer = everybody(YES)
            one.listed = {"c@d.example"}
            message_id = await one.accept("c@d.example", "e@d.example")
            await one.idle()
            assert await one.states(message_id) == ["bounced", "delivered"]
            assert sent_to(one) == ["e@d.example", "a@b.example"]
            notice = one.transports["direct"].contents[-1]
            assert b"5.1.1 Not sent: on the suppression list of account acme; relay suppression" in notice
            assert one.heard.kinds(message_id, "c@d.example")[-1:] == ["bounced"]
            assert one.asked == [("acme", ("c@d.example", "e@d.example"))]

    run(scene())


def test_what_waits_when_the_address_comes_onto_the_list_is_not_tried_again(tmp_path):
    async def scene():
        async with Listed(tmp_path) as one:
            one.transports["direct"].answer = lambda request, content: DeliveryReport(
                dict.fromkeys(addresses(request), YES if request.reverse_path is None else LATER), "mx.example"
            )
            one.feed()
            message_id = await one.accept("c@d.example")
            await until(lambda: len(sent_to(one)) == 1)
            await one.idle()
            one.listed = {"c@d.example"}
            await one.run_out()
            assert await one.states(message_id) == ["bounced"]
            assert sent_to(one) == ["c@d.example", "a@b.example"]

    run(scene())


def test_a_notice_goes_out_whoever_is_on_the_list(tmp_path):
    async def scene():
        async with Listed(tmp_path) as one:
            one.transports["direct"].answer = everybody(YES)
            one.listed = {"c@d.example"}
            message_id = await one.accept("c@d.example", reverse_path=None)
            await one.idle()
            assert await one.states(message_id) == ["delivered"]
            assert one.asked == []

    run(scene())
