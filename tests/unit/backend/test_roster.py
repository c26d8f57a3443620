"""The members that the controller lists, and who left since."""

from p2p.backend.roster import Gone, Roster
from p2p.wire.messages import FeedStatus, PeerList
from tests.unit.backend.builders import holder


def _list(version, *peers, epoch=1):
    return PeerList(epoch=epoch, version=version, peers=peers)


def _status(peers, epoch=1):
    return FeedStatus(epoch=epoch, acked_seq=0, peers=peers)


def _names(roster, now_s=0.0):
    return [peer.instance for peer in roster.known(now_s)]


def test_a_list_is_known_until_it_is_too_old():
    roster = Roster(age_s=10.0, retry_s=1.0)
    assert _names(roster) == []
    roster.take(_list(1, holder("a"), holder("b")), 0.0)
    assert _names(roster, 10.0) == ["a", "b"]
    assert _names(roster, 10.1) == []
    assert roster.find("b", 10.0) == holder("b")
    assert roster.find("c", 10.0) is None


def test_a_sign_of_life_confirms_the_list():
    roster = Roster(age_s=10.0, retry_s=1.0)
    roster.take(_list(1, holder("a")), 0.0)
    roster.on_status(_status(1), 8.0)
    assert _names(roster, 18.0) == ["a"]


def test_it_is_asked_for_when_it_changed_and_again_after_silence():
    roster = Roster(age_s=10.0, retry_s=1.0)
    assert not roster.ask(0.0)
    roster.on_status(_status(2), 0.0)
    assert [roster.ask(0.0), roster.ask(0.9), roster.ask(1.0)] == [True, False, True]
    roster.take(_list(2, holder("a")), 1.1)
    assert not roster.ask(5.0)


def test_who_is_not_listed_any_more_is_gone():
    roster = Roster(age_s=10.0, retry_s=1.0)
    roster.take(_list(1, holder("a"), holder("b", 5), holder("c", 7)), 0.0)
    roster.take(_list(2, holder("a"), holder("c", 8)), 1.0)
    assert sorted(roster.take_gone(), key=lambda gone: gone.instance) == [
        Gone("b", 5, is_restarted=False),
        Gone("c", 7, is_restarted=True),
    ]
    assert roster.take_gone() == []


def test_an_older_list_changes_nothing():
    roster = Roster(age_s=10.0, retry_s=1.0)
    roster.take(_list(2, holder("a"), holder("b")), 0.0)
    roster.take(_list(1, holder("a")), 1.0)
    assert _names(roster) == ["a", "b"]
    assert roster.take_gone() == []


def test_a_new_controller_says_nothing_about_who_left():
    roster = Roster(age_s=10.0, retry_s=1.0)
    roster.take(_list(9, holder("a"), holder("b")), 0.0)
    roster.take(_list(1, holder("a"), epoch=2), 1.0)
    assert _names(roster, 1.0) == ["a"]
    assert roster.take_gone() == []
