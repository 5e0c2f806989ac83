"""What a client needs to know of the network around it: proxies of the environment, and certificates to trust.

No sentence of this module repeats a proxy's URL, which may hold a password.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from moe_segments.errors import InputError

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

__all__ = ["is_loopback", "problem_of_ca_file", "problem_of_proxy", "proxy_for", "tls_context"]

_SCHEMES: Final = ("http", "https")


def is_loopback(host: str | None) -> bool:
    """Return whether a host, as written in a URL, is this machine."""
    if host is None or host.lower() == "localhost":
        return host is not None
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def problem_of_proxy(url: object) -> str | None:
    """Return what is wrong with a proxy's URL, or None."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        fits = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    return None if fits else "must be a URL, such as http://proxy.example.com:3128"


def proxy_for(url: str, proxy: str | None, *, trust_env: bool) -> str | None:
    """Return the proxy to reach *url* through; None for none.

    Args:
        url: What is to be reached.
        proxy: The proxy that was configured, which goes before the environment's.
        trust_env: Whether the environment is asked. It is not for this machine: a request would leave it in clear.

    Raises:
        InputError: The environment's variable holds no URL of an HTTP proxy.
    """
    parts = urlsplit(url)
    if proxy is not None or not trust_env or is_loopback(parts.hostname):
        return proxy
    from urllib.request import getproxies, proxy_bypass  # 20 ms, for those who ask for it

    proxies = getproxies()
    name = next((name for name in (parts.scheme, "all") if proxies.get(name)), None)
    if name is None or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    found = proxies[name] if "://" in proxies[name] else f"http://{proxies[name]}"
    if problem := problem_of_proxy(found):
        raise InputError(f"{problem}; or leave trust_env out", f"{name.upper()}_PROXY")
    return found


def problem_of_ca_file(path: object) -> str | None:
    """Return what is wrong with a file of certificates, or None."""
    import ssl

    try:
        ssl.create_default_context(cafile=str(path))
    except ssl.SSLError:
        return f"{path} holds no certificates; it must be a PEM file, with BEGIN CERTIFICATE in it"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}"
    return None


def tls_context(ca_file: Path | None) -> ssl.SSLContext | None:
    """Return a context that trusts *ca_file* beside the system's authorities; None where no file is given."""
    if ca_file is None:
        return None
    import ssl  # the core needs it for a file alone; aiohttp has its own for the rest

    context = ssl.create_default_context()
    context.load_verify_locations(cafile=ca_file)
    return context
