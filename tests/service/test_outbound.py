"""Tricky addresses against an allow-list: what is allowed is what is meant, nothing else."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from service.settings import Settings
from service.settings.outbound import Address, AllowList, HubNames, parse_address

ALLOWED = AllowList(
    ["judge.example", "local.example:8000", "https://api.example/v1", "http://[::1]:9", "10.0.0.5"]
)


@pytest.mark.parametrize(
    "url",
    [
        "https://judge.example",
        "http://judge.example/any/path",
        "HTTPS://JUDGE.EXAMPLE./v1",
        "https://judge.example:443/",
        "http://local.example:8000/v1",
        "https://api.example/v1",
        "https://api.example:443/v1/",
        "https://api.example/v1/chat",
        "http://[0:0::1]:9/v1",
        "http://10.0.0.5/v1",
        "http://[::ffff:10.0.0.5]/v1",  # the same machine
    ],
)
def test_allowed(url: str) -> None:
    assert ALLOWED.covers(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://judge.example.evil.example",
        "https://evil-judge.example",
        "https://sub.judge.example",
        "https://judge.example:444",
        "http://local.example",
        "https://api.example/v10",
        "https://api.example/v2",
        "https://api.example",
        "http://api.example/v1",
        "http://[::1]/",
        "http://[::2]:9/",
        "http://127.0.0.1",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.50",
        "https://xn--judg-epa.example",
    ],
)
def test_not_allowed(url: str) -> None:
    assert not ALLOWED.covers(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "judge.example",
        "//judge.example",
        "https:judge.example",
        "https:/judge.example",
        "https:///judge.example",
        "file:///etc/passwd",
        "ftp://judge.example",
        "gopher://judge.example",
        "javascript:alert(1)",
        "https://judge.example@evil.example",
        "https://user:password@judge.example",
        "https://@judge.example",
        "https://evil.example#@judge.example",
        "https://evil.example?@judge.example",
        "https://judge.example?x",
        "https://judge.example#x",
        "https://evil.example\\@judge.example",
        "https://judge.example\\.evil.example",
        "https://judge.example\t.evil.example",
        "https://judge.example\n",
        " https://judge.example",
        "https://judge.example /",
        "https://judge.example\x00.evil.example",
        "https://judge。example",
        "https://ⓙudge.example",
        "https://judge%2eexample",
        "https://judge.example%00.evil.example",
        "https://judge.example..",
        "https://.judge.example",
        "https://judge..example",
        "https://-judge.example",
        "https://judge.example:",
        "https://judge.example:0",
        "https://judge.example:70000",
        "https://judge.example:44a",
        "https://api.example/v1/../v2",
        "https://api.example/v1/%2e%2e/v2",
        "https://api.example/v1/./x",
        "https://api.example/v1//x",
        "https://api.example/v1;x",
        "http://2130706433",
        "http://017700000001",
        "http://0x7f000001",
        "http://0x7f.0.0.1",
        "http://0177.0.0.1",
        "http://127.1",
        "http://10.0.0.05",
        "http://256.0.0.1",
        "http://1.2.3.4.5",
        "http://[::1",
        "http://::1/",
        "http://[fe80::1%25eth0]/",
        "http://[::1].evil.example/",
        "http://[127.0.0.1]/",
        "http://[v7.abc]/",
        "https://" + "a" * 64 + ".example",
        "https://" + "a." * 130 + "example",
    ],
)
def test_no_plain_address(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        ALLOWED.covers(url)


def test_one_form_for_each_address() -> None:
    assert parse_address("HTTP://Judge.Example.:80/v1/") == Address(
        "http", "judge.example", 80, "/v1"
    )
    assert parse_address("http://127.0.0.1.").host == "127.0.0.1"
    assert parse_address("https://[2001:DB8:0::0:1]").host == "2001:db8::1"


@pytest.mark.parametrize("entry", ["", "*", "a/b", "user@host", "ftp://host", "host:x", "a b"])
def test_entries_that_are_none(entry: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        AllowList([entry])


def test_names_of_the_hub() -> None:
    names = HubNames(["Owner/Model", "team/*", "gpt2"])
    assert names.cover("owner/model")
    assert names.cover("TEAM/anything")
    assert names.cover("gpt2")
    for other in ("owner/model2", "owner", "team", "teams/x", "gpt2/x", "x/gpt2", ""):
        assert not names.cover(other)
    assert HubNames(["*"]).cover("anything/at-all")
    assert not HubNames([]).cover("anything/at-all")
    for bad in ("a/b/c", "/a", "a/", "https://hub.example/a", "a b", "../a"):
        with pytest.raises(ValueError, match="no repository"):
            HubNames([bad])


def test_settings_say_which_entry_is_wrong() -> None:
    with pytest.raises(ValidationError, match="no repository"):
        Settings(hub="fine/one, a/b/c")
    assert Settings(hub="fine/one, two/*").hub_names == ["fine/one", "two/*"]
    assert Settings(require_keys=True).hub_names == []
    assert Settings(require_keys=False).hub_names == ["*"]
