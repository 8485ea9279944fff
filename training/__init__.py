"""From data to a registered, exported, measured model."""

import zoo  # noqa: F401  # switches off the telemetry of ONNX Runtime and MLflow before a module imports them
