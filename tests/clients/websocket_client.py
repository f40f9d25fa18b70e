"""websocket-client: one WebSocket with the token in a subprotocol, in the query or in a header."""

import json
import os
import sys

import websocket

base, way, token = sys.argv[1:4]
url = f"{base}/api/v1/streaming"
place, options = {
    "protocol": (url, {"subprotocols": [token]}),
    "query": (f"{url}?access_token={token}", {}),
    "header": (url, {"header": [f"Authorization: Bearer {token}"]}),
}[way]


def say(**what):
    print(json.dumps(what), flush=True)


socket = websocket.create_connection(place, **options)
for stream in json.loads(os.environ["STREAMS"]):
    socket.send(json.dumps({"type": "subscribe", **stream["subscribe"]}))
while True:
    opcode, data = socket.recv_data()
    if opcode == websocket.ABNF.OPCODE_CLOSE:
        say(closed=1005 if not data else int.from_bytes(data[:2], "big"))
        break
    message = json.loads(data)
    say(key=" ".join(message["stream"]), event=message["event"], payload=message["payload"])
