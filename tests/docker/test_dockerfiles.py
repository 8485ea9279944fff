"""What the images are built from."""

import subprocess
import sys
from pathlib import Path

import pytest
from docker_files import DOCKER, DOCKERFILES, locked, only, stages

SERVERS = ("mlflow.Dockerfile", "serving.Dockerfile")
NO_TELEMETRY = {
    "mlflow": {"MLFLOW_DISABLE_TELEMETRY": "true"},
    "serving": {
        "BENTOML_DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "ORT_DISABLE_TELEMETRY": "1",
    },
    "training": {"MLFLOW_DISABLE_TELEMETRY": "true", "ORT_DISABLE_TELEMETRY": "1"},
}


def test_the_images_are_there() -> None:
    assert {path.name for path in DOCKERFILES} == {*SERVERS, "training.Dockerfile"}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
class TestEveryImage:
    def test_hadolint_finds_nothing(self, path: Path) -> None:
        hadolint = Path(sys.executable).with_name("hadolint")
        done = subprocess.run([hadolint, path], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "")

    def test_runs_as_a_fixed_user(self, path: Path) -> None:
        image = stages(path)[-1]
        (user,), (making,) = only(image, "USER").value, only(image, "RUN").value
        uid = user.partition(":")[0]
        assert int(uid) > 0
        assert f"--uid {uid} " in making

    def test_signals_reach_the_process(self, path: Path) -> None:
        assert only(stages(path)[-1], "CMD").json, "a shell would keep the signals"

    def test_sends_no_telemetry(self, path: Path) -> None:
        values = only(stages(path)[-1], "ENV").value
        variables = dict(zip(values[::2], values[1::2], strict=True))
        assert NO_TELEMETRY[path.stem].items() <= variables.items()

    def test_hashes_of_whatever_is_downloaded_are_checked(self, path: Path) -> None:
        """Also of what builds packages: pip would download that for itself, unless told not to."""
        runs = [i.value[0] for i in stages(path)[0] if i.cmd == "RUN"]
        commands = [command for run in runs for command in run.split("&&")]
        installs = [command for command in commands if "pip install" in command]
        assert any(f"requirements-{path.stem}.txt" in install for install in installs)
        for install in installs:
            ours = install.split()[-1] == "." or "'." in install or '".' in install
            assert "--require-hashes" in install or ("--no-deps" in install and ours), install
            assert "requirements-build.txt" in install or any(
                option in install for option in ("--no-build-isolation", "--only-binary :all:")
            )


@pytest.mark.parametrize("name", SERVERS)
def test_servers_have_a_health_check_in_exec_form(name: str) -> None:
    check = only(stages(DOCKER / name)[-1], "HEALTHCHECK")
    assert check.json
    assert check.value[0] == "CMD"


def test_serving_installs_no_torch() -> None:
    assert not [name for name in locked("serving") if name.startswith(("torch", "lightning"))]
