//! Files and what they hold, for the tests.
#![allow(dead_code, reason = "each binary of tests needs a part")]

use std::path::{Path, PathBuf};

use picopq::io::{Dtype, Format, Number, RowNumber, RowReader, RowWriter, Scan, Stored};
use picopq::{Codes, Error, Metric, Opq, Pq, Quantizer, Result};

pub(crate) fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Everything in blocks of `block` rows.
pub(crate) fn read_all<T: RowNumber>(mut reader: RowReader<'_>, block: usize) -> Result<Vec<T>> {
    let (mut all, mut rows) = (Vec::new(), Vec::new());
    while reader.read(block, &mut rows)? > 0 {
        all.extend_from_slice(&rows);
    }
    Ok(all)
}

pub(crate) fn write<T: Number>(path: &Path, format: Format, rows: &[T], dim: usize) {
    let mut writer = RowWriter::create(path, format, T::DTYPE, dim).unwrap();
    // In two blocks, of which one may be empty.
    let (head, tail) = rows.split_at(rows.len() / dim / 2 * dim);
    writer.write(head).unwrap();
    writer.write(tail).unwrap();
    writer.finish().unwrap();
}

pub(crate) const FORMATS: [Format; 8] = [
    Format::Npy,
    Format::Fvecs,
    Format::Bvecs,
    Format::Ivecs,
    Format::Fbin,
    Format::U8bin,
    Format::I8bin,
    Format::Ibin,
];

/// Writes `n` rows of small integers as the type of the format; the values.
pub(crate) fn write_small(path: &Path, format: Format, n: usize, dim: usize) -> Vec<i64> {
    let values: Vec<i64> = (0..n * dim).map(|i| (i * 37 % 128) as i64).collect();
    match format.dtype().unwrap_or(Dtype::U16) {
        Dtype::U8 => write(path, format, &each(&values, |value| value as u8), dim),
        Dtype::I8 => write(path, format, &each(&values, |value| value as i8), dim),
        Dtype::I32 => write(path, format, &each(&values, |value| value as i32), dim),
        Dtype::F32 => write(path, format, &each(&values, |value| value as f32), dim),
        _ => write(path, format, &each(&values, |value| value as u16), dim),
    }
    values
}

pub(crate) fn each<T>(values: &[i64], number: impl Fn(i64) -> T) -> Vec<T> {
    values.iter().map(|&value| number(value)).collect()
}

/// A .npy file of a given dictionary and data.
pub(crate) fn npy(version: u8, dictionary: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    let len = dictionary.len() as u32;
    bytes.extend(&len.to_le_bytes()[..if version == 1 { 2 } else { 4 }]);
    [&bytes, dictionary.as_bytes(), data].concat()
}

pub(crate) fn array(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    npy(1, &format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"), data)
}

pub(crate) fn is_of_a_file(error: &Error) -> bool {
    matches!(
        error,
        Error::Truncated { .. }
            | Error::BadField { .. }
            | Error::TrailingBytes { .. }
            | Error::Checksum { .. }
            | Error::Unsupported { .. }
    )
}

pub(crate) fn pq(m: usize, ks: usize, ds: usize, metric: Metric) -> Pq {
    Pq::from_codewords(crate::numbers::uniform(ks as u64, m * ks * ds), m, ks, ds, metric).unwrap()
}

pub(crate) fn opq(pq: Pq) -> Opq {
    let dim = pq.codebook().dim();
    // A permutation with a sign.
    let mut rotation = vec![0.0; dim * dim];
    for row in 0..dim {
        rotation[row * dim + (row * 3 + 1) % dim] = if row == 0 { -1.0 } else { 1.0 };
    }
    Opq::from_parts(pq, rotation).unwrap()
}

pub(crate) fn codes(n: usize, m: usize, ks: usize) -> Codes<'static> {
    let numbers = || (0..n * m).map(|i| (i * 40_503 + 7) % ks);
    if ks <= 256 {
        return Codes::new(numbers().map(|code| code as u8).collect::<Vec<_>>(), m, ks).unwrap();
    }
    if ks <= 65_536 {
        return Codes::new(numbers().map(|code| code as u16).collect::<Vec<_>>(), m, ks).unwrap();
    }
    Codes::new(numbers().map(|code| code as u32).collect::<Vec<_>>(), m, ks).unwrap()
}

/// Values of every kind.
pub(crate) fn stored() -> Vec<Stored> {
    let mut all = Vec::new();
    for metric in [Metric::L2, Metric::Dot] {
        for (m, ks) in [(1, 1), (3, 16), (4, 256), (5, 512), (2, 65_536), (1, 131_072)] {
            let pq = pq(m, ks, if m == 4 { 2 } else { 1 }, metric);
            all.push(Stored::model(pq.clone()));
            for n in [0, 1, 7, 70] {
                let with = |model: Quantizer, ids| {
                    let ids =
                        if ids { Some((0..n as i64).map(|i| i * i - 5).collect()) } else { None };
                    Stored { model, codes: Some(codes(n, m, ks)), ids, scan: Scan::Rows }
                };
                all.push(with(pq.clone().into(), false));
                if m == 4 {
                    all.push(with(opq(pq.clone()).into(), true));
                }
                if ks == 16 {
                    for block in [32, 96] {
                        let scan = Scan::Fast { block };
                        all.push(Stored { scan, ..with(pq.clone().into(), true) });
                    }
                }
            }
        }
    }
    all.push(Stored::model(opq(pq(4, 8, 2, Metric::Dot))));
    all
}

pub(crate) const SAMPLES: [&str; 6] =
    ["pq4x4.faiss", "pq2x5.faiss", "pq2x8.faiss", "opq_pq.faiss", "pqfs.faiss", "idmap.faiss"];
