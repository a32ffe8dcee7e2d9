//! picopq's own file: safetensors, with metadata and a CRC-32 for each tensor. The page
//! `docs/format.md` describes it.

use std::collections::BTreeMap;

use ::safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::sink::Sink;
use super::source::{Number, Source, reserve};
use super::{Codes, Error, MAX_BLOCK, Metric, Pq, Quantizer, Result, Scan, Stored, Task};
use crate::codes::{Code, CodeData, with_codes};

const FORMAT: &str = "picopq";
const VERSION: &str = "1";
/// Longest header read; ours have less than a thousand bytes.
const MAX_HEADER: u64 = 1 << 16;
/// The data begin at a multiple of this.
const ALIGNMENT: usize = 8;

pub(crate) fn write(stored: &Stored, sink: &mut Sink<'_>, task: &Task) -> Result<()> {
    let book = stored.model.pq().codebook();
    let (m, ks, ds, dim) = (book.m(), book.ks(), book.ds(), book.dim());
    let kind = match (&stored.codes, &stored.model) {
        (Some(_), _) => "index",
        (None, Quantizer::Pq(_)) => "pq",
        (None, Quantizer::Opq(_)) => "opq",
    };
    let metric = match stored.model.pq().metric() {
        Metric::L2 => "l2",
        Metric::Dot => "dot",
    };
    let scan = match stored.scan {
        Scan::Rows => "rows".to_string(),
        Scan::Fast { block } => format!("fast {block}"),
    };
    let mut header = Header {
        metadata: BTreeMap::from([
            ("format".into(), FORMAT.into()),
            ("version".into(), VERSION.into()),
            ("kind".into(), kind.into()),
            ("metric".into(), metric.into()),
            ("m".into(), m.to_string()),
            ("ks".into(), ks.to_string()),
            ("ds".into(), ds.to_string()),
            ("scan".into(), scan),
        ]),
        tensors: BTreeMap::new(),
        offset: 0,
    };
    // Widest numbers first, so that each is aligned.
    if let Some(ids) = &stored.ids {
        header.add("ids", Dtype::I64, vec![ids.len()], ids, task)?;
    }
    header.add("codewords", Dtype::F32, vec![m, ks, ds], book.codewords(), task)?;
    if let Some(rotation) = stored.model.rotation().map(|rotation| rotation.matrix()) {
        header.add("rotation", Dtype::F32, vec![dim, dim], rotation, task)?;
    }
    if let Some(codes) = &stored.codes {
        let dtype = match codes.data() {
            CodeData::U8(_) => Dtype::U8,
            CodeData::U16(_) => Dtype::U16,
            CodeData::U32(_) => Dtype::U32,
        };
        let shape = vec![codes.len(), m];
        with_codes!(codes, |codes| header.add("codes", dtype, shape, codes, task))?;
    }
    let text = header.text();
    sink.number(text.len() as u64)?;
    sink.bytes(text.as_bytes())?;
    if let Some(ids) = &stored.ids {
        sink.numbers(ids, task)?;
    }
    sink.numbers(book.codewords(), task)?;
    if let Some(rotation) = stored.model.rotation().map(|rotation| rotation.matrix()) {
        sink.numbers(rotation, task)?;
    }
    if let Some(codes) = &stored.codes {
        with_codes!(codes, |codes| sink.numbers(codes, task))?;
    }
    Ok(())
}

/// The header as far as it is; its keys are sorted, so that equal values make equal bytes.
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<&'static str, TensorInfo>,
    offset: usize,
}

impl Header {
    fn add<T: Number>(
        &mut self,
        name: &'static str,
        dtype: Dtype,
        shape: Vec<usize>,
        values: &[T],
        task: &Task,
    ) -> Result<()> {
        let end = self.offset + size_of_val(values);
        let data_offsets = (self.offset, end);
        self.tensors.insert(name, TensorInfo { dtype, shape, data_offsets });
        self.offset = end;
        let mut checksum = crc32fast::Hasher::new();
        let mut bytes = Vec::new();
        for chunk in values.chunks(1 << 16) {
            task.check()?;
            bytes.clear();
            reserve(&mut bytes, size_of_val(chunk), "what is to be written")?;
            chunk.iter().for_each(|value| value.push_le(&mut bytes));
            checksum.update(&bytes);
        }
        self.metadata.insert(format!("crc32.{name}"), format!("{:08x}", checksum.finalize()));
        Ok(())
    }

    fn text(&self) -> String {
        let mut entries = serde_json::Map::new();
        entries.insert("__metadata__".into(), serde_json::json!(self.metadata));
        for (name, info) in &self.tensors {
            entries.insert((*name).into(), serde_json::json!(info));
        }
        let text = serde_json::Value::from(entries).to_string();
        format!("{text:<width$}", width = text.len().next_multiple_of(ALIGNMENT))
    }
}

pub(crate) fn read(source: &mut Source<'_>, task: &Task) -> Result<Stored> {
    let length = source.number::<u64>("the length of the header")?;
    if length > MAX_HEADER {
        return Err(source.bad("the length of the header", length, "at most 65536"));
    }
    let text = source.numbers::<u8>(length, "the header", task)?;
    let header: Metadata = serde_json::from_slice(&text)
        .map_err(|error| source.bad("the header", error, "a header of safetensors"))?;
    let reader = Tensors { header: &header, task };
    reader.expect(source, "format", &[FORMAT])?;
    let version = reader.entry(source, "version")?;
    if version != VERSION {
        return Err(source.unsupported(format!("version {version}"), "version 1"));
    }
    let metric = match reader.expect(source, "metric", &["l2", "dot"])? {
        "l2" => Metric::L2,
        _ => Metric::Dot,
    };
    let kind = reader.expect(source, "kind", &["pq", "opq", "index"])?.to_string();
    let [m, ks, ds] = ["m", "ks", "ds"].map(|key| reader.size(source, key));
    let (m, ks, ds) = (m?, ks?, ds?);
    let scan = match reader.entry(source, "scan")? {
        "rows" => Scan::Rows,
        text => match text.strip_prefix("fast ").and_then(|block| block.parse().ok()) {
            Some(block) if block <= MAX_BLOCK => Scan::Fast { block },
            _ => return Err(source.bad("scan", text, "rows, or fast and a multiple of 32")),
        },
    };
    if let Some(remaining) = source.remaining() {
        source.need(Some(header.data_len() as u64), "the tensor data")?;
        if remaining > header.data_len() as u64 {
            let (file, offset) = (source.file().to_string(), source.offset());
            return Err(Error::TrailingBytes { file, offset: offset + header.data_len() as u64 });
        }
    }
    let (mut codewords, mut rotation, mut codes, mut ids) = (None, None, None, None);
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let shape = &info.shape[..];
        match (name.as_str(), info.dtype, shape) {
            ("codewords", Dtype::F32, &[a, b, c]) if (a, b, c) == (m, ks, ds) => {
                codewords = Some(reader.tensor(source, "codewords", info)?);
            }
            ("rotation", Dtype::F32, &[a, b]) if a == b => {
                rotation = Some(reader.tensor(source, "rotation", info)?);
            }
            ("ids", Dtype::I64, &[_]) => ids = Some(reader.tensor(source, "ids", info)?),
            ("codes", Dtype::U8, &[_, b]) if b == m => {
                codes = Some(reader.codes::<u8>(source, info, m, ks)?);
            }
            ("codes", Dtype::U16, &[_, b]) if b == m => {
                codes = Some(reader.codes::<u16>(source, info, m, ks)?);
            }
            ("codes", Dtype::U32, &[_, b]) if b == m => {
                codes = Some(reader.codes::<u32>(source, info, m, ks)?);
            }
            _ => {
                let got = format!("{name} {:?} {shape:?}", info.dtype);
                return Err(source.bad("a tensor", got, "those that docs/format.md lists"));
            }
        }
    }
    source.end()?;
    let Some(codewords) = codewords else {
        return Err(source.bad("codewords", "absent", "a tensor"));
    };
    let rotated = rotation.is_some();
    let model = Pq::from_codewords(codewords, m, ks, ds, metric)
        .and_then(|pq| Quantizer::new(pq, rotation))
        .map_err(|error| source.bad("the model", error, "finite codewords and rotation"))?;
    let found = match (codes.is_some(), rotated) {
        (true, _) => "index",
        (false, true) => "opq",
        (false, false) => "pq",
    };
    if found != kind {
        return Err(source.bad("kind", kind, found));
    }
    let stored = Stored { model, codes, ids, scan };
    stored.check().map_err(|error| source.bad("the index", error, "parts that fit"))?;
    Ok(stored)
}

struct Tensors<'a> {
    header: &'a Metadata,
    task: &'a Task,
}

impl<'a> Tensors<'a> {
    fn entry(&self, source: &Source<'_>, key: &'static str) -> Result<&'a str> {
        let entry = self.header.metadata().as_ref().and_then(|metadata| metadata.get(key));
        entry.map(String::as_str).ok_or_else(|| source.bad(key, "absent", "an entry of metadata"))
    }

    fn expect(&self, source: &Source<'_>, key: &'static str, wanted: &[&str]) -> Result<&'a str> {
        let got = self.entry(source, key)?;
        if wanted.contains(&got) {
            Ok(got)
        } else {
            Err(source.bad(key, got, &wanted.join(" or ")))
        }
    }

    fn size(&self, source: &Source<'_>, key: &'static str) -> Result<usize> {
        let text = self.entry(source, key)?;
        text.parse().map_err(|_| source.bad(key, text, "a size"))
    }

    /// The numbers of a tensor, whose size the header's own checks tie to its shape.
    fn tensor<T: Number>(
        &self,
        source: &mut Source<'_>,
        name: &'static str,
        info: &TensorInfo,
    ) -> Result<Vec<T>> {
        let (begin, end) = info.data_offsets;
        let wanted = self.entry(source, checksum_key(name))?;
        let Ok(wanted) = u32::from_str_radix(wanted, 16) else {
            return Err(source.bad(checksum_key(name), wanted, "eight hexadecimal digits"));
        };
        let count = (end.saturating_sub(begin) / T::SIZE) as u64;
        let mut checksum = crc32fast::Hasher::new();
        let values = source.numbers_seen(count, name, self.task, |chunk| checksum.update(chunk))?;
        let got = checksum.finalize();
        if got == wanted {
            return Ok(values);
        }
        Err(Error::Checksum { file: source.file().to_string(), tensor: name, wanted, got })
    }

    fn codes<T: Code + Number>(
        &self,
        source: &mut Source<'_>,
        info: &TensorInfo,
        m: usize,
        ks: usize,
    ) -> Result<Codes<'static>> {
        let codes: Vec<T> = self.tensor(source, "codes", info)?;
        Codes::new(codes, m, ks).map_err(|error| source.bad("codes", error, "codes below ks"))
    }
}

fn checksum_key(name: &str) -> &'static str {
    match name {
        "codewords" => "crc32.codewords",
        "rotation" => "crc32.rotation",
        "ids" => "crc32.ids",
        _ => "crc32.codes",
    }
}
