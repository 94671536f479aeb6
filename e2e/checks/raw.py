"""Exact bytes: decks played by a client without an SDK against the recorder, compared at both ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from decks import DECKS, PLAIN, Deck
from harness.model import Context, check, expect, expect_equal
from harness.raw import RawClient, kill, raw_session, run_over_files


def _command(context: Context, deck_name: str, records: Path) -> list[str]:
    return [context.python, str(context.fixtures / "recorder.py"), str(records), deck_name]


@contextmanager
def _opened(context: Context, deck_name: str, wire: str = "pipe") -> Iterator[tuple[RawClient, Deck, Path]]:
    """A session with the recorder: the client's ends, the deck, and where the recorder writes."""
    records = context.new_session_dir()
    with raw_session(context, _command(context, deck_name, records), records, wire) as client:
        yield client, DECKS[deck_name](), records


def _play(client: RawClient, deck: Deck) -> None:
    """Send each exchange and wait for its replies: a frame that is held back stops us here."""
    expected = 0
    for number, exchange in enumerate(deck.exchanges, 1):
        client.send(exchange.send)
        expected += len(exchange.replies)
        if not deck.pipelined:
            client.wait_received(expected, f"the replies to exchange {number} of {len(deck.exchanges)}")
    client.wait_received(expected, "the last replies")
    client.wait_written()


def _exact(context: Context, deck_name: str, wire: str = "pipe") -> Deck:
    with _opened(context, deck_name, wire) as (client, deck, records):
        _play(client, deck)
        client.close_input()
        expect_equal("exit status", client.wait_end(), 0)
    context.flow("client to server", bytes(client.sent), (records / "to_server").read_bytes())
    context.flow("server to client", (records / "from_server").read_bytes(), bytes(client.received))
    expect_equal("what the client sent", bytes(client.sent), b"".join(one.send for one in deck.exchanges))
    context.fact("bytes sent", bytes(client.sent))
    context.fact("bytes received", bytes(client.received))
    return deck


def _shows(deck_name: str) -> str:
    return (DECKS[deck_name].__doc__ or "").partition("\n")[0]


def _register(deck_name: str) -> None:
    @check(f"raw: {deck_name}", _shows(deck_name))
    def body(context: Context) -> None:
        _exact(context, deck_name)


for _name in PLAIN:
    _register(_name)


@check("raw: sockets", "the same exact bytes when stdin and stdout are sockets, as clients on Node give")
def sockets(context: Context) -> None:
    for name in ("strings", "large", "duplex"):
        _exact(context, name, wire="socket")


@check("raw: files", "stdin and stdout are files: every answer is there at the end, status 0")
def files(context: Context) -> None:
    deck, records = DECKS["numbers"](), context.new_session_dir()
    sent = b"".join(exchange.send for exchange in deck.exchanges)
    (records / "stdin").write_bytes(sent)
    status, received = run_over_files(context, _command(context, "numbers", records), records, records / "stdin")
    expect_equal("exit status", status, 0)
    context.flow("client to server", sent, (records / "to_server").read_bytes())
    context.flow("server to client", (records / "from_server").read_bytes(), received)


@check("half-close", _shows("half-close"))
def half_close(context: Context) -> None:
    _exact(context, "half-close")


@check("one way at a time", _shows("one-way"))
def one_way_at_a_time(context: Context) -> None:
    with _opened(context, "one-way") as (client, deck, records):
        *first, last = deck.exchanges
        for exchange in first:
            client.send(exchange.send)
        # What has begun to come is far more than pipes hold, so the rest of it stands until we read again.
        client.wait_received(len(first[0].replies) + 1, "the start of the flood")
        client.deaf = True
        client.send(last.send)
        client.wait_written()
        client.deaf = False
        client.close_input()
        expect_equal("exit status", client.wait_end(), 0)
    context.flow("client to server", bytes(client.sent), (records / "to_server").read_bytes())
    context.flow("server to client", (records / "from_server").read_bytes(), bytes(client.received))
    expect_equal("bytes received", len(client.received), sum(len(one.replies) for one in deck.exchanges))


def _lines(data: bytes) -> list[bytes]:
    """The lines' contents: without CR at the end, blank lines and a byte order mark at the very start."""
    lines = [line.removesuffix(b"\r") for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
    return [line for line in lines if line.strip()]


def _contents(context: Context, deck: Deck, client: RawClient, records: Path) -> None:
    """Compare the lines' contents, where the bytes around them may be tidied."""

    def normal(data: bytes) -> bytes:
        return b"\n".join(_lines(data))

    context.flow("client to server", normal(bytes(client.sent)), normal((records / "to_server").read_bytes()))
    context.flow("server to client", normal((records / "from_server").read_bytes()), normal(bytes(client.received)))
    wanted = b"".join(exchange.replies for exchange in deck.exchanges) + deck.farewell
    expect_equal("lines received", _lines(bytes(client.received)), _lines(wanted))


@check("unfinished line", _shows("unfinished-line"))
def unfinished_line(context: Context) -> None:
    with _opened(context, "unfinished-line") as (client, deck, records):
        _play(client, deck)
        client.close_input()
        expect_equal("exit status", client.wait_end(), 0)
    _contents(context, deck, client, records)


@check("framing", _shows("framing"))
def framing(context: Context) -> None:
    with _opened(context, "framing") as (client, deck, records):
        _play_lines(client, deck, _lines)
        client.close_input()
        expect_equal("exit status", client.wait_end(), 0)
    _contents(context, deck, client, records)


def _play_lines(client: RawClient, deck: Deck, chosen: Callable[[bytes], list[bytes]]) -> None:
    """As `_play`, but wait for the number of whole lines that `chosen` finds, not of bytes."""
    expected = 0

    def arrived() -> bool:
        return len(chosen(bytes(client.received).rpartition(b"\n")[0])) >= expected

    for number, exchange in enumerate(deck.exchanges, 1):
        client.send(exchange.send)
        expected += len(chosen(exchange.replies))
        client.wait(f"the replies to exchange {number} of {len(deck.exchanges)}", arrived)
    client.wait_written()


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _json_lines(data: bytes) -> list[bytes]:
    return [line for line in _lines(data) if _is_json(line)]


@check("noise", _shows("noise"))
def noise(context: Context) -> None:
    with _opened(context, "noise") as (client, deck, _records):
        _play_lines(client, deck, _json_lines)
        client.close_input()
        expect_equal("exit status", client.wait_end(), 0)
    received = bytes(client.received)
    expect_equal("messages", _json_lines(received), _json_lines(b"".join(one.replies for one in deck.exchanges)))
    if context.through:
        foreign = [line for line in _lines(received) if not _is_json(line)]
        expect_equal("foreign lines on stdout", foreign, [])


@check("stderr", _shows("stderr"))
def stderr(context: Context) -> None:
    deck = _exact(context, "stderr")
    written = deck.stderr.splitlines()
    ours = iter((context.workdir / "session-1" / "stderr").read_bytes().splitlines())
    missing = [line for line in written if not any(line in our for our in ours)]
    expect(not missing, lambda: f"{len(missing)} of {len(written)} lines are missing, first {missing[0][:80]!r}")


@check("killed", "after kill -9 of the process that the client started nothing is left")
def killed(context: Context) -> None:
    with _opened(context, "half-close") as (client, deck, _records):
        _play(client, deck)
        kill(client.process)
        client.wait("the end of the output", lambda: client.ended)


@check("client gone", "a client that vanishes, both its ends closed at once, leaves nothing behind")
def client_gone(context: Context) -> None:
    with _opened(context, "half-close") as (client, deck, _records):
        _play(client, deck)
        client.close_output()
        client.close_input()
