"""Files of users as they really are, and clean: no rule may find anything in them, except that characters are special.

Each maker takes a chance and a number of rows and gives different values.
"""

from __future__ import annotations

import base64
import string
import uuid
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

__all__ = ["MAKERS", "values_of"]

FIRST: Final = (
    "Anna",
    "Zoë",
    "José",
    "Søren",
    "Łukasz",
    "Nguyễn",
    "Müller",
    "Aïcha",
    "Óscar",
    "Ivan",
    "किरण",
    "渡辺",
    "فاطمة",
)
LAST: Final = ("Núñez", "O'Brien", "Smith-Jones", "Dvořák", "Çelik", "Þórsdóttir", "Patel", "Lefèvre", "Strauß", "Kim")
HOSTS: Final = ("example.com", "mail.example.org", "firm.co.uk", "posta.example.it")
CALLING: Final = ("+91", "+1", "+44", "+4917", "+351", "+971")
BASE62: Final = string.ascii_letters + string.digits


def _numbered(chance: random.Random) -> Iterator[str]:
    begin = chance.choice((1, 7, 90, 98, 995, 999, 1_000, 9_980, 9_998, 99_999, 123_456, 9_999_990))
    yield from (str(begin + number) for number in range(10**9))


def _endless(make: Callable[[random.Random], str]) -> Callable[[random.Random], Iterator[str]]:
    def values(chance: random.Random) -> Iterator[str]:
        while True:
            yield make(chance)

    return values


def _email(chance: random.Random) -> str:
    name = f"{chance.choice(('anna', 'joe.smith', 'k_patel', 'li-wei', 'maria+news'))}{chance.randrange(100_000)}"
    return f"{name}@{chance.choice(HOSTS)}"


def _name(chance: random.Random) -> str:
    return f"{chance.choice(FIRST)} {chance.choice(LAST)} {chance.choice(FIRST)} {chance.choice(LAST)}"


def _code(chance: random.Random) -> str:
    return f"{chance.choice(('C', 'CUST-', 'de_', 'vip.', 'B2B-'))}{chance.randrange(10 ** chance.randint(1, 7))}"


MAKERS: Final[dict[str, Callable[[random.Random], Iterator[str]]]] = {
    "numbers counted up": _numbered,
    "numbers drawn": _endless(lambda chance: str(chance.randrange(10**9))),
    "numbers of ten digits": _endless(lambda chance: str(chance.randrange(10**9, 10**10))),
    "numbers with leading zeros": _endless(lambda chance: f"{chance.randrange(10**10):010}"),
    "large numbers": _endless(lambda chance: str(chance.getrandbits(64))),
    "uuids": _endless(lambda chance: str(uuid.UUID(int=chance.getrandbits(128)))),
    "uuids in capitals": _endless(lambda chance: str(uuid.UUID(int=chance.getrandbits(128))).upper()),
    "uuids without dashes": _endless(lambda chance: f"{chance.getrandbits(128):032x}"),
    "hexadecimal": _endless(lambda chance: f"{chance.getrandbits(64):016x}"),
    "hexadecimal numbers": _endless(lambda chance: f"{chance.getrandbits(48):x}"),
    "object ids": _endless(lambda chance: f"65a{chance.getrandbits(84):021x}"),
    "e-mails": _endless(_email),
    "phone numbers": _endless(lambda chance: f"{chance.choice(CALLING)}{chance.randrange(10**8, 10**9)}"),
    "phone numbers of one country": _endless(lambda chance: f"+91{chance.randrange(6 * 10**9, 10**10)}"),
    "phone numbers with blanks": _endless(lambda chance: f"+91 {chance.randrange(10**5)} {chance.randrange(10**5)}"),
    "customer codes": _endless(_code),
    "customer codes counted up": lambda chance: (f"C{number}" for number in _numbered(chance)),
    "names": _endless(_name),
    "base62": _endless(lambda chance: "".join(chance.choices(BASE62, k=22))),
    "short base62": _endless(lambda chance: "".join(chance.choices(BASE62, k=8))),
    "coupon codes": _endless(lambda chance: "".join(chance.choices(string.ascii_uppercase + string.digits, k=10))),
    "base64 for urls": _endless(lambda chance: base64.urlsafe_b64encode(chance.randbytes(15)).decode()),
    "ulids": _endless(lambda chance: f"01H{''.join(chance.choices('0123456789ABCDEFGHJKMNPQRSTVWXYZ', k=23))}"),
    "realms": _endless(lambda chance: f"{chance.choice(('auth0', 'google-oauth2'))}|{chance.getrandbits(96):024x}"),
    "namespaces": _endless(lambda chance: f"cust:{chance.randrange(10**8)}"),
    "versions": _endless(lambda chance: ".".join(str(chance.randrange(1, 90)) for _ in range(4))),
}


def values_of(maker: str, chance: random.Random, number: int) -> list[str]:
    """So many different values."""
    values: dict[str, None] = {}
    for value in MAKERS[maker](chance):
        values[value] = None
        if len(values) == number:
            break
    return list(values)
