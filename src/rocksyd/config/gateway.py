"""What ``[gateway]`` may say: which of its settings may stand together, and what the gateway is told.

What must live here: who may reach it, by the configuration alone. What this file must not know: HTTP, the files of tokens.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rocksyd.config import forms
from rocksyd.config.settings import GatewayConfig, TokenConfig
from rocksyd.config.table import Table

_FILES = {"certificate": "cert.pem", "key": "key.pem"}


def told(table: Table, config: GatewayConfig) -> dict[str, Any]:
    """What the gateway is told of its settings; what is wrong with them is noted."""
    _check_reach(table, config)
    for name, token in config.tokens.items():
        _check_token(table, name, token)
    _check_tls(table, config)
    return {
        "tokens": {name: asdict(token) for name, token in config.tokens.items()},
        "tls": asdict(config.tls) if config.tls.certificate and config.tls.key else {},
        "hosts": list(config.hosts),
        "redact": list(config.redact),
        "max_body": config.max_body,
    }


def _check_reach(table: Table, config: GatewayConfig) -> None:
    """Whoever reaches an address without a token may run jobs: only this machine may."""
    for index, (text, address) in enumerate(config.listen):
        if not address.loopback and not config.tokens:
            table.problem(
                f"{text} can be reached from other machines, and would let anybody run jobs; add a token: "
                '[gateway.tokens.alice], file = "tokens/alice" (a file with a secret), scopes = ["read", "run"]',
                *("listen", index),
            )
        if text.startswith("https") and not table.values.get("tls"):
            table.problem(
                f'{text} needs a certificate; add tls = {{ certificate = "tls/cert.pem", key = "tls/key.pem" }}',
                *("listen", index),
            )


def _check_tls(table: Table, config: GatewayConfig) -> None:
    given = table.values.get("tls")
    if not isinstance(given, dict) or not given.keys() <= _FILES.keys():
        return  # what it is instead has been noted
    for key, other in (("certificate", "key"), ("key", "certificate")):
        if key not in given and other in given:
            table.problem(f'{key} is missing, which belongs to {other}; add {key} = "tls/{_FILES[key]}"', "tls")
    if given and config.listen and not any(text.startswith("https") for text, _ in config.listen):
        better = next(
            (text.replace("http", "https", 1) for text, _ in config.listen if text.startswith("http")), "https://0.0.0.0:8443"
        )
        table.problem(f"no address of listen has TLS; write https for http, as in {better}, or remove tls", "tls")


def _check_token(table: Table, name: str, token: TokenConfig) -> None:
    if not forms.NAME.fullmatch(name):
        table.problem(
            "expected a token's name of at most 64 letters, digits, - and _, beginning with a letter or digit", "tokens", name
        )
    own = table.values.get("tokens")
    given = own.get(name) if isinstance(own, dict) else None
    if not isinstance(given, dict):
        return  # what it is instead has been noted
    if "file" not in given:
        table.problem('file is missing; add file = "..." (a file with a secret, mode 0600)', "tokens", name)
    if "scopes" not in given or given["scopes"] == []:
        table.problem('scopes is missing; add scopes = ["read"] (of read, run and admin)', "tokens", name)
    if token.targets and "admin" in token.scopes:
        table.problem(
            "targets would not hold back one who may do everything; remove admin from scopes, or targets", "tokens", name
        )
