"""BentoML's supervisor, circus, without its TCP ports.

By default circus takes commands on a loopback port from everybody: every user of the machine could read the
service's environment there, API keys included, and run programs as the service's user.
"""

import sys
from typing import Any

# Addresses within this process. Signals reach circus by another way.
ENDPOINTS = {"endpoint": "inproc://commands", "pubsub_endpoint": "inproc://events"}


def close_ports() -> None:
    """Makes every supervisor that this process starts from now on listen on no port but the service's."""
    from circus.arbiter import Arbiter

    initialize = Arbiter.__init__

    def initialize_closed(self: Arbiter, *arguments: Any, **options: Any) -> None:
        if options.get("plugins"):
            sys.exit("zoo: --reload does not work here, as BentoML would need a port of its own for it")
        initialize(self, *arguments, **options | ENDPOINTS)

    Arbiter.__init__ = initialize_closed
