//! The command line's arguments, of arbitrary bytes and of the words that they are made of. Parsed,
//! never executed.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Each command and option, and what some of them take.
const WORDS: &[&str] = &[
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
    "help",
    "--help",
    "-h",
    "--version",
    "-V",
    "--quiet",
    "-q",
    "--threads",
    "--json",
    "--format",
    "--output",
    "-o",
    "--opq",
    "-m",
    "-m8",
    "--ks",
    "--metric",
    "--seed",
    "--iterations",
    "--rotations",
    "--init",
    "--sample",
    "--resume",
    "--block-rows",
    "--codes",
    "--ids",
    "--fast-scan",
    "-k",
    "--subset",
    "--answers",
    "--distances",
    "--queries",
    "--truth",
    "--from",
    "--to",
    "--dtype",
    "npy",
    "fvecs",
    "ibin",
    "l2",
    "dot",
    "points",
    "++",
    "bash",
    "csv",
    "jsonl",
    "f32",
    "-",
    "--",
    "0",
    "-1",
    "18446744073709551616",
    "a.fbin",
    "b.safetensors",
];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Zero bytes part the arguments; a word's number alone stands for the word.
    let arguments = bytes.split(|&byte| byte == 0).map(|argument| match argument {
        [number] if usize::from(*number) <= WORDS.len() => WORDS[usize::from(*number) - 1].into(),
        _ => OsString::from_vec(argument.to_vec()),
    });
    let code = picopq_cli::parse(std::iter::once("picopq".into()).chain(arguments));
    assert!(matches!(code, None | Some(0 | 2)), "{code:?}");
});
