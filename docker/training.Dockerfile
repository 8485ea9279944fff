# Training, promotion and export. /zoo holds checkpoints and data:
#   docker build --file docker/training.Dockerfile --tag zoo-training .
#   docker run --read-only --tmpfs /tmp --volume zoo:/zoo zoo-training train lenet5
# With DEVICE=cuda it trains on a GPU where the container has one, in an image of 7 GB instead of 2. The host needs
# NVIDIA's driver, 580 or later, and its container toolkit:
#   docker build --build-arg DEVICE=cuda --file docker/training.Dockerfile --tag zoo-training:0.1.0-cuda .
#   docker run --gpus all … zoo-training:0.1.0-cuda train lenet5

ARG DEVICE=cpu

# Security updates end for Python 3.11 in October 2027 and for Debian 12 in June 2028, as of December 2026.
FROM python:3.11-slim-bookworm AS dependencies
ARG DEVICE
WORKDIR /source
RUN python -m venv /opt/build && python -m venv --without-pip /opt/zoo
COPY docker/requirements-build.txt docker/requirements-training.txt docker/requirements-training-${DEVICE}.txt docker/
# torch needs setuptools too. pip checks the hashes of torch where its file has some: that of CUDA has.
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/build/bin/pip install --require-hashes --only-binary :all: \
        --requirement docker/requirements-build.txt && \
    /opt/build/bin/pip --python /opt/zoo install --require-hashes --only-binary :all: \
        --requirement docker/requirements-build.txt && \
    /opt/build/bin/pip --python /opt/zoo install --no-deps --require-hashes --no-build-isolation \
        --requirement docker/requirements-training.txt && \
    /opt/build/bin/pip --python /opt/zoo install --no-deps --only-binary :all: \
        --requirement docker/requirements-training-${DEVICE}.txt && \
    /opt/build/bin/pip --python /opt/zoo check

FROM dependencies AS code
COPY pyproject.toml README.md ./
COPY training training
COPY zoo zoo
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheels . && \
    /opt/build/bin/pip --python /opt/zoo install --no-deps --root /code wheels/*.whl

FROM python:3.11-slim-bookworm
# Nothing is installed in a running container: pip and setuptools of the base image are removed.
RUN useradd --uid 10001 --home-dir /tmp --no-create-home zoo && \
    install --directory --mode 0700 --owner zoo --group zoo /zoo && \
    rm -rf /usr/local/bin/pip* /usr/local/lib/python3.11/ensurepip /usr/local/lib/python3.11/site-packages
COPY --from=dependencies /opt/zoo /opt/zoo
# HOME is where Matplotlib, torch and MLflow keep their caches; there is no git for MLflow to look for.
ENV PATH=/opt/zoo/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 GIT_PYTHON_REFRESH=quiet ZOO_HOME=/zoo \
    MLFLOW_DISABLE_TELEMETRY=true ORT_DISABLE_TELEMETRY=1
VOLUME /zoo
WORKDIR /zoo
USER 10001:10001
COPY --from=code /code /
ENTRYPOINT ["zoo"]
CMD ["train-all"]
