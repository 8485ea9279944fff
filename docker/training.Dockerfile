# Training, promotion and export; on a GPU where the container has one. /zoo holds checkpoints and data:
#   docker build --file docker/training.Dockerfile --tag zoo-training .
#   docker run --read-only --tmpfs /tmp --volume zoo:/zoo zoo-training train lenet5

FROM python:3.11-slim-bookworm AS build
WORKDIR /source
RUN python -m venv /opt/zoo
COPY docker/requirements-build.txt docker/requirements-training.txt docker/
RUN /opt/zoo/bin/pip install --no-cache-dir --require-hashes --requirement docker/requirements-build.txt && \
    /opt/zoo/bin/pip install --no-cache-dir --require-hashes --no-build-isolation \
        --requirement docker/requirements-training.txt
COPY . .
RUN /opt/zoo/bin/pip install --no-cache-dir --no-deps --no-build-isolation . && /opt/zoo/bin/pip check

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --home-dir /tmp --no-create-home zoo && install --directory --mode 0700 --owner zoo --group zoo /zoo
COPY --from=build /opt/zoo /opt/zoo
# HOME is where Matplotlib, torch and MLflow keep their caches; there is no git for MLflow to look for.
ENV PATH=/opt/zoo/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 GIT_PYTHON_REFRESH=quiet ZOO_HOME=/zoo \
    MLFLOW_DISABLE_TELEMETRY=true ORT_DISABLE_TELEMETRY=1
VOLUME /zoo
WORKDIR /zoo
USER 10001:10001
ENTRYPOINT ["zoo"]
CMD ["train-all"]
