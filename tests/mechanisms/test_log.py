"""Logs: one line each, for people and for machines."""

import json
import logging
import re
from collections.abc import Iterator
from typing import Literal

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from vercel_certificate_operator import log
from vercel_certificate_operator.core import words
from vercel_certificate_operator.handlers import settings

FIELDS = {"namespace": "web", "resource": "example-com", "uid": "uid-1", "attempt": "a1", "reason": "Issued"}
OTHERS = ("httpx", "httpcore", "aiohttp", "asyncio", "kopf", "kopf.objects", "kubernetes")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The logging of the test run is put back afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, {name: logging.getLogger(name).level for name in OTHERS}
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    for name, level in before[2].items():
        logging.getLogger(name).setLevel(level)


class Out:
    """What was written to standard error so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def getvalue(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Out:
    return Out(capsys)


def logger() -> logging.Logger:
    return logging.getLogger("vercel_certificate_operator.test")


def fail() -> None:
    try:
        raise ZeroDivisionError("of\nall things")
    except ZeroDivisionError:
        logger().exception("It\nfailed", extra=FIELDS)


def test_a_line_for_people(out: Out) -> None:
    log.set_up("text", "info")
    logger().info("Issued: %s", "all is well", extra=FIELDS)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    web/example-com: Issued: all is well\n", out.getvalue()
    )


def test_a_line_that_is_about_no_resource(out: Out) -> None:
    log.set_up("text", "info")
    logger().warning("stopping")
    assert re.fullmatch(r"\S+Z WARNING stopping\n", out.getvalue())


@pytest.mark.parametrize("text", ["one\ntwo", "one\r\ntwo", "one\rtwo", "one\u2028two", "\none\n\ntwo\n", "one\x0btwo"])
def test_a_line_is_one_line_whatever_it_holds(out: Out, text: str) -> None:
    log.set_up("text", "info")
    logger().info("%s", text)
    assert out.getvalue().count("\n") == 1
    assert len(out.getvalue().splitlines()) == 1
    assert "one" in out.getvalue()
    assert "two" in out.getvalue()


@pytest.mark.parametrize("character", ["x", "\x1b", "\u202e", "\U000e0001"])
def test_the_bound_of_a_text_counts_its_escapes_and_splits_none(character: str) -> None:
    escaped = words.printable(character)
    fitting = 1_000 // len(escaped)
    assert words.printable(character * fitting, 1_000) == escaped * fitting
    assert words.printable(character * 5_000, 1_000) == escaped * fitting + "…"


def test_what_the_api_server_answers_to_kopf_has_no_traceback(out: Out) -> None:
    log.set_up("text", "info")
    request = aiohttp.RequestInfo(URL("http://127.0.0.1"), "GET", CIMultiDictProxy(CIMultiDict()), URL())
    try:
        try:
            raise aiohttp.ClientResponseError(request, ())
        except aiohttp.ClientResponseError as answer:
            raise ValueError("404 page not found") from answer
    except ValueError:
        logging.getLogger("kopf").exception("Watcher has failed: 404 page not found")
    assert re.fullmatch(r"\S+Z ERROR   Watcher has failed: 404 page not found\n", out.getvalue())


def test_a_traceback_comes_after_its_line(out: Out) -> None:
    log.set_up("text", "info")
    fail()
    first, *rest = out.getvalue().splitlines()
    assert first.endswith("web/example-com: It failed")
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-1] == "ZeroDivisionError: of all things"


def fail_with(message: str) -> None:
    """Logs an exception that another one caused, both with a message from outside."""
    try:
        raise ValueError(message) from KeyError(message)
    except ValueError:
        logger().exception("It failed")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_traceback_has_no_control_characters_and_no_lines_of_its_messages(
    out: Out, log_format: Literal["text", "json"]
) -> None:
    log.set_up(log_format, "info")
    fail_with("\x1b[31m\x07\u202e\n2026-11-23T19:00:00.000Z INFO    web/site: Issued\r\u2028")
    text = json.loads(out.getvalue())["exc_info"] if log_format == "json" else out.getvalue()
    assert not {"\x1b", "\x07", "\u202e", "\u2028", "\r"} & set(text)
    assert "\nValueError: \\x1b[31m\\x07\\u202e 2026-11-23T19:00:00.000Z INFO    web/site: Issued" in text
    lines = text.splitlines()
    assert not [line for line in lines if line.startswith("2026-11-23")]
    assert "The above exception was the direct cause of the following exception:" in lines
    assert [line for line in lines if line.startswith('  File "')]
    assert "    raise ValueError(message) from KeyError(message)" in lines


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_traceback_is_bounded_and_keeps_its_exception(out: Out, log_format: Literal["text", "json"]) -> None:
    log.set_up(log_format, "info")
    error = ValueError("the last one")
    cause: BaseException = error
    for _ in range(50):
        cause.__cause__ = ValueError("\x1b" * 5_000)
        cause = cause.__cause__
    logger().error("It failed", exc_info=error)
    text = json.loads(out.getvalue())["exc_info"] if log_format == "json" else out.getvalue()
    assert 10_000 < len(text) <= log.LONGEST_TRACEBACK + 100
    assert max(map(len, text.splitlines())) <= log.LONGEST_LINE + 1
    assert text.rstrip().endswith("\nValueError: the last one")


def test_a_line_for_machines(out: Out) -> None:
    log.set_up("json", "info")
    logger().info("Issued: %s", "all is well", extra=FIELDS)
    line = out.getvalue()
    assert line.endswith("\n")
    entry = json.loads(line)
    assert re.match(r"\d{4}-\d\d-\d\dT", entry.pop("timestamp"))
    assert entry == {
        "level": "INFO",
        "logger": "vercel_certificate_operator.test",
        "message": "Issued: all is well",
        "namespace": "web",
        "name": "example-com",
        "uid": "uid-1",
        "attempt": "a1",
        "reason": "Issued",
    }


def test_a_line_for_machines_that_is_about_no_resource(out: Out) -> None:
    log.set_up("json", "info")
    logger().info("stopping")
    entry = json.loads(out.getvalue())
    assert "name" not in entry
    assert entry["logger"] == "vercel_certificate_operator.test"


def test_an_exception_for_machines_is_one_line_too(out: Out) -> None:
    log.set_up("json", "info")
    fail()
    assert out.getvalue().count("\n") == 1
    entry = json.loads(out.getvalue())
    assert "ZeroDivisionError" in entry["exc_info"]
    assert entry["reason"] == "Issued"


@pytest.mark.parametrize(
    ("level", "shown"),
    [("debug", "debug info warning error"), ("info", "info warning error"), ("warning", "warning error")],
)
def test_only_what_is_of_the_level_is_shown(out: Out, level: str, shown: str) -> None:
    log.set_up("text", level)
    for name in ("debug", "info", "warning", "error"):
        getattr(logger(), name)("this is %s", name)
    assert re.findall(r"this is (\w+)", out.getvalue()) == shown.split()


@pytest.mark.parametrize(("level", "shown"), [("info", 0), ("debug", 1)])
def test_each_request_is_logged_only_at_the_debug_level(out: Out, level: str, shown: int) -> None:
    log.set_up("text", level)
    logging.getLogger("httpx").info("HTTP Request: GET")
    assert out.getvalue().count("HTTP Request") == shown


def test_setting_up_twice_does_not_double_the_lines(out: Out) -> None:
    log.set_up("text", "info")
    log.set_up("json", "info")
    logger().info("once")
    assert out.getvalue().count("once") == 1


def test_a_librarys_own_fields_do_not_break_a_json_line(out: Out) -> None:
    """kopf adds its settings to each line about an object, and they can't be copied."""
    log.set_up("json", "debug")
    logging.getLogger("kopf.objects").warning("Handler failed.", extra={"settings": settings(), "k8s_ref": {}})
    line = json.loads(out.getvalue())
    assert (line["message"], line["level"]) == ("Handler failed.", "WARNING")
    assert not {"settings", "k8s_ref"} & set(line)
