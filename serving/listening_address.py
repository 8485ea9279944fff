"""Address that the service listens on, which BentoML's options and settings decide."""

import socket
from ipaddress import ip_address

import click

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(address: str) -> bool:
    """Returns True if only programs on the same machine can reach the address."""
    return ip_address(address).is_loopback


def listening_address() -> str | None:
    """IP address of the socket that BentoML gave this worker; None outside a worker.

    BentoML tells its workers the number of the socket on the command line, and the host nowhere.
    """
    command = click.get_current_context(silent=True)
    if command is None or "fd" not in command.params:
        return None
    listener = socket.socket(fileno=command.params["fd"])
    try:
        return str(listener.getsockname()[0])
    finally:
        listener.detach()  # uvicorn will listen on it
