"""A holder's bandwidth, shared between readers."""

from p2p.channel.tcp.share import BandwidthShare

RATE = 10_000_000


def sent_until(share: BandwidthShare, readers: dict[bytes, int], end_s: float) -> dict[bytes, int]:
    """Lets every reader take as fast as it may, over so many streams; returns their bytes."""
    piece = share.piece_bytes
    free_s = {(name, stream): 0.0 for name, num in readers.items() for stream in range(num)}
    sent = dict.fromkeys(readers, 0)
    while min(free_s.values()) < end_s:
        key = min(free_s, key=free_s.__getitem__)
        now_s = free_s[key]
        delay_s = share.delay_s(key[0], piece, now_s)
        free_s[key] = now_s + max(delay_s, 1e-4)
        if free_s[key] < end_s:
            sent[key[0]] += piece
    return sent


def test_without_a_limit_nobody_waits():
    share = BandwidthShare(0)
    assert all(share.delay_s(b"a", 1 << 20, 0.0) == 0.0 for _ in range(100))
    assert share.piece_bytes == 0


def test_one_reader_gets_all_of_it():
    sent = sent_until(BandwidthShare(RATE), {b"a": 2}, 5.0)
    assert 0.95 < sent[b"a"] / (5 * RATE) < 1.05


def test_readers_get_equal_parts_however_many_streams_they_have():
    sent = sent_until(BandwidthShare(RATE), {b"a": 1, b"b": 8, b"c": 2}, 5.0)
    assert 0.9 < sum(sent.values()) / (5 * RATE) < 1.05
    for num_bytes in sent.values():
        assert 0.9 < num_bytes / (5 * RATE / 3) < 1.1


def test_who_has_stopped_leaves_its_part_to_the_others():
    share = BandwidthShare(RATE)
    sent_until(share, {b"a": 1, b"b": 1}, 1.0)
    start_s = 1.0
    before = share.delay_s(b"a", share.piece_bytes, start_s + 1.0)
    assert before == 0.0
    second = share.delay_s(b"a", RATE // 10, start_s + 1.0)
    third = share.delay_s(b"a", RATE // 10, start_s + 1.0)
    assert 0.09 < third - second < 0.11
