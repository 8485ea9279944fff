"""Pages for a browser: the list of served models at `/`, and Swagger UI for the OpenAPI document at `/docs`.

All files that the pages load come from this service; a Content-Security-Policy has the browser enforce this.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from serving.catalogue import Catalogue, ModelEntry
from serving.exchange import CSS, HTML, JAVASCRIPT, Exchange
from serving.pages.swagger_ui import swagger_ui_folder
from serving.problem import Problem
from serving.routes import Handler
from serving.settings import Settings

HERE = Path(__file__).parent
SVG = b"image/svg+xml"
INDEX, DOCS = "/", "/docs"

POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
# Swagger UI's style sheet contains icons as data URLs, and Swagger UI shows pictures in answers as blobs.
DOCS_POLICY = f"{POLICY}; img-src 'self' data: blob:"
AS_DECLARED = {"X-Content-Type-Options": "nosniff"}
UNFRAMED = {"X-Frame-Options": "DENY"}  # for browsers that do not support frame-ancestors in the policy
FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
"""Headers of a file whose path changes with its content."""
REVALIDATED = {"Cache-Control": "no-cache"}


@dataclass(frozen=True)
class File:
    """A file that the pages load."""

    body: bytes
    media_type: bytes


class Pages:
    """Handler of the exchanges at each path in `paths`."""

    def __init__(self, catalogue: Callable[[], Catalogue | None], settings: Settings) -> None:
        """`catalogue` returns the current snapshot."""
        self._catalogue = catalogue
        self._mlflow_url = None if settings.mlflow_url is None else str(settings.mlflow_url)
        self._locked = settings.api_keys is not None
        files = _files()
        digest = sha256(b"".join(file.body for file in files.values())).hexdigest()[:16]
        self._files = {f"/static/{digest}/{name}": file for name, file in files.items()}
        environment = Environment(
            loader=FileSystemLoader(HERE),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals["static"] = f"static/{digest}"  # relative: a proxy may add a path prefix
        environment.filters["metric"] = _metric
        self._index = environment.get_template("index.html")
        self._docs = environment.get_template("docs.html").render().encode()
        self.paths = frozenset({INDEX, DOCS, *self._files})

    def handler(self, _path: str, method: str) -> Handler:
        """Returns the handler of a page; raises `Problem` 405 unless the method is GET or HEAD."""
        if method not in ("GET", "HEAD"):
            message = "this path does not take this method"
            raise Problem(405, "method_not_allowed", message, {"Allow": "GET, HEAD"})
        return self._send

    async def __call__(self, exchange: Exchange) -> None:
        """Answers an exchange; errors become error responses."""
        try:
            await self.handler(exchange.path, exchange.method)(exchange)
        except Problem as problem:
            await exchange.refuse(problem)

    async def _send(self, exchange: Exchange) -> None:
        path = exchange.path
        if path == INDEX:
            page = await asyncio.to_thread(self._render_index, self._catalogue())
            await _show(exchange, page, POLICY)
        elif path == DOCS:
            await _show(exchange, self._docs, DOCS_POLICY)
        else:
            file = self._files[path]
            await exchange.answer(200, file.body, file.media_type, AS_DECLARED | FOREVER)

    def _render_index(self, catalogue: Catalogue | None) -> bytes:
        entries: list[ModelEntry] = [] if catalogue is None else catalogue.entries
        return self._index.render(
            loaded=catalogue is not None,
            models=[entry for entry in entries if entry.alias_of is None],
            data_sets=[entry for entry in entries if entry.alias_of is not None],
            mlflow_url=self._mlflow_url,
            locked=self._locked,
        ).encode()


async def _show(exchange: Exchange, page: bytes, policy: str) -> None:
    headers = AS_DECLARED | UNFRAMED | REVALIDATED | {"Content-Security-Policy": policy}
    await exchange.answer(200, page, HTML, headers)


def _files() -> dict[str, File]:
    """Returns every file that the pages load, by its name."""
    swagger_ui = swagger_ui_folder()
    found = {
        "pages.css": (HERE, CSS),
        "icon.svg": (HERE, SVG),
        "docs.js": (HERE, JAVASCRIPT),
        "swagger-ui.css": (swagger_ui, CSS),
        "swagger-ui-bundle.js": (swagger_ui, JAVASCRIPT),
    }
    return {name: File((folder / name).read_bytes(), kind) for name, (folder, kind) in found.items()}


def _metric(entry: ModelEntry) -> str:
    """Returns the name and value of an entry's main metric, such as `accuracy 0.992`."""
    value = entry.metrics.get(entry.primary_metric)
    name = entry.primary_metric.replace("_", " ")
    if value is None:
        return name
    return f"{name} {value:.4g}" if abs(value) < 1000 else f"{name} {value:,.1f}"
