"""What somebody has ordered of a script by hand: who, what and when, and how that is asked.

What must live here: who somebody is, and what is kept of what they did. What this file must not know: how it is carried out.

Whoever comes by the gateway is not the one whose connection it is: the gateway, which the daemon trusts, says who it is.
"""

from __future__ import annotations

import time
from typing import Any

from rocksyd import codes
from rocksyd.companions.companion import Request
from rocksyd.companions.locked_file import StoreError
from rocksyd.companions.schedule_store import Order, Store
from rocksyd.errors import RequestError
from rocksyd.posix.log import log

BY: dict[str, Any] = {
    "name": "by",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    "description": "for whom it is ordered, where somebody who is trusted orders it for another one",
}


def who(given: dict[str, Any], request: Request) -> str:
    """Who orders it. Raises RequestError for somebody who is not trusted and says to be another one."""
    said = given.get("by")
    if said is None:
        return request.who or "a client"
    if not request.trusted:
        raise RequestError(codes.NOT_ALLOWED, "only the daemon's own user or root may order something for another one")
    if not isinstance(said, str) or not 1 <= len(said) <= 200:
        raise RequestError(codes.INVALID_PARAMS, "by must be a string of 1 to 200 characters", data={"parameter": "by"})
    return said


def note(store: Store, script: str, what: str, author: str, text: str) -> None:
    """It was done. That it cannot be written down is no reason to say that it was not."""
    try:
        store.note(script, Order(what, author, text, time.time()))
    except StoreError as error:
        log("scheduler", f"{author} has ordered {what} of {script} ({text}), which cannot be written down: {error}")
