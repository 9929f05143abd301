"""Upstream addresses and base URLs that the gateway may use."""

from ipaddress import ip_network

import pytest

from llm_routing.core.addresses import address_problem, check_base_url

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize(
    "ip",
    [
        "1.1.1.1",
        "104.18.7.192",
        "2606:4700::6812:7c0",
        "::ffff:1.1.1.1",
        "2002:101:101::1",
        "64:ff9b::1.1.1.1",
    ],
)
def test_public_addresses_are_allowed(ip):
    assert not address_problem(ip, ())


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1",
        "127.255.255.254",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.127.255.254",
        "168.63.129.16",
        "::ffff:168.63.129.16",
        "0.0.0.0",
        "0.1.2.3",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:a9fe:a9fe",
        "::ffff:0:0",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:a9fe:a9fe::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
def test_an_address_that_is_not_public_is_rejected_unless_settings_allow_its_network(ip):
    assert address_problem(ip, ())
    assert address_problem(ip, (ip_network("9.9.9.9/32"), ip_network("2606:4700::/32")))


@pytest.mark.parametrize("ip", ["", "localhost", "127.1", "0x7f000001", "2130706433", "1.1.1.1 "])
def test_text_that_is_not_an_address_is_rejected(ip):
    assert address_problem(ip, (ip_network("0.0.0.0/0"), ip_network("::/0")))


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("127.0.0.1", "127.0.0.0/8"),
        ("::1", "::1/128"),
        ("10.9.8.7", "10.0.0.0/8"),
        ("fd00::1%eth0", "fd00::/8"),
        ("::ffff:127.0.0.1", "127.0.0.0/8"),
        ("64:ff9b::10.0.0.1", "10.0.0.0/8"),
        ("64:ff9b:1::1", "64:ff9b:1::/48"),
    ],
)
def test_a_network_in_the_settings_is_allowed(ip, network):
    assert not address_problem(ip, (ip_network("198.18.0.0/15"), ip_network(network)))


def test_a_public_address_needs_encryption_unless_settings_allow_its_network():
    assert "unencrypted" in address_problem("1.1.1.1", (), is_encrypted=False)
    assert not address_problem("1.1.1.1", (ip_network("1.1.1.0/24"),), is_encrypted=False)
    assert "not public" in address_problem("10.0.0.1", (), is_encrypted=False)


def test_allowing_the_form_of_an_embedded_address_does_not_allow_the_address():
    assert address_problem("::ffff:127.0.0.1", (ip_network("::ffff:0:0/96"),))
    assert address_problem("64:ff9b::127.0.0.1", (ip_network("64:ff9b::/96"),))


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "http://vllm:8000/v1",
        "https://my_server.example.com.",
        "https://xn--bcher-kva.example/v1",
        "https://1.1.1.1/v1",
        "https://[2606:4700::6812:7c0]:8443/v1",
        "https://example.com:",
    ],
)
def test_a_valid_base_url_is_accepted(url):
    check_base_url(url, ())


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("api.openai.com/v1", "must begin with https"),
        ("ftp://example.com", "must begin with https"),
        ("file:///etc/passwd", "must begin with https"),
        ("//example.com/v1", "must begin with https"),
        ("https:///v1", "must begin with https"),
        ("https://me:secret@example.com", "user name or a password"),
        ("https://@example.com", "user name or a password"),
        ("https://example.com/v1?key=secret", "without “\\?”"),
        ("https://example.com/v1?", "without “\\?”"),
        ("https://example.com/v1#top", "“#”"),
        ("https://example.com /v1", "space"),
        ("https://example.com\\@127.0.0.1", "backslash"),
        ("https://example.com\n", "space"),
        ("https://example.com\x7f", "space"),
        ("https://bücher.example", "non-ASCII"),
        ("https://example.com:0", "Port 0"),
        ("https://example.com:65536", "malformed"),
        ("https://example.com:http", "malformed"),
        ("https://[::1", "malformed"),
        ("https://:443/v1", "neither a name"),
        ("https://a..b", "neither a name"),
        ("https://-a.example", "neither a name"),
        ("https://" + "a" * 64 + ".example", "neither a name"),
        ("https://" + "a." * 130 + "example", "neither a name"),
        ("http://127.1", "neither a name"),
        ("http://0x7f.1", "neither a name"),
        ("http://0x7f000001", "neither a name"),
        ("http://2130706433", "neither a name"),
        ("http://127.0.0.1.", "neither a name"),
        ("http://127.0.0.1:11434/v1", "not public"),
        ("http://localhost:11434/v1", "not public"),
        ("http://LOCALHOST.:11434", "not public"),
        ("http://api.localhost", "not public"),
        ("http://[::ffff:127.0.0.1]/", "not public"),
        ("http://169.254.169.254/latest", "not public"),
        ("http://[fe80::1%25eth0]/", "not public"),
        ("http://168.63.129.16/", "not public"),
        ("https://168.63.129.16/", "not public"),
        ("http://1.1.1.1/v1", "unencrypted"),
    ],
)
def test_an_invalid_base_url_is_rejected_with_a_reason(url, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        check_base_url(url, ())
    assert "secret" not in str(caught.value)


def test_a_base_url_in_an_allowed_network_is_accepted():
    check_base_url("http://127.0.0.1:11434/v1", LOOPBACK)
    check_base_url("http://localhost:11434/v1", LOOPBACK)
    check_base_url("http://[::1]:11434/v1", LOOPBACK)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("127.0.0.1", "add 127.0.0.0/8 to the variable LLM_ALLOWED_UPSTREAM_NETWORKS"),
        ("::1", "add ::1/128 to the variable LLM_ALLOWED_UPSTREAM_NETWORKS"),
        ("10.1.2.3", "add its network to the variable LLM_ALLOWED_UPSTREAM_NETWORKS"),
    ],
)
def test_the_network_of_this_machine_is_named_as_the_setting_takes_it(
    address: str, network: str
) -> None:
    assert network in address_problem(address, ())
