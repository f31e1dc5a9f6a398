"""Valid files spoilt at random, each kind of file in its own terms; the same for the same `rng`.

`spoilt(rng, content, kind)` is what the fuzzing of tests/test_fuzz.py and benchmarks/fuzz.py feeds
to the readers (readers.py): bits, cuts and splices in any file; in JSON, safetensors, NumPy,
msgpack, SentencePiece and gin files also wrong types, huge and negative numbers, NaN, deep nesting,
keys twice, half characters, paths that lead elsewhere, and lengths that lie.
"""

import gzip
import io
import json
import random
import re
import struct
import zipfile
from typing import Any

import msgpack
from sentencepiece import sentencepiece_model_pb2

HUGE = [2**15, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63, 2**64 - 1, 10**12, 10**30]
NUMBERS = [0, 1, -1, 2, 3, 7, 255, 65536, *HUGE, *(-n for n in HUGE)]
FLOATS = [0.5, -0.0, 1e308, 1e-308, 1e39, float("nan"), float("inf"), float("-inf")]
PATHS = [
    "..",
    "../..",
    "../outside.safetensors",
    "/etc/passwd",
    "/dev/zero",
    ".",
    "",
    "/",
    "a/../b",
]
TEXTS = [*PATHS, "x", "\0", "\ud800", "\n", "\x1b[2J", "é" * 40, "(a+)+$", "(", "nan", "1", "None"]
CLASSES = [
    "os.system",
    "subprocess.Popen",
    "prompt_tuning_jax.train.main",
    "prompt_tuning_jax.method.Method",
    "prompt_tuning_jax.methods.lora.LoRA",
    "prompt_tuning_jax.methods.absent.X",
    "prompt_tuning_jax..x.Y",
    "prompt_tuning_jax.\0.Y",
    "antigravity.fly",
    "this.s",
    "",
    ".",
]
DEEP = "<<deep>>"  # a text that stands for nesting, which no encoder here could write


def spoilt(rng: random.Random, content: bytes, kind: str) -> bytes:
    """The content of a file of this kind with one to four things wrong."""
    if kind.endswith(".gz"):
        if rng.random() < 0.3:
            return raw(rng, content)
        return gzip.compress(spoilt(rng, gzip.decompress(content), kind[:-3]), mtime=0)
    structured = {
        "json": _json,
        "jsonl": _jsonl,
        "safetensors": _safetensors,
        "npy": _npy,
        "npz": _npz,
        "msgpack": _msgpack,
        "model": _model,
        "gin": _gin,
        "txt": _lines,
        "tsv": _lines,
        "csv": _lines,
    }.get(kind)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        if structured is None or rng.random() < 0.3:
            content = raw(rng, content)
        else:
            try:
                content = structured(rng, content)
            except Exception:  # spoilt too far to be taken apart again
                content = raw(rng, content)
    return content


def raw(rng: random.Random, content: bytes) -> bytes:
    """Bytes: bits turned, a cut, a splice, a number where it may be a length."""
    data = bytearray(content)
    place = rng.randrange(len(data) + 1)
    way = rng.randrange(8)
    if way == 0 and data:
        for _ in range(rng.choice([1, 1, 2, 8, 64])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif way == 1:
        del data[place:]
    elif way == 2:
        del data[place : place + rng.choice([1, 4, 64])]
    elif way == 3:
        data[place:place] = rng.randbytes(rng.choice([1, 4, 64]))
    elif way == 4:
        start = rng.randrange(len(data) + 1)
        data[place:place] = data[start : start + rng.choice([1, 16, 256])]
    elif way == 5:
        number = rng.choice(NUMBERS) & (2**64 - 1)
        data[place : place + 8] = struct.pack("<Q", number)
    elif way == 6:
        data[place:place] = rng.choice([b"\xff\xfe", b"\0", b"\x80", b"\xed\xa0\x80", b"[" * 3000])
    else:
        data = bytearray(rng.choice([b"", b"\0" * 64, b"\xff" * 64, rng.randbytes(200), b"null"]))
    return bytes(data)


def odd(rng: random.Random) -> Any:
    """A value that hardly belongs anywhere."""
    return rng.choice(
        [
            None,
            rng.random() < 0.5,
            rng.choice(NUMBERS),
            rng.choice(NUMBERS),
            rng.choice(FLOATS),
            rng.choice(TEXTS),
            rng.choice(TEXTS),
            rng.choice(CLASSES),
            [],
            {},
            [rng.choice(NUMBERS)] * rng.choice([1, 3]),
            {"class": rng.choice(CLASSES), "settings": {}},
            DEEP,
        ]
    )


def tree(rng: random.Random, value: Any) -> Any:
    """A value of dicts and lists with one thing in it replaced, taken away, added or renamed."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.05:
        return odd(rng)
    own = dict(value) if isinstance(value, dict) else list(value)
    key = rng.choice(list(own)) if isinstance(own, dict) else rng.randrange(len(own))
    way = rng.randrange(10)
    if way < 6:
        own[key] = tree(rng, own[key]) if isinstance(own[key], dict | list) else odd(rng)
    elif way == 6:
        del own[key]
    elif way == 7 and isinstance(own, dict):
        own[rng.choice([*map(str, TEXTS), f"{key}/x", f"{key}x"])] = own.pop(key)
    elif way == 8 and isinstance(own, dict):
        own[rng.choice(list(own))] = own[key]
    elif isinstance(own, list):
        own.insert(key, rng.choice([odd(rng), own[key]]))
    else:
        own[str(rng.choice(TEXTS))] = odd(rng)
    return own


def _dumped(rng: random.Random, value: Any) -> str:
    text = json.dumps(value)
    depth = rng.choice([50, 900, 5000, 100_000])
    opened, closed = rng.choice([("[", "]"), ('{"a":', "}")])
    text = text.replace(json.dumps(DEEP), opened * depth + "1" + closed * depth)
    if rng.random() < 0.05:  # a key that is there twice
        text = re.sub(
            r'"(\w+)": ', lambda m: f'"{m[1]}": null, {m[0]}', text, count=rng.choice([1, 3])
        )
    if rng.random() < 0.02:
        text = re.sub(r"\d+", lambda m: m[0] + "0" * 5000, text, count=1)
    return text


def _json(rng: random.Random, content: bytes) -> bytes:
    return _dumped(rng, tree(rng, json.loads(content))).encode()


def _jsonl(rng: random.Random, content: bytes) -> bytes:
    lines = content.decode().split("\n")
    place = rng.randrange(len(lines))
    if lines[place].strip() and rng.random() < 0.8:
        lines[place] = _dumped(rng, tree(rng, json.loads(lines[place])))
        return "\n".join(lines).encode()
    return _lines(rng, content)


def _lines(rng: random.Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    place, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    way = rng.randrange(6)
    if way == 0:
        lines[place], lines[other] = lines[other], lines[place]
    elif way == 1:
        lines.insert(place, lines[other])
    elif way == 2:
        del lines[place]
    elif way == 3:
        lines[place] = lines[place][: rng.randrange(len(lines[place]) + 1)]
    elif way == 4:
        parts = re.split(rb"([\t, ])", lines[place])
        parts[rng.randrange(len(parts))] = str(odd(rng)).encode(errors="surrogatepass")
        lines[place] = b"".join(parts)
    else:
        lines[place] += rng.choice(
            [b"\t\t", b'"', b"\r", b"\0", b",,", b'""', b"\x85", b"{", b"\xff"]
        )
    return b"\n".join(lines)


def _safetensors(rng: random.Random, content: bytes) -> bytes:
    (size,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + size], content[8 + size :]
    way = rng.randrange(5)
    if way == 0:
        return struct.pack("<Q", rng.choice(NUMBERS) & (2**64 - 1)) + content[8:]
    if way == 1:
        data = bytearray(data)
        place = rng.randrange(max(len(data) // 4, 1)) * 4
        data[place : place + 4] = struct.pack(
            "<f", rng.choice([float("nan"), float("inf"), 1e38, 7])
        )
        return content[: 8 + size] + bytes(data)
    names = json.loads(header)
    if way == 2:  # a tensor that is right by itself, of another type, shape or name
        name = rng.choice(list(names))
        length = names[name]["data_offsets"][1] - names[name]["data_offsets"][0]
        kind, width = rng.choice(
            [("F64", 8), ("F16", 2), ("BF16", 2), ("I8", 1), ("U8", 1), ("BOOL", 1), ("I32", 4)]
            + [("F8_E4M3", 1), ("F8_E8M0", 1), ("C64", 8), ("U64", 8), ("F4", 1), ("F32", 4)]
        )
        if length % width == 0:
            names[name] |= {
                "dtype": kind,
                "shape": rng.choice([[length // width], [1, length // width]]),
            }
        if rng.random() < 0.3:
            new = rng.choice(
                [*TEXTS[:-1], "a/b", f"{name}/x", name.rpartition("/")[0], f"{name}.scale"]
            )
            names[new] = names.pop(name)
        text = json.dumps(names)
    else:
        text = _dumped(rng, tree(rng, names))
    return struct.pack("<Q", len(text.encode())) + text.encode() + data


def _npy(rng: random.Random, content: bytes) -> bytes:
    (size,) = struct.unpack("<H", content[8:10])
    header, data = content[10 : 10 + size].decode(), content[10 + size :]
    way = rng.randrange(5)
    if way == 0:
        kinds = "<f8 >f4 <f2 <f16 |O O <i4 |S4 <U4 <c8 |b1 |V4 |V0 <M8 <f4,<f4 f99 ,".split()
        header = re.sub(r"'descr': '[^']*'", f"'descr': {rng.choice(kinds)!r}", header)
    elif way == 1:
        shape = tuple(rng.choice(NUMBERS) for _ in range(rng.choice([0, 1, 2, 2, 3])))
        header = re.sub(r"'shape': \([^)]*\)", f"'shape': {shape}", header)
    elif way == 2:
        nested = rng.choice(["(" * 5000, "[" * 90 + "]" * 90, "(" * 3000 + ")" * 3000, "-" * 5000])
        header = header.replace("False", rng.choice(["True", "None", "0", "[]", nested]))
    elif way == 3:
        data = rng.choice([data[: rng.randrange(len(data) + 1)], data + b"\0", b""])
    else:
        data = (
            data[:4] + struct.pack("<f", rng.choice([float("nan"), float("inf"), 3e38])) + data[8:]
        )
    made = header.encode()
    size = rng.choice([len(made)] * 6 + [0, 1, 65535])
    return content[:8] + struct.pack("<H", size & 0xFFFF) + made + data


def _npz(rng: random.Random, content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    way = rng.randrange(4)
    if way < 2:
        members[name] = _npy(rng, members[name])
    elif way == 2:
        members[name] = raw(rng, members[name])
    else:
        members[rng.choice(["x.npy", "../x.npy", "/x.npy"])] = members.pop(name)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice([0, 8])) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return out.getvalue()


def _msgpack(rng: random.Random, content: bytes) -> bytes:
    value = msgpack.unpackb(content, raw=False, strict_map_key=False)
    if rng.random() < 0.1:
        return rng.choice([b"\x91", b"\x81\xa1a"]) * rng.choice([100, 900, 5000]) + b"\xc0"

    def leaf(node: Any) -> Any:
        """Somewhere far down, where arrays and their descriptions are."""
        if isinstance(node, dict) and node:
            key = rng.choice(list(node))
            if isinstance(node[key], dict | msgpack.ExtType) and rng.random() < 0.9:
                return node | {key: leaf(node[key])}
            return tree(rng, node)
        if isinstance(node, msgpack.ExtType):
            if rng.random() < 0.4:
                return msgpack.ExtType(rng.choice([0, 1, 2, 3, 4, 100]), node.data)
            try:
                inner = tree(rng, msgpack.unpackb(node.data))
                return msgpack.ExtType(node.code, _packed(inner))
            except ValueError:
                return msgpack.ExtType(node.code, raw(rng, node.data))
        return odd(rng)

    return _packed(leaf(value))


def _packed(value: Any) -> bytes:
    def within(node: Any) -> Any:
        if isinstance(node, dict):
            return {str(k).replace("\ud800", "?"): within(v) for k, v in node.items()}
        if isinstance(node, list | tuple) and not isinstance(node, msgpack.ExtType):
            return [within(v) for v in node]
        if isinstance(node, str):
            return node.replace("\ud800", "?")
        if isinstance(node, int) and not -(2**63) <= node < 2**64:
            return 2**64 - 1
        return node

    return msgpack.packb(within(value))


def _model(rng: random.Random, content: bytes) -> bytes:
    model = sentencepiece_model_pb2.ModelProto.FromString(content)
    way = rng.randrange(7)
    piece = rng.choice(model.pieces)
    if way == 0:
        piece.piece = rng.choice(["", "x", "▁", "<s>", "é" * 300, "<extra_id_0>", "▁<extra_id_0>"])
    elif way == 1:
        piece.score = rng.choice(FLOATS[:-1] + [-1e30, 0.0])
    elif way == 2:
        piece.type = rng.choice([1, 2, 3, 4, 5, 6])
    elif way == 3:
        del model.pieces[rng.randrange(len(model.pieces)) :]
    elif way in (4, 5) and model.normalizer_spec.precompiled_charsmap:
        table = bytearray(model.normalizer_spec.precompiled_charsmap)
        for _ in range(rng.choice([1, 8, 200])):
            table[rng.randrange(len(table))] = rng.randrange(256)
        if rng.random() < 0.3:
            del table[rng.randrange(len(table)) :]
        model.normalizer_spec.precompiled_charsmap = bytes(table)
    else:
        spec = rng.choice([model.trainer_spec, model.normalizer_spec])
        field = rng.choice(spec.DESCRIPTOR.fields)
        try:
            setattr(spec, field.name, rng.choice([0, -1, 2**31 - 1, True, 1.5, "x", b"\xff\xfe"]))
        except (TypeError, ValueError, AttributeError):
            return raw(rng, content)
    return model.SerializeToString()


def _gin(rng: random.Random, content: bytes) -> bytes:
    text = content.decode()
    way = rng.randrange(5)
    if way == 0:
        return _lines(rng, content)
    if way == 1:  # a value, or a part of one
        nested = rng.choice(
            ["[" * 60 + "]" * 60, "[" * 4000 + "]" * 4000, "(" * 300, "-" * 9000 + "1"]
        )
        values = [
            repr(odd(rng)),
            "9" * 5000,
            nested,
            "{[]: 1}",
            "@x()",
            "%x",
            "@a/b",
            "%A/B",
            "1 2",
        ]
        places = list(re.finditer(r"= *(.+)", text))
        found = rng.choice(places)
        made = text[: found.start(1)] + rng.choice(values) + text[found.end(1) :]
    elif way == 2:  # a name
        names = [
            "gin.macro",
            "x",
            "a.b.c",
            "",
            ".",
            "train.",
            ".train",
            "import",
            "include",
            "%",
            "@",
        ]
        found = rng.choice(list(re.finditer(r"[\w.]+", text)))
        made = text[: found.start()] + rng.choice(names) + text[found.end() :]
    elif way == 3:  # a sign
        place = rng.randrange(len(text))
        signs = rng.choice(list("=@%()[]{}'\"\\\n\t:#,/.;\0\f\r") + ['"""', "\x85", "\u2028"])
        made = text[:place] + signs + text[place + rng.choice([0, 1]) :]
    else:
        statements = ["include 'x.gin'", "import absent_module", "from a import b"]
        statements += [
            "include '/dev/null'",
            "include 7",
            "import",
            "from x import *",
            "A = %A",
            "A = %B",
        ]
        statements += ["train.train.absent = 1", "a/train.train.extras = 2", "singleton.x = @y()"]
        made = text + "\n" + rng.choice(statements) + "\n"
    return made.encode(errors="surrogatepass")
