import pytest

from p2p.agent.nixl_config import NixlConfig
from p2p.channel import ChannelSettings, channel_names, open_channel
from p2p.errors import ConfigError
from p2p.regions import Region, Segment

REGION = Region((Segment(4096, 64, 64),), 2)


def test_an_unknown_channel_is_a_config_error_that_lists_the_known():
    with pytest.raises(ConfigError, match="nixl") as caught:
        open_channel("pigeon", REGION, ChannelSettings())
    assert (caught.value.key, caught.value.value) == ("channel", "pigeon")


def test_nixl_is_known_and_its_settings_reach_ucx():
    assert "nixl" in channel_names()
    config = NixlConfig(transports=("tcp", "cma"), net_devices=("eth0",), num_threads=2)
    options = config.ucx_options()
    assert options["TLS"] == "tcp,cma"
    assert options["NET_DEVICES"] == "eth0"
    assert options["TCP_USER_TIMEOUT"] == "5s"
    assert config.plugin_options() == {"split_batch_size": "1024", "num_threads": "2"}


def test_transports_are_forced_or_excluded_by_name():
    assert NixlConfig(transports=("^cma", "^tcp")).ucx_options()["TLS"] == "^cma,tcp"
    assert "TLS" not in NixlConfig().ucx_options()


@pytest.mark.parametrize(
    ("transports", "value"), [(("smoke",), "smoke"), (("^cma", "tcp"), "^cma,tcp"), (("",), "")]
)
def test_transports_that_ucx_would_ignore_are_refused_by_value(transports, value):
    with pytest.raises(ConfigError) as caught:
        NixlConfig(transports=transports)
    assert (caught.value.key, caught.value.value) == ("nixl.transports", value)


def test_other_plugins_get_none_of_ucxs_options():
    assert NixlConfig(plugin="LIBFABRIC", num_threads=2).plugin_options() == {}
