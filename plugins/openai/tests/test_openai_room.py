"""What a prompt leaves of the context, estimated without a server."""

import msgspec

from gateway.plugin import Prompt, Request, Sampling, Text, Turn
from gateway_openai import Config, build, gateway_backends


async def test_room_is_estimated_where_the_policy_names_the_context() -> None:
    prompt = Prompt(
        request=Request(
            id="dec_1",
            department="d",
            model="m",
            turns=(Turn(role="user", parts=(Text(id="messages[0].content", text="é" * 300),)),),
            sampling=Sampling(),
        )
    )
    base = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}
    assert await build(Config(**base)).room(prompt) is None
    assert await build(Config(**base, context=1024)).room(prompt) == 1024 - 8 - 100 - 300
    assert await build(Config(**base, context=512)).room(prompt) == 104
    (offer,) = gateway_backends()
    assert offer.context is not None and offer.context(Config(**base, context=2048)) == 2048
    told = msgspec.structs.replace(prompt.request, tools=Text(id="tools", text="x" * 30))
    assert await build(Config(**base, context=512)).room(Prompt(request=told)) == 104 - 10
