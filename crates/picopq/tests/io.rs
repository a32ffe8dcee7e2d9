//! Files: round trips, samples that Faiss and numpy wrote, and every way a file can be wrong.
#![allow(clippy::unwrap_used)]

mod files;
mod numbers;

use std::fs;
#[cfg(target_os = "linux")]
use std::io::Write;
use std::io::{self, Read};
use std::path::Path;

use files::{
    FORMATS, SAMPLES, array, codes, each, is_of_a_file, npy, opq, pq, read_all, sample, stored,
    write, write_small,
};
use picopq::io::{Dtype, Format, RowReader, RowWriter, Scan, Stored};
use picopq::{Error, Index, Metric, Task};

#[test]
fn rows_there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    // No row, one, a block less one, a block, one more; one column; rows longer than a buffer.
    let shapes = [(0, 3), (1, 1), (1, 4), (6, 3), (7, 3), (8, 3), (1000, 1), (3, 70_001)];
    for format in FORMATS {
        for (n, dim) in shapes {
            let values = write_small(&path, format, n, dim);
            let bytes = fs::read(&path).unwrap();
            let floats = each(&values, |value| value as f32);
            let open = [
                RowReader::open_as(&path, format).unwrap(),
                RowReader::memory(&bytes, "bytes", format).unwrap(),
                RowReader::stream(&bytes[..], "stream", format).unwrap(),
            ];
            for (way, reader) in open.into_iter().enumerate() {
                let vecs = matches!(format, Format::Fvecs | Format::Bvecs | Format::Ivecs);
                assert_eq!(reader.dim(), if vecs && n == 0 { 0 } else { dim });
                let known = way < 2 || !vecs || n == 0;
                assert_eq!(reader.rows(), known.then_some(n as u64), "{format:?} {n}");
                assert!(read_all::<f32>(reader, 7).unwrap() == floats, "{format:?} {n} x {dim}");
            }
            if format.dtype() != Some(Dtype::F32) {
                let reader = RowReader::open_as(&path, format).unwrap();
                assert_eq!(read_all::<i64>(reader, 7).unwrap(), values);
            }
        }
    }
}

#[test]
fn rows_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    for format in FORMATS {
        let values = each(&write_small(&path, format, 10, 3), |value| value as f32);
        let bytes = fs::read(&path).unwrap();
        let open = [
            RowReader::open_as(&path, format).unwrap(),
            RowReader::stream(&bytes[..], "stream", format).unwrap(),
        ];
        for mut reader in open {
            let mut rows = Vec::<f32>::new();
            reader.skip(2).unwrap();
            assert_eq!(reader.read(3, &mut rows).unwrap(), 3);
            assert_eq!(rows, values[6..15]);
            reader.skip(4).unwrap();
            assert_eq!(reader.read(3, &mut rows).unwrap(), 1);
            assert_eq!(rows, values[27..]);
            assert_eq!(reader.read(3, &mut rows).unwrap(), 0);
        }
    }
}

#[test]
fn every_number_type_of_npy() {
    let number = |dtype: &str, big: bool, value: u8| -> Vec<u8> {
        let value32 = f32::from(value);
        let mut bytes = match dtype {
            "f2" => half_bits(value).to_le_bytes().to_vec(),
            "f4" => value32.to_le_bytes().to_vec(),
            "f8" => f64::from(value).to_le_bytes().to_vec(),
            other => {
                let size = other[1..].parse().unwrap();
                u64::from(value).to_le_bytes()[..size].to_vec()
            }
        };
        if big {
            bytes.reverse();
        }
        bytes
    };
    for dtype in ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"] {
        for (mark, big) in [("<", false), (">", true)] {
            let data: Vec<u8> = (0..6).flat_map(|value| number(dtype, big, value)).collect();
            let descr = format!("'{mark}{dtype}'");
            for (order, wanted) in [("False", [0, 1, 2, 3, 4, 5]), ("True", [0, 2, 4, 1, 3, 5])] {
                let bytes = array(&descr, order, "(2, 3)", &data);
                for block in [1, 2, 3] {
                    let reader = RowReader::memory(&bytes, "bytes", Format::Npy).unwrap();
                    assert_eq!((reader.dim(), reader.rows()), (3, Some(2)));
                    let floats = wanted.map(|value| value as f32);
                    assert_eq!(read_all::<f32>(reader, block).unwrap(), floats, "{descr}");
                    let reader = RowReader::memory(&bytes, "bytes", Format::Npy).unwrap();
                    match read_all::<i64>(reader, block) {
                        Ok(integers) => assert_eq!(integers, wanted),
                        Err(error) => {
                            assert!(dtype.starts_with('f'));
                            assert!(matches!(error, Error::Unsupported { .. }));
                        }
                    }
                }
            }
        }
    }
}

/// A small integer as IEEE binary16.
fn half_bits(value: u8) -> u16 {
    if value == 0 {
        return 0;
    }
    let exponent = 7 - value.leading_zeros() as u16;
    ((exponent + 15) << 10) | ((u16::from(value) << (10 - exponent)) & 0x3ff)
}

#[test]
fn the_samples_of_numpy_are_written_byte_for_byte() {
    let path = sample("pq2x5_codes.npy");
    let reader = RowReader::open(&path).unwrap();
    let bytes: Vec<i64> = read_all(reader, 3).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.npy");
    write(&copy, Format::Npy, &each(&bytes, |byte| byte as u8), 1);
    assert_eq!(fs::read(copy).unwrap(), fs::read(path).unwrap());
}

#[test]
fn other_headers_of_numpy() {
    let data = [1_u8, 2, 3, 4];
    for (bytes, wanted) in [
        (npy(2, "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2)}", &data), 2),
        (npy(3, "{\"shape\":(4L,),\"descr\":\"|u1\",\"fortran_order\":False}", &data), 1),
        (array("'<u1'", "True", "(4,)", &data), 1),
    ] {
        let reader = RowReader::memory(&bytes, "bytes", Format::Npy).unwrap();
        assert_eq!(reader.dim(), wanted);
        assert_eq!(read_all::<i64>(reader, 3).unwrap(), [1, 2, 3, 4]);
    }
}

#[test]
fn headers_of_numpy_that_are_refused() {
    let data = [0; 16];
    for bytes in [
        array("'|O'", "False", "(2, 1)", &data),
        array("'|b1'", "False", "(4, 4)", &data),
        array("'<c8'", "False", "(2, 1)", &data),
        array("'<f16'", "False", "(1, 1)", &data),
        array("'|f4'", "False", "(2, 2)", &data),
        array("[('a', '<f4')]", "False", "(4,)", &data),
        array("'<f4'", "False", "(2, 3)", &data),
        array("'<f4'", "False", "(2, 1)", &data),
        array("'<f4'", "False", "(4, 0)", &data),
        array("'<f4'", "False", "()", &data),
        array("'<f4'", "False", "(1, 2, 2)", &data),
        array("'<f4'", "False", "(-1, 4)", &data),
        array("'<f4'", "False", "(4611686018427387904, 4611686018427387904)", &data),
        array("'<f4'", "False", "(0, 4611686018427387904)", &[]),
        array("'<f4'", "0", "(2, 2)", &data),
        array("'<f4'", "False", "(2, 2), 'shape': (2, 2)", &data),
        array("'<f4'", "False", "(2, 2), 'descr': '<f4'", &data),
        array("'<f4'", "False", "(2, 2), 'fortran_order': False", &data),
        array("'<f4'", "False", "(2, 2), 'more': 1", &data),
        array("__import__('os')", "False", "(2, 2)", &data),
        npy(4, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}", &data),
        npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)", &data),
        npy(1, &"{".repeat(60_000), &data),
        npy(1, "\u{e9}", &data),
        npy(2, &" ".repeat(70_000), &data),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec(),
        b"PK\x03\x04 an archive".to_vec(),
    ] {
        let error = RowReader::memory(&bytes, "bytes", Format::Npy).map(drop).unwrap_err();
        assert!(is_of_a_file(&error), "{error}");
    }
}

/// What is no array of plain numbers is named, not called broken.
#[test]
fn types_of_numpy_are_named() {
    for (descr, wanted) in [
        ("'|O'", "dtype \"|O\""),
        ("'=f4'", "dtype \"=f4\""),
        ("[('a', '<f4')]", "dtype \"[('a', '<f4')]\""),
    ] {
        let bytes = array(descr, "False", "(4,)", &[0; 16]);
        let error = RowReader::memory(&bytes, "bytes", Format::Npy).map(drop).unwrap_err();
        assert!(matches!(&error, Error::Unsupported { what, .. } if what == wanted), "{error}");
    }
}

/// Rows whose size is claimed and not there: refused at once where the length is known, and without
/// much memory where it is not.
#[test]
fn sizes_that_are_claimed() {
    let huge = [[0xff_u8; 4], [0xff; 4], [0; 4]].concat();
    for format in [Format::Fbin, Format::U8bin, Format::I8bin, Format::Ibin] {
        let error = RowReader::memory(&huge, "bytes", format).map(drop).unwrap_err();
        assert!(is_of_a_file(&error), "{error}");
        if let Ok(reader) = RowReader::stream(&huge[..], "stream", format) {
            assert!(is_of_a_file(&read_all::<f32>(reader, 1 << 20).unwrap_err()));
        }
    }
    for format in [Format::Fvecs, Format::Bvecs, Format::Ivecs] {
        for dim in [0, -1, i32::MIN, i32::MAX] {
            let bytes = [dim.to_le_bytes(), [0; 4]].concat();
            let error = RowReader::memory(&bytes, "bytes", format).map(drop).unwrap_err();
            assert!(is_of_a_file(&error), "{error}");
            if let Ok(reader) = RowReader::stream(&bytes[..], "stream", format) {
                assert!(is_of_a_file(&read_all::<f32>(reader, 1 << 20).unwrap_err()));
            }
        }
    }
}

#[test]
fn rows_of_unequal_length() {
    let bytes: Vec<u8> = [2_i32, 7, 8, 1, 9, 9].iter().flat_map(|n| n.to_le_bytes()).collect();
    for reader in [
        RowReader::memory(&bytes, "bytes", Format::Ivecs).unwrap(),
        RowReader::stream(&bytes[..], "bytes", Format::Ivecs).unwrap(),
    ] {
        let error = read_all::<i64>(reader, 5).unwrap_err();
        assert!(matches!(&error, Error::BadField { got, .. } if got == "1 at row 1"), "{error}");
    }
}

#[test]
fn what_writers_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    let create = |format, dtype, dim| RowWriter::create(&path, format, dtype, dim).map(drop);
    assert!(matches!(create(Format::Fbin, Dtype::U8, 2), Err(Error::Unsupported { .. })));
    for dim in [0, 1 << 31] {
        assert!(matches!(create(Format::Npy, Dtype::U8, dim), Err(Error::OutOfRange { .. })));
    }
    create(Format::Npy, Dtype::U8, (1 << 31) - 1).unwrap();
    let mut writer = RowWriter::create(&path, Format::Npy, Dtype::U8, 2).unwrap();
    assert!(matches!(writer.write(&[1_u16, 2]), Err(Error::Unsupported { .. })));
    assert!(matches!(writer.write(&[1_u8]), Err(Error::LengthMismatch { .. })));
    drop(writer);
    let mut out = Vec::new();
    let mut stream =
        |rows| RowWriter::stream(&mut out, "out", Format::Npy, Dtype::U8, 1, rows).map(drop);
    assert!(matches!(stream(None), Err(Error::Unsupported { .. })));
    assert!(stream(Some(3)).is_ok());
    let writer = RowWriter::stream(&mut out, "out", Format::Npy, Dtype::U8, 1, Some(3)).unwrap();
    assert!(matches!(writer.finish(), Err(Error::LengthMismatch { expected: 3, got: 0, .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(matches!(Format::of(Path::new("a.csv")), Err(Error::Unsupported { .. })));
    let missing = RowReader::open(&folder.path().join("a.npy")).map(drop).unwrap_err();
    let kind = io::ErrorKind::NotFound;
    assert!(matches!(missing, Error::Io { kind: found, code: Some(2), .. } if found == kind));
}

#[test]
fn own_files_there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for value in stored() {
        value.save(&path, &Task::new()).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(Stored::load(&path, &Task::new()).unwrap(), value);
        Stored::from_bytes(&bytes, &Task::new()).unwrap().save(&path, &Task::new()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes, "equal values make equal bytes");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn faiss_files_there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.faiss");
    for mut value in stored() {
        value.write_faiss(&path, &Task::new()).unwrap();
        let back = Stored::read_faiss(&path, &Task::new()).unwrap();
        if value.model.pq().codebook().ks() == 1 {
            // Faiss has at least two codewords.
            assert_eq!(back.model.pq().codebook().codewords()[1], 1e15);
            continue;
        }
        let (m, ks) = (value.model.pq().codebook().m(), value.model.pq().codebook().ks());
        value.codes.get_or_insert_with(|| codes(0, m, ks));
        assert_eq!(back, value);
    }
}

#[test]
fn the_samples_of_faiss_are_written_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    for name in SAMPLES {
        let stored = Stored::read_faiss(&sample(name), &Task::new()).unwrap();
        assert_eq!(stored.len(), 5);
        stored.write_faiss(&path, &Task::new()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), fs::read(sample(name)).unwrap(), "{name}");
    }
    let error = Stored::read_faiss(&sample("ivfpq.faiss"), &Task::new()).unwrap_err();
    let wanted = "IndexIVFPQ (\"IwPQ\")";
    assert!(matches!(&error, Error::Unsupported { what, .. } if what == wanted), "{error}");
}

/// Wrappers around each other, as deep as is read and one more.
#[test]
fn nested_indexes() {
    let bytes = fs::read(sample("pq4x4.faiss")).unwrap();
    let wrapper = [b"IxPT", &bytes[4..37], &[0; 4]].concat();
    let nested = |depth| [wrapper.repeat(depth), bytes.clone()].concat();
    let whole = Stored::read_faiss(&sample("pq4x4.faiss"), &Task::new()).unwrap();
    assert_eq!(Stored::from_faiss_bytes(&nested(8), &Task::new()).unwrap(), whole);
    let error = Stored::from_faiss_bytes(&nested(9), &Task::new()).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

/// A pipe, whose length nobody knows, reads as a file does: whole, cut anywhere, or followed by more.
#[cfg(target_os = "linux")]
#[test]
fn models_and_indexes_from_a_pipe() {
    use std::os::fd::AsRawFd;

    type Read = fn(&Path, &Task) -> picopq::Result<Stored>;
    let piped = |bytes: &[u8], read: Read| {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(bytes).unwrap();
        drop(writer);
        read(Path::new(&format!("/proc/self/fd/{}", reader.as_raw_fd())), &Task::new())
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.safetensors");
    for name in SAMPLES {
        let stored = Stored::read_faiss(&sample(name), &Task::new()).unwrap();
        stored.save(&path, &Task::new()).unwrap();
        for (file, read) in
            [(sample(name), Stored::read_faiss as Read), (path.clone(), Stored::load)]
        {
            let mut bytes = fs::read(file).unwrap();
            assert_eq!(piped(&bytes, read).unwrap(), stored, "{name}");
            for end in (0..bytes.len()).step_by(1 + bytes.len() / 600) {
                let error = piped(&bytes[..end], read).unwrap_err();
                assert!(is_of_a_file(&error), "{name} to {end}: {error}");
            }
            bytes.push(0);
            let error = piped(&bytes, read).unwrap_err();
            let offset = bytes.len() as u64 - 1;
            assert!(
                matches!(error, Error::TrailingBytes { offset: at, .. } if at == offset),
                "{error}"
            );
        }
    }
}

/// Errors name the byte at which they stand.
#[test]
fn places_of_errors() {
    let vectors = |bytes: &[u8], format| {
        let known = RowReader::memory(bytes, "bytes", format);
        let streamed = RowReader::stream(bytes, "bytes", format);
        [known, streamed]
            .map(|reader| reader.and_then(|reader| read_all::<f32>(reader, 2)).unwrap_err())
    };
    let cut = |at, wanted, remaining| {
        move |error: &Error| match *error {
            Error::Truncated { offset, wanted: w, remaining: r, .. } => {
                (offset, w, r) == (at, wanted, remaining)
            }
            _ => false,
        }
    };
    let trailing = |at| move |error: &Error| matches!(error, Error::TrailingBytes { offset, .. } if *offset == at);
    let bad =
        |at| move |error: &Error| matches!(error, Error::BadField { offset, .. } if *offset == at);
    // Two rows of three bytes, one byte short.
    let fbin = [2, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3, 4, 5, 6];
    for error in vectors(&fbin[..13], Format::U8bin) {
        assert!(cut(8, 6, 5)(&error), "{error}");
    }
    for error in vectors(&[&fbin[..], &[0; 2]].concat(), Format::U8bin) {
        assert!(trailing(14)(&error), "{error}");
    }
    for error in vectors(&fbin[..6], Format::U8bin) {
        assert!(cut(4, 4, 2)(&error), "{error}");
    }
    for error in vectors(&[1, 0, 0, 0, 0, 0, 0, 0], Format::U8bin) {
        assert!(bad(8)(&error), "{error}");
    }
    let rows = [2, 0, 0, 0, 7, 8, 3, 0, 0, 0, 9, 9];
    for error in vectors(&rows, Format::Bvecs) {
        assert!(bad(10)(&error), "{error}");
    }
    let [known, streamed] = vectors(&rows[..9], Format::Bvecs);
    assert!(cut(6, 6, 3)(&known), "{known}");
    assert!(cut(7, 3, 2)(&streamed), "{streamed}");
    let npy = array("'|u1'", "False", "(2, 3)", &[0; 7]);
    for error in vectors(&npy, Format::Npy) {
        assert!(trailing(npy.len() as u64 - 1)(&error), "{error}");
    }
    for error in vectors(&npy[..npy.len() - 3], Format::Npy) {
        assert!(cut(npy.len() as u64 - 7, 6, 4)(&error), "{error}");
    }
}

/// The bytes of a sample after its heads, up to the codes, are a quantizer alone.
#[test]
fn a_quantizer_alone() {
    let bytes = fs::read(sample("pq4x4.faiss")).unwrap();
    let stored = Stored::from_faiss_bytes(&bytes[37..37 + 32 + 512], &Task::new()).unwrap();
    let whole = Stored::read_faiss(&sample("pq4x4.faiss"), &Task::new()).unwrap();
    assert_eq!(stored, Stored::model(whole.model.pq().clone()));
}

/// More codes than are packed at once, in rows of a number of codes that does not divide it; rows
/// longer than that.
#[test]
fn many_codes_for_faiss() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.faiss");
    for (n, m, ks) in [(30_000, 5, 32), (3, 70_000, 2)] {
        let (model, codes) = (pq(m, ks, 1, Metric::L2).into(), Some(codes(n, m, ks)));
        let stored = Stored { model, codes, ids: None, scan: Scan::Rows };
        stored.write_faiss(&path, &Task::new()).unwrap();
        assert!(Stored::read_faiss(&path, &Task::new()).unwrap() == stored, "{n} {m} {ks}");
    }
}

/// Faiss has 2^nbits codewords in every sub-space; no vector is near those that picopq adds.
#[test]
fn codewords_that_fill_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.faiss");
    let model = pq(2, 3, 2, Metric::L2);
    Stored::model(model.clone()).write_faiss(&path, &Task::new()).unwrap();
    let back = Stored::read_faiss(&path, &Task::new()).unwrap();
    let added = [1e15; 2];
    let [first, second] = [0, 6].map(|at| &model.codebook().codewords()[at..at + 6]);
    assert_eq!(back.model.pq().codebook().codewords(), [first, &added, second, &added].concat());
}

#[test]
fn models_that_faiss_does_not_hold() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.faiss");
    let write =
        |ks, dim| Stored::model(pq(1, ks, dim, Metric::L2)).write_faiss(&path, &Task::new());
    write(1, 1 << 20).unwrap();
    fs::remove_file(&path).unwrap();
    for (ks, dim) in [(1, (1 << 20) + 1), ((1 << 24) + 1, 1)] {
        let error = write(ks, dim).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(!path.exists());
    }
}

#[test]
fn the_largest_block_of_a_fast_scan() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let with = |block| Stored {
        model: pq(3, 16, 1, Metric::L2).into(),
        codes: Some(codes(7, 3, 16)),
        ids: None,
        scan: Scan::Fast { block },
    };
    let largest = with(1 << 16);
    largest.save(&path, &Task::new()).unwrap();
    assert_eq!(Stored::load(&path, &Task::new()).unwrap(), largest);
    largest.write_faiss(&path, &Task::new()).unwrap();
    assert_eq!(Stored::read_faiss(&path, &Task::new()).unwrap(), largest);
    let wanted = "a multiple of 32, to 65536";
    let error = with((1 << 16) + 32).save(&path, &Task::new()).unwrap_err();
    assert_eq!(error, Error::OutOfRange { argument: "block", got: 65_568, wanted });
}

/// Ids are kept where they are not the places of the rows.
#[test]
fn indexes_are_copied() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index.faiss");
    for (ids, kept) in [(vec![0, 1, 2], false), (vec![0, 2, 1], true), (vec![1, 2, 3], true)] {
        let index = Index::new(pq(2, 4, 1, Metric::L2)).unwrap();
        assert!(Stored::index(&index).unwrap().is_empty());
        index.add_codes(&codes(3, 2, 4), Some(&ids), &Task::new()).unwrap();
        let stored = Stored::index(&index).unwrap();
        assert!(!stored.is_empty());
        assert_eq!(stored.ids, kept.then_some(ids));
        assert_eq!(stored.codes, Some(codes(3, 2, 4)));
        stored.write_faiss_id_map2(&path, &Task::new()).unwrap();
        assert_eq!(Stored::read_faiss(&path, &Task::new()).unwrap(), stored);
        assert_eq!(&fs::read(&path).unwrap()[..4], if kept { b"IxM2" } else { b"IxPq" });
    }
}

/// A file of picopq with another header.
fn with_header(bytes: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = change(str::from_utf8(&bytes[8..end]).unwrap());
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes[end..]].concat()
}

/// Tensors of the right number of bytes in another shape.
#[test]
fn shapes_of_tensors_that_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.safetensors");
    let index = |model: picopq::Quantizer, codes| Stored {
        model,
        codes: Some(codes),
        ids: None,
        scan: Scan::Rows,
    };
    let wide = |ks| index(pq(1, ks, 1, Metric::L2).into(), codes(4, 1, ks));
    for (stored, shape, other) in [
        (Stored::model(pq(2, 3, 2, Metric::L2)), "[2,3,2]", "[3,2,2]"),
        (Stored::model(opq(pq(2, 3, 2, Metric::L2))), "[4,4]", "[2,8]"),
        (index(pq(2, 3, 2, Metric::L2).into(), codes(4, 2, 3)), "[4,2]", "[2,4]"),
        (wide(300), "[4,1]", "[2,2]"),
        (wide(70_000), "[4,1]", "[2,2]"),
    ] {
        stored.save(&path, &Task::new()).unwrap();
        let shape = format!("\"shape\":{shape}");
        let changed = with_header(&fs::read(&path).unwrap(), |header| {
            assert!(header.contains(&shape), "{header}");
            header.replace(&shape, &format!("\"shape\":{other}"))
        });
        let error = Stored::from_bytes(&changed, &Task::new()).unwrap_err();
        assert!(matches!(error, Error::BadField { field: "a tensor", .. }), "{other} {error}");
    }
}

/// Headers padded to the longest that is read, and to one byte more.
#[test]
fn the_longest_headers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.safetensors");
    Stored::model(pq(2, 3, 2, Metric::L2)).save(&path, &Task::new()).unwrap();
    let own = fs::read(&path).unwrap();
    let padded = |header: &str, length| [header, &" ".repeat(length - header.len())].concat();
    let read = |length| {
        let dictionary = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2)}";
        let npy = npy(2, &padded(dictionary, length), &[0; 8]);
        let own = with_header(&own, |header| padded(header, length));
        let npy = RowReader::memory(&npy, "bytes", Format::Npy).map(drop);
        [npy, Stored::from_bytes(&own, &Task::new()).map(drop)]
    };
    assert_eq!(read(1 << 16), [Ok(()), Ok(())]);
    for result in read((1 << 16) + 1) {
        let error = result.unwrap_err();
        let of_length = "the length of the header";
        assert!(matches!(error, Error::BadField { field, .. } if field == of_length), "{error}");
    }
}

#[test]
fn bytes_after_a_file_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.safetensors");
    Stored::model(pq(2, 3, 2, Metric::L2)).save(&path, &Task::new()).unwrap();
    let bytes = fs::read(&path).unwrap();
    let longer = [&bytes[..], &[0; 3]].concat();
    let wanted = Error::TrailingBytes { file: "bytes".into(), offset: bytes.len() as u64 };
    assert_eq!(Stored::from_bytes(&longer, &Task::new()), Err(wanted));
}

#[test]
fn column_order_needs_a_file() {
    let bytes = array("'<u1'", "True", "(2, 3)", &[0; 6]);
    let error = RowReader::stream(&bytes[..], "stream", Format::Npy).map(drop).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

/// More than is read ahead of small fields.
#[test]
fn many_rows_left_out_of_a_stream() {
    let rows: Vec<u8> = (0..100_000).map(|row| (row / 1000) as u8).collect();
    let bytes = array("'|u1'", "False", "(100000,)", &rows);
    let mut reader = RowReader::stream(&bytes[..], "stream", Format::Npy).unwrap();
    reader.skip(99_000).unwrap();
    assert_eq!(read_all::<i64>(reader, 600).unwrap(), [99; 1000]);
}

/// Is interrupted before each read, as by a signal.
struct Interrupted<'a>(&'a [u8], bool);

impl Read for Interrupted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 { Err(io::ErrorKind::Interrupted.into()) } else { self.0.read(buffer) }
    }
}

#[test]
fn interrupted_reads_are_repeated() {
    let bytes = array("'|u1'", "False", "(4,)", &[1, 2, 3, 4]);
    let stream = Interrupted(&bytes, false);
    let reader = RowReader::stream(stream, "stream", Format::Npy).unwrap();
    assert_eq!(read_all::<i64>(reader, 3).unwrap(), [1, 2, 3, 4]);
}

#[test]
fn no_more_rows_are_left_out_than_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    for format in FORMATS {
        write_small(&path, format, 10, 3);
        let mut reader = RowReader::open_as(&path, format).unwrap();
        let mut rows = Vec::<f32>::new();
        reader.read(4, &mut rows).unwrap();
        reader.skip(7).unwrap();
        assert_eq!(reader.row(), 10);
        assert_eq!(reader.read(1, &mut rows), Ok(0));
    }
    let columns = array("'<u1'", "True", "(4, 2)", &[0, 1, 2, 3, 4, 5, 6, 7]);
    let mut reader = RowReader::memory(&columns, "bytes", Format::Npy).unwrap();
    let mut rows = Vec::<i64>::new();
    reader.skip(1).unwrap();
    assert_eq!(reader.read(2, &mut rows), Ok(2));
    assert_eq!(rows, [1, 5, 2, 6]);
    reader.skip(7).unwrap();
    assert_eq!(reader.row(), 4);
    assert_eq!(reader.read(1, &mut rows), Ok(0));
}

#[test]
fn as_many_rows_as_announced() {
    let mut out = Vec::new();
    let mut writer =
        RowWriter::stream(&mut out, "out", Format::Npy, Dtype::U8, 2, Some(2)).unwrap();
    writer.write(&[1_u8, 2, 3, 4]).unwrap();
    writer.finish().unwrap();
    let reader = RowReader::memory(&out, "bytes", Format::Npy).unwrap();
    assert_eq!(read_all::<i64>(reader, 5).unwrap(), [1, 2, 3, 4]);
}
