"""Training: turns data into a measured, exported and registered model."""

import zoo  # noqa: F401  # switches off the telemetry of ONNX Runtime and MLflow before a module imports them
