"""The OpenAPI document, fuzzed for a short time: no answer is a fault, and each has the form that the document says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from tests.gateway.stage import daemon, web

EXAMPLES = 120
NOT_NOW = 503
"""What the contract has for what cannot be done now: no fault, but a server's error to schemathesis."""


@pytest.mark.long
def test_no_answer_is_a_fault_and_each_has_its_form(tmp_path: Path) -> None:
    with daemon(tmp_path) as served:
        there = web(served.talk())
        document = there.get("/openapi.json").json
        there.post("/runs", {"target": "add", "params": [1, 2], "key": "k"})
        # Those that would wait for what does not come, or end the run of the test.
        for path in ("/rpc/restart", "/rpc/reload", "/rpc/stop", "/rpc/drain", "/rpc/wait", "/events"):
            document["paths"].pop(path, None)
        schema = schemathesis.openapi.from_dict(document)
        operations = [one.ok() for one in schema.get_all_operations()]
        assert len(operations) > 20

        @seed(20261130)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def fuzz(data: Any) -> None:
            operation = data.draw(st.sampled_from(operations))
            case = data.draw(operation.as_strategy())
            answer = case.call(base_url=there.address, timeout=60)
            checks = [status_code_conformance, response_schema_conformance]
            if answer.status_code != NOT_NOW:
                checks.append(not_a_server_error)
            case.validate_response(answer, checks=checks)

        fuzz()
        assert "met a fault" not in served.log()
        assert there.get("/runs/k").status == 200
