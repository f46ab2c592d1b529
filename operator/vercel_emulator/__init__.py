"""An emulator of Vercel's certificates API, for trying and testing the operator without a Vercel account.

It answers the calls as the public REST reference documents them. It has a control API under ``/_emulator/`` (see
``docs/emulator.md``): a journal, faults, rate limits, a clock that can be moved, and switches for what is not known
about Vercel.

In a test's own event loop, on a free port::

    from vercel_emulator import Emulator, Fault

    async with Emulator(tokens=("test-token-not-a-secret",), teams={"team_a": "alpha"}) as emulator:
        fault = emulator.faults.add(Fault(call="issue", action="hang", when="after"))
        ...                                   # something POSTs to emulator.url
        await fault.wait()                    # the certificate exists, but the reply is held back
        fault.release("drop")                 # the reply is lost
        emulator.clock.advance(86400)
        assert emulator.journal.counts["issue"] == 1
        assert [certificate.cns for certificate in emulator.state.live()] == [["example.com"]]

As a separate process (``vercel-certificate-operator emulate`` or ``python -m vercel_emulator``), over HTTP::

    from vercel_emulator import EmulatorControl, Fault

    async with EmulatorControl("http://127.0.0.1:8080") as control:
        fault = await control.add_fault(Fault(call="issue", status=503, times=2))
        await control.wait_for_fault(fault.id, fired=2)
        await control.advance(86400)
        assert (await control.journal()).counts["issue"] == 2

Each name is imported when it is first used, so that ``--help`` doesn't wait for a web server that it doesn't need.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vercel_emulator.client import EmulatorControl
    from vercel_emulator.emulator import Emulator
    from vercel_emulator.faults import ActiveFault
    from vercel_emulator.models import Behaviour, Certificate, DomainSetup, Entry, Fault, RateLimit, Renewal

__all__ = [
    "ActiveFault",
    "Behaviour",
    "Certificate",
    "DomainSetup",
    "Emulator",
    "EmulatorControl",
    "Entry",
    "Fault",
    "RateLimit",
    "Renewal",
]

_HOMES = {
    "ActiveFault": "faults",
    "Behaviour": "models",
    "Certificate": "models",
    "DomainSetup": "models",
    "Emulator": "emulator",
    "EmulatorControl": "client",
    "Entry": "models",
    "Fault": "models",
    "RateLimit": "models",
    "Renewal": "models",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
