//! Product quantization (Jegou, Douze, Schmid: "Product quantization for nearest neighbor search",
//! IEEE TPAMI 2011): a vector is cut into m sub-vectors, and each is replaced by the number of the
//! nearest of ks codewords.

use crate::codes::{Code, Codes, check_shape, with_codes, with_width};
use crate::error::{Error, Result, collected, copied, filled, size};
use crate::kernels::{ANY, Kernels, Nearest, Panel, TILE, Tile, centre, shares};
use crate::kmeans::{self, Clusters, Last};
use crate::linalg::{Rotation, block_rows};
use crate::metric::Metric;
use crate::seeding::{self, Init};
use crate::table::DistanceTable;
use crate::threads::{self, Task};
use crate::tiles::Points;
use crate::vectors::{Vectors, all_finite, all_within, codeword_limit, vector_limit};

/// How a [`Pq`] is trained. The defaults are nanopq's.
///
/// ```
/// let options = picopq::PqOptions { ks: 16, seed: 7, ..picopq::PqOptions::new(8) };
/// assert_eq!((options.m, options.ks, options.iterations), (8, 16, 20));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PqOptions {
    /// Sub-spaces; the dimension must be a multiple. A code has `m` integers.
    pub m: usize,
    /// Codewords of each sub-space, 1 to 2^32; 256 makes a code of `m` bytes.
    pub ks: usize,
    /// How queries are compared with codes.
    pub metric: Metric,
    /// Lloyd steps, at least 1. Steps end early at a fixed point; data that leave clusters empty
    /// get as many again for their repair.
    pub iterations: usize,
    /// Seed of the initial codewords.
    pub seed: u32,
    /// Where the initial codewords come from.
    pub init: Init,
    /// Train even if there are no more rows than codewords.
    pub allow_few_rows: bool,
    /// Train on at most this many rows, evenly spaced; `None` for all.
    pub max_rows: Option<usize>,
}

impl PqOptions {
    /// 256 codewords in each of `m` sub-spaces, L2, 20 iterations, seed 123, initial codewords
    /// from the rows.
    #[must_use]
    pub fn new(m: usize) -> Self {
        Self {
            m,
            ks: 256,
            metric: Metric::L2,
            iterations: 20,
            seed: 123,
            init: Init::Points,
            allow_few_rows: false,
            max_rows: None,
        }
    }

    /// The rows to train on: `vectors`, or those that `max_rows` leaves, copied to `sample`.
    pub(crate) fn rows<'a>(
        &self,
        vectors: Vectors<'a>,
        sample: &'a mut Vec<f32>,
    ) -> Result<Vectors<'a>> {
        match self.max_rows.filter(|&most| most < vectors.len()) {
            None => Ok(vectors),
            Some(most) => {
                *sample = vectors.spread(most)?;
                Vectors::new(sample, vectors.dim())
            }
        }
    }

    /// Checks the options against `n` rows of `dim` values; returns the sub-space dimension.
    pub(crate) fn check(&self, n: usize, dim: usize) -> Result<usize> {
        let ds = sub_dimension(dim, self.m)?;
        check_ks(self.ks)?;
        if self.iterations == 0 {
            return Err(Error::OutOfRange { argument: "iterations", got: 0, wanted: "at least 1" });
        }
        let n = self.max_rows.map_or(n, |most| most.min(n));
        if n == 0 || (n <= self.ks && !self.allow_few_rows) {
            return Err(Error::TooFewRows { rows: n, ks: self.ks });
        }
        let expected = size(&[self.ks, dim], "the codewords")?;
        if let Init::Codewords(given) = &self.init {
            if given.len() != expected {
                return Err(Error::InitialCodewords { expected, got: given.len() });
            }
            Vectors::new(given, ds)?.check("init", codeword_limit(ds), &Task::new())?;
        }
        Ok(ds)
    }
}

/// What a training saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Training {
    /// Mean squared error of a vector (the squared distance to its reconstruction) at each step,
    /// before the codewords move.
    pub losses: Vec<f64>,
    /// Codewords of all sub-spaces that no row needs: there are fewer distinct rows than `ks`.
    pub empty_clusters: usize,
}

/// Borrowed codewords, shape `(m, ks, ds)`, with what they can do.
#[derive(Clone, Copy, Debug)]
pub struct Codebook<'a> {
    codewords: &'a [f32], // (m, ks, ds)
    m: usize,
    ks: usize,
    ds: usize,
}

impl<'a> Codebook<'a> {
    /// Views `codewords` as `(m, ks, ds)`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if a size is 0 or `ks` above 2^32, [`Error::LengthMismatch`],
    /// [`Error::SizeOverflow`].
    pub fn new(codewords: &'a [f32], m: usize, ks: usize, ds: usize) -> Result<Self> {
        if ds == 0 {
            return Err(Error::OutOfRange { argument: "ds", got: 0, wanted: "at least 1" });
        }
        check_ks(ks)?;
        let expected = size(&[m, ks, ds], "the codewords")?;
        if m == 0 {
            return Err(Error::OutOfRange { argument: "m", got: 0, wanted: "at least 1" });
        }
        if codewords.len() != expected {
            let got = codewords.len();
            return Err(Error::LengthMismatch { argument: "codewords", expected, got });
        }
        Ok(Self { codewords, m, ks, ds })
    }

    /// Sub-spaces.
    #[must_use]
    pub fn m(&self) -> usize {
        self.m
    }

    /// Codewords of a sub-space.
    #[must_use]
    pub fn ks(&self) -> usize {
        self.ks
    }

    /// Dimension of a sub-space.
    #[must_use]
    pub fn ds(&self) -> usize {
        self.ds
    }

    /// Dimension of the vectors, `m * ds`.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.m * self.ds
    }

    /// All codewords, shape `(m, ks, ds)`.
    #[must_use]
    pub fn codewords(&self) -> &'a [f32] {
        self.codewords
    }

    pub(crate) fn sub_space(&self, m: usize) -> &'a [f32] {
        let values = self.ks * self.ds;
        &self.codewords[m * values..][..values]
    }

    /// Writes the code of each vector, shape `(n, m)`: the nearest codeword of each sub-space in
    /// Euclidean distance, ties to the lowest index. With a rotation the vectors are rotated
    /// first. Cost: n ks dim multiply-adds (and n dim^2 for the rotation); scratch does not grow
    /// with n.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::LengthMismatch`] for `codes`, [`Error::OutOfRange`]
    /// if `T` is too narrow for `ks`, [`Error::NonFinite`] or [`Error::TooLarge`] for a value,
    /// [`Error::NotOrthogonal`], [`Error::Cancelled`]. After an error the contents of `codes` are unspecified.
    pub fn encode_into<T: Code>(
        &self,
        rotation: Option<Rotation<'_>>,
        vectors: Vectors<'_>,
        codes: &mut [T],
        task: &Task,
    ) -> Result<()> {
        self.check_dim("vectors", vectors.dim())?;
        self.check_rotation(rotation)?;
        check_shape::<T>(codes.len(), self.m, self.ks)?;
        if codes.len() / self.m != vectors.len() {
            let (expected, got) = (vectors.len() * self.m, codes.len());
            return Err(Error::LengthMismatch { argument: "codes", expected, got });
        }
        task.begin(vectors.len() as u64);
        Encoder::new(*self, rotation, task)?.encode(vectors, codes, task)
    }

    /// Writes the codewords that the codes name, shape `(n, dim)`; with a rotation, rotated back.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::LengthMismatch`], [`Error::CodeOutOfRange`],
    /// [`Error::Cancelled`]. After an error the contents of `vectors` are unspecified.
    pub fn decode_into(
        &self,
        rotation: Option<Rotation<'_>>,
        codes: &Codes<'_>,
        vectors: &mut [f32],
        task: &Task,
    ) -> Result<()> {
        if codes.m() != self.m {
            let (expected, got) = (self.m, codes.m());
            return Err(Error::DimensionMismatch { argument: "codes", expected, got });
        }
        self.check_rotation(rotation)?;
        let expected = size(&[codes.len(), self.dim()], "the decoded vectors")?;
        if vectors.len() != expected {
            let got = vectors.len();
            return Err(Error::LengthMismatch { argument: "vectors", expected, got });
        }
        task.begin(codes.len() as u64);
        with_codes!(codes, |codes| self.decode_slice(rotation, codes, vectors, task))
    }

    fn decode_slice<T: Code>(
        &self,
        rotation: Option<Rotation<'_>>,
        codes: &[T],
        vectors: &mut [f32],
        task: &Task,
    ) -> Result<()> {
        let (m, dim) = (self.m, self.dim());
        let block_rows = block_rows(dim);
        let chunks = codes.chunks(block_rows * m).zip(vectors.chunks_mut(block_rows * dim));
        threads::map(task, chunks.enumerate().collect(), |(chunk, (codes, out))| {
            self.decode_block(rotation, codes, out, chunk * block_rows)?;
            task.advance((codes.len() / m) as u64);
            Ok(())
        })?;
        Ok(())
    }

    /// One block of rows on this thread; `first_row` is for the error.
    pub(crate) fn decode_block<T: Code>(
        &self,
        rotation: Option<Rotation<'_>>,
        codes: &[T],
        out: &mut [f32],
        first_row: usize,
    ) -> Result<()> {
        let Some(rotation) = rotation else { return self.decode_rows(codes, out, first_row) };
        let mut rotated = filled(out.len(), 0.0, "the rotated vectors")?;
        self.decode_rows(codes, &mut rotated, first_row)?;
        rotation.undo_rows(&rotated, out);
        Ok(())
    }

    fn decode_rows<T: Code>(&self, codes: &[T], out: &mut [f32], first_row: usize) -> Result<()> {
        match self.ds {
            4 => self.copy_rows::<T, 4>(codes, out, first_row),
            8 => self.copy_rows::<T, 8>(codes, out, first_row),
            16 => self.copy_rows::<T, 16>(codes, out, first_row),
            _ => self.copy_rows::<T, ANY>(codes, out, first_row),
        }
    }

    /// Codewords of a known dimension `DS` are copied by a few moves.
    fn copy_rows<T: Code, const DS: usize>(
        &self,
        codes: &[T],
        out: &mut [f32],
        first_row: usize,
    ) -> Result<()> {
        let ds = if DS == ANY { self.ds } else { DS };
        let rows = codes.chunks_exact(self.m).zip(out.chunks_exact_mut(self.m * ds));
        for (row, (codes, out)) in rows.enumerate() {
            let books = self.codewords.chunks_exact(self.ks * ds);
            for (m, ((&code, book), out)) in
                codes.iter().zip(books).zip(out.chunks_exact_mut(ds)).enumerate()
            {
                let Some(codeword) = book.chunks_exact(ds).nth(code.index()) else {
                    let (code, row) = (code.index() as u64, first_row + row);
                    return Err(Error::CodeOutOfRange { code, row, sub_space: m, ks: self.ks });
                };
                out.copy_from_slice(codeword);
            }
        }
        Ok(())
    }

    /// Writes the distance table of each query, shape `(nq, m, ks)`: squared L2 distances, or dot
    /// products, of its sub-vectors and the codewords. With a rotation the queries are rotated
    /// first. Cost: nq ks dim multiply-adds.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::LengthMismatch`] for `out`, [`Error::NonFinite`] or
    /// [`Error::TooLarge`] for a value of a query, [`Error::NonFinite`] for an entry of a table,
    /// [`Error::Cancelled`].
    pub fn tables_into(
        &self,
        rotation: Option<Rotation<'_>>,
        queries: Vectors<'_>,
        metric: Metric,
        out: &mut [f32],
        task: &Task,
    ) -> Result<()> {
        self.check_dim("query", queries.dim())?;
        self.check_rotation(rotation)?;
        let entries = self.m * self.ks;
        let expected = size(&[queries.len(), entries], "the distance tables")?;
        if out.len() != expected {
            return Err(Error::LengthMismatch { argument: "dtable", expected, got: out.len() });
        }
        let (dim, kernels) = (self.dim(), Kernels::active()?);
        let blocks = queries.as_slice().chunks(TABLE_QUERIES * dim);
        let blocks = blocks.zip(out.chunks_mut(TABLE_QUERIES * entries)).collect();
        let good = threads::map(task, blocks, |(queries, out): (&[f32], &mut [f32])| {
            if !all_within(queries, vector_limit(dim)) {
                return Ok(false);
            }
            let rotated = match rotation {
                None => Vec::new(),
                Some(rotation) => {
                    let mut rotated = filled(queries.len(), 0.0, "the rotated queries")?;
                    rotation.apply_rows(queries, &mut rotated);
                    rotated
                }
            };
            let queries = if rotation.is_some() { &rotated } else { queries };
            for (query, out) in queries.chunks_exact(dim).zip(out.chunks_exact_mut(entries)) {
                self.table_of(query, metric, kernels, out);
            }
            if all_finite(out) {
                return Ok(true);
            }
            if all_finite(self.codewords) {
                return Err(Vectors::new(out, self.ks)?.fault("dtable", f32::MAX));
            }
            Err(Vectors::new(self.codewords, self.ds)?.fault("codewords", f32::MAX))
        })?;
        if good.into_iter().all(|good| good) {
            Ok(())
        } else {
            Err(queries.fault("query", vector_limit(dim)))
        }
    }

    fn table_of(&self, query: &[f32], metric: Metric, kernels: Kernels, out: &mut [f32]) {
        let rows = out.chunks_exact_mut(self.ks).zip(query.chunks_exact(self.ds));
        for (m, (row, query)) in rows.enumerate() {
            kernels.table(query, self.sub_space(m), metric, row);
        }
    }

    pub(crate) fn check_rotation(&self, rotation: Option<Rotation<'_>>) -> Result<()> {
        rotation.map_or(Ok(()), |rotation| self.check_dim("rotation", rotation.dim()))
    }

    pub(crate) fn check_dim(&self, argument: &'static str, got: usize) -> Result<()> {
        if got == self.dim() {
            return Ok(());
        }
        Err(Error::DimensionMismatch { argument, expected: self.dim(), got })
    }
}

/// Queries whose tables one task makes.
const TABLE_QUERIES: usize = 32;

/// Multiply-adds that one task of an encoding does, about a millisecond's worth.
const CHUNK_WORK: usize = 1 << 25;
/// Rows that stay in the cache while the sub-spaces take their turns, and the next are fetched.
const ENCODE_ROWS: usize = 2 * TILE;

/// Codewords laid out for the kernels, for one call.
pub(crate) struct Encoder<'a> {
    panels: Vec<Panel>, // (m,)
    book: Codebook<'a>,
    rotation: Option<Rotation<'a>>,
    kernels: Kernels,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(
        book: Codebook<'a>,
        rotation: Option<Rotation<'a>>,
        task: &Task,
    ) -> Result<Self> {
        let limit = codeword_limit(book.ds);
        Vectors::new(book.codewords, book.ds)?.check("codewords", limit, task)?;
        let kernels = Kernels::active()?;
        let panel = |m| {
            let codewords = book.sub_space(m);
            Panel::new(codewords, centre(codewords, book.ds, 0..book.ds)?)
        };
        let panels = threads::map(task, (0..book.m).collect(), panel)?;
        Ok(Self { panels, book, rotation, kernels })
    }

    /// Rows of one task: whole tiles, of which a cheap code takes more.
    pub(crate) fn chunk_rows(&self) -> usize {
        let work = self.book.ks * self.book.dim();
        (CHUNK_WORK / work).clamp(TILE, 64 * ENCODE_ROWS) / TILE * TILE
    }

    /// Encodes rows of the book's dimension, all at once on all threads.
    pub(crate) fn encode<T: Code>(
        &self,
        vectors: Vectors<'_>,
        codes: &mut [T],
        task: &Task,
    ) -> Result<()> {
        let (rows, dim) = (self.chunk_rows(), self.book.dim());
        let chunks =
            vectors.as_slice().chunks(rows * dim).zip(codes.chunks_mut(rows * self.book.m));
        let good = threads::map(task, chunks.collect(), |(rows, codes)| {
            let good = self.run(rows, codes, task)?;
            task.advance((rows.len() / dim) as u64);
            Ok(good)
        })?;
        if good.into_iter().all(|good| good) {
            Ok(())
        } else {
            Err(vectors.fault("vectors", vector_limit(dim)))
        }
    }

    /// Encodes a chunk of rows; `false` if it met a value that is not allowed.
    pub(crate) fn run<T: Code>(&self, rows: &[f32], codes: &mut [T], task: &Task) -> Result<bool> {
        let (m, dim) = (self.book.m, self.book.dim());
        let mut space = Space {
            tile: Tile::new(self.book.ds)?,
            found: Nearest::new(),
            rotated: match self.rotation {
                Some(_) => filled(rows.len().min(ENCODE_ROWS * dim), 0.0, "the rotated vectors")?,
                None => Vec::new(),
            },
        };
        let (mut rows, mut codes, mut next) = (rows, codes, first_block(rows, dim));
        // No block fetches the first: it comes faster from end to end than tile by tile.
        if !all_within(next, vector_limit(dim)) {
            return Ok(false);
        }
        while !next.is_empty() {
            let block = next;
            rows = &rows[block.len()..];
            next = first_block(rows, dim);
            let (out, others) = codes.split_at_mut(block.len() / dim * m);
            if !self.run_block(block, next, out, &mut space, task)? {
                return Ok(false);
            }
            codes = others;
        }
        Ok(true)
    }

    /// Encodes a block of rows, while the processor fetches the values `ahead`.
    fn run_block<T: Code>(
        &self,
        rows: &[f32],
        ahead: &[f32],
        codes: &mut [T],
        space: &mut Space,
        task: &Task,
    ) -> Result<bool> {
        let (m, dim) = (self.book.m, self.book.dim());
        let Space { tile, found, rotated } = space;
        let limit = vector_limit(dim);
        let mut checked = self.rotation.is_some();
        if checked && !all_within(rows, limit) {
            return Ok(false);
        }
        let rows = match self.rotation {
            None => rows,
            Some(rotation) => {
                let rotated = &mut rotated[..rows.len()];
                rotation.apply_rows(rows, rotated);
                if !all_within(rotated, codeword_limit(self.book.ds)) {
                    return Err(Error::NotOrthogonal);
                }
                rotated
            }
        };
        let mut ahead = shares(ahead, m * rows.len().div_ceil(TILE * dim));
        for (sub_space, panel) in self.panels.iter().enumerate() {
            let short = short(panel.centre(), limit);
            for (of_tile, codes) in rows.chunks(TILE * dim).zip(codes.chunks_mut(TILE * m)) {
                task.check()?;
                let columns = &of_tile[sub_space * panel.ds()..];
                tile.load(self.kernels, columns, dim, panel.centre());
                if !checked && !tile.is_within(short) {
                    if !all_within(rows, limit) {
                        return Ok(false);
                    }
                    checked = true;
                }
                let ahead = ahead.next().unwrap_or_default();
                self.kernels.codes(panel, tile.view(ahead), found);
                for (row, &code) in codes.chunks_exact_mut(m).zip(&found.codes) {
                    row[sub_space] = T::from_index(code);
                }
            }
        }
        Ok(true)
    }
}

/// What a thread encodes with.
struct Space {
    tile: Tile,
    found: Nearest,
    rotated: Vec<f32>, // (rows, dim)
}

fn first_block(rows: &[f32], dim: usize) -> &[f32] {
    &rows[..rows.len().min(ENCODE_ROWS * dim)]
}

/// A row of a sub-space whose squared length, less `centre`, is at most this has no value beyond
/// `limit`.
fn short(centre: &[f32], limit: f32) -> f32 {
    let most = centre.iter().fold(0.0, |most: f32, c| most.max(c.abs()));
    // Half of it leaves room for rounding. No square is below a negative number.
    let room = (limit - most) / 2.0;
    room * room.abs()
}

/// A trained product quantizer that owns its codewords.
#[derive(Clone, Debug, PartialEq)]
pub struct Pq {
    codewords: Vec<f32>, // (m, ks, ds)
    m: usize,
    ks: usize,
    ds: usize,
    metric: Metric,
}

impl Pq {
    /// Trains the codewords: k-means in each sub-space, all sub-spaces in parallel. The same seed
    /// starts from the rows that nanopq starts from. Cost: n ks dim multiply-adds for the first
    /// iteration, and at most as many for each other one; memory: at most twice the vectors' own
    /// from ds = 4 on, and (1 + 3 / ds) times them below.
    ///
    /// # Errors
    /// [`Error::NotDivisible`], [`Error::OutOfRange`], [`Error::TooFewRows`],
    /// [`Error::InitialCodewords`], [`Error::NonFinite`], [`Error::TooLarge`],
    /// [`Error::OutOfMemory`], [`Error::Cancelled`].
    ///
    /// ```
    /// use picopq::{Pq, PqOptions, Task, Vectors};
    /// let data: Vec<f32> = (0..4000).map(|i| (i * i % 97) as f32).collect();
    /// let vectors = Vectors::new(&data, 8)?;
    /// let options = PqOptions { ks: 16, ..PqOptions::new(4) };
    /// let (pq, training) = Pq::train(vectors, &options, &Task::new())?;
    /// assert_eq!(pq.encode(vectors)?.len(), 500);
    /// assert!(training.losses.last() < training.losses.first());
    /// # Ok::<(), picopq::Error>(())
    /// ```
    pub fn train(
        vectors: Vectors<'_>,
        options: &PqOptions,
        task: &Task,
    ) -> Result<(Self, Training)> {
        let ds = options.check(vectors.len(), vectors.dim())?;
        vectors.check("vectors", vector_limit(vectors.dim()), task)?;
        let mut sample = Vec::new();
        let vectors = options.rows(vectors, &mut sample)?;
        let kernels = Kernels::active()?;
        task.begin(options.m.saturating_mul(options.iterations) as u64);
        let shape = (options.m, options.ks, ds);
        let draws = seeding::draw(&options.init, options.seed, vectors.len(), shape, task)?;
        let clusters =
            threads::map(task, draws.into_iter().enumerate().collect(), |(m, draws)| {
                let columns = m * ds..(m + 1) * ds;
                let start = draws.codewords(vectors, columns.clone(), options.ks, task)?;
                let points = Points::new(vectors, columns, options.ks, kernels, task)?;
                kmeans::train(points, start, options.iterations, Last::Update, kernels, task)
            })?;
        let training = summarize(&clusters, vectors.len());
        let (m, ks) = (options.m, options.ks);
        Ok((Self { codewords: concat(&clusters)?, m, ks, ds, metric: options.metric }, training))
    }

    /// A quantizer of given codewords, shape `(m, ks, ds)`.
    ///
    /// # Errors
    /// As [`Codebook::new`]; [`Error::NonFinite`] or [`Error::TooLarge`] for a codeword.
    pub fn from_codewords(
        codewords: Vec<f32>,
        m: usize,
        ks: usize,
        ds: usize,
        metric: Metric,
    ) -> Result<Self> {
        Codebook::new(&codewords, m, ks, ds)?;
        Vectors::new(&codewords, ds)?.check("codewords", codeword_limit(ds), &Task::new())?;
        Ok(Self { codewords, m, ks, ds, metric })
    }

    /// A copy, or [`Error::OutOfMemory`].
    pub(crate) fn copy(&self) -> Result<Self> {
        Ok(Self { codewords: copied(&self.codewords, "the codewords")?, ..*self })
    }

    /// The codewords.
    #[must_use]
    pub fn codebook(&self) -> Codebook<'_> {
        Codebook { codewords: &self.codewords, m: self.m, ks: self.ks, ds: self.ds }
    }

    /// The codewords, shape `(m, ks, ds)`.
    #[must_use]
    pub fn into_codewords(self) -> Vec<f32> {
        self.codewords
    }

    /// How queries are compared with codes.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The codes of the vectors, shape `(n, m)`; see [`Codebook::encode_into`].
    ///
    /// # Errors
    /// As [`Codebook::encode_into`].
    pub fn encode(&self, vectors: Vectors<'_>) -> Result<Codes<'static>> {
        encode(self.codebook(), None, vectors, &Task::new())
    }

    /// The vectors that the codes stand for, shape `(n, dim)`.
    ///
    /// # Errors
    /// As [`Codebook::decode_into`].
    pub fn decode(&self, codes: &Codes<'_>) -> Result<Vec<f32>> {
        decode(self.codebook(), None, codes)
    }

    /// The distance table of a query; see [`Codebook::tables_into`].
    ///
    /// # Errors
    /// As [`Codebook::tables_into`].
    pub fn table(&self, query: &[f32]) -> Result<DistanceTable<'static>> {
        table(self.codebook(), None, query, self.metric)
    }
}

pub(crate) fn encode(
    book: Codebook<'_>,
    rotation: Option<Rotation<'_>>,
    vectors: Vectors<'_>,
    task: &Task,
) -> Result<Codes<'static>> {
    fn typed<T: Code>(
        book: Codebook<'_>,
        rotation: Option<Rotation<'_>>,
        vectors: Vectors<'_>,
        task: &Task,
    ) -> Result<Codes<'static>> {
        let len = size(&[vectors.len(), book.m], "the codes")?;
        let mut codes = filled(len, T::default(), "the codes")?;
        book.encode_into(rotation, vectors, &mut codes, task)?;
        Codes::new(codes, book.m, book.ks)
    }
    with_width!(book.ks, T, typed::<T>(book, rotation, vectors, task))
}

pub(crate) fn decode(
    book: Codebook<'_>,
    rotation: Option<Rotation<'_>>,
    codes: &Codes<'_>,
) -> Result<Vec<f32>> {
    let len = size(&[codes.len(), book.dim()], "the decoded vectors")?;
    let mut vectors = filled(len, 0.0, "the decoded vectors")?;
    book.decode_into(rotation, codes, &mut vectors, &Task::new())?;
    Ok(vectors)
}

pub(crate) fn table(
    book: Codebook<'_>,
    rotation: Option<Rotation<'_>>,
    query: &[f32],
    metric: Metric,
) -> Result<DistanceTable<'static>> {
    let mut values = filled(book.m * book.ks, 0.0, "the distance table")?;
    book.check_dim("query", query.len())?;
    let query = Vectors::new(query, query.len())?;
    book.tables_into(rotation, query, metric, &mut values, &Task::new())?;
    DistanceTable::new(values, book.m, metric)
}

/// The codewords of all sub-spaces, shape `(m, ks, ds)`.
pub(crate) fn concat(clusters: &[Clusters]) -> Result<Vec<f32>> {
    let all = clusters.iter().flat_map(|clusters| &clusters.codewords).copied();
    let len = clusters.iter().map(|clusters| clusters.codewords.len()).sum();
    collected(all, len, "the codewords")
}

/// Adds up what the sub-spaces report; one that ended early keeps its last loss.
pub(crate) fn summarize(clusters: &[Clusters], n: usize) -> Training {
    let steps = clusters.iter().map(|clusters| clusters.losses.len()).max().unwrap_or(0);
    let at = |step: usize, clusters: &Clusters| {
        clusters.losses.get(step).or(clusters.losses.last()).copied().unwrap_or(0.0)
    };
    let loss = |step| clusters.iter().map(|clusters| at(step, clusters)).sum::<f64>() / n as f64;
    Training {
        losses: (0..steps).map(loss).collect(),
        empty_clusters: clusters.iter().map(|clusters| clusters.empty).sum(),
    }
}

/// `dim / m`, or an error that names the divisors of `dim` on either side of `m`.
fn sub_dimension(dim: usize, m: usize) -> Result<usize> {
    if m == 0 || dim == 0 {
        let argument = if m == 0 { "m" } else { "dim" };
        return Err(Error::OutOfRange { argument, got: 0, wanted: "at least 1" });
    }
    if dim.is_multiple_of(m) {
        return Ok(dim / m);
    }
    let below = (1..=dim.min(m - 1)).rev().find(|&divisor| dim.is_multiple_of(divisor));
    let above = (m + 1..=dim).find(|&divisor| dim.is_multiple_of(divisor));
    let nearest = below.into_iter().chain(above).collect();
    Err(Error::NotDivisible { dim, m, nearest })
}

fn check_ks(ks: usize) -> Result<()> {
    if (1..=u32::MAX_KS).contains(&ks) {
        return Ok(());
    }
    Err(Error::OutOfRange { argument: "ks", got: ks as u64, wanted: "1 to 2^32" })
}
