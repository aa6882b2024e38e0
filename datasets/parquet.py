#!/usr/bin/env python3
"""Rows of parquet files, as the hub has benchmarks, for `mha2mla-data import TASK DIR/rows.jsonl`.

    python3 datasets/parquet.py DIR FILE.parquet ... [--join KEY=OTHER:FILE.parquet ...]

Writes DIR/rows.jsonl, an object a row, and below DIR/images the original bytes of every picture, under
their SHA-256; a picture's column has its path. --join puts the columns of further files into the
rows whose KEY equals their OTHER, as GQA's pictures need: --join imageId=id:images.parquet.
Needs pyarrow, and nothing of it is needed by the programs. Ran with Python 3.11.7, pyarrow 26.0.1."""
import hashlib
import json
import pathlib
import sys

import pyarrow.parquet as pq


def picture(value, out):
    """The path of a picture's bytes; a struct {bytes, path} of the `datasets` library."""
    data = value["bytes"]
    path = out / "images" / hashlib.sha256(data).hexdigest()
    if not path.exists():
        path.write_bytes(data)
    return "images/" + path.name


def plain(value, out):
    if isinstance(value, dict):
        if isinstance(value.get("bytes"), bytes):
            return picture(value, out)
        return {key: plain(v, out) for key, v in value.items()}
    if isinstance(value, list):
        return [plain(v, out) for v in value]
    return None if isinstance(value, bytes) else value


def rows(path, out):
    for batch in pq.ParquetFile(path).iter_batches(batch_size=64):
        for row in batch.to_pylist():
            yield {key: plain(v, out) for key, v in row.items()}


def main(args):
    out, files, joins = pathlib.Path(args[0]), [], []
    (out / "images").mkdir(parents=True, exist_ok=True)
    args = args[1:]
    while args:
        word = args.pop(0)
        if word != "--join":
            files.append(word)
            continue
        keys, path = args.pop(0).split(":", 1)
        key, other = keys.split("=")
        joins.append((key, {row[other]: row for row in rows(path, out)}))
    with open(out / "rows.jsonl.tmp", "w", encoding="utf-8") as fp:
        for path in files:
            for row in rows(path, out):
                for key, table in joins:
                    row = {**table.get(row[key], {}), **row}
                fp.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    (out / "rows.jsonl.tmp").rename(out / "rows.jsonl")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1:])
