"""Errors of vendors of one format, as callers of another receive them."""

import json

import pytest

from llm_routing.core.errors import InvalidRequest, UpstreamError
from llm_routing.formats.registry import FORMATS
from tests.formats.conversation import BOTH, QUESTIONS

from .crossings import STREAMS, what_the_client_reads


class TestErrors:
    @pytest.mark.parametrize("caller", BOTH)
    @pytest.mark.parametrize("vendor", BOTH)
    @pytest.mark.parametrize(
        ("status", "raised"),
        [(400, "BadRequestError"), (429, "RateLimitError")],
    )
    def test_the_callers_client_raises_its_own_error_class(
        self, caller: str, vendor: str, status: int, raised: str
    ) -> None:
        envelope = {"type": "error", "error": {"type": "invalid_request_error", "message": "Why."}}
        error = FORMATS[vendor].map_error(status, {}, json.dumps(envelope).encode())
        body = FORMATS[caller].write_error(error, "req-1")

        with pytest.raises(Exception, match="Why") as caught:
            what_the_client_reads(caller, body, stream=False, status=error.http_status)

        assert type(caught.value).__name__ == raised

    @pytest.mark.parametrize("caller", BOTH)
    @pytest.mark.parametrize("vendor", BOTH)
    def test_an_error_in_a_stream_reaches_the_callers_client(
        self, caller: str, vendor: str
    ) -> None:
        request = FORMATS[caller].read_request({**QUESTIONS[caller], "stream": True})
        parser = FORMATS[vendor].stream_parser()
        renderer = FORMATS[caller].stream_renderer(request)
        error = {"type": "error", "error": {"type": "api_error", "message": "Boom."}}
        started = STREAMS[vendor][:2000]
        started = started[: started.rindex(b"\n\n") + 2]
        stream = b"".join(renderer.render(frame) for frame in parser.feed(started))

        with pytest.raises(UpstreamError, match="Boom") as met:
            parser.feed(b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n")
        stream += renderer.error(met.value, "req-1")

        with pytest.raises(Exception, match="Boom") as caught:
            what_the_client_reads(caller, stream, stream=True)

        assert type(caught.value).__module__.split(".")[0] == caller.split("_")[0]

    @pytest.mark.parametrize("caller", BOTH)
    def test_an_invalid_field_is_named(self, caller: str) -> None:
        with pytest.raises(InvalidRequest) as met:
            FORMATS[caller].read_request({**QUESTIONS[caller], "temperature": "hot"})

        body = FORMATS[caller].write_error(met.value, "req-1")
        assert b"temperature" in body
