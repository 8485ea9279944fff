"""Strict parser of multipart forms (RFC 7578), on top of starlette's.

starlette accepts a form that is cut short, and takes a part for a file only if the part has a plain
`filename`. Programs other than browsers also send `filename*` (RFC 5987), or only a Content-Type. This parser
rejects truncated and ambiguous forms, and recognizes such files.
"""

import re
from collections.abc import AsyncIterator

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from serving.exchange import MAX_BODY
from serving.header_lines import MAX_ITEMS
from serving.memory import Body
from serving.problem import Problem

# An unterminated string matches to the end of the input: retrying at every quote in it would take 0.1 s.
QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)')
PARAMETER = re.compile(rb";\s*([^=;\s]+)\s*=")
CHARSETS = (b"utf-8", b"utf8", b"us-ascii")
TYPES_OF_TEXT = (b"text/", b"application/json")  # a JSON string may hold a file in base64


class MultipartForm(MultiPartParser):
    """Parser of one form whose bytes are all in memory."""

    spool_max_size = MAX_BODY
    """Parts stay in memory: starlette writes larger ones to a temporary file, in another thread."""

    def __init__(
        self,
        headers: list[tuple[bytes, bytes]],
        body: Body,
        files: tuple[str, ...],
        max_files: int,
        max_fields: int,
    ) -> None:
        """`files` are the names of the fields that may be files."""

        async def stream() -> AsyncIterator[Body]:
            yield body
            if not self._closed:
                raise MultiPartException("The closing boundary is missing.")

        super().__init__(
            Headers(raw=headers),
            stream(),  # type: ignore[arg-type]  # any asynchronous iterator will do
            max_files=max_files,
            max_fields=max_fields,
            max_part_size=len(body),
        )
        self._files = tuple(name.encode() for name in files)
        self._closed = False

    def fields(self) -> FormData:
        """Returns the parts in order.

        Raises `Problem` 400 if the form is malformed or cut short, and 415 if its charset is not UTF-8.
        This copies the form, so call it in a thread if the form is large.
        """
        if self.headers["Content-Type"].count(";") > MAX_ITEMS:
            raise Problem(400, "malformed_form", "Content-Type: too many parameters")
        charset = parse_options_header(self.headers["Content-Type"])[1].get(b"charset", b"utf-8")
        if charset.lower() not in CHARSETS:  # starlette accepts any of Python's codecs
            raise Problem(415, "unsupported_media_type", "forms are read as UTF-8; leave out the charset")
        try:
            self.parse().send(None)  # never suspends: all data is in memory
        except StopIteration as parsed:
            form: FormData = parsed.value
            return form
        except MultiPartException as error:
            raise Problem(400, "malformed_form", f"not a readable multipart form: {error.message}") from None
        raise RuntimeError("the parser waits for something")

    def on_headers_finished(self) -> None:
        part = self._current_part
        if any(b"\n" in text for header in part.item_headers for text in header):
            raise MultiPartException("Lines of a part's head must end with CRLF.")
        if sum(name == b"content-disposition" for name, _ in part.item_headers) > 1:
            raise MultiPartException("A part has two Content-Disposition headers.")
        disposition = part.content_disposition or b""
        if disposition.count(b";") > MAX_ITEMS:
            raise MultiPartException("A part's Content-Disposition has too many parameters.")
        names = PARAMETER.findall(QUOTED.sub(b"", disposition.lower()))
        if len(names) > len(set(names)):
            raise MultiPartException("A part's Content-Disposition has a parameter twice.")
        extended = any(name.startswith(b"filename*") for name in names)
        if b"filename" not in names and (extended or self._is_typed_as_file()):
            part.content_disposition = disposition + b'; filename=""'
        super().on_headers_finished()

    def on_end(self) -> None:
        self._closed = True

    def _is_typed_as_file(self) -> bool:
        """Returns True if the part is a pickle, or belongs to a file field and is neither text nor JSON."""
        part = self._current_part
        media_type = dict(part.item_headers).get(b"content-type", b"text/plain").strip().lower()
        if b"pickle" in media_type:
            return True
        name = parse_options_header(part.content_disposition)[1].get(b"name")
        return name in self._files and not media_type.startswith(TYPES_OF_TEXT)
