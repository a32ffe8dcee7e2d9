//! Files of vectors: the first byte chooses the format, the others are the file, which reads the
//! same from memory and from a stream.
#![no_main]

use picopq::Error;
use picopq::io::{Format, RowReader};

const FORMATS: [Format; 8] = [
    Format::Npy,
    Format::Fvecs,
    Format::Bvecs,
    Format::Ivecs,
    Format::Fbin,
    Format::U8bin,
    Format::I8bin,
    Format::Ibin,
];

fn all(reader: picopq::Result<RowReader<'_>>, rows: usize) -> picopq::Result<Vec<u32>> {
    let (mut reader, mut all, mut block) = (reader?, Vec::new(), Vec::new());
    while reader.read::<f32>(rows, &mut block)? > 0 {
        all.extend(block.iter().map(|value| value.to_bits()));
    }
    Ok(all)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let format = FORMATS[usize::from(first) % FORMATS.len()];
    let known = all(RowReader::memory(bytes, "bytes", format), 1 + usize::from(first) / 8);
    let streamed = all(RowReader::stream(bytes, "bytes", format), 3);
    if let (Ok(known), Ok(streamed)) = (&known, &streamed) {
        assert_eq!(known, streamed);
    }
    if known.is_ok() {
        assert!(matches!(streamed, Ok(_) | Err(Error::Unsupported { .. })));
    }
});
