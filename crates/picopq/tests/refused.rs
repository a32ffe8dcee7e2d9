//! An allocator that refuses: each large allocation of each call in turn. The call says so, and
//! what it worked on is as it was. And that counts what grows from little: nothing in a search.
//!
//! One test in a process of its own: a refusal that is not expected ends the process.
#![allow(clippy::unwrap_used)]
#![allow(unsafe_code, reason = "an allocator is unsafe by its nature")]

mod files;
mod numbers;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use numbers::uniform;
use picopq::io::{Scan, Stored};
use picopq::{
    Error, Filter, Index, Init, Metric, Opq, OpqOptions, Pq, PqOptions, Result, Start, Task,
    Vectors, set_num_threads,
};

/// Allocations from this size on are refused. Smaller ones end a process when memory is out, as
/// everywhere in Rust.
const LARGE: usize = 64 << 10;

struct Refusing;

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// Large allocations to be granted before one is refused.
static GRANTED: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Allocations below this size may lie in the memory of another thread. Where they grow, one thread
/// waits for the other.
const LITTLE: usize = 1 << 10;

/// Times that a little allocation grew.
static GROWN: AtomicUsize = AtomicUsize::new(0);

fn refused(size: usize) -> bool {
    if size < LARGE {
        return false;
    }
    let refuse = GRANTED.fetch_sub(1, SeqCst) == 0;
    if refuse {
        GRANTED.store(usize::MAX / 2, SeqCst);
    }
    refuse
}

// SAFETY: every call is passed on unchanged to the system's allocator, or answered with null, which
// stands for a refusal.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        if refused(layout.size()) { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if refused(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() && refused(size) {
            return std::ptr::null_mut();
        }
        GROWN.fetch_add(usize::from(size > layout.size() && layout.size() < LITTLE), SeqCst);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(old, layout) }
    }
}

/// Refuses the first large allocation of `call`, then a later one, until it gets all it asks for;
/// `intact` looks at what it worked on after each refusal. The number of refusals.
fn refuse_each(
    name: &str,
    call: &mut dyn FnMut() -> Result<()>,
    intact: &dyn Fn() -> bool,
) -> usize {
    let (mut granted, mut refusals) = (0, 0);
    loop {
        GRANTED.store(granted, SeqCst);
        let result = call();
        let left = GRANTED.swap(usize::MAX / 2, SeqCst);
        match result {
            Ok(()) => {
                assert!(left < usize::MAX / 4, "{name} was refused {granted} and passes");
                assert!(granted > 0, "{name} asks for nothing large");
                return refusals;
            }
            Err(Error::OutOfMemory { .. }) => assert!(intact(), "{name} changed, {granted}"),
            Err(error) => panic!("{name}, {granted} granted: {error}"),
        }
        // The first ones one by one; of the many that each block of rows brings, some.
        granted += 1 + granted / 16;
        refusals += 1;
    }
}

#[test]
fn refusals_are_errors_and_change_nothing() {
    let task = Task::new;
    let (n, dim) = (20_000, 64);
    let data = uniform(1, n * dim);
    let vectors = Vectors::new(&data, dim).unwrap();
    let all_intact = || true;
    let mut refusals = 0;
    for threads in [1, 2] {
        set_num_threads(threads);
        let mut each =
            |name: &str, call: &mut dyn FnMut() -> Result<()>, intact: &dyn Fn() -> bool| {
                refusals += refuse_each(&format!("{name}, {threads} threads"), call, intact);
            };
        let mut models = Vec::new();
        for (ks, init) in [
            (16, Init::Points),
            (256, Init::Points),
            (256, Init::PlusPlus),
            (256, Init::Random),
            (4096, Init::Points),
        ] {
            let options = PqOptions { ks, init, iterations: 2, ..PqOptions::new(8) };
            models.push(Pq::train(vectors, &options, &task()).unwrap().0);
            // Products of matrices keep a work space in each thread, which cannot be refused them.
            if threads > 1 && options.init == Init::Random {
                continue;
            }
            let mut train = || Pq::train(vectors, &options, &task()).map(drop);
            each(&format!("fit, ks {ks} from {:?}", options.init), &mut train, &all_intact);
        }
        let (pq4, pq8, pq12) = (&models[0], &models[1], &models[4]);
        for start in [Start::Identity, Start::EigenvalueAllocation] {
            if threads > 1 {
                break;
            }
            let pq = PqOptions { iterations: 2, ..PqOptions::new(8) };
            let options = OpqOptions { pq, rotations: 1, start };
            let mut train = || Opq::train(vectors, &options, &task()).map(drop);
            train().unwrap();
            each(&format!("opq fit from {start:?}"), &mut train, &all_intact);
        }
        for (name, pq) in [("nibbles", pq4), ("bytes", pq8), ("words", pq12)] {
            let each = &mut |what: &str,
                             call: &mut dyn FnMut() -> Result<()>,
                             intact: &dyn Fn() -> bool| {
                each(&format!("{what}, {name}"), call, intact);
            };
            each("encode", &mut || pq.encode(vectors).map(drop), &all_intact);
            let codes = pq.encode(vectors).unwrap();
            each("decode", &mut || pq.decode(&codes).map(drop), &all_intact);
            let tables = [pq.table(&data[..dim]).unwrap()];
            each("top", &mut || picopq::search(&tables, &codes, n, &task()).map(drop), &all_intact);

            let ids: Vec<i64> = (0..n as i64).map(|id| 2 * id + 1).collect();
            let index = Index::new(pq.clone()).unwrap();
            let count = || index.is_empty() && index.next_id() == 0;
            each("add", &mut || index.add(vectors, Some(&ids), &task()), &count);
            let count = || index.len() == n && index.next_id() == 2 * n as i64;
            let more = Vectors::new(&data[..dim * n / 2], dim).unwrap();
            each("add more", &mut || index.add(more, None, &task()), &count);
            let index = Index::new(pq.clone()).unwrap();
            index.add(vectors, Some(&ids), &task()).unwrap();
            for nq in [1, 50] {
                let queries = Vectors::new(&data[..nq * dim], dim).unwrap();
                for filter in [Filter::All, Filter::Ids(&ids[..n / 3])] {
                    let search = |k| index.search(queries, k, filter, &task()).map(drop);
                    each("search all", &mut || search(n), &all_intact);
                    let range = || index.range_search(queries, 1e9, filter, &task()).map(drop);
                    each("search a range", &mut &range, &all_intact);
                }
            }
            each("reconstruct", &mut || index.reconstruct(&ids, &task()).map(drop), &all_intact);
            each("ids", &mut || index.ids().map(drop), &all_intact);
            each("codes", &mut || index.codes().map(drop), &all_intact);
            each(
                "blocks",
                &mut || index.blocks().try_for_each(|block| block.map(drop)),
                &all_intact,
            );
            let count = || index.len() == n;
            each("remove", &mut || index.remove(&ids[..n / 2], &task()).map(drop), &count);

            let folder = tempfile::tempdir().unwrap();
            let (path, faiss) = (folder.path().join("index"), folder.path().join("index.faiss"));
            let stored = Stored::index(&index).unwrap();
            each("copy", &mut || Stored::index(&index).map(drop), &all_intact);
            std::fs::write(&path, "old").unwrap();
            std::fs::write(&faiss, "old").unwrap();
            let old = || {
                let is_old = |path| std::fs::read(path).unwrap() == b"old";
                is_old(&path)
                    && is_old(&faiss)
                    && std::fs::read_dir(folder.path()).unwrap().count() == 2
            };
            each("save", &mut || stored.save(&path, &task()), &old);
            std::fs::write(&path, "old").unwrap();
            each("save for Faiss", &mut || stored.write_faiss(&faiss, &task()), &old);
            stored.save(&path, &task()).unwrap();
            each("load", &mut || Stored::load(&path, &task()).map(drop), &all_intact);
            each(
                "load of Faiss",
                &mut || Stored::read_faiss(&faiss, &task()).map(drop),
                &all_intact,
            );
            if name == "nibbles" {
                let fast = Stored { scan: Scan::Fast { block: 32 }, ..stored.clone() };
                fast.write_faiss(&faiss, &task()).unwrap();
                let mut load = || Stored::read_faiss(&faiss, &task()).map(drop);
                each("load of a fast scan", &mut load, &all_intact);
            }
            let mut into = || Stored::load(&path, &task())?.into_index(&task()).map(drop);
            each("load an index", &mut into, &all_intact);
        }
        for model in [pq4, pq8] {
            let index = Index::new(model.clone()).unwrap();
            let codes = index.quantizer().encode(vectors, &task()).unwrap();
            (0..10).for_each(|_| index.add_codes(&codes, None, &task()).unwrap());
            let query = Vectors::new(&data[..dim], dim).unwrap();
            for k in [10, 100] {
                let before = GROWN.load(SeqCst);
                let found = index.search(query, k, Filter::All, &task()).unwrap();
                assert_eq!((found[0].len(), GROWN.load(SeqCst) - before), (k, 0), "{index:?}");
            }
        }
        // Long sub-vectors.
        let long = Pq::from_codewords(uniform(2, 40 * n), 1, 40, n, Metric::L2).unwrap();
        let few = Vectors::new(&data, n).unwrap();
        each("encode, long", &mut || long.encode(few).map(drop), &all_intact);
        // More rows than a segment has.
        let narrow = Pq::from_codewords(uniform(2, 40), 1, 40, 1, Metric::L2).unwrap();
        let index = Index::new(narrow).unwrap();
        let many = Vectors::new(&data, 1).unwrap();
        each("add, many", &mut || index.add(many, None, &task()), &|| index.is_empty());
        let wide = Pq::from_codewords(uniform(2, 256 * 64), 64, 256, 1, Metric::L2).unwrap();
        let index = Index::new(wide).unwrap();
        index.add(vectors, None, &task()).unwrap();
        let queries = Vectors::new(&data[..64 * dim], dim).unwrap();
        let mut search = || index.search(queries, 1, Filter::All, &task()).map(drop);
        each("search of many", &mut search, &all_intact);
    }
    set_num_threads(0);
    assert!(refusals > 1500, "only {refusals} refusals");
}
