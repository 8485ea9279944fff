"""Keeps passwords out of logs."""

import re

USER_INFO = re.compile(r"(?<=://)[^\s/'\"<>]*@")


def hide_credentials(text: str) -> str:
    """The text with `***@` for the user and password of each URL in it."""
    return USER_INFO.sub("***@", text)
