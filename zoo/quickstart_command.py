"""`zoo quickstart`, also `make run`: trains quick models once, then starts the MLflow UI and the service.

This process lives as long as the servers, so it imports little; training runs in a process of its own.
"""

import json
import os
import shlex
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.errors import InvalidInput, ZooError
from zoo.operating_system import end_group, interrupt_on_signals, kill_group, start_group
from zoo.ports import LOOPBACK, require_free
from zoo.servers import mlflow_ui_command, mlflow_ui_environment, service_command

if TYPE_CHECKING:
    from zoo.supervision import Server

STOP_SECONDS = 10  # time for the training to stop before it is killed
LOOK_SECONDS = 1.0  # between two checks that both servers run
SHOWN = ("tabular_regression", "image_classification", "language_modelling", "sequence_to_sequence")


@dataclass(frozen=True)
class Quickstart:
    """Train one quick recipe per architecture that has none yet, then start the MLflow UI and the service."""

    port: int = 3000
    """Port of the service."""
    ui_port: int = 5000
    """Port of the MLflow UI."""

    def __call__(self) -> None:
        if self.port == self.ui_port:
            raise InvalidInput(f"--port and --ui-port are both {self.port}; each server needs its own")
        require_free(self.port, "make run PORT={port}, or zoo quickstart --port {port}")
        require_free(self.ui_port, "make run UI_PORT={port}, or zoo quickstart --ui-port {port}")
        from zoo import supervision

        interrupt_on_signals()
        _train()
        service, ui = f"http://{LOOPBACK}:{self.port}", f"http://{LOOPBACK}:{self.ui_port}"
        commands = {
            "MLflow UI": (mlflow_ui_command(LOOPBACK, self.ui_port), mlflow_ui_environment()),
            "service": (service_command(LOOPBACK, self.port), {"ZOO_MLFLOW_URL": ui}),
        }
        servers: list[Server] = []
        try:
            for name, (command, environment) in commands.items():
                servers.append(supervision.start(name, command, environment))
            supervision.wait_until_ready(f"{service}/readyz", servers)
            supervision.wait_until_ready(f"{ui}/health", servers)
            _say_what_to_try(service, ui)
            while True:
                supervision.require_running(servers)
                time.sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            print("stopping both servers", flush=True)
        finally:
            supervision.stop(servers)


def _train() -> None:
    """Trains the quick recipes that have no champion yet; raises `ZooError` if that fails."""
    training = start_group([sys.executable, "-m", "training.quickstart"], {})
    try:
        code = training.wait()
    except KeyboardInterrupt:
        end_group(training)
        with suppress(subprocess.TimeoutExpired):
            training.wait(STOP_SECONDS)
        kill_group(training)
        raise
    if code:
        raise ZooError("the training failed, so the servers were not started")


def _say_what_to_try(service: str, ui: str) -> None:
    print(f"\nRuns, figures and models   {ui}\nServed models              {service}")
    print(f"Forms to try the API       {service}/docs\n")
    print("Try:\n")
    if os.environ.get("ZOO_API_KEYS"):
        print(f"  curl {service}/models -H 'Authorization: Bearer KEY'     # one of ZOO_API_KEYS\n")
    else:
        _show_requests(service)
    print("Ctrl-C stops both.", flush=True)


def _show_requests(service: str) -> None:
    """Prints a curl command for the list of models, and one for a model of each kind in SHOWN."""
    print(f"  curl {service}/models\n")
    with urllib.request.urlopen(f"{service}/models") as response:
        entries = json.load(response)["models"]
    for kind in SHOWN:
        of_kind = [entry for entry in entries if entry["kind"] == kind and entry["alias_of"] is None]
        for entry in of_kind[:1]:
            body = shlex.quote(json.dumps(entry["example_request"]))
            print(f"  curl {service}{entry['endpoint']} -H 'Content-Type: application/json' -d {body}\n")
