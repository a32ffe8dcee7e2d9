//! Every scan of an index against table look-ups and a sort.
#![no_main]

use picopq::{Codes, Filter, Index, Metric, Pq, Task, Vectors};

/// Numbers out of the input, zeros at its end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn float(&mut self) -> f32 {
        // Small and large, of either sign; few values, so that distances tie.
        let byte = self.next();
        f32::from(byte as i8) * 2_f32.powi(i32::from(byte % 7) * 8 - 24)
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut input = Bytes(bytes);
    let task = Task::new();
    let m = 1 + usize::from(input.next()) % 9;
    let ks = [2, 5, 16, 17, 40, 256, 300][usize::from(input.next()) % 7];
    let n = usize::from(input.next()) * 17;
    let (nq, k) = (1 + usize::from(input.next()) % 12, usize::from(input.next()) % 50);
    let metric = if input.next() % 2 == 0 { Metric::L2 } else { Metric::Dot };
    let sparse: Vec<f32> = (0..64).map(|_| input.float()).collect();
    let codewords = (0..m * ks).map(|at| sparse[at * 31 % 64] + at as f32 / 64.0).collect();
    let Ok(pq) = Pq::from_codewords(codewords, m, ks, 1, metric) else { return };
    let mut state = u64::from_le_bytes([0; 8].map(|_: u8| input.next())) | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 20
    };
    let codes: Vec<u16> = (0..n * m).map(|_| (random() % ks as u64) as u16).collect();
    let codes = Codes::new(codes, m, ks).unwrap();
    let queries: Vec<f32> = (0..nq * m).map(|_| input.float()).collect();
    let index = Index::new(pq.clone()).unwrap();
    index.add_codes(&codes, None, &task).unwrap();
    let found = index.search(Vectors::new(&queries, m).unwrap(), k, Filter::All, &task).unwrap();
    let sign = if metric == Metric::Dot { -1.0 } else { 1.0 };
    for (query, found) in queries.chunks_exact(m).zip(found) {
        let distances = pq.table(query).unwrap().adist(&codes).unwrap();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| {
            (sign * distances[a] + 0.0).total_cmp(&(sign * distances[b] + 0.0)).then(a.cmp(&b))
        });
        assert_eq!(found.len(), k.min(n));
        for (found, row) in found.iter().zip(order) {
            assert_eq!((found.id, found.distance), (row as i64, distances[row]));
        }
    }
});
