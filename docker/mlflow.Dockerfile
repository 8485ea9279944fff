# MLflow's server, with the drivers for PostgreSQL and for object storage that its own image leaves out; what
# it needs to know comes from MLFLOW_… variables, see compose.yaml:
#   docker build --file docker/mlflow.Dockerfile --tag zoo-mlflow .

# Security updates end for Python 3.11 in October 2027 and for Debian 12 in June 2028, as of December 2026.
FROM python:3.11-slim-bookworm AS dependencies
WORKDIR /source
RUN python -m venv /opt/build && python -m venv --without-pip /opt/mlflow
COPY docker/requirements-mlflow.txt docker/
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/build/bin/pip --python /opt/mlflow install --no-deps --require-hashes --only-binary :all: \
        --requirement docker/requirements-mlflow.txt && \
    /opt/build/bin/pip --python /opt/mlflow check

FROM python:3.11-slim-bookworm
# Nothing is installed in a running container: pip and setuptools of the base image are removed.
RUN useradd --uid 10001 --home-dir /tmp --no-create-home mlflow && \
    rm -rf /usr/local/bin/pip* /usr/local/lib/python3.11/ensurepip /usr/local/lib/python3.11/site-packages
COPY --from=dependencies /opt/mlflow /opt/mlflow
ENV PATH=/opt/mlflow/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 GIT_PYTHON_REFRESH=quiet \
    MLFLOW_DISABLE_TELEMETRY=true
WORKDIR /tmp
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:5000/health', timeout=2)"]
CMD ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "2"]
