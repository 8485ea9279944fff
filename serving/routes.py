"""Routes from paths to handlers, in a dialect whose paths take one method each."""

from collections.abc import Awaitable, Callable, Mapping

from serving.exchange import Exchange
from serving.problem import Problem

Handler = Callable[[Exchange], Awaitable[None]]


class Routes:
    """Paths with their method and handler, and one more for what lies under a prefix."""

    def __init__(self, paths: Mapping[str, tuple[str, Handler]], prefix: str, show: Handler) -> None:
        """`show` reads the rest of a path after the `prefix` itself."""
        self._paths = paths
        self._prefix = prefix
        self._show = show

    def handler(self, path: str, method: str) -> Handler:
        """`Problem` 404 where nothing answers at the path, 405 where not by this method."""
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
