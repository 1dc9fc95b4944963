"""May we call this address? One policy for every outbound request, applied at connect time.

The name is resolved once, every answer is judged, and the judged address is dialled, so a name that later resolves
inward (DNS rebinding) or a redirect to a metadata service gets nowhere. TLS is still verified for the name.
"""

import asyncio
import ipaddress
import socket

import httpx

RESOLVE_TIMEOUT_SECONDS = 5.0


class EgressBlocked(httpx.ConnectError):
    """The host resolves to an address this service does not call."""


def is_allowed(address: str, *, allow_private: bool) -> bool:
    """Whether ``address`` may be dialled: global unicast always, loopback and private only where allowed.

    Link-local (cloud metadata), multicast and unspecified addresses are never allowed.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip.sixtofour or ip
    if ip.is_multicast or ip.is_unspecified or ip.is_link_local or ip.is_reserved:
        return False
    return ip.is_global or (allow_private and (ip.is_loopback or ip.is_private))


class PinnedTransport(httpx.AsyncHTTPTransport):
    """An httpx transport that dials only judged addresses. Raises :class:`EgressBlocked` for the others."""

    def __init__(self, *, allow_private: bool, limits: httpx.Limits, verify: bool = True) -> None:
        super().__init__(limits=limits, verify=verify)
        self._allow_private = allow_private

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Resolve, judge, pin and send."""
        host = request.url.host
        addresses = await _resolve(host, request.url.port or (443 if request.url.scheme == "https" else 80), request)
        if not all(is_allowed(address, allow_private=self._allow_private) for address in addresses):
            raise EgressBlocked(f"{host} resolves to an address that this service does not call", request=request)
        if addresses[0] != host:
            request.extensions = {**request.extensions, "sni_hostname": host}
            request.url = request.url.copy_with(host=addresses[0])
        return await super().handle_async_request(request)


async def _resolve(host: str, port: int, request: httpx.Request) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise httpx.ConnectTimeout(f"the name {host} takes too long to resolve", request=request) from error
    except OSError as error:
        raise httpx.ConnectError(f"the name {host} does not resolve", request=request) from error
    return [str(entry[4][0]) for entry in found]
