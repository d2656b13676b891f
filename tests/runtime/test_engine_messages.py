"""Messages arrive whole, in order, however the socket cuts them."""

import pickle
import socket

import pytest

from ingot.errors import EngineDead, IngotError, QueueFull, RequestError
from ingot.runtime.engine_messages import Abort, Add, Channel, encode
from ingot.runtime.request_options import RequestOptions
from ingot.runtime.sampling_params import SamplingParams


def test_messages_however_they_are_cut() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = Channel(theirs)
        add = Add(3, [1, 2], SamplingParams(n=2), RequestOptions(priority=1))
        sent = encode(add) + encode(Abort(3)) + encode(Abort(4))
        assert channel.receive(0) == []
        received = []
        for start in range(0, len(sent), 7):
            ours.sendall(sent[start : start + 7])
            received += channel.receive(1)
        assert received == [add, Abort(3), Abort(4)]
        ours.sendall(sent)
        assert channel.receive(1) == [add, Abort(3), Abort(4)]


def test_the_other_end_closes() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        with pytest.raises(EOFError):
            Channel(theirs).receive(1)


@pytest.mark.parametrize(
    "error", [RequestError("no", "do this"), QueueFull("full", 2.5), EngineDead("gone")]
)
def test_errors_cross_whole(error: IngotError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
