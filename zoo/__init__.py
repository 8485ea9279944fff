"""What training and serving share: architectures, tasks, bundles, and the command line."""

import os

# BentoML, MLflow and ONNX Runtime report their use to their makers. Each reads its variable when it is
# imported or first used, so this package sets all of them before it imports any of the three. Child processes
# inherit them. A value that the user has set stays.
for _variable, _value in {
    "BENTOML_DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
}.items():
    os.environ.setdefault(_variable, _value)
