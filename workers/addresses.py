"""Which addresses of the network may be asked for something that a stranger named: public ones, in every disguise."""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: IPv6 that stands for an IPv4 address, as a gateway would translate it: RFC 6052, and its local-use prefix, RFC 8215.
_TRANSLATED = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
#: What the standard library calls global, though it is for hosts of the same site or network only: deprecated
#: site-local addresses, and IPv4 in IPv6 as RFC 4291 first had it.
_LOCAL = (ipaddress.IPv6Network("fec0::/10"), ipaddress.IPv6Network("::/96"))


def is_public(address: Address) -> bool:
    """Whether an address is anybody's on the internet: not of this host, this network, a group, or none at all.

    An IPv6 address that carries an IPv4 one (mapped, 6to4, Teredo, NAT64) is judged by that as well.
    """
    return all(_is_public(one) for one in (address, *_carried(address)))


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return True  # by what it carries
        if any(address in network for network in (*_LOCAL, _TRANSLATED[1])):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _carried(address: Address) -> list[ipaddress.IPv4Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _TRANSLATED[0]:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return [one for one in found if one is not None]
