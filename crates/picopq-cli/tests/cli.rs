//! The program as its users run it: arguments, exit codes, output, on real sentence embeddings.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use picopq::io::{Dtype, Format, RowReader, RowWriter};
use tempfile::TempDir;

const DIM: usize = 384;
const ROWS: usize = 600;
const QUERIES: usize = 40;

fn picopq(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_picopq"));
    command.current_dir(folder).stdin(Stdio::null());
    command
}

fn run(folder: &Path, arguments: &str) -> Output {
    picopq(folder).args(arguments.split_whitespace()).output().unwrap()
}

/// Runs what must succeed; its standard output.
fn succeed(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn write(path: &Path, format: Format, rows: &[f32]) {
    let mut writer = RowWriter::create(path, format, Dtype::F32, DIM).unwrap();
    writer.write(rows).unwrap();
    writer.finish().unwrap();
}

/// A folder with `base.fbin` and `queries.npy`.
fn folder() -> TempDir {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/definitions/vectors.npy");
    let mut rows: Vec<f32> = Vec::new();
    RowReader::open(&data).unwrap().read(ROWS + QUERIES, &mut rows).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (base, queries) = rows.split_at(ROWS * DIM);
    write(&folder.path().join("base.fbin"), Format::Fbin, base);
    write(&folder.path().join("queries.npy"), Format::Npy, queries);
    folder
}

/// The same, with `model.safetensors`, `codes.npy` and `index.faiss`.
fn prepared() -> TempDir {
    let folder = folder();
    succeed(folder.path(), "train base.fbin -o model.safetensors -m 8 --ks 16");
    succeed(folder.path(), "encode model.safetensors base.fbin -o codes.npy");
    succeed(folder.path(), "index model.safetensors codes.npy --codes -o index.faiss");
    folder
}

/// Every command in an order in which each finds the files of those before.
const COMMANDS: [&str; 12] = [
    "train",
    "encode",
    "decode",
    "index",
    "search",
    "eval",
    "convert",
    "info",
    "report",
    "demo",
    "completions",
    "man",
];

#[test]
fn the_example_of_every_help_runs() {
    let folder = folder();
    let listed = succeed(folder.path(), "--help");
    for command in COMMANDS {
        assert!(listed.contains(&format!("\n  {command}")), "{command}");
        let help = succeed(folder.path(), &format!("{command} --help"));
        let (_, example) = help.split_once("Example:\n  picopq ").expect(command);
        succeed(folder.path(), example.trim());
    }
    let commands = listed.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let names = commands.lines().filter(|line| !line.trim().is_empty());
    assert_eq!(names.count(), COMMANDS.len() + 1, "and help: {commands}");
}

/// Arguments, exit code, a piece of what is printed, and why.
const TABLE: [(&str, i32, &str); 38] = [
    // A wrong command line.
    ("", 2, "Usage: picopq"),
    ("frobnicate", 2, "unrecognized subcommand"),
    ("train base.fbin", 2, "--output"),
    ("train base.fbin -o x.npy", 2, "extension safetensors"),
    ("train base.fbin -o x.safetensors -m 7", 2, "divisors are [6, 8]"),
    ("train base.fbin -o x.safetensors --metric l3", 2, "wanted one of l2, dot"),
    ("train base.fbin -o x.safetensors --ks 0", 2, "ks = 0 is out of range"),
    ("train data.xyz -o x.safetensors", 2, "give the format"),
    ("train - -o x.safetensors", 2, "give the format"),
    ("encode model.safetensors base.fbin -o x.fbin", 2, ".npy"),
    ("encode model.safetensors base.fbin -o x.faiss --resume", 2, "--resume needs"),
    ("decode model.safetensors -o x.npy", 2, "give a file of codes"),
    ("decode index.faiss codes.npy -o x.npy", 2, "its own codes"),
    ("search index.faiss queries.npy --distances d.npy", 2, "csv and jsonl have them"),
    ("search index.faiss queries.npy -o x.bin", 2, "--answers"),
    ("convert index.faiss x.npy", 2, "vectors are no model"),
    ("eval index.faiss base.fbin --truth t.ivecs", 2, "--queries"),
    // Wrong data.
    ("train base.fbin -o x.safetensors --ks 1024", 65, "lower --ks"),
    ("encode model.safetensors codes.npy -o x.npy", 65, "model has 384, vectors has 8"),
    ("decode model.safetensors queries.npy -o x.npy", 65, "model has 8, codes has 384"),
    ("index model.safetensors queries.npy --codes -o x.faiss", 65, "wanted integers"),
    ("search model.safetensors queries.npy", 65, "a model alone"),
    ("search index.faiss codes.npy", 65, "model has 384, queries has 8"),
    ("info notes.faiss", 65, "notes.faiss"),
    ("info notes.safetensors", 65, "notes.safetensors"),
    ("info notes.npy", 65, "notes.npy"),
    ("info cut.fbin", 65, "get the file anew"),
    ("eval index.faiss queries.npy", 0, "40 vectors of dimension 384"),
    ("eval index.faiss queries.npy --queries queries.npy", 65, "the index has 600 rows"),
    ("convert base.fbin x.npy --dtype u8", 65, "wanted integers"),
    // Input and output that fail.
    ("train none.fbin -o x.safetensors", 74, "none.fbin: No such file"),
    ("encode none.safetensors base.fbin -o x.npy", 74, "check the path"),
    ("encode model.safetensors base.fbin -o no/x.npy", 74, "no/x.npy.partial"),
    ("encode model.safetensors base.fbin -o folder.npy", 74, "folder.npy"),
    // What works.
    ("info base.fbin", 0, "rows             600"),
    ("info codes.npy --json", 0, r#""dtype":"u8""#),
    ("search index.faiss queries.npy -k 2 --subset subset.npy", 0, "query,rank,id,distance\n0,0,"),
    ("encode model.safetensors base.fbin -o x.npy --json", 0, r#""bytes_per_code":8"#),
];

#[test]
fn exit_codes_and_messages() {
    let folder = prepared();
    let path = |name: &str| folder.path().join(name);
    for name in ["notes.faiss", "notes.safetensors", "notes.npy", "data.xyz"] {
        fs::write(path(name), "these are not the numbers that were looked for").unwrap();
    }
    fs::write(path("cut.fbin"), &fs::read(path("base.fbin")).unwrap()[..5000]).unwrap();
    fs::create_dir(path("folder.npy")).unwrap();
    let mut subset = RowWriter::create(&path("subset.npy"), Format::Npy, Dtype::I64, 1).unwrap();
    subset.write(&[3_i64, 5, 8]).unwrap();
    subset.finish().unwrap();
    for (arguments, code, piece) in TABLE {
        let output = run(folder.path(), arguments);
        let both = [&output.stdout[..], &output.stderr[..]].concat();
        let both = String::from_utf8(both).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {both}");
        assert!(both.contains(piece), "{arguments}: {both}");
        if code > 2 {
            assert!(
                both.lines().count() == 1 && both.starts_with("picopq: "),
                "{arguments}: {both}"
            );
        }
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(left.iter().all(|entry| !entry.file_name().to_string_lossy().contains("partial")));
}

#[test]
fn formats_agree() {
    let folder = prepared();
    let at = folder.path();
    let read = |name: &str| fs::read(at.join(name)).unwrap();
    // Standard input and output hold what files do.
    let encode = "encode model.safetensors - --format fbin -o - -q";
    let mut command = picopq(at);
    command.args(encode.split_whitespace()).stdin(File::open(at.join("base.fbin")).unwrap());
    assert_eq!(command.output().unwrap().stdout, read("codes.npy"));
    // There and back.
    succeed(at, "convert index.faiss own.safetensors");
    succeed(at, "convert own.safetensors again.faiss");
    assert_eq!(read("again.faiss"), read("index.faiss"));
    succeed(at, "convert base.fbin base.npy");
    succeed(at, "convert base.npy base.fvecs");
    succeed(at, "convert base.fvecs again.fbin");
    assert_eq!(read("again.fbin"), read("base.fbin"));
    succeed(at, "encode model.safetensors base.fbin -o direct.faiss");
    assert_eq!(read("direct.faiss"), read("index.faiss"));
    succeed(at, "decode model.safetensors codes.npy -o one.fvecs");
    succeed(at, "decode index.faiss -o two.fvecs");
    assert_eq!(read("one.fvecs"), read("two.fvecs"));
    // All formats of answers say the same.
    let csv = succeed(at, "search index.faiss queries.npy -k 3 -q");
    let ids: Vec<i64> =
        csv.lines().skip(1).map(|line| line.split(',').nth(2).unwrap().parse().unwrap()).collect();
    assert_eq!(ids.len(), 3 * QUERIES);
    succeed(at, "search index.faiss queries.npy -k 3 -o found.npy --distances far.fvecs");
    succeed(at, "search index.faiss queries.npy -k 3 -o found.ivecs");
    for name in ["found.npy", "found.ivecs"] {
        let mut found: Vec<i64> = Vec::new();
        RowReader::open(&at.join(name)).unwrap().read(QUERIES, &mut found).unwrap();
        assert_eq!(found, ids, "{name}");
    }
    let lines = succeed(at, "search index.faiss queries.npy -k 3 --answers jsonl -q");
    let first = lines.lines().next().unwrap();
    assert!(first.contains(&format!("[{},{},{}]", ids[0], ids[1], ids[2])), "{first}");
    // Truth that is given counts as truth that is found.
    let found = succeed(at, "eval index.faiss base.fbin --queries queries.npy -k 3 --json -q");
    assert!(found.contains(r#""recall@1":0."#) || found.contains(r#""recall@1":1."#), "{found}");
    let own = succeed(at, "eval model.safetensors base.fbin --queries queries.npy -k 3 --json -q");
    assert_eq!(found, own);
    let given = "eval index.faiss base.fbin --queries queries.npy --truth found.ivecs -k 3 --json";
    assert!(succeed(at, given).contains(r#""k_recall_at_k":1.0"#));
}

#[test]
fn quiet_is_silent_and_others_are_one_line() {
    let folder = prepared();
    let quiet = run(folder.path(), "encode model.safetensors base.fbin -o x.npy --quiet");
    assert!(quiet.status.success() && quiet.stdout.is_empty() && quiet.stderr.is_empty());
    let loud = run(folder.path(), "encode model.safetensors base.fbin -o x.npy");
    let said = String::from_utf8(loud.stderr).unwrap();
    assert_eq!(said, "x.npy: 600 codes of 8 bytes, 192.0 times smaller than float32\n");
}

/// What the tests below need of a system.
#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    /// An encoding that has read `rows` rows of the base and waits for more.
    fn waiting(at: &Path, rows: usize) -> (Child, PathBuf) {
        let arguments =
            "encode model.safetensors - --format fbin -o slow.npy --block-rows 1 --resume -q";
        let mut command = picopq(at);
        command.args(arguments.split_whitespace()).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let bytes = fs::read(at.join("base.fbin")).unwrap();
        let input = child.stdin.as_mut().unwrap();
        input.write_all(&bytes[..8 + rows * DIM * 4]).unwrap();
        input.flush().unwrap();
        let partial = at.join("slow.npy.partial");
        // The codes of the rows before the last checkpoint.
        let length = (128 + rows / 16 * 16 * 8) as u64;
        let long = || fs::metadata(&partial).is_ok_and(|about| about.len() >= length);
        for _ in 0..1000 {
            if long() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(long());
        (child, partial)
    }

    fn resume(at: &Path) -> Output {
        let arguments = "encode model.safetensors - --format fbin -o slow.npy --resume -q";
        let mut command = picopq(at);
        command.stdin(File::open(at.join("base.fbin")).unwrap());
        command.args(arguments.split_whitespace()).output().unwrap()
    }

    #[test]
    fn a_killed_encoding_is_taken_up_to_the_same_bytes() {
        let folder = prepared();
        let at = folder.path();
        let (mut child, partial) = waiting(at, 400);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(partial.exists() && !at.join("slow.npy").exists());
        // Nothing of what counts is encoded again: rows that are false stay false.
        let kept = fs::read(&partial).unwrap();
        let output = resume(at);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let whole = fs::read(at.join("slow.npy")).unwrap();
        assert_eq!(whole, fs::read(at.join("codes.npy")).unwrap());
        let mut falsified = kept;
        falsified[128] ^= 1;
        fs::write(&partial, falsified).unwrap();
        assert!(resume(at).status.success());
        let false_row = fs::read(at.join("slow.npy")).unwrap();
        assert_eq!(false_row[128], whole[128] ^ 1);
        assert_eq!(false_row[129..], whole[129..]);
    }

    #[test]
    fn an_interrupt_ends_with_130_and_can_be_taken_up() {
        let folder = prepared();
        let at = folder.path();
        let (mut child, partial) = waiting(at, 100);
        let killed = Command::new("kill").arg("-INT").arg(child.id().to_string()).status();
        assert!(killed.unwrap().success());
        // Its standard input stays open, which a blocked read does not hold.
        let _input = child.stdin.take();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(130));
        assert!(partial.exists());
        succeed(at, "train base.fbin -o other.safetensors -m 8 --ks 16 --seed 7");
        let other = run(at, "encode other.safetensors base.fbin -o slow.npy --resume");
        assert_eq!(other.status.code(), Some(65));
        assert!(String::from_utf8_lossy(&other.stderr).contains("leave out --resume"));
        assert!(resume(at).status.success());
        assert_eq!(fs::read(at.join("slow.npy")).unwrap(), fs::read(at.join("codes.npy")).unwrap());
    }

    #[test]
    fn a_full_disk_is_an_error_of_output() {
        let folder = prepared();
        let at = folder.path();
        for arguments in [
            "info base.fbin",
            "man",
            "search index.faiss queries.npy",
            "encode model.safetensors base.fbin -o -",
        ] {
            let full = File::options().write(true).open("/dev/full").unwrap();
            let mut command = picopq(at);
            let output = command.args(arguments.split_whitespace()).stdout(full).output().unwrap();
            assert_eq!(output.status.code(), Some(74), "{arguments}");
            let errors = String::from_utf8(output.stderr).unwrap();
            assert!(errors.contains("standard output: No space left on device"), "{errors}");
        }
        // Files of more than a few hundred bytes are refused.
        let limited = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
        for arguments in [
            "encode model.safetensors base.fbin -o big.npy",
            "convert base.fbin big.npy",
            "convert index.faiss big.safetensors",
            "search index.faiss queries.npy -o big.csv",
        ] {
            let mut command = Command::new("sh");
            command.args(["-c", limited, env!("CARGO_BIN_EXE_picopq")]).current_dir(at);
            let output = command.args(arguments.split_whitespace()).output().unwrap();
            assert_eq!(output.status.code(), Some(74), "{arguments}");
            let whole = ["big.npy", "big.safetensors"].iter().any(|name| at.join(name).exists());
            assert!(!whole, "{arguments}");
        }
    }

    #[test]
    fn a_closed_pipe_ends_quietly() {
        let folder = prepared();
        let arguments = "search index.faiss queries.npy -k 600";
        let mut command = picopq(folder.path());
        command.args(arguments.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    }
}
