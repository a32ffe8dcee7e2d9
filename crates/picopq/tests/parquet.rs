//! Columns of Parquet tables; `data/make_parquet.py` wrote the samples.
#![cfg(feature = "parquet")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::data_type::{DataType, FloatType, Int32Type, Int64Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use picopq::io::{Dtype, EncodeOptions, Format, RowReader, RowWriter, encode_file, sample};
use picopq::{Error, Metric, Pq, Quantizer, Result, Task};

const ROWS: usize = 7;
const DIM: usize = 3;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn open(path: &Path, column: Option<&str>) -> Result<RowReader<'static>> {
    RowReader::open_column(path, Format::Parquet, column)
}

/// All numbers, read `rows` rows at a time.
fn read(path: &Path, column: Option<&str>, rows: usize) -> Result<Vec<f32>> {
    let mut reader = open(path, column)?;
    let (mut all, mut block) = (Vec::new(), Vec::new());
    while reader.read(rows, &mut block)? > 0 {
        all.extend_from_slice(&block);
    }
    Ok(all)
}

fn counted() -> Vec<f32> {
    (0..ROWS * DIM).map(|number| number as f32).collect()
}

#[test]
fn every_type_gives_its_numbers() {
    let table = data("table.parquet");
    let types = [
        ("f32", Dtype::F32),
        ("f64", Dtype::F64),
        ("f16", Dtype::F16),
        ("u8", Dtype::U8),
        ("i8", Dtype::I8),
        ("u16", Dtype::U16),
        ("i16", Dtype::I16),
        ("u32", Dtype::U32),
        ("i32", Dtype::I32),
        ("u64", Dtype::U64),
        ("i64", Dtype::I64),
    ];
    for (name, dtype) in types {
        let column = format!("fixed_{name}");
        let reader = open(&table, Some(&column)).unwrap();
        assert_eq!((reader.rows(), reader.dim()), (Some(ROWS as u64), DIM), "{name}");
        assert_eq!((reader.dtype(), reader.column()), (dtype, Some(&*column)));
        for rows in [1, 2, 5, ROWS, usize::MAX] {
            assert_eq!(read(&table, Some(&column), rows).unwrap(), counted(), "{name}");
        }
    }
    assert_eq!(read(&table, Some("lists"), 3).unwrap(), counted());
    let mut reader = open(&table, Some("id")).unwrap();
    let mut ids: Vec<i64> = Vec::new();
    assert_eq!((reader.dim(), reader.read(10, &mut ids)), (1, Ok(ROWS)));
    assert_eq!(ids, [7, 5, 3, 1, 0, 2, 4]);
    let mut reader = open(&table, Some("fixed_i8")).unwrap();
    reader.skip(5).unwrap();
    assert_eq!((reader.read(10, &mut ids), &ids[..2]), (Ok(2), &[15, 16][..]));
    let few = sample(open(&table, Some("lists")).unwrap(), 3, &Task::new()).unwrap();
    assert_eq!(few, [0.0, 1.0, 2.0, 6.0, 7.0, 8.0, 12.0, 13.0, 14.0]);
}

#[test]
fn every_codec_and_the_only_list_is_found() {
    for name in ["snappy", "zstd", "lz4", "gzip", "version2"] {
        let path = data(&format!("{name}.parquet"));
        assert_eq!(RowReader::open(&path).unwrap().column(), Some("vec"), "{name}");
        assert_eq!(read(&path, None, 2).unwrap(), counted(), "{name}");
    }
    let mut empty = open(&data("empty.parquet"), None).unwrap();
    assert_eq!((empty.rows(), empty.read(5, &mut Vec::<f32>::new())), (Some(0), Ok(0)));
}

#[test]
fn bad_rows_and_columns_are_named() {
    let table = data("table.parquet");
    for (column, wanted, what) in [
        ("ragged", 4, "1 numbers"),
        ("null_row", 2, "a null or no numbers"),
        ("null_number", 6, "a null or no numbers"),
        ("empty_row", 3, "a null or no numbers"),
        ("first_empty", 0, "a null or no numbers"),
    ] {
        match read(&table, Some(column), 2) {
            Err(Error::BadRow { row, got, column: name, .. }) => {
                assert_eq!((row, &*got, &*name), (wanted, what, column));
            }
            other => panic!("{column}: {other:?}"),
        }
    }
    for column in ["text", "deep", "pair", "day", "none", ""] {
        let error = read(&table, Some(column), 2).unwrap_err().to_string();
        assert!(
            error.contains(&format!("column {column:?} (of numbers are: fixed_f32,")),
            "{error}"
        );
    }
    let error = read(&table, None, 2).unwrap_err().to_string();
    assert!(error.contains("a choice among the columns fixed_f32, fixed_f64"), "{error}");
    let missing = read(&data("none.parquet"), None, 2);
    assert!(matches!(missing, Err(Error::Io { kind: std::io::ErrorKind::NotFound, .. })));
    let other = read(&data("pq2x8.faiss"), None, 2);
    assert!(matches!(other, Err(Error::Undecodable { format: "Parquet", .. })), "{other:?}");
    let bytes = fs::read(&table).unwrap();
    let stream = RowReader::stream(&bytes[..], "standard input", Format::Parquet).err().unwrap();
    assert!(stream.to_string().contains("Parquet from a stream"), "{stream}");
    let written = RowWriter::create(&data("x.parquet"), Format::Parquet, Dtype::F32, 3);
    assert!(matches!(written, Err(Error::Unsupported { .. })));
    let npy = RowReader::open_column(&data("pq2x5_codes.npy"), Format::Npy, Some("vec"));
    assert!(matches!(npy, Err(Error::Unsupported { .. })));
}

#[test]
fn an_encoding_is_taken_up_with_the_same_column_alone() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("codes.npy");
    let codewords = (0..6).map(|value| value as f32 * 3.0).collect();
    let model: Quantizer = Pq::from_codewords(codewords, 1, 2, DIM, Metric::L2).unwrap().into();
    let options = EncodeOptions { block_rows: Some(2), resume: true };
    let encode = |column| {
        let reader = open(&data("table.parquet"), Some(column)).unwrap();
        encode_file(&model, reader, &output, &options, &Task::new())
    };
    // Four rows are done before the one that is bad.
    assert!(matches!(encode("ragged"), Err(Error::BadRow { row: 4, .. })));
    let other = encode("lists");
    assert!(matches!(&other, Err(Error::BadField { field, .. }) if field.contains("fingerprint")));
    assert!(matches!(encode("ragged"), Err(Error::BadRow { row: 4, .. })));
    fs::remove_file(folder.path().join("codes.npy.partial")).unwrap();
    assert_eq!(encode("lists"), Ok(ROWS as u64));
}

/// Writes a table of one column, which `schema` describes.
fn write<T: DataType>(schema: &str, values: &[T::T], levels: Option<[&[i16]; 2]>) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let [definition, repetition] = levels.map_or([None; 2], |levels| levels.map(Some));
    column.typed::<T>().write_batch(values, definition, repetition).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

/// Files of before 2018 say "converted" types alone; a column need not be optional, nor a list.
#[test]
fn integers_of_older_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.parquet");
    for (name, dtype) in [
        ("UINT_8", Dtype::U8),
        ("INT_8", Dtype::I8),
        ("UINT_16", Dtype::U16),
        ("INT_16", Dtype::I16),
        ("UINT_32", Dtype::U32),
        ("INT_32", Dtype::I32),
        ("INTEGER(32,true)", Dtype::I32),
        ("UINT_64", Dtype::U64),
        ("INT_64", Dtype::I64),
        ("INTEGER(64,true)", Dtype::I64),
    ] {
        let wide = name.contains("64");
        let physical = if wide { "int64" } else { "int32" };
        let schema = format!("message table {{ required {physical} n ({name}); }}");
        let bytes = if wide {
            write::<Int64Type>(&schema, &[3, 1, 2], None)
        } else {
            write::<Int32Type>(&schema, &[3, 1, 2], None)
        };
        fs::write(&path, bytes).unwrap();
        let reader = open(&path, None).unwrap();
        assert_eq!(
            (reader.dtype(), reader.column(), reader.dim()),
            (dtype, Some("n"), 1),
            "{name}"
        );
        assert_eq!(read(&path, None, 2).unwrap(), [3.0, 1.0, 2.0], "{name}");
    }
}

/// Rows too short and too long, of as many numbers as there should be.
#[test]
fn rows_that_only_add_up_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    let schema = "message table { optional group vec (LIST) { repeated group list {
        optional float element; } } }";
    for (lengths, wanted) in [([3, 2, 4], (1, "2 numbers")), ([3, 4, 2], (1, "4 numbers"))] {
        let repetition: Vec<i16> =
            lengths.iter().flat_map(|&length| (0..length).map(|at| i16::from(at > 0))).collect();
        let bytes = write::<FloatType>(schema, &[1.0; 9], Some([&[3; 9], &repetition]));
        fs::write(&path, bytes).unwrap();
        match read(&path, None, 3) {
            Err(Error::BadRow { row, got, .. }) => assert_eq!((row, &*got), wanted),
            other => panic!("{lengths:?}: {other:?}"),
        }
    }
}

/// The header of a page in `beyond.parquet` claims billions of numbers, which are not there to be skipped.
#[test]
fn a_header_that_claims_more_than_the_file_is_refused_at_once() {
    match read(&data("beyond.parquet"), None, 3) {
        Err(Error::Undecodable { reason, .. }) => assert!(reason.contains("end of file")),
        other => panic!("{other:?}"),
    }
}

/// Every prefix and every flipped bit gives numbers or an error of the file.
#[test]
fn no_bytes_end_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bytes.parquet");
    let (mut good, mut bad) = (0, 0);
    let mut judge = |bytes: &[u8], column| {
        fs::write(&path, bytes).unwrap();
        match read(&path, column, 3) {
            Ok(_) => good += 1,
            Err(
                Error::Undecodable { .. }
                | Error::BadRow { .. }
                | Error::Unsupported { .. }
                | Error::Truncated { .. }
                | Error::OutOfMemory { .. }
                | Error::Io { .. },
            ) => bad += 1,
            Err(error) => panic!("{error:?}"),
        }
        // A new file waits for no disk; one that is overwritten does on some systems.
        fs::remove_file(&path).unwrap();
    };
    for name in ["snappy", "zstd", "lz4", "gzip", "version2", "empty", "table"] {
        let bytes = fs::read(data(&format!("{name}.parquet"))).unwrap();
        let column = (name == "table").then_some("lists");
        // The table has the same kinds of bytes many times.
        let step = if name == "table" { 7 } else { 1 };
        let bits = if name == "version2" { 8 } else { 1 };
        for length in (0..bytes.len()).step_by(step) {
            judge(&bytes[..length], column);
        }
        for at in (0..bytes.len()).step_by(step) {
            for bit in 0..bits {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << ((at + bit) % 8);
                judge(&changed, column);
            }
        }
    }
    // A flipped bit of a number is another number, so many are good.
    assert!(good > 1000 && bad > 10_000, "{good} {bad}");
}
