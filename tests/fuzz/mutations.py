"""Seeded ways of breaking a file: bytes, lines, and the values in JSON, YAML, safetensors and checkpoints."""

from __future__ import annotations

import copy
import gzip
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

ODD_BYTES = (
    b"\x00",
    b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\n", b"\x1b[2J", b'"', b"\\ud800", b"\\", b"{", b"]",
    b"[" * 100_000, b"9" * 5000, b"NaN", b"1e999", b"-0", b"&a [*a]", b"!!python/object/apply:os.system [x]\n", b"\xe9",
)  # fmt: skip


class Call:
    """What pickle makes a call of: it would leave a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def odd_values(rng: random.Random) -> Any:
    """A value that stands in no file of ours; none that is merely large: a model of that size is what it asks for."""
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    return rng.choice(
        [None, True, False, 0, -1, 1, 3,
         2**31, 10**30, 1.5, -0.5, float("nan"), float("inf"), 17, "", " ", "x", "1",
         "../x", "\ud800", "\x1b[2J", "evil.C", "x" * 10_000, [], {}, [[]], [None], [1, True], ["x"], {"x": None}, deep]
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------
# Bytes and lines


def mutate_bytes(rng: random.Random, content: bytes) -> bytes:
    """Flip, cut, insert, repeat or exchange bytes or lines, once or a few times."""
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        content = rng.choice(_OF_BYTES)(rng, content)
    return content


def _flip(rng: random.Random, content: bytes) -> bytes:
    if not content:
        return b"\x80"
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _delete(rng: random.Random, content: bytes) -> bytes:
    first, last = sorted(rng.randrange(len(content) + 1) for _ in "ab")
    return content[:first] + content[last:]


def _insert(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(ODD_BYTES) + content[at:]


def _lines(rng: random.Random, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    which = rng.randrange(len(lines))
    how = rng.randrange(4)
    if how == 0:
        del lines[which]
    elif how == 1:
        lines.insert(which, lines[which])
    elif how == 2:
        rng.shuffle(lines)
    else:
        lines[which] = rng.choice([b"\n", b" \n", b"null\n", b"[]\n", b"{}\n", b"5\n"])
    return b"".join(lines)


_OF_BYTES = (_flip, _flip, _cut, _delete, _insert, _insert, _lines)


def replacement(rng: random.Random, marker: Path) -> bytes:
    """Another file altogether."""
    poison = pickle.dumps(Call(marker))
    return rng.choice(
        [b"", b"\n", b"<!doctype html><html>", b"version https://git-lfs.github.com/spec/v1\n", poison,
         gzip.compress(b"{}\n"), b"null", b"[]", b"{}", b'"x"', bytes(rng.randrange(256) for _ in range(64))]
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------
# Values


def mutate_value(rng: random.Random, value: Any, extra: Callable[[random.Random], tuple[str, Any]]) -> Any:
    """Change, remove or add something in nested lists and mappings; `extra` gives entries to add to a mapping."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        holders = [(None, None)]
        _collect(value, holders)
        holder, key = rng.choice(holders)
        if holder is None:
            if isinstance(value, dict) and rng.random() < 0.8:
                name, added = extra(rng)
                value[name] = added
            elif rng.random() < 0.3:
                value = odd_values(rng)
        elif rng.random() < 0.2:
            del holder[key]
        elif isinstance(holder[key], dict) and rng.random() < 0.3:
            name, added = extra(rng)
            holder[key][name] = added
        elif isinstance(holder[key], list) and holder[key] and rng.random() < 0.3:
            holder[key].append(holder[key][0])
        else:
            holder[key] = odd_values(rng)
    return value


def _collect(value: Any, holders: list[Any]) -> None:
    if isinstance(value, dict | list) and len(holders) < 2000:
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            holders.append((value, key))
            _collect(value[key], holders)


def odd_entry(rng: random.Random) -> tuple[str, Any]:
    """An entry that configurations may have, or may not."""
    evil = {"AutoConfig": "evil.C", "AutoTokenizer": ["evil.C", None], "AutoModelForCausalLM": "evil.C"}
    return rng.choice(
        [("auto_map", evil), ("model_type", "evil"), ("tokenizer_class", "evil.C"), ("dtype", "evil"), ("x", 1),
         ("quantization_config", {"quant_method": "evil"}), ("_name_or_path", "../x"), ("torch_dtype", 5),
         ("is_encoder_decoder", rng.choice([True, False, "yes"])), ("architectures", rng.choice(["E", [5], None])),
         ("attn_implementation", "evil/kernel"), ("format_version", rng.choice([0, 2, "1"])), ("num_layers", 3)]
    )  # fmt: skip


def mutate_json(rng: random.Random, content: bytes, lines: bool) -> bytes:
    """Change a value of JSON, or of one of its lines."""
    if not lines:
        return json.dumps(mutate_value(rng, json.loads(content), odd_entry)).encode("utf-8", "surrogatepass")
    rows = [json.loads(line) for line in content.splitlines()]
    which = rng.randrange(len(rows))
    rows[which] = mutate_value(rng, rows[which], odd_entry)
    return "".join(json.dumps(row, ensure_ascii=rng.random() < 0.5) + "\n" for row in rows).encode(
        "utf-8", "surrogatepass"
    )


def mutate_yaml(rng: random.Random, content: bytes) -> bytes:
    """Change a value of YAML."""
    changed = mutate_value(rng, yaml.safe_load(content), odd_entry)
    return yaml.safe_dump(changed, allow_unicode=False).encode("utf-8", "surrogatepass")


def mutate_safetensors(rng: random.Random, content: bytes) -> bytes:
    """Change a value of the header."""
    (length,) = struct.unpack("<Q", content[:8])
    header = mutate_value(rng, json.loads(content[8 : 8 + length]), odd_entry)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    length = len(text) if rng.random() < 0.9 else rng.choice([0, 2**40, 2**63, len(text) + 1])
    return struct.pack("<Q", length) + text + content[8 + length if length < 2**30 else 8 :]


def mutate_checkpoint(rng: random.Random, path: Path, marker: Path) -> None:
    """Change a value of what torch.save wrote, or name a call in it."""
    values = torch.load(path, weights_only=True)
    chosen = rng.choice(
        [key for key in values if key not in ("optimizer_states", "lr_schedulers", "loops", "callbacks")]
    )
    if rng.random() < 0.1:
        values["callbacks"] = Call(marker)
    elif rng.random() < 0.15:
        del values[chosen]
    elif isinstance(values[chosen], dict) and chosen != "state_dict":
        values[chosen] = mutate_value(rng, values[chosen], odd_entry)
    elif chosen == "state_dict":
        name = rng.choice(list(values[chosen]))
        weight = values[chosen].pop(name)
        change = rng.randrange(5)
        if change == 0:
            values[chosen][name] = weight.flatten()[:3]
        elif change == 1:
            values[chosen][name] = odd_values(rng)
        elif change == 2:
            values[chosen][f"x.{name}"] = weight
        elif change == 3:
            values[chosen][name] = weight.to(torch.int8) if weight.is_floating_point() else weight
    else:
        values[chosen] = odd_values(rng)
    torch.save(values, path)


def mutate_zip_entry(rng: random.Random, content: bytes, path: Path) -> bytes:
    """Break one entry of a zip file, such as the pickle of a checkpoint."""
    path.write_bytes(content)
    with zipfile.ZipFile(path) as packed:
        entries = {name: packed.read(name) for name in packed.namelist()}
    name = rng.choice(list(entries))
    entries[name] = mutate_bytes(rng, entries[name])
    with zipfile.ZipFile(path, "w") as packed:
        for name, entry in entries.items():
            packed.writestr(name, entry)
    return path.read_bytes()


def break_file(rng: random.Random, path: Path, marker: Path) -> None:
    """Break a file in the ways that its kind can be broken."""
    content, choice = path.read_bytes(), rng.random()
    if choice < 0.04:
        path.unlink()
        if rng.random() < 0.5:
            path.mkdir()
        return
    if choice < 0.1:
        path.write_bytes(replacement(rng, marker))
        return
    if path.suffix == ".ckpt" and choice < 0.7:
        mutate_checkpoint(rng, path, marker)
        return
    by_value: Callable[[], bytes] | None = {
        ".json": lambda: mutate_json(rng, content, lines=False),
        ".jsonl": lambda: mutate_json(rng, content, lines=True),
        ".yaml": lambda: mutate_yaml(rng, content),
        ".safetensors": lambda: mutate_safetensors(rng, content),
        ".ckpt": lambda: mutate_zip_entry(rng, content, path),
    }.get(path.suffix)
    if by_value is not None and choice < 0.75:
        path.write_bytes(by_value())
    else:
        path.write_bytes(mutate_bytes(rng, content))
