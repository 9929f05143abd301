"""URLs that a provider may be asked to fetch, in every spelling."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_routing.core.addresses import address_problem
from llm_routing.core.content_addresses import content_url_problem


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.png",
        "http://example.com:8080/a.png?b=c#d",
        "HTTPS://EXAMPLE.COM/a.png",
        "https://example.com./a",
        "https://xn--bcher-kva.example/ä.png",
        "https://1.1.1.1/a.png",
        "https://[2606:4700::1111]/a.png",
        "https://3com.example/",
        "https://localhost.example.com/",
        "data:image/png;base64,AAAA",
        "DATA:application/pdf;base64," + "A" * 20_000,
    ],
)
def test_public_urls_and_data_urls_are_allowed(url: str) -> None:
    assert content_url_problem(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "ftp://example.com/a",
        "gopher://example.com/",
        "gs://bucket/a",
        "//example.com/a",
        "/etc/passwd",
        "example.com/a",
        "",
        "http://",
        "http:///a",
        "http:127.0.0.1/",
        "http://localhost/a",
        "http://LOCALHOST./a",
        "http://a.localhost/",
        "http://printer.local/",
        "http://metadata.google.internal/",
        "http://redis:6379/",
        "http://db.default.svc/",
        "http://db.default.svc.cluster.local/",
        "http://127.0.0.1/",
        "http://127.0.0.1./",
        "http://127.1/",
        "http://127.0.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://017700000001/",
        "http://0/",
        "http://0.0.0.0/",
        "http://10.0.0.1/",
        "http://172.16.0.1/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://168.63.129.16/",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[fe80::1]/",
        "http://[fe80::1%25eth0]/",
        "http://[fc00::1]/",
        "http://[::1",
        "http://１２７.0.0.1/",
        "http://ｌocalhost/",
        "http://127。0。0。1/",
        "http://127%2e0%2e0%2e1/",
        "http://user@127.0.0.1/",
        "http://example.com@127.0.0.1/",
        "http://example.com\\@127.0.0.1/",
        "http://exa\tmple.com/",
        " http://example.com/",
        "http://example.com/a b",
        "http://example.com/\n",
        "https://example.com/" + "a" * 9000,
    ],
)
def test_all_other_urls_are_rejected(url: str) -> None:
    assert content_url_problem(url)


@given(st.ip_addresses())
def test_addresses_are_judged_by_the_rules_for_upstream_addresses(
    ip: IPv4Address | IPv6Address,
) -> None:
    host = f"[{ip}]" if ip.version == 6 else str(ip)
    is_fetched = content_url_problem(f"http://{host}:80/a") == ""
    assert is_fetched is (address_problem(str(ip), ()) == "")


@given(st.text(max_size=300))
def test_no_text_raises_an_exception(text: str) -> None:
    content_url_problem(text)
    content_url_problem(f"http://{text}/")
