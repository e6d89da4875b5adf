"""HTTP to a server with little in between: bodies as they come, connections used again, ends of every kind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gsim.live.wire import BrokenOffError, Wires

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def against(serve: Serve, test: Callable[[Wires], Awaitable[None]]) -> None:
    """Run a test with connections to a server that is told of each connection once."""

    async def main():
        failed = []

        async def one(reader, writer):
            try:
                await serve(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            except Exception as error:
                failed.append(error)
            finally:
                writer.close()

        server = await asyncio.start_server(one, "127.0.0.1", 0)
        wires = Wires(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/base/")
        try:
            await test(wires)
        finally:
            wires.close()
            server.close()
        assert failed == []

    asyncio.run(asyncio.wait_for(main(), 10.0))


async def asked(reader: asyncio.StreamReader) -> tuple[list[bytes], bytes]:
    """Head and body of the next request."""
    head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length"))
    return head, await reader.readexactly(length)


def test_a_body_comes_as_it_is_sent_and_the_connection_is_used_again():
    connections, taken = [], []
    more = asyncio.Event()

    async def serve(reader, writer):
        connections.append(writer)
        while True:
            head, body = await asked(reader)
            assert head[0] == b"POST /base/v1/completions HTTP/1.1"
            assert b"x-task: chat" in head
            assert body == b"{}"
            writer.write(HEAD + b"3\r\none\r\n")
            await more.wait()
            writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    async def test(wires):
        for _ in range(3):
            more.clear()
            taken.clear()
            reply = await wires.post("/v1/completions", b"{}", {"x-task": "chat"})
            assert reply.status == 200
            rest = asyncio.create_task(reply.pass_to(taken.append))
            while not taken:
                await asyncio.sleep(0.001)
            assert taken == [b"one"]
            more.set()
            await rest
            assert taken == [b"one", b"two"]
            reply.close()
        assert len(connections) == 1

    against(serve, test)


def test_a_connection_that_the_server_closed_while_it_was_idle_is_no_failure():
    served = []

    async def serve(reader, writer):
        served.append(await asked(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        # As a server that has waited long enough: the next request is not read.
        await reader.read(1)

    async def test(wires):
        for _ in range(3):
            reply = await wires.post("/", b"{}", {})
            assert await reply.read(10) == b"ok"
        assert len(served) == 3

    against(serve, test)


def test_a_request_that_the_server_may_have_worked_on_is_not_sent_twice():
    served = []

    async def serve(reader, writer):
        served.append(await asked(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        served.append(await asked(reader))
        # Longer than a goodbye and a request need to pass each other.
        await asyncio.sleep(0.2)

    async def test(wires):
        assert await (await wires.post("/", b"{}", {})).read(10) == b"ok"
        with pytest.raises(BrokenOffError, match="closed"):
            await wires.post("/", b"{}", {})
        assert len(served) == 2

    against(serve, test)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "the connection was closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "the connection was closed"),
        (HEAD + b"3\r\none\r\n", "the connection was closed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "the connection was closed"),
        (b"no HTTP at all\r\n\r\n", "no HTTP"),
        (HEAD + b"size\r\none\r\n", "no HTTP"),
    ],
)
def test_what_breaks_off_is_told(sent, said):
    async def serve(reader, writer):
        await asked(reader)
        writer.write(sent)

    async def test(wires):
        with pytest.raises(BrokenOffError, match=said):
            await (await wires.post("/", b"{}", {})).read(100)

    against(serve, test)


def test_a_body_without_a_length_ends_with_its_connection():
    async def serve(reader, writer):
        await asked(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")

    async def test(wires):
        for _ in range(2):
            assert await (await wires.post("/", b"{}", {})).read(100) == b"all of it"

    against(serve, test)


def test_more_than_is_wanted_is_left_out():
    async def serve(reader, writer):
        await asked(reader)
        writer.write(HEAD + b"4\r\nabcd\r\n" * 5 + b"0\r\n\r\n")

    async def test(wires):
        assert await (await wires.post("/", b"{}", {})).read(6) == b"abcdab"

    against(serve, test)


@pytest.mark.parametrize("way", ["closed", "cancelled", "cancelled before the head", "refused by who takes it"])
def test_who_wants_no_more_closes_the_connection(way):
    gone = asyncio.Event()

    async def serve(reader, writer):
        await asked(reader)
        if way != "cancelled before the head":
            writer.write(HEAD + b"3\r\none\r\n")
        assert await reader.read(1) == b""
        gone.set()

    def refuse(_piece):
        raise ValueError("not this")

    async def test(wires):
        async def ask():
            reply = await wires.post("/", b"{}", {})
            try:
                if way != "closed":
                    await reply.pass_to(refuse if way.startswith("refused") else lambda _piece: None)
            finally:
                reply.close()

        task = asyncio.create_task(ask())
        if way.startswith("cancelled"):
            await asyncio.sleep(0.05)
            task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        assert isinstance(outcome, ValueError) == way.startswith("refused")
        await gone.wait()

    against(serve, test)


def test_nobody_there_is_an_error_of_the_system():
    async def main():
        wires = Wires("http://127.0.0.1:9")
        with pytest.raises(ConnectionRefusedError):
            await wires.post("/", b"{}", {})

    asyncio.run(main())


@pytest.mark.parametrize("before", [b"100 Continue", b"102 Processing", b"103 Early Hints\r\nLink: </a>"])
@pytest.mark.parametrize("apart", [False, True])
def test_what_is_said_before_an_answer_is_none(before, apart):
    async def serve(reader, writer):
        while True:
            await asked(reader)
            writer.write(b"HTTP/1.1 " + before + b"\r\n\r\n")
            await asyncio.sleep(0.01 if apart else 0.0)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def test(wires):
        for _ in range(2):
            reply = await wires.post("/", b"{}", {})
            assert (reply.status, await reply.read(10)) == (200, b"ok")

    against(serve, test)


def test_another_protocol_is_no_answer():
    async def serve(reader, writer):
        await asked(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nwhatever")
        await reader.read(1)

    async def test(wires):
        with pytest.raises(BrokenOffError, match="no HTTP"):
            await (await wires.post("/", b"{}", {})).read(10)

    against(serve, test)


def test_what_comes_behind_an_answer_is_no_part_of_the_next():
    async def serve(reader, writer):
        await asked(reader)
        ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        writer.write(ok + b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf ")
        await asked(reader)
        writer.write(ok)

    async def test(wires):
        for _ in range(3):
            reply = await wires.post("/", b"{}", {})
            assert (reply.status, await reply.read(10)) == (200, b"ok")

    against(serve, test)


@pytest.mark.parametrize("begun", [b"HTTP/1.1 200 OK\r\nConten", b"no HTTP at all\r\n\r\n"])
def test_a_request_whose_answer_has_begun_is_not_sent_twice(begun):
    served = []

    async def serve(reader, writer):
        while True:
            served.append(await asked(reader))
            if len(served) == 2:
                writer.write(begun)
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def test(wires):
        assert await (await wires.post("/", b"{}", {})).read(10) == b"ok"
        with pytest.raises(BrokenOffError):
            await wires.post("/", b"{}", {})
        assert len(served) == 2

    against(serve, test)
