//! `search`: the nearest stored vectors of each query.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use picopq::io::{Dtype, Format};
use picopq::{Filter, Metric, Neighbor};
use serde_json::json;

use crate::args::{Answers, Search};
use crate::console::{Console, Failure};
use crate::files::{self, Matrix};

pub(crate) fn run(options: &Search, console: &Console) -> Result<(), Failure> {
    let answers = answers_of(options)?;
    let tables = matches!(answers, Answers::Npy | Answers::Ivecs);
    if options.distances.is_some() && !tables {
        return Err(Failure::usage("--distances goes with npy and ivecs; csv and jsonl have them"));
    }
    let stored = files::load(&options.index, console)?;
    if stored.codes.is_none() {
        let path = options.index.display();
        return Err(Failure::data(format!("{path} holds a model alone; build one with index")));
    }
    let metric = stored.model.metric();
    let queries = Matrix::read(&options.queries, console)?;
    let subset = options.subset.as_deref().map(files::integers).transpose()?;
    let index = console.run("index", "rows", |task| stored.into_index(task))?;
    let filter = subset.as_ref().map_or(Filter::All, |(ids, _)| Filter::Ids(ids));
    let queries = queries.view()?;
    let found =
        console.run("search", "parts", |task| index.search(queries, options.k, filter, task))?;
    if tables {
        return write_tables(options, answers, &found, metric);
    }
    let text = match answers {
        Answers::Jsonl => lines(&found),
        _ => csv(&found),
    };
    write_text(&options.output, &text)
}

fn answers_of(options: &Search) -> Result<Answers, Failure> {
    if let Some(answers) = options.answers {
        return Ok(answers);
    }
    if files::is_standard(&options.output) {
        return Ok(Answers::Csv);
    }
    match options.output.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Ok(Answers::Csv),
        Some("jsonl") => Ok(Answers::Jsonl),
        Some("npy") => Ok(Answers::Npy),
        Some("ivecs") => Ok(Answers::Ivecs),
        _ => Err(Failure::usage("the extension names no format of answers; give --answers")),
    }
}

fn csv(found: &[Vec<Neighbor>]) -> String {
    let mut text = String::from("query,rank,id,distance\n");
    for (query, answers) in found.iter().enumerate() {
        for (rank, Neighbor { id, distance }) in answers.iter().enumerate() {
            text += &format!("{query},{rank},{id},{distance}\n");
        }
    }
    text
}

fn lines(found: &[Vec<Neighbor>]) -> String {
    let line = |(query, answers): (usize, &Vec<Neighbor>)| {
        let ids: Vec<_> = answers.iter().map(|answer| answer.id).collect();
        let distances: Vec<_> = answers.iter().map(|answer| answer.distance).collect();
        format!("{}\n", json!({ "query": query, "ids": ids, "distances": distances }))
    };
    found.iter().enumerate().map(line).collect()
}

pub(crate) fn write_text(path: &Path, text: &str) -> Result<(), Failure> {
    if files::is_standard(path) {
        let mut out = io::stdout();
        out.write_all(text.as_bytes())?;
        return Ok(out.flush()?);
    }
    let write = || File::create(path)?.write_all(text.as_bytes());
    write().map_err(|error| {
        let (kind, code) = (error.kind(), error.raw_os_error());
        picopq::Error::Io { file: path.display().to_string(), kind, code }.into()
    })
}

/// Ids and distances (nq, k); where a query has fewer answers, -1 and the worst distance.
fn write_tables(
    options: &Search,
    answers: Answers,
    found: &[Vec<Neighbor>],
    metric: Metric,
) -> Result<(), Failure> {
    let worst = match metric {
        Metric::L2 => f32::INFINITY,
        Metric::Dot => f32::NEG_INFINITY,
    };
    let (k, rows) = (options.k, Some(found.len() as u64));
    let padded = |row: &Vec<Neighbor>| {
        let none = Neighbor { id: -1, distance: worst };
        row.iter().copied().chain(std::iter::repeat(none)).take(k).collect::<Vec<_>>()
    };
    let all: Vec<Neighbor> = found.iter().flat_map(padded).collect();
    let output = &options.output;
    if answers == Answers::Npy {
        let ids: Vec<i64> = all.iter().map(|answer| answer.id).collect();
        let mut writer = files::writer(output, Format::Npy, Dtype::I64, k, rows)?;
        writer.write(&ids)?;
        writer.finish()?;
    } else {
        let ids: Option<Vec<i32>> = all.iter().map(|answer| answer.id.try_into().ok()).collect();
        let Some(ids) = ids else {
            return Err(Failure::data("an id does not fit the 32 bits of ivecs; write npy"));
        };
        let mut writer = files::writer(output, Format::Ivecs, Dtype::I32, k, rows)?;
        writer.write(&ids)?;
        writer.finish()?;
    }
    if let Some(path) = &options.distances {
        let distances: Vec<f32> = all.iter().map(|answer| answer.distance).collect();
        let format = files::format_of(path, None)?;
        let mut writer = files::writer(path, format, Dtype::F32, k, rows)?;
        writer.write(&distances)?;
        writer.finish()?;
    }
    Ok(())
}
