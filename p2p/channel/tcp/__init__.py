"""The `tcp` channel: for every network without RDMA, straight out of and into pool memory.

A reader asks for byte ranges of a holder's blocks over parallel streams; the holder's threads send
them, the reader's receive them where they belong. Both ends prove themselves before the first byte.
"""

from p2p.channel.access import Access
from p2p.channel.tcp.channel import TCP, TcpChannel
from p2p.channel.tcp.settings import TcpConfig, TlsFiles, tls_files_in

__all__ = ["TCP", "Access", "TcpChannel", "TcpConfig", "TlsFiles", "tls_files_in"]
