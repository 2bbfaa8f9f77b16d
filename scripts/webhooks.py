"""Receives callbacks of `offload dev`, and verifies them by the reference libraries. See scripts/webhooks."""

import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

OWN = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
NEW = "whsec_GBcWFRQTEhEQDw4NDAsKCQgHBgUEAwIB"
FORGED = "whsec_////////////////////////////////"

IN_NODE = """
const { Webhook } = require('standardwebhooks');
const { secret, body, headers } = JSON.parse(require('fs').readFileSync(0, 'utf8'));
new Webhook(secret).verify(body, headers);
"""

arrived = queue.Queue()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        arrived.put(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def by_python(secret, headers, body):
    try:
        Webhook(secret).verify(body, headers)
        return True
    except WebhookVerificationError:
        return False


def by_node(secret, headers, body):
    message = json.dumps({"secret": secret, "headers": headers, "body": body})
    return subprocess.run(["node", "-e", IN_NODE], input=message, text=True, capture_output=True).returncode == 0


def main(program):
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    Thread(target=receiver.serve_forever, daemon=True).start()
    hook = f"http://127.0.0.1:{receiver.server_port}/"
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "OFFLOAD_CALLBACKS__SECRETS": f"{NEW},{OLD}",
            "OFFLOAD_CALLBACKS__SIGNING_KEY": "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=",
            "OFFLOAD_EGRESS_ALLOW": "127.0.0.0/8",
        }
        command = [os.path.abspath(program), "dev", "--listen", "127.0.0.1:0", "--data", folder]
        server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            check(server, hook)
        finally:
            server.terminate()
            server.wait()


def check(server, hook):
    for line in server.stdout:
        if found := re.search(r"127\.0\.0\.1:\d+", line):
            break
    Thread(target=lambda: [None for _ in server.stdout], daemon=True).start()
    for own, good in [(OWN, [OWN]), (None, [NEW, OLD])]:
        job = {"kind": "echo", "payload": {"value": "ü"}, "callback": {"url": hook, "secret": own}}
        request = urllib.request.Request(f"http://{found[0]}/v1/jobs", json.dumps(job).encode())
        request.add_header("content-type", "application/json")
        urllib.request.urlopen(request).close()
        headers, body = arrived.get(timeout=60)
        for name, verify in [("Python", by_python), ("JavaScript", by_node)]:
            for secret in [OWN, OLD, NEW, FORGED]:
                verdict = verify(secret, headers, body)
                assert verdict == (secret in good), f"{name} says {verdict} of {secret}: {headers} {body}"
            assert not verify(good[0], headers, body + " "), f"{name} takes a changed body"
            print(f"{name} verifies what {len(good)} secret(s) signed, and nothing else")


main(sys.argv[1])
