"""How MPICH reaches the other ranks from within a restricted pod, in one place."""

from __future__ import annotations

import fcntl
import socket
import struct

_SIOCGIFADDR = 0x8915


def mpi_environment(*, address: str) -> dict[str, str]:
    """Return MPICH's settings for a rank whose worker met the others by this own address."""
    interface = interface_of(address)
    return {
        # Of the two ways that the wheel is built with: the other opens a listener per network device, picks among
        # them by speed, and wants shared memory between processes that it takes for neighbours.
        "MPIR_CVAR_CH4_NETMOD": "ofi",
        # Plain TCP: no devices, no memory registration, nothing that a pod without capabilities can't have.
        "FI_PROVIDER": "tcp",
        # The network on which the ranks have met, and no other: a laptop's ranks stay on its loopback device.
        **({} if interface is None else {"FI_TCP_IFACE": interface}),
    }


def interface_of(address: str) -> str | None:
    """Return the name of the network device with this IPv4 address; None when none has it."""
    if address.startswith("127."):
        return "lo"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asking, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                # A device without such an address.
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None
