"""Code that training and serving share: architectures, tasks, bundles, and the command line."""

import os

# Libraries read these variables when they are imported or first used, so this package sets them before it
# imports any of them. Child processes inherit them. Values set by the user are kept.
for _variable, _value in {
    # BentoML, MLflow and ONNX Runtime send usage statistics to their vendors.
    "BENTOML_DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    # MLflow's client would access artifacts in S3 directly; often only the MLflow server can reach S3.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}.items():
    os.environ.setdefault(_variable, _value)
