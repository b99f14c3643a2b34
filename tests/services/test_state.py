"""The form in which a service goes from one worker to the next: what was written is read; what is no plain data is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocksyd.errors import JobError
from rocksyd.worker.service.state import Carried, Whole, read, write

PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
CARRIED = st.builds(
    Carried, st.integers(1), st.text(), st.none() | st.text(), PLAIN, st.binary(), st.integers(0, 9), st.binary(), st.booleans(),
    st.booleans(), st.binary(),
)  # fmt: skip
WHOLE = st.builds(
    Whole,
    st.integers(0),
    PLAIN,
    st.lists(CARRIED, max_size=3),
    st.lists(st.tuples(st.floats(0, 1e9), st.text(), st.lists(PLAIN))),
)


@given(WHOLE)
def test_what_was_written_is_read(whole: Whole) -> None:
    assert read(write(whole)) == whole


@pytest.mark.parametrize("wrong", [{1: 2}, {"a": [{None: 1}]}, b"bytes", {"a": {1, 2}}, [object()], float("nan")])
def test_what_would_come_back_as_something_else_is_refused(wrong: Any) -> None:
    with pytest.raises(JobError):
        write(Whole(1, wrong, [], []))
    with pytest.raises(JobError):
        write(Whole(1, {}, [Carried(1, state=wrong)], []))
    with pytest.raises(JobError):
        write(Whole(1, {}, [], [(1.0, "method", [wrong])]))


@given(st.binary())
def test_what_is_no_state_is_refused(data: bytes) -> None:
    with pytest.raises(JobError):
        read(data)
