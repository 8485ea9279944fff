# The prediction service, without torch. It writes below /tmp alone:
#   docker build --file docker/serving.Dockerfile --tag zoo-serving .
#   docker run --read-only --tmpfs /tmp --publish 127.0.0.1:3000:3000 --volume ./bundles:/bundles:ro \
#       --env ZOO_BUNDLES=/bundles zoo-serving

FROM python:3.11-slim-bookworm AS build
WORKDIR /source
RUN python -m venv /opt/zoo
COPY docker/requirements-build.txt docker/requirements-serving.txt docker/
RUN /opt/zoo/bin/pip install --no-cache-dir --require-hashes --requirement docker/requirements-build.txt && \
    /opt/zoo/bin/pip install --no-cache-dir --require-hashes --only-binary :all: \
        --requirement docker/requirements-serving.txt
COPY . .
RUN /opt/zoo/bin/pip install --no-cache-dir --no-deps --no-build-isolation . && /opt/zoo/bin/pip check

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --home-dir /tmp --no-create-home zoo
COPY --from=build /opt/zoo /opt/zoo
# HOME is where BentoML and MLflow keep their files.
ENV PATH=/opt/zoo/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 \
    BENTOML_DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true ORT_DISABLE_TELEMETRY=1
WORKDIR /tmp
USER 10001:10001
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:3000/readyz', timeout=2)"]
# The command line becomes the server, so that SIGTERM reaches it and begins the drain.
CMD ["zoo", "serve", "--host", "0.0.0.0"]
