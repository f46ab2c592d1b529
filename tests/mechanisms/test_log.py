"""Logs: one line each, for people and for machines."""

import json
import logging
import re
from collections.abc import Iterator

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from vercel_certificate_operator import log
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
