"""What a process and its descendants listen on."""

import socket

import psutil


def ports(pid: int) -> set[int]:
    """TCP ports that they listen on, and UDP ports that they are bound to."""
    return {
        connection.laddr.port
        for process in _tree(pid)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN or connection.type == socket.SOCK_DGRAM
    }


def unix_sockets(pid: int) -> set[str]:
    """Names of their Unix sockets, abstract ones (with an @) included."""
    return {
        connection.laddr
        for process in _tree(pid)
        for connection in process.net_connections("unix")
        if connection.laddr
    }


def _tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
