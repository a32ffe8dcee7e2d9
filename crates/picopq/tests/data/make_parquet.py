"""Writes the .parquet files beside it, with pyarrow 26: python make_parquet.py"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
ROWS, DIM = 7, 3
NUMBERS = np.arange(ROWS * DIM)


def fixed(dtype: pa.DataType) -> pa.Array:
    values = pa.array(NUMBERS.astype(dtype.to_pandas_dtype()), dtype)
    return pa.FixedSizeListArray.from_arrays(values, DIM)


def lists(rows: list[list[float | None] | None]) -> pa.Array:
    return pa.array(rows, pa.list_(pa.float32()))


rows = NUMBERS.reshape(ROWS, DIM).tolist()
columns = {
    f"fixed_{name}": fixed(dtype)
    for name, dtype in [
        ("f32", pa.float32()), ("f64", pa.float64()), ("f16", pa.float16()), ("u8", pa.uint8()),
        ("i8", pa.int8()), ("u16", pa.uint16()), ("i16", pa.int16()), ("u32", pa.uint32()),
        ("i32", pa.int32()), ("u64", pa.uint64()), ("i64", pa.int64()),
    ]
}
columns |= {
    "lists": lists(rows),
    "id": pa.array([7, 5, 3, 1, 0, 2, 4]),
    "text": pa.array(list("abcdefg")),
    "deep": pa.array([[row] for row in rows], pa.list_(pa.list_(pa.int64()))),
    "pair": pa.array([{"a": 1, "b": 2}] * ROWS),
    "day": pa.array([0] * ROWS, pa.date32()),
    "ragged": lists([*rows[:4], [1.0], *rows[5:]]),
    "null_row": lists([*rows[:2], None, *rows[3:]]),
    "null_number": lists([*rows[:6], [1.0, None, 2.0]]),
    "empty_row": lists([*rows[:3], [], *rows[4:]]),
    "first_empty": lists([[], *rows[1:]]),
}
table = pa.table(columns)
pq.write_table(table, HERE / "table.parquet", row_group_size=4, compression="none", store_schema=False)
vec = pa.table({"id": columns["id"], "vec": columns["fixed_f32"]})
for codec in ["snappy", "zstd", "lz4", "gzip"]:
    pq.write_table(vec, HERE / f"{codec}.parquet", compression=codec, store_schema=False)
version = {"data_page_version": "2.0", "use_dictionary": False, "data_page_size": 16}
pq.write_table(vec, HERE / "version2.parquet", row_group_size=5, compression="zstd", **version)
pq.write_table(vec.slice(0, 0), HERE / "empty.parquet")
