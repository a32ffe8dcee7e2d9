//! `info`: what a file holds.

use picopq::io::Scan;
use picopq::{Metric, Quantizer};
use serde_json::json;

use super::encode::code_bytes;
use crate::args::{DTYPES, Info};
use crate::console::{Console, Failure};
use crate::files::{self, Family};

pub(crate) fn run(options: &Info, console: &Console) -> Result<(), Failure> {
    let path = &options.file;
    let Some(family) = Family::of(path) else {
        let reader = files::reader(path, options.format, options.column.as_deref())?;
        let dtype = DTYPES.iter().find(|(_, dtype)| *dtype == reader.dtype());
        let dtype = dtype.map_or("", |(name, _)| name);
        let rows = reader.rows().map_or("?".to_string(), |rows| rows.to_string());
        let dim = reader.dim();
        let human =
            format!("rows             {rows}\ndimension        {dim}\nnumbers          {dtype}");
        let json = json!({ "kind": "rows", "rows": reader.rows(), "dim": dim, "dtype": dtype });
        return console.answer(&human, &json);
    };
    let stored = files::load(path, console)?;
    let book = stored.model.codebook();
    let family = match family {
        Family::Own => "picopq",
        Family::Faiss => "Faiss",
    };
    let model = match stored.model {
        Quantizer::Pq(_) => "PQ",
        Quantizer::Opq(_) => "OPQ",
    };
    let metric = match stored.model.metric() {
        Metric::L2 => "l2",
        Metric::Dot => "dot",
    };
    let scan = match stored.scan {
        Scan::Rows => "rows".to_string(),
        Scan::Fast { block } => format!("fast scan in blocks of {block} rows"),
    };
    let (m, ks, ds, bytes) = (book.m(), book.ks(), book.ds(), code_bytes(&stored.model));
    let (codes, ids) = (stored.codes.is_some(), stored.ids.is_some());
    let kind = if codes { "index" } else { "model" };
    let mut human = format!(
        "format           {family}\nkind             {kind}\nmodel            {model}\n\
         metric           {metric}\ndimension        {}\nsub-spaces       {m} of dimension {ds}\n\
         codewords        {ks} in each\ncode             {bytes} bytes",
        book.dim()
    );
    if codes {
        human += &format!(
            "\nrows             {}\nids              {}\nlayout           {scan}",
            stored.len(),
            if ids { "given" } else { "row numbers" }
        );
    }
    let json = json!({
        "format": family, "kind": kind, "model": model, "metric": metric, "dim": book.dim(),
        "m": m, "ks": ks, "ds": ds, "bytes_per_code": bytes,
        "rows": codes.then(|| stored.len()), "ids": ids, "scan": scan,
    });
    console.answer(&human, &json)
}
