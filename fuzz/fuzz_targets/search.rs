//! Every scan of an index, of every instruction set, against table look-ups and a sort: filters,
//! radii, removed rows.
#![no_main]

use picopq::{Codes, Filter, Index, Metric, Neighbor, Pq, Task, Vectors};

mod input;

/// Rows from which many queries are interleaved.
const MANY: usize = 1 << 14;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut input = input::Bytes(bytes);
    let task = Task::new();
    let set = usize::from(input.next());
    // The last that this processor has serves for those that it lacks.
    let set = (0..=set % 4).rev().find_map(picopq::choose_kernels);
    let (m, ks) = (1 + input.below(9), [2, 5, 16, 17, 40, 256, 300][input.below(7)]);
    let (n, nq, k) = (input.below(4300), 1 + input.below(12), input.below(50));
    let n = if input.next() % 16 == 0 && nq >= 8 { MANY + n } else { n };
    let metric = if input.next() % 2 == 0 { Metric::L2 } else { Metric::Dot };
    let (filter, keep) = (input.next() % 3, 1 + usize::from(input.next()));
    let (radius, removed) = (usize::from(input.next()), usize::from(input.next()) % 4);
    let mut random = input.random();
    let sparse: Vec<f32> = (0..64).map(|_| input.float()).collect();
    let queries: Vec<f32> = (0..nq * m).map(|_| input.float()).collect();
    let codewords = (0..m * ks).map(|at| sparse[at * 31 % 64] + at as f32 / 64.0).collect();
    let Ok(pq) = Pq::from_codewords(codewords, m, ks, 1, metric) else { return };

    let codes: Vec<u16> = (0..n * m).map(|_| random.below(ks) as u16).collect();
    let codes = Codes::new(codes, m, ks).unwrap();
    let index = Index::new(pq.clone()).unwrap();
    index.add_codes(&codes, None, &task).unwrap();
    let mut there = vec![true; n];
    if removed > 0 {
        there = (0..n).map(|_| random.below(removed) > 0).collect();
        let gone: Vec<i64> = (0..n as i64).filter(|&row| !there[row as usize]).collect();
        assert_eq!(index.remove(&gone, &task), Ok(gone.len()));
    }
    let wanted: Vec<bool> = (0..n).map(|_| filter == 0 || random.below(keep) == 0).collect();
    let ids: Vec<i64> = (0..n as i64).rev().filter(|&row| wanted[row as usize]).collect();
    let mask: Vec<bool> = (0..n).filter(|&row| there[row]).map(|row| wanted[row]).collect();
    let filter = [Filter::All, Filter::Ids(&ids), Filter::Mask(&mask)][usize::from(filter)];

    let vectors = Vectors::new(&queries, m).unwrap();
    let found = index.search(vectors, k, filter, &task).unwrap();
    assert_eq!(found.len(), nq);
    let sign = if metric == Metric::Dot { -1.0 } else { 1.0 };
    for (at, (query, found)) in queries.chunks_exact(m).zip(found).enumerate() {
        let distances = pq.table(query).unwrap().adist(&codes).unwrap();
        let key = |row: usize| sign * distances[row] + 0.0;
        let mut order: Vec<usize> = (0..n).filter(|&row| there[row] && wanted[row]).collect();
        order.sort_by(|&a, &b| key(a).total_cmp(&key(b)).then(a.cmp(&b)));
        let neighbor = |&row: &usize| Neighbor { distance: distances[row], id: row as i64 };
        let nearest: Vec<_> = order.iter().take(k).map(neighbor).collect();
        assert_eq!(found, nearest, "{set:?}, query {at}");
        // A radius that ties with an answer, for one query of the batch or for all of it.
        let Some(&last) = order.get(radius.min(order.len().saturating_sub(1))) else { continue };
        if at > 0 {
            continue;
        }
        let limit = distances[last];
        let queries = if radius % 2 == 0 { vectors } else { Vectors::new(query, m).unwrap() };
        let within = index.range_search(queries, limit, filter, &task).unwrap();
        let inside = order.iter().take_while(|&&row| key(row) <= key(last));
        assert_eq!(within[0], inside.map(neighbor).collect::<Vec<_>>(), "{set:?}, query {at}");
    }
});
