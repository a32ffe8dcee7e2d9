//! What can be typed.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use picopq::io::{Dtype, Format};
use picopq::{Init, Metric};

/// Compress vectors to short codes (product quantization) and search them.
///
/// Files of vectors: .npy, .fvecs, .bvecs, .ivecs, .fbin, .u8bin, .i8bin, .ibin, .parquet (read). Models and indexes:
/// .safetensors (picopq's own), .faiss or .index (Faiss's). `-` is standard input or output.
#[derive(Debug, Parser)]
#[command(name = "picopq", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Say nothing but answers and errors.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Threads to use; 0 for one on each processor. Results do not depend on it.
    #[arg(long, global = true, default_value_t = 0, value_name = "N")]
    pub(crate) threads: usize,
    /// Answer in JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a model on a sample of the vectors.
    #[command(after_help = "Example:\n  picopq train base.fbin -o model.safetensors -m 8 --ks 16")]
    Train(Train),
    /// Encode vectors of any number: to codes (.npy), or to an index.
    #[command(after_help = "Example:\n  picopq encode model.safetensors base.fbin -o codes.npy")]
    Encode(Encode),
    /// Turn codes, or those of an index, back into vectors.
    #[command(after_help = "Example:\n  picopq decode model.safetensors codes.npy -o restored.npy")]
    Decode(Decode),
    /// Build an index from vectors or codes.
    #[command(after_help = "Example:\n  picopq index model.safetensors base.fbin -o index.faiss")]
    Index(BuildIndex),
    /// Find the nearest stored vectors of each query.
    #[command(after_help = "Example:\n  picopq search index.faiss queries.npy -k 5")]
    Search(Search),
    /// Measure distortion and, with queries, recall against the original vectors.
    #[command(after_help = "Example:\n  picopq eval index.faiss base.fbin --queries queries.npy")]
    Eval(Eval),
    /// Write vectors, a model or an index in another format.
    #[command(after_help = "Example:\n  picopq convert index.faiss index.safetensors")]
    Convert(Convert),
    /// Say what a file holds.
    #[command(after_help = "Example:\n  picopq info index.faiss")]
    Info(Info),
    /// Write a page with plots: error and use of each sub-space, recall.
    #[command(
        after_help = "Example:\n  picopq report model.safetensors base.fbin --queries queries.npy -o report.html"
    )]
    Report(Report),
    /// Compress and search vectors made up on the spot.
    #[command(after_help = "Example:\n  picopq demo")]
    Demo,
    /// Print the completions of a shell.
    #[command(after_help = "Example:\n  picopq completions bash")]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page.
    #[command(after_help = "Example:\n  picopq man")]
    Man,
}

/// Where vectors come from.
#[derive(Debug, Args)]
pub(crate) struct Input {
    /// File of vectors, or `-`.
    #[arg(value_name = "VECTORS")]
    pub(crate) path: PathBuf,
    /// Its format, where the extension does not tell.
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub(crate) format: Option<Format>,
    /// Column of a Parquet table; needed where several could be meant.
    #[arg(long, value_name = "NAME")]
    pub(crate) column: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Train {
    #[command(flatten)]
    pub(crate) input: Input,
    /// File of the model.
    #[arg(long, short, value_name = "MODEL")]
    pub(crate) output: PathBuf,
    /// Learn a rotation too (OPQ).
    #[arg(long)]
    pub(crate) opq: bool,
    /// Sub-spaces: numbers in a code. Must divide the dimension.
    #[arg(short, long, default_value_t = 8)]
    pub(crate) m: usize,
    /// Codewords of a sub-space; 256 make one byte a number.
    #[arg(long, default_value_t = 256)]
    pub(crate) ks: usize,
    /// How queries are compared: l2 or dot.
    #[arg(long, default_value = "l2", value_parser = metric)]
    pub(crate) metric: Metric,
    /// Seed of the first codewords.
    #[arg(long, default_value_t = 123)]
    pub(crate) seed: u32,
    /// Steps of k-means.
    #[arg(long, default_value_t = 20)]
    pub(crate) iterations: usize,
    /// Rounds of an OPQ.
    #[arg(long, default_value_t = 10, requires = "opq")]
    pub(crate) rotations: usize,
    /// First codewords: points (rows) or ++ (k-means++).
    #[arg(long, default_value = "points", value_parser = init)]
    pub(crate) init: Init,
    /// Rows to train on, evenly spaced; 0 for all [default: 256 for each codeword].
    #[arg(long, value_name = "ROWS")]
    pub(crate) sample: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct Encode {
    /// File of the model.
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) input: Input,
    /// Codes (.npy, or - for .npy) or an index (.safetensors, .faiss, held in memory).
    #[arg(long, short)]
    pub(crate) output: PathBuf,
    /// Go on from <OUTPUT>.partial, if an interrupted run left it.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Rows read at once [default: 16 MiB of float32].
    #[arg(long, value_name = "ROWS")]
    pub(crate) block_rows: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct Decode {
    /// File of the model, or of an index.
    pub(crate) model: PathBuf,
    /// File of codes, or `-`; not with an index.
    pub(crate) codes: Option<PathBuf>,
    /// Format of the codes, where the extension does not tell.
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub(crate) format: Option<Format>,
    /// Column of a Parquet table; needed where several could be meant.
    #[arg(long, value_name = "NAME")]
    pub(crate) column: Option<String>,
    /// File of the vectors, or `-` for .npy.
    #[arg(long, short)]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct BuildIndex {
    /// File of the model.
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) input: Input,
    /// The input holds codes, not vectors.
    #[arg(long)]
    pub(crate) codes: bool,
    /// File of an integer for each row, by which answers call it.
    #[arg(long, value_name = "FILE")]
    pub(crate) ids: Option<PathBuf>,
    /// Lay out 4-bit codes (ks = 16) for Faiss's fast scan.
    #[arg(long)]
    pub(crate) fast_scan: bool,
    /// File of the index.
    #[arg(long, short)]
    pub(crate) output: PathBuf,
}

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Answers {
    /// Lines of query, rank, id, distance.
    Csv,
    /// A JSON object a line for each query.
    Jsonl,
    /// Ids (nq, k) int64, -1 for none; distances apart.
    Npy,
    /// Ids as 32-bit integers; distances apart.
    Ivecs,
}

#[derive(Debug, Args)]
pub(crate) struct Search {
    /// File of the index.
    pub(crate) index: PathBuf,
    #[command(flatten)]
    pub(crate) queries: Input,
    /// Answers to a query.
    #[arg(short, long, default_value_t = 10)]
    pub(crate) k: usize,
    /// File of the ids that may be answers.
    #[arg(long, value_name = "FILE")]
    pub(crate) subset: Option<PathBuf>,
    /// File of the answers.
    #[arg(long, short, default_value = "-")]
    pub(crate) output: PathBuf,
    /// Format of the answers, where the extension does not tell [default: csv].
    #[arg(long, value_name = "FORMAT")]
    pub(crate) answers: Option<Answers>,
    /// File of the distances (nq, k), for npy and ivecs.
    #[arg(long, value_name = "FILE")]
    pub(crate) distances: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// File of the model, or of an index of the vectors in their order.
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) base: Input,
    /// File of queries.
    #[arg(long, value_name = "FILE")]
    pub(crate) queries: Option<PathBuf>,
    /// File of each query's true neighbours, nearest first; found exactly without it.
    #[arg(long, value_name = "FILE", requires = "queries")]
    pub(crate) truth: Option<PathBuf>,
    /// Answers to a query.
    #[arg(short, long, default_value_t = 10)]
    pub(crate) k: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// File of vectors, a model or an index.
    pub(crate) input: PathBuf,
    /// File of the same in another format.
    pub(crate) output: PathBuf,
    /// Format of the input, where the extension does not tell.
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub(crate) from: Option<Format>,
    /// Format of the output, where the extension does not tell.
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub(crate) to: Option<Format>,
    /// Column of a Parquet table; needed where several could be meant.
    #[arg(long, value_name = "NAME")]
    pub(crate) column: Option<String>,
    /// Type of the numbers in an .npy file [default: that of the input].
    #[arg(long, value_name = "TYPE", value_parser = dtype)]
    pub(crate) dtype: Option<Dtype>,
}

#[derive(Debug, Args)]
pub(crate) struct Info {
    /// File of vectors, a model or an index.
    pub(crate) file: PathBuf,
    /// Format of vectors, where the extension does not tell.
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub(crate) format: Option<Format>,
    /// Column of a Parquet table; needed where several could be meant.
    #[arg(long, value_name = "NAME")]
    pub(crate) column: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// File of the model.
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) base: Input,
    /// File of queries, for the recall.
    #[arg(long, value_name = "FILE")]
    pub(crate) queries: Option<PathBuf>,
    /// Vectors to measure, evenly spaced; 0 for all.
    #[arg(long, default_value_t = 100_000, value_name = "ROWS")]
    pub(crate) sample: usize,
    /// File of the page.
    #[arg(long, short, action = ArgAction::Set)]
    pub(crate) output: PathBuf,
}

const FORMATS: [(&str, Format); 9] = [
    ("npy", Format::Npy),
    ("fvecs", Format::Fvecs),
    ("bvecs", Format::Bvecs),
    ("ivecs", Format::Ivecs),
    ("fbin", Format::Fbin),
    ("u8bin", Format::U8bin),
    ("i8bin", Format::I8bin),
    ("ibin", Format::Ibin),
    ("parquet", Format::Parquet),
];

pub(crate) const DTYPES: [(&str, Dtype); 11] = [
    ("u8", Dtype::U8),
    ("i8", Dtype::I8),
    ("u16", Dtype::U16),
    ("i16", Dtype::I16),
    ("u32", Dtype::U32),
    ("i32", Dtype::I32),
    ("u64", Dtype::U64),
    ("i64", Dtype::I64),
    ("f16", Dtype::F16),
    ("f32", Dtype::F32),
    ("f64", Dtype::F64),
];

fn named<T: Clone>(typed: &str, names: &[(&str, T)]) -> Result<T, String> {
    let found = names.iter().find(|(name, _)| *name == typed);
    found.map(|(_, value)| value.clone()).ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        format!("wanted one of {}", names.join(", "))
    })
}

fn format(typed: &str) -> Result<Format, String> {
    named(typed, &FORMATS)
}

fn dtype(typed: &str) -> Result<Dtype, String> {
    named(typed, &DTYPES)
}

fn metric(typed: &str) -> Result<Metric, String> {
    named(typed, &[("l2", Metric::L2), ("dot", Metric::Dot)])
}

fn init(typed: &str) -> Result<Init, String> {
    named(typed, &[("points", Init::Points), ("++", Init::PlusPlus), ("random", Init::Random)])
}
