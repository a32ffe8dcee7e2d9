//! The rows of one sub-space in tiles, and the codewords that each tile has to be measured against.
//!
//! ```text
//! at first    tiles in the order of the rows, measured against every codeword
//! arranged    the rows of a codeword, farthest first, 48 to a tile: each strip of 16 is a ball
//!             about p, what the codeword was then, with the radius r of its farthest row
//! ```
//! For a row x of a ball and the codeword a that p has become, wherever it is by now,
//! |x - c|^2 - |x - a|^2 = |p - c|^2 - |p - a|^2 + 2 (x - p).(a - c)
//! is at least |p - c|^2 - |p - a|^2 - 2 r |a - c|. A codeword c for which that is positive is not
//! nearest to any row of the ball, so the strip is measured without it, and every label and distance
//! is that of the whole search, bit for bit.

use std::ops::Range;

use crate::error::{Result, collected, copied, filled, size, with_capacity};
use crate::kernels::{self, Kernels, Nearest, Panel, STRIP, TILE, TileRef};
use crate::metric::Metric;
use crate::threads::{self, Task};
use crate::vectors::Vectors;

/// The label of a row before the first search.
const NONE: u32 = u32::MAX;
/// Rows of a chunk whose tiles stay in the order of the rows.
const CHUNK_ROWS: usize = 4096usize.next_multiple_of(TILE);
/// Rows for each codeword in a chunk that can be arranged, at most: so many that its tiles are
/// mostly full.
const ARRANGED_ROWS: usize = 512;
/// With fewer rows for each codeword tiles would be half empty.
const LEAST_ARRANGED_ROWS: usize = 128;
/// Up to so many codewords, so that a chunk's rows are numbered by u32 and soon put in order.
const ARRANGED_KS: usize = 1 << 16;
/// Up to this dimension: above it a ball is near to most codewords.
const ARRANGED_DIM: usize = 16;

/// The rows of one sub-space, with their labels.
pub(crate) struct Points<'a> {
    vectors: Vectors<'a>,
    columns: Range<usize>,
    centre: Vec<f32>, // (ds,)
    arrangeable: bool,
    chunks: Vec<Chunk>,
    /// The largest magnitude of a value less centre.
    most: f32,
    /// The sum of all values' squares, less centre.
    squares: f64,
    /// The codewords (ks, ds) at the last arrangement, less centre; none before.
    origins: Vec<f32>,
}

/// Rows that are searched by one thread. What stands in lanes past a tile's last row means nothing.
struct Chunk {
    first: usize,
    numbers: Vec<u32>,           // of the rows, from `first`, tile by tile
    balls: Vec<Ball>,            // (tiles,)
    lanes: Vec<f32>,             // (tiles, ds, TILE), less centre
    norms: Vec<[f32; TILE]>,     // (tiles,)
    labels: Vec<[u32; TILE]>,    // (tiles,)
    distances: Vec<[f32; TILE]>, // (tiles,), squared, to the codeword of the label
}

/// What is known of the rows of a tile.
struct Ball {
    /// The places of its rows in the chunk's `numbers`.
    rows: Range<usize>,
    /// The codeword whose origin is the ball's centre, once it was the nearest of all its rows.
    owner: Option<u32>,
    /// For each strip, what no row's squared distance to that origin is above.
    squares: [f64; TILE / STRIP],
}

/// Where a row is: chunk, tile and lane.
#[derive(Clone, Copy)]
pub(crate) struct Place(usize, usize, usize);

impl<'a> Points<'a> {
    /// The sub-space `columns` of the rows, for `ks` codewords.
    pub(crate) fn new(
        vectors: Vectors<'a>,
        columns: Range<usize>,
        ks: usize,
        kernels: Kernels,
        task: &Task,
    ) -> Result<Self> {
        let n = vectors.len();
        let centre = kernels::centre(vectors.as_slice(), vectors.dim(), columns.clone())?;
        let few = columns.len() <= ARRANGED_DIM && ks <= ARRANGED_KS;
        let arrangeable = few && n / ks >= LEAST_ARRANGED_ROWS;
        let chunk_rows = if arrangeable {
            n.div_ceil(n.div_ceil(ks * ARRANGED_ROWS))
        } else {
            // The chunks' sums take at most half of the memory of the rows.
            CHUNK_ROWS.max(4 * ks)
        };
        let (chunks, origins) = (Vec::new(), Vec::new());
        let (most, squares) = (0.0, 0.0);
        let mut points =
            Self { vectors, columns, centre, arrangeable, chunks, most, squares, origins };
        let firsts = (0..n).step_by(chunk_rows).collect();
        let chunks = threads::map(task, firsts, |first: usize| {
            let rows = chunk_rows.min(n - first);
            let numbers = collected(0..rows as u32, rows, "the rows' numbers")?;
            let mut balls = with_capacity(rows.div_ceil(TILE), "the tiles")?;
            balls.extend((0..rows).step_by(TILE).map(|from| {
                let rows = from..rows.min(from + TILE);
                Ball { rows, owner: None, squares: [0.0; TILE / STRIP] }
            }));
            let chunk = points.load(first, numbers, balls, kernels, task)?;
            let most = chunk.lanes.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
            let squares = chunk.squares(points.columns.len());
            Ok((chunk, most, squares))
        })?;
        for (chunk, most, squares) in chunks {
            points.chunks.push(chunk);
            points.most = points.most.max(most);
            points.squares += squares;
        }
        Ok(points)
    }

    pub(crate) fn len(&self) -> usize {
        self.vectors.len()
    }

    fn number(&self, Place(chunk, tile, lane): Place) -> usize {
        let chunk = &self.chunks[chunk];
        chunk.first + chunk.numbers[chunk.balls[tile].rows.start + lane] as usize
    }

    /// A row as it was given.
    pub(crate) fn row(&self, place: Place) -> &'a [f32] {
        &self.vectors.row(self.number(place))[self.columns.clone()]
    }

    /// What is subtracted from the rows in tiles, (ds,).
    pub(crate) fn centre(&self) -> &[f32] {
        &self.centre
    }

    /// Whether [`Points::arrange`] pays.
    pub(crate) fn can_be_arranged(&self) -> bool {
        self.arrangeable
    }

    /// The label and the place of every row.
    pub(crate) fn labelled(&self) -> impl Iterator<Item = (u32, Place)> {
        self.chunks.iter().enumerate().flat_map(|(at, chunk)| {
            let tiles = chunk.balls.iter().zip(&chunk.labels).enumerate();
            tiles.flat_map(move |(tile, (ball, labels))| {
                let labels = labels[..ball.rows.len()].iter().enumerate();
                labels.map(move |(lane, &label)| (label, Place(at, tile, lane)))
            })
        })
    }

    /// The labels of all rows, in their order.
    pub(crate) fn labels(&self) -> Result<Vec<u32>> {
        let mut ordered = filled(self.len(), 0, "the labels")?;
        for chunk in &self.chunks {
            let tiles = chunk.balls.iter().zip(&chunk.labels);
            let labels = tiles.flat_map(|(ball, labels)| &labels[..ball.rows.len()]);
            for (&number, &label) in chunk.numbers.iter().zip(labels) {
                ordered[chunk.first + number as usize] = label;
            }
        }
        Ok(ordered)
    }

    /// The squared distance of a row to the codeword of its label, if the last search measured them.
    pub(crate) fn distance(&self, Place(chunk, tile, lane): Place) -> f32 {
        self.chunks[chunk].distances[tile][lane]
    }

    /// Gives a row another codeword.
    pub(crate) fn set(&mut self, Place(chunk, tile, lane): Place, label: u32, distance: f32) {
        let chunk = &mut self.chunks[chunk];
        (chunk.labels[tile][lane], chunk.distances[tile][lane]) = (label, distance);
    }

    /// Puts tiles in memory.
    fn load(
        &self,
        first: usize,
        numbers: Vec<u32>,
        balls: Vec<Ball>,
        kernels: Kernels,
        task: &Task,
    ) -> Result<Chunk> {
        let (ds, dim) = (self.columns.len(), self.vectors.dim());
        let what = "the training vectors' copy";
        let mut lanes = filled(size(&[balls.len(), ds, TILE], what)?, 0.0, what)?;
        let mut norms = filled(balls.len(), [0.0; TILE], what)?;
        let mut labels = with_capacity(balls.len(), "the labels")?;
        let values = &self.vectors.as_slice()[self.columns.start..];
        let place = |number: u32| (first + number as usize) * dim;
        let tiles = lanes.chunks_exact_mut(ds * TILE).zip(&mut norms);
        for (ball, (lanes, norms)) in balls.iter().zip(tiles) {
            task.check()?;
            // The next tile's rows come from anywhere.
            for &number in numbers[ball.rows.end..].iter().take(TILE) {
                kernels::prefetch(&values[place(number)..][..ds]);
            }
            let place = |row: usize| place(numbers[ball.rows.start + row]);
            kernels.load(values, ball.rows.len(), place, &self.centre, lanes, norms);
            labels.push([ball.owner.unwrap_or(NONE); TILE]);
        }
        let distances = filled(balls.len(), [0.0; TILE], "the distances")?;
        Ok(Chunk { first, numbers, balls, lanes, norms, labels, distances })
    }

    /// The sum of all squared distances, where `sums` (ks, ds) and `counts` (ks,) are those of the
    /// rows of each of the search's codewords, less centre.
    pub(crate) fn loss(&self, search: &Search, sums: &[f64], counts: &[i64]) -> f64 {
        let ds = self.columns.len();
        let codewords = search.codewords.chunks_exact(ds);
        let of_codeword = |((codeword, sums), &count): ((&[f32], &[f64]), &i64)| {
            let terms = codeword.iter().zip(sums).map(|(&c, sum)| {
                let c = f64::from(c);
                c * (count as f64 * c - 2.0 * sum)
            });
            terms.sum::<f64>()
        };
        let rest: f64 = codewords.zip(sums.chunks_exact(ds)).zip(counts).map(of_codeword).sum();
        (self.squares + rest).max(0.0)
    }

    /// Makes balls of the rows as the last search found and measured them.
    pub(crate) fn arrange(&mut self, search: &Search, task: &Task) -> Result<()> {
        let ks = search.codewords.len() / self.columns.len();
        let chunks = std::mem::take(&mut self.chunks);
        self.chunks = threads::map(task, chunks, |chunk| {
            let first = chunk.first;
            let (numbers, balls) = sorted(chunk, ks, search.error)?;
            self.load(first, numbers, balls, search.kernels, task)
        })?;
        self.origins = copied(&search.codewords, "the codewords")?;
        Ok(())
    }
}

impl Chunk {
    /// The sum of the squares of all rows' values.
    fn squares(&self, ds: usize) -> f64 {
        let mut sum = 0.0;
        for (ball, lanes) in self.balls.iter().zip(self.lanes.chunks_exact(ds * TILE)) {
            let mut sums = [0.0; TILE];
            for column in lanes.chunks_exact(TILE) {
                sums.iter_mut()
                    .zip(column)
                    .for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
            }
            sum += sums[..ball.rows.len()].iter().sum::<f64>();
        }
        sum
    }
}

/// The rows of a chunk by label, then from the farthest to the nearest, and their balls.
fn sorted(chunk: Chunk, ks: usize, error: f64) -> Result<(Vec<u32>, Vec<Ball>)> {
    let Chunk { mut numbers, balls, labels, distances, .. } = chunk;
    let mut ends = filled(ks, 0, "the counts")?;
    for (ball, labels) in balls.iter().zip(&labels) {
        labels[..ball.rows.len()].iter().for_each(|&label| ends[label as usize] += 1);
    }
    let mut sum = 0;
    ends.iter_mut().for_each(|end| sum += std::mem::replace(end, sum));
    let mut keys = filled(numbers.len(), 0_u64, "the order of the rows")?;
    for (ball, (labels, distances)) in balls.iter().zip(labels.iter().zip(&distances)) {
        let numbers = &numbers[ball.rows.clone()];
        for (&number, (&label, distance)) in numbers.iter().zip(labels.iter().zip(distances)) {
            // Squared distances order as their bits do.
            let key = u64::from(!distance.to_bits()) << 32 | u64::from(number);
            keys[ends[label as usize]] = key;
            ends[label as usize] += 1;
        }
    }
    let mut balls = with_capacity(numbers.len().div_ceil(TILE) + ks, "the tiles")?;
    let mut begin = 0;
    for (label, &end) in ends.iter().enumerate() {
        keys[begin..end].sort_unstable();
        balls.extend((begin..end).step_by(TILE).map(|from| {
            let rows = from..end.min(from + TILE);
            let mut squares = [0.0; TILE / STRIP];
            for (square, strip) in squares.iter_mut().zip(keys[rows.clone()].chunks(STRIP)) {
                *square = f64::from(f32::from_bits(!((strip[0] >> 32) as u32))) + error;
            }
            Ball { rows, owner: Some(label as u32), squares }
        }));
        begin = end;
    }
    numbers.iter_mut().zip(&keys).for_each(|(number, &key)| *number = key as u32);
    Ok((numbers, balls))
}

/// The nearest codeword of each row.
pub(crate) struct Search {
    panel: Panel,
    codewords: Vec<f32>, // (ks, ds), less centre
    kernels: Kernels,
    /// What a squared distance in f32 can be off by.
    error: f64,
}

/// What a search of some rows adds to what was before.
pub(crate) struct Change {
    pub(crate) sums: Vec<f64>, // (ks, ds), of the rows of each codeword, less centre
    pub(crate) counts: Vec<i64>, // (ks,)
    /// Rows with another label than before.
    pub(crate) moved: usize,
}

impl Search {
    pub(crate) fn new(points: &Points<'_>, codewords: &[f32], kernels: Kernels) -> Result<Self> {
        let ds = points.columns.len();
        let mut centred = with_capacity(codewords.len(), "the codewords")?;
        for codeword in codewords.chunks_exact(ds) {
            centred.extend(codeword.iter().zip(&points.centre).map(|(c, centre)| c - centre));
        }
        let most = centred.iter().fold(points.most, |most, c| most.max(c.abs()));
        // |c|^2 + |x|^2 - 2 x.c is a sum of ds + 2 terms whose magnitudes add up to at most
        // (|x| + |c|)^2, which is at most 4 ds most^2; each operation is off by 2^-24 of that, or
        // by the least number.
        let scale = 4.0 * ds as f64 * f64::from(most).powi(2);
        let rounding = f64::from(f32::EPSILON) * scale + f64::from(f32::MIN_POSITIVE);
        let error = (ds + 4) as f64 * rounding;
        let panel = Panel::new(codewords, copied(&points.centre, "the centre")?)?;
        Ok(Self { panel, codewords: centred, kernels, error })
    }

    /// Labels all rows, and measures their distances if `measure` is set. Returns a change for each
    /// chunk, in their order.
    pub(crate) fn run(
        &self,
        points: &mut Points<'_>,
        measure: bool,
        task: &Task,
    ) -> Result<Vec<Change>> {
        let Points { chunks, origins, .. } = points;
        let label = |chunk| self.label(chunk, origins, measure, task);
        threads::map(task, chunks.iter_mut().collect(), label)
    }

    fn label(
        &self,
        chunk: &mut Chunk,
        origins: &[f32],
        measure: bool,
        task: &Task,
    ) -> Result<Change> {
        let (ds, ks) = (self.panel.ds(), self.codewords.len() / self.panel.ds());
        let sums = filled(ks * ds, 0.0, "the partial sums")?;
        let counts = filled(ks, 0, "the counts")?;
        let mut change = Change { sums, counts, moved: 0 };
        let mut near = Near::new(self, origins)?;
        let mut found = Nearest::new();
        let tiles = chunk.lanes.chunks_exact(ds * TILE).zip(&chunk.norms);
        let answers = chunk.labels.iter_mut().zip(&mut chunk.distances);
        for (ball, ((lanes, norms), (labels, distances))) in
            chunk.balls.iter().zip(tiles.zip(answers))
        {
            task.check()?;
            let tile = TileRef { lanes, norms, ahead: &[] };
            let (kernels, panel) = (self.kernels, &self.panel);
            match ball.owner {
                Some(owner) => {
                    for strip in 0..ball.rows.len().div_ceil(STRIP) {
                        let numbers = near.to(owner, ball.squares[strip]);
                        if measure {
                            kernels.nearest_among(panel, numbers, tile, strip, &mut found);
                        } else {
                            kernels.codes_among(panel, numbers, tile, strip, &mut found);
                        }
                    }
                }
                None if measure => kernels.nearest(panel, tile, &mut found),
                None => kernels.codes(panel, tile, &mut found),
            }
            let before = std::mem::replace(labels, found.codes);
            if measure {
                *distances = found.distances;
            }
            let rows = ball.rows.len();
            if before != found.codes {
                for (lane, (&old, &new)) in before.iter().zip(&*labels).enumerate().take(rows) {
                    if old != new {
                        change.take(&lanes[lane..], old, new);
                    }
                }
            }
        }
        Ok(change)
    }
}

impl Change {
    /// Takes a row, every 48th value of `lanes`, from one codeword to another.
    fn take(&mut self, lanes: &[f32], old: u32, new: u32) {
        let ds = self.sums.len() / self.counts.len();
        let values = || lanes.iter().step_by(TILE).map(|&x| f64::from(x));
        let sums = |label: u32| label as usize * ds..(label as usize + 1) * ds;
        self.moved += 1;
        self.counts[new as usize] += 1;
        self.sums[sums(new)].iter_mut().zip(values()).for_each(|(sum, x)| *sum += x);
        if old != NONE {
            self.counts[old as usize] -= 1;
            self.sums[sums(old)].iter_mut().zip(values()).for_each(|(sum, x)| *sum -= x);
        }
    }
}

/// The codewords that the balls about one origin have to see.
struct Near<'a> {
    search: &'a Search,
    origins: &'a [f32],
    owner: Option<u32>,
    /// The squared radius up to which a codeword is left out.
    squares: Vec<f64>, // (ks,)
    numbers: Vec<u32>,
    from_origin: Vec<f32>, // (ks,), squared distances
    from_owner: Vec<f32>,
}

impl<'a> Near<'a> {
    fn new(search: &'a Search, origins: &'a [f32]) -> Result<Self> {
        let ks = search.codewords.len() / search.panel.ds();
        Ok(Self {
            search,
            origins,
            owner: None,
            squares: filled(ks, 0.0, "the radii")?,
            numbers: with_capacity(ks, "the near codewords")?,
            from_origin: filled(ks, 0.0, "the codewords' distances")?,
            from_owner: filled(ks, 0.0, "the codewords' distances")?,
        })
    }

    /// The numbers of the codewords for a ball; those about one origin come in a row, the largest
    /// first.
    fn to(&mut self, owner: u32, square: f64) -> &[u32] {
        if self.owner != Some(owner) {
            self.measure(owner);
        }
        let mut kept = 0;
        for i in 0..self.numbers.len() {
            let k = self.numbers[i];
            self.numbers[kept] = k;
            kept += usize::from(self.squares[k as usize] <= square);
        }
        self.numbers.truncate(kept);
        &self.numbers
    }

    fn measure(&mut self, owner: u32) {
        let Self { search, origins, squares, from_origin, from_owner, .. } = self;
        let ds = search.panel.ds();
        let row = owner as usize * ds..(owner as usize + 1) * ds;
        let table = |from: &[f32], out: &mut [f32]| {
            search.kernels.table(from, &search.codewords, Metric::L2, out);
        };
        table(&origins[row.clone()], from_origin);
        table(&search.codewords[row], from_owner);
        // Each distance is off by less than this share of it, or by less than the least number,
        // which is in the error.
        let share = (ds + 4) as f64 * f64::from(f32::EPSILON);
        let moved = f64::from(from_origin[owner as usize]) * (1.0 + share) + 2.0 * search.error;
        for ((square, &from_origin), &apart) in
            squares.iter_mut().zip(&*from_origin).zip(&*from_owner)
        {
            let apart = f64::from(apart) * (1.0 + share) + f64::from(f32::MIN_POSITIVE);
            let surplus = (f64::from(from_origin) * (1.0 - share) - moved).max(0.0);
            *square = surplus * surplus / (4.0 * apart) * (1.0 - f64::from(f32::EPSILON));
        }
        self.owner = Some(owner);
        self.numbers.clear();
        self.numbers.extend(0..self.squares.len() as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::LegacyRandom;

    /// Labels and distances are those of a plain search, bit for bit, however the rows were arranged
    /// and wherever the codewords went since.
    #[test]
    fn arranging_changes_nothing() {
        let mut random = LegacyRandom::new(8);
        let (task, kernels) = (Task::new(), Kernels::active().unwrap());
        for (ds, ks, n) in
            [(1, 16, 2100), (4, 40, 9000), (5, 10, 6001), (8, 64, 8200), (12, 32, 4200)]
        {
            let real: Vec<f32> = (0..n * ds).map(|_| random.normal() as f32).collect();
            let coarse: Vec<f32> = real.iter().map(|x| x.round()).collect();
            let far: Vec<f32> = real.iter().map(|x| x + 4096.0).collect();
            let tiny: Vec<f32> = real.iter().map(|x| x * 1e-20).collect();
            for data in [real, coarse, far, tiny] {
                let vectors = Vectors::new(&data, ds).unwrap();
                let points = || Points::new(vectors, 0..ds, ks, kernels, &task).unwrap();
                let mut arranged = points();
                for step in 0..6 {
                    // Rows, of which some are equal: first near where they were, then elsewhere.
                    let from = if step < 4 { step % 2 * ds } else { step * ks * ds };
                    let mut codewords = data[from..][..ks * ds].to_vec();
                    codewords.copy_within(..4 * ds, 6 * ds);
                    let search = Search::new(&arranged, &codewords, kernels).unwrap();
                    let mut plain = points();
                    search.run(&mut plain, true, &task).unwrap();
                    search.run(&mut arranged, false, &task).unwrap();
                    let labels = arranged.labels().unwrap();
                    search.run(&mut arranged, true, &task).unwrap();
                    assert_eq!(labels, arranged.labels().unwrap());
                    let of = |points: &Points<'_>| {
                        let mut found = vec![0.0; n];
                        for (_, place) in points.labelled() {
                            found[points.number(place)] = points.distance(place);
                        }
                        (points.labels().unwrap(), found)
                    };
                    assert_eq!(of(&arranged), of(&plain), "ds {ds} ks {ks} step {step}");
                    if step % 2 == 0 {
                        arranged.arrange(&search, &task).unwrap();
                    }
                }
            }
        }
    }

    /// Sums and counts that are corrected are those of the labels.
    #[test]
    fn changes_add_up() {
        let mut random = LegacyRandom::new(9);
        let (task, kernels) = (Task::new(), Kernels::active().unwrap());
        let (ds, ks, n) = (4, 16, 5000);
        let data: Vec<f32> = (0..n * ds).map(|_| random.up_to(200) as f32).collect();
        let vectors = Vectors::new(&data, ds).unwrap();
        let mut points = Points::new(vectors, 0..ds, ks, kernels, &task).unwrap();
        let (mut sums, mut counts) = (vec![0.0; ks * ds], vec![0; ks]);
        for step in 0..4 {
            let search = Search::new(&points, &data[step * 7 * ds..][..ks * ds], kernels).unwrap();
            for change in search.run(&mut points, true, &task).unwrap() {
                sums.iter_mut().zip(change.sums).for_each(|(sum, more)| *sum += more);
                counts.iter_mut().zip(change.counts).for_each(|(count, more)| *count += more);
            }
            let (mut wanted, mut rows) = (vec![0.0; ks * ds], vec![0; ks]);
            for (row, label) in points.labels().unwrap().into_iter().enumerate() {
                rows[label as usize] += 1;
                for d in 0..ds {
                    wanted[label as usize * ds + d] += f64::from(data[row * ds + d]);
                }
            }
            assert_eq!((&sums, &counts), (&wanted, &rows), "step {step}");
            let distances = points.labelled().map(|(_, place)| f64::from(points.distance(place)));
            assert_eq!(points.loss(&search, &sums, &counts), distances.sum::<f64>());
            points.arrange(&search, &task).unwrap();
        }
    }
}
