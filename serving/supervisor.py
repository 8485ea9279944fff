"""BentoML's supervisor, circus, without its TCP ports.

By default circus accepts commands from anybody on a loopback port: every user of the machine could read the
service's environment, including API keys, and run programs as the service's user.
"""

import sys
from typing import Any

# Addresses within this process. Signals do not use them.
ENDPOINTS = {"endpoint": "inproc://commands", "pubsub_endpoint": "inproc://events"}


def close_ports() -> None:
    """Makes all supervisors that this process starts later listen on no port except the service's."""
    from circus.arbiter import Arbiter

    initialize = Arbiter.__init__

    def initialize_closed(self: Arbiter, *arguments: Any, **options: Any) -> None:
        if options.get("plugins"):
            sys.exit("zoo: --reload does not work here, as BentoML would need a port of its own for it")
        initialize(self, *arguments, **options | ENDPOINTS)

    Arbiter.__init__ = initialize_closed
