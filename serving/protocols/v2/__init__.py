"""The Open Inference Protocol, version 2, one file a part."""
