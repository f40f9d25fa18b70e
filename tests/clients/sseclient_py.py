"""sseclient-py over `requests`."""

import json
import os
import sys

import requests
import sseclient

base, _, token = sys.argv[1:4]
headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
response = requests.get(base + os.environ["PATH_OF_STREAM"], stream=True, headers=headers, timeout=60)
response.raise_for_status()
for event in sseclient.SSEClient(response).events():
    print(json.dumps({"event": event.event, "payload": event.data}), flush=True)
print(json.dumps({"closed": 0}), flush=True)
