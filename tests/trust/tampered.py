"""Nine ways to tamper with a bundle, none with the submitter's key: each must be refused before it is unpacked."""

import base64
import hashlib
import json
import time

FILES = {
    "a.py": b"A = 1\n",
    "b.py": b"B = 2\n",
    "job.yaml": b"name: x\ntrainer: train.py\n",
    "train.py": b"print('hello')\n",
}
OTHER = FILES | {"train.py": b"print('adieu')\n"}
DAY_S = 86400
WAYS = ("change", "delete", "add", "swap", "splice", "rename", "expired", "other project", "unsigned")


def nine_ways(sign, files=FILES, other=OTHER):
    """Return a bundle for each way; `sign(files, **claims)` makes one in order, `other` are another job's files."""
    whole = sign(files)
    envelope, _ = opened(whole)
    swapped = files | {"a.py": files["b.py"], "b.py": files["a.py"]}
    fewer = {path: content for path, content in files.items() if path != "b.py"}
    renamed = {("c.py" if path == "b.py" else path): content for path, content in files.items()}
    return {
        "change": closed(envelope, body(files | {"a.py": b"A = 9\n"})),
        "delete": closed(listing(envelope, fewer), body(fewer)),
        "add": closed(listing(envelope, files | {"z.py": b"Z = 0\n"}), body(files | {"z.py": b"Z = 0\n"})),
        "swap": closed(envelope, body(swapped)),
        "splice": closed(envelope, body(other)),
        "rename": closed(listing(envelope, renamed), body(renamed)),
        "expired": sign(files, now=time.time() - 31 * DAY_S),
        "other project": sign(files, project="other"),
        "unsigned": closed(envelope | {"signature": ""}, body(files)),
    }


def opened(data):
    """Return the envelope of a bundle, and the files' bytes."""
    length = int.from_bytes(data[8:12], "little")
    return json.loads(data[12 : 12 + length]), data[12 + length :]


def closed(envelope, contents):
    """Return the bundle of an envelope and the files' bytes."""
    outer = compact(envelope)
    return b"CONVOYB1" + len(outer).to_bytes(4, "little") + outer + contents


def listing(envelope, files):
    """Return an envelope whose list names these files, under the signature of the former list."""
    manifest = json.loads(base64.b64decode(envelope["manifest"]))
    listed = [[path, len(files[path]), hashlib.sha256(files[path]).hexdigest()] for path in sorted(files)]
    return envelope | {"manifest": base64.b64encode(compact(manifest | {"files": listed})).decode()}


def body(files):
    """Return the files' bytes in the order of the list."""
    return b"".join(files[path] for path in sorted(files))


def compact(value):
    """Return JSON as bundles have it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
