"""Durations, sizes, instants and addresses: what is read, what is refused, what is printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logflume import units


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("0s", 0), ("250ms", 250), ("30s", 30_000), ("10m", 600_000), ("1 h", 3_600_000), ("7d", 604_800_000)],
)
def test_durations_are_read(text: str, milliseconds: int) -> None:
    assert units.parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("7B", 7),
        ("1KB", 1_000),
        ("1KiB", 1_024),
        ("128MiB", 134_217_728),
        ("2GB", 2 * 10**9),
        ("1GiB", 1 << 30),
    ],
)
def test_sizes_are_read(text: str, size_bytes: int) -> None:
    assert units.parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "10", "m", "-1m", "1.5h", "1H", "1M", "10 min", "1m ", "٣m", "1m\n"])
def test_durations_without_a_known_unit_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="one of ms, s, m, h, d"):
        units.parse_duration(text)


@pytest.mark.parametrize("text", ["", "10", "10mb", "10m", "1kib", "1TiB", "-1B"])
def test_sizes_without_a_known_unit_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="one of B, KB, KiB, MB, MiB, GB, GiB"):
        units.parse_size(text)


@given(st.integers(0, 10**17))
def test_a_printed_duration_or_size_is_read_back_as_the_same(number: int) -> None:
    assert units.parse_duration(units.show_duration(number)) == number
    assert units.parse_size(units.show_size(number)) == number


@given(st.integers(0, 253_402_300_799_999))
def test_a_printed_instant_is_read_back_as_the_same(milliseconds: int) -> None:
    assert units.parse_instant(units.show_instant(milliseconds)) == milliseconds


@pytest.mark.parametrize("text", ["", "2000", "2000-13-01", "2000-01-01T00:00:00", "1969-12-31", "now"])
def test_instants_without_zone_or_before_1970_are_refused(text: str) -> None:
    """D4."""
    with pytest.raises(ValueError, match="zone"):
        units.parse_instant(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:9470", ("127.0.0.1", 9470)), ("[::1]:0", ("::1", 0)), ("localhost:80", ("localhost", 80))],
)
def test_addresses_are_read(text: str, address: tuple[str, int]) -> None:
    assert units.parse_host_port(text) == address


@pytest.mark.parametrize("text", ["", "localhost", ":80", "a:b", "h:65536", "h:-1", "http://h:80", "::1:80"])
def test_addresses_without_host_or_port_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        units.parse_host_port(text)


def test_addresses_of_a_namenode_and_its_standby_are_joined_by_semicolons() -> None:
    assert units.http_addresses("http://nn1:9870/;https://nn2:9871") == "http://nn1:9870;https://nn2:9871"
    for text in ("nn1:9870", "http://nn1:9870/webhdfs", "http://joe:pw@nn1:9870", "http://a:1,http://b:1"):
        with pytest.raises(ValueError, match="http://host:port"):
            units.http_addresses(text)
