"""Masks of addresses that may be somebody's: e-mail, and public IPv4.

Their places keep text of the same form, which is reserved for examples (RFC 2606 and
5737) and so is never masked again. Addresses of private networks and the like stay.
"""

import ipaddress
import re

EMAIL, IPV4 = "email@example.com", "192.0.2.1"
# Nobody's on the Internet: RFC 6890, and the groups of RFC 5771. The module ipaddress
# knows such networks too, but its list differs between versions of Python.
_RESERVED = [
  ipaddress.IPv4Network(network)
  for network in (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24"),
    *("192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4"),
  )
]
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# A name, and a domain whose last part begins with a letter, unlike a version "a@1.2.3".
_EMAIL = re.compile(
  rf"\b{_ATOM}(?:\.{_ATOM}){{0,8}}@(?:{_LABEL}\.){{1,8}}"
  r"[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])"
)
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
# Not a part of a longer number, name or version.
_IPV4 = re.compile(rf"(?<![\w.])(?:{_BYTE}\.){{3}}{_BYTE}(?!\.?\w)")


def masked(text: str) -> str:
  """Returns a text with EMAIL and IPV4 in place of addresses."""
  if "@" in text:
    text = _EMAIL.sub(EMAIL, text)
  return _IPV4.sub(_mask, text)


def _mask(match: re.Match) -> str:
  address = ipaddress.IPv4Address(match[0])
  return match[0] if any(address in network for network in _RESERVED) else IPV4
