"""Checks a Sealbus audit log, or a part of one, from the public forms alone: no Sealbus code, no library.

Usage: log.py check KEY EXPORT [PROOF... [--old CHECKPOINT]]   verifies an export and proofs made of its log
       log.py self-test DIRECTORY                              does so with a sample, and with every file changed

C2SP signed-note, tlog-checkpoint, tlog-tiles and tlog-proof, RFC 6962 hashing, RFC 9162 proofs, RFC 8032.
KEY is the log's public key as `sealbus audit key` shows it, or a file that holds it.
"""

import base64
import hashlib
import json
import pathlib
import shutil
import sys
import tempfile


class Refused(Exception):
    pass


def check(condition, what):
    if not condition:
        raise Refused(what)


# --- Ed25519, RFC 8032 section 6 ---

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def point_add(a, b):
    s, t = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    c, d = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = t - s, d - c, d + c, t + s
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def point_mul(n, point):
    result = (0, 1, 1, 0)
    while n > 0:
        if n & 1:
            result = point_add(result, point)
        point, n = point_add(point, point), n >> 1
    return result


def point_of(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    check(y < P, "a point is not canonical")
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    check((x * x - x2) % P == 0 and not (x == 0 and sign), "not a point")
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


X0 = 15112221349535400772501151409588531511454012693041857206046113283949847762202
Y0 = 4 * pow(5, P - 2, P) % P
BASE = (X0, Y0, 1, X0 * Y0 % P)


def signature_holds(public, message, signature):
    if len(signature) != 64:
        return False
    a, r, s = point_of(public), point_of(signature[:32]), int.from_bytes(signature[32:], "little")
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    if s >= L:
        return False
    left, right = point_mul(s, BASE), point_add(r, point_mul(h, a))
    same_x = (left[0] * right[2] - right[0] * left[2]) % P == 0
    return same_x and (left[1] * right[2] - right[1] * left[2]) % P == 0


# --- C2SP signed-note and tlog-checkpoint ---


def base64_of(text):
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Refused("not base64") from None
    check(base64.b64encode(data).decode() == text, "not canonical base64")
    return data


class Key:
    def __init__(self, text):
        name, key_id, key = text.strip().split("+", 2)
        data = base64_of(key)
        check(len(data) == 33 and data[0] == 1, "not an Ed25519 key")
        check(hashlib.sha256(name.encode() + b"\n" + data).hexdigest()[:8] == key_id, "the key id is false")
        self.name, self.id, self.public = name, bytes.fromhex(key_id), data[1:]


def number(text):
    check(text.isascii() and text.isdigit() and str(int(text)) == text, "not a number")
    return int(text)


def checkpoint(note, key):
    """The size and root of a checkpoint that `key` signed."""
    check("\n\n" in note and note.endswith("\n"), "not a signed note")
    text, signatures = note.rsplit("\n\n", 1)
    text += "\n"
    signed = False
    for line in signatures[:-1].split("\n"):
        check(line.startswith("\u2014 ") and len(line.split(" ")) == 3, "a signature line is malformed")
        _, name, data = line.split(" ")
        data = base64_of(data)
        if name == key.name and data[:4] == key.id:
            check(signature_holds(key.public, text.encode(), data[4:]), "the signature is false")
            signed = True
    check(signed, "not signed by the key")
    origin, size, root = text[:-1].split("\n")
    check(origin == key.name, "the checkpoint of another log")
    root = base64_of(root)
    check(len(root) == 32, "the root is not a hash")
    return number(size), root


# --- RFC 6962 section 2.1, RFC 9162 section 2.1.3.2 and 2.1.4.2 ---


def leaf_hash(entry):
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_hash(hashes):
    if not hashes:
        return hashlib.sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1 << ((len(hashes) - 1).bit_length() - 1)
    return node_hash(tree_hash(hashes[:k]), tree_hash(hashes[k:]))


def verify_inclusion(leaf, index, size, path, root):
    check(index < size, "beyond the tree")
    fn, sn, r = index, size - 1, leaf
    for p in path:
        check(sn != 0, "the path is too long")
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    check(sn == 0 and r == root, "the path does not lead to the root")


def verify_consistency(first, first_root, second, second_root, path):
    check(0 < first <= second, "the sizes do not fit")
    if first == second:
        return check(not path and first_root == second_root, "the roots differ")
    path = list(path)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    check(path, "the path is empty")
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        check(sn != 0, "the path is too long")
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    check(sn == 0 and fr == first_root and sr == second_root, "the path does not lead to the roots")


# --- C2SP tlog-tiles ---


def tile_path(level, index, width):
    parts = []
    while True:
        parts.insert(0, f"{index % 1000:03}" if not parts else f"x{index % 1000:03}")
        index //= 1000
        if not index:
            break
    return "/".join(["tile", level, *parts]) + ("" if width == 256 else f".p/{width}")


def tile(directory, level, index, size):
    """The bytes of a tile or entry bundle, and how many items it has in a tree of this size."""
    whole = size >> (8 * (0 if level == "entries" else int(level)))
    width = min(256, whole - index * 256)
    path = directory / tile_path(level, index, width)
    check(path.is_file(), f"{path} is missing")
    return path.read_bytes(), width


def hash_tile(directory, level, index, size):
    data, width = tile(directory, str(level), index, size)
    check(len(data) == 32 * width, "a tile has a wrong length")
    return [data[at : at + 32] for at in range(0, len(data), 32)]


def bundle(directory, index, size):
    data, width = tile(directory, "entries", index, size)
    entries, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        check(at + 2 + length <= len(data), "a bundle is cut")
        entries.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    check(len(entries) == width, "a bundle has a wrong number of entries")
    return entries


def verify_export(directory, key):
    """Every entry that is here leads to the signed root. Returns their leaf numbers."""
    size, root = checkpoint((directory / "checkpoint").read_text(), key)
    manifest = json.loads((directory / "export.json").read_bytes())
    begin, end = manifest["from_leaf"], manifest["to_leaf"]
    check(manifest["log"] == key.name and manifest["size"] == size, "the manifest is of another log")
    check(0 <= begin < end <= size and begin % 256 == 0 and (end % 256 == 0 or end == size), "a wrong range")
    # from the leaves that are here up: each tile is the children of one hash of the level above
    for index in range(begin // 256, (end + 255) // 256):
        hashes = [leaf_hash(entry) for entry in bundle(directory, index, size)]
        check(hashes == hash_tile(directory, 0, index, size), f"entries of bundle {index} were changed")
    level, edge = 0, []
    while size >> (8 * level):
        count = size >> (8 * level)
        for index in range((count + 255) // 256):
            above = size >> (8 * (level + 1))
            here = level > 0 or begin // 256 <= index < (end + 255) // 256 or index >= above
            if not here:
                continue
            hashes = hash_tile(directory, level, index, size)
            if len(hashes) == 256:
                parent = hash_tile(directory, level + 1, index // 256, size)[index % 256]
                check(tree_hash(hashes) == parent, f"tile {index} of level {level} does not fit")
            else:
                edge.insert(0, hashes)
        level += 1
    # the tiles at the right edge, widest first, are perfect subtrees that make up the tree
    peaks = []
    for hashes in edge:
        while hashes:
            k = 1 << (len(hashes).bit_length() - 1)
            peaks.append(tree_hash(hashes[:k]))
            hashes = hashes[k:]
    result = peaks.pop()
    while peaks:
        result = node_hash(peaks.pop(), result)
    check(result == root, "the tiles do not lead to the signed root")
    return begin, end


# --- C2SP tlog-proof, tlog-witness ---


def verify_proof(text, key, old):
    """An inclusion proof, or a consistency proof from the signed checkpoint `old`."""
    check("\n\n" in text, "the proof has no checkpoint")
    head, note = text.split("\n\n", 1)
    size, root = checkpoint(note, key)
    lines = head.split("\n")
    if lines[0].startswith("old "):
        check(old is not None, "the old checkpoint is missing")
        old_size, old_root = checkpoint(old, key)
        check(number(lines[0][4:]) == old_size, "a proof from another size")
        return verify_consistency(old_size, old_root, size, root, [base64_of(line) for line in lines[1:]])
    check(lines[0] == "c2sp.org/tlog-proof@v1", "not a proof")
    check(lines[1].startswith("extra ") and lines[2].startswith("index "), "not a proof of an entry")
    leaf = leaf_hash(base64_of(lines[1][6:]))
    return verify_inclusion(leaf, number(lines[2][6:]), size, [base64_of(line) for line in lines[3:]], root)


def holds(act):
    try:
        act()
        return True
    except (Refused, ValueError, KeyError, TypeError, OSError, IndexError):
        return False


def self_test(directory):
    """The sample verifies; with any byte changed, or any file gone, it does not."""
    key = Key((directory / "log.key").read_text())
    old = (directory / "then.checkpoint").read_text()
    outcomes = [holds(lambda: verify_export(directory / "export", key))]
    for name in ["entry.proof", "since.proof"]:
        data = (directory / name).read_bytes()
        outcomes.append(holds(lambda: verify_proof(data.decode(), key, old)))
        for at in range(0, len(data), max(1, len(data) // 40)):
            changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            outcomes.append(not holds(lambda: verify_proof(changed.decode(), key, old)))
    with tempfile.TemporaryDirectory() as place:
        copy = pathlib.Path(place) / "export"
        shutil.copytree(directory / "export", copy)
        for path in sorted(copy.rglob("*")):
            if not path.is_file() or path.name in ("README.md", "log.key"):
                continue
            data = path.read_bytes()
            for at in [0, len(data) // 2, len(data) - 1]:
                path.write_bytes(data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :])
                outcomes.append(not holds(lambda: verify_export(copy, key)))
            path.unlink()
            outcomes.append(not holds(lambda: verify_export(copy, key)))
            path.write_bytes(data)
    passed = sum(outcomes)
    print(f"audit log: {passed} passed, {len(outcomes) - passed} failed")
    return 0 if all(outcomes) else 1


def main(arguments):
    if arguments[:1] == ["self-test"] and len(arguments) == 2:
        return self_test(pathlib.Path(arguments[1]))
    if arguments[:1] != ["check"] or len(arguments) < 3:
        sys.exit(__doc__)
    rest, old = arguments[3:], None
    if "--old" in rest:
        at = rest.index("--old")
        old, rest = pathlib.Path(rest[at + 1]).read_text(), rest[:at] + rest[at + 2 :]
    key = arguments[1]
    key = Key(pathlib.Path(key).read_text() if pathlib.Path(key).is_file() else key)
    try:
        begin, end = verify_export(pathlib.Path(arguments[2]), key)
        for proof in rest:
            verify_proof(pathlib.Path(proof).read_text(), key, old)
    except Refused as refused:
        print(f"refused: {refused}")
        return 4
    print(f"entries {begin} to {end} and {len(rest)} proofs hold")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
