"""What an engine sees of a load, by layers and at the end."""

import threading

import pytest

from p2p.backend.loading import Loading, LoadReport
from p2p.errors import ArgumentError, DeviceError


def test_layers_come_one_after_the_other():
    loading = Loading(3)
    assert loading.poll() is None
    assert loading.wait_fetched(0) is None
    loading.fetched(5)
    assert loading.wait_fetched(0) == 5
    assert not loading.wait_layer(0, 0)
    loading.layer_written()
    assert loading.wait_layer(0, 0)
    assert not loading.wait_layer(1, 0.01)
    assert loading.poll() is None
    report = LoadReport(5, 0)
    loading.done(report)
    assert loading.wait_layer(2, 0)
    assert loading.wait(0) is report


def test_who_waits_is_woken():
    loading = Loading(1)
    thread = threading.Thread(target=loading.done, args=(LoadReport(1, 0),))
    thread.start()
    assert loading.wait(30) is not None
    thread.join()


def test_what_failed_is_raised_by_every_question():
    loading = Loading(2)
    loading.fetched(1)
    loading.layer_written()
    loading.failed(DeviceError("the device is lost"))
    questions = (
        loading.poll,
        lambda: loading.wait(0),
        lambda: loading.wait_fetched(0),
        lambda: loading.wait_layer(0, 0),
    )
    for question in questions:
        with pytest.raises(DeviceError, match="is lost"):
            question()


@pytest.mark.parametrize("layer", [-1, 2])
def test_a_layer_that_is_not_there_is_named(layer):
    with pytest.raises(ArgumentError, match=f"layer = {layer}: the cache has 2 layers"):
        Loading(2).wait_layer(layer, 0)
