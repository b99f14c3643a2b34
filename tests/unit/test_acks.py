"""Acknowledgements that wait for a next job to say them."""

from __future__ import annotations

import math

from rocksyd.master.staff.acks import DELAY, Acks


def test_what_a_next_job_has_said_is_not_said_again_and_the_rest_in_time() -> None:
    acks = Acks()
    assert acks.next_deadline() is None
    acks.owe(1, "a", 10.0)
    acks.owe(2, "b", 10.01)
    assert acks.settle(1) == "a"
    assert acks.settle(1) == ""
    assert acks.next_deadline() == 10.0 + DELAY
    assert acks.due(10.0) == []
    assert acks.due(10.0 + DELAY) == [2] == acks.due(math.inf)
    assert acks.settle(2) == "b"
    assert acks.next_deadline() is None  # so that an idle daemon is not woken
