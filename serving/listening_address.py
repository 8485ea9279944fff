"""Address that the service listens on, as set by BentoML's options and settings."""

import logging
import socket
from ipaddress import ip_address

import click

from serving.settings import Settings

log = logging.getLogger(__name__)

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def listening_address() -> str | None:
    """Returns the IP address of the socket that BentoML gave this worker; None outside a worker.

    BentoML passes the number of the socket to its workers on the command line, but not the host.
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
    """Returns the settings for an address that the service listens on; loopback allows only its own names.

    Otherwise a web page could resolve its own host name to 127.0.0.1 and reach a service that is meant for
    this machine only (DNS rebinding).
    """
    if address is None:
        return settings
    if ip_address(address).is_loopback:
        hosts = LOOPBACK_NAMES | {address} if settings.hosts is None else settings.hosts
        return settings.model_copy(update={"hosts": hosts})
    if settings.api_keys is None:
        log.warning("whoever reaches %s may use the service: ZOO_API_KEYS is not set", address)
    return settings
