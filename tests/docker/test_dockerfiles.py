"""What the images are built from."""

import re
import subprocess
import sys
from pathlib import Path

import dockerfile
import pytest
from docker_files import DOCKER, DOCKERFILES, locked, only, stages

SERVERS = ("mlflow.Dockerfile", "serving.Dockerfile")
OURS = ("serving.Dockerfile", "training.Dockerfile")
DEVICES = ("cpu", "cuda")
NO_TELEMETRY = {
    "mlflow": {"MLFLOW_DISABLE_TELEMETRY": "true"},
    "serving": {
        "BENTOML_DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "ORT_DISABLE_TELEMETRY": "1",
    },
    "training": {"MLFLOW_DISABLE_TELEMETRY": "true", "ORT_DISABLE_TELEMETRY": "1"},
}


def pip_commands(stage: list[dockerfile.Command]) -> list[str]:
    runs = [instruction.value[0] for instruction in stage if instruction.cmd == "RUN"]
    commands = [" ".join(command.split()) for run in runs for command in run.split("&&")]
    return [command for command in commands if "/bin/pip " in command]


def copied(stage: list[dockerfile.Command]) -> list[str]:
    """Sources of each COPY."""
    return [source for i in stage if i.cmd == "COPY" and not i.flags for source in i.value[:-1]]


def variables(path: Path) -> dict[str, str]:
    values = only(stages(path)[-1], "ENV").value
    return dict(zip(values[::2], values[1::2], strict=True))


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
        assert NO_TELEMETRY[path.stem].items() <= variables(path).items()

    def test_hashes_of_whatever_is_downloaded_are_checked(self, path: Path) -> None:
        """Also of what builds packages: pip would download that for itself, unless told not to.

        torch's index of CPU builds is the exception: pip checks the hashes of the other device's file, which
        has some, of itself.
        """
        commands = [command for stage in stages(path) for command in pip_commands(stage)]
        assert any(f"requirements-{path.stem}.txt" in command for command in commands)
        of_torch = "--requirement docker/requirements-training-${DEVICE}.txt"
        for command in commands:
            if command.endswith(" check"):
                continue
            ours = command.endswith((" .", " wheels/*.whl")) and "--no-deps" in command
            assert ours or "--require-hashes" in command or command.endswith(of_torch), command
            assert command.endswith("wheels/*.whl") or any(
                option in command for option in ("--no-build-isolation", "--only-binary :all:")
            ), command

    def test_downloads_are_kept_for_the_next_build(self, path: Path) -> None:
        runs = [i for i in stages(path)[0] if i.cmd == "RUN" and "--requirement" in i.value[0]]
        assert [run.flags for run in runs] == [("--mount=type=cache,target=/root/.cache/pip",)]
        assert "--no-cache-dir" not in path.read_text(encoding="utf-8")

    def test_installed_packages_agree_with_each_other(self, path: Path) -> None:
        assert pip_commands(stages(path)[0])[-1].endswith(" check")


@pytest.mark.parametrize("name", OURS)
class TestOurOwnCode:
    def test_it_is_added_to_dependencies_that_are_there(self, name: str) -> None:
        """An edit leaves their layers as they are, in the build and in the image."""
        dependencies, code, image = stages(DOCKER / name)
        assert all(source.startswith("docker/requirements-") for source in copied(dependencies))
        assert "zoo" in copied(code)
        assert not [command for command in pip_commands(code) if "--no-deps" not in command]
        assert [i.flags[0] for i in image if i.cmd == "COPY"] == ["--from=dependencies", "--from=code"]

    def test_every_device_has_its_requirements(self, name: str) -> None:
        role = name.partition(".")[0]
        assert f"docker/requirements-{role}-${{DEVICE}}.txt" in copied(stages(DOCKER / name)[0])
        files = {path.name for path in DOCKER.glob(f"requirements-{role}-*.txt")}
        assert files == {f"requirements-{role}-{device}.txt" for device in DEVICES}
        text = (DOCKER / name).read_text(encoding="utf-8")
        assert re.search(r"^ARG DEVICE=(.*)$", text, re.MULTILINE)[1] == "cpu"


def test_each_image_has_the_code_that_it_runs() -> None:
    code = {name: set(copied(stages(DOCKER / name)[1])) - {"README.md", "pyproject.toml"} for name in OURS}
    assert code == {"serving.Dockerfile": {"serving", "zoo"}, "training.Dockerfile": {"training", "zoo"}}


@pytest.mark.parametrize("name", SERVERS)
def test_servers_have_a_health_check_in_exec_form(name: str) -> None:
    check = only(stages(DOCKER / name)[-1], "HEALTHCHECK")
    assert check.json
    assert check.value[0] == "CMD"


def test_serving_installs_no_torch() -> None:
    packages = [name for lock in ("serving", "serving-cpu", "serving-cuda") for name in locked(lock)]
    assert not [name for name in packages if name.startswith(("torch", "lightning"))]


def test_serving_starts_on_the_device_that_it_was_built_for() -> None:
    path = DOCKER / "serving.Dockerfile"
    assert variables(path)["ZOO_DEVICE"] == "$DEVICE"
    assert only(stages(path)[-1], "ARG").value == ("DEVICE",)
