"""websocket-client: a WebSocket in the way named by argv[2]: protocol, query or header."""

import json
import os
import sys

import websocket

base, way, token = sys.argv[1:4]
url = f"{base}/api/v1/streaming"
arguments = {
    "protocol": lambda: (url, {"subprotocols": [token]}),
    "query": lambda: (f"{url}?access_token={token}", {}),
    "header": lambda: (url, {"header": [f"Authorization: Bearer {token}"]}),
}
place, options = arguments[way]()
socket = websocket.create_connection(place, **options)
for stream in json.loads(os.environ["STREAMS"]):
    socket.send(json.dumps({"type": "subscribe", **stream}))
while True:
    opcode, data = socket.recv_data()
    if opcode == websocket.ABNF.OPCODE_CLOSE:
        print(json.dumps({"closed": 1005 if not data else int.from_bytes(data[:2], "big")}), flush=True)
        break
    print(data.decode(), flush=True)
