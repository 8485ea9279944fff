"""Code that the Multi30k data sets share: descriptions of photographs in English, translated by people.

Source: Elliott, Frank, Sima'an & Specia (2016), "Multi30K: Multilingual English-German Image Descriptions",
arXiv:1605.00459; French from Elliott, Frank, Barrault, Bougares & Specia (2017), "Findings of the Second
Shared Task on Multimodal Machine Translation and Multilingual Image Description", arXiv:1710.07177. The
published test splits are not used: the validation split is for testing, and validation is held out of
training.

Each line of a file holds English, a tab, and the other language; one German sentence contains a tab. When
files are fetched, the stripped lines of the published files are joined.
"""

import gzip
import logging
import tempfile
from pathlib import Path

from training.datasets.base import Data
from training.datasets.pairs import KIND, Pair, pair_arrays
from training.datasets.published_file import checked, file_digest, found, not_fetched
from training.datasets.text_file import read_lines
from zoo.home import download_directory
from zoo.tasks import Schema

log = logging.getLogger(__name__)
SIZE = "30,014 pairs of sentences"
LICENCE = "research use; see source"
SOURCE = "Elliott et al. 2016 and 2017, Multi30k"
URL = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw"
SHA256 = {
    "train.en-de.tsv": "4e95eaa6bc198739d60673c8be0cac3eb018af776b13b9116f5373d55388f2cb",
    "val.en-de.tsv": "2da4aa9f2f00e8aa94e3df29b4669e663fe821b662405a2d9b7fe9ca0ca1f837",
    "train.en-fr.tsv": "c164cc5ad2fb14de441b4ed2f8bc1b386e340c6bc1804e3afa39215b6b37c63c",
    "val.en-fr.tsv": "478e36069a10300a287114b50c1e8f34521317d8aee787fe0f7fdc93a9372ddc",
}


def load_multi30k(name: str, other: str, into_english: bool) -> Data:
    """Loads 29,000 training and 1,014 test pairs of English and `other`; fetches missing files."""
    train, test = (
        pair_arrays(
            read_sentences(checked(found(file) or _fetch(name, file), SHA256[file.name]), into_english)
        )
        for file in _files(other)
    )
    return Data(name, KIND, Schema(metric="bleu"), SOURCE, train, test)


def is_present(other: str) -> bool:
    """Returns True if both files are in data directories."""
    return all(found(file) for file in _files(other))


def read_sentences(path: Path, into_english: bool) -> list[Pair]:
    """Reads the pairs of one file, English first unless `into_english`."""
    pairs = (line.split("\t", 1) for line in read_lines(path))
    return [(other, english) if into_english else (english, other) for english, other in pairs]


def _files(other: str) -> tuple[Path, Path]:
    return Path("multi30k", f"train.en-{other}.tsv"), Path("multi30k", f"val.en-{other}.tsv")


def _fetch(name: str, file: Path) -> Path:
    """Fetches both languages of a split and joins them in one file, which appears only when complete."""
    split, languages, _ = file.name.split(".")
    path = download_directory() / file
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        columns = [_lines(name, file, f"{split}.{language}.gz", folder) for language in languages.split("-")]
        staging = Path(folder, file.name)
        staging.write_text(
            "".join(f"{english}\t{other}\n" for english, other in zip(*columns, strict=True)),
            encoding="utf-8",
            newline="\n",
        )
        if file_digest(staging) != SHA256[file.name]:
            raise not_fetched(name, file, f"what {URL} has now is something else")
        staging.replace(path)
    return path


def _lines(name: str, file: Path, published: str, folder: str) -> list[str]:
    from torch.hub import download_url_to_file

    log.info("fetching %s/%s", URL, published)
    try:
        download_url_to_file(f"{URL}/{published}", f"{folder}/{published}", progress=False)
    except (OSError, RuntimeError) as error:
        raise not_fetched(name, file, error) from error
    with gzip.open(f"{folder}/{published}", "rt", encoding="utf-8", newline="\n") as lines:
        return [line.strip() for line in lines]
