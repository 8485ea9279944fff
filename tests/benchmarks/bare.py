"""The least that serves a classifier of grey images: Starlette and ONNX Runtime, nothing checked.

python -m tests.benchmarks.bare GRAPH PORT
"""

import sys

import numpy as np
import onnxruntime as ort
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def application(graph: str) -> Starlette:
    """Answers `{"pixels": [H][W] or [N][H][W]}` at `/` with the probabilities."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    _, height, width, channels = session.get_inputs()[0].shape

    async def classify(request: Request) -> Response:
        pixels = np.array(orjson.loads(await request.body())["pixels"], np.uint8)
        (probabilities,) = session.run(None, {"image": pixels.reshape(-1, height, width, channels)})
        answer = orjson.dumps({"probabilities": probabilities}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(answer, media_type="application/json")

    return Starlette(routes=[Route("/", classify, methods=["POST"])])


if __name__ == "__main__":
    uvicorn.run(
        application(sys.argv[1]), port=int(sys.argv[2]), loop="uvloop", http="httptools",
        access_log=False, log_level="warning",
    )  # fmt: skip
