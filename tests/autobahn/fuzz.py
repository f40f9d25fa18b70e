# Runs the Autobahn test suite (Python 2) on Jython against several servers: all at once, because most of the time
# is spent waiting; group 9, which is all work for Jython and timed, one after the other.
#
# Usage: jython fuzz.py PLAN RESULTS
# PLAN is JSON: {"cases": [...], "agents": {NAME: PORT, ...}}. RESULTS gets a line for each agent and case:
# "AGENT CASE BEHAVIOR BEHAVIOR_AT_CLOSE CODE_OF_THE_SERVERS_CLOSE_FRAME", with "-" where there was no code.

import json
import os
import sys
import types


URL = "ws://127.0.0.1:%d/?access_token=token"
# Seconds.
PATIENCE = {"openHandshakeTimeout": 60, "closeHandshakeTimeout": 60, "serverConnectionDropTimeout": 60}


def adapt_jython():
    """Supplies what the suite's libraries import and Jython does not have. None of it is ever called."""
    def absent(*_):
        raise OSError("not on Jython")
    for name in ("fork", "getpid", "kill", "readlink", "symlink"):
        if not hasattr(os, name):
            setattr(os, name, absent)
    import unittest
    sys.modules["unittest2"] = unittest
    # TLS wants pyOpenSSL, which is C; all connections here are plain. The pages that the suite can serve are not
    # wanted, and their templates want a SAX parser that Jython does not have.
    absent_module("twisted.internet.ssl", "ClientContextFactory", "DefaultOpenSSLContextFactory")
    absent_module("twisted.web.server", "Site")
    absent_module("twisted.web.static", "File")


def absent_module(name, *classes):
    stub = types.ModuleType(name)
    for each in classes:
        setattr(stub, each, object)
    sys.modules[name] = stub
    package, last = name.rsplit(".", 1)
    __import__(package)
    setattr(sys.modules[package], last, stub)


def be_patient(fuzzing):
    """A loaded machine may take its time. What the suite itself times (that nothing happens for a second) stays;
    only its waits for what a conforming server does are longer, up to ten minutes."""
    kill_after = fuzzing.FuzzingProtocol.killAfter
    fuzzing.FuzzingProtocol.killAfter = lambda self, delay: kill_after(self, min(delay * 60, 600))


class Run(object):
    """Two rounds: one factory for each agent, then one for all agents in turn with the cases that are work."""

    def __init__(self, plan, results):
        self.agents = sorted(plan["agents"].items())
        slow = [case for case in plan["cases"] if case.startswith("9.")]
        quick = [case for case in plan["cases"] if case not in slow]
        self.rounds = [([agent], quick) for agent in self.agents if quick], [(self.agents, slow)] if slow else []
        self.results = results
        self.open = 0

    def start(self):
        from autobahntestsuite import fuzzing
        from twisted.internet import reactor
        be_patient(fuzzing)
        run = self

        class Factory(fuzzing.FuzzingClientFactory):
            def logCase(self, case):
                run.record(case)

            def createReports(self):
                pass

            def clientConnectionFailed(self, connector, reason):
                sys.stderr.write("%s: %s\n" % (self.agent, reason.getErrorMessage()))
                fuzzing.FuzzingClientFactory.clientConnectionFailed(self, connector, reason)

        class Reactor(object):
            """Is told to stop by each factory that has come to its end."""
            def stop(self):
                run.open -= 1
                if run.open == 0:
                    run.next_round(Factory) or reactor.stop()

            def __getattr__(self, name):
                return getattr(reactor, name)

        fuzzing.reactor = Reactor()
        if self.next_round(Factory):
            reactor.run()

    def next_round(self, factory):
        while self.rounds:
            first, self.rounds = self.rounds[0], self.rounds[1:]
            for agents, cases in first:
                self.open += 1
                servers = [{"agent": agent, "url": URL % port} for agent, port in agents]
                factory({"servers": servers, "cases": cases, "options": PATIENCE})
            if first:
                return True
        return False

    def record(self, case):
        code = case["remoteCloseCode"]
        fields = [case["agent"], case["id"], case["behavior"], case["behaviorClose"], "-" if code is None else str(code)]
        self.results.write(" ".join(field.replace(" ", "_") for field in fields) + "\n")
        self.results.flush()
        if case["behavior"] not in ("OK", "INFORMATIONAL") or case["behaviorClose"] not in ("OK", "INFORMATIONAL"):
            print "%s %s: %s; %s" % (case["agent"], case["id"], case["result"], case["resultClose"])


if __name__ == "__main__":
    adapt_jython()
    with open(sys.argv[1]) as plan, open(sys.argv[2], "w") as results:
        Run(json.load(plan), results).start()
