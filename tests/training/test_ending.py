import os
import signal

import pytest
from test_train import arguments, checkpoint

import train
from ending import told_to_end


@pytest.fixture
def heard():
    """What hears SIGTERM outside of a run."""
    calls = []
    former = signal.signal(signal.SIGTERM, lambda *given: calls.append(given[0]))
    yield calls
    signal.signal(signal.SIGTERM, former)


def test_whoever_listened_before_hears_it_too_and_alone_afterwards(heard):
    with told_to_end() as outer:
        with told_to_end() as inner:
            assert not inner
            os.kill(os.getpid(), signal.SIGTERM)
        assert outer
        assert inner
    assert heard == [signal.SIGTERM]
    with pytest.raises(KeyError), told_to_end() as again:
        raise KeyError
    os.kill(os.getpid(), signal.SIGTERM)
    assert len(heard) == 2
    assert (len(outer), len(inner), len(again)) == (1, 1, 0)


@pytest.mark.parametrize("options", [(), ("--max-steps", "1")], ids=["finished", "stopped"])
def test_a_run_listens_no_longer_than_it_lasts(pictures, tmp_path, heard, options):
    listener = signal.getsignal(signal.SIGTERM)
    train.main(arguments(pictures, tmp_path / "run", "--schedule", "1x1", *options))
    assert signal.getsignal(signal.SIGTERM) is listener
    assert not heard
    assert checkpoint(tmp_path / "run")["step"] == (1 if options else 6)
