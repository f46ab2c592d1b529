"""``/metrics`` of a real process."""

import aiohttp
import pytest

from support.operator_process import Namespace, OperatorProcess, StartOperator, eventually, port_of

TEXT = "text/plain; version=0.0.4; charset=utf-8"


async def scrape(operator: OperatorProcess, **headers: str) -> tuple[str, str]:
    """The content type and the text."""
    url = f"http://127.0.0.1:{await port_of(operator)}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        assert answer.status == 200
        return answer.headers["Content-Type"], await answer.text()


async def test_the_leader_tells_of_certificates_and_the_standby_of_itself(
    ns: Namespace, start_operator: StartOperator
) -> None:
    flags = ("--listen=127.0.0.1:0", "--leader-elect", f"--lease-namespace={ns.name}")
    leader = await start_operator(*flags)
    await eventually("it leads", lambda: "leading:" in leader.logs())
    standby = await start_operator(*flags)
    await ns.apply("site", ["example.com"])
    await ns.ready("site")
    labels = f'{{name="site",namespace="{ns.name}"}}'
    content_type, text = await scrape(leader)
    assert content_type == TEXT
    assert f"vercel_operator_certificate_ready{labels} 1.0" in text
    assert "vercel_operator_leader 1.0" in text
    assert "process_cpu_seconds_total" in text
    _, text = await scrape(standby)
    assert "vercel_operator_leader 0.0" in text
    assert "site" not in text

    await ns.run("delete", "vcert", "site", "--timeout=30s")
    assert "site" not in (await scrape(leader))[1]


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        ("text/plain;version=0.0.4", TEXT, ""),
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text; version=1.0.0", "# EOF"),
    ],
)
async def test_prometheus_gets_the_format_that_it_asks_for(
    start_operator: StartOperator, accept: str, content_type: str, end: str
) -> None:
    operator = await start_operator("--listen=127.0.0.1:0", "--no-metrics-per-certificate")
    answered, text = await scrape(operator, Accept=accept)
    assert answered.startswith(content_type)
    assert text.strip().endswith(end)
