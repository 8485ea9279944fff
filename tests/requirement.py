"""Requirements of tests on the machine that runs them."""

import os

import pytest


def require(present: object, what: str) -> None:
    """Skips the test if something that it needs is missing, and fails it in CI, which has everything."""
    if present:
        return
    if os.environ.get("CI"):
        pytest.fail(f"CI must have {what}")
    pytest.skip(f"needs {what}")
