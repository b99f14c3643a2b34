"""Whether a certificate and its key can be used, and if not, which of the two is to blame and what to do.

What must live here: reading the pair as whoever serves TLS with it reads it. What this file must not know: who that is.

Only what speaks TLS loads OpenSSL: the gateway, and ``check-config``. The master checks that there are such files, and no more.
"""

from __future__ import annotations

import ssl

_TWO_FILES = "they belong together: both come from one request to the authority, or from one run of openssl req"


class Unusable(Exception):
    """The pair cannot be used."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key
        """The setting that is to blame: certificate or key."""


def context(certificate: str, key: str) -> ssl.SSLContext:
    """What a server shows its clients.

    Args:
        certificate: path of the file with the certificate, and those above it.
        key: path of the file with its key.

    Raises:
        Unusable: one of the two is not what it has to be, or they are not of one another.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(certificate)
    except OSError as error:
        raise Unusable("certificate", _said(certificate, error, "no certificate in PEM (-----BEGIN CERTIFICATE-----)")) from error
    try:
        made.load_cert_chain(certificate, key, _no_password)
    except _Encrypted as error:
        raise Unusable("key", f"{key}: is encrypted, and nobody is there to type its password: openssl pkey -in {key}") from error
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Unusable("key", f"{key}: is the key of another certificate than {certificate}; {_TWO_FILES}") from error
        raise Unusable("key", _said(key, error, "no private key in PEM (-----BEGIN PRIVATE KEY-----)")) from error
    except OSError as error:
        raise Unusable("key", _said(key, error, "")) from error
    return made


class _Encrypted(Exception):
    """A password would be asked for at a terminal."""


def _no_password() -> str:
    raise _Encrypted


def _said(path: str, error: OSError, expected: str) -> str:
    if isinstance(error, ssl.SSLError):
        return f"{path}: {expected} is in it; make it, or correct the path"
    return f"{path}: cannot be read ({error.strerror}); chown or chmod it, or correct the path"
