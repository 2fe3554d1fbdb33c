"""No network: what a check under the mock promises."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

from haystack.telemetry import _telemetry


class NoNetwork(OSError):
    """Something wanted to go over the network."""


@contextmanager
def no_network() -> Iterator[None]:
    """Refuse, in the whole process, every connection but those to this machine.

    A service that stands beside the wrappers, such as a document store on ``localhost``, stays within reach. Haystack's
    telemetry, which would try again and again, says nothing.
    """
    telemetry, _telemetry.telemetry = _telemetry.telemetry, None
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def connect_here(self: socket.socket, address: Any, /) -> None:
        _refuse_others(address)
        connect(self, address)

    def connect_ex_here(self: socket.socket, address: Any, /) -> int:
        _refuse_others(address)
        return connect_ex(self, address)

    def getaddrinfo_here(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_others((host, port))  # a name is looked up over the network
        return getaddrinfo(host, port, *args, **kwargs)

    socket.socket.connect = connect_here  # type: ignore[method-assign,assignment]
    socket.socket.connect_ex = connect_ex_here  # type: ignore[method-assign,assignment]
    socket.getaddrinfo = getaddrinfo_here
    try:
        yield
    finally:
        _telemetry.telemetry = telemetry
        socket.socket.connect = connect  # type: ignore[method-assign]
        socket.socket.connect_ex = connect_ex  # type: ignore[method-assign]
        socket.getaddrinfo = getaddrinfo


def _refuse_others(address: Any) -> None:
    """:raises NoNetwork: for an address that is not this machine's."""
    if not isinstance(address, tuple):  # a socket in the file system
        return
    host = address[0].decode("idna") if isinstance(address[0], bytes) else address[0]
    if not _is_here(host):
        raise NoNetwork(f"{host}:{address[1]}")


def _is_here(host: str | None) -> bool:
    if host in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        address = ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
