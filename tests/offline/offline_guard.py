"""Make every outgoing connection an error: in the tests, and in each Python that they start, kernels included.

An audit hook sees the calls below Python's own socket class, so no library reaches past it. What it stops is also
written to the file named by MMTEACH_CONNECTIONS, since a library may catch the error and go on.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from typing import Any

RESOLVING = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")


class OutgoingConnection(RuntimeError):
    """A test, or something it started, wanted to talk to another machine."""


def is_local(host: Any) -> bool:
    """Return whether `host` names this machine: no host, a loopback address or this machine's own name."""
    name = host.decode() if isinstance(host, bytes) else host
    if not name or name in ("localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def wanted_host(event: str, args: tuple[Any, ...]) -> Any:
    """Return the host that an audit event is about, '' when it is none of ours."""
    if event in RESOLVING:
        return args[0]
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        internet = args[0].family in (socket.AF_INET, socket.AF_INET6)
        return args[1][0] if internet and args[1] else ""
    return ""


def guard(event: str, args: tuple[Any, ...]) -> None:
    """Raise OutgoingConnection, and note it down, when an audit event would leave this machine."""
    host = wanted_host(event, args)
    if is_local(host):
        return
    if record := os.environ.get("MMTEACH_CONNECTIONS"):
        with open(record, "a", encoding="utf-8") as file:
            file.write(f"{event} {host!r} in {' '.join(sys.argv)[:200]}\n")
    raise OutgoingConnection(f"{event} to {host!r}: tests and notebooks open no outgoing connection")


sys.addaudithook(guard)
