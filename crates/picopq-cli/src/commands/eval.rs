//! `eval`: what the codes lose against the vectors.

use picopq::io::Stored;
use picopq::{Filter, Index, Neighbor, Vectors, evaluate};
use serde_json::json;

use crate::args::Eval;
use crate::console::{Console, Failure};
use crate::files::{self, Matrix};

pub(crate) fn run(options: &Eval, console: &Console) -> Result<(), Failure> {
    let stored = files::load(&options.model, console)?;
    let base = Matrix::read(&options.base, console)?;
    let base = base.view()?;
    let (book, rotation) = (stored.model.codebook(), stored.model.rotation());
    let error = console
        .run("distortion", "rows", |task| evaluate::distortion(book, rotation, base, task))?;
    let relative = error / variance(base);
    let mut human = format!(
        "{} vectors of dimension {}\ndistortion       {error:.6} (mean squared error)\n\
         relative         {relative:.4} (of the variance)",
        base.len(),
        base.dim()
    );
    let mut json = json!({ "rows": base.len(), "distortion": error, "relative": relative });
    if let Some(path) = &options.queries {
        let queries = Matrix::open(path, console)?;
        let (truth, found) = recall_input(options, stored, base, queries.view()?, console)?;
        human += &format!("\n{} queries", truth.len());
        for k in ranks(options.k) {
            let recall = evaluate::recall_at_k(&truth, &found, k);
            human += &format!("\n{:<16} {recall:.4}", format!("recall@{k}"));
            json[format!("recall@{k}")] = recall.into();
        }
        let k = options.k;
        let overlap = evaluate::k_recall_at_k(&truth, &found, k);
        human += &format!("\n{:<16} {overlap:.4}", format!("{k}-recall@{k}"));
        json["k"] = k.into();
        json["k_recall_at_k"] = overlap.into();
    }
    console.answer(&human, &json)
}

/// 1, 10, 100 and so on, to `k`.
pub(crate) fn ranks(k: usize) -> Vec<usize> {
    let mut ranks: Vec<_> = std::iter::successors(Some(1), |rank| Some(rank * 10))
        .take_while(|&rank| rank < k)
        .collect();
    ranks.push(k);
    ranks
}

/// The mean squared distance of the vectors from their mean: the distortion of a single codeword.
pub(crate) fn variance(vectors: Vectors<'_>) -> f64 {
    let (n, dim) = (vectors.len().max(1) as f64, vectors.dim());
    let (mut sums, mut squares) = (vec![0.0; dim], 0.0);
    for row in vectors.as_slice().chunks_exact(dim) {
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += f64::from(value);
            squares += f64::from(value) * f64::from(value);
        }
    }
    squares / n - sums.iter().map(|sum| (sum / n) * (sum / n)).sum::<f64>()
}

type Ids = Vec<Vec<i64>>;

/// True and found neighbours.
fn recall_input(
    options: &Eval,
    stored: Stored,
    base: Vectors<'_>,
    queries: Vectors<'_>,
    console: &Console,
) -> Result<(Ids, Ids), Failure> {
    let (k, metric) = (options.k, stored.model.metric());
    if stored.codes.is_some() && stored.len() != base.len() {
        let (rows, vectors) = (stored.len(), base.len());
        return Err(Failure::data(format!(
            "the index has {rows} rows, the vectors are {vectors}; give those that it was made of"
        )));
    }
    // Truth names rows; so do answers, whatever ids the index has.
    let index = console.run("index", "rows", |task| {
        if stored.codes.is_some() {
            Stored { ids: None, ..stored }.into_index(task)
        } else {
            let index = Index::new(stored.model)?;
            index.add(base, None, task).map(|()| index)
        }
    })?;
    let truth = match &options.truth {
        None => ids(&console
            .run("truth", "rows", |task| evaluate::ground_truth(base, queries, k, metric, task))?),
        Some(path) => {
            let (flat, width) = files::integers(path)?;
            if width < k || flat.len() / width != queries.len() {
                let (rows, wanted) = (flat.len() / width, queries.len());
                return Err(Failure::data(format!(
                    "{}: {rows} rows of {width} neighbours, wanted {wanted} of at least {k}",
                    path.display()
                )));
            }
            flat.chunks_exact(width).map(<[i64]>::to_vec).collect()
        }
    };
    let found =
        console.run("search", "parts", |task| index.search(queries, k, Filter::All, task))?;
    Ok((truth, ids(&found)))
}

pub(crate) fn ids(found: &[Vec<Neighbor>]) -> Ids {
    found.iter().map(|answers| answers.iter().map(|answer| answer.id).collect()).collect()
}
