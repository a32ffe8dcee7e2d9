//! `report`: one page, without scripts, of what a model does to vectors.

use std::fmt::Write;

use picopq::evaluate::{self, SubSpace};
use picopq::io::{read_vectors, sample};
use picopq::{Filter, Index};
use serde_json::json;

use super::eval::{ids, variance};
use super::search::write_text;
use crate::args::Report;
use crate::console::{Console, Failure};
use crate::files::{self, Matrix};

/// Ranks of the recall curve.
const RANKS: [usize; 8] = [1, 2, 5, 10, 20, 50, 100, 200];

pub(crate) fn run(options: &Report, console: &Console) -> Result<(), Failure> {
    let model = files::load(&options.model, console)?.model;
    let reader = files::open(&options.base)?;
    let dim = reader.dim();
    let base = console.run("read", "rows", |task| match options.sample {
        0 => read_vectors(reader, task),
        rows => sample(reader, rows, task),
    })?;
    let base = Matrix::new(base, dim);
    let base = base.view()?;
    let spaces =
        console.run("sub-spaces", "rows", |task| evaluate::sub_spaces(&model, base, task))?;
    let error: f64 = spaces.iter().map(|space| space.error).sum();
    let relative = error / variance(base);
    let metric = model.metric();
    let (m, ks) = (model.codebook().m(), model.codebook().ks());
    let curve = match &options.queries {
        None => None,
        Some(path) => {
            let queries = Matrix::open(path, console)?;
            let queries = queries.view()?;
            let most = RANKS[RANKS.len() - 1];
            let truth = console.run("truth", "rows", |task| {
                evaluate::ground_truth(base, queries, 1, metric, task)
            })?;
            let index = Index::new(model)?;
            console.run("encode", "rows", |task| index.add(base, None, task))?;
            let found = console
                .run("search", "parts", |task| index.search(queries, most, Filter::All, task))?;
            let (truth, found) = (ids(&truth), ids(&found));
            let recall = |k| (k, evaluate::recall_at_k(&truth, &found, k));
            Some((queries.len(), RANKS.map(recall)))
        }
    };
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{0}</title>\
         <style>body{{font:16px sans-serif;max-width:45em;margin:2em auto;padding:0 1em}}\
         svg{{width:100%;background:#f6f6f6}}text{{font:11px sans-serif}}</style>\n\
         <h1>{0}</h1>\n<p>{1} vectors of dimension {dim}; {m} sub-spaces of {ks} codewords. Mean \
         squared error {error:.6}, {relative:.4} of the variance.</p>\n",
        escape(&options.model.display().to_string()),
        base.len(),
    );
    page += "<h2>Mean squared error of each sub-space</h2>\n";
    let errors: Vec<_> =
        spaces.iter().enumerate().map(|(m, space)| (m.to_string(), space.error)).collect();
    bars(&mut page, &errors);
    page += "<h2>Codewords that are used, effectively, in each sub-space</h2>\n<p>Two to the power of \
             the entropy of the codes: all codewords used alike give ";
    let _ = writeln!(page, "{ks}.</p>");
    let used: Vec<_> =
        spaces.iter().enumerate().map(|(m, space)| (m.to_string(), perplexity(space))).collect();
    bars(&mut page, &used);
    if let Some((queries, curve)) = &curve {
        let _ = write!(
            page,
            "<h2>recall@k</h2>\n<p>Share of {queries} queries whose exact nearest neighbour among \
             the {} vectors is among the first k found.</p>\n",
            base.len()
        );
        bars(&mut page, &curve.map(|(k, recall)| (format!("k = {k}"), recall)));
    }
    write_text(&options.output, &page)?;
    let path = options.output.display();
    let recall: Vec<_> = curve.iter().flat_map(|(_, curve)| curve.to_vec()).collect();
    let json = json!({
        "output": path.to_string(), "distortion": error, "relative": relative, "recall": recall,
    });
    console.done(&format!("{path}: relative error {relative:.4}"), &json, &options.output)
}

/// Two to the power of the entropy of the codes.
fn perplexity(space: &SubSpace) -> f64 {
    let all = space.counts.iter().sum::<u64>().max(1) as f64;
    let shares = space.counts.iter().filter(|&&count| count > 0).map(|&count| count as f64 / all);
    shares.map(|share| -share * share.log2()).sum::<f64>().exp2()
}

/// A bar for each named value, from 0, with the value above it.
fn bars(page: &mut String, values: &[(String, f64)]) {
    const HEIGHT: f64 = 120.0;
    let (width, most) =
        (640.0 / values.len().max(1) as f64, values.iter().map(|(_, value)| *value));
    let most = most.fold(f64::MIN_POSITIVE, f64::max);
    // Labels that would overlap are left out.
    let every = (40.0 / width).ceil().max(1.0) as usize;
    *page += "<svg viewBox=\"0 0 640 160\" role=\"img\">";
    for (at, (name, value)) in values.iter().enumerate() {
        let (x, height) = (at as f64 * width, value / most * HEIGHT);
        let y = 20.0 + HEIGHT - height;
        let _ = write!(
            page,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" \
             fill=\"#4477aa\"><title>{name}: {value}</title></rect>",
            width * 0.8
        );
        if at % every == 0 {
            let middle = x + width * 0.4;
            let _ = write!(
                page,
                "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.4}</text>\
                 <text x=\"{middle:.1}\" y=\"155\" text-anchor=\"middle\">{name}</text>",
                y - 4.0
            );
        }
    }
    *page += "</svg>\n";
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
