//! Bad input to an index and to files, each kind with the promised answer; `errors.rs` has the same
//! for models and tables.
#![allow(clippy::unwrap_used)]

mod files;
mod numbers;

use std::fs;
use std::io::ErrorKind;

use files::{FORMATS, array, codes, is_of_a_file, npy, pq, read_all, sample, write_small};
use numbers::uniform;
use picopq::io::{Format, RowReader, RowWriter, Scan, Stored};
use picopq::{Codes, Error, Filter, Index, Metric, Neighbor, Result, Task, Vectors};

const DIM: usize = 8;
const N: usize = 100;

/// Of 100 rows, with ids 0, 3, 6, ...
fn index() -> Index {
    let index = Index::new(pq(4, 32, 2, Metric::L2)).unwrap();
    let ids: Vec<i64> = (0..N as i64).map(|id| 3 * id).collect();
    let rows = uniform(3, N * DIM);
    index.add(Vectors::new(&rows, DIM).unwrap(), Some(&ids), &Task::new()).unwrap();
    index
}

type Call = Box<dyn Fn(&Index, &Task) -> Result<()>>;

/// Values of which one is replaced.
fn but(at: usize, value: f32) -> Vec<f32> {
    let mut rows = uniform(4, 5 * DIM);
    rows[at] = value;
    rows
}

fn add(rows: Vec<f32>, dim: usize, ids: Option<Vec<i64>>) -> Call {
    Box::new(move |index, task| index.add(Vectors::new(&rows, dim)?, ids.as_deref(), task))
}

fn add_codes(codes: Codes<'static>, ids: Option<Vec<i64>>) -> Call {
    Box::new(move |index, task| index.add_codes(&codes, ids.as_deref(), task))
}

fn search(rows: Vec<f32>, dim: usize) -> Call {
    Box::new(move |index, task| {
        index.search(Vectors::new(&rows, dim)?, 3, Filter::All, task).map(drop)
    })
}

fn range(radius: f32) -> Call {
    Box::new(move |index, task| {
        let queries = uniform(5, DIM);
        index.range_search(Vectors::new(&queries, DIM)?, radius, Filter::All, task).map(drop)
    })
}

#[test]
fn an_index_says_what_is_wrong_and_stays_as_it_is() {
    let too_large =
        |argument, row, column| Error::TooLarge { argument, row, column, dim: DIM, limit: 0 };
    let not_finite = |argument, row, column| Error::NonFinite { argument, row, column, count: 1 };
    let ids = |ids: &[i64]| Some(ids.to_vec());
    let wide = Codes::new(vec![0_u8, 1, 2, 32, 0, 0, 0, 0], 4, 64).unwrap();
    let mask = |len| -> Call {
        Box::new(move |index, task| {
            let (queries, mask) = (uniform(5, DIM), vec![true; len]);
            let queries = Vectors::new(&queries, DIM)?;
            index.search(queries, 3, Filter::Mask(&mask), task).map(drop)
        })
    };
    let cases: Vec<(Call, Error)> = vec![
        (add(but(9, f32::NAN), DIM, None), not_finite("vectors", 1, 1)),
        (add(but(39, f32::INFINITY), DIM, None), not_finite("vectors", 4, 7)),
        (search(but(0, f32::NEG_INFINITY), DIM), not_finite("queries", 0, 0)),
        (range(f32::NAN), not_finite("radius", 0, 0)),
        (add(but(9, 1e30), DIM, None), too_large("vectors", 1, 1)),
        (search(but(9, -1e30), DIM), too_large("queries", 1, 1)),
        (
            add(uniform(1, 14), 7, None),
            Error::DimensionMismatch { argument: "vectors", expected: DIM, got: 7 },
        ),
        (
            search(uniform(1, 14), 7),
            Error::DimensionMismatch { argument: "queries", expected: DIM, got: 7 },
        ),
        (
            add(uniform(1, 15), DIM, None),
            Error::LengthMismatch { argument: "vectors", expected: 16, got: 15 },
        ),
        (add(uniform(1, 2 * DIM), DIM, ids(&[1, 1])), Error::DuplicateId { id: 1 }),
        (add(uniform(1, 2 * DIM), DIM, ids(&[1, 99])), Error::DuplicateId { id: 99 }),
        (add(uniform(1, 2 * DIM), DIM, ids(&[1, -2])), Error::NegativeId { id: -2 }),
        (
            add(uniform(1, 2 * DIM), DIM, ids(&[1])),
            Error::LengthMismatch { argument: "ids", expected: 2, got: 1 },
        ),
        (
            add_codes(codes(2, 3, 32), None),
            Error::DimensionMismatch { argument: "codes", expected: 4, got: 3 },
        ),
        (add_codes(wide, None), Error::CodeOutOfRange { code: 32, row: 0, sub_space: 3, ks: 32 }),
        (mask(N - 1), Error::LengthMismatch { argument: "subset", expected: N, got: N - 1 }),
        (
            Box::new(|index, task| index.reconstruct(&[3, 4], task).map(drop)),
            Error::UnknownId { id: 4 },
        ),
        (
            Box::new(|index, _| {
                let task = Task::new();
                task.cancel();
                index.add(Vectors::new(&uniform(1, DIM), DIM)?, None, &task)
            }),
            Error::Cancelled,
        ),
    ];
    let index = index();
    let before = (index.ids(), index.codes(), index.next_id());
    for (call, wanted) in cases {
        let mut got = call(&index, &Task::new()).unwrap_err();
        if let Error::TooLarge { limit, .. } = &mut got {
            *limit = 0;
        }
        assert_eq!(got, wanted);
        assert_eq!((index.ids(), index.codes(), index.next_id()), before, "{wanted}");
    }
}

#[test]
fn nothing_and_more_than_there_is() {
    let (index, task) = (index(), Task::new());
    let queries = uniform(5, DIM);
    let search = |rows: &[f32], k, filter| {
        index.search(Vectors::new(rows, DIM).unwrap(), k, filter, &task).unwrap()
    };
    assert_eq!(search(&[], 3, Filter::All), [[]; 0] as [[Neighbor; 0]; 0]);
    assert_eq!(search(&queries, 0, Filter::All), [[]]);
    assert_eq!(search(&queries, 3, Filter::Ids(&[])), [[]]);
    assert_eq!(search(&queries, 3, Filter::Ids(&[1, 2, -7])), [[]]);
    for k in [N, N + 1, usize::MAX] {
        assert_eq!(search(&queries, k, Filter::All)[0].len(), N);
    }
    index.add(Vectors::new(&[], DIM).unwrap(), None, &task).unwrap();
    assert_eq!((index.len(), index.next_id()), (N, 298));
    assert_eq!(index.remove(&[], &task), Ok(0));
    assert_eq!(index.reconstruct(&[], &task), Ok(vec![]));
    let empty = Index::new(pq(4, 32, 2, Metric::L2)).unwrap();
    let found = empty.search(Vectors::new(&queries, DIM).unwrap(), 3, Filter::All, &task).unwrap();
    assert_eq!(found, [[]]);
}

/// An index of `letters` with what follows its head.
fn faiss(letters: &[u8; 4], dim: i32, rows: i64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = letters.to_vec();
    bytes.extend(dim.to_le_bytes());
    bytes.extend(rows.to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend([1, 1, 0, 0, 0]);
    bytes.extend(rest);
    bytes
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[test]
fn faiss_files_that_are_refused() {
    let read = |bytes: &[u8]| Stored::from_faiss_bytes(bytes, &Task::new()).unwrap_err();
    let field = |bytes: &[u8]| match read(bytes) {
        Error::BadField { field, .. } | Error::Truncated { field, .. } => field,
        other => panic!("{other}"),
    };
    // Lengths and counts.
    for (sizes, wanted) in [
        (&[9, 2, 4][..], "the quantizer's dimension"),
        (&[8, 3, 4], "M"),
        (&[8, 0, 4], "M"),
        (&[8, 16, 4], "M"),
        (&[8, 2, 0], "nbits"),
        (&[8, 2, 25], "nbits"),
        (&[8, 2, 64], "nbits"),
        (&[8, 2, 4, 127], "the number of centroids"),
        (&[8, 2, 4, u64::MAX], "the number of centroids"),
        (&[8, 2, 24, 8 << 24], "the centroids"),
        (&[8, 2, 4, 128], "the centroids"),
    ] {
        assert_eq!(field(&faiss(b"IxPq", 8, 5, &numbers(sizes))), wanted, "{sizes:?}");
    }
    for (dim, rows, wanted) in [
        (0, 5, "the dimension"),
        (-1, 5, "the dimension"),
        (1 << 21, 5, "the dimension"),
        (8, -1, "the number of rows"),
        (8, i64::MIN, "the number of rows"),
    ] {
        assert_eq!(field(&faiss(b"IxPq", dim, rows, &[])), wanted, "{dim} {rows}");
    }
    let book = [numbers(&[8, 2, 1, 16]), vec![0; 64]].concat();
    for (rows, bytes, wanted) in [
        (5, 6, "the bytes of codes"),
        (i64::MAX, 1 << 61, "the bytes of codes"),
        (5, 5, "the codes"),
        (i64::MAX, i64::MAX as u64, "the codes"),
    ] {
        let rest = [book.clone(), numbers(&[bytes])].concat();
        assert_eq!(field(&faiss(b"IxPq", 8, rows, &rest)), wanted, "{rows} {bytes}");
    }
    let half = [numbers(&[8, 2, 4, 128]), vec![0; 512]].concat();
    for (block, padded, m, bytes, wanted) in [
        (0, 32, 2, 32, "bbs"),
        (31, 32, 2, 32, "bbs"),
        (48, 48, 2, 48, "bbs"),
        (-32, 32, 2, 32, "bbs"),
        (65_568, 65_568, 2, 65_568, "bbs"),
        (32, 64, 2, 64, "ntotal2"),
        (32, 32, 3, 48, "M2"),
        (32, 32, 2, 31, "the bytes of codes"),
        (32, 32, 2, 32, "the codes"),
    ] {
        let sizes = [[0, block, 0].map(i32::to_le_bytes).concat(), numbers(&[padded, m, bytes])];
        let rest = [half.clone(), sizes.concat()].concat();
        assert_eq!(field(&faiss(b"IPfs", 8, 5, &rest)), wanted, "{block} {padded} {m} {bytes}");
    }
    assert_eq!(field(&faiss(b"IPfs", 8, 5, &book)), "nbits");
    // Wrappers around wrappers, with no end or too many.
    let head = faiss(b"IxMp", 8, 5, &[]);
    let nested = |depth: usize| head.repeat(depth);
    assert_eq!(field(&nested(8)), "the type of the index");
    for depth in [9, 10, 10_000] {
        let error = read(&nested(depth));
        let deep = matches!(&error, Error::Unsupported { what, .. } if what == "deeper nesting");
        assert!(deep, "{error}");
    }
    // Types by their names.
    for (letters, wanted) in [
        (b"IxFI", "IndexFlat (\"IxFI\")"),
        (b"IxF2", "IndexFlat (\"IxF2\")"),
        (b"IwPQ", "IndexIVFPQ (\"IwPQ\")"),
        (b"IwPf", "IndexIVFPQFastScan (\"IwPf\")"),
        (b"IwQR", "IndexIVFPQR (\"IwQR\")"),
        (b"IwFl", "IndexIVFFlat (\"IwFl\")"),
        (b"IwSq", "IndexIVFScalarQuantizer (\"IwSq\")"),
        (b"IxSQ", "IndexScalarQuantizer (\"IxSQ\")"),
        (b"IxPo", "IndexPQ of an old Faiss (\"IxPo\")"),
        (b"IxRF", "IndexRefineFlat (\"IxRF\")"),
        (b"IxHe", "IndexLSH (\"IxHe\")"),
        (b"IHNf", "IndexHNSW (\"IHNf\")"),
        (b"ImiQ", "MultiIndexQuantizer (\"ImiQ\")"),
        (b"IxRq", "IndexResidualQuantizer (\"IxRq\")"),
        (b"IxLS", "IndexLocalSearchQuantizer (\"IxLS\")"),
        (b"IxPR", "IndexProductResidualQuantizer (\"IxPR\")"),
        (b"null", "an absent index (\"null\")"),
        (b"\xff\0zz", "type (\"\\xff\\x00zz\")"),
    ] {
        let error = read(&faiss(letters, 8, 5, &[]));
        assert!(matches!(&error, Error::Unsupported { what, .. } if what == wanted), "{error}");
    }
    // What is no number, or no flag.
    let whole = fs::read(sample("pq4x4.faiss")).unwrap();
    for (at, value, wanted) in [
        (69, &f32::NAN.to_le_bytes()[..], "the centroids"),
        (69, &f32::INFINITY.to_le_bytes(), "the centroids"),
        (32, &[2], "is_trained"),
        (whole.len() - 5, &[9], "encode_signs"),
        (whole.len() - 9, &[6], "search_type"),
    ] {
        let mut changed = whole.clone();
        changed[at..at + value.len()].copy_from_slice(value);
        assert_eq!(field(&changed), wanted, "{at}");
    }
    for (metric, wanted) in [
        (2, "METRIC_L1"),
        (3, "METRIC_Linf"),
        (4, "METRIC_Lp"),
        (20, "METRIC_Canberra"),
        (21, "METRIC_BrayCurtis"),
        (22, "METRIC_JensenShannon"),
        (23, "METRIC_Jaccard"),
        (99, "metric 99"),
    ] {
        let mut changed = whole.clone();
        changed[33] = metric;
        let error = read(&changed);
        assert!(matches!(&error, Error::Unsupported { what, .. } if what == wanted), "{error}");
    }
}

/// A linear transform of `letters`, with what stands before its matrix.
fn transform(
    letters: &[u8; 4],
    before: &[u8],
    matrix: &[f32],
    bias: &[f32],
    dims: [i32; 2],
) -> Vec<u8> {
    let floats = |values: &[f32]| {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        [numbers(&[values.len() as u64]), bytes.collect()].concat()
    };
    let dims = dims.map(i32::to_le_bytes).concat();
    let flag = [u8::from(!bias.is_empty())];
    [letters, before, &flag, &floats(matrix), &floats(bias), &dims, &[1]].concat()
}

#[test]
fn transforms_of_faiss() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let inner = Stored {
        model: pq(2, 2, 2, Metric::L2).into(),
        codes: Some(codes(3, 2, 2)),
        ids: None,
        scan: Scan::Rows,
    };
    inner.write_faiss(&path, &Task::new()).unwrap();
    let inside = fs::read(&path).unwrap();
    let wrapped = |transforms: &[Vec<u8>]| {
        let rest = [&(transforms.len() as i32).to_le_bytes(), &transforms.concat()[..], &inside];
        faiss(b"IxPT", 4, 3, &rest.concat())
    };
    let read = |bytes: &[u8]| Stored::from_faiss_bytes(bytes, &Task::new());
    // y = A x turns the coordinates by one, so y = B x by two with a sign.
    let (mut a, mut b) = ([0.0; 16], [0.0; 16]);
    for row in 0..4 {
        a[row * 4 + (row + 1) % 4] = 1.0;
        b[row * 4 + (row + 2) % 4] = if row == 1 { -1.0 } else { 1.0 };
    }
    let transposed = |matrix: &[f32; 16]| (0..16).map(|at| matrix[at % 4 * 4 + at / 4]).collect();
    let turned = |rotation: Vec<f32>| Stored {
        model: picopq::Opq::from_parts(pq(2, 2, 2, Metric::L2), rotation).unwrap().into(),
        ..inner.clone()
    };
    let plain = |matrix: &[f32]| transform(b"LTra", &[], matrix, &[], [4, 4]);
    assert_eq!(read(&wrapped(&[])).unwrap(), inner);
    let [mean, values, directions] =
        [4, 4, 16].map(|count: usize| [numbers(&[count as u64]), vec![0; 4 * count]].concat());
    let analysis = [mean, values, directions].concat();
    for (letters, class, before) in [
        (b"LTra", "LinearTransform", vec![]),
        (b"rrot", "RandomRotationMatrix", vec![]),
        (b"PCAm", "PCAMatrix", [&[0; 5][..], &analysis].concat()),
        (b"PcAm", "PCAMatrix", [&[0; 9][..], &analysis].concat()),
        (b"Pcam", "PCAMatrix", [&[0; 13][..], &analysis].concat()),
        (b"Viqm", "ITQMatrix", vec![0; 8]),
    ] {
        for bias in [&[][..], &[0.0; 4]] {
            let bytes = wrapped(&[transform(letters, &before, &a, bias, [4, 4])]);
            assert_eq!(read(&bytes).unwrap(), turned(transposed(&a)), "{letters:?}");
        }
        let biased = transform(letters, &before, &a, &[0.0, 0.0, 0.0, 0.5], [4, 4]);
        let wanted = format!("a bias ({class} (\"{}\"))", letters.escape_ascii());
        let error = read(&wrapped(&[biased])).unwrap_err();
        assert!(matches!(&error, Error::Unsupported { what, .. } if *what == wanted), "{error}");
    }
    // B A, as two transforms or as two wrappers.
    let mut both = vec![0.0; 16];
    for (row, column) in (0..16).map(|at| (at / 4, at % 4)) {
        both[column * 4 + row] = (0..4).map(|at| b[row * 4 + at] * a[at * 4 + column]).sum();
    }
    let both = turned(both);
    assert_eq!(read(&wrapped(&[plain(&a), plain(&b)])).unwrap(), both);
    let wrapper = [faiss(b"IxPT", 4, 3, &[1, 0, 0, 0]), plain(&a), wrapped(&[plain(&b)])].concat();
    assert_eq!(read(&wrapper).unwrap(), both);

    let refused = |bytes: Vec<u8>| match read(&bytes).unwrap_err() {
        Error::Unsupported { what, .. } => what,
        Error::BadField { field, .. } | Error::Truncated { field, .. } => field.to_string(),
        other => panic!("{other}"),
    };
    let one = |transform| refused(wrapped(&[transform]));
    let (twice, mut nan) = (a.map(|value| 2.0 * value), a);
    nan[3] = f32::NAN;
    assert_eq!(one(plain(&twice)), "transforms that do not amount to a rotation");
    assert_eq!(one(plain(&nan)), "A");
    assert_eq!(refused(wrapped(&[plain(&a), plain(&nan)])), "A");
    assert_eq!(one(plain(&a[1..])), "the size of A");
    assert_eq!(one(transform(b"LTra", &[], &a, &[0.0; 3], [4, 4])), "the size of b");
    for dims in [[4, 3], [3, 4], [-4, 4]] {
        let what = format!("a transform from {} to {} dimensions", dims[0], dims[1]);
        assert_eq!(one(transform(b"LTra", &[], &a, &[], dims)), what);
    }
    let mut untrained = plain(&a);
    *untrained.last_mut().unwrap() = 0;
    assert_eq!(one(untrained), "the size of A");
    let mut flag = plain(&a);
    flag[4] = 2;
    assert_eq!(one(flag), "have_bias");
    assert_eq!(refused(faiss(b"IxPT", 4, 3, &[0xff; 4])), "the number of transforms");
    for (letters, wanted) in [
        (b"Viqt", "ITQTransform"),
        (b"RmDT", "RemapDimensionsTransform"),
        (b"VNrm", "NormalizationTransform"),
        (b"VCnt", "CenteringTransform"),
        (b"HRot", "HadamardRotation"),
        (b"abcd", "transform"),
    ] {
        let letters_shown = letters.escape_ascii();
        assert_eq!(one(letters.to_vec()), format!("{wanted} (\"{letters_shown}\")"));
    }
    // A wrapper knows the dimension and the rows of what is in it.
    for (dim, rows) in [(2, 3), (4, 2)] {
        let bytes = faiss(b"IxPT", dim, rows, &[&[0; 4], &inside[..]].concat());
        assert_eq!(refused(bytes), "an index in a wrapper");
    }
}

#[test]
fn arrays_of_no_rows_and_any_width() {
    for shape in ["(0, 1099511627776)", "(0, 288230376151711743)"] {
        for order in ["True", "False"] {
            let bytes = array("'<f4'", order, shape, &[]);
            let mut reader = RowReader::memory(&bytes, "bytes", Format::Npy).unwrap();
            assert_eq!(reader.rows(), Some(0));
            assert_eq!(reader.read::<f32>(100, &mut Vec::new()), Ok(0));
            assert_eq!(reader.skip(1 << 40), Ok(()));
        }
    }
}

#[test]
fn rows_that_are_refused() {
    let bad = |format, bytes: &[u8]| {
        let reader = RowReader::memory(bytes, "bytes", format);
        let error = reader.and_then(|reader| read_all::<f32>(reader, 3)).unwrap_err();
        assert!(is_of_a_file(&error), "{format:?} {error}");
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    for format in FORMATS {
        let values = write_small(&path, format, 5, 3);
        let bytes = fs::read(&path).unwrap();
        bad(format, &[&bytes[..], &[0]].concat());
        bad(format, &bytes[..bytes.len() - 1]);
        bad(format, &bytes[1..]);
        assert_eq!(values.len(), 15);
    }
    let object = array("'|O'", "False", "(2,)", &[0; 16]);
    bad(Format::Npy, &object);
    bad(Format::Npy, &npy(1, &" ".repeat(65_000), &[]));
    for (format, header) in [(Format::Fbin, [2_u32, 0]), (Format::U8bin, [u32::MAX, u32::MAX])] {
        bad(format, &header.map(u32::to_le_bytes).concat());
    }
}

#[test]
fn paths_that_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (task, absent, empty) =
        (Task::new(), folder.path().join("absent.npy"), folder.path().join("empty.npy"));
    fs::write(&empty, "").unwrap();
    let stored = Stored::model(pq(2, 2, 2, Metric::L2));
    let kind = |result: Result<()>| match result.unwrap_err() {
        Error::Io { kind, .. } => Some(kind),
        Error::Truncated { offset: 0, .. } => None,
        other => panic!("{other}"),
    };
    for (path, wanted) in [
        (&absent, Some(ErrorKind::NotFound)),
        (&folder.path().to_path_buf(), Some(ErrorKind::IsADirectory)),
        (&empty, None),
    ] {
        assert_eq!(kind(Stored::load(path, &task).map(drop)), wanted);
        assert_eq!(kind(Stored::read_faiss(path, &task).map(drop)), wanted);
        assert_eq!(kind(RowReader::open_as(path, Format::Npy).map(drop)), wanted);
    }
    for path in [folder.path().to_path_buf(), folder.path().join("none").join("file")] {
        let wanted = if path.is_dir() { ErrorKind::IsADirectory } else { ErrorKind::NotFound };
        assert_eq!(kind(stored.save(&path, &task)), Some(wanted));
        assert_eq!(kind(stored.write_faiss(&path, &task)), Some(wanted));
        let create = RowWriter::create(&path, Format::Fbin, picopq::io::Dtype::F32, 3);
        assert_eq!(kind(create.map(drop)), Some(wanted));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn parts_that_do_not_fit_are_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let fits = || Stored {
        model: pq(4, 32, 2, Metric::L2).into(),
        codes: Some(codes(3, 4, 32)),
        ids: None,
        scan: Scan::Rows,
    };
    let bad = [
        Stored { codes: Some(codes(3, 5, 32)), ..fits() },
        Stored { codes: Some(codes(3, 4, 64)), ..fits() },
        Stored { ids: Some(vec![1]), ..fits() },
        Stored { codes: None, ids: Some(vec![1]), ..fits() },
        Stored { scan: Scan::Fast { block: 32 }, ..fits() },
        Stored {
            model: pq(4, 16, 2, Metric::L2).into(),
            codes: None,
            scan: Scan::Fast { block: 31 },
            ..fits()
        },
    ];
    for stored in bad {
        assert!(stored.save(&path, &Task::new()).is_err());
        assert!(stored.write_faiss(&path, &Task::new()).is_err());
        assert!(!path.exists());
    }
    let twice = Stored { ids: Some(vec![1, 1, 2]), ..fits() };
    assert!(matches!(twice.into_index(&Task::new()), Err(Error::DuplicateId { id: 1 })));
}
