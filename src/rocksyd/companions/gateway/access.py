"""Who may ask what: tokens and their scopes, the cookie of the pages, and what a page of a stranger may not do in a browser.

What must live here: every check that stands before a handler. What this file must not know: what is asked.

A browser sends what any page tells it to, with the cookies of the address it goes to. So nothing is answered that was meant for
another host (a name that a stranger's DNS has pointed here), and what changes something has to be JSON, which a form cannot send
and a script only to its own origin, and to come from this very origin, where a browser says from which it comes. No header of
CORS is ever sent: other origins read nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from base64 import urlsafe_b64encode
from fnmatch import fnmatchcase
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from rocksyd import codes
from rocksyd.companions.companion import CannotAttend
from rocksyd.companions.gateway.web import Refused, Request, quoted
from rocksyd.config.check import secret
from rocksyd.errors import ConfigError

COOKIE = "rocksyd"
COOKIE_AGE = 30 * 86400
"""Seconds for which somebody who logged in stays so."""
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class Caller(NamedTuple):
    """Who asks."""

    name: str
    """The token's; "" for whoever comes without one."""
    scopes: tuple[str, ...]
    targets: tuple[str, ...] = ()
    """Patterns of the only targets that it may run; () for all."""

    def may(self, scope: str) -> bool:
        """Whether it may do what takes this scope. One includes those below it."""
        return not scope or any(one in self.scopes for one in _INCLUDED[scope])

    def may_run(self, *names: str) -> bool:
        """Whether it may run a target that has these names."""
        return not self.targets or any(fnmatchcase(name, pattern) for pattern in self.targets for name in names)


_INCLUDED = {"read": ("read", "run", "admin"), "run": ("run", "admin"), "admin": ("admin",)}
ANYBODY = Caller("", ("read", "run"))
"""Whoever comes to a loopback address where there are no tokens."""


class Token(NamedTuple):
    """One that was configured."""

    secret: str
    caller: Caller


class Access:
    """The tokens and names of one gateway."""

    def __init__(self, settings: dict[str, Any]) -> None:
        try:
            self.tokens = {
                name: Token(secret(one["file"]), Caller(name, tuple(one["scopes"]), tuple(one["targets"])))
                for name, one in settings["tokens"].items()
            }
        except ConfigError as error:
            raise CannotAttend(f"[gateway.tokens]: {error}") from error
        self._hosts = {name.lower() for name in settings["hosts"]}

    # --- who ----------------------------------------------------------------------------------------------------------
    def caller(self, request: Request) -> Caller | None:
        """Who asks; None for nobody that is known. Raises Refused for a wrong token."""
        given = request.headers.get("authorization")
        if given is not None:
            kind, _, shown = given.partition(" ")
            found = self.by_secret(shown.strip()) if kind.lower() == "bearer" else None
            if found is None:
                raise unauthorised("wrong token: Authorization: Bearer and what is in the token's file")
            return found
        return self._by_cookie(request.cookie(COOKIE)) if self.tokens else ANYBODY

    def by_secret(self, shown: str) -> Caller | None:
        """The caller whose secret this is. All are compared, so that the time says nothing."""
        found = None
        for token in self.tokens.values():
            if hmac.compare_digest(token.secret.encode(), shown.encode("utf-8", "replace")):
                found = token.caller
        return found

    def cookie(self, caller: Caller, *, secure: bool) -> str:
        """The header that lets a browser stay this caller. It holds no secret, and is void when the token is another one."""
        value = f"{caller.name}.{int(time.time()) + COOKIE_AGE}"
        sealed = f"{value}.{self._seal(caller.name, value)}"
        return f"{COOKIE}={sealed}; Max-Age={COOKIE_AGE}; {_cookie_rules(secure)}"

    def _seal(self, name: str, value: str) -> str:
        digest = hmac.new(self.tokens[name].secret.encode(), f"rocksyd cookie {value}".encode(), hashlib.sha256).digest()
        return urlsafe_b64encode(digest).decode().rstrip("=")

    def _by_cookie(self, value: str) -> Caller | None:
        name, _, rest = value.partition(".")
        until, _, seal = rest.partition(".")
        if name not in self.tokens or not until.isdecimal() or not until.isascii() or len(until) > 12 or int(until) < time.time():
            return None
        right = self._seal(name, f"{name}.{until}")
        return self.tokens[name].caller if hmac.compare_digest(right, seal.encode("ascii", "replace").decode()) else None

    # --- from where ---------------------------------------------------------------------------------------------------
    def check_host(self, request: Request) -> None:
        """Refuse what was meant for another host."""
        host = request.headers.get("host", "")
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            name = ""
        if not (name in LOCAL_NAMES or name in self._hosts or name == _own_host(request) or _is_address(name)):
            raise Refused(
                HTTPStatus.FORBIDDEN,
                f"the host {host[:100]!r} is not known here: call it by its address, or name it in hosts of [gateway]",
                codes.NOT_ALLOWED,
            )

    def check_write(self, request: Request) -> None:
        """Refuse what a stranger's page could make a browser send."""
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site", "same-origin")
        host = request.headers.get("host", "").lower()
        if (origin is not None and urlsplit_netloc(origin) != host) or site not in ("same-origin", "none"):
            raise Refused(HTTPStatus.FORBIDDEN, "this came from a page of another origin", codes.NOT_ALLOWED)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            has = "no content type" if not kind else f"the content type {kind[:60]}"
            raise Refused(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the request has {has}: send JSON, with Content-Type: application/json"
            )


def check_scope(caller: Caller, scope: str) -> None:
    """Refuse what the caller may not."""
    if not caller.may(scope):
        who = f"the token {caller.name!r}" if caller.name else "who comes without a token"
        raise Refused(
            HTTPStatus.FORBIDDEN,
            f"{who} may not do that: it takes the scope {scope}",
            codes.NOT_ALLOWED,
            f'add "{scope}" to scopes of a token in [gateway.tokens]',
        )


def unauthorised(text: str) -> Refused:
    """Nobody that is known."""
    return Refused(HTTPStatus.UNAUTHORIZED, text, codes.NOT_ALLOWED)


def urlsplit_netloc(origin: str) -> str:
    """The host and port of an origin; what no request's host equals where it has none."""
    try:
        found = urlsplit(origin)
    except ValueError:
        return "-"
    return found.netloc.lower() if found.scheme in ("http", "https") and found.netloc else "-"


def login_page(request: Request) -> str:
    """Where to log in, and then to go on."""
    here = request.raw_path + (f"?{request.query_string}" if request.query_string else "")
    return "/login" if here == "/" else f"/login?next={quoted(here)}"


def log_out(*, secure: bool) -> str:
    """The header that makes a browser nobody again."""
    return f"{COOKIE}=; Max-Age=0; {_cookie_rules(secure)}"


def _cookie_rules(secure: bool) -> str:
    return "Path=/; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")


def _own_host(request: Request) -> str:
    """The name that the configuration has for the address this came to."""
    return str(getattr(request.listener, "host", "")).lower()


def _is_address(name: str) -> bool:
    """Whether this is a numeric address, which no DNS can point elsewhere."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
