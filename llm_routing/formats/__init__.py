"""Wire formats, sans-IO. Nothing here opens a socket, reads a clock or knows Django.

Each format is a folder with the same file names: `wire_format`, `read_request`, `write_request`,
`response`, `read_stream`, `write_stream`, `errors`, and what is particular to the format. Modules
outside the folders are shared by all formats.

A new format (`openai_responses`, `gemini`, `bedrock_converse`, `cohere` …) needs:
1. a folder with a class that satisfies `base.CallerFormat`, `base.VendorFormat` or both;
2. its name in `names` and a row in `registry`;
3. for callers, its fields in `ignored_fields`, so that fields which other formats lack are named;
4. for vendors, a row in `llm_routing.vendors` whose quirks its `fit` module obeys;
5. its conversation in `tests/formats/conversation.py`, which is sent between all pairs of formats.
"""
