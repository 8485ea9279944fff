"""Prints a text piece by piece, and breaks its lines between words at the terminal's width."""

import sys

from rich.cells import cell_len


class WordWrap:
    """Holds back each word until it is complete, so that it can go to the next line as a whole."""

    def __init__(self, width: int | None) -> None:
        """Wraps at `width` columns; None prints the text as it is."""
        self._width = width
        self._column = 0
        self._space, self._word = "", ""

    def add(self, piece: str) -> None:
        """Prints the complete words of the text so far."""
        if self._width is None:
            print(piece, end="", flush=True)
            return
        for letter in piece:
            if letter == "\n":
                self._end_word()
                sys.stdout.write(letter)
                self._column, self._space = 0, ""
            elif letter.isspace():
                self._end_word()
                self._space += letter
            else:
                self._word += letter
                if cell_len(self._word) >= self._width:  # too long for a line, as in languages without spaces
                    self._end_word()
        sys.stdout.flush()

    def end(self) -> None:
        """Prints the word that was held back, and ends the line."""
        self._end_word()
        print(flush=True)

    def _end_word(self) -> None:
        if not self._word:
            return
        room = (self._width or 0) - self._column - cell_len(self._space)
        if self._column and cell_len(self._word) > room:
            sys.stdout.write("\n")
            self._column, self._space = 0, ""
        sys.stdout.write(self._space + self._word)
        self._column += cell_len(self._space + self._word)
        self._space, self._word = "", ""
