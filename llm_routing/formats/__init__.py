"""Wire formats, sans-IO. Nothing here opens a socket, reads a clock or knows Django.

Each format is a folder with the same file names: `wire_format`, `read_request`, `write_request`,
`response`, `read_stream`, `write_stream`, `errors`, and what is particular to the format. Modules
outside the folders are shared by all formats.

A new format (`openai_responses`, `gemini`, `bedrock_converse`, `cohere` …) needs:
1. a folder with a class that satisfies `base.CallerFormat`, `base.VendorFormat` or both;
2. its name in `names` and a row in `registry`;
3. for callers, the fields that it reads in `ignored_fields`, so that the others are named when they
   are left out, and an endpoint in `llm_routing.api` with its error envelope in `api.errors`;
4. for vendors, a row in `llm_routing.vendors` whose quirks its `fit` module obeys; if its list of
   models differs from OpenAI's and Anthropic's, a reader in `llm_routing.discovery.lists`;
5. its question in `tests/formats/conversation.py`, which is sent between all pairs of formats.
"""
