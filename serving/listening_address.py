"""Address that the service listens on, which BentoML's options and settings decide."""

import logging
import socket
from ipaddress import ip_address

import click

from serving.settings import Settings

log = logging.getLogger(__name__)

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


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


def bound(settings: Settings, address: str | None) -> Settings:
    """The settings of a service that listens on an address: on loopback its names are the hosts.

    A web page can have its own name stand for 127.0.0.1, and so ask what only this machine should reach.
    """
    if address is None:
        return settings
    if ip_address(address).is_loopback:
        hosts = LOOPBACK_NAMES | {address} if settings.hosts is None else settings.hosts
        return settings.model_copy(update={"hosts": hosts})
    if settings.api_keys is None:
        log.warning("whoever reaches %s may use the service: ZOO_API_KEYS is not set", address)
    return settings
