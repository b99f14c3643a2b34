"""The disk's side of the configuration: reading the files and the token, and what must exist before anything starts."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator

from rocksyd.config.files import PARTS, Part, is_part, kept
from rocksyd.config.locate import KeyPath
from rocksyd.config.modules import missing
from rocksyd.config.parse import parse, parse_all
from rocksyd.config.settings import FEWEST_CLIENTS, OTHER_FILES, AppConfig, Config
from rocksyd.config.table import Problems
from rocksyd.errors import ConfigError

MAX_FILE = 16 * 1024**2
"""Bytes of the largest configuration read: what is larger is some other file."""
MAX_TOKEN = 4096
"""Bytes of the largest token."""
MAX_PEM = 1024**2
"""Bytes of the largest file with a certificate or a key."""

_MAKE_TOKEN = "(umask 077; head -c 24 /dev/urandom | base64)"
_ANOTHER = f"whoever shows it could be either; make another: {_MAKE_TOKEN}"


def load(path: str) -> Config:
    """The configuration in the file ``path``, checked against the disk.

    Raises:
        ConfigError: the file cannot be read, or with every error found in it, one a line.
    """
    return read_checked(path)[1]


def read_checked(path: str) -> tuple[str, Config]:
    """As ``load``, with the text that is kept of all its files before it (``parse_kept``)."""
    text, parts = read(path), read_parts(path)
    config = parse(text, path, parts)
    problems = check(config)
    if problems:
        raise ConfigError("\n".join(problems))
    return kept(text, parts), config


def everything(path: str) -> tuple[Config, list[str]]:
    """The configuration in the file ``path``, and all that is wrong with it: in the text, on the disk, and modules not there.

    Raises:
        ConfigError: the file cannot be read, or is not TOML.
    """
    config, problems = parse_all(read(path), path, read_parts(path))
    _check(config, problems)
    _check_tls(config, problems)
    _check_connections(config, problems)
    for app in config.apps.values():
        for key in ("preload", "jobs"):
            for index, name in enumerate(getattr(app, key)):
                if wrong := missing(app, name.partition(":")[0]):
                    problems.add(("apps", app.name, key, index), wrong)
    return config, [*problems.sorted(), *not_installed(config)]


def read(path: str) -> str:
    """The text of the configuration file ``path``.

    Raises:
        ConfigError: it does not exist, is no file, is not readable or is not UTF-8.
    """
    return _text(path, "name another with -c FILE")


def read_parts(path: str) -> tuple[Part, ...]:
    """The files of scripts beside the configuration file ``path``, by their names.

    Raises:
        ConfigError: as ``read``; or there is something of the folder's name that cannot be listed.
    """
    folder = os.path.join(os.path.dirname(path), PARTS)
    try:
        names = sorted(name for name in os.listdir(folder) if is_part(name))
    except FileNotFoundError:
        return ()
    except NotADirectoryError as error:
        raise ConfigError(f"{folder}: is no folder; it is the one for files of scripts: rename this file") from error
    except OSError as error:
        raise ConfigError(
            f"{folder}: not readable by {_me()} ({error.strerror}); chown or chmod it, or run as its owner"
        ) from error
    cure = "a link to nothing, or removed just now: remove the link, or try again"
    return tuple(Part(f"{PARTS}/{name}", _text(os.path.join(folder, name), cure)) for name in names)


def _text(path: str, cure: str) -> str:
    data = _content(path, MAX_FILE, cure)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}:{line}: not UTF-8 (byte 0x{data[error.start]:02x}); save the file in that encoding, which TOML requires"
        ) from error


def token(config: Config) -> str | None:
    """The secret that TCP clients must show, without surrounding blanks; None when none is configured.

    Raises:
        ConfigError: the file is missing, empty, not readable, or others may read it.
    """
    return secret(config.token_file) if config.token_file else None


def secret(path: str) -> str:
    """The secret in the file ``path``, without surrounding blanks.

    Raises:
        ConfigError: the file is missing, empty, not readable, or others may read it.
    """
    data = _content(path, MAX_TOKEN, f"make it: {_MAKE_TOKEN} > {path}")
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & 0o077:
        raise ConfigError(f"{path}: its group or others have access to it (mode {mode:04o}); chmod 600 {path}")
    try:
        text = data.decode().strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8; make another: {_MAKE_TOKEN} > {path}") from error
    if not text or not text.isprintable():
        what = "more than one line of printable text" if text else "empty"
        raise ConfigError(f"{path}: {what}; put one secret line in it: {_MAKE_TOKEN} > {path}")
    return text


def check(config: Config) -> list[str]:
    """What is wrong on the disk with what ``config`` names: one sentence each, with file, line and key; [] if all is well."""
    problems = Problems(config.path, config.places)
    _check(config, problems)
    return problems.sorted()


def _check(config: Config, problems: Problems) -> None:
    """Add what is wrong on the disk. What is wrong in the text already has a default here, and nothing is said of that."""
    if not problems.concern(("listen",)):
        _check_listen(config, problems)
    wrong = _cannot_be_folder(config.state_dir)
    if wrong and not problems.concern(("state_dir",)):
        problems.add(("state_dir",), wrong)
    try:
        token(config)
    except ConfigError as error:
        problems.add(("token_file",), str(error))
    _check_companions(config, problems)
    for app in config.apps.values():
        for key, sentence in _check_app(app) if app.path else ():
            if not problems.concern(("apps", app.name, key)):
                problems.add(("apps", app.name, key), sentence)


def _check_connections(config: Config, problems: Problems) -> None:
    """Whether as many files may be open as services may have connections."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    room = files - config.other_files - FEWEST_CLIENTS
    if files == resource.RLIM_INFINITY:
        room = config.service_connections
    for app in config.apps.values():
        for name, service in app.services.items():
            most, key = service.max_connections, ("apps", app.name, "services", name, "max_connections")
            own = app.every_pool()[app.service_pools()[name]].rlimits.get("nofile")
            if config.service_connections > room:
                problems.add(
                    key,
                    f"{most} connections, {config.service_connections} of all services, and {files} files may be open here: a "
                    "connection is a descriptor in its worker, in the master and in the keeper, and these need "
                    f"{files - room} for other things; lower it, so that all services have at most {max(0, room)}, or raise "
                    "LimitNOFILE= or ulimit -Hn",
                )
            elif isinstance(own, int) and most > own - OTHER_FILES:
                problems.add(
                    key,
                    f"{most} connections, and its worker may open {own} files (rlimits.nofile of its pool), of which "
                    f"{OTHER_FILES} are for other things; lower it to {max(0, own - OTHER_FILES)}, or set nofile to "
                    f"{most + OTHER_FILES}",
                )


def _check_companions(config: Config, problems: Problems) -> None:
    """The files that companions are given the names of: tokens, and what TLS takes."""
    gateway = config.companions.get("gateway")
    if gateway is None:
        return
    holders: dict[str, str] = {}
    for who, one in gateway.settings.get("tokens", {}).items():
        path: KeyPath = ("gateway", "tokens", who)
        if problems.concern((*path, "file")):
            continue
        try:
            holder = holders.setdefault(secret(one["file"]), who)
        except ConfigError as error:
            problems.add((*path, "file"), str(error))
        else:
            if holder != who:
                problems.add((*path, "file"), f"{one['file']}: has the secret of {holder}; {_ANOTHER} > {one['file']}")
    for key, file in gateway.settings.get("tls", {}).items():
        if problems.concern(("gateway", "tls", key)):
            continue
        try:
            _content(file, MAX_PEM, "make it, or correct the path (it is relative to rocksyd.toml)")
        except ConfigError as error:
            problems.add(("gateway", "tls", key), str(error))


def _check_tls(config: Config, problems: Problems) -> None:
    """Whether certificate and key can be used. Not for the master, which loads no OpenSSL; the gateway itself says so there."""
    gateway = config.companions.get("gateway")
    files = gateway.settings.get("tls") if gateway else None
    if not files or problems.concern(("gateway", "tls")):
        return
    from rocksyd.config import tls  # noqa: PLC0415  (see above)

    try:
        tls.context(files["certificate"], files["key"])
    except tls.Unusable as error:
        problems.add(("gateway", "tls", error.key), str(error))


def not_installed(config: Config) -> list[str]:
    """What companions need and this interpreter does not have: one sentence each, with file, line and key.

    Not for the master, which runs without its interpreter's packages; there the companion itself says so.
    """
    import importlib.util  # noqa: PLC0415  (nobody else needs it)

    problems = Problems(config.path, config.places)
    for name, companion in config.companions.items():
        missing = [module for module in companion.needs if importlib.util.find_spec(module) is None]
        if missing:
            problems.add((name,), f"{', '.join(missing)} is not installed: pip install rocksyd[{companion.extra}]")
    return problems.sorted()


def _check_listen(config: Config, problems: Problems) -> None:
    for index, address in enumerate(config.listen):
        if address.kind != "unix":
            continue
        wrong = _cannot_be_folder(os.path.dirname(address.path))
        if not wrong and os.path.lexists(address.path) and not stat.S_ISSOCK(os.lstat(address.path).st_mode):
            wrong = f"{address.path} exists and is no socket; remove it or name another path"
        if wrong:
            problems.add(("listen", index), wrong)


def _check_app(app: AppConfig) -> Iterator[tuple[str, str]]:
    if wrong := _unreachable(app.path, "folder"):
        yield "path", f"{wrong}; create it or correct the path (it is relative to rocksyd.toml)"
    elif not os.path.isdir(app.path):
        yield "path", f"is no folder: {app.path}; create it or correct the path"
    elif not os.access(app.path, os.R_OK | os.X_OK):
        yield "path", f"not readable by {_me()}: {app.path}; chmod o+rx it or run the daemon as its owner"
    if app.python and (wrong := _unreachable(app.python, "file")):
        yield "python", f"{wrong}; make the virtual environment (python3 -m venv ...) or correct the path"
    elif app.python and (not os.path.isfile(app.python) or not os.access(app.python, os.X_OK)):
        yield "python", f"cannot be executed by {_me()}: {app.python}; name the interpreter itself, such as .venv/bin/python"
    yield from _check_identity(app)


def _unreachable(path: str, what: str) -> str:
    """Why there is nothing at ``path`` as far as this process can see, or ""."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return f"no such {what}: {path}"
    except OSError as error:
        return f"out of reach for {_me()} ({error.strerror}): {path}"
    return ""


def _check_identity(app: AppConfig) -> Iterator[tuple[str, str]]:
    if not app.user and not app.group:
        return
    import grp  # noqa: PLC0415  (two C modules that hardly anybody needs)
    import pwd  # noqa: PLC0415

    mine = os.geteuid()
    if app.user:
        try:
            wanted = pwd.getpwnam(app.user).pw_uid
        except (KeyError, ValueError):
            yield "user", f'no such user: "{app.user}"; create it (useradd --system {app.user}) or correct the name'
        else:
            if mine not in (0, wanted):
                yield "user", f"only root may run jobs as another user, and this is {_me()}; start as root, or remove user"
    if app.group:
        try:
            group = grp.getgrnam(app.group).gr_gid
        except (KeyError, ValueError):
            yield "group", f'no such group: "{app.group}"; create it (groupadd --system {app.group}) or correct the name'
        else:
            if mine and group not in (os.getegid(), *os.getgroups()):
                yield "group", f"only root may run jobs in a group that is not its own, and this is {_me()}; remove group"


def _cannot_be_folder(path: str) -> str:
    """Why the daemon could not create files in ``path`` (which it makes itself, with what is above), or ""."""
    existing = path
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing):
        return f"{existing} is no folder; remove it or name another path"
    if not os.access(existing, os.W_OK | os.X_OK):
        return f"{_me()} may not write in {existing}; chown it or name another path"
    return ""


def _content(path: str, limit: int, cure: str) -> bytes:
    """The bytes of a regular file. Raises ConfigError with the cause and, where it is missing, ``cure``."""
    try:
        # Not blocking, because opening a pipe would wait for somebody to write.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file; {cure}") from error
    except PermissionError as error:
        raise ConfigError(f"{path}: not readable by {_me()}; chown or chmod it, or run as its owner") from error
    except (OSError, ValueError) as error:
        why = "embedded null byte" if "\0" in path else error  # in the same words whichever Python it is
        raise ConfigError(f"{path!a}: cannot be opened ({why!s}); correct the path") from error
    try:
        kind = os.fstat(fd).st_mode
        if stat.S_ISDIR(kind):
            raise ConfigError(f"{path}: is a folder; name a file in it")
        # A pipe or a socket has no size; reading it would wait or take what is another's.
        if not stat.S_ISREG(kind):
            raise ConfigError(f"{path}: is no regular file; name one")
        data = b""
        while len(data) <= limit and (part := os.read(fd, 1024**2)):
            data += part
    finally:
        os.close(fd)
    if len(data) > limit:
        raise ConfigError(f"{path}: larger than {limit} bytes, so it is some other file; correct the path")
    return data


def _me() -> str:
    return f"uid {os.geteuid()}"
