"""Logs: each message is one line, as text or as JSON."""

import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

from vercel_certificate_operator.core import words
from vercel_certificate_operator.kube.errors import is_answer

LONGEST_LINE = 4_000
"""Characters of a message."""
LONGEST_TRACEBACK = 20_000
"""Characters of a traceback. Its end is kept, because the exception is there."""
LONGEST_FIELD = 300
"""Characters of a field: a namespace, a name."""
FIELDS = ("namespace", "resource", "uid", "attempt", "reason", "cause", "token", "policy")
"""What a log line can have as fields of its own in JSON; ``resource`` is the name there."""


class TextFormatter(logging.Formatter):
    """``2026-11-23T19:00:00Z INFO  web/example-com: Issued: …``."""

    def format(self, record: logging.LogRecord) -> str:
        where = ""
        if hasattr(record, "resource"):
            where = f"{getattr(record, 'namespace', '')}/{record.resource}: "
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        text = f"{moment} {record.levelname:<7} {where}{record.getMessage()}"
        return f"{text}\n{record.exc_text}" if record.exc_text else text


_STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}


def _without_fields_of_libraries(record: logging.LogRecord) -> bool:
    """Drops what libraries add to their records. kopf adds objects that can't be written as JSON."""
    for field in record.__dict__.keys() - _STANDARD - frozenset(FIELDS):
        delattr(record, field)
    return True


def _without_traceback_of_an_answer(record: logging.LogRecord) -> bool:
    """Removes the traceback of an answer of the API server to kopf: the message has the answer."""
    if record.exc_info and is_answer(record.exc_info[1]):
        record.exc_info = record.exc_text = None
    return True


def _printable(record: logging.LogRecord) -> bool:
    """Makes each message and field one printable line of bounded length, whatever it contains."""
    record.msg, record.args = words.printable(record.getMessage(), LONGEST_LINE), ()
    for field in FIELDS:
        if isinstance(value := getattr(record, field, None), str):
            setattr(record, field, words.printable(value, LONGEST_FIELD))
    if record.exc_info and record.exc_info[1] is not None:
        # Without exc_info, both formatters write exc_text.
        record.exc_text = _traceback_of(record.exc_info[1])
    record.exc_info = None
    return True


def _traceback_of(error: BaseException) -> str:
    """Returns a traceback of printable lines and bounded length.

    The message of an exception becomes one line, so that it can't look like another line of the log.
    """
    lines = []
    for part in traceback.format_exception(error):
        # A frame has several lines. So has the sentence between two exceptions, with empty lines around it.
        whole = part.lstrip(" |").startswith("File ") or part.startswith("\n")
        lines += [words.printable(line, LONGEST_LINE) for line in (part[:-1].split("\n") if whole else [part[:-1]])]
    text = "\n".join(lines)
    if len(text) <= LONGEST_TRACEBACK:
        return text
    _, _, last_lines = text[-LONGEST_TRACEBACK:].partition("\n")
    return f"…\n{last_lines}"


def set_up(log_format: Literal["text", "json"], level: str) -> None:
    """Sends all logs to standard error.

    Args:
        log_format: text for people, or a JSON object on each line.
        level: the least severe level to log. With ``debug``, each decision is logged with its rule.
    """
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(
            JsonFormatter(
                "{levelname}{name}{message}",
                style="{",
                timestamp=True,
                rename_fields={"levelname": "level", "name": "logger", "resource": "name"},
            )
        )
    else:
        handler.setFormatter(TextFormatter())
    handler.addFilter(_without_fields_of_libraries)
    handler.addFilter(_without_traceback_of_an_answer)
    handler.addFilter(_printable)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    verbose = level == "debug"
    # These log each request.
    for name in ("httpx", "httpcore", "aiohttp", "asyncio", "kopf", "kubernetes"):
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.WARNING)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # a line for each event of each object
