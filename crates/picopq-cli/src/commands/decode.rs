//! `decode`: codes become vectors.

use picopq::io::{Dtype, Format, decode_blocks};
use picopq::{Error, Task};
use serde_json::json;

use crate::args::Decode;
use crate::console::{Console, Failure};
use crate::files;

/// Rows decoded at once from an index.
const BLOCK_ROWS: usize = 1 << 14;

pub(crate) fn run(options: &Decode, console: &Console) -> Result<(), Failure> {
    let output = &options.output;
    let to = if files::is_standard(output) { Some(Format::Npy) } else { None };
    let format = files::format_of(output, to)?;
    let stored = files::load(&options.model, console)?;
    let dim = stored.model.codebook().dim();
    let rows = match (&options.codes, stored.codes.is_some()) {
        (Some(_), true) => {
            return Err(Failure::usage(
                "an index has its own codes; give no file of codes with it",
            ));
        }
        (None, false) => {
            return Err(Failure::usage("a model alone has no codes; give a file of codes"));
        }
        (Some(codes), false) => {
            let reader = files::reader(codes, options.format, options.column.as_deref())?;
            let mut writer = files::writer(output, format, Dtype::F32, dim, reader.rows())?;
            let rows = console.run("decode", "rows", |task| {
                decode_blocks(&stored.model, reader, None, task, |block| writer.write(block))
            })?;
            writer.finish()?;
            rows
        }
        (None, true) => {
            let all = stored.len() as u64;
            let mut writer = files::writer(output, format, Dtype::F32, dim, Some(all))?;
            console.run("decode", "rows", |task| {
                let index = stored.into_index(task)?;
                let ids = index.ids()?;
                for ids in ids.chunks(BLOCK_ROWS) {
                    if task.is_cancelled() {
                        return Err(Error::Cancelled);
                    }
                    writer.write(&index.reconstruct(ids, &Task::new())?)?;
                }
                Ok(())
            })?;
            writer.finish()?;
            all
        }
    };
    let path = output.display();
    let human = format!("{path}: {rows} vectors of dimension {dim}");
    console.done(&human, &json!({ "output": path.to_string(), "rows": rows, "dim": dim }), output)
}
