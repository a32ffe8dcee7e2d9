//! Every error that a caller can cause: its fields and its message.
//!
//! `Error::NoConvergence` has no case: the decompositions converge for finite matrices.

use std::process::Command;

use picopq::{
    Codebook, Codes, DistanceTable, Error, Init, Metric, Opq, OpqOptions, Pq, PqOptions, Result,
    Rotation, Start, Task, Vectors, eigenvalue_allocation, instruction_set, search,
};

/// What came, what was wanted of it, and how it reads.
type Case = (Result<()>, Error, &'static str);

fn assert_all(cases: impl IntoIterator<Item = Case>) {
    for (got, wanted, message) in cases {
        assert_eq!(wanted.to_string(), message);
        assert_eq!(got, Err(wanted), "wanted: {message}");
    }
}

fn rows(data: &[f32], dim: usize) -> Vectors<'_> {
    Vectors::new(data, dim).unwrap()
}

/// Codewords (2, 2, 2): a model of dimension 4.
const CODEWORDS: [f32; 8] = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0];

fn book() -> Codebook<'static> {
    Codebook::new(&CODEWORDS, 2, 2, 2).unwrap()
}

fn table() -> DistanceTable<'static> {
    DistanceTable::new(&[0.0, 1.0, 0.0, 1.0][..], 2, Metric::L2).unwrap()
}

/// Trains on `data` (n, 4), two sub-spaces.
fn train(data: &[f32], options: PqOptions) -> Result<()> {
    Pq::train(rows(data, 4), &options, &Task::new()).map(drop)
}

fn two_of(ks: usize) -> PqOptions {
    PqOptions { ks, ..PqOptions::new(2) }
}

fn encode(rotation: Option<Rotation<'_>>, data: &[f32]) -> Result<()> {
    let vectors = rows(data, 4);
    book().encode_into(rotation, vectors, &mut vec![0_u8; vectors.len() * 2], &Task::new())
}

#[test]
fn other_widths_than_the_model_s() {
    let wide = Codes::new(&[0_u8; 6][..], 3, 2).unwrap();
    let rotation = Rotation::new(&[1.0, 0.0, 0.0, 1.0], 2).unwrap();
    let task = Task::new();
    let mismatch = |argument, expected, got| Error::DimensionMismatch { argument, expected, got };
    assert_all([
        (
            book().encode_into(None, rows(&[0.0; 6], 3), &mut [0_u8; 4], &task),
            mismatch("vectors", 4, 3),
            "dimension mismatch: model has 4, vectors has 3",
        ),
        (
            book().tables_into(None, rows(&[0.0; 5], 5), Metric::L2, &mut [0.0; 4], &task),
            mismatch("query", 4, 5),
            "dimension mismatch: model has 4, query has 5",
        ),
        (
            book().decode_into(None, &wide, &mut [0.0; 8], &task),
            mismatch("codes", 2, 3),
            "dimension mismatch: model has 2, codes has 3",
        ),
        (
            table().adist(&wide).map(drop),
            mismatch("codes", 2, 3),
            "dimension mismatch: model has 2, codes has 3",
        ),
        (
            rotation.apply_into(rows(&[0.0; 6], 3), &mut [0.0; 6], &task),
            mismatch("vectors", 2, 3),
            "dimension mismatch: model has 2, vectors has 3",
        ),
    ]);
}

/// The rotation is at fault, not the vectors, which have the model's width.
#[test]
fn a_rotation_of_another_width() {
    let identity = [1.0, 0.0, 0.0, 1.0];
    let narrow = Some(Rotation::new(&identity, 2).unwrap());
    let task = Task::new();
    let codes = Codes::new(&[0_u8; 2][..], 2, 2).unwrap();
    let wanted = Error::DimensionMismatch { argument: "rotation", expected: 4, got: 2 };
    let message = "dimension mismatch: model has 4, rotation has 2";
    assert_all([
        (encode(narrow, &[0.0; 4]), wanted.clone(), message),
        (book().decode_into(narrow, &codes, &mut [0.0; 4], &task), wanted.clone(), message),
        (
            book().tables_into(narrow, rows(&[0.0; 4], 4), Metric::L2, &mut [0.0; 4], &task),
            wanted,
            message,
        ),
    ]);
}

#[test]
fn arrays_that_do_not_fill_their_shape() {
    let task = Task::new();
    let codes = Codes::new(&[0_u8; 6][..], 2, 2).unwrap();
    let identity = [1.0, 0.0, 0.0, 1.0];
    let rotation = Rotation::new(&identity, 2).unwrap();
    let length = |argument, expected, got| Error::LengthMismatch { argument, expected, got };
    assert_all([
        (
            Vectors::new(&[0.0; 5], 2).map(drop),
            length("vectors", 6, 5),
            "length mismatch: vectors has 5 elements, wanted 6",
        ),
        (
            Codes::new(&[0_u8; 5][..], 3, 2).map(drop),
            length("codes", 6, 5),
            "length mismatch: codes has 5 elements, wanted 6",
        ),
        (
            Codebook::new(&CODEWORDS, 2, 2, 3).map(drop),
            length("codewords", 12, 8),
            "length mismatch: codewords has 8 elements, wanted 12",
        ),
        (
            Pq::from_codewords(vec![0.0; 7], 2, 2, 2, Metric::L2).map(drop),
            length("codewords", 8, 7),
            "length mismatch: codewords has 7 elements, wanted 8",
        ),
        (
            DistanceTable::new(&[0.0; 3][..], 2, Metric::L2).map(drop),
            length("dtable", 4, 3),
            "length mismatch: dtable has 3 elements, wanted 4",
        ),
        (
            Rotation::new(&[0.0; 3], 2).map(drop),
            length("rotation", 4, 3),
            "length mismatch: rotation has 3 elements, wanted 4",
        ),
        (
            book().encode_into(None, rows(&[0.0; 8], 4), &mut [0_u8; 6], &task),
            length("codes", 4, 6),
            "length mismatch: codes has 6 elements, wanted 4",
        ),
        (
            book().decode_into(None, &codes, &mut [0.0; 8], &task),
            length("vectors", 12, 8),
            "length mismatch: vectors has 8 elements, wanted 12",
        ),
        (
            book().tables_into(None, rows(&[0.0; 8], 4), Metric::L2, &mut [0.0; 4], &task),
            length("dtable", 8, 4),
            "length mismatch: dtable has 4 elements, wanted 8",
        ),
        (
            table().adist_into(&codes, &mut [0.0; 2], &task),
            length("distances", 3, 2),
            "length mismatch: distances has 2 elements, wanted 3",
        ),
        (
            rotation.undo_into(rows(&[0.0; 4], 2), &mut [0.0; 2], &task),
            length("out", 4, 2),
            "length mismatch: out has 2 elements, wanted 4",
        ),
    ]);
}

#[test]
fn dimensions_that_cannot_be_cut() {
    let data = [0.0; 24];
    let trained = |dim, m| {
        let options = PqOptions { ks: 1, ..PqOptions::new(m) };
        Pq::train(rows(&data, dim), &options, &Task::new()).map(drop)
    };
    let opq = OpqOptions::new(5);
    assert_all([
        (
            trained(12, 5),
            Error::NotDivisible { dim: 12, m: 5, nearest: vec![4, 6] },
            "dimension 12 cannot be cut into 5 equal sub-spaces: the nearest divisors are [4, 6]",
        ),
        (
            trained(6, 7), // more sub-spaces than dimensions
            Error::NotDivisible { dim: 6, m: 7, nearest: vec![6] },
            "dimension 6 cannot be cut into 7 equal sub-spaces: the nearest divisors are [6]",
        ),
        (
            Opq::train(rows(&data, 8), &opq, &Task::new()).map(drop),
            Error::NotDivisible { dim: 8, m: 5, nearest: vec![4, 8] },
            "dimension 8 cannot be cut into 5 equal sub-spaces: the nearest divisors are [4, 8]",
        ),
        (
            eigenvalue_allocation(rows(&data, 4), 3, &Task::new()).map(drop),
            Error::NotDivisible { dim: 4, m: 3, nearest: vec![2, 4] },
            "dimension 4 cannot be cut into 3 equal sub-spaces: the nearest divisors are [2, 4]",
        ),
    ]);
}

#[test]
fn no_more_rows_than_codewords() {
    let few = |rows, ks| Error::TooFewRows { rows, ks };
    assert_all([
        (
            train(&[0.0; 4 * 16], two_of(16)),
            few(16, 16),
            "too few training vectors: 16 rows for ks = 16, wanted more rows than codewords",
        ),
        (
            train(&[], PqOptions { allow_few_rows: true, ..two_of(16) }),
            few(0, 16),
            "too few training vectors: 0 rows for ks = 16, wanted more rows than codewords",
        ),
        (
            eigenvalue_allocation(rows(&[], 4), 2, &Task::new()).map(drop),
            few(0, 1),
            "too few training vectors: 0 rows for ks = 1, wanted more rows than codewords",
        ),
    ]);
    assert_eq!(train(&[0.0; 4 * 17], two_of(16)), Ok(()));
    assert_eq!(train(&[0.0; 4], PqOptions { allow_few_rows: true, ..two_of(16) }), Ok(()));
}

#[test]
fn scalars_out_of_range() {
    let data = [0.0; 64];
    let range = |argument, got, wanted| Error::OutOfRange { argument, got, wanted };
    let wide = [0.0; 300];
    let wide = Codebook::new(&wide, 1, 300, 1).unwrap();
    let type_range = "1 to the number of values of the code's integer type";
    assert_all([
        (
            train(&data, two_of(0)),
            range("ks", 0, "1 to 2^32"),
            "ks = 0 is out of range: wanted 1 to 2^32",
        ),
        (
            train(&data, two_of((1 << 32) + 1)),
            range("ks", (1 << 32) + 1, "1 to 2^32"),
            "ks = 4294967297 is out of range: wanted 1 to 2^32",
        ),
        (
            train(&data, PqOptions::new(0)),
            range("m", 0, "at least 1"),
            "m = 0 is out of range: wanted at least 1",
        ),
        (
            train(&data, PqOptions { iterations: 0, ..two_of(2) }),
            range("iterations", 0, "at least 1"),
            "iterations = 0 is out of range: wanted at least 1",
        ),
        (
            Vectors::new(&data, 0).map(drop),
            range("dim", 0, "at least 1"),
            "dim = 0 is out of range: wanted at least 1",
        ),
        (
            Codes::new(&[0_u8][..], 1, 257).map(drop),
            range("ks", 257, type_range),
            "ks = 257 is out of range: wanted 1 to the number of values of the code's integer type",
        ),
        (
            wide.encode_into(None, rows(&data, 1), &mut [0_u8; 64], &Task::new()),
            range("ks", 300, type_range),
            "ks = 300 is out of range: wanted 1 to the number of values of the code's integer type",
        ),
        (
            DistanceTable::new(&data[..], 0, Metric::L2).map(drop),
            range("m", 0, "at least 1"),
            "m = 0 is out of range: wanted at least 1",
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
    let huge = [f32::MAX, 0.0, 0.0, 0.0, 0.0, 0.0, f32::MAX, 0.0];
    let huge = Codebook::new(&huge, 2, 2, 2).unwrap();
    let task = Task::new();
    let bad = |argument, row, column, count| Error::NonFinite { argument, row, column, count };
    assert_all([
        (
            train(&data, two_of(2)),
            bad("vectors", 4500, 2, 2),
            "vectors has 2 value(s) that are NaN or infinite, the first at row 4500, column 2",
        ),
        (
            encode(None, &data),
            bad("vectors", 4500, 2, 2),
            "vectors has 2 value(s) that are NaN or infinite, the first at row 4500, column 2",
        ),
        (
            train(&[0.0; 64], PqOptions { init: Init::Codewords(codewords.to_vec()), ..two_of(2) }),
            bad("init", 2, 1, 1),
            "init has 1 value(s) that are NaN or infinite, the first at row 2, column 1",
        ),
        (
            Pq::from_codewords(codewords.to_vec(), 2, 2, 2, Metric::L2).map(drop),
            bad("codewords", 2, 1, 1),
            "codewords has 1 value(s) that are NaN or infinite, the first at row 2, column 1",
        ),
        (
            broken.encode_into(None, rows(&[0.0; 4], 4), &mut [0_u8; 2], &task),
            bad("codewords", 2, 1, 1),
            "codewords has 1 value(s) that are NaN or infinite, the first at row 2, column 1",
        ),
        (
            broken.tables_into(None, rows(&[0.0; 4], 4), Metric::L2, &mut [0.0; 4], &task),
            bad("codewords", 2, 1, 1),
            "codewords has 1 value(s) that are NaN or infinite, the first at row 2, column 1",
        ),
        (
            book().tables_into(
                None,
                rows(&[0.0, 0.0, f32::NAN, 0.0], 4),
                Metric::Dot,
                &mut [0.0; 4],
                &task,
            ),
            bad("query", 0, 2, 1),
            "query has 1 value(s) that are NaN or infinite, the first at row 0, column 2",
        ),
        (
            // Finite codewords and a finite query whose products overflow.
            huge.tables_into(None, rows(&[2.0; 4], 4), Metric::Dot, &mut [0.0; 4], &task),
            bad("dtable", 0, 0, 2),
            "dtable has 2 value(s) that are NaN or infinite, the first at row 0, column 0",
        ),
        (
            DistanceTable::new(&[0.0, 1.0, 2.0, f32::INFINITY][..], 2, Metric::L2).map(drop),
            bad("dtable", 1, 1, 1),
            "dtable has 1 value(s) that are NaN or infinite, the first at row 1, column 1",
        ),
        (
            Rotation::new(&[0.0, f32::NAN, 1.0, 0.0], 2).map(drop),
            bad("rotation", 0, 1, 1),
            "rotation has 1 value(s) that are NaN or infinite, the first at row 0, column 1",
        ),
    ]);
}

#[test]
fn a_bad_query_is_named_among_many() {
    let mut queries = [0.0; 4 * 40];
    queries[4 * 20 + 1] = f32::NAN;
    queries[4 * 39 + 3] = f32::NAN;
    let mut tables = [0.0; 4 * 40];
    let got = book().tables_into(None, rows(&queries, 4), Metric::L2, &mut tables, &Task::new());
    let wanted = Error::NonFinite { argument: "query", row: 20, column: 1, count: 2 };
    assert_eq!(got, Err(wanted));
}

#[test]
fn values_whose_squared_distances_overflow() {
    // 8 dim limit^2 is the largest f32.
    let limit = ((f64::from(f32::MAX) / 32.0).sqrt() as f32) as u64;
    let mut data = [0.0; 64];
    data[4 * 11 + 3] = -1e19;
    let large = |argument, row, column| Error::TooLarge { argument, row, column, dim: 4, limit };
    let vectors = "vectors has a value too large for f32 distances at row 11, column 3: \
                   the limit at dimension 4 is 3260954180957896704";
    let query = "query has a value too large for f32 distances at row 0, column 3: \
                 the limit at dimension 4 is 3260954180957896704";
    let eigenvalues = eigenvalue_allocation(rows(&data, 4), 2, &Task::new());
    assert_all([
        (train(&data, two_of(2)), large("vectors", 11, 3), vectors),
        (encode(None, &data), large("vectors", 11, 3), vectors),
        (eigenvalues.map(drop), large("vectors", 11, 3), vectors),
        (
            book().tables_into(
                None,
                rows(&data[4 * 11..][..4], 4),
                Metric::L2,
                &mut [0.0; 4],
                &Task::new(),
            ),
            large("query", 0, 3),
            query,
        ),
    ]);
}

#[test]
fn codes_without_a_codeword() {
    // Codes of a larger codebook, too large for this one.
    let larger = Codes::new(&[0_u16, 1, 1, 0, 1, 299][..], 2, 300).unwrap();
    let out = |code, row, sub_space, ks| Error::CodeOutOfRange { code, row, sub_space, ks };
    let message = "code 299 at row 2, sub-space 1 is out of range: there are 2 codewords";
    assert_all([
        (
            Codes::new(&[0_u8, 3, 4, 9][..], 2, 4).map(drop),
            out(4, 1, 0, 4),
            "code 4 at row 1, sub-space 0 is out of range: there are 4 codewords",
        ),
        (
            book().decode_into(None, &larger, &mut [0.0; 12], &Task::new()),
            out(299, 2, 1, 2),
            message,
        ),
        (table().adist(&larger).map(drop), out(299, 2, 1, 2), message),
        (table().top_k(&larger, 1).map(drop), out(299, 2, 1, 2), message),
    ]);
}

#[test]
fn initial_codewords_of_another_shape() {
    let options = PqOptions { init: Init::Codewords(vec![0.0; 9]), ..two_of(2) };
    assert_all([(
        train(&[0.0; 64], options),
        Error::InitialCodewords { expected: 8, got: 9 },
        "initial codewords have 9 elements, wanted m * ks * ds = 8",
    )]);
}

#[test]
fn sizes_beyond_the_address_space() {
    let overflow = |what| Error::SizeOverflow { what };
    assert_all([
        (
            Codebook::new(&[], usize::MAX, 2, 2).map(drop),
            overflow("the codewords"),
            "size overflow: the codewords does not fit this machine's address space",
        ),
        (
            Rotation::new(&[], usize::MAX).map(drop),
            overflow("the rotation"),
            "size overflow: the rotation does not fit this machine's address space",
        ),
        (
            Vectors::new(&[0.0], usize::MAX).map(drop),
            overflow("the vectors"),
            "size overflow: the vectors does not fit this machine's address space",
        ),
    ]);
}

/// 2^54 bytes are more than processors can address.
#[test]
fn memory_that_no_machine_grants() {
    let row = vec![0.0; 1 << 20];
    let options = |init| PqOptions { ks: 1 << 32, allow_few_rows: true, init, ..PqOptions::new(1) };
    let train = |init| Pq::train(rows(&row, 1 << 20), &options(init), &Task::new()).map(drop);
    let memory = |bytes, what| Error::OutOfMemory { bytes, what };
    assert_all([
        (
            train(Init::Points),
            memory(1 << 54, "the initial codewords"),
            "out of memory: 18014398509481984 bytes for the initial codewords",
        ),
        (
            train(Init::Random),
            memory(1 << 55, "the random numbers"),
            "out of memory: 36028797018963968 bytes for the random numbers",
        ),
    ]);
}

#[test]
fn a_rotation_that_stretches() {
    let mut stretch = vec![0.0; 16];
    stretch.iter_mut().step_by(5).for_each(|diagonal| *diagonal = 1e20);
    let pq = Pq::from_codewords(CODEWORDS.to_vec(), 2, 2, 2, Metric::L2).unwrap();
    let opq = Opq::from_parts(pq, stretch.clone()).unwrap();
    let message = "rotation is not orthogonal: rotated vectors overflow f32 distances";
    let rotation = Some(Rotation::new(&stretch, 4).unwrap());
    assert_all([
        (encode(rotation, &[1.0; 4]), Error::NotOrthogonal, message),
        (opq.encode(rows(&[1.0; 4], 4)).map(drop), Error::NotOrthogonal, message),
    ]);
}

#[test]
fn cancelled_before_it_began() {
    let task = Task::new();
    task.cancel();
    let data = [0.0; 64];
    let vectors = rows(&data, 4);
    let codes = Codes::new(&[0_u8; 32][..], 2, 2).unwrap();
    let identity: Vec<f32> = (0..16).map(|i| f32::from(u8::from(i % 5 == 0))).collect();
    let rotation = Rotation::new(&identity, 4).unwrap();
    let opq = |start| OpqOptions { pq: two_of(2), start, ..OpqOptions::new(2) };
    let results = [
        Pq::train(vectors, &two_of(2), &task).map(drop),
        Opq::train(vectors, &opq(Start::Better), &task).map(drop),
        Opq::train(vectors, &opq(Start::EigenvalueAllocation), &task).map(drop),
        eigenvalue_allocation(vectors, 2, &task).map(drop),
        book().encode_into(None, vectors, &mut [0_u8; 32], &task),
        book().encode_into(Some(rotation), vectors, &mut [0_u8; 32], &task),
        book().decode_into(None, &codes, &mut [0.0; 64], &task),
        book().tables_into(None, vectors, Metric::L2, &mut [0.0; 64], &task),
        rotation.apply_into(vectors, &mut [0.0; 64], &task),
        table().adist_into(&codes, &mut [0.0; 16], &task),
        search(&[table()], &codes, 1, &task).map(drop),
    ];
    assert_all(results.map(|result| (result, Error::Cancelled, "cancelled")));
}

/// The kernels are chosen once in a process, so another process, this test again, chooses wrongly.
#[test]
fn kernels_that_are_not_here() {
    const LEVEL: &str = "mmx";
    if std::env::var("PICOPQ_KERNELS").as_deref() == Ok(LEVEL) {
        let error = instruction_set().unwrap_err();
        assert!(matches!(
            &error,
            Error::KernelsUnavailable { requested, available }
                if requested == LEVEL && available.starts_with("scalar")
        ));
        let message = "PICOPQ_KERNELS = \"mmx\" is not available here: this processor has scalar";
        assert!(error.to_string().starts_with(message));
        assert_eq!(encode(None, &[0.0; 4]), Err(error.clone()));
        assert_eq!(train(&[0.0; 64], two_of(2)), Err(error));
        return;
    }
    let tests = std::env::current_exe().unwrap();
    let run = Command::new(tests)
        .args(["--exact", "kernels_that_are_not_here"])
        .env("PICOPQ_KERNELS", LEVEL)
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && report.contains("1 passed"), "{report}");
}
