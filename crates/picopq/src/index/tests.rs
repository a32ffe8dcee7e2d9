//! The index against plain sums and a stable sort, over random shapes and awkward ones.

use proptest::prelude::*;

use super::*;
use crate::metric::Metric;
use crate::pq::Pq;
use crate::random::LegacyRandom;
use crate::table::DistanceTable;

/// A model whose codewords are drawn as `values` says, and codes that favour low numbers.
struct Case {
    index: Index,
    codes: Vec<u32>, // (n, m)
    ids: Vec<i64>,
    queries: Vec<f32>, // (nq, m)
    m: usize,
    ks: usize,
    metric: Metric,
}

/// How codewords and queries are drawn.
#[derive(Clone, Copy, Debug)]
enum Values {
    Normal,
    /// Few values, so that distances tie.
    Small,
    Equal,
    /// One codeword is far from all else.
    Huge,
    /// Subnormal squares.
    Tiny,
}

const VALUES: [Values; 5] =
    [Values::Normal, Values::Small, Values::Equal, Values::Huge, Values::Tiny];

impl Values {
    fn draw(self, random: &mut LegacyRandom, len: usize) -> Vec<f32> {
        let mut values: Vec<f32> = (0..len)
            .map(|_| match self {
                Self::Normal | Self::Huge => random.normal() as f32,
                Self::Small => random.up_to(2) as f32,
                Self::Equal => 1.5,
                Self::Tiny => random.normal() as f32 * 1e-21,
            })
            .collect();
        if matches!(self, Self::Huge) {
            values[len / 2] = 1e15;
        }
        values
    }
}

fn case(
    (m, ks, n, nq): (usize, usize, usize, usize),
    metric: Metric,
    values: Values,
    explicit_ids: bool,
    seed: u32,
) -> Case {
    let mut random = LegacyRandom::new(seed);
    let codewords = values.draw(&mut random, m * ks);
    let queries = values.draw(&mut random, nq * m).iter().map(|value| value.min(1e3)).collect();
    let pq = Pq::from_codewords(codewords, m, ks, 1, metric).unwrap();
    // Either layout of bytes, whatever the processor prefers.
    let layout = match (ks, seed % 2) {
        (17..=256, 0) => Layout::Columns,
        (17..=256, _) => Layout::Grouped(groups::Groups::new(pq.codebook()).unwrap()),
        _ => Layout::new(pq.codebook(), Kernels::active().unwrap()).unwrap(),
    };
    let index = Index::with_layout(pq.into(), layout);
    let codes: Vec<u32> = (0..n * m).map(|_| random.up_to(ks as u64 - 1) as u32).collect();
    let ids: Vec<i64> = if explicit_ids {
        (0..n as i64).map(|row| (row * 7919 + 13) % (8 * n as i64 + 1)).collect()
    } else {
        (0..n as i64).collect()
    };
    let mut case = Case { index, codes, ids, queries, m, ks, metric };
    if explicit_ids {
        // The multiplier may meet the modulus.
        let mut seen = std::collections::HashSet::new();
        let fresh: Vec<bool> = case.ids.iter().map(|id| seen.insert(*id)).collect();
        let kept = |row: &usize| fresh[*row];
        let codes = (0..n).filter(kept).flat_map(|row| case.codes[row * m..][..m].to_vec());
        case.codes = codes.collect();
        case.ids.retain({
            let mut fresh = fresh.iter();
            move |_| *fresh.next().unwrap()
        });
    }
    // Two additions, so that segments are joined.
    let split = case.ids.len() / 3;
    for rows in [0..split, split..case.ids.len()] {
        let codes = Codes::new(&case.codes[rows.start * m..rows.end * m], m, ks).unwrap();
        let ids = explicit_ids.then_some(&case.ids[rows]);
        case.index.add_codes(&codes, ids, &Task::new()).unwrap();
    }
    case
}

impl Case {
    /// Every row that passes, best first.
    fn plain(&self, query: usize, passes: impl Fn(usize) -> bool) -> Vec<Neighbor> {
        let query = Vectors::new(&self.queries[query * self.m..][..self.m], self.m).unwrap();
        let mut table = vec![0.0; self.m * self.ks];
        let (book, task) = (self.index.quantizer().codebook(), Task::new());
        book.tables_into(None, query, self.metric, &mut table, &task).unwrap();
        let codes = Codes::new(&self.codes[..], self.m, self.ks).unwrap();
        let table = DistanceTable::new(table, self.m, self.metric).unwrap();
        let mut found: Vec<Neighbor> = table
            .adist(&codes)
            .unwrap()
            .into_iter()
            .enumerate()
            .filter(|(row, _)| passes(*row))
            .map(|(row, distance)| Neighbor { distance, id: self.ids[row] })
            .collect();
        let sign = self.metric.sign();
        found.sort_by(|a, b| {
            (sign * a.distance + 0.0).total_cmp(&(sign * b.distance + 0.0)).then(a.id.cmp(&b.id))
        });
        found
    }

    fn check(&self, k: usize, filter: Filter<'_>, passes: impl Fn(usize) -> bool) {
        let queries = Vectors::new(&self.queries, self.m).unwrap();
        let found = self.index.search(queries, k, filter, &Task::new()).unwrap();
        assert_eq!(found.len(), queries.len());
        for (query, found) in found.iter().enumerate() {
            let plain = self.plain(query, &passes);
            let shape = (self.m, self.ks, self.ids.len());
            assert_eq!(found, &plain[..k.min(plain.len())], "query {query} k {k} {shape:?}");
        }
        // A radius that ties with an answer.
        let plain = self.plain(0, &passes);
        if let Some(at) = plain.get(k.min(plain.len().saturating_sub(1))) {
            let query = Vectors::new(&self.queries[..self.m], self.m).unwrap();
            let found = self.index.range_search(query, at.distance, filter, &Task::new()).unwrap();
            let sign = self.metric.sign();
            let within =
                plain.iter().take_while(|found| sign * found.distance <= sign * at.distance);
            assert_eq!(found[0], within.copied().collect::<Vec<_>>());
        }
    }
}

fn shapes() -> impl Strategy<Value = (usize, usize, usize, usize)> {
    let m = prop_oneof![4 => 1..40_usize, 1 => 40..=600_usize];
    let ks =
        prop_oneof![2 => Just(16_usize), 2 => Just(256), 2 => 2..=256_usize, 1 => 257..400_usize];
    let n = prop_oneof![
        1 => 0..70_usize,
        2 => 0..=5000_usize,
        1 => (0..157_usize, 0..3_usize).prop_map(|(blocks, over)| 32 * blocks + over),
    ];
    (m, ks, n, prop_oneof![Just(1_usize), Just(2), Just(3), Just(9)])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn a_search_answers_as_the_plain_scan_does(
        shape in shapes(),
        dot in any::<bool>(),
        values in proptest::sample::select(&VALUES[..]),
        explicit in any::<bool>(),
        k in prop_oneof![3 => 0..120_usize, 1 => 0..5006_usize],
        keep in prop_oneof![Just(1_u64), Just(2), Just(40), Just(3000)],
        seed in any::<u32>(),
    ) {
        let metric = if dot { Metric::Dot } else { Metric::L2 };
        let case = case(shape, metric, values, explicit, seed);
        let k = k.min(case.ids.len() + 5);
        case.check(k, Filter::All, |_| true);
        let mut random = LegacyRandom::new(seed);
        let mask: Vec<bool> = case.ids.iter().map(|_| random.up_to(keep) == 0).collect();
        case.check(k, Filter::Mask(&mask), |row| mask[row]);
        let named = case.ids.iter().zip(&mask).filter(|(_, mask)| **mask).map(|(id, _)| *id);
        let named: Vec<i64> = named.chain([i64::MAX, -1]).rev().collect();
        case.check(k, Filter::Ids(&named), |row| mask[row]);
    }
}

/// Enough rows for interleaved tables, for more than one segment and for limits that fall.
#[test]
fn large_searches_answer_as_the_plain_scan_does() {
    for (shape, metric) in [
        ((8, 256, 70_001, 40), Metric::L2),
        ((8, 256, 140_001, 2), Metric::L2),
        ((5, 200, 66_000, 9), Metric::Dot),
        ((16, 16, 70_001, 3), Metric::L2),
        ((33, 256, 20_000, 33), Metric::L2),
        ((65, 256, 17_000, 8), Metric::L2),
        ((3, 300, 66_000, 2), Metric::Dot),
    ] {
        for values in [Values::Normal, Values::Small] {
            for seed in [4, 5] {
                let case = case(shape, metric, values, false, seed);
                let mask: Vec<bool> = (0..shape.2).map(|row| row % 3 == 1).collect();
                for k in [1, 10, 100] {
                    case.check(k, Filter::All, |_| true);
                    case.check(k, Filter::Mask(&mask), |row| mask[row]);
                }
            }
        }
    }
}

/// More sub-spaces than a tile has look-ups for a block of rows.
#[test]
fn many_sub_spaces_answer_as_the_plain_scan_does() {
    for ks in [2, 20] {
        let case =
            case((TILE_LOOKUPS / BLOCK + 1, ks, 300, 2), Metric::L2, Values::Normal, false, 3);
        case.check(10, Filter::All, |_| true);
    }
}

/// Each segment is a span of its own to a query that measures the most promising rows first.
#[test]
fn segments_one_after_another_answer_as_the_plain_scan_does() {
    for seed in [1, 3, 5, 7] {
        let mut case = case((8, 256, 5000, 4), Metric::L2, Values::Normal, false, seed);
        let mut random = LegacyRandom::new(seed);
        for rows in [2000, 900, 400] {
            let codes: Vec<u32> = (0..rows * 8).map(|_| random.up_to(255) as u32).collect();
            let added = Codes::new(&codes[..], 8, 256).unwrap();
            case.index.add_codes(&added, None, &Task::new()).unwrap();
            case.codes.extend(codes);
        }
        case.ids = (0..8300).collect();
        assert_eq!(case.index.rows.load().segments.len(), 5);
        for k in 1..32 {
            case.check(k, Filter::All, |_| true);
        }
    }
}

/// Rows are divided where queries alone would leave a thread with nothing to do.
#[test]
fn every_thread_gets_as_much_to_do() {
    for (ks, divided) in [
        (
            16,
            [(0, 2, (1, 1)), (1, 4, (1, 4)), (3, 2, (3, 2)), (100, 1, (25, 1)), (100, 2, (25, 1))],
        ),
        // A batch of interleaved tables is full. Three of them, and the screens of what is left over,
        // are not shared evenly by two threads.
        (
            20,
            [
                (1, 2, (1, 2)),
                (20, 2, (32, 2)),
                (64, 2, (32, 1)),
                (100, 2, (32, 2)),
                (20, 1000, (32, 61)),
            ],
        ),
    ] {
        let pq = Pq::from_codewords(vec![0.0; 8 * ks], 8, ks, 1, Metric::L2).unwrap();
        let layout = match ks {
            16 => Layout::Nibbles,
            _ => Layout::Grouped(groups::Groups::new(pq.codebook()).unwrap()),
        };
        let index = Index::with_layout(pq.into(), layout);
        for (nq, workers, wanted) in divided {
            let found = index.divide(nq, 1_000_000, 10, workers).unwrap();
            assert_eq!(found, wanted, "{nq} queries, {workers} threads, ks {ks}");
        }
        // Few rows do not pay for waking a thread, and a batch keeps few answers.
        assert_eq!(index.divide(1, 1000, 10, 4).unwrap(), (1, 1));
        assert_eq!(index.divide(64, 1 << 20, 1 << 19, 1).unwrap(), (2, 1));
    }
}

#[test]
fn rows_keep_their_ids_and_codes() {
    let case = case((3, 20, 700, 1), Metric::L2, Values::Normal, true, 9);
    let removed: Vec<i64> = case.ids.iter().copied().filter(|id| id % 5 == 0).collect();
    let with_unknown: Vec<i64> = removed.iter().copied().chain([i64::MAX]).collect();
    assert_eq!(case.index.remove(&with_unknown, &Task::new()).unwrap(), removed.len());
    let left: Vec<usize> = (0..case.ids.len()).filter(|&row| case.ids[row] % 5 != 0).collect();
    let ids: Vec<i64> = left.iter().map(|&row| case.ids[row]).collect();
    assert_eq!(case.index.ids().unwrap(), ids);
    assert_eq!(case.index.len(), ids.len());
    let codes: Vec<u32> =
        left.iter().flat_map(|&row| case.codes[row * 3..][..3].to_vec()).collect();
    let stored = case.index.codes().unwrap();
    let mut wide: Vec<u32> = Vec::new();
    extend(&mut wide, &stored);
    assert_eq!(wide, codes);
    let some = [ids[3], ids[1], ids[3]];
    let book = case.index.quantizer().codebook();
    let wanted: Vec<f32> = [left[3], left[1], left[3]]
        .iter()
        .flat_map(|&row| (0..3).map(move |m| (m, row)))
        .map(|(m, row)| book.codewords()[m * 20 + case.codes[row * 3 + m] as usize])
        .collect();
    assert_eq!(case.index.reconstruct(&some, &Task::new()).unwrap(), wanted);
    let unknown = case.index.reconstruct(&[ids[0], removed[0]], &Task::new()).unwrap_err();
    assert_eq!(unknown, Error::UnknownId { id: removed[0] });
    let (blocks_ids, blocks): (Vec<_>, Vec<_>) = case.index.blocks().map(Result::unwrap).unzip();
    assert_eq!(blocks_ids.concat(), ids);
    assert_eq!(blocks.iter().map(Codes::len).sum::<usize>(), ids.len());
}

/// Vectors that fill segments are encoded into their places; what is stored does not show it.
#[test]
fn vectors_are_stored_as_their_codes() {
    let sizes = [700, SEGMENT_ROWS, 3, 2 * SEGMENT_ROWS + 1];
    for (ks, seed) in [(16, 2), (40, 2), (40, 3), (256, 3), (300, 2), (65_537, 2)] {
        let mut case = case((5, ks, 0, 3), Metric::L2, Values::Normal, false, seed);
        let mut random = LegacyRandom::new(seed);
        let mut all = Vec::new();
        for n in sizes {
            let values = Values::Normal.draw(&mut random, n * case.m);
            let vectors = Vectors::new(&values, case.m).unwrap();
            let prepared = case.index.prepare(vectors, &Task::new()).unwrap();
            assert_eq!((prepared.len(), case.index.len()), (n, all.len() / case.m));
            prepared.store(None, &Task::new()).unwrap();
            all.extend(values);
        }
        let vectors = Vectors::new(&all, case.m).unwrap();
        let codes = case.index.quantizer().encode(vectors, &Task::new()).unwrap();
        assert_eq!(case.index.codes().unwrap(), codes, "ks {ks}");
        extend(&mut case.codes, &codes);
        case.ids = (0..vectors.len() as i64).collect();
        for k in [1, 10, 5000] {
            case.check(k, Filter::All, |_| true);
        }
    }
}

/// What cannot be encoded, or stored, changes nothing, however many vectors there are.
#[test]
fn a_refused_encoding_leaves_nothing_behind() {
    let case = case((5, 40, 100, 1), Metric::L2, Values::Normal, false, 1);
    let n = SEGMENT_ROWS + 100;
    for (row, value) in [(0, f32::NAN), (n - 1, f32::INFINITY), (SEGMENT_ROWS, 1e30)] {
        let mut values = vec![0.5; n * 5];
        values[row * 5 + 2] = value;
        let vectors = Vectors::new(&values, 5).unwrap();
        let wanted = case.index.quantizer().encode(vectors, &Task::new()).unwrap_err();
        assert_eq!(case.index.add(vectors, None, &Task::new()), Err(wanted));
    }
    let values = vec![0.5; n * 5];
    let vectors = Vectors::new(&values, 5).unwrap();
    let prepare = || case.index.prepare(vectors, &Task::new()).unwrap();
    let twice = vec![7; n];
    assert_eq!(prepare().store(Some(&twice), &Task::new()), Err(Error::DuplicateId { id: 7 }));
    let wanted = Error::LengthMismatch { argument: "ids", expected: n, got: 2 };
    assert_eq!(prepare().store(Some(&[7, 8]), &Task::new()), Err(wanted));
    let cancelled = Task::new();
    cancelled.cancel();
    assert_eq!(case.index.add(vectors, None, &cancelled), Err(Error::Cancelled));
    let narrow = Vectors::new(&values, 1).unwrap();
    let wanted = Error::DimensionMismatch { argument: "vectors", expected: 5, got: 1 };
    assert_eq!(case.index.add(narrow, None, &Task::new()), Err(wanted));
    drop(prepare());
    assert_eq!(case.index.ids().unwrap(), case.ids);
}

#[test]
fn a_refused_addition_leaves_nothing_behind() {
    let pq = Pq::from_codewords(vec![0.0, 1.0, 2.0, 3.0], 2, 2, 1, Metric::L2).unwrap();
    let index = Index::new(pq).unwrap();
    let add = |codes: &[u8], ids: Option<&[i64]>| {
        index.add_codes(&Codes::new(codes, 2, 256).unwrap(), ids, &Task::new())
    };
    add(&[0, 1, 1, 0], Some(&[4, 9])).unwrap();
    assert_eq!(add(&[0, 0], Some(&[9])), Err(Error::DuplicateId { id: 9 }));
    assert_eq!(add(&[0, 0, 1, 1], Some(&[5, 5])), Err(Error::DuplicateId { id: 5 }));
    assert_eq!(add(&[0, 0], Some(&[-3])), Err(Error::NegativeId { id: -3 }));
    let wanted = Error::LengthMismatch { argument: "ids", expected: 1, got: 2 };
    assert_eq!(add(&[0, 0], Some(&[1, 2])), Err(wanted));
    let wanted = Error::CodeOutOfRange { code: 2, row: 0, sub_space: 1, ks: 2 };
    assert_eq!(add(&[0, 2], None), Err(wanted));
    let cancelled = Task::new();
    cancelled.cancel();
    let codes = Codes::new(&[0_u8, 0][..], 2, 2).unwrap();
    assert_eq!(index.add_codes(&codes, None, &cancelled), Err(Error::Cancelled));
    assert_eq!(index.ids().unwrap(), [4, 9]);
    add(&[1, 1], None).unwrap();
    assert_eq!(index.ids().unwrap(), [4, 9, 10]);
    assert_eq!(index.remove(&[10], &Task::new()), Ok(1));
    add(&[1, 1], None).unwrap();
    assert_eq!(index.ids().unwrap(), [4, 9, 11], "an id is not given twice");
    add(&[1, 1], Some(&[i64::MAX])).unwrap();
    assert!(matches!(add(&[1, 1], None), Err(Error::OutOfRange { argument: "ids", .. })));
}

#[test]
fn bad_questions_are_refused() {
    let case = case((2, 4, 40, 1), Metric::L2, Values::Normal, false, 1);
    let search = |values: &[f32], dim, filter| {
        case.index.search(Vectors::new(values, dim).unwrap(), 1, filter, &Task::new())
    };
    let wanted = Error::DimensionMismatch { argument: "queries", expected: 2, got: 3 };
    assert_eq!(search(&[0.0; 3], 3, Filter::All).unwrap_err(), wanted);
    let wanted = Error::NonFinite { argument: "queries", row: 1, column: 0, count: 1 };
    assert_eq!(search(&[0.0, 0.0, f32::INFINITY, 0.0], 2, Filter::All).unwrap_err(), wanted);
    let wanted = Error::LengthMismatch { argument: "subset", expected: 40, got: 3 };
    assert_eq!(search(&[0.0; 2], 2, Filter::Mask(&[true; 3])).unwrap_err(), wanted);
    let queries = Vectors::new(&[0.0; 2], 2).unwrap();
    let nan = case.index.range_search(queries, f32::NAN, Filter::All, &Task::new());
    assert!(matches!(nan, Err(Error::NonFinite { argument: "radius", .. })));
}

/// A reader never sees a part of an addition.
#[test]
fn readers_see_whole_additions() {
    const BLOCK_ROWS: usize = 70_000;
    let pq = Pq::from_codewords(vec![0.0, 1.0], 1, 2, 1, Metric::L2).unwrap();
    let index = Index::new(pq).unwrap();
    let codes = Codes::new(vec![1_u8; BLOCK_ROWS], 1, 2).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            (0..8).for_each(|_| index.add_codes(&codes, None, &Task::new()).unwrap());
        });
        let query = Vectors::new(&[1.0], 1).unwrap();
        while !writer.is_finished() {
            let found = index.range_search(query, 0.5, Filter::All, &Task::new()).unwrap();
            assert_eq!(found[0].len() % BLOCK_ROWS, 0);
        }
    });
    assert_eq!(index.len(), 8 * BLOCK_ROWS);
}

/// Rows that come one by one are joined; memory stays at half as much again as the codes.
#[test]
fn small_additions_are_joined() {
    let m = 8;
    let pq = Pq::from_codewords(vec![0.5; m * 256], m, 256, 1, Metric::L2).unwrap();
    let index = Index::new(pq).unwrap();
    let mut random = LegacyRandom::new(1);
    let n = 3000;
    for _ in 0..n {
        let code: Vec<u8> = (0..m).map(|_| random.up_to(255) as u8).collect();
        index.add_codes(&Codes::new(code, m, 256).unwrap(), None, &Task::new()).unwrap();
    }
    assert!(index.rows.load().segments.len() < 16);
    assert_eq!(index.ids().unwrap(), (0..n).collect::<Vec<i64>>());
    let codes = Codes::new(vec![7_u8; m * 200_000], m, 256).unwrap();
    index.add_codes(&codes, None, &Task::new()).unwrap();
    let raw = m * (n as usize + 200_000);
    assert!(index.memory() * 10 <= raw * 16, "{} bytes for {raw}", index.memory());
}

/// Runs of ids end at the highest number there is.
#[test]
fn the_highest_ids() {
    const MAX: i64 = i64::MAX;
    for ids in [vec![MAX], vec![MAX - 1, MAX], vec![MAX, 3, 4], vec![MAX - 2, MAX - 1, MAX]] {
        let model = Pq::from_codewords(vec![0.0, 1.0], 1, 2, 1, Metric::L2).unwrap();
        let index = Index::new(model).unwrap();
        let codes = Codes::new(vec![1_u8; ids.len()], 1, 2).unwrap();
        index.add_codes(&codes, Some(&ids), &Task::new()).unwrap();
        assert_eq!(index.ids().unwrap(), ids);
        let again = index.add_codes(&codes, Some(&ids), &Task::new());
        assert_eq!(again, Err(Error::DuplicateId { id: *ids.iter().min().unwrap() }));
        assert_eq!(index.reconstruct(&ids, &Task::new()), Ok(vec![1.0; ids.len()]));
        let queries = Vectors::new(&[0.0], 1).unwrap();
        let found = index.search(queries, 9, Filter::Ids(&[MAX]), &Task::new()).unwrap();
        assert_eq!(found, [[Neighbor { distance: 1.0, id: MAX }]]);
        let none = index.add_codes(&codes, None, &Task::new());
        assert!(matches!(none, Err(Error::OutOfRange { argument: "ids", .. })));
        assert_eq!(index.remove(&[MAX], &Task::new()), Ok(1));
    }
}
