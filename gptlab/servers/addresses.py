"""Addresses of servers as people write them, and whether a proxy stands before them."""

from __future__ import annotations

import ipaddress
import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # what a server listens at, and where it is then asked


def tidy_url(url: str, *, port: int | None = None, endings: Sequence[str] = ()) -> str:
    """Return an address in the one form that clients are given and caches are keyed by.

    Args:
        url: may lack "http://", end in a slash, name an IPv6 address without brackets, or be typed in full-width
            characters, as Chinese keyboards do; 0.0.0.0, at which a server listens, becomes 127.0.0.1.
        port: the one meant where neither "http://" nor a port is said.
        endings: paths that people copy along with the address, the longest first; they are cut off.

    Raises:
        ValueError: it is no address of HTTP, or holds a name and password, which would come into logs.

    >>> tidy_url("localhost/v1/", port=11434, endings=["/v1"])
    'http://localhost:11434'
    """
    if not isinstance(url, str):
        raise ValueError(f"an address must be text such as http://localhost:11434, got {url!r:.80}")
    text = unicodedata.normalize("NFKC", url).strip()
    with suppress(ValueError):
        text = f"[{ipaddress.IPv6Address(text)}]"
    bare = "://" not in text
    try:
        parts = urlsplit(f"http://{text}" if bare else text)
        host, said_port = parts.hostname or ("127.0.0.1" if bare and parts.port else ""), parts.port
    except ValueError:
        host, said_port = "", None
    if "@" in text:
        raise ValueError("an address must not hold a name and a password: they would come into files and logs")
    unlike = host in ("", "http", "https") or parts.scheme not in ("http", "https")  # as of "http:/localhost"
    if unlike or parts.query or parts.fragment or " " in text:
        raise ValueError(f"{url!r} is no address; one looks like http://localhost:11434")
    host = ANY_ADDRESS.get(host, host)
    number = said_port or (port if bare else None)
    path = parts.path.rstrip("/")
    for ending in endings:
        path = path.removesuffix(ending)
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{place}{f':{number}' if number else ''}{path.rstrip('/')}"


def is_local(url: str) -> bool:
    """Whether an address is on this machine, where no proxy has to be asked."""
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def is_near(url: str) -> bool:
    """Whether an address is on this machine or in a private network, where servers mostly ask for no key."""
    with suppress(ValueError):
        return ipaddress.ip_address(urlsplit(url).hostname or "").is_private
    return is_local(url)


def goes_through_proxy(url: str) -> bool:
    """Whether the environment, or the system's settings, send requests to `url` through a proxy."""
    parts, proxies = urlsplit(url), getproxies()
    if is_local(url) or not (proxies.get(parts.scheme) or proxies.get("all")):
        return False
    return not proxy_bypass(parts.hostname or "")


@contextmanager
def no_proxies() -> Iterator[None]:
    """Let the environment say, in a block, that nothing is asked through a proxy."""
    before = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    os.environ.update(dict.fromkeys(before, "*"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
