"""The pages at `/` and `/docs`: what they show, where their parts come from, and what a real browser does."""

import re
import shutil
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, sync_playwright
from requirement import require
from server import Server, running
from test_application import no_page, request
from tiny_zoo import write_images, write_regression

from serving.application import Application
from serving.pages import swagger_ui
from serving.pages.pages import HERE, Pages
from serving.settings import Settings
from zoo.errors import ZooError

KEY = "a-key-of-the-tests"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
PAGES = ("/", "/docs")
LOADING = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}
"""Attributes whose address a browser fetches by itself."""
NAMED = {
    "base", "datatracker.ietf.org", "example.com", "fb.me", "github.com", "instagram.com", "json-schema.org",
    "reactjs.org", "redux.js.org", "soundcloud.com", "spdx.org", "spec.openapis.org", "swagger.io",
    "twitter.com", "validator.swagger.io", "vladimirgorej.com", "www.facebook.com", "www.rfc-editor.org",
    "www.tiktok.com", "www.w3.org",
}  # fmt: skip
"""Hosts that Swagger UI's script names: in links, messages and namespaces, and the validator that is off."""


class Elements(HTMLParser):
    """The elements of a page, each with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def loaded(self) -> list[str]:
        """Addresses that a browser fetches to show the page."""
        wanted = [(LOADING[tag], attributes) for tag, attributes in self.found if tag in LOADING]
        return [attributes[name] or "" for name, attributes in wanted if name in attributes]


def application(bundles: Path, **settings: Any) -> Application:
    return Application(no_page, Settings(bundles=bundles, **settings))


def test_the_served_models(client: httpx.Client) -> None:
    page = client.get("/").text
    elements = Elements(page).found
    links = {attributes.get("href") for tag, attributes in elements if tag == "a"}
    assert {"docs", "models"} <= links
    assert [tag for tag, _ in elements].count("h1") == 1
    assert "<title>Model zoo</title>" in page
    for entry in client.get("/models").json()["models"]:
        assert f"models/{entry['name']}" in links
        assert f"docs#/predictions{entry['endpoint']}" in links
        assert entry["kind"].replace("_", " ") in page
        assert entry["primary_metric"].replace("_", " ") in page
    assert "accuracy 0.99" in page
    assert "MLflow" not in page


def test_before_models_are_loaded_and_without_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))  # without a registry
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # where MLflow itself may have put it
    empty = Application(no_page, Settings())
    assert "still being loaded" in request(empty, "GET", "/").text
    assert request(empty, "GET", "/docs").status_code == 200
    empty._follower._step()
    assert "No model is served yet" in request(empty, "GET", "/").text


def test_names_are_escaped(tmp_path: Path) -> None:
    made = application(tmp_path)
    write_regression(tmp_path / "made")
    made._follower._step()
    catalogue = made._catalogue()
    assert catalogue is not None
    hostile = catalogue.entries[-1].model_copy(update={"name": "linear_regression-<b>&\"'"})  # no bundle may
    catalogue.entries = [hostile]
    page = request(made, "GET", "/").text
    assert "<b>" not in page
    assert "linear_regression-&lt;b&gt;&amp;&#34;&#39;" in page
    assert 'href="models/linear_regression-%3Cb%3E%26%22%27"' in page


def test_the_link_to_mlflow(tmp_path: Path) -> None:
    page = request(application(tmp_path, mlflow_url="http://127.0.0.1:5000"), "GET", "/").text
    assert '<a href="http://127.0.0.1:5000/">' in page
    for wrong in ("javascript:alert(1)", "127.0.0.1:5000", "mlflow"):
        with pytest.raises(ZooError, match="ZOO_MLFLOW_URL"):
            Settings.from_environment({"ZOO_MLFLOW_URL": wrong})


@pytest.mark.parametrize("path", PAGES)
def test_headers(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["cache-control"] == "no-cache"
    policy = dict(
        part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'self'"
    assert {word for words in policy.values() for word in words.split()} <= {
        "'self'",
        "'none'",
        "data:",
        "blob:",
    }


def test_other_methods(client: httpx.Client) -> None:
    for path in (*PAGES, f"/{Elements(client.get('/').text).loaded()[0]}"):
        for method in ("POST", "PUT", "DELETE"):
            response = client.request(method, path)
            assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")
            assert response.json()["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/static_content/index.css", "/static/x/pages.css", "/static/", "/docs/x"])
def test_no_other_files(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("path", PAGES)
def test_nothing_comes_from_elsewhere(client: httpx.Client, path: str) -> None:
    elements = Elements(client.get(path).text)
    for tag, attributes in elements.found:
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    for address in elements.loaded():
        assert not urlsplit(address).netloc
        file = client.get(f"/{address}")
        assert file.status_code == 200
        assert file.headers["x-content-type-options"] == "nosniff"
        assert "immutable" in file.headers["cache-control"]
        hosts = {urlsplit(found).hostname for found in re.findall(r"https?://[\w.-]+", file.text, re.ASCII)}
        if address.endswith(".css"):
            assert "@import" not in file.text
            assert set(re.findall(r"url\(['\"]?(\w+:|[^'\")]{0,20})", file.text)) <= {"data:"}
        elif address.endswith("swagger-ui-bundle.js"):
            assert hosts <= NAMED
        else:
            assert hosts <= {"www.w3.org"}  # the name of SVG


def test_files_are_compressed(client: httpx.Client) -> None:
    script = next(a for a in Elements(client.get("/docs").text).loaded() if a.endswith("bundle.js"))
    with client.stream("GET", f"/{script}", headers={"Accept-Encoding": "gzip"}) as response:
        assert response.headers["content-encoding"] == "gzip"
        assert int(response.headers["content-length"]) < 800_000


def test_every_file_is_installed() -> None:
    patterns = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]
    for path in HERE.iterdir():
        if path.is_file() and path.suffix != ".py":
            assert any(path.match(pattern) for pattern in patterns["serving.pages"])


def test_without_swagger_ui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swagger_ui, "PACKAGE", "no_such_package")
    with pytest.raises(ZooError, match=r"pip install '\.\[serving\]'"):
        Pages(lambda: None, Settings(bundles=tmp_path))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    require(chromium, "chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 390, "height": 844}) as context:
        yield context.new_page()


def digit() -> dict[str, Any]:
    file = BytesIO()
    Image.new("L", (28, 28)).save(file, "PNG")
    return {"name": "digit.png", "mimeType": "image/png", "buffer": file.getvalue()}


def execute(page: Page, url: str, operation: str, media_type: str) -> None:
    """Opens an operation of Swagger UI's predictions, and chooses how its body is written."""
    page.goto(f"{url}/docs#/predictions/{operation}")
    page.get_by_label("Request content type").select_option(media_type)


def answered(page: Page) -> str:
    """What Swagger UI shows of the answer, after a click on Execute."""
    page.get_by_role("button", name="Execute").click()
    return page.locator(".live-responses-table .response").inner_text()


@pytest.mark.slow
def test_a_browser_asks_nobody_else(page: Page, server: Server) -> None:
    """At an address that is not loopback, where Swagger UI would ask a validator on the internet."""
    origin, asked, complaints = "http://zoo.example", [], []

    def pass_on(route: Route) -> None:
        asked.append(route.request.url)
        assert route.request.url.startswith(f"{origin}/"), route.request.url
        route.fulfill(response=route.fetch(url=route.request.url.replace(origin, server.url)))

    page.route("**", pass_on)
    page.on("request", lambda asking: asked.append(asking.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    for path, shown in (("/", "table"), ("/docs", ".opblock")):
        page.goto(origin + path)
        page.locator(shown).first.wait_for()
        assert page.get_by_role("heading", level=1).count() == 1
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, "no scrolling sideways on a phone"
    page.wait_for_load_state("networkidle")
    assert f"{origin}/docs.json" in asked
    assert not [url for url in asked if not url.startswith((f"{origin}/", "data:"))]
    assert not [text for text in complaints if "Content Security Policy" in text or "Refused" in text]
    assert page.get_by_role("button", name="Authorize").count() == 0


@pytest.mark.slow
def test_a_picture_is_sent_by_the_form(page: Page, server: Server) -> None:
    execute(page, server.url, "classify_image", "multipart/form-data")
    page.locator("input[type=file]").set_input_files(digit())
    answer = answered(page)
    assert answer.startswith("200")
    assert '"predictions"' in answer


@pytest.mark.slow
def test_a_picture_that_is_answered_is_shown(page: Page, server: Server) -> None:
    execute(page, server.url, "explain_image", "multipart/form-data")
    page.locator("input[type=file]").set_input_files(digit())
    assert answered(page).startswith("200")
    picture = page.locator(".live-responses-table img")
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


@pytest.mark.slow
def test_a_key_is_given_by_authorize(page: Page, tmp_path: Path) -> None:
    write_images(tmp_path / "bundles" / "made")
    variables = {"ZOO_BUNDLES": str(tmp_path / "bundles"), "ZOO_API_KEYS": KEY}
    with running(tmp_path / "log", **variables) as locked:
        assert page.goto(locked.url).status == 401

        def show(route: Route) -> None:
            """Sends a key for what a person looks at, as a proxy may, and none for what a script asks."""
            posts = route.request.method == "POST"
            route.continue_(headers={**route.request.headers, **({} if posts else AUTHORIZED)})

        page.route("**", show)
        page.goto(locked.url)
        assert "Requests need an API key" in page.get_by_role("main").inner_text()
        execute(page, locked.url, "classify_image", "application/json")
        assert page.locator(".opblock-post .authorization__btn").count() > 0
        assert page.locator(".opblock-get .authorization__btn").count() > 0
        assert answered(page).startswith("401")
        page.get_by_role("button", name="Authorize").click()
        page.locator(".auth-container input").fill(KEY)
        page.locator(".modal-ux").get_by_role("button", name="Apply credentials").click()
        page.locator(".modal-ux .btn-done").click()
        page.get_by_role("button", name="Clear").click()
        assert answered(page).startswith("200")
