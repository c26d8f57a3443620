"""The four closed sets of messages that the two kinds of ends take. No I/O."""

from p2p.wire.codec import BodyDecoder
from p2p.wire.messages import ControllerReply, ControllerRequest, PeerCall, PeerReply

CONTROLLER_REQUESTS: BodyDecoder[ControllerRequest] = BodyDecoder(ControllerRequest)
CONTROLLER_REPLIES: BodyDecoder[ControllerReply] = BodyDecoder(ControllerReply)
PEER_REQUESTS: BodyDecoder[PeerCall] = BodyDecoder(PeerCall)
PEER_REPLIES: BodyDecoder[PeerReply] = BodyDecoder(PeerReply)
