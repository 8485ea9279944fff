"""The process above the workers listens on nothing but the service's port."""

import subprocess

import httpx
import pytest
from server import Server, command, environment, free_port
from sockets import ports, unix_sockets


def test_only_the_service_s_port_is_open(server: Server) -> None:
    assert ports(server.pid) == {httpx.URL(server.url).port}
    assert unix_sockets(server.pid) == set()


@pytest.mark.slow
def test_what_needs_a_port_of_the_supervisor_is_refused() -> None:
    done = subprocess.run(
        [*command(free_port()), "--reload"],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "zoo: --reload does not work here" in done.stderr
    assert "Traceback" not in done.stderr
