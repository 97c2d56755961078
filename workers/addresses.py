"""Which addresses of the network may be asked for something that a stranger named: public ones, in every disguise."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from stenopool.config import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: IPv6 that is routed at all (RFC 4291). Outside of it lie this host, links and sites, groups, prefixes of a network's
#: own translators, and IPv4 in IPv6 as it was written once.
_ROUTED = ipaddress.IPv6Network("2000::/3")
#: The one translator's prefix that is everybody's (RFC 6052).
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
#: What clouds tell a machine of itself, passwords included, wherever it is: of Amazon, Google and Azure, of Amazon in
#: IPv6, Alibaba, Oracle, and Azure's host, whose address is a public one.
METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
    )
)


def may_ask(address: Address, allowed: Collection[Network] = ()) -> bool:
    """Whether an address is anybody's on the internet: not of this host, this network, a group, or none at all.

    An IPv6 address that carries an IPv4 one (mapped, 6to4, Teredo, NAT64) is judged by that as well.

    Args:
        allowed: networks of the operator's own that may be asked, too; what a cloud tells a machine never is.
    """
    parts = (address, *_carried(address))
    return not METADATA.intersection(parts) and all(
        _is_public(one) or any(one in network for network in allowed) for one in parts
    )


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None or address in _TRANSLATED:
            return True  # by what it carries
        if address not in _ROUTED:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _carried(address: Address) -> list[ipaddress.IPv4Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _TRANSLATED:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return [one for one in found if one is not None]
