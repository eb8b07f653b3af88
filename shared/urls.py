"""What the settings' URLs must be like, so that what cannot work is refused before it is tried.

Each function raises ValueError with what is wrong, in words that go behind "here: ".
"""

import ipaddress
import re
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_PORTS: Final = range(1, 65536)
_HOST = re.compile(r"[\w.-]+")
_BUCKET = re.compile(r"[\w.-]{1,255}", re.ASCII)
# As SQLAlchemy takes a URL apart: a password may have any character but @.
_DATABASE = re.compile(
    r"(?P<scheme>[\w+]+)://"
    r"((?P<user>[^:/]*)(:(?P<password>[^@]*))?@)?"
    r"(\[(?P<literal>[^/\]?]+)\]|(?P<host>[^/:?]+))?(:(?P<port>[^/?]*))?"
    r"(/(?P<name>[^?]*))?(\?(?P<query>.*))?",
    re.DOTALL,
)
_ENCODE = "in a user or a password, @ is written %40, / %2F, ? %3F, # %23 and : %3A"
_VERIFY: Final = {"none", "optional", "required"}


def check_database(url: str) -> None:
    parts = _DATABASE.fullmatch(url)
    scheme = parts["scheme"] if parts else url
    if parts is None or scheme not in {"sqlite", "postgresql+psycopg"}:
        raise ValueError("it is another kind of database, or no URL")
    query = dict(parse_qsl(parts["query"] or "", keep_blank_values=True))
    if scheme == "sqlite":
        _check_sqlite(parts, query)
        return
    if not query.keys() & {"host", "hostaddr", "service"}:
        _check_host(parts["literal"] or parts["host"] or "", is_literal=bool(parts["literal"]))
    _check_port(parts["port"])
    if not (parts["name"] or query.keys() & {"dbname", "service"}):
        raise ValueError("the database's NAME is missing")


def check_broker(url: str) -> None:
    if url == "memory://":
        return
    parts = _split(url, {"redis", "rediss"})
    if parts.fragment or "@" in parts.path + parts.query:
        raise ValueError(_ENCODE)
    if not re.fullmatch(r"/?|/[0-9]+", parts.path, re.ASCII):
        raise ValueError("the database N is no number")
    options = broker_options(url)
    if options and parts.scheme != "rediss":
        raise ValueError(f"{', '.join(options)}: certificates are looked at by rediss:// alone")


def broker_options(url: str) -> dict[str, Any]:
    """How the certificates of a rediss:// broker are looked at: its query, typed."""
    options: dict[str, Any] = {}
    for name, value in parse_qsl(urlsplit(url).query, keep_blank_values=True):
        match name, value.lower().removeprefix("cert_"):
            case "ssl_cert_reqs", verify if verify in _VERIFY:
                options[name] = verify
            case "ssl_check_hostname", "true" | "false":
                options[name] = value.lower() == "true"
            case "ssl_ca_certs" | "ssl_ca_path" | "ssl_certfile" | "ssl_keyfile", path if path:
                options[name] = value
            case _:
                raise ValueError(
                    f"?{name}={value}; accepted there: ssl_ca_certs, ssl_ca_path, ssl_certfile and"
                    " ssl_keyfile, each with a path, ssl_cert_reqs with one of"
                    f" {', '.join(sorted(_VERIFY))}, ssl_check_hostname with true or false"
                )
    return options


def check_storage(url: str, *, needs_key: bool = False) -> None:
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise ValueError("? is written %3F, and # %23")
    match parts.scheme, parts.netloc:
        case "file", "" if not needs_key:
            if unquote(parts.path) in {"", "/"}:
                raise ValueError("the folder's PATH is missing")
        case "file", _ if not needs_key:
            raise ValueError("file: is followed by three slashes")
        case "s3", bucket:
            if not _BUCKET.fullmatch(bucket):
                raise ValueError(
                    "a BUCKET has letters, digits, . - and _ alone; keys and endpoint are set in"
                    " AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL_S3"
                )
            if needs_key and not parts.path.strip("/"):
                raise ValueError("the KEY is missing")
        case _:
            raise ValueError("it is another kind of storage, or no URL")


def check_endpoint(url: str) -> None:
    parts = _split(url, {"http", "https"})
    if parts.query or parts.fragment:
        raise ValueError("it has a query")


def check_address(host: str) -> None:
    """Where a server may listen: an address of either version, or a name."""
    if "://" in host or "/" in host:
        raise ValueError(f"{host!r} is a URL")
    if ":" in host:
        _check_literal(host)
    elif not _HOST.fullmatch(host):
        raise ValueError(f"{host!r} is neither an address nor a name")


def of_http(host: str, port: int) -> str:
    """The address of a server; that of this machine, if it listens on all of its addresses."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def without_password(text: str) -> str:
    """A setting's value as it may be shown."""
    text = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", text, flags=re.DOTALL)
    return re.sub(r"(password=)[^&]*", r"\1***", text)


def _check_sqlite(parts: re.Match[str], query: dict[str, str]) -> None:
    if parts["host"] or parts["literal"] or parts["user"]:
        raise ValueError("sqlite: is followed by three slashes, and four before an absolute PATH")
    if not parts["name"]:
        raise ValueError("the file's PATH is missing")
    if parts["name"] == ":memory:":
        raise ValueError("each connection would have a database of its own in memory")
    if others := query.keys() - {"timeout"}:
        raise ValueError(f"?{min(others)}; accepted there: timeout; ? in a PATH is written %3F")
    if "timeout" in query and not re.fullmatch(r"\d+(\.\d+)?", query["timeout"], re.ASCII):
        raise ValueError(f"the timeout {query['timeout']!r} is no number of seconds")


def _split(url: str, schemes: set[str]) -> SplitResult:
    """A URL with host and port, both checked."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in schemes:
        begins = " or ".join(f"{scheme}://" for scheme in sorted(schemes))
        raise ValueError(f"it does not begin with {begins}")
    parts = urlsplit(f"http://{rest}")._replace(scheme=scheme)
    place = parts.netloc.rpartition("@")[2]
    found = re.fullmatch(r"(\[(?P<literal>[^\]]+)\]|(?P<host>[^:]*))(:(?P<port>.*))?", place)
    if found is None:
        raise ValueError("an IPv6 address stands in brackets, as [::1]")
    _check_host(found["literal"] or found["host"] or "", is_literal=bool(found["literal"]))
    _check_port(found["port"])
    return parts


def _check_host(host: str, *, is_literal: bool) -> None:
    if is_literal:
        _check_literal(host)
    elif not host:
        raise ValueError("the HOST is missing")
    elif not _HOST.fullmatch(host):
        raise ValueError(f"the HOST has characters that no host has; {_ENCODE}")


def _check_literal(host: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError(f"{host!r} is no IPv6 address") from None


def _check_port(port: str | None) -> None:
    if port is None:
        return
    if not (port.isascii() and port.isdigit() and int(port) in _PORTS):
        raise ValueError(f"the PORT is no number from 1 to 65535; {_ENCODE}")
