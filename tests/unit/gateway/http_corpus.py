"""Requests, good and evil, and what becomes of each on either kind of connection.

All are whole: no server has to wait for more in order to judge them. Used over sockets (tests/contract) and on the
parser alone (tests/unit/gateway/test_http_parser.py), in one piece and torn at any places.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CORPUS", "HEADER_LIMIT", "Case"]

HEADER_LIMIT = 16384
BODY_LIMIT = 100_000

HOST = b" HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"POST /ping" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


class Case(NamedTuple):
    """`status`: of the one reply; `tornado`: where it differs there, with the reason."""

    message: bytes
    status: int
    tornado: tuple[int, str] | None = None


def _post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"POST /ping" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


CORPUS: dict[str, Case] = {
    # what is right: /ping answers GET and HEAD, without a token, and 405 to what else is HTTP
    "the least": Case(b"GET /ping" + HOST + b"\r\n", 200),
    "a query": Case(b"GET /ping?x=1&y=%20" + HOST + b"\r\n", 200),
    "HEAD": Case(b"HEAD /ping" + HOST + b"\r\n", 200),
    "an unknown method": Case(b"BREW /ping" + HOST + b"\r\n", 405),
    "a blank line before": Case(b"\r\nGET /ping" + HOST + b"\r\n", 200),
    "blanks around values": Case(b"GET /ping HTTP/1.1\r\nHost: \t localhost \t \r\nX:\r\n\r\n", 200),
    "bytes above 127 in a value": Case(b"GET /ping" + HOST + b"X: \xc3\xa4\xff\r\n\r\n", 200),
    "lower case names": Case(b"GET /ping HTTP/1.1\r\nhost: localhost\r\n\r\n", 200),
    "a hundred fields": Case(b"GET /ping" + HOST + b"".join(b"X-%d: y\r\n" % i for i in range(99)) + b"\r\n", 200),
    "an absolute target": Case(b"GET http://LOCALHOST/ping?x" + HOST + b"\r\n", 200),
    "an absolute target without a path": Case(b"GET http://localhost" + HOST + b"\r\n", 401),
    "HTTP/1.0": Case(b"GET /ping HTTP/1.0\r\nHost: localhost\r\n\r\n", 200),
    "a body that nobody asked for": Case(b"GET /ping" + HOST + b"Content-Length: 3\r\n\r\nabc", 200),
    "a body": Case(_post(b"Content-Length: 3", body=b"abc"), 405),
    "an empty body": Case(_post(b"Content-Length: 0"), 405),
    "a length with zeros before it": Case(_post(b"Content-Length: 003", body=b"abc"), 405),
    "blanks around the length": Case(_post(b"Content-Length: \t 3 \t", body=b"abc"), 405),
    "a body that ends like a head": Case(_post(b"Content-Length: 8", body=b"\r\n\r\n\r\n\r\n"), 405),
    "chunks": Case(CHUNKED + b"3\r\nabc\r\n00A\r\n" + b"\r\n" * 6 + b"0\r\n\r\n", 405),
    "chunked in capitals": Case(_post(b"TRANSFER-ENCODING: CHUNKED", body=b"0\r\n\r\n"), 405),
    "upgrade to HTTP/2 on a request with a body": Case(
        _post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 3", body=b"abc"), 405
    ),
    # who may not
    "no token": Case(b"POST /models" + HOST + b"Content-Length: 3\r\n\r\nabc", 401),
    "no token, in chunks": Case(b"POST /models" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 401),
    "another host": Case(b"GET /ping HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
    "no host": Case(b"GET /ping HTTP/1.1\r\n\r\n", 400),
    "no host in HTTP/1.0": Case(b"GET /ping HTTP/1.0\r\n\r\n", 400),
    "two hosts": Case(b"GET /ping" + HOST + b"Host: localhost\r\n\r\n", 400),
    "two names of one host": Case(b"GET http://127.0.0.1/ping" + HOST + b"\r\n", 400),
    "a site of others": Case(b"GET /ping" + HOST + b"Origin: http://evil.example\r\n\r\n", 403),
    "a tunnel": Case(b"CONNECT localhost:80" + HOST + b"\r\n", 401),
    "an asterisk": Case(b"OPTIONS *" + HOST + b"\r\n", 401),
    # the request line
    "no HTTP": Case(b"hello\r\n\r\n", 400),
    "HTTP/0.9": Case(b"GET /ping\r\n\r\n", 400),
    "HTTP/1.2": Case(b"GET /ping HTTP/1.2\r\nHost: localhost\r\n\r\n", 400),
    "HTTP/2.0": Case(b"GET /ping HTTP/2.0\r\nHost: localhost\r\n\r\n", 400),
    "HTTP/3.0": Case(b"GET /ping HTTP/3.0\r\nHost: localhost\r\n\r\n", 400),
    "HTTP/2's preface": Case(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "small letters": Case(b"GET /ping http/1.1\r\nHost: localhost\r\n\r\n", 400),
    "RTSP": Case(b"DESCRIBE /ping RTSP/1.0\r\nHost: localhost\r\n\r\n", 400),
    "ICE": Case(b"SOURCE /ping ICE/1.0\r\nHost: localhost\r\n\r\n", 400),
    "two blanks": Case(b"GET  /ping" + HOST + b"\r\n", 400),
    "two blanks before the version": Case(b"GET /ping  HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "a tab": Case(b"GET\t/ping" + HOST + b"\r\n", 400),
    "a blank in the target": Case(b"GET /pi ng" + HOST + b"\r\n", 400),
    "a control character in the target": Case(b"GET /pi\x01ng" + HOST + b"\r\n", 400),
    "NUL in the target": Case(b"GET /pi\0ng" + HOST + b"\r\n", 400),
    "bytes above 127 in the target": Case(b"GET /p\xc3\xa4ng" + HOST + b"\r\n", 400),
    "two blank lines before": Case(b"\r\n\r\nGET /ping" + HOST + b"\r\n", 400),
    "a target of 8001 bytes": Case(b"GET /" + b"x" * 8000 + HOST + b"\r\n", 414),
    # line ends
    "line feeds only": Case(b"GET /ping HTTP/1.1\nHost: localhost\n\n", 400),
    "a line feed after the request line": Case(b"GET /ping HTTP/1.1\nHost: localhost\r\n\r\n", 400),
    "a line feed after a field": Case(b"GET /ping" + HOST + b"X: y\nZ: z\r\n\r\n", 400),
    "a line feed at the end": Case(b"GET /ping" + HOST + b"\n", 400),
    "a carriage return in a value": Case(b"GET /ping" + HOST + b"X: y\rZ: z\r\n\r\n", 400),
    "a carriage return at the end": Case(b"GET /ping" + HOST + b"\r\r\n\r\n", 400),
    # fields
    "no colon": Case(b"GET /ping" + HOST + b"nonsense\r\n\r\n", 400),
    "no name": Case(b"GET /ping" + HOST + b": y\r\n\r\n", 400),
    "a blank before the colon": Case(b"GET /ping" + HOST + b"Content-Length : 1\r\n\r\n1", 400),
    "a blank in a name": Case(b"GET /ping" + HOST + b"X Y: 1\r\n\r\n", 400),
    "folded": Case(b"GET /ping" + HOST + b"X: a\r\n b\r\n\r\n", 400),
    "folded by a tab": Case(b"GET /ping" + HOST + b"X: a\r\n\tb\r\n\r\n", 400),
    "folded from the start": Case(b"GET /ping HTTP/1.1\r\n X: a\r\nHost: localhost\r\n\r\n", 400),
    "NUL in a value": Case(b"GET /ping" + HOST + b"X: a\0b\r\n\r\n", 400),
    "NUL in a name": Case(b"GET /ping" + HOST + b"X\0: ab\r\n\r\n", 400),
    "a control character in a value": Case(b"GET /ping" + HOST + b"X: a\x01b\r\n\r\n", 400),
    "bytes above 127 in a name": Case(b"GET /ping" + HOST + b"X\xc3\xa4: ab\r\n\r\n", 400),
    "101 fields": Case(b"GET /ping" + HOST + b"".join(b"X-%d: y\r\n" % i for i in range(100)) + b"\r\n", 431),
    "101 times the same field": Case(b"GET /ping" + HOST + b"X: y\r\n" * 100 + b"\r\n", 431),
    "a field over the limit": Case(b"GET /ping" + HOST + b"X: " + b"y" * HEADER_LIMIT + b"\r\n\r\n", 431),
    # where the body ends
    "lengths that differ": Case(_post(b"Content-Length: 1", b"Content-Length: 2", body=b"ab"), 400),
    "the same length twice": Case(_post(b"Content-Length: 1", b"Content-Length: 1", body=b"a"), 400),
    "a list of lengths": Case(_post(b"Content-Length: 1, 1", body=b"a"), 400),
    "no length after all": Case(_post(b"Content-Length: "), 400),
    "a negative length": Case(_post(b"Content-Length: -1"), 400),
    "a signed length": Case(_post(b"Content-Length: +1", body=b"a"), 400),
    "a length in hexadecimal": Case(_post(b"Content-Length: 0x1", body=b"a"), 400),
    "a length with an underscore": Case(_post(b"Content-Length: 1_0", body=b"a" * 10), 400),
    "a length with a point": Case(_post(b"Content-Length: 1.0", body=b"a"), 400),
    "a length in other digits": Case(_post(b"Content-Length: \xb2", body=b"aa"), 400),
    "a length over the limit": Case(_post(b"Content-Length: %d" % (BODY_LIMIT + 1)), 413),
    "a length over 64 bits": Case(_post(b"Content-Length: " + b"9" * 30), 413),
    "length and chunks": Case(_post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "chunks and length": Case(_post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), 400),
    "chunks in HTTP/1.0": Case(CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n", 400),
    "gzip": Case(_post(b"Transfer-Encoding: gzip"), 400),
    "gzip in chunks": Case(_post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 400),
    "chunked twice": Case(_post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), 400),
    "chunked in two fields": Case(
        _post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400
    ),
    "chunked, then identity": Case(
        _post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"), 400
    ),
    "nearly chunked": Case(_post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 400),
    "chunked behind a vertical tab": Case(_post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), 400),
    "no transfer encoding after all": Case(_post(b"Transfer-Encoding:", body=b"0\r\n\r\n"), 400),
    # chunks
    "a bad chunk size": Case(CHUNKED + b"xyz\r\n", 400),
    "no chunk size": Case(CHUNKED + b"\r\n", 400),
    "a signed chunk size": Case(CHUNKED + b"+1\r\na\r\n", 400),
    "a negative chunk size": Case(CHUNKED + b"-1\r\na\r\n", 400),
    "a chunk size with a prefix": Case(CHUNKED + b"0x1\r\na\r\n0\r\n\r\n", 400),
    "a chunk size with an underscore": Case(CHUNKED + b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n", 400),
    "a blank after the chunk size": Case(CHUNKED + b"1 \r\na\r\n0\r\n\r\n", 400),
    "a chunk that runs on": Case(CHUNKED + b"1\r\nabc\r\n", 400),
    "a line feed after the chunk size": Case(CHUNKED + b"1\na\r\n0\r\n\r\n", 400),
    "a line feed after the chunk": Case(CHUNKED + b"1\r\na\n0\r\n\r\n", 400),
    "an endless chunk size": Case(CHUNKED + b"0" * 500, 400),
    "a chunk size over 64 bits": Case(CHUNKED + b"f" * 17 + b"\r\n", 400),
    "chunks over the limit": Case(CHUNKED + (b"2710\r\n" + b"x" * 10_000 + b"\r\n") * 11 + b"0\r\n\r\n", 413),
    "a trailer": Case(CHUNKED + b"0\r\nX: y\r\n\r\n", 400),
    "a trailer with a length": Case(CHUNKED + b"0\r\nContent-Length: 5\r\n\r\nabcde", 400),
    "an endless trailer": Case(CHUNKED + b"0\r\nX: " + b"y" * 500, 400),
    "a chunk with an extension": Case(
        CHUNKED + b"1;name=value\r\na\r\n0\r\n\r\n",
        405,
        (400, "tornado knows no chunk extensions; RFC 9112, section 7.1.1, wants them ignored"),
    ),
    "a target over the limit of all headers": Case(
        b"GET /" + b"x" * 2 * HEADER_LIMIT,
        414,
        (431, "tornado does not tell what it has read of a head that does not end"),
    ),
}
