"""sseclient-py over `requests`: an event stream each, the token in a header or in the query."""

import json
import os
import sys
import threading

import requests
import sseclient

base, way, token = sys.argv[1:4]


def say(**what):
    print(json.dumps(what) + "\n", end="", flush=True)


def follow(stream):
    headers = {"Accept": "text/event-stream"}
    url = base + stream["path"]
    if way == "header":
        headers["Authorization"] = f"Bearer {token}"
    else:
        url += ("&" if "?" in url else "?") + f"access_token={token}"
    response = requests.get(url, stream=True, headers=headers, timeout=60)
    response.raise_for_status()
    for event in sseclient.SSEClient(response).events():
        say(key=stream["key"], event=event.event, payload=event.data)


threads = [threading.Thread(target=follow, args=[one]) for one in json.loads(os.environ["STREAMS"])]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
say(closed="end")
