"""What a resident service and its peers say to each other: bytes in, messages out, and back. No I/O.

A *protocol* is declared once with the service (``protocol=Lines(max=4096)``) and keeps no state; each connection has a *parser*
of it. What a parser has read and not yet given as a message is ``pending``, plain bytes: a hand-over carries them to a parser of
the new code, which reads them again.
"""

from rocksyd.errors import ProtocolError as ProtocolError
from rocksyd.protocols.base import Parser as Parser
from rocksyd.protocols.base import Protocol as Protocol
from rocksyd.protocols.framed import Json as Json
from rocksyd.protocols.framed import LengthPrefixed as LengthPrefixed
from rocksyd.protocols.framed import Lines as Lines
from rocksyd.protocols.framed import Protobuf as Protobuf
from rocksyd.protocols.own import protocol_of as protocol_of
from rocksyd.protocols.websocket import WebSocket as WebSocket
