"""The columns of a part, as Arrow has them."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from traincheck.trace.rows import COLUMNS

_TYPES: Final = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "string": pa.string(),
    "list<string>": pa.list_(pa.string()),
    "list<uint64>": pa.list_(pa.uint64()),
    "list<float64>": pa.list_(pa.float64()),
}

SCHEMA: Final = pa.schema([(name, _TYPES[kind]) for name, kind in COLUMNS])
