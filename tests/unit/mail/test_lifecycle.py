"""The life of a recipient: one table, and no way back out of a terminal state."""

from __future__ import annotations

import itertools

import pytest

from relay.mail.event import EventKind
from relay.mail.lifecycle import TRANSITIONS, State, next_state

PAIRS = list(itertools.product(State, EventKind))


def test_from_a_terminal_state_only_later_news_leads_on_and_only_to_worse_or_surer_ones():
    """Or a callback in the wrong order would undo a bounce."""
    leads = {(state, after) for state, moves in TRANSITIONS.items() if state.terminal for after in moves.values()}
    assert leads == {
        (State.SENT, State.DELIVERED),
        (State.SENT, State.BOUNCED),
        (State.DELIVERED, State.BOUNCED),
    }


def test_only_the_transitions_of_the_table_exist():
    allowed = [(state, event) for state, event in PAIRS if event in TRANSITIONS.get(state, {})]
    for state, event in PAIRS:
        if (state, event) in allowed:
            assert next_state(state, event) is TRANSITIONS[state][event]
        else:
            with pytest.raises(ValueError, match="cannot be"):
                next_state(state, event)


def test_every_state_that_waits_can_reach_an_end():
    for state in State:
        reached, edge = {state}, {state}
        while edge:
            edge = {after for before in edge for after in TRANSITIONS.get(before, {}).values()} - reached
            reached |= edge
        assert any(one.terminal for one in reached)


def test_a_deferred_recipient_may_go_wherever_a_queued_one_may():
    assert TRANSITIONS[State.DEFERRED] == TRANSITIONS[State.QUEUED]


def test_doubt_is_a_deferral():
    assert next_state(State.QUEUED, EventKind.IN_DOUBT) is State.DEFERRED


def test_from_ten_on_a_state_is_terminal():
    """The spool's SQL compares with that number."""
    assert {state for state in State if state.terminal} == {state for state in State if state.value >= 10}
    assert {State.QUEUED, State.DEFERRED} == {state for state in State if state < State.HELD}
