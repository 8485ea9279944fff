"""`make run`: something of everything, trained once, then looked at and queried."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

from rich.console import Console

from training import promotion
from training.listing import leaderboard
from training.recipes import names, recipes
from training.side_by_side import train_side_by_side
from training.store import connect
from zoo.errors import ZooError
from zoo.servers import mlflow_ui_command, service_command
from zoo.tables import show_leaderboard

READY_SECONDS = 60
SHOWN = ("tabular_regression", "image_classification", "language_modelling", "sequence_to_sequence")


def quickstart(ui_port: int, serve_port: int) -> None:
    """Trains what has no champion yet, starts both servers, and waits for Ctrl-C or SIGTERM."""
    client = connect()
    firsts = [list(recipes(name, long=False).values())[:1] for name in names()]
    quick = [recipe for first in firsts for recipe in first]
    untrained = [recipe for recipe in quick if promotion.champion_of(client, recipe.model_name) is None]
    for name, outcome in train_side_by_side(untrained).items():
        if isinstance(outcome, ZooError):
            raise outcome
        if not outcome.champion:
            raise ZooError(f"{name} was not promoted: {outcome.reason}")
    show_leaderboard(leaderboard(None))
    service, ui = f"http://127.0.0.1:{serve_port}", f"http://127.0.0.1:{ui_port}"
    environment = {"ZOO_MLFLOW_URL": ui, **os.environ}  # the service's page links to it
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the servers end with this process
    servers = [
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for command in (mlflow_ui_command("127.0.0.1", ui_port), service_command("127.0.0.1", serve_port))
    ]
    try:
        _wait_until_ready(f"{service}/readyz", servers)
        _wait_until_ready(f"{ui}/health", servers)
        _say_what_to_try(service, ui)
        while all(server.poll() is None for server in servers):
            time.sleep(0.5)
        raise ZooError("a server stopped by itself; see what zoo serve or zoo ui says")
    except KeyboardInterrupt:
        Console().print("stopping both servers")
    finally:
        for server in servers:
            server.send_signal(signal.SIGTERM)
        for server in servers:
            server.wait(20)


def _wait_until_ready(url: str, servers: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if any(server.poll() is not None for server in servers):
            raise ZooError("a server did not start; is its port taken? See what zoo serve or zoo ui says")
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise ZooError(f"{url} did not answer within {READY_SECONDS} s")


def _say_what_to_try(service: str, ui: str) -> None:
    print(f"\nRuns, figures and models   {ui}\nServed models              {service}")
    print(f"Forms to try the API       {service}/docs\n")
    print("Try:\n")
    print(f"  curl {service}/models\n")
    with urllib.request.urlopen(f"{service}/models") as response:
        entries = json.load(response)["models"]
    for kind in SHOWN:
        entry = next(e for e in entries if e["kind"] == kind and e["alias_of"] is None)
        body = json.dumps(entry["example_request"])
        print(f"  curl {service}{entry['endpoint']} -H 'Content-Type: application/json' -d '{body}'\n")
    print("Ctrl-C stops both.")
    sys.stdout.flush()
