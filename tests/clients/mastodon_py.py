"""Mastodon.py: server-sent events with the token in the `Authorization` header."""

import json
import os
import sys

from mastodon import Mastodon, StreamListener

base, _, token = sys.argv[1:4]


def say(**what):
    print(json.dumps(what, default=str), flush=True)


class Listener(StreamListener):
    def on_any_event(self, name, data):
        say(event=name, payload=json.dumps(data, default=str))

    def on_unknown_event(self, name, unknown_event=None):
        say(event=name, unknown=True)

    def on_abort(self, err):
        say(closed=str(err))


api = Mastodon(access_token=token, api_base_url=base, version_check_mode="none")
streams = {
    "user": api.stream_user,
    "public": api.stream_public,
    "public:local": lambda listener: api.stream_public(listener, local=True),
    "public:remote": lambda listener: api.stream_public(listener, remote=True),
    "direct": api.stream_direct,
    "hashtag": lambda listener: api.stream_hashtag("x", listener),
    "list": lambda listener: api.stream_list(int(os.environ["LIST"]), listener),
}
try:
    streams[os.environ["STREAM"]](Listener())
except Exception as error:  # the end of the stream is an error to Mastodon.py
    say(closed=type(error).__name__)
