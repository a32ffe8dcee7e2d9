//! Bad input and what the user gets: exit code, one line that names the place, no file left.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use picopq::io::{Format, Number, RowWriter};
use tempfile::TempDir;

const DIM: usize = 6;
const ROWS: usize = 80;

fn run(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_picopq"));
    command.current_dir(folder).stdin(Stdio::null());
    command.args(arguments.split_whitespace()).output().unwrap()
}

fn rows(folder: &Path, name: &str, rows: &[f32]) {
    write(folder, name, DIM, rows);
}

fn write<T: Number>(folder: &Path, name: &str, dim: usize, numbers: &[T]) {
    let path = folder.join(name);
    let mut writer = RowWriter::create(&path, Format::of(&path).unwrap(), T::DTYPE, dim).unwrap();
    writer.write(numbers).unwrap();
    writer.finish().unwrap();
}

/// An .npy file of any header.
fn npy(folder: &Path, name: &str, header: &str, data: &[u8]) {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(data);
    fs::write(folder.join(name), bytes).unwrap();
}

fn change(folder: &Path, from: &str, to: &str, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(folder.join(from)).unwrap();
    edit(&mut bytes);
    fs::write(folder.join(to), bytes).unwrap();
}

/// A folder with good files and every bad one.
fn prepared() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let good: Vec<f32> = (0..ROWS * DIM).map(|i| (i * i % 97) as f32).collect();
    rows(at, "base.npy", &good);
    rows(at, "base.fvecs", &good);
    rows(at, "base.fbin", &good);
    for arguments in [
        "train base.npy -o model.safetensors -m 3 --ks 8",
        "encode model.safetensors base.npy -o codes.npy",
        "index model.safetensors codes.npy --codes -o index.faiss",
    ] {
        assert!(run(at, arguments).status.success(), "{arguments}");
    }
    let with = |name: &str, value: f32| {
        let mut values = good.clone();
        values[61 * DIM + 4] = value;
        rows(at, name, &values);
    };
    with("nan.npy", f32::NAN);
    with("inf.fvecs", f32::NEG_INFINITY);
    with("large.npy", 1e30);
    rows(at, "none.npy", &[]);
    rows(at, "equal.npy", &[1.0; ROWS * DIM]);
    write(at, "nocodes.npy", 3, &[0_u8; 0]);
    write(at, "high.npy", 3, &[0_i64, 7, 0, 1, 8, 2]);
    write(at, "negative.npy", 3, &[0_i64, 7, 0, 1, -1, 2]);
    write(at, "ids.npy", 1, &(0..ROWS as i64 - 1).collect::<Vec<_>>());
    write(at, "twice.npy", 1, &[5_i64; ROWS]);
    npy(at, "object.npy", "{'descr': '|O', 'fortran_order': False, 'shape': (1, 6), }", b"(dp0");
    npy(at, "cube.npy", "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 6, 1), }", &[0; 24]);
    let huge = "{'descr': '<f4', 'fortran_order': False, 'shape': (2305843009213693952, 6), }";
    npy(at, "huge.npy", huge, &[0; 24]);
    let many = "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 6), }";
    npy(at, "many.npy", many, &[0; 24]);
    change(at, "base.npy", "trailing.npy", |bytes| bytes.push(0));
    change(at, "base.npy", "cut.npy", |bytes| bytes.truncate(1000));
    change(at, "base.fbin", "longer.fbin", |bytes| bytes[0] += 1);
    change(at, "base.fvecs", "uneven.fvecs", |bytes| bytes[3 * (4 + 4 * DIM)] = 5);
    change(at, "base.fvecs", "cut.fvecs", |bytes| bytes.truncate(bytes.len() - 3));
    change(at, "model.safetensors", "flipped.safetensors", |bytes| {
        *bytes.last_mut().unwrap() ^= 1;
    });
    change(at, "model.safetensors", "cut.safetensors", |bytes| bytes.truncate(bytes.len() - 1));
    change(at, "index.faiss", "flipped.faiss", |bytes| bytes[0] ^= 1);
    change(at, "index.faiss", "cut.faiss", |bytes| bytes.truncate(bytes.len() / 2));
    change(at, "index.faiss", "longer.faiss", |bytes| bytes.push(0));
    fs::write(at.join("empty.npy"), "").unwrap();
    fs::write(at.join("empty.faiss"), "").unwrap();
    fs::write(at.join("empty.safetensors"), "").unwrap();
    fs::create_dir(at.join("folder.fbin")).unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../picopq/tests/data");
    for name in ["table.parquet", "ivfpq.faiss"] {
        fs::copy(data.join(name), at.join(name)).unwrap();
    }
    folder
}

/// Arguments, exit code, a piece of what is printed.
const TABLE: &[(&str, i32, &str)] = &[
    // NaN, infinity, magnitudes whose squares overflow.
    ("train nan.npy -o x.safetensors -m 3 --ks 8", 65, "row 61, column 4"),
    ("train nan.npy -o x.safetensors -m 3 --ks 8 --opq", 65, "row 61, column 4"),
    ("encode model.safetensors nan.npy -o x.npy", 65, "row 61, column 4"),
    ("encode model.safetensors inf.fvecs -o x.faiss", 65, "row 61, column 4"),
    ("encode model.safetensors large.npy -o x.npy", 65, "column 4"),
    ("index model.safetensors nan.npy -o x.faiss", 65, "row 61, column 4"),
    ("search index.faiss nan.npy", 65, "row 61, column 4"),
    ("search index.faiss large.npy", 65, "column 4"),
    ("eval model.safetensors nan.npy", 65, "row 61, column 4"),
    ("report model.safetensors nan.npy -o x.html", 65, "row 61, column 4"),
    // No rows, few rows, equal rows.
    ("train none.npy -o x.safetensors -m 3 --ks 8", 65, "lower --ks or give more vectors"),
    ("encode model.safetensors none.npy -o y.npy", 0, "0 codes"),
    ("decode model.safetensors nocodes.npy -o y.npy", 0, "0 vectors"),
    ("index model.safetensors none.npy -o y.faiss", 0, "0 codes"),
    ("search index.faiss none.npy", 0, "query,rank,id,distance\n"),
    ("train base.npy -o x.safetensors -m 3 --ks 80", 65, "80"),
    ("train equal.npy -o y.safetensors -m 3 --ks 8", 0, "codewords are unused"),
    // k.
    ("search index.faiss base.npy -k 0 --quiet", 0, "query,rank,id,distance\n"),
    ("search index.faiss base.npy -k 100 --quiet", 0, "\n0,79,"),
    // The dimension, and what divides it.
    ("train base.npy -o x.safetensors -m 4 --ks 8", 2, "divisors"),
    ("train base.npy -o x.safetensors -m 0 --ks 8", 2, "m = 0"),
    ("search index.faiss codes.npy", 65, "model has 6, queries has 3"),
    // Types and shapes.
    ("info object.npy", 65, "dtype \"|O\""),
    ("info cube.npy", 65, "(n, dim)"),
    // Codes and ids.
    ("decode model.safetensors high.npy -o x.npy", 65, "give the model that made the codes"),
    ("decode model.safetensors negative.npy -o x.npy", 65, "row 1"),
    ("index model.safetensors high.npy --codes -o x.faiss", 65, "row 1"),
    ("index model.safetensors base.npy --ids ids.npy -o x.faiss", 65, "79"),
    ("index model.safetensors base.npy --ids base.npy -o x.faiss", 65, "wanted integers"),
    ("search index.faiss base.npy --subset base.npy", 65, "wanted integers"),
    // Sizes that are not what is there.
    ("info huge.npy", 65, "the shape"),
    ("train many.npy -o x.safetensors", 65, "get the file anew"),
    ("info trailing.npy", 65, "more follows"),
    ("encode model.safetensors cut.npy -o x.npy", 65, "get the file anew"),
    ("info longer.fbin", 65, "get the file anew"),
    ("convert uneven.fvecs x.npy", 65, "5 at row 3"),
    ("info cut.fvecs", 65, "get the file anew"),
    ("info empty.npy", 65, "the magic string"),
    ("info empty.faiss", 65, "empty.faiss"),
    ("info empty.safetensors", 65, "empty.safetensors"),
    ("info folder.fbin", 74, "folder.fbin"),
    // Models and indexes.
    ("encode flipped.safetensors base.npy -o x.npy", 65, "get the file anew"),
    ("encode cut.safetensors base.npy -o x.npy", 65, "cut.safetensors"),
    ("search flipped.faiss base.npy", 65, "flipped.faiss"),
    ("search cut.faiss base.npy", 65, "get the file anew"),
    ("convert longer.faiss x.safetensors", 65, "more follows"),
    ("info ivfpq.faiss", 65, "IwPQ"),
    // Parquet.
    ("info table.parquet", 65, "a choice among the columns"),
    ("info table.parquet --column text", 65, "column \"text\""),
    ("train table.parquet --column ragged -o x.safetensors --ks 2", 65, "row 4"),
    ("convert table.parquet x.npy --column null_row", 65, "row 2"),
    ("convert table.parquet y.fbin --column fixed_f16 --dtype f32", 0, "7 rows"),
    ("convert base.npy x.parquet", 65, "Parquet"),
    ("convert - x.npy --from parquet --column lists", 65, "Parquet from a stream"),
    ("train base.npy --column lists -o x.safetensors", 2, "--column"),
];

#[test]
fn bad_input_is_named_and_leaves_nothing() {
    let folder = prepared();
    let at = folder.path();
    let mut failures = Vec::new();
    for &(arguments, code, piece) in TABLE {
        let output = run(at, arguments);
        let both = [&output.stdout[..], &output.stderr[..]].concat();
        let both = String::from_utf8(both).unwrap();
        let one_line = code == 0 || both.lines().count() == 1 && both.starts_with("picopq: ");
        if output.status.code() != Some(code) || !both.contains(piece) || !one_line {
            failures.push(format!("{arguments}\n  {:?} {both}", output.status.code()));
        }
        let left = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("x.")).collect();
        // Of an encoding, what was done before a bad row can be taken up.
        if !left.iter().all(|name| name.to_string_lossy().ends_with(".partial")) {
            failures.push(format!("{arguments}\n  left {left:?}"));
        }
        for name in left {
            fs::remove_file(at.join(name)).unwrap();
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn unavailable_kernels_are_an_error_of_the_command() {
    let folder = prepared();
    let mut command = Command::new(env!("CARGO_BIN_EXE_picopq"));
    command.current_dir(folder.path()).env("PICOPQ_KERNELS", "none");
    let output = command.args(["search", "index.faiss", "base.npy"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("none") && said.contains("unset the variable"), "{said}");
}

/// Whoever listens may go away at any time.
#[cfg(target_os = "linux")]
#[test]
fn every_answer_may_meet_a_closed_pipe() {
    let folder = prepared();
    for arguments in [
        "info base.npy",
        "search index.faiss base.npy -k 80",
        "encode model.safetensors base.npy -o -",
        "decode index.faiss -o -",
        "convert base.npy - --to fvecs",
        "eval index.faiss base.npy --json",
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picopq"));
        command.current_dir(folder.path()).args(arguments.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.arg("-q").spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*said), (Some(0), ""), "{arguments}");
    }
}
