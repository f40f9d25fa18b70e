"""Mastodon.py with all its `stream_…` calls: event streams, or one WebSocket for all."""

import json
import os
import sys

from mastodon import Mastodon, StreamListener

base, way, token = sys.argv[1:4]


def say(**what):
    print(json.dumps(what, default=str) + "\n", end="", flush=True)


class Listener(StreamListener):
    def __init__(self, key):
        self.key = key

    def on_any_event(self, name, data=None):
        say(key=self.key, event=name, payload=json.dumps(data, default=str))


api = Mastodon(access_token=token, api_base_url=base, version_check_mode="none")
calls = {
    "user": (api.stream_user, {}),
    "user:notification": (api.stream_user_notifications, {}),
    "public": (api.stream_public, {}),
    "public:media": (api.stream_public, {"only_media": True}),
    "public:local": (api.stream_public, {"local": True}),
    "public:local:media": (api.stream_local, {"only_media": True}),
    "public:remote": (api.stream_public, {"remote": True}),
    "public:remote:media": (api.stream_public, {"remote": True, "only_media": True}),
    "hashtag": (api.stream_hashtag, {}),
    "hashtag:local": (api.stream_hashtag, {"local": True}),
    "list": (api.stream_list, {}),
    "direct": (api.stream_direct, {}),
}
socket = api.stream_open_websocket() if way == "websocket" else None
how = {"websocket_handle": socket} if socket else {"run_async": True}
handles = [socket] if socket else []
for stream in json.loads(os.environ["STREAMS"]):
    name, _, argument = stream["key"].partition(" ")
    call, options = calls[name]
    arguments = [argument] if argument else []
    handle = call(*arguments, listener=Listener(stream["key"]), **options, **how)
    if not socket:
        handles.append(handle)
for handle in handles:
    handle.join()
say(closed="end")
