//! `train`: a sample of the vectors becomes a model.

use picopq::io::{Stored, read_vectors, sample};
use picopq::{Opq, OpqOptions, Pq, PqOptions, Quantizer, Start, Training};
use serde_json::json;

use crate::args::Train;
use crate::console::{Console, Failure};
use crate::files::{self, Matrix};

/// Rows for each codeword that training sees by default; more change little.
const SAMPLE_PER_CODEWORD: usize = 256;

pub(crate) fn run(options: &Train, console: &Console) -> Result<(), Failure> {
    files::check_output(&options.output)?;
    let reader = files::open(&options.input)?;
    let dim = reader.dim();
    let rows = options.sample.unwrap_or(options.ks.saturating_mul(SAMPLE_PER_CODEWORD));
    let values = console.run("read", "rows", |task| match rows {
        0 => read_vectors(reader, task),
        rows => sample(reader, rows, task),
    })?;
    let vectors = Matrix::new(values, dim);
    let pq = PqOptions {
        ks: options.ks,
        metric: options.metric,
        iterations: options.iterations,
        seed: options.seed,
        init: options.init.clone(),
        ..PqOptions::new(options.m)
    };
    let vectors = vectors.view()?;
    let (model, training): (Quantizer, Training) = console.run("train", "steps", |task| {
        if options.opq {
            let options = OpqOptions { pq, rotations: options.rotations, start: Start::Better };
            Opq::train(vectors, &options, task).map(|(opq, training)| (opq.into(), training))
        } else {
            Pq::train(vectors, &pq, task).map(|(pq, training)| (pq.into(), training))
        }
    })?;
    let path = options.output.display().to_string();
    files::save(&Stored::model(model), &options.output, console)?;
    let error = training.losses.last().copied().unwrap_or(0.0);
    if training.empty_clusters > 0 {
        console.note(&format!(
            "{} of {} codewords are unused: there are too few distinct sub-vectors",
            training.empty_clusters,
            options.m * options.ks
        ));
    }
    let human = format!(
        "{path}: trained on {} vectors of dimension {dim}; mean squared error {error:.6}",
        vectors.len()
    );
    let json = json!({
        "output": path, "rows": vectors.len(), "dim": dim, "mean_squared_error": error,
        "empty_clusters": training.empty_clusters,
    });
    console.done(&human, &json, &options.output)
}
