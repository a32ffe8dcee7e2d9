//! `demo`: vectors made up on the spot, compressed and searched.

use picopq::{Filter, Index, Metric, Opq, OpqOptions, Pq, PqOptions, Quantizer, Vectors, evaluate};
use serde_json::json;

use super::eval::{ids, variance};
use crate::console::{Console, Failure};
use crate::files::Matrix;

const ROWS: usize = 20_000;
const QUERIES: usize = 200;
const DIM: usize = 32;
const FACTORS: usize = 12;
const K: usize = 10;

pub(crate) fn run(console: &Console) -> Result<(), Failure> {
    let all = Matrix::new(vectors(), DIM);
    let (base, queries) = all.view()?.as_slice().split_at(ROWS * DIM);
    let (base, queries) = (Vectors::new(base, DIM)?, Vectors::new(queries, DIM)?);
    let truth = console
        .run("truth", "rows", |task| evaluate::ground_truth(base, queries, K, Metric::L2, task))?;
    let (truth, variance) = (ids(&truth), variance(base));
    let mut human = format!(
        "{ROWS} vectors of dimension {DIM} (float32, {} bytes each), {QUERIES} queries\n\
         model  bytes  relative error  recall@1  recall@10",
        4 * DIM
    );
    let mut records = Vec::new();
    for m in [4, 8, 16] {
        for rotated in [false, true] {
            let (name, model) = trained(base, m, rotated, console)?;
            let (book, rotation) = (model.codebook(), model.rotation());
            let error = console.run("distortion", "rows", |task| {
                evaluate::distortion(book, rotation, base, task)
            })? / variance;
            let index = Index::new(model)?;
            console.run("encode", "rows", |task| index.add(base, None, task))?;
            let found = console
                .run("search", "parts", |task| index.search(queries, K, Filter::All, task))?;
            let found = ids(&found);
            let [one, ten] = [1, K].map(|k| evaluate::recall_at_k(&truth, &found, k));
            human += &format!("\n{name:<5}  {m:>5}  {error:>14.4}  {one:>8.3}  {ten:>9.3}");
            records.push(json!({
                "model": name, "bytes": m, "relative_error": error, "recall@1": one, "recall@10": ten,
            }));
        }
    }
    console.answer(&human, &json!(records))
}

fn trained(
    base: Vectors<'_>,
    m: usize,
    rotated: bool,
    console: &Console,
) -> Result<(&'static str, Quantizer), Failure> {
    Ok(if rotated {
        let options = OpqOptions::new(m);
        (
            "OPQ",
            console.run("train OPQ", "steps", |task| Opq::train(base, &options, task))?.0.into(),
        )
    } else {
        let options = PqOptions::new(m);
        ("PQ", console.run("train PQ", "steps", |task| Pq::train(base, &options, task))?.0.into())
    })
}

/// Mixtures of a few hidden factors with a little noise, so that dimensions depend on each other as
/// those of embeddings do.
fn vectors() -> Vec<f32> {
    let mut state = 1_u64;
    // Between -1 and 1, from the upper bits of Knuth's linear congruential generator.
    let mut uniform = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    };
    let mixing: Vec<f32> = (0..DIM * FACTORS).map(|_| uniform()).collect();
    let mut out = Vec::with_capacity((ROWS + QUERIES) * DIM);
    for _ in 0..ROWS + QUERIES {
        let factors: Vec<f32> = (0..FACTORS).map(|_| uniform() + uniform()).collect();
        for weights in mixing.chunks_exact(FACTORS) {
            let mixed: f32 = weights.iter().zip(&factors).map(|(x, y)| x * y).sum();
            out.push(mixed + 0.1 * uniform());
        }
    }
    out
}
