"""Addresses in an experiment file: where a message may be sent."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


def safe_url(url: str) -> str:
    """Return the address of a webhook, unchanged; raises ValueError when a message must not be sent there."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("an address has no spaces and only ASCII characters; write the name of the host in punycode")
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port
    if parts.username is not None or parts.password is not None:
        raise ValueError("no user or password in the address: it is kept in the store; the message is signed instead")
    if not host or port == 0:
        raise ValueError('not an address; write url = "https://hooks.example.com/abtest"')
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ValueError("must start with https:// (http:// only to 127.0.0.1, ::1 or localhost)")
    return url


def is_loopback(host: str) -> bool:
    """Return whether a host name or address can only mean this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
