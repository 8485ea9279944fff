"""The images, built from the Dockerfiles as they are and run without an engine; needs the package index."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from collector import collecting
from docker_files import ROOT
from quick_training import QuickZoo
from requirement import require
from server import environment, free_port, wait_for

from zoo.tasks import TASKS

BASE = "docker.io/library/python:3.11-slim-bookworm"
PACKAGES = "ca-certificates,netbase,python-is-python3,python3-venv,tzdata"
LEFT_OUT = ("doc", "locale", "man")  # of /usr/share, as in Debian's slim images
INSTALLERS = ("usr/local/bin/pip", "usr/local/lib/python3.11/site-packages/pip")
"""What the Python image has beside Python."""
MOST_BYTES = 650_000_000
START_SECONDS = 120.0
OF_PIP = ("cert", "extra-index-url", "index-url", "proxy", "timeout", "trusted-host")
"""pip's settings that say how the package index is reached."""
ENTER = """
set -e
root=$1 source=$2 target=$3
shift 3
mount --bind "$root" "$root"
mount --types proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --types tmpfs tmpfs "$root/tmp"
mkdir --parents "$root$target"
mount --bind "$source" "$root$target"
mount --options remount,bind,ro "$root"
exec chroot "$root" "$@"
"""

pytestmark = pytest.mark.soak


class Images:
    """Buildah with a storage of its own, and a copy of what the images are built from."""

    def __init__(self, folder: Path) -> None:
        self.context = folder / "context"
        self._storage = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]
        self._volumes = [f"--volume={volume}:ro" for volume in pip_volumes(folder)]
        for name in ("docker", "serving", "training", "zoo"):
            shutil.copytree(ROOT / name, self.context / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in (".dockerignore", "README.md", "pyproject.toml"):
            shutil.copy2(ROOT / name, self.context)

    def __call__(self, *words: str) -> str:
        done = subprocess.run(["buildah", *self._storage, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done.stdout.strip()

    def build(self, name: str) -> str:
        """The image of that Dockerfile."""
        file = f"--file={self.context}/docker/{name}.Dockerfile"
        how = ["--isolation=chroot", "--network=host", "--pull=never", "--layers", "--format=docker"]
        self("bud", *how, *self._volumes, file, f"--tag={name}", str(self.context))
        return name

    def described(self, image: str) -> dict[str, Any]:
        """What an engine knows about the image."""
        found: dict[str, Any] = json.loads(self("inspect", "--type=image", image))["Docker"]
        return found

    def unpacked(self, image: str) -> Path:
        """The files of a new container of the image."""
        return Path(self("mount", self("from", "--pull=never", image)))


@dataclass
class Container:
    """A container at a port of this machine."""

    root: Path
    described: dict[str, Any]
    variables: dict[str, str]
    port: int
    process: "subprocess.Popen[bytes]" = field(init=False)

    def command(self, words: list[str]) -> list[str]:
        """A command as the image's user, with the image's variables, at the container's address."""
        uid, _, gid = self.described["User"].partition(":")
        values = [*self.described["Env"], *(f"{name}={value}" for name, value in self.variables.items())]
        words = [re.sub(r":[35]000/", f":{self.port}/", w).replace("0.0.0.0", "127.0.0.1") for w in words]
        return [
            *("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs"),
            *("--bounding-set=-all", "--inh-caps=-all"),
            *("env", "--ignore-environment", f"--chdir={self.described['WorkingDir']}", *values, *words),
        ]

    def start(self, source: Path, target: Path) -> None:
        """Runs the image's command with a read-only root and the folder `source` mounted at `target`."""
        enter = ["unshare", "--mount", "--propagation=private", "sh", "-c", ENTER, "sh"]
        command = self.command([*self.described["Cmd"], "--port", str(self.port)])
        self.process = subprocess.Popen([*enter, self.root, source, target, *command], env=environment())

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Another command in the container."""
        enter = ["nsenter", f"--target={self.process.pid}", "--mount", "--root"]
        return subprocess.run([*enter, *self.command(list(words))], capture_output=True, text=True)

    def is_healthy(self) -> bool:
        """What the image's own health check says."""
        assert self.process.poll() is None
        return self.run(*self.described["Healthcheck"]["Test"][1:]).returncode == 0


def pip_volumes(folder: Path) -> Iterator[str]:
    """Files with which pip reaches its index as it does on this machine, and where they belong."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    )
    lines = [line.partition("=") for line in listed.stdout.splitlines()]
    settings = {name.rpartition(".")[2]: ast.literal_eval(value) for name, _, value in lines}
    kept = {name: settings[name] for name in OF_PIP if name in settings}
    if "extra-index-url" in kept:  # an index on this machine's disk stays there
        remote = [url for url in kept["extra-index-url"].split() if not url.startswith("file:")]
        kept["extra-index-url"] = " ".join(remote)
    written = folder / "pip.conf"
    written.write_text("\n".join(["[global]", *(f"{name} = {value}" for name, value in kept.items())]) + "\n")
    yield f"{written}:/etc/pip.conf"
    if "cert" in kept:
        yield f"{kept['cert']}:{kept['cert']}"


def package_sources() -> list[str]:
    """The machine's own sources of Debian bookworm; without any, mmdebstrap asks Debian's servers."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    files = [path for path in files if path.suffix in (".list", ".sources") and path.is_file()]
    return [str(path) for path in files if re.search(r"\sbookworm\s", path.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    """With Debian's Python in place of the Python image."""
    require(os.geteuid() == 0, "root")
    for tool in ("buildah", "mmdebstrap", "nsenter", "unshare"):
        require(shutil.which(tool), tool)
    folder = tmp_path_factory.mktemp("images")
    images = Images(folder)
    archive = folder / "base.tar"
    hook = "; ".join(f'mkdir --parents "$1/{path}"' for path in INSTALLERS)
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}"),
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT),
            *(f"--customize-hook={hook}", "bookworm", archive, *package_sources()),
        ],
        check=True,
    )
    base = images("from", "scratch")
    images("add", "--quiet", base, str(archive))
    images("config", "--env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", base)
    images("commit", "--quiet", base, BASE)
    yield images
    images("rm", "--all")
    images("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def serving(images: Images) -> str:
    return images.build("serving")


@pytest.fixture(scope="module")
def mlflow(images: Images) -> str:
    return images.build("mlflow")


@contextmanager
def running(images: Images, image: str, source: Path, target: Path, **variables: str) -> Iterator[Container]:
    """A healthy container, see `Container.start`, that SIGTERM has to end with exit code 0."""
    config = images.described(image)["config"]
    container = Container(images.unpacked(image), config, variables, free_port())
    container.start(source, target)
    try:
        wait_for(container.is_healthy, START_SECONDS)
        yield container
    finally:
        container.process.send_signal(signal.SIGTERM)
        assert container.process.wait(60) == 0


@pytest.fixture
def home(zoo: QuickZoo, tmp_path: Path) -> Path:
    """A copy of the trained zoo that is the images' user's."""
    copy = tmp_path / "home"
    shutil.copytree(zoo.home, copy)
    subprocess.run(["chown", "--recursive", "10001:10001", copy], check=True)
    return copy


def test_serving_answers_for_every_kind(images: Images, serving: str, zoo: QuickZoo, home: Path) -> None:
    with collecting() as (collector, received):
        variables = {"ZOO_HOME": str(zoo.home), "OTEL_EXPORTER_OTLP_ENDPOINT": collector}
        with running(images, serving, home, zoo.home, **variables) as container:
            answers_for_every_kind(container)
    assert received


def answers_for_every_kind(container: Container) -> None:
    assert psutil.Process(container.process.pid).uids().effective == 10001
    look = "import os; print(bool(os.statvfs('/').f_flag & os.ST_RDONLY))"
    assert container.run("python", "-c", look).stdout.strip() == "True"
    with httpx.Client(base_url=f"http://127.0.0.1:{container.port}", timeout=60) as client:
        models = client.get("/models").json()["models"]
        assert {entry["kind"] for entry in models} == TASKS.keys()
        answers = {e["name"]: client.post(e["endpoint"], json=e["example_request"]) for e in models}
    assert {name: answer.text for name, answer in answers.items() if answer.status_code != 200} == {}
    said = container.run("zoo", "list")
    assert (said.returncode, "needs the package training" in said.stderr) == (1, True)


def test_mlflow_answers(images: Images, mlflow: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    store = Path("/tmp/store")
    uri = f"sqlite:///{store / 'mlflow.db'}"
    with running(images, mlflow, tmp_path, store, MLFLOW_BACKEND_STORE_URI=uri) as container:
        drivers = container.run("python", "-c", "import boto3, psycopg")
        assert (drivers.returncode, drivers.stderr) == (0, "")


def test_serving_is_small(images: Images, serving: str) -> None:
    root = images.unpacked(serving)
    bytes_, _ = subprocess.check_output(["du", "--summarize", "--bytes", root], text=True).split("\t")
    assert int(bytes_) <= MOST_BYTES
    (packages,) = root.glob("opt/zoo/lib/python3*/site-packages")
    names = {path.name for path in packages.iterdir()}
    assert {"serving", "zoo", "onnxruntime"} <= names
    assert not {"torch", "training"} & names
    assert not {"layers", "models"} & {path.name for path in (packages / "zoo").iterdir()}


@pytest.mark.parametrize("name", ["mlflow", "serving"])
def test_nothing_can_install_packages(name: str, images: Images, request: pytest.FixtureRequest) -> None:
    root = images.unpacked(request.getfixturevalue(name))
    folders = [
        *root.glob("opt/*/lib/python3*/site-packages"),
        *root.glob("usr/local/lib/python3*/site-packages"),
    ]
    found = [path for folder in folders for path in folder.glob("*") if path.stem in ("pip", "setuptools")]
    assert folders
    assert [*found, *root.glob("usr/local/bin/pip*"), *root.glob("opt/*/bin/pip*")] == []


def test_an_edit_of_code_keeps_the_layers_of_dependencies(images: Images, serving: str) -> None:
    *before, code = images.described(serving)["rootfs"]["diff_ids"]
    with (images.context / "zoo" / "home.py").open("a", encoding="utf-8") as file:
        file.write("# edited\n")
    *after, edited = images.described(images.build("serving"))["rootfs"]["diff_ids"]
    assert after == before
    assert edited != code
