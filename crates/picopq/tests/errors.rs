//! Every error that a caller can cause, with its fields, and how each reads.
//!
//! `Error::NoConvergence` has no case: the decompositions of finite matrices converge.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use picopq::{
    Codebook, Codes, DistanceTable, Error, Init, Metric, Opq, OpqOptions, Pq, PqOptions, Result,
    Rotation, Start, Task, Vectors, eigenvalue_allocation, evaluate, instruction_set, search,
};

fn assert_all(cases: impl IntoIterator<Item = (Result<()>, Error)>) {
    for (case, (got, wanted)) in cases.into_iter().enumerate() {
        assert_eq!(got, Err(wanted), "case {case}");
    }
}

fn rows(data: &[f32], dim: usize) -> Vectors<'_> {
    Vectors::new(data, dim).unwrap()
}

/// Codewords (2, 2, 2): a model of dimension 4.
const CODEWORDS: [f32; 8] = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0];
/// A rotation (2, 2).
const IDENTITY: [f32; 4] = [1.0, 0.0, 0.0, 1.0];

fn book() -> Codebook<'static> {
    Codebook::new(&CODEWORDS, 2, 2, 2).unwrap()
}

fn table() -> DistanceTable<'static> {
    DistanceTable::new(&[0.0, 1.0, 0.0, 1.0][..], 2, Metric::L2).unwrap()
}

fn two_of(ks: usize) -> PqOptions {
    PqOptions { ks, ..PqOptions::new(2) }
}

/// Trains on `data` (n, 4).
fn train(data: &[f32], options: &PqOptions) -> Result<()> {
    Pq::train(rows(data, 4), options, &Task::new()).map(drop)
}

/// Encodes `data` (n, 4).
fn encode(rotation: Option<Rotation<'_>>, data: &[f32]) -> Result<()> {
    let mut codes = vec![0_u8; data.len() / 2];
    book().encode_into(rotation, rows(data, 4), &mut codes, &Task::new())
}

/// The tables (nq, 2, 2) of `queries` (nq, dim).
fn tables(book: Codebook<'_>, metric: Metric, queries: &[f32], dim: usize) -> Result<()> {
    let queries = rows(queries, dim);
    let mut out = vec![0.0; queries.len() * 4];
    book.tables_into(None, queries, metric, &mut out, &Task::new())
}

/// Neighbours of `queries` (nq, 4) among `base` (n, dim).
fn neighbors(base: &[f32], dim: usize, queries: &[f32]) -> Result<()> {
    let (base, queries) = (rows(base, dim), rows(queries, 4));
    evaluate::ground_truth(base, queries, 1, Metric::L2, &Task::new()).map(drop)
}

/// The error of `data` (n, dim).
fn distortion(rotation: Option<Rotation<'_>>, data: &[f32], dim: usize) -> Result<()> {
    evaluate::distortion(book(), rotation, rows(data, dim), &Task::new()).map(drop)
}

#[test]
fn messages_carry_the_numbers() {
    let large = Error::TooLarge { argument: "query", row: 1, column: 2, dim: 4, limit: 5 };
    for (error, message) in [
        (
            Error::DimensionMismatch { argument: "vectors", expected: 128, got: 96 },
            "dimension mismatch: model has 128, vectors has 96",
        ),
        (
            Error::LengthMismatch { argument: "codes", expected: 6, got: 5 },
            "length mismatch: codes has 5 elements, wanted 6",
        ),
        (
            Error::NotDivisible { dim: 12, m: 5, nearest: vec![4, 6] },
            "dimension 12 cannot be cut into 5 equal sub-spaces: the nearest divisors are [4, 6]",
        ),
        (
            Error::TooFewRows { rows: 16, ks: 256 },
            "too few training vectors: 16 rows for ks = 256, wanted more rows than codewords",
        ),
        (
            Error::OutOfRange { argument: "ks", got: 0, wanted: "1 to 2^32" },
            "ks = 0 is out of range: wanted 1 to 2^32",
        ),
        (
            Error::NonFinite { argument: "vectors", row: 1, column: 2, count: 3 },
            "vectors has 3 value(s) that are NaN or infinite, the first at row 1, column 2",
        ),
        (
            large,
            "query has a value too large for f32 distances at row 1, column 2: the limit at \
             dimension 4 is 5",
        ),
        (
            Error::CodeOutOfRange { code: 9, row: 1, sub_space: 2, ks: 8 },
            "code 9 at row 1, sub-space 2 is out of range: there are 8 codewords",
        ),
        (
            Error::InitialCodewords { expected: 8, got: 9 },
            "initial codewords have 9 elements, wanted m * ks * ds = 8",
        ),
        (
            Error::SizeOverflow { what: "the rotation" },
            "size overflow: the rotation does not fit this machine's address space",
        ),
        (
            Error::OutOfMemory { bytes: 64, what: "the codes" },
            "out of memory: 64 bytes for the codes",
        ),
        (
            Error::NotOrthogonal,
            "rotation is not orthogonal: rotated vectors overflow f32 distances",
        ),
        (Error::Cancelled, "cancelled"),
    ] {
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn other_widths_than_the_model_s() {
    let wide = Codes::new(&[0_u8; 6][..], 3, 2).unwrap();
    let rotation = Rotation::new(&IDENTITY, 2).unwrap();
    let task = Task::new();
    let mismatch = |argument, expected, got| Error::DimensionMismatch { argument, expected, got };
    assert_all([
        (
            book().encode_into(None, rows(&[0.0; 6], 3), &mut [0_u8; 4], &task),
            mismatch("vectors", 4, 3),
        ),
        (tables(book(), Metric::L2, &[0.0; 5], 5), mismatch("query", 4, 5)),
        (book().decode_into(None, &wide, &mut [0.0; 8], &task), mismatch("codes", 2, 3)),
        (table().adist(&wide).map(drop), mismatch("codes", 2, 3)),
        (rotation.apply_into(rows(&[0.0; 6], 3), &mut [0.0; 6], &task), mismatch("vectors", 2, 3)),
        (neighbors(&[0.0; 6], 3, &[0.0; 4]), mismatch("queries", 3, 4)),
        (distortion(None, &[0.0; 6], 3), mismatch("vectors", 4, 3)),
    ]);
}

/// The rotation is at fault, not the vectors, which have the model's width.
#[test]
fn a_rotation_of_another_width() {
    let narrow = Some(Rotation::new(&IDENTITY, 2).unwrap());
    let codes = Codes::new(&[0_u8; 2][..], 2, 2).unwrap();
    let (query, task) = ([0.0; 4], Task::new());
    let wanted = Error::DimensionMismatch { argument: "rotation", expected: 4, got: 2 };
    let tables = book().tables_into(narrow, rows(&query, 4), Metric::L2, &mut [0.0; 4], &task);
    assert_all([
        (encode(narrow, &[0.0; 4]), wanted.clone()),
        (book().decode_into(narrow, &codes, &mut [0.0; 4], &task), wanted.clone()),
        (tables, wanted),
    ]);
}

#[test]
fn arrays_that_do_not_fill_their_shape() {
    let codes = Codes::new(&[0_u8; 6][..], 2, 2).unwrap();
    let rotation = Rotation::new(&IDENTITY, 2).unwrap();
    let (data, task) = ([0.0; 8], Task::new());
    let length = |argument, expected, got| Error::LengthMismatch { argument, expected, got };
    assert_all([
        (Vectors::new(&[0.0; 5], 2).map(drop), length("vectors", 6, 5)),
        (Codes::new(&[0_u8; 5][..], 3, 2).map(drop), length("codes", 6, 5)),
        (Codebook::new(&CODEWORDS, 2, 2, 3).map(drop), length("codewords", 12, 8)),
        (
            Pq::from_codewords(vec![0.0; 7], 2, 2, 2, Metric::L2).map(drop),
            length("codewords", 8, 7),
        ),
        (DistanceTable::new(&[0.0; 3][..], 2, Metric::L2).map(drop), length("dtable", 4, 3)),
        (Rotation::new(&[0.0; 3], 2).map(drop), length("rotation", 4, 3)),
        (book().encode_into(None, rows(&data, 4), &mut [0_u8; 6], &task), length("codes", 4, 6)),
        (book().decode_into(None, &codes, &mut [0.0; 8], &task), length("vectors", 12, 8)),
        (
            book().tables_into(None, rows(&data, 4), Metric::L2, &mut [0.0; 4], &task),
            length("dtable", 8, 4),
        ),
        (table().adist_into(&codes, &mut [0.0; 2], &task), length("distances", 3, 2)),
        (rotation.undo_into(rows(&data, 2), &mut [0.0; 2], &task), length("out", 8, 2)),
    ]);
}

#[test]
fn dimensions_that_cannot_be_cut() {
    let data = [0.0; 24];
    let trained = |dim, m| {
        let options = PqOptions { ks: 1, ..PqOptions::new(m) };
        Pq::train(rows(&data, dim), &options, &Task::new()).map(drop)
    };
    let trained_opq =
        |dim, m| Opq::train(rows(&data, dim), &OpqOptions::new(m), &Task::new()).map(drop);
    let allocated = |dim, m| eigenvalue_allocation(rows(&data, dim), m, &Task::new()).map(drop);
    let uneven =
        |dim, m, nearest: &[usize]| Error::NotDivisible { dim, m, nearest: nearest.to_vec() };
    assert_all([
        (trained(12, 5), uneven(12, 5, &[4, 6])),
        (trained(6, 7), uneven(6, 7, &[6])), // more sub-spaces than dimensions
        (trained_opq(8, 5), uneven(8, 5, &[4, 8])),
        (allocated(4, 3), uneven(4, 3, &[2, 4])),
    ]);
}

#[test]
fn no_more_rows_than_codewords() {
    let few = |ks| PqOptions { allow_few_rows: true, ..two_of(ks) };
    assert_all([
        (train(&[0.0; 4 * 16], &two_of(16)), Error::TooFewRows { rows: 16, ks: 16 }),
        (train(&[], &few(16)), Error::TooFewRows { rows: 0, ks: 16 }),
        (
            train(&[0.0; 4 * 17], &PqOptions { max_rows: Some(16), ..two_of(16) }),
            Error::TooFewRows { rows: 16, ks: 16 },
        ),
        (
            eigenvalue_allocation(rows(&[], 4), 2, &Task::new()).map(drop),
            Error::TooFewRows { rows: 0, ks: 1 },
        ),
    ]);
    assert_eq!(train(&[0.0; 4 * 17], &two_of(16)), Ok(()));
    assert_eq!(train(&[0.0; 4], &few(16)), Ok(()));
}

#[test]
fn scalars_out_of_range() {
    let data = [0.0; 64];
    let wide = [0.0; 300];
    let wide = Codebook::new(&wide, 1, 300, 1).unwrap();
    let range = |argument, got, wanted| Error::OutOfRange { argument, got, wanted };
    let (positive, ks) = ("at least 1", "1 to 2^32");
    let code = "1 to the number of values of the code's integer type";
    assert_all([
        (train(&data, &two_of(0)), range("ks", 0, ks)),
        (train(&data, &two_of((1 << 32) + 1)), range("ks", (1 << 32) + 1, ks)),
        (train(&data, &PqOptions::new(0)), range("m", 0, positive)),
        (train(&data, &PqOptions { iterations: 0, ..two_of(2) }), range("iterations", 0, positive)),
        (Vectors::new(&data, 0).map(drop), range("dim", 0, positive)),
        (Codebook::new(&[], 0, 2, 2).map(drop), range("m", 0, positive)),
        (DistanceTable::new(&data[..], 0, Metric::L2).map(drop), range("m", 0, positive)),
        (Codes::new(&[0_u8][..], 0, 2).map(drop), range("m", 0, positive)),
        (Codes::new(&[0_u8][..], 1, 257).map(drop), range("ks", 257, code)),
        (
            wide.encode_into(None, rows(&data, 1), &mut [0_u8; 64], &Task::new()),
            range("ks", 300, code),
        ),
    ]);
}

#[test]
fn nan_and_infinity() {
    // (5000, 4): longer than a block of the check and than a chunk of an encoding.
    let mut data = vec![0.0; 4 * 5000];
    data[4 * 4500 + 2] = f32::NAN;
    data[4 * 4999 + 3] = f32::NEG_INFINITY;
    let mut codewords = CODEWORDS;
    codewords[5] = f32::INFINITY;
    let broken = Codebook::new(&codewords, 2, 2, 2).unwrap();
    // Finite, but its products with a finite query overflow.
    let huge = [f32::MAX, 0.0, 0.0, 0.0, 0.0, 0.0, f32::MAX, 0.0];
    let huge = Codebook::new(&huge, 2, 2, 2).unwrap();
    let init = Init::Codewords(codewords.to_vec());
    let bad = |argument, row, column, count| Error::NonFinite { argument, row, column, count };
    assert_all([
        (train(&data, &two_of(2)), bad("vectors", 4500, 2, 2)),
        (encode(None, &data), bad("vectors", 4500, 2, 2)),
        (neighbors(&data, 4, &[0.0; 4]), bad("base", 4500, 2, 2)),
        (neighbors(&[0.0; 4], 4, &data), bad("queries", 4500, 2, 2)),
        (distortion(None, &data, 4), bad("vectors", 4500, 2, 2)),
        (train(&[0.0; 64], &PqOptions { init, ..two_of(2) }), bad("init", 2, 1, 1)),
        (
            Pq::from_codewords(codewords.to_vec(), 2, 2, 2, Metric::L2).map(drop),
            bad("codewords", 2, 1, 1),
        ),
        (
            broken.encode_into(None, rows(&[0.0; 4], 4), &mut [0_u8; 2], &Task::new()),
            bad("codewords", 2, 1, 1),
        ),
        (tables(broken, Metric::L2, &[0.0; 4], 4), bad("codewords", 2, 1, 1)),
        (tables(book(), Metric::L2, &[0.0, 0.0, f32::NAN, 0.0], 4), bad("query", 0, 2, 1)),
        (tables(huge, Metric::Dot, &[2.0; 4], 4), bad("dtable", 0, 0, 2)),
        (
            DistanceTable::new(&[0.0, 1.0, 2.0, f32::INFINITY][..], 2, Metric::L2).map(drop),
            bad("dtable", 1, 1, 1),
        ),
        (Rotation::new(&[0.0, f32::NAN, 1.0, 0.0], 2).map(drop), bad("rotation", 0, 1, 1)),
    ]);
}

#[test]
fn a_bad_query_is_named_among_many() {
    let mut queries = [0.0; 4 * 40];
    queries[4 * 20 + 1] = f32::NAN;
    queries[4 * 39 + 3] = f32::NAN;
    let wanted = Error::NonFinite { argument: "query", row: 20, column: 1, count: 2 };
    assert_all([(tables(book(), Metric::L2, &queries, 4), wanted)]);
}

#[test]
fn values_whose_squared_distances_overflow() {
    // 33 (dim limit)^2 is the largest f32.
    let limit = (((f64::from(f32::MAX) / 33.0).sqrt() / 4.0) as f32) as u64;
    let mut data = [0.0; 64];
    data[4 * 11 + 3] = -1e19;
    let large = |argument, row| Error::TooLarge { argument, row, column: 3, dim: 4, limit };
    assert_all([
        (train(&data, &two_of(2)), large("vectors", 11)),
        (encode(None, &data), large("vectors", 11)),
        (eigenvalue_allocation(rows(&data, 4), 2, &Task::new()).map(drop), large("vectors", 11)),
        (tables(book(), Metric::L2, &data[4 * 11..][..4], 4), large("query", 0)),
    ]);
}

/// Rows are encoded tile by tile, block by block and in parallel; codewords may be as far away as rows.
#[test]
fn a_bad_value_is_found_wherever_it_is() {
    const DIM: usize = 6;
    let limit = ((f64::from(f32::MAX) / 33.0).sqrt() / DIM as f64) as f32;
    for (ks, m, spread) in [(4, 3, 1.0), (40, 3, 1.0), (40, 1, 1.0), (40, 2, 0.9 * limit)] {
        let codewords: Vec<f32> = (0..ks * DIM).map(|i| (i % 7) as f32 * spread / 6.0).collect();
        let book = Codebook::new(&codewords, m, ks, DIM / m).unwrap();
        let encode = |rows: &[f32]| {
            let rows = Vectors::new(rows, DIM).unwrap();
            let mut codes = vec![0_u8; rows.len() * m];
            book.encode_into(None, rows, &mut codes, &Task::new()).map(|()| codes)
        };
        let mut data: Vec<f32> = (0..3000 * DIM).map(|i| (i % 11) as f32 * spread / 10.0).collect();
        let codes = encode(&data).unwrap();
        for row in [0, 1, 47, 48, 95, 96, 100, 1007, 1008, 2111, 2999] {
            for column in 0..DIM {
                let at = row * DIM + column;
                let good = std::mem::replace(&mut data[at], limit);
                let large = encode(&data).unwrap();
                assert!(
                    codes.iter().zip(&large).enumerate().all(|(i, (a, b))| a == b || i / m == row)
                );
                for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    data[at] = value;
                    let wanted = Error::NonFinite { argument: "vectors", row, column, count: 1 };
                    assert_eq!(encode(&data), Err(wanted), "ks {ks} m {m}");
                }
                for value in [limit * 1.000_001, -limit * 1.000_001, f32::MAX] {
                    data[at] = value;
                    let (argument, limit) = ("vectors", limit as u64);
                    let wanted = Error::TooLarge { argument, row, column, dim: DIM, limit };
                    assert_eq!(encode(&data), Err(wanted), "ks {ks} m {m}");
                }
                data[at] = good;
            }
        }
    }
}

#[test]
fn codes_without_a_codeword() {
    // Codes of a larger codebook, too large for this one.
    let larger = Codes::new(&[0_u16, 1, 1, 0, 1, 299][..], 2, 300).unwrap();
    let wanted = Error::CodeOutOfRange { code: 299, row: 2, sub_space: 1, ks: 2 };
    assert_all([
        (
            Codes::new(&[0_u8, 3, 4, 9][..], 2, 4).map(drop),
            Error::CodeOutOfRange { code: 4, row: 1, sub_space: 0, ks: 4 },
        ),
        (book().decode_into(None, &larger, &mut [0.0; 12], &Task::new()), wanted.clone()),
        (table().adist(&larger).map(drop), wanted.clone()),
        (table().top_k(&larger, 1).map(drop), wanted),
    ]);
}

#[test]
fn initial_codewords_of_another_shape() {
    let options = PqOptions { init: Init::Codewords(vec![0.0; 9]), ..two_of(2) };
    let wanted = Error::InitialCodewords { expected: 8, got: 9 };
    assert_all([(train(&[0.0; 64], &options), wanted)]);
}

#[test]
fn sizes_beyond_the_address_space() {
    let overflow = |what| Error::SizeOverflow { what };
    assert_all([
        (Codebook::new(&[], usize::MAX, 2, 2).map(drop), overflow("the codewords")),
        (Rotation::new(&[], usize::MAX).map(drop), overflow("the rotation")),
        (Vectors::new(&[0.0], usize::MAX).map(drop), overflow("the vectors")),
    ]);
}

/// 2^54 bytes are more than processors address today.
#[test]
fn memory_that_no_machine_grants() {
    let dim = 1 << 20;
    let row = vec![0.0; dim];
    let train = |init| {
        let ks = 1 << 32;
        let options = PqOptions { ks, init, allow_few_rows: true, ..PqOptions::new(1) };
        Pq::train(rows(&row, dim), &options, &Task::new()).map(drop)
    };
    let memory = |bytes, what| Error::OutOfMemory { bytes, what };
    assert_all([
        (train(Init::Points), memory(1 << 54, "the initial codewords")),
        (train(Init::Random), memory(1 << 55, "the random numbers")),
    ]);
}

#[test]
fn a_rotation_that_stretches() {
    let stretch: Vec<f32> = (0..16).map(|i| if i % 5 == 0 { 1e20 } else { 0.0 }).collect();
    let pq = Pq::from_codewords(CODEWORDS.to_vec(), 2, 2, 2, Metric::L2).unwrap();
    let opq = Opq::from_parts(pq, stretch.clone()).unwrap();
    let rotation = Some(Rotation::new(&stretch, 4).unwrap());
    assert_all([
        (encode(rotation, &[1.0; 4]), Error::NotOrthogonal),
        (opq.encode(rows(&[1.0; 4], 4)).map(drop), Error::NotOrthogonal),
    ]);
}

#[test]
fn cancelled_before_it_began() {
    let task = Task::new();
    task.cancel();
    let data = [0.0; 64];
    let vectors = rows(&data, 4);
    let pairs = rows(&data, 2);
    let codes = Codes::new(&[0_u8; 32][..], 2, 2).unwrap();
    let rotation = Rotation::new(&IDENTITY, 2).unwrap();
    let opq = |start| OpqOptions { pq: two_of(2), start, ..OpqOptions::new(2) };
    let results = [
        Pq::train(vectors, &two_of(2), &task).map(drop),
        Opq::train(vectors, &opq(Start::Better), &task).map(drop),
        Opq::train(vectors, &opq(Start::EigenvalueAllocation), &task).map(drop),
        eigenvalue_allocation(vectors, 2, &task).map(drop),
        book().encode_into(None, vectors, &mut [0_u8; 32], &task),
        book().decode_into(None, &codes, &mut [0.0; 64], &task),
        book().tables_into(None, vectors, Metric::L2, &mut [0.0; 64], &task),
        rotation.apply_into(pairs, &mut [0.0; 64], &task),
        table().adist_into(&codes, &mut [0.0; 16], &task),
        search(&[table()], &codes, 1, &task).map(drop),
        evaluate::ground_truth(vectors, vectors, 1, Metric::L2, &task).map(drop),
        evaluate::distortion(book(), None, vectors, &task).map(drop),
    ];
    assert_all(results.map(|result| (result, Error::Cancelled)));
}

/// A process chooses its kernels once, so another process, this same test, chooses wrongly.
#[test]
fn kernels_that_are_not_here() {
    const VARIABLE: &str = "PICOPQ_KERNELS";
    const LEVEL: &str = "mmx";
    if std::env::var(VARIABLE).as_deref() == Ok(LEVEL) {
        let error = instruction_set().unwrap_err();
        let message = "PICOPQ_KERNELS = \"mmx\" is not available here: this processor has scalar";
        assert!(
            matches!(&error, Error::KernelsUnavailable { requested, .. } if requested == LEVEL)
        );
        assert!(error.to_string().starts_with(message));
        assert_all([
            (encode(None, &[0.0; 4]), error.clone()),
            (train(&[0.0; 64], &two_of(2)), error),
        ]);
        return;
    }
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kernels_that_are_not_here"])
        .env(VARIABLE, LEVEL)
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && report.contains("1 passed"), "{report}");
}
