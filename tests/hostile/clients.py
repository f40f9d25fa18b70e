"""Clients that stop taking part: `clients.py vanish|stall PORT COUNT REQUEST`.

Each sends the request and reads the head of the answer. Then
vanish: a filter throws away whatever comes to its socket before TCP sees it: nothing is acknowledged any
more and nothing is refused, which is what a server sees of a phone that is out of reach;
stall: it reads no more.
They stay until standard input ends. Segments and windows are as small as on a bad line, so that the
server's kernel holds little for each.
"""

import ctypes
import socket
import struct
import sys

SO_ATTACH_FILTER = 26
RETURN = 0x06

mode, port, count, request = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
drop_all = ctypes.create_string_buffer(struct.pack("HBBI", RETURN, 0, 0, 0), 8)
program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(drop_all))


def connect(number):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    client.connect(("127.0.0.1", port))
    client.sendall(request.replace("NUMBER", str(number)).encode())
    return client


clients = [connect(number + 1) for number in range(count)]
for client in clients:
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = client.recv(256)
        assert piece, answer
        answer += piece
    assert answer.split(b" ")[1] in (b"101", b"200"), answer
    if mode == "vanish":
        client.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
print("so be it", flush=True)
sys.stdin.read()
