"""Names that a command looks up, in a network whose only host is a resolver that records each query.

`python lookups.py FILE COMMAND...` is the part inside the namespaces that `unshare` makes.
"""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from requirement import require

ROOT = Path(__file__).parents[1]
HEADER = 12  # bytes of a DNS message before the question
QUESTION_END = 4  # bytes of the question after the name: type and class
NO_SUCH_NAME = 0x8183  # flags of the answer
SET_FLAGS, UP = 0x8914, 1  # SIOCSIFFLAGS and IFF_UP of Linux


def quiet_environment(home: Path, **variables: str) -> dict[str, str]:
    """Variables of a user's shell: none that this process or a CI has set, and folders of its own."""
    folders = {name: home / name.lower() for name in ("HOME", "TMPDIR", "ZOO_HOME")}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    own = {name: str(folder) for name, folder in folders.items()}
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **own, **variables}


def names_looked_up(command: list[str], environment: dict[str, str], timeout: float = 120) -> set[str]:
    """Runs a command that must succeed; skips the test where this user cannot make a network namespace."""
    namespaces = ["unshare", "--net", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    possible = shutil.which("unshare") and not subprocess.run([*namespaces, "true"]).returncode
    require(possible, "unshare and the right to make a network namespace")
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder, "names")
        inside = [*namespaces, sys.executable, __file__, str(names), *command]
        done = subprocess.run(inside, env=environment, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return set(names.read_text(encoding="utf-8").split())


def _run_inside(names: Path, command: list[str]) -> int:
    """Runs the command and writes the names to a file; returns its exit code."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        fcntl.ioctl(resolver, SET_FLAGS, struct.pack("16sH22x", b"lo", UP))
        resolver.bind(("127.0.0.1", 53))
        _replace("/etc/resolv.conf", "nameserver 127.0.0.1\n", names.parent)
        _replace("/etc/nsswitch.conf", "hosts: files dns\n", names.parent)
        queried: set[str] = set()
        threading.Thread(target=_answer, args=(resolver, queried), daemon=True).start()
        code = subprocess.run(command).returncode
        names.write_text("\n".join(queried), encoding="utf-8")
    return code


def _replace(path: str, text: str, folder: Path) -> None:
    """Mounts a file over another, in this namespace alone."""
    other = folder / Path(path).name
    other.write_text(text, encoding="utf-8")
    subprocess.run(["mount", "--bind", other, Path(path).resolve()], check=True)


def _answer(resolver: socket.socket, queried: set[str]) -> None:
    """Records the name of each query and answers that there is no such name."""
    while True:
        query, client = resolver.recvfrom(4096)
        labels, end = [], HEADER
        while length := query[end]:
            labels.append(query[end + 1 : end + 1 + length].decode("ascii", "replace"))
            end += 1 + length
        queried.add(".".join(labels))
        question = query[HEADER : end + 1 + QUESTION_END]
        resolver.sendto(query[:2] + struct.pack("!5H", NO_SUCH_NAME, 1, 0, 0, 0) + question, client)


if __name__ == "__main__":
    sys.exit(_run_inside(Path(sys.argv[1]), sys.argv[2:]))
