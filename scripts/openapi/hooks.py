"""What schemathesis sends, made to meet more than refusals, and to stay on this machine. See run.py."""

import json
import os
import re

import schemathesis

KNOWN = json.loads(os.environ["OFFLOAD_KNOWN"])
SIGHTS = {collection: 0 for collection in KNOWN}


@schemathesis.hook
def before_call(context, case, kwargs):
    collection = case.operation.path.split("/")[2:3]
    # Ids that schemathesis makes up name nothing: most requests name something that is there. Removing is left to the ids
    # that it has learnt.
    if case.path_parameters and "id" in case.path_parameters and collection and case.operation.method != "delete":
        known = KNOWN.get(collection[0], [])
        if known:
            SIGHTS[collection[0]] += 1
            turn = SIGHTS[collection[0]] % (len(known) + 1)
            if turn < len(known):
                case.path_parameters["id"] = known[turn]
    case.body = at_home(case.body)


def at_home(value):
    """Whatever is to be called is a closed port of this machine."""
    if isinstance(value, list):
        return [at_home(item) for item in value]
    if isinstance(value, dict):
        return {
            name: re.sub(r"(?i)^(https?://)[^/?#]*", r"\g<1>127.0.0.1:9", item) if name == "url" and isinstance(item, str) else at_home(item)
            for name, item in value.items()
        }
    return value
