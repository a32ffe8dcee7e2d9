//! `encode` and `index`: vectors or codes become codes or an index.

use std::path::Path;

use picopq::io::{
    Dtype, EncodeOptions, Format, RowReader, Scan, Stored, encode_blocks, encode_file, read_codes,
};
use picopq::{CodeData, Codes, Index, Quantizer, Task};
use serde_json::json;

use crate::args::{BuildIndex, Encode};
use crate::console::{Console, Failure};
use crate::files::{self, Family};

/// Rows of a block of Faiss's fast scan.
const FAST_SCAN_ROWS: usize = 32;

pub(crate) fn encode(options: &Encode, console: &Console) -> Result<(), Failure> {
    let output = &options.output;
    let to_index = Family::of(output).is_some();
    if !to_index && !files::is_standard(output) {
        let format = files::format_of(output, None)?;
        if format != Format::Npy {
            return Err(Failure::usage("codes are written as .npy; for an index, .safetensors"));
        }
    }
    if options.resume && (to_index || files::is_standard(output)) {
        return Err(Failure::usage("--resume needs an .npy file as output"));
    }
    let model = files::load(&options.model, console)?.model;
    let reader = files::open(&options.input)?;
    let rows = if to_index {
        let codes = collect(&model, reader, options.block_rows, console)?;
        let rows = codes.len() as u64;
        let stored =
            Stored { model: model.clone(), codes: Some(codes), ids: None, scan: Scan::Rows };
        files::save(&stored, output, console)?;
        rows
    } else if files::is_standard(output) {
        to_standard_output(&model, reader, options.block_rows, console)?
    } else {
        let how = EncodeOptions { block_rows: options.block_rows, resume: options.resume };
        console.run("encode", "rows", |task| encode_file(&model, reader, output, &how, task))?
    };
    done(output, rows, &model, console)
}

fn to_standard_output(
    model: &Quantizer,
    reader: RowReader<'static>,
    block_rows: Option<usize>,
    console: &Console,
) -> Result<u64, Failure> {
    let (ks, m) = (model.codebook().ks(), model.codebook().m());
    let dtype = match ks {
        0..=0x100 => Dtype::U8,
        0x101..=0x1_0000 => Dtype::U16,
        _ => Dtype::U32,
    };
    let mut writer = files::writer(Path::new("-"), Format::Npy, dtype, m, reader.rows())?;
    let rows = console.run("encode", "rows", |task| {
        encode_blocks(model, reader, block_rows, task, |codes| match codes.data() {
            CodeData::U8(codes) => writer.write(codes),
            CodeData::U16(codes) => writer.write(codes),
            CodeData::U32(codes) => writer.write(codes),
        })
    })?;
    writer.finish()?;
    Ok(rows)
}

/// All codes of the vectors, through an index, which holds them in the order of the input.
fn collect(
    model: &Quantizer,
    reader: RowReader<'static>,
    block_rows: Option<usize>,
    console: &Console,
) -> Result<Codes<'static>, Failure> {
    console.run("encode", "rows", |task| {
        let index = Index::new(model.clone())?;
        encode_blocks(model, reader, block_rows, task, |codes| {
            index.add_codes(codes, None, &Task::new())
        })?;
        index.codes()
    })
}

pub(crate) fn index(options: &BuildIndex, console: &Console) -> Result<(), Failure> {
    files::check_output(&options.output)?;
    let model = files::load(&options.model, console)?.model;
    let reader = files::open(&options.input)?;
    let codes = if options.codes {
        let ks = model.codebook().ks();
        console.run("read", "rows", |task| read_codes(reader, ks, task))?
    } else {
        collect(&model, reader, None, console)?
    };
    let ids = options.ids.as_deref().map(files::integers).transpose()?.map(|(ids, _)| ids);
    let scan = if options.fast_scan { Scan::Fast { block: FAST_SCAN_ROWS } } else { Scan::Rows };
    let rows = codes.len() as u64;
    let stored = Stored { model, codes: Some(codes), ids, scan };
    files::save(&stored, &options.output, console)?;
    done(&options.output, rows, &stored.model, console)
}

fn done(output: &Path, rows: u64, model: &Quantizer, console: &Console) -> Result<(), Failure> {
    let bytes = code_bytes(model);
    let dim = model.codebook().dim();
    let path = output.display();
    let human = format!(
        "{path}: {rows} codes of {bytes} bytes, {:.1} times smaller than float32",
        (4 * dim) as f64 / bytes as f64
    );
    let json = json!({ "output": path.to_string(), "rows": rows, "bytes_per_code": bytes });
    console.done(&human, &json, output)
}

/// Bytes of a code as it is held.
pub(crate) fn code_bytes(model: &Quantizer) -> usize {
    let book = model.codebook();
    let width = match book.ks() {
        0..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    };
    book.m() * width
}
