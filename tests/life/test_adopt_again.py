"""Naming the same certificate again, after an adoption was refused."""

from support.acting import HOUR, REF, notes, put_secret
from support.world import TOKEN, World
from vercel_emulator.models import Injection


async def test_the_same_certificate_can_be_named_again_after_another_value(world: World) -> None:
    await put_secret(world, TOKEN)
    await world.apply("site", ["example.com"], annotations={"vercel-operator.io/adopt-id": "cert_theirs"})
    await world.advance(HOUR)
    assert len(await notes(world, "site", "AdoptionRefused")) == 1
    world.emulator.state.inject(Injection(id="cert_theirs", cns=["example.com"]))
    await world.patch("site", {"spec": {"tokenSecretRef": REF}})
    await world.advance(HOUR)
    assert (await world.status("site"))["id"] != "cert_theirs"

    await world.annotate("site", "adopt-id", "none")
    await world.quiet()
    assert len(await notes(world, "site", "AdoptionRefused")) == 2
    await world.annotate("site", "adopt-id", "cert_theirs")
    await world.quiet()

    status = await world.status("site")
    assert (status["id"], status["origin"]) == ("cert_theirs", "Adopted")
