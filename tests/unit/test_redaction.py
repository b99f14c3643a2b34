"""What is hidden is in nothing that is shown, at whatever depth; and what is not hidden stays as it is."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rocksyd.redaction import HIDDEN, Redaction

SECRET = "hidden-value"
names = st.sampled_from(["a", "Password", "db_password", "token", "my_TOKEN_2", "x"])
values: Any = st.recursive(
    st.just(1) | st.text(max_size=3), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
)


@given(values, names)
def test_no_value_with_such_a_name_is_shown(value: Any, name: str) -> None:
    redaction = Redaction(["*password*", "*token*"])
    record = {"key": "k", "params": {"deep": [{name: SECRET}], "more": value}, "labels": {name: SECRET}, "result": SECRET}
    shown = redaction.record(record)
    hidden = redaction.hides(name)
    assert hidden == ("password" in name.lower() or "token" in name.lower())
    assert (SECRET in json.dumps([shown["params"], shown["labels"]])) != hidden
    assert shown["result"] == SECRET


@given(values)
def test_without_patterns_nothing_is_changed(value: Any) -> None:
    assert Redaction([]).record({"params": {"password": value}}) == {"params": {"password": value}}


def test_positional_params_go_by_the_names_of_the_parameters() -> None:
    shown = Redaction(["*password*"]).record({"params": ["bob", "geheim", {"password": 1}]}, ["user", "password"])
    assert shown["params"][:2] == ["bob", HIDDEN]
