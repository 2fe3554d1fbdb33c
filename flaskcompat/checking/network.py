"""No network: what a check under the mock promises."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from typing import Any

from haystack.telemetry import _telemetry

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy")


class NoNetwork(OSError):
    """Something wanted to go over the network."""


@contextmanager
def no_network() -> Iterator[None]:
    """Refuse, in the whole process, every connection but those to this machine.

    A service that stands beside the wrappers, such as a document store on ``localhost``, stays within reach; a proxy
    there does not, since the environment names none meanwhile. Haystack's telemetry, which would try again and again,
    says nothing.
    """
    proxies = {name: os.environ.pop(name) for name in list(os.environ) if name.lower() in _PROXIES}
    telemetry, _telemetry.telemetry = _telemetry.telemetry, None
    connect, connect_ex, sendto = socket.socket.connect, socket.socket.connect_ex, socket.socket.sendto
    lookups = {name: getattr(socket, name) for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex")}

    def connect_here(self: socket.socket, address: Any, /) -> None:
        _refuse_others(address)
        connect(self, address)

    def connect_ex_here(self: socket.socket, address: Any, /) -> int:
        _refuse_others(address)
        return connect_ex(self, address)

    def sendto_here(self: socket.socket, *args: Any) -> int:
        _refuse_others(args[-1])
        return sendto(self, *args)

    def look_up_here(real: Any, host: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_others((host, kwargs.get("port") or next(iter(args), None)))  # a name is looked up over the network
        return real(host, *args, **kwargs)

    socket.socket.connect = connect_here  # type: ignore[method-assign,assignment]
    socket.socket.connect_ex = connect_ex_here  # type: ignore[method-assign,assignment]
    socket.socket.sendto = sendto_here  # type: ignore[method-assign,assignment]
    for name, real in lookups.items():
        setattr(socket, name, partial(look_up_here, real))
    try:
        yield
    finally:
        _telemetry.telemetry = telemetry
        socket.socket.connect = connect  # type: ignore[method-assign]
        socket.socket.connect_ex = connect_ex  # type: ignore[method-assign]
        socket.socket.sendto = sendto  # type: ignore[method-assign]
        for name, real in lookups.items():
            setattr(socket, name, real)
        os.environ.update(proxies)


def _refuse_others(address: Any) -> None:
    """:raises NoNetwork: for an address that is not this machine's."""
    if not isinstance(address, tuple):  # a socket in the file system
        return
    host = address[0].decode("idna") if isinstance(address[0], bytes) else address[0]
    if not _is_here(host):
        raise NoNetwork(f"{host}:{address[1]}" if address[1] is not None else f"{host}")


def _is_here(host: str | None) -> bool:
    if host in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        address = ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
