"""The recording of the demo in the README, and its picture."""

import json

import recording


def recorded() -> list[str]:
    return [json.loads(line)[2] for line in recording.CAST.read_text(encoding="utf-8").splitlines()[1:]]


def test_the_recording_shows_each_step_of_the_demo() -> None:
    text = "".join(recorded())
    for number in range(1, 7):
        assert f"\x1b[1m{number}. " in text
    assert "condition met" in text
    assert '{"certs": [], ' in text, "the certificate is removed at Vercel"


def test_its_header_is_that_of_asciinemas_format() -> None:
    header = json.loads(recording.CAST.read_text(encoding="utf-8").splitlines()[0])
    assert header["version"] == 2
    assert {"width", "height"} <= header.keys()


def test_each_line_of_the_recording_is_in_the_picture_and_appears_in_its_turn() -> None:
    picture = recording.svg()
    assert picture.count("animation: appear") == len(recorded())
    assert "http" not in picture.split("</style>")[0].replace('xmlns="http://www.w3.org/2000/svg"', "").replace(
        "https://www.textualize.io", ""
    ), "the picture loads nothing"


def test_the_picture_is_the_same_each_time() -> None:
    assert recording.svg() == recording.svg()
