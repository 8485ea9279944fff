"""Routes from paths to handlers, for dialects whose paths take one method each."""

from collections.abc import Awaitable, Callable, Mapping

from serving.exchange import Exchange
from serving.problem import Problem

Handler = Callable[[Exchange], Awaitable[None]]


class Routes:
    """Paths with their method and handler, and a handler for all paths under a prefix."""

    def __init__(self, paths: Mapping[str, tuple[str, Handler]], prefix: str, show: Handler) -> None:
        """`show` handles GET for paths under `prefix`, and parses the rest of the path itself."""
        self._paths = paths
        self._prefix = prefix
        self._show = show

    def handler(self, path: str, method: str) -> Handler:
        """Returns the handler. Raises `Problem` 404 for an unknown path, 405 for another method."""
        route = self._paths.get(path)
        if route is None:
            if not path.startswith(self._prefix):
                raise Problem(404, "not_found", "nothing answers at this path")
            route = ("GET", self._show)
        allowed, handler = route
        if method != allowed and (method, allowed) != ("HEAD", "GET"):
            allow = {"Allow": "GET, HEAD" if allowed == "GET" else allowed}
            raise Problem(405, "method_not_allowed", "this path does not take this method", allow)
        return handler
