"""A terminal as a person has it before them: a command runs in a pseudo-terminal, and its screen can be looked at."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable

_PIECE = re.compile(r"\x1b\[(?P<args>[0-9;?]*)(?P<word>[A-Za-z])|\x1b\][^\x07]*\x07|\x1b.|(?P<char>[^\x1b])", re.DOTALL)


class Screen:
    """What the escape sequences of a program make of a screen: characters, and the colour of each."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.lines: list[list[tuple[str, str]]] = [[]]
        self.row = self.column = 0
        self.style = ""
        self.cursor = True

    def feed(self, text: str) -> None:
        for piece in _PIECE.finditer(text):
            if piece["char"] is not None:
                self._char(piece["char"])
            elif piece["word"] is not None:
                self._order(piece["word"], piece["args"])

    def _char(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self.row += 1
        elif char == "\x08":
            self.column = max(0, self.column - 1)
        elif char >= " ":
            if self.column == self.columns:
                self.row, self.column = self.row + 1, 0
            self._grow()
            line = self.lines[self.row]
            line += [(" ", "")] * (self.column + 1 - len(line))
            line[self.column] = (char, self.style)
            self.column += 1
        self._grow()

    def _grow(self) -> None:
        while len(self.lines) <= self.row:
            self.lines.append([])

    def _order(self, word: str, args: str) -> None:
        number = int(args) if args.isdigit() else None
        if word == "m":
            self.style = "" if args in ("", "0") else args
        elif word == "A":
            self.row = max(0, self.row - (number or 1))
        elif word == "B":
            self.row += number or 1
        elif word == "C":
            self.column += number or 1
        elif word == "D":
            self.column = max(0, self.column - (number or 1))
        elif word == "K":
            self._grow()
            self.lines[self.row] = [] if number == 2 else self.lines[self.row][: self.column]
        elif word == "J":
            del self.lines[self.row + 1 :]
            self.lines[self.row] = self.lines[self.row][: self.column]
        elif word in "hl" and args == "?25":
            self.cursor = word == "h"
        else:
            raise AssertionError(f"the screen does not know ESC[{args}{word}")

    @property
    def text(self) -> str:
        return "\n".join("".join(char for char, _ in line).rstrip() for line in self.lines).rstrip()

    def colours(self, char: str) -> dict[str, int]:
        """How often a character stands on the screen, by colour."""
        found: dict[str, int] = {}
        for line in self.lines:
            for each, style in line:
                if each == char:
                    found[style] = found.get(style, 0) + 1
        return found


def _flat(text: str) -> str:
    return " ".join(text.split())


class Terminal:
    """A command in a terminal. `frames` are all that its screen has shown, without repetition."""

    def __init__(self, words: list[str], env: dict[str, str], columns: int = 100, rows: int = 30) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen = Screen(columns, rows)
        self.frames: list[str] = []
        self._news = threading.Condition()
        terminal = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "COLUMNS": "", "LINES": ""}
        env = {name: value for name, value in (env | terminal).items() if value}
        self.process = subprocess.Popen(
            words, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, close_fds=True
        )
        os.close(slave)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        kept = b""
        with contextlib.suppress(OSError):  # what a terminal tells whose other end is closed
            while data := os.read(self._master, 65536):
                kept += data
                text = kept.decode(errors="ignore")
                kept = kept[len(text.encode()) :]
                with self._news:
                    self.screen.feed(text)
                    if not self.frames or self.frames[-1] != self.screen.text:
                        self.frames.append(self.screen.text)
                    self._news.notify_all()

    def until(self, meets: str | Callable[[str], object], seconds: float = 30) -> str:
        """Wait until the screen shows this, wherever its lines break; gives what it shows then."""
        wanted = (lambda text: _flat(meets) in _flat(text)) if isinstance(meets, str) else meets
        end = time.monotonic() + seconds
        with self._news:
            while not wanted(self.screen.text):
                left = end - time.monotonic()
                assert left > 0, f"{meets}:\n{self.screen.text}"
                self._news.wait(min(left, 1))
            return self.screen.text

    def colours(self, char: str) -> dict[str, int]:
        """Tell how often a character stands on the screen, by colour."""
        with self._news:
            return self.screen.colours(char)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def wait(self, seconds: float = 30) -> int:
        """Wait until the command has ended and all is read; gives its exit code."""
        code = self.process.wait(seconds)
        self._thread.join(10)
        return code

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self._thread.join(10)
        os.close(self._master)
