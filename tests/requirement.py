"""What a test needs of the machine that runs it."""

import os

import pytest


def require(present: object, what: str) -> None:
    """Skips the test if something that it needs is missing, and fails it in CI, which has everything."""
    if present:
        return
    if os.environ.get("CI"):
        pytest.fail(f"CI must have {what}")
    pytest.skip(f"needs {what}")
