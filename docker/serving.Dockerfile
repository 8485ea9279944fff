# The prediction service, without torch. It writes below /tmp alone:
#   docker build --file docker/serving.Dockerfile --tag zoo-serving .
#   docker run --read-only --tmpfs /tmp --publish 127.0.0.1:3000:3000 --volume ./bundles:/bundles:ro \
#       --env ZOO_BUNDLES=/bundles zoo-serving
# With DEVICE=cuda it serves on a GPU, or does not start. The host needs NVIDIA's driver, 580 or later, and its
# container toolkit:
#   docker build --build-arg DEVICE=cuda --file docker/serving.Dockerfile --tag zoo-serving:0.1.0-cuda .
#   docker run --gpus all … zoo-serving:0.1.0-cuda

ARG DEVICE=cpu

# Security updates end for Python 3.11 in October 2027 and for Debian 12 in June 2028, as of December 2026.
FROM python:3.11-slim-bookworm AS dependencies
ARG DEVICE
WORKDIR /source
RUN python -m venv /opt/build && python -m venv --without-pip /opt/zoo
COPY docker/requirements-build.txt docker/requirements-serving.txt docker/requirements-serving-${DEVICE}.txt docker/
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/build/bin/pip install --require-hashes --only-binary :all: \
        --requirement docker/requirements-build.txt && \
    /opt/build/bin/pip --python /opt/zoo install --no-deps --require-hashes --only-binary :all: \
        --requirement docker/requirements-serving.txt --requirement docker/requirements-serving-${DEVICE}.txt && \
    /opt/build/bin/pip --python /opt/zoo check

FROM dependencies AS code
COPY pyproject.toml README.md ./
COPY serving serving
COPY zoo zoo
# zoo/layers and zoo/models need torch.
RUN rm -r zoo/layers zoo/models && \
    /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheels . && \
    /opt/build/bin/pip --python /opt/zoo install --no-deps --root /code wheels/*.whl

FROM python:3.11-slim-bookworm
# Nothing is installed in a running container: pip and setuptools of the base image are removed.
RUN useradd --uid 10001 --home-dir /tmp --no-create-home zoo && \
    rm -rf /usr/local/bin/pip* /usr/local/lib/python3.11/ensurepip /usr/local/lib/python3.11/site-packages
COPY --from=dependencies /opt/zoo /opt/zoo
ARG DEVICE
# HOME is where BentoML and MLflow keep their files.
ENV PATH=/opt/zoo/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 ZOO_DEVICE=$DEVICE \
    BENTOML_DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true ORT_DISABLE_TELEMETRY=1
WORKDIR /tmp
USER 10001:10001
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:3000/readyz', timeout=2)"]
COPY --from=code /code /
# The command line becomes the server, so that SIGTERM reaches it and begins the drain.
CMD ["zoo", "serve", "--host", "0.0.0.0"]
