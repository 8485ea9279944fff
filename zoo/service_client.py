"""HTTP client with which the command line queries the running service."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any

from zoo.errors import ZooError

SERVICE_URL = "http://127.0.0.1:3000"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Treats a redirect as an error: the API key must not go to any other host than the user's."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Refused(ZooError):
    """Error message and code that the service returned instead of an answer."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        """Takes a JSON error in the zoo's format, or in OpenAI's."""
        error = answer["error"]
        told = error if isinstance(error, dict) else {"message": error, "code": answer.get("code")}
        super().__init__(told["message"])
        self.code = told.get("code")


def fetch(url: str, body: Mapping[str, Any] | None = None) -> Any:
    """Returns the service's JSON answer; raises its error message as `ZooError`."""
    with answering(url, body) as response:
        try:
            return json.load(response)
        except ValueError as error:
            raise ZooError(f"{url} is no zoo service: its answer is no JSON") from error


def events(url: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields server-sent events as they arrive; `ZooError` for an error event or a broken stream."""
    with answering(url, body) as response:
        try:
            for line in response:
                data = line.removeprefix(b"data: ").strip()
                if data == b"[DONE]":
                    return
                if data:
                    event: dict[str, Any] = json.loads(data)
                    if "error" in event:
                        raise Refused(event)
                    yield event
        except (OSError, HTTPException, ValueError) as error:
            raise ZooError(f"the answer of {url} broke off: {error}") from error
    raise ZooError(f"the answer of {url} broke off")


@contextmanager
def answering(url: str, body: Mapping[str, Any] | None) -> Iterator[Any]:
    """Opens the service's answer; sends `$ZOO_API_KEY` if it is set; raises errors as `ZooError`."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("ZOO_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    try:
        opener = urllib.request.build_opener(_NoRedirects)
        response = opener.open(urllib.request.Request(url, data, headers))
    except urllib.error.HTTPError as error:
        if (target := error.headers["Location"]) is not None:
            raise ZooError(
                f"{url} redirects to {target}, which is not followed; if you trust it, name it with --url"
            ) from error
        raise Refused(_told(error)) from error
    except (OSError, HTTPException, ValueError) as error:
        raise ZooError(
            f"no service answers at {url} ({error}); start it with zoo serve "
            "(or --local, of zoo predict, generate and write, does without)"
        ) from error
    with response:
        yield response


def _told(error: urllib.error.HTTPError) -> Mapping[str, Any]:
    """Returns the JSON body of an error; if it is not in the zoo's format, a substitute in that format."""
    try:
        answer: Any = json.loads(error.read())
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) and "error" in answer else {"error": f"{error.url}: {error}"}
