"""The least that serves a classifier of images: Starlette and ONNX Runtime, nothing checked.

python -m tests.benchmarks.bare GRAPH PORT

| path | takes |
|---|---|
| `/` | `{"pixels": [H][W] or [N][H][W]}` |
| `/photo` | `{"image": base64}`, or a form with the file `image`, decoded with `draft` in a thread |
"""

import base64
import io
import sys
from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import orjson
import uvicorn
from PIL import Image, ImageOps
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def application(graph: str) -> Starlette:
    """Answers with probabilities."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    _, height, width, channels = session.get_inputs()[0].shape

    def answer(image: np.ndarray) -> Response:
        (probabilities,) = session.run(None, {"image": image.reshape(-1, height, width, channels)})
        body = orjson.dumps({"probabilities": probabilities}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(body, media_type="application/json")

    def classify_file(read: Callable[[], bytes]) -> Response:
        image = Image.open(io.BytesIO(read()))
        mode = "L" if channels == 1 else "RGB"
        image.draft(mode, (2 * width, 2 * height))
        return answer(np.asarray(ImageOps.fit(image.convert(mode), (width, height))))

    async def classify(request: Request) -> Response:
        return answer(np.array(orjson.loads(await request.body())["pixels"], np.uint8))

    async def classify_photo(request: Request) -> Response:
        if request.headers["content-type"] == "application/json":
            body = await request.body()
            return await run_in_threadpool(
                classify_file, lambda: base64.b64decode(orjson.loads(body)["image"])
            )
        async with request.form() as form:
            return await run_in_threadpool(classify_file, form["image"].file.read)

    return Starlette(
        routes=[
            Route("/", classify, methods=["POST"]),
            Route("/photo", classify_photo, methods=["POST"]),
        ]
    )


if __name__ == "__main__":
    uvicorn.run(
        application(sys.argv[1]), port=int(sys.argv[2]), loop="uvloop", http="httptools",
        access_log=False, log_level="critical",
    )  # fmt: skip
