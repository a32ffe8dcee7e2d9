//! Readers under attack: whatever the bytes, a value or an error of the file, in bounded memory;
//! and whatever is read can be used.
//!
//! One test in a process of its own, so that nobody else allocates meanwhile.
#![allow(clippy::unwrap_used)]

mod files;
mod numbers;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use files::{FORMATS, SAMPLES, array, codes, is_of_a_file, opq, pq, read_all, sample, write_small};
use peak_alloc::PeakAlloc;
use picopq::io::{Format, RowReader, Scan, Stored};
use picopq::{Error, Filter, Metric, Result, Task, Vectors};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Fewer cases than this are a mistake in the test.
const CASES: usize = 400_000;
/// Files up to this length are changed at every byte; longer ones at both ends, and here and there.
const SMALL: usize = 1200;
/// What may be allocated beyond the size of a file.
const SLACK: usize = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Reader {
    Own,
    Faiss,
    Rows(Format),
}

impl Reader {
    /// Reads the bytes and uses what they hold.
    fn read(self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Own => use_stored(bounded(bytes, |task| Stored::from_bytes(bytes, task))?),
            Self::Faiss => {
                use_stored(bounded(bytes, |task| Stored::from_faiss_bytes(bytes, task))?)
            }
            Self::Rows(format) => {
                let reader = RowReader::stream(bytes, "bytes", format);
                let streamed = reader.and_then(|reader| read_all::<f32>(reader, 3));
                let known = bounded(bytes, |_| {
                    read_all::<f32>(RowReader::memory(bytes, "bytes", format)?, 3)
                });
                // Column order needs a file; a number may have become NaN.
                let equal = format!("{known:?}") == format!("{streamed:?}");
                let columns = matches!(streamed, Err(Error::Unsupported { .. }));
                assert!(known.is_err() || equal || columns, "a stream reads as a file does");
                let mut skipped = RowReader::memory(bytes, "bytes", format)?;
                skipped.skip(1)?;
                read_all::<i64>(skipped, usize::MAX).map(drop).or_else(not_integers)?;
                known.map(drop)
            }
        }
    }
}

fn not_integers(error: Error) -> Result<()> {
    if matches!(error, Error::Unsupported { .. }) { Ok(()) } else { Err(error) }
}

/// Reads, and compares what was allocated with the number of bytes.
fn bounded<T>(bytes: &[u8], read: impl FnOnce(&Task) -> Result<T>) -> Result<T> {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let value = read(&Task::new());
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    let bound = bytes.len() + bytes.len() / 10 + SLACK;
    assert!(peak <= bound, "{} bytes made it allocate {peak}, more than {bound}", bytes.len());
    value
}

/// What a user does next: errors are of the values, such as an id that comes twice, but no panic.
fn use_stored(stored: Stored) -> Result<()> {
    let book = stored.model.pq().codebook();
    let (dim, task) = (book.dim(), Task::new());
    let query = vec![0.25; dim];
    let queries = Vectors::new(&query, dim)?;
    stored.model.pq().encode(queries)?;
    if let Some(codes) = &stored.codes {
        let mut vectors = vec![0.0; codes.len() * dim];
        book.decode_into(stored.model.rotation(), codes, &mut vectors, &task)?;
    }
    let n = stored.len();
    let index = match stored.into_index(&task) {
        Err(Error::DuplicateId { .. } | Error::NegativeId { .. }) => return Ok(()),
        index => index?,
    };
    assert_eq!(index.len(), n);
    assert_eq!(index.search(queries, 3, Filter::All, &task)?[0].len(), n.min(3));
    let found = index.range_search(queries, f32::MAX, Filter::Ids(&[0, 1, i64::MAX]), &task)?;
    let ids: Vec<i64> = found[0].iter().map(|found| found.id).collect();
    assert_eq!(index.reconstruct(&ids, &task)?.len(), ids.len() * dim);
    index.remove(&ids, &task)?;
    assert_eq!(index.len(), n - ids.len());
    match index.add(queries, None, &task) {
        // The highest id there is can be in a file.
        Err(Error::OutOfRange { argument: "ids", .. }) => Ok(()),
        added => added,
    }
}

struct Sample {
    name: String,
    bytes: Vec<u8>,
    reader: Reader,
}

/// Files that each reader takes.
fn samples() -> Vec<Sample> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let mut all = Vec::new();
    let mut add = |name: &str, bytes, reader| all.push(Sample { name: name.into(), bytes, reader });
    let mut own = Vec::new();
    for name in SAMPLES {
        add(name, fs::read(sample(name)).unwrap(), Reader::Faiss);
        // The largest is like pq4x4 in picopq's own format.
        if name != "pq2x8.faiss" {
            let stored = Stored::read_faiss(&sample(name), &Task::new()).unwrap();
            own.push((name, stored));
        }
    }
    own.push(("a model", Stored::model(pq(2, 3, 2, Metric::Dot))));
    own.push(("a rotated model", Stored::model(opq(pq(2, 2, 2, Metric::L2)))));
    let (model, codes) = (pq(1, 300, 1, Metric::L2).into(), Some(codes(4, 1, 300)));
    own.push(("words", Stored { model, codes, ids: Some(vec![9, 3, 5, 4]), scan: Scan::Rows }));
    for (name, stored) in own {
        stored.save(&path, &Task::new()).unwrap();
        add(&format!("own {name}"), fs::read(&path).unwrap(), Reader::Own);
    }
    for format in FORMATS {
        write_small(&path, format, 5, 3);
        add(&format!("{format:?}"), fs::read(&path).unwrap(), Reader::Rows(format));
    }
    add("Fortran", array("'<u1'", "True", "(2, 3)", &[0; 6]), Reader::Rows(Format::Npy));
    add("big-endian", array("'>f8'", "True", "(2, 1)", &[0; 16]), Reader::Rows(Format::Npy));
    all
}

/// Numbers that break readers, of every width.
fn hostile_numbers() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for width in [1, 2, 4, 8] {
        all.push(vec![0; width]);
        all.push(vec![0xff; width]);
        let mut number = |value: u64| all.push(value.to_le_bytes()[..width].to_vec());
        number(1);
        number(1 << (8 * width - 1));
        number((1 << (8 * width - 1)) - 1);
        number(1 << (8 * width - 3));
    }
    for value in [f32::NAN, f32::INFINITY, f32::MIN, 1e30, f32::MIN_POSITIVE / 2.0] {
        all.push(value.to_le_bytes().to_vec());
    }
    all.extend([f64::NAN, f64::MAX].map(|value| value.to_le_bytes().to_vec()));
    all
}

/// What stands in the place of a number of a header of text.
const HOSTILE_TEXT: [&str; 17] = [
    "0",
    "1",
    "-1",
    "255",
    "256",
    "65536",
    "4294967295",
    "4294967296",
    "2305843009213693952",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e300",
    "NaN",
    "\"",
    "[[[[[[",
];

/// Where the header of text of a file stands, and how many bytes hold its length.
fn text(sample: &Sample) -> Option<(usize, usize, usize)> {
    let (at, width) = match sample.reader {
        Reader::Own => (0, 8),
        Reader::Rows(Format::Npy) => (8, 2),
        _ => return None,
    };
    let mut length = [0; 8];
    length[..width].copy_from_slice(&sample.bytes[at..at + width]);
    Some((at, width, u64::from_le_bytes(length) as usize))
}

/// The file with each number of its header replaced by each hostile one.
fn hostile_texts(sample: &Sample) -> Vec<Vec<u8>> {
    let Some((at, width, length)) = text(sample) else { return Vec::new() };
    let (begin, end) = (at + width, at + width + length);
    let header = &sample.bytes[begin..end];
    let digit = |place: usize| header.get(place).is_some_and(u8::is_ascii_digit);
    let mut all = Vec::new();
    for first in (0..length).filter(|&place| digit(place) && (place == 0 || !digit(place - 1))) {
        let last = (first..length).find(|&place| !digit(place)).unwrap_or(length);
        for hostile in HOSTILE_TEXT {
            let changed = [&header[..first], hostile.as_bytes(), &header[last..]].concat();
            let length = (changed.len() as u64).to_le_bytes();
            let head = [&sample.bytes[..at], &length[..width]].concat();
            all.push([&head, &changed, &sample.bytes[end..]].concat());
        }
    }
    all
}

/// The file of picopq with the checksums that its tensors have, if it is one.
fn signed(bytes: &[u8]) -> Option<Vec<u8>> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let end = usize::try_from(length).ok()?.checked_add(8)?;
    let mut header: serde_json::Value = serde_json::from_slice(bytes.get(8..end)?).ok()?;
    let mut sums = Vec::new();
    for (name, tensor) in header.as_object()?.iter().filter(|(name, _)| *name != "__metadata__") {
        let place = |which: usize| tensor["data_offsets"][which].as_u64().map(|at| at as usize);
        let data = bytes.get(end.checked_add(place(0)?)?..end.checked_add(place(1)?)?)?;
        sums.push((format!("crc32.{name}"), format!("{:08x}", crc32fast::hash(data))));
    }
    for (name, sum) in sums {
        *header.get_mut("__metadata__")?.get_mut(&name)? = sum.into();
    }
    let header = header.to_string().into_bytes();
    Some([&(header.len() as u64).to_le_bytes(), &header[..], &bytes[end..]].concat())
}

/// Whether these bytes are whole files of fewer rows.
fn fewer_rows(sample: &Sample, len: usize) -> bool {
    let vecs = matches!(sample.reader, Reader::Rows(Format::Fvecs | Format::Bvecs | Format::Ivecs));
    vecs && len.is_multiple_of(sample.bytes.len() / 5)
}

#[derive(Default)]
struct Tally {
    read: usize,
    refused: usize,
    broken: Vec<String>,
}

impl Tally {
    /// Reads; `may_pass` tells whether these bytes may be a file.
    fn try_bytes(&mut self, sample: &Sample, what: &str, bytes: &[u8], may_pass: bool) {
        let name = &sample.name;
        match catch_unwind(AssertUnwindSafe(|| sample.reader.read(bytes))) {
            Ok(Ok(())) if may_pass => self.read += 1,
            Ok(Ok(())) => self.broken.push(format!("{name}, {what}: passes")),
            Ok(Err(error)) if is_of_a_file(&error) => self.refused += 1,
            // Finite numbers of a model that are too large to compute with are found when they are used.
            Ok(Err(Error::TooLarge { .. } | Error::NotOrthogonal | Error::NonFinite { .. })) => {
                self.read += 1;
            }
            Ok(Err(error)) => self.broken.push(format!("{name}, {what}: {error}")),
            Err(_) => self.broken.push(format!("{name}, {what}: panics")),
        }
    }

    fn try_both(&mut self, sample: &Sample, what: &str, bytes: &[u8]) {
        self.try_bytes(sample, what, bytes, true);
        if sample.reader == Reader::Own
            && let Some(signed) = signed(bytes)
        {
            self.try_bytes(sample, &format!("{what}, signed"), &signed, true);
        }
    }
}

#[test]
fn whatever_the_bytes_a_value_or_an_error() {
    let numbers = hostile_numbers();
    let mut tally = Tally::default();
    for sample in samples() {
        let bytes = &sample.bytes;
        tally.try_bytes(&sample, "as it is", bytes, true);

        for len in 0..bytes.len() {
            let may_pass = fewer_rows(&sample, len);
            tally.try_bytes(&sample, &format!("cut at {len}"), &bytes[..len], may_pass);
        }
        for more in [1, 4, 100] {
            let longer = [&bytes[..], &vec![0; more]].concat();
            tally.try_bytes(&sample, &format!("and {more} bytes"), &longer, false);
        }
        for text in hostile_texts(&sample) {
            tally.try_both(&sample, "a number in the header", &text);
        }
        for at in places(bytes.len()) {
            for value in numbers.iter().filter(|value| at + value.len() <= bytes.len()) {
                let mut changed = bytes.clone();
                changed[at..at + value.len()].copy_from_slice(value);
                tally.try_both(&sample, &format!("{value:x?} at {at}"), &changed);
            }
        }
        let mut random = random(bytes.len() as u64);
        for round in 0..400 {
            let mut changed = bytes.clone();
            for _ in 0..=round % 4 {
                let at = random() as usize % changed.len();
                changed[at] ^= 1 << (random() % 8);
            }
            tally.try_both(&sample, &format!("round {round} of flips"), &changed);
        }
    }
    let Tally { read, refused, broken } = tally;
    assert!(
        broken.is_empty(),
        "{} broken, the first {:#?}",
        broken.len(),
        &broken[..broken.len().min(20)]
    );
    assert!(read + refused >= CASES, "{read} + {refused} cases");
    // The attacks reach what comes behind the readers, too.
    assert!(read >= CASES / 10, "only {read} of {refused} were read");
    honest_files();
    damage_is_found();
}

/// Where a file of `len` bytes is changed.
fn places(len: usize) -> impl Iterator<Item = usize> {
    (0..len).filter(move |&at| len <= SMALL || at < 80 || at + 48 >= len || at % 199 == 0)
}

/// Numbers of xorshift64 (Marsaglia 2003).
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// Files that are what they claim take what they hold; packed codes take an integer each.
fn honest_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let n = 1 << 20;
    let model = || pq(32, 16, 1, Metric::L2).into();
    let stored =
        Stored { model: model(), codes: Some(codes(n, 32, 16)), ids: None, scan: Scan::Rows };
    stored.save(&path, &Task::new()).unwrap();
    let bytes = fs::read(&path).unwrap();
    bounded(&bytes, |task| Stored::from_bytes(&bytes, task)).unwrap();
    for scan in [Scan::Rows, Scan::Fast { block: 32 }] {
        Stored { scan, ..stored.clone() }.write_faiss(&path, &Task::new()).unwrap();
        let bytes = fs::read(&path).unwrap();
        // Twice the file: sub-codes of 4 bits become bytes.
        let both = [&bytes[..], &bytes[..]].concat();
        bounded(&both, |task| Stored::from_faiss_bytes(&bytes, task)).unwrap();
    }
    for format in FORMATS {
        write_small(&path, format, n, 8);
        let bytes = fs::read(&path).unwrap();
        let mut block = Vec::new();
        let mut reader = RowReader::memory(&bytes, "bytes", format).unwrap();
        // Blocks take the same whatever the length of the file.
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        while reader.read::<f32>(1000, &mut block).unwrap() > 0 {}
        assert!(ALLOCATOR.peak_usage() - before < 1 << 20, "{format:?}");
    }
}

/// In picopq's own files no changed byte of a tensor passes.
fn damage_is_found() {
    for sample in samples().into_iter().filter(|sample| sample.reader == Reader::Own) {
        let header = u64::from_le_bytes(sample.bytes[..8].try_into().unwrap()) as usize;
        for at in 8 + header..sample.bytes.len() {
            let mut changed = sample.bytes.clone();
            changed[at] ^= 1;
            let error = Stored::from_bytes(&changed, &Task::new()).unwrap_err();
            assert!(matches!(error, Error::Checksum { .. }), "{} at {at}: {error}", sample.name);
        }
    }
}
