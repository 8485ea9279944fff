"""The prediction service: ONNX Runtime behind BentoML. Never imports torch."""
