"""Holds `offload dev` against its OpenAPI document, by schemathesis: python run.py PROGRAM [options of `st run`]."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from threading import Thread

HERE = Path(__file__).resolve().parent

# What answers are held against the document for, everywhere.
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
]
# A fixed seed: whether a change passes does not depend on luck.
OPTIONS = {"seed": "1", "phases": "examples,coverage,fuzzing,stateful", "max-examples": "25", "request-timeout": "180"}


def main(program, more):
    with tempfile.TemporaryDirectory() as folder:
        command = [os.path.abspath(program), "dev", "--listen", "127.0.0.1:0", "--data", f"{folder}/data"]
        # A machine that is busy is none that fails.
        patience = {"OFFLOAD_SERVER__MAX_WAIT_SECONDS": "1", "OFFLOAD_SERVER__REQUEST_TIMEOUT_SECONDS": "120"}
        environment = {**os.environ, **patience, "OFFLOAD_LOG": "error"}
        server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            for line in server.stdout:
                if found := re.search(r"127\.0\.0\.1:\d+", line):
                    break
            else:
                sys.exit(f"{program} ended")
            Thread(target=lambda: [None for _ in server.stdout], daemon=True).start()
            return test(f"http://{found[0]}", folder, more)
        finally:
            server.terminate()
            server.wait()


def test(base, folder, more):
    known = things(base)
    environment = {**os.environ, "PYTHONPATH": str(HERE), "SCHEMATHESIS_HOOKS": "hooks", "OFFLOAD_KNOWN": json.dumps(known)}
    command = [Path(sys.executable).parent / "st", "run", f"{base}/openapi.json", "--checks", ",".join(CHECKS)]
    command += [f"--{name}={value}" for name, value in OPTIONS.items()]
    # A stream ends with its job, and many jobs here never end.
    command += ["--exclude-path-regex", "/(events|ws)$", "--suppress-health-check", "all", "--warnings", "off", "--no-color"]
    # What schemathesis is configured by, and what it leaves behind, is in the folder that it runs in.
    return subprocess.run(command + more, cwd=folder, env=environment).returncode


def things(base):
    """Makes one thing of each sort, and answers their ids by collection, so that more is seen than 404."""

    def send(path, body, content_type="application/json"):
        request = urllib.request.Request(base + path, body, {"content-type": content_type} if body else {})
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def post(path, body):
        return send(path, json.dumps(body).encode())

    echo = {"kind": "echo", "payload": {"value": [1, "ü"]}}
    file = send("/v1/files", Path(HERE, "../../samples/chart.png").read_bytes(), "image/png")
    jobs = [
        echo,
        {"kind": "echo", "payload": {"fail_attempts": 1}, "max_attempts": 1, "tags": ["contract"], "metadata": {"a": 1}},
        {"kind": "echo", "payload": {}, "delay_seconds": 100_000},
        {"kind": "image.transform", "payload": {"source": {"file": file["id"]}, "outputs": [{"name": "a", "format": "png"}]}},
    ]
    known = {
        "files": [file["id"]],
        "jobs": [post("/v1/jobs", job)["id"] for job in jobs],
        "schedules": [post("/v1/schedules", {"name": f"contract {n}", "every_seconds": 1, "job": echo})["id"] for n in range(3)],
        "batches": [
            post("/v1/batches", {"jobs": [echo, jobs[1]], "follow_up": echo, "metadata": {"a": 1}})["id"],
            post("/v1/batches", {"jobs": [echo], "sealed": False})["id"],
        ],
    }
    for job in known["jobs"][:2] + known["jobs"][3:]:
        deadline = time.monotonic() + 300
        while send(f"/v1/jobs/{job}?wait=1", None)["state"] not in ("succeeded", "failed"):
            assert time.monotonic() < deadline, f"job {job} comes to no end"
    return known


sys.exit(main(sys.argv[1], sys.argv[2:]))
