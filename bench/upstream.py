"""The upstream servers: nginx with fixed completions, and a paced SSE server for streams."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from project.processes import free_port

from .processes import LOAD_CORE, CannotStart, environment, running

# Bytes of the answers below the path of this name, `/100k/v1/chat/completions`; `/v1` is short.
SIZES = {"1k": 1_000, "100k": 100_000, "5m": 5_000_000}
GREETING = "Hello! How can I help you today?"

_CONFIG = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/nginx.error.log warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    client_max_body_size 64m;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    sendfile on;
    tcp_nopush on;
    open_file_cache max=16;
    default_type application/json;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {directory}/www;
        location / {{ return 200 '{answer}'; }}
        location ~ ^/(1k|100k|5m)/ {{
            error_page 405 =200 /$1.json;  # files are for GET alone
            try_files /$1.json =404;
        }}
        location ~ ^/[^/]*[.]json$ {{ error_page 405 =200 $uri; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Addresses without a slash at the end and without `/v1`."""

    plain: str
    stream: str


def completion(content: str) -> str:
    """An answer as OpenAI sends it."""
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    body = {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "bench",
        "choices": [choice],
        "usage": {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29},
    }
    return json.dumps(body, separators=(",", ":"))


@contextmanager
def upstream(directory: Path) -> Iterator[Upstream]:
    """Both servers, on the core of the load. Raises CannotStart."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if nginx is None:
        raise CannotStart("nginx is not installed: sudo apt-get install nginx-light")
    www = directory / "www"
    www.mkdir()
    directory.chmod(0o755)  # nginx's worker is not root
    for name, size in SIZES.items():
        words = "Hello there. " * (size // 13 + 1)
        (www / f"{name}.json").write_text(completion(words[: size - len(completion(""))]))
    port = free_port()
    config = directory / "nginx.conf"
    config.write_text(_CONFIG.format(directory=directory, port=port, answer=completion(GREETING)))
    paced_port = free_port()
    plain = f"http://127.0.0.1:{port}"
    stream = f"http://127.0.0.1:{paced_port}"
    with (
        running(
            [nginx, "-c", str(config), "-e", str(directory / "nginx.error.log")],
            core=LOAD_CORE,
            env=environment(),
            log=directory / "nginx.log",
            ready=lambda: httpx.Request("GET", plain),
        ),
        running(
            [sys.executable, "-m", "bench.paced", str(paced_port)],
            core=LOAD_CORE,
            env=environment(),
            log=directory / "paced.log",
            ready=lambda: httpx.Request("POST", stream, content="frames=1 every=0ms"),
        ),
    ):
        yield Upstream(plain, stream)
