//! Faiss's index files, without Faiss: product quantizers, their rotations, fast-scan layouts and
//! id maps. Little-endian, packed; an index begins with four letters that name its type.
//!
//! ```text
//! index   = letters head body                head = d ntotal 2^20 2^20 is_trained metric
//! IxPq    pq  codes  search_type encode_signs polysemous_ht
//! IPfs    pq  implem bbs qbs ntotal2 m2  codes in blocks
//! IxPT    count of transforms, transforms, index
//! IxMp    index, ids                         (IxM2 too)
//! pq      = d m nbits centroids              alone, the file of a ProductQuantizer
//! vector  = u64 count, then the elements
//! ```
//! A row of codes is a string of bits, sub-code m in bits m nbits to (m + 1) nbits, lowest first.

use super::sink::Sink;
use super::source::{Number, Source, reserve};
use super::{Codes, MAX_BLOCK, Metric, Pq, Quantizer, Result, Scan, Stored, Task, filled};
use crate::codes::{Code, with_codes};
use crate::linalg::Rotation;
use crate::vectors::Vectors;

/// Largest dimension that Faiss reads.
const MAX_DIM: u64 = 1 << 20;
/// More bits per sub-code than this Faiss refuses.
const MAX_BITS: u32 = 24;
/// Wrappers around each other, at most.
const MAX_NESTING: usize = 8;
/// Coordinate of the codewords that fill ks up to a power of two: far from all data, and its square
/// is still an f32.
const FAR: f32 = 1e15;
/// How far R R^T may be from the identity, for a matrix to pass as a rotation.
const ORTHONORMAL: f32 = 1e-3;
/// Two fields of every head that Faiss writes and does not read.
const DUMMY: i64 = 1 << 20;
/// The order of the rows in a register of 32 half-bytes.
const LANES: [usize; 16] = [0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15];

const WANTED: &str =
    "IndexPQ, IndexPQFastScan, IndexPreTransform of rotations, IndexIDMap or a ProductQuantizer";

/// What stands at the beginning of every index.
struct Head {
    dim: usize,
    rows: u64,
    metric: Metric,
}

pub(crate) fn read(source: &mut Source<'_>, task: &Task) -> Result<Stored> {
    let first = source.number::<u32>("the type of the index")?;
    let stored = if u64::from(first) <= MAX_DIM {
        // A dimension: no index, but a quantizer alone.
        source.unread(&first.to_le_bytes());
        let book = read_book(source, None, task)?;
        Stored::model(pq(source, book, Metric::L2)?)
    } else {
        source.unread(&first.to_le_bytes());
        read_index(source, None, 0, task)?
    };
    source.end()?;
    Ok(stored)
}

/// Reads an index; one in a wrapper has the wrapper's dimension and number of rows.
fn read_index(
    source: &mut Source<'_>,
    outer: Option<&Head>,
    depth: usize,
    task: &Task,
) -> Result<Stored> {
    if depth > MAX_NESTING {
        return Err(source.unsupported("deeper nesting", "at most eight wrappers"));
    }
    let mut letters = [0; 4];
    source.exact(&mut letters, "the type of the index")?;
    if !matches!(&letters, b"IxPq" | b"IPfs" | b"IxPT" | b"IxMp" | b"IxM2") {
        return Err(source.unsupported(name(&letters), WANTED));
    }
    let head = read_head(source)?;
    if let Some(outer) = outer
        && (outer.dim, outer.rows, outer.metric) != (head.dim, head.rows, head.metric)
    {
        let got = format!("{} rows of {}, {:?}", head.rows, head.dim, head.metric);
        let wanted = format!("{} rows of {}, {:?}", outer.rows, outer.dim, outer.metric);
        return Err(source.bad("an index in a wrapper", got, &wanted));
    }
    match &letters {
        b"IxPq" => read_pq(source, &head, task),
        b"IPfs" => read_fast_scan(source, &head, task),
        b"IxPT" => read_transformed(source, &head, depth, task),
        _ => {
            let mut stored = read_index(source, Some(&head), depth + 1, task)?;
            if stored.ids.is_some() {
                return Err(source.unsupported("an id map in an id map", "one id map"));
            }
            let count = source.number::<u64>("the number of ids")?;
            if count != head.rows {
                return Err(source.bad("the number of ids", count, &head.rows.to_string()));
            }
            stored.ids = Some(source.numbers(count, "the ids", task)?);
            Ok(stored)
        }
    }
}

fn read_head(source: &mut Source<'_>) -> Result<Head> {
    let dim = source.number::<i32>("the dimension")?;
    let rows = source.number::<i64>("the number of rows")?;
    source.number::<i64>("an unused field")?;
    source.number::<i64>("an unused field")?;
    let trained = flag(source, "is_trained")?;
    let metric = source.number::<i32>("the metric")?;
    let Some(dim) = u64::try_from(dim).ok().filter(|dim| (1..=MAX_DIM).contains(dim)) else {
        return Err(source.bad("the dimension", dim, "1 to 2^20"));
    };
    let Ok(rows) = u64::try_from(rows) else {
        return Err(source.bad("the number of rows", rows, "0 or more"));
    };
    if !trained {
        return Err(source.unsupported("an index that is not trained", "a trained one"));
    }
    let metric = match metric {
        0 => Metric::Dot,
        1 => Metric::L2,
        other => {
            let what = match other {
                2 => "METRIC_L1".to_string(),
                3 => "METRIC_Linf".to_string(),
                4 => "METRIC_Lp".to_string(),
                20 => "METRIC_Canberra".to_string(),
                21 => "METRIC_BrayCurtis".to_string(),
                22 => "METRIC_JensenShannon".to_string(),
                23 => "METRIC_Jaccard".to_string(),
                _ => format!("metric {other}"),
            };
            return Err(source.unsupported(what, "METRIC_L2 or METRIC_INNER_PRODUCT"));
        }
    };
    Ok(Head { dim: dim as usize, rows, metric })
}

fn flag(source: &mut Source<'_>, field: &'static str) -> Result<bool> {
    match source.number::<u8>(field)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(source.bad(field, other, "0 or 1")),
    }
}

/// A codebook as the file has it.
struct Book {
    m: usize,
    nbits: u32,
    ds: usize,
    codewords: Vec<f32>,
}

impl Book {
    fn ks(&self) -> usize {
        1 << self.nbits
    }

    /// Bytes of a row of packed codes.
    fn code_size(&self) -> usize {
        code_size(self.m, self.nbits)
    }
}

fn code_size(m: usize, nbits: u32) -> usize {
    (m * nbits as usize).div_ceil(8)
}

fn read_book(source: &mut Source<'_>, dim: Option<usize>, task: &Task) -> Result<Book> {
    let d = source.number::<u64>("the quantizer's dimension")?;
    if !(1..=MAX_DIM).contains(&d) || dim.is_some_and(|dim| dim as u64 != d) {
        let wanted = dim.map_or("1 to 2^20".to_string(), |dim| dim.to_string());
        return Err(source.bad("the quantizer's dimension", d, &wanted));
    }
    let m = source.number::<u64>("M")?;
    if m == 0 || m > d || d % m != 0 {
        return Err(source.bad("M", m, &format!("a divisor of {d}")));
    }
    let nbits = source.number::<u64>("nbits")?;
    if nbits == 0 || nbits > MAX_BITS.into() {
        return Err(source.bad("nbits", nbits, "1 to 24"));
    }
    let count = source.number::<u64>("the number of centroids")?;
    if count != d << nbits {
        return Err(source.bad("the number of centroids", count, &(d << nbits).to_string()));
    }
    let codewords = source.numbers(count, "the centroids", task)?;
    Ok(Book { m: m as usize, nbits: nbits as u32, ds: (d / m) as usize, codewords })
}

fn pq(source: &Source<'_>, book: Book, metric: Metric) -> Result<Pq> {
    let (m, ks, ds) = (book.m, book.ks(), book.ds);
    Pq::from_codewords(book.codewords, m, ks, ds, metric)
        .map_err(|error| source.bad("the centroids", error, "finite values"))
}

/// The count of a vector of codes, which must be `wanted`.
fn read_count(source: &mut Source<'_>, wanted: Option<u64>) -> Result<u64> {
    let count = source.number::<u64>("the bytes of codes")?;
    if Some(count) == wanted {
        return Ok(count);
    }
    let wanted = wanted.map_or("a size that fits".to_string(), |wanted| wanted.to_string());
    Err(source.bad("the bytes of codes", count, &wanted))
}

fn read_pq(source: &mut Source<'_>, head: &Head, task: &Task) -> Result<Stored> {
    let book = read_book(source, Some(head.dim), task)?;
    let bytes = read_count(source, head.rows.checked_mul(book.code_size() as u64))?;
    source.need(Some(bytes), "the codes")?;
    let (m, ks) = (book.m, book.ks());
    let codes = match book.nbits {
        0..=8 => Codes::new(unpacked::<u8>(source, bytes, &book, task)?, m, ks),
        9..=16 => Codes::new(unpacked::<u16>(source, bytes, &book, task)?, m, ks),
        _ => Codes::new(unpacked::<u32>(source, bytes, &book, task)?, m, ks),
    };
    let codes = codes.map_err(|error| source.bad("the codes", error, "codes of the quantizer"))?;
    // How Faiss would search: by Hamming distances first, or not.
    let search = source.number::<i32>("search_type")?;
    if !(0..=5).contains(&search) {
        return Err(source.bad("search_type", search, "0 to 5"));
    }
    flag(source, "encode_signs")?;
    source.number::<i32>("polysemous_ht")?;
    let model = Quantizer::Pq(pq(source, book, head.metric)?);
    Ok(Stored { model, codes: Some(codes), ids: None, scan: Scan::Rows })
}

/// Takes rows of bits apart, as they are read.
fn unpacked<T: Code>(
    source: &mut Source<'_>,
    bytes: u64,
    book: &Book,
    task: &Task,
) -> Result<Vec<T>> {
    let (m, nbits, row) = (book.m, book.nbits, book.code_size() as u64);
    let mut out = Vec::new();
    // So many bytes are in the file, or the length is not known and room grows as they come.
    if source.remaining().is_some() {
        reserve(&mut out, (bytes / row) as usize * m, "the codes")?;
    }
    // Bits not yet used, and the place in the row.
    let (mut bits, mut have, mut sub_space, mut byte) = (0_u64, 0_u32, 0, 0);
    source.chunks(Some(bytes), "the codes", task, |chunk| {
        // A row may end with the chunk.
        let most = ((byte as usize + chunk.len()) / row as usize * m + m).min(chunk.len() * 8);
        // Of a stream this is a claim, which need not fit.
        let all = ((bytes / row) as usize).saturating_mul(m);
        if out.capacity() - out.len() < most.min(all - out.len()) {
            let more = most.max(out.len());
            reserve(&mut out, more, "the codes")?;
        }
        for &next in chunk {
            bits |= u64::from(next) << have;
            have += 8;
            byte += 1;
            while have >= nbits && sub_space < m {
                out.push(T::from_index((bits & ((1 << nbits) - 1)) as u32));
                bits >>= nbits;
                have -= nbits;
                sub_space += 1;
            }
            if byte == row {
                (bits, have, sub_space, byte) = (0, 0, 0, 0);
            }
        }
        Ok(())
    })?;
    Ok(out)
}

fn read_fast_scan(source: &mut Source<'_>, head: &Head, task: &Task) -> Result<Stored> {
    let book = read_book(source, Some(head.dim), task)?;
    if book.nbits != 4 {
        return Err(source.bad("nbits", book.nbits, "4 in an IndexPQFastScan"));
    }
    source.number::<i32>("implem")?;
    let bbs = source.number::<i32>("bbs")?;
    let block = usize::try_from(bbs).unwrap_or(0);
    if block == 0 || block % 32 != 0 || block > MAX_BLOCK {
        return Err(source.bad("bbs", bbs, "a multiple of 32, to 65536"));
    }
    source.number::<i32>("qbs")?;
    let padded = source.number::<u64>("ntotal2")?;
    let wanted = head.rows.checked_next_multiple_of(block as u64);
    if Some(padded) != wanted {
        return Err(source.bad("ntotal2", padded, &format!("{} up to {block}", head.rows)));
    }
    let (m, even) = (book.m, book.m.next_multiple_of(2));
    let m2 = source.number::<u64>("M2")?;
    if m2 != even as u64 {
        return Err(source.bad("M2", m2, &even.to_string()));
    }
    let bytes = read_count(source, padded.checked_mul(m2 / 2))?;
    source.need(Some(bytes), "the codes")?;
    let mut codes = Vec::new();
    for first in (0..head.rows).step_by(block) {
        // One block at a time: its bytes are read before its room is taken.
        let packed: Vec<u8> = source.numbers((block * even / 2) as u64, "the codes", task)?;
        let rows = (head.rows - first).min(block as u64) as usize;
        let begin = codes.len();
        if codes.capacity() - begin < rows * m {
            let all = source.remaining().map_or(begin, |_| head.rows as usize * m - begin);
            reserve(&mut codes, all.max(rows * m), "the codes")?;
        }
        codes.resize(begin + rows * m, 0);
        let out = &mut codes[begin..];
        for_each_pair(block, even, |at, (row, pair, sub_space)| {
            let byte = packed.get(at).copied().unwrap_or(0);
            for (row, code) in [(row, byte & 15), (pair, byte >> 4)] {
                if row < rows && sub_space < m {
                    out[row * m + sub_space] = code;
                }
            }
        });
    }
    let (ks, scan) = (book.ks(), Scan::Fast { block });
    let codes = Codes::new(codes, m, ks);
    let codes = codes.map_err(|error| source.bad("the codes", error, "codes of the quantizer"))?;
    let model = Quantizer::Pq(pq(source, book, head.metric)?);
    Ok(Stored { model, codes: Some(codes), ids: None, scan })
}

/// The bytes of a block in order: each holds a row's code of a sub-space in its low half, and that
/// of the row 16 further in its high half.
fn for_each_pair(block: usize, even: usize, mut visit: impl FnMut(usize, (usize, usize, usize))) {
    let mut at = 0;
    for pair in (0..even).step_by(2) {
        for group in (0..block).step_by(32) {
            for half in 0..2 {
                for lane in LANES {
                    let row = group + lane;
                    visit(at, (row, row + 16, pair + half));
                    at += 1;
                }
            }
        }
    }
}

fn read_transformed(
    source: &mut Source<'_>,
    head: &Head,
    depth: usize,
    task: &Task,
) -> Result<Stored> {
    let count = source.number::<i32>("the number of transforms")?;
    if count < 0 {
        return Err(source.bad("the number of transforms", count, "0 or more"));
    }
    let mut rotation: Option<Vec<f32>> = None; // (dim, dim), x becomes x R
    for _ in 0..count {
        let matrix = read_transform(source, head.dim, task)?;
        rotation = Some(compose(source, rotation, &matrix, head.dim, task)?);
    }
    let mut stored = read_index(source, Some(head), depth + 1, task)?;
    if let Some(rotation) = rotation {
        check_rotation(source, &rotation, head.dim, task)?;
        let (pq, inner) = match stored.model {
            Quantizer::Pq(pq) => (pq, None),
            Quantizer::Opq(opq) => {
                let (pq, inner) = opq.into_parts();
                (pq, Some(inner))
            }
        };
        let rotation = match inner {
            None => rotation,
            Some(inner) => {
                let inner = transposed(&inner, head.dim)?;
                compose(source, Some(rotation), &inner, head.dim, task)?
            }
        };
        stored.model = Quantizer::new(pq, Some(rotation))?;
    }
    Ok(stored)
}

/// The matrix A (dim, dim) of a linear transform y = A x.
fn read_transform(source: &mut Source<'_>, dim: usize, task: &Task) -> Result<Vec<f32>> {
    let mut letters = [0; 4];
    source.exact(&mut letters, "the type of the transform")?;
    match &letters {
        b"LTra" | b"rrot" => {}
        b"Pcam" | b"PcAm" | b"PCAm" => {
            source.number::<f32>("eigen_power")?;
            if &letters == b"Pcam" {
                source.number::<f32>("epsilon")?;
            }
            flag(source, "random_rotation")?;
            if &letters != b"PCAm" {
                source.number::<i32>("balanced_bins")?;
            }
            for field in ["the mean", "the eigenvalues", "the principal directions"] {
                let count = source.number::<u64>(field)?;
                let bytes = count.checked_mul(4);
                source.chunks(bytes, field, task, |_| Ok(()))?;
            }
        }
        b"Viqm" => {
            source.number::<i32>("max_iter")?;
            source.number::<i32>("seed")?;
        }
        other => return Err(source.unsupported(transform_name(other), "a rotation")),
    }
    let have_bias = flag(source, "have_bias")?;
    let count = source.number::<u64>("the size of A")?;
    let matrix: Vec<f32> = source.numbers(count, "A", task)?;
    let biases = source.number::<u64>("the size of b")?;
    let bias: Vec<f32> = source.numbers(biases, "b", task)?;
    let [d_in, d_out] = ["d_in", "d_out"].map(|field| source.number::<i32>(field));
    let (d_in, d_out) = (d_in?, d_out?);
    let trained = flag(source, "is_trained")?;
    if (usize::try_from(d_in), usize::try_from(d_out)) != (Ok(dim), Ok(dim)) {
        let what = format!("a transform from {d_in} to {d_out} dimensions");
        return Err(source.unsupported(what, "one that keeps the dimension of the vectors"));
    }
    let square = dim as u64 * dim as u64;
    if count != square || !trained {
        return Err(source.bad("the size of A", count, &format!("{square}, trained")));
    }
    if biases != if have_bias { dim as u64 } else { 0 } {
        return Err(source.bad("the size of b", biases, "the dimension, or 0 without have_bias"));
    }
    if bias.iter().any(|&bias| bias != 0.0) {
        let what = format!("a bias ({})", transform_name(&letters));
        return Err(source.unsupported(what, "a rotation"));
    }
    Ok(matrix)
}

/// The rotation `x -> A (x R)`, as a matrix R' with x -> x R'.
fn compose(
    source: &Source<'_>,
    rotation: Option<Vec<f32>>,
    matrix: &[f32],
    dim: usize,
    task: &Task,
) -> Result<Vec<f32>> {
    let Some(rotation) = rotation else { return transposed(matrix, dim) };
    let refuse = |error| source.bad("A", error, "finite values");
    let mut out = filled(rotation.len(), 0.0, "the rotation")?;
    let matrix = Rotation::new(matrix, dim).map_err(refuse)?;
    matrix.undo_into(Vectors::new(&rotation, dim)?, &mut out, task)?;
    Ok(out)
}

fn transposed(matrix: &[f32], dim: usize) -> Result<Vec<f32>> {
    let mut out = filled(matrix.len(), 0.0, "the rotation")?;
    for (row, values) in matrix.chunks_exact(dim).enumerate() {
        for (column, &value) in values.iter().enumerate() {
            out[column * dim + row] = value;
        }
    }
    Ok(out)
}

/// Refuses a matrix whose transpose is not its inverse.
fn check_rotation(source: &Source<'_>, matrix: &[f32], dim: usize, task: &Task) -> Result<()> {
    let mut product = filled(matrix.len(), 0.0, "the rotation")?;
    let rotation = Rotation::new(matrix, dim);
    let rotation = rotation.map_err(|error| source.bad("A", error, "finite values"))?;
    rotation.undo_into(Vectors::new(matrix, dim)?, &mut product, task)?;
    let near = |(place, value): (usize, &f32)| {
        let wanted = if place / dim == place % dim { 1.0 } else { 0.0 };
        (value - wanted).abs() <= ORTHONORMAL
    };
    if product.iter().enumerate().all(near) {
        return Ok(());
    }
    Err(source.unsupported("transforms that do not amount to a rotation", "a rotation"))
}

/// The types of an index with ids: Faiss finds rows by id in the second.
pub(crate) const ID_MAP: &[u8; 4] = b"IxMp";
pub(crate) const ID_MAP2: &[u8; 4] = b"IxM2";

/// Writes an index, whose ids stand in an index of the type `map`.
pub(crate) fn write(
    stored: &Stored,
    map: &[u8; 4],
    sink: &mut Sink<'_>,
    task: &Task,
) -> Result<()> {
    let pq = stored.model.pq();
    let (ks, dim) = (pq.codebook().ks(), pq.codebook().dim());
    let nbits = ks.next_power_of_two().trailing_zeros().max(1);
    if nbits > MAX_BITS || dim as u64 > MAX_DIM {
        let what = format!("ks = {ks}, dim = {dim}");
        return Err(sink.unsupported(what, "at most 2^24 codewords and 2^20 dimensions"));
    }
    let rows = stored.len() as i64;
    let metric = pq.metric();
    if stored.ids.is_some() {
        write_head(sink, map, dim, rows, metric)?;
    }
    if let Some(rotation) = stored.model.rotation().map(|rotation| rotation.matrix()) {
        write_head(sink, b"IxPT", dim, rows, metric)?;
        sink.number(1_i32)?;
        sink.bytes(b"LTra")?;
        sink.number(0_u8)?;
        sink.number(rotation.len() as u64)?;
        sink.numbers(&transposed(rotation, dim)?, task)?;
        sink.number(0_u64)?;
        sink.number(dim as i32)?;
        sink.number(dim as i32)?;
        sink.number(1_u8)?;
    }
    match stored.scan {
        Scan::Rows => {
            write_head(sink, b"IxPq", dim, rows, metric)?;
            write_book(sink, pq, nbits, task)?;
            let m = pq.codebook().m();
            sink.number((code_size(m, nbits) * stored.len()) as u64)?;
            if let Some(codes) = &stored.codes {
                with_codes!(codes, |codes| write_packed(sink, codes, m, nbits, task))?;
            }
            sink.number(0_i32)?;
            sink.number(0_u8)?;
            sink.number(nbits as i32 * m as i32 + 1)?;
        }
        Scan::Fast { block } => {
            write_head(sink, b"IPfs", dim, rows, metric)?;
            write_book(sink, pq, nbits, task)?;
            write_fast_scan(sink, stored, block, task)?;
        }
    }
    if let Some(ids) = &stored.ids {
        sink.number(ids.len() as u64)?;
        sink.numbers(ids, task)?;
    }
    Ok(())
}

fn write_head(
    sink: &mut Sink<'_>,
    letters: &[u8; 4],
    dim: usize,
    rows: i64,
    metric: Metric,
) -> Result<()> {
    sink.bytes(letters)?;
    sink.number(dim as i32)?;
    sink.number(rows)?;
    sink.number(DUMMY)?;
    sink.number(DUMMY)?;
    sink.number(1_u8)?;
    sink.number(match metric {
        Metric::Dot => 0_i32,
        Metric::L2 => 1,
    })
}

fn write_book(sink: &mut Sink<'_>, pq: &Pq, nbits: u32, task: &Task) -> Result<()> {
    let book = pq.codebook();
    let (m, ks, ds) = (book.m(), book.ks(), book.ds());
    for size in [book.dim() as u64, m as u64, nbits.into(), (book.dim() as u64) << nbits] {
        sink.number(size)?;
    }
    for codewords in book.codewords().chunks_exact(ks * ds) {
        sink.numbers(codewords, task)?;
        for _ in ks * ds..ds << nbits {
            sink.number(FAR)?;
        }
    }
    Ok(())
}

fn write_packed<T: Code + Number>(
    sink: &mut Sink<'_>,
    codes: &[T],
    m: usize,
    nbits: u32,
    task: &Task,
) -> Result<()> {
    let mut packed = Vec::new();
    for rows in codes.chunks((1 << 16) / m * m + m) {
        task.check()?;
        packed.clear();
        reserve(&mut packed, rows.len() / m * code_size(m, nbits), "the codes")?;
        for row in rows.chunks_exact(m) {
            let (mut bits, mut have) = (0_u64, 0);
            for code in row {
                bits |= (code.index() as u64) << have;
                have += nbits;
                while have >= 8 {
                    packed.push(bits as u8);
                    bits >>= 8;
                    have -= 8;
                }
            }
            if have > 0 {
                packed.push(bits as u8);
            }
        }
        sink.bytes(&packed)?;
    }
    Ok(())
}

fn write_fast_scan(sink: &mut Sink<'_>, stored: &Stored, block: usize, task: &Task) -> Result<()> {
    let m = stored.model.pq().codebook().m();
    let (n, even) = (stored.len(), m.next_multiple_of(2));
    let padded = n.next_multiple_of(block);
    for field in [0, block as i32, 0] {
        sink.number(field)?;
    }
    for field in [padded, even, padded * even / 2] {
        sink.number(field as u64)?;
    }
    let Some(codes) = &stored.codes else { return Ok(()) };
    for first in (0..n).step_by(block) {
        task.check()?;
        let rows = block.min(n - first);
        with_codes!(codes, |codes| {
            let code = |row: usize, sub_space: usize| {
                let inside = row < rows && sub_space < m;
                if inside { codes[(first + row) * m + sub_space].index() as u8 } else { 0 }
            };
            let mut packed = filled(block * even / 2, 0, "the codes")?;
            for_each_pair(block, even, |at, (row, pair, sub_space)| {
                packed[at] = code(row, sub_space) | (code(pair, sub_space) << 4);
            });
            sink.bytes(&packed)
        })?;
    }
    Ok(())
}

/// A type of index by its letters.
fn name(letters: &[u8; 4]) -> String {
    let class = match letters {
        b"IxFI" | b"IxF2" | b"IxFl" => "IndexFlat",
        b"IwPQ" | b"IvPQ" => "IndexIVFPQ",
        b"IwPf" => "IndexIVFPQFastScan",
        b"IwQR" => "IndexIVFPQR",
        b"IwFl" | b"IvFl" => "IndexIVFFlat",
        b"IwSq" | b"IwSQ" => "IndexIVFScalarQuantizer",
        b"IxSQ" => "IndexScalarQuantizer",
        b"IxPo" | b"IxPQ" => "IndexPQ of an old Faiss",
        b"IxRF" => "IndexRefineFlat",
        b"IxHe" => "IndexLSH",
        b"IHNf" | b"IHNp" | b"IHNs" | b"IHN2" => "IndexHNSW",
        b"ImiQ" => "MultiIndexQuantizer",
        b"IxRQ" | b"IxRq" => "IndexResidualQuantizer",
        b"IxLS" => "IndexLocalSearchQuantizer",
        b"IxPR" => "IndexProductResidualQuantizer",
        b"null" => "an absent index",
        _ => "type",
    };
    format!("{class} (\"{}\")", letters.escape_ascii())
}

/// A type of transform by its letters.
fn transform_name(letters: &[u8; 4]) -> String {
    let class = match letters {
        b"LTra" => "LinearTransform",
        b"rrot" => "RandomRotationMatrix",
        b"Pcam" | b"PcAm" | b"PCAm" => "PCAMatrix",
        b"Viqm" => "ITQMatrix",
        b"Viqt" => "ITQTransform",
        b"RmDT" => "RemapDimensionsTransform",
        b"VNrm" => "NormalizationTransform",
        b"VCnt" => "CenteringTransform",
        b"HRot" => "HadamardRotation",
        _ => "transform",
    };
    format!("{class} (\"{}\")", letters.escape_ascii())
}
