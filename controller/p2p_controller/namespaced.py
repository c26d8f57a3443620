"""Everything that the controller knows of one namespace. No I/O, no clock."""

from p2p.group import Group
from p2p_controller.changelog import ChangeLog
from p2p_controller.copies import Copies
from p2p_controller.members import Member


class Namespaced(Group[Member]):
    """Members, their directory, and what mirrors of it are told.

    Attributes:
        log: changes for those who follow.
        copies: of members' entries, for those who begin to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log = ChangeLog()
        self.copies = Copies(self.directory)
