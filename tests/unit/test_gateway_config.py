"""What `[gateway]` may say, and that each error of it names file, key, value and cure, as check-config prints it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from rocksyd import config
from rocksyd.companions.companion import CannotAttend
from rocksyd.companions.gateway.main import _tls
from rocksyd.errors import ConfigError
from tests.certificates import certificate

APP = '\n[apps.app]\npath = "."\njobs = ["json"]\n'
HTTP = '[gateway]\nlisten = ["http://127.0.0.1:8080"]\n'
HTTPS = '[gateway]\nlisten = ["https://127.0.0.1:8443"]\n'
TOKEN = '[gateway.tokens.alice]\nfile = "alice"\nscopes = ["read"]\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the configurations here name."""
    made = tmp_path_factory.mktemp("gateway")
    certificate(made)
    certificate(made / "other")
    for name, secret, mode in (("alice", "a", 0o600), ("bob", "b", 0o600), ("same", "a", 0o600), ("open", "c", 0o644)):
        (made / name).write_text(f"{secret}-secret\n")
        (made / name).chmod(mode)
    (made / "empty").touch(0o600)
    (made / "nonsense").write_text("nonsense\n")
    encrypted = ["openssl", "pkey", "-in", made / "key.pem", "-aes256", "-passout", "pass:x", "-out", made / "locked"]
    subprocess.run(encrypted, check=True, capture_output=True)
    return made


def said(folder: Path, text: str) -> list[str]:
    """What check-config says of it."""
    path = folder / "rocksyd.toml"
    path.write_text(text + APP)
    _, problems = config.everything(str(path))
    return problems


def tls(certificate: str = "cert.pem", key: str = "key.pem") -> str:
    return f'{HTTPS}tls = {{ certificate = "{certificate}", key = "{key}" }}\n'


RIGHT = {
    "loopback": HTTP,
    "the other loopback": HTTP.replace("127.0.0.1", "[::1]"),
    "any address": HTTP.replace("127.0.0.1", "0.0.0.0") + TOKEN,
    "TLS": tls(),
    "TLS and none": tls().replace('"]', '", "http://127.0.0.1:8080"]', 1),
    "names": f'{HTTP}hosts = ["jobs.example.com", "jobs"]\nredact = ["*pass*"]\nmax_body = "2M"\n',
    "two tokens": HTTP + TOKEN + TOKEN.replace("alice", "bob"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_is_not_complained_of(folder: Path, name: str) -> None:
    assert said(folder, RIGHT[name]) == []


WRONG = {
    "nothing": ("[gateway]\n", "1: : listen is missing; add listen = "),
    "no address": (
        '[gateway]\nlisten = ["8080"]\n',
        '2: listen[0]: expected an address such as "http://127.0.0.1:9180", got "8080"',
    ),
    "another protocol": ('[gateway]\nlisten = ["tcp://127.0.0.1:1"]\n', "2: listen[0]: expected an address such as"),
    "no port": ('[gateway]\nlisten = ["http://127.0.0.1"]\n', "2: listen[0]: "),
    "twice": ('[gateway]\nlisten = ["http://127.0.0.1:1", "http://127.0.0.1:1"]\n', "2: listen: the same address twice; remove"),
    "open to all": (
        HTTP.replace("127.0.0.1", "0.0.0.0"),
        "2: listen[0]: http://0.0.0.0:8080 can be reached from other machines, "
        "and would let anybody run jobs; add a token: [gateway.tokens.alice]",
    ),
    "protobuf without TLS": (
        HTTPS.replace("https", "protobuf") + 'tls = {certificate = "cert.pem", key = "key.pem"}\n',
        "3: tls: no address of listen has TLS; write https for http, as in https://0.0.0.0:8443, or remove tls",
    ),
    "protobuf open to all": (
        HTTP.replace("http://127.0.0.1", "protobuf://0.0.0.0"),
        "2: listen[0]: protobuf://0.0.0.0:8080 can be reached from other machines, ",
    ),
    "open to all of IPv6": (HTTP.replace("127.0.0.1", "[::]"), "2: listen[0]: http://[::]:8080 can be reached"),
    "open by a name": (
        HTTP.replace("127.0.0.1", "jobs.example.com"),
        "2: listen[0]: http://jobs.example.com:8080 can be reached",
    ),
    "https without a certificate": (HTTPS, "2: listen[0]: https://127.0.0.1:8443 needs a certificate; add tls = "),
    "an empty table": (f"{HTTPS}tls = {{}}\n", "2: listen[0]: https://127.0.0.1:8443 needs a certificate; add tls = "),
    "no key": (
        f'{HTTPS}tls = {{ certificate = "cert.pem" }}\n',
        '3: tls: key is missing, which belongs to certificate; add key = "tls/key.pem"',
    ),
    "no certificate": (f'{HTTPS}tls = {{ key = "key.pem" }}\n', "3: tls: certificate is missing, which belongs to key; add"),
    "no https": (
        f'{HTTP}tls = {{ certificate = "cert.pem", key = "key.pem" }}\n',
        "3: tls: no address of listen has TLS; write https for http, as in https://127.0.0.1:8080, or remove tls",
    ),
    "no table": (f'{HTTPS}tls = "cert.pem"\n', '3: tls: expected a table such as [gateway.tls], got "cert.pem"'),
    "misspelt": (
        f'{HTTPS}tls = {{ certificate = "cert.pem", keys = "key.pem" }}\n',
        "3: tls.keys: unknown key; did you mean key?",
    ),
    "certificate not there": (tls("gone"), "3: tls.certificate: {}/gone: no such file; make it, or correct the path"),
    "key not there": (tls(key="gone"), "3: tls.key: {}/gone: no such file; make it, or correct the path"),
    "certificate a folder": (tls("other"), "3: tls.certificate: {}/other: is a folder; name a file in it"),
    "no certificate in it": (tls("nonsense"), "3: tls.certificate: {}/nonsense: no certificate in PEM"),
    "no key in it": (tls(key="nonsense"), "3: tls.key: {}/nonsense: no private key in PEM"),
    "taken for each other": (tls("key.pem", "cert.pem"), "3: tls.certificate: {}/key.pem: no certificate in PEM"),
    "a certificate for a key": (tls(key="cert.pem"), "3: tls.key: {}/cert.pem: no private key in PEM"),
    "not of one another": (
        tls(key="other/key.pem"),
        "3: tls.key: {}/other/key.pem: is the key of another certificate than {}/cert.pem; they belong together",
    ),
    "encrypted": (
        tls(key="locked"),
        "3: tls.key: {0}/locked: is encrypted, and nobody is there to type its password: openssl pkey -in {0}/locked",
    ),
    "scope": (
        HTTP + TOKEN.replace('"read"', '"write"'),
        '5: tokens.alice.scopes[0]: expected "read" or "run" or "admin", got "write"',
    ),
    "scopes no array": (HTTP + TOKEN.replace('["read"]', '"read"'), "5: tokens.alice.scopes: expected an array"),
    "no scopes": (HTTP + '[gateway.tokens.alice]\nfile = "alice"\n', "3: tokens.alice: scopes is missing; add scopes = "),
    "no file": (HTTP + '[gateway.tokens.alice]\nscopes = ["read"]\n', '3: tokens.alice: file is missing; add file = "..."'),
    "unknown key of a token": (HTTP + TOKEN + 'target = ["x"]\n', "6: tokens.alice.target: unknown key; did you mean targets?"),
    "token no table": (
        HTTP + '[gateway.tokens]\nalice = "secret"\n',
        '4: tokens.alice: expected a table such as [gateway.tokens.alice], got "secret"',
    ),
    "name of a token": (HTTP + TOKEN.replace("alice]", '"a b"]'), '3: tokens."a b": expected a token\'s name'),
    "held back": (
        HTTP + TOKEN.replace('"read"', '"admin"') + 'targets = ["x"]\n',
        "3: tokens.alice: targets would not hold back",
    ),
    "token not there": (
        HTTP + TOKEN.replace('"alice"', '"gone"'),
        "4: tokens.alice.file: {}/gone: no such file; make it: (umask 077",
    ),
    "token for all": (
        HTTP + TOKEN.replace('"alice"', '"open"'),
        "4: tokens.alice.file: {}/open: its group or others have access to it (mode 0644); chmod 600",
    ),
    "token empty": (
        HTTP + TOKEN.replace('"alice"', '"empty"'),
        "4: tokens.alice.file: {}/empty: empty; put one secret line in it",
    ),
    "the same secret": (
        HTTP + TOKEN + TOKEN.replace("alice]", "same]").replace('"alice"', '"same"'),
        "7: tokens.same.file: {}/same: has the secret of alice; whoever shows it could be either; make another",
    ),
    "the same file": (HTTP + TOKEN + TOKEN.replace("alice]", "bob]"), "7: tokens.bob.file: {}/alice: has the secret of alice"),
    "a host with a port": (
        f'{HTTP}hosts = ["jobs.example.com:8443"]\n',
        "3: hosts[0]: expected the name of a machine "
        'such as "jobs.example.com", without scheme and port, got "jobs.example.com:8443"',
    ),
    "a host that is an address": (
        f'{HTTP}hosts = ["https://jobs.example.com/"]\n',
        "3: hosts[0]: expected the name of a machine",
    ),
    "redact": (f"{HTTP}redact = [5]\n", '3: redact[0]: expected a string such as "*password*", got 5'),
    "body": (f'{HTTP}max_body = "1"\n', "3: max_body: expected a size"),
    "unknown": (f"{HTTP}max_bodys = 5\n", "3: max_bodys: unknown key; did you mean max_body?"),
    "grace": (f'{HTTP}grace = "soon"\n', "3: grace: expected a duration"),
}
"""By what it is: the table, and the line, key and text that are to be said; ``gateway.`` before the key goes without saying."""


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_once_with_file_line_key_value_and_cure(folder: Path, name: str) -> None:
    text, expected = WRONG[name]
    line, _, words = expected.format(folder, folder).partition(": ")
    (problem,) = said(folder, text)
    assert problem.startswith(f"{folder}/rocksyd.toml:{line}: gateway{'' if words.startswith(':') else '.'}{words}")


def test_two_tokens_of_one_name_are_no_toml(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"rocksyd\.toml:6.*not valid TOML"):
        said(folder, HTTP + TOKEN + TOKEN)


@pytest.mark.parametrize("name", ["not of one another", "encrypted", "no key in it", "no certificate in it"])
def test_the_gateway_itself_says_the_same_of_a_pair_that_it_cannot_use(folder: Path, name: str) -> None:
    (problem,) = said(folder, WRONG[name][0])
    loaded, _ = config.everything(str(folder / "rocksyd.toml"))
    with pytest.raises(CannotAttend) as failed:
        _tls(loaded.companions["gateway"].settings["tls"])
    assert problem.endswith(f"rocksyd.toml:3: {failed.value}")
