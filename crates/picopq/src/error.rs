//! Everything a caller or a file can get wrong, as one enum whose fields carry the numbers.

/// A `Result` whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. Fields name the argument, what came and what was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A vector, table or code has another width than the model.
    #[error("dimension mismatch: model has {expected}, {argument} has {got}")]
    DimensionMismatch {
        /// The argument at fault.
        argument: &'static str,
        /// What the model has.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// A flat array does not hold the number of elements that its shape asks for.
    #[error("length mismatch: {argument} has {got} elements, wanted {expected}")]
    LengthMismatch {
        /// The argument at fault.
        argument: &'static str,
        /// Elements wanted.
        expected: usize,
        /// Elements that came.
        got: usize,
    },
    /// The dimension cannot be cut into `m` equal sub-spaces.
    #[error(
        "dimension {dim} cannot be cut into {m} equal sub-spaces: the nearest divisors are {nearest:?}"
    )]
    NotDivisible {
        /// Dimension of the vectors.
        dim: usize,
        /// Sub-spaces asked for.
        m: usize,
        /// The divisors of `dim` on either side of `m`.
        nearest: Vec<usize>,
    },
    /// Training needs more rows than codewords.
    #[error("too few training vectors: {rows} rows for ks = {ks}, wanted more rows than codewords")]
    TooFewRows {
        /// Rows that came.
        rows: usize,
        /// Codewords asked for.
        ks: usize,
    },
    /// A scalar argument is outside its range.
    #[error("{argument} = {got} is out of range: wanted {wanted}")]
    OutOfRange {
        /// The argument at fault.
        argument: &'static str,
        /// What came.
        got: u64,
        /// The range, in words.
        wanted: &'static str,
    },
    /// An input holds NaN or an infinity.
    #[error(
        "{argument} has {count} value(s) that are NaN or infinite, the first at row {row}, column {column}"
    )]
    NonFinite {
        /// The argument at fault.
        argument: &'static str,
        /// Row of the first such value.
        row: usize,
        /// Column of the first such value.
        column: usize,
        /// How many there are.
        count: usize,
    },
    /// A finite value is so large that squared distances would overflow f32.
    #[error(
        "{argument} has a value too large for f32 distances at row {row}, column {column}: the limit at dimension {dim} is {limit}"
    )]
    TooLarge {
        /// The argument at fault.
        argument: &'static str,
        /// Row of the first such value.
        row: usize,
        /// Column of the first such value.
        column: usize,
        /// Dimension of the vectors.
        dim: usize,
        /// Largest magnitude allowed, rounded down to an integer.
        limit: u64,
    },
    /// A code names a codeword that does not exist.
    #[error(
        "code {code} at row {row}, sub-space {sub_space} is out of range: there are {ks} codewords"
    )]
    CodeOutOfRange {
        /// The code.
        code: u64,
        /// Its row.
        row: usize,
        /// Its column.
        sub_space: usize,
        /// Codewords in a sub-space.
        ks: usize,
    },
    /// The initial codewords of a training do not have the shape `(m, ks, ds)`.
    #[error("initial codewords have {got} elements, wanted m * ks * ds = {expected}")]
    InitialCodewords {
        /// Elements wanted.
        expected: usize,
        /// Elements that came.
        got: usize,
    },
    /// A size does not fit the address space.
    #[error("size overflow: {what} does not fit this machine's address space")]
    SizeOverflow {
        /// What was to be sized.
        what: &'static str,
    },
    /// The allocator refused.
    #[error("out of memory: {bytes} bytes for {what}")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
        /// What they were for.
        what: &'static str,
    },
    /// A decomposition of linear algebra did not converge.
    #[error("the {what} did not converge")]
    NoConvergence {
        /// The decomposition.
        what: &'static str,
    },
    /// `PICOPQ_KERNELS` asks for kernels that this build or processor lacks.
    #[error("PICOPQ_KERNELS = {requested:?} is not available here: this processor has {available}")]
    KernelsUnavailable {
        /// The variable's value.
        requested: String,
        /// The levels that can be chosen.
        available: String,
    },
    /// An id that is in the index already, or twice among those to add.
    #[error("id {id} is in the index already, or twice among the ids to add")]
    DuplicateId {
        /// The id.
        id: i64,
    },
    /// An id that is not in the index.
    #[error("id {id} is not in the index")]
    UnknownId {
        /// The id.
        id: i64,
    },
    /// A negative id: those stand for absent answers.
    #[error("id {id} is negative: wanted 0 to 2^63 - 1")]
    NegativeId {
        /// The id.
        id: i64,
    },
    /// A rotation stretches vectors until squared distances overflow f32.
    #[error("rotation is not orthogonal: rotated vectors overflow f32 distances")]
    NotOrthogonal,
    /// The operating system refused to read or write.
    #[error("{file}: {}", system_message(*.code, *.kind))]
    Io {
        /// Path, or name of the stream.
        file: String,
        /// What kind of failure.
        kind: std::io::ErrorKind,
        /// The operating system's number for it, where there is one.
        code: Option<i32>,
    },
    /// A file ends before what it announces.
    #[error("{file}: truncated at byte {offset}: {field} needs {wanted} bytes, {remaining} remain")]
    Truncated {
        /// Path, or name of the stream.
        file: String,
        /// Where the field begins.
        offset: u64,
        /// What was to be read.
        field: &'static str,
        /// Bytes that it needs.
        wanted: u64,
        /// Bytes that are there.
        remaining: u64,
    },
    /// A field of a file has a value that it cannot have.
    #[error("{file}: {field} before byte {offset} is {got}, wanted {wanted}")]
    BadField {
        /// Path, or name of the stream.
        file: String,
        /// Where reading stopped, just after the field.
        offset: u64,
        /// The field.
        field: &'static str,
        /// What the file says.
        got: String,
        /// What it may say.
        wanted: String,
    },
    /// A file goes on after its last field.
    #[error("{file}: the content ends at byte {offset}, but more follows")]
    TrailingBytes {
        /// Path, or name of the stream.
        file: String,
        /// Where the content ends.
        offset: u64,
    },
    /// A tensor is not what was saved.
    #[error("{file}: {tensor} is damaged: its CRC-32 is {got:08x}, the file says {wanted:08x}")]
    Checksum {
        /// Path, or name of the stream.
        file: String,
        /// Name of the tensor.
        tensor: &'static str,
        /// The checksum that was saved.
        wanted: u32,
        /// The checksum of what is there.
        got: u32,
    },
    /// A row of a table is not like the others.
    #[error("{file}: row {row} of column {column:?} has {got}, wanted {wanted}")]
    BadRow {
        /// Path of the file.
        file: String,
        /// Name of the column.
        column: String,
        /// Row, from 0.
        row: u64,
        /// What it has.
        got: String,
        /// What the others have.
        wanted: String,
    },
    /// What decodes a format for picopq refuses the file.
    #[error("{file}: not readable as {format}: {reason}")]
    Undecodable {
        /// Path of the file.
        file: String,
        /// The format.
        format: &'static str,
        /// What the decoder says.
        reason: String,
    },
    /// A file holds, or is to hold, something that picopq or the format does not know.
    #[error("{file}: {what} is not supported: wanted {wanted}")]
    Unsupported {
        /// Path, or name of the stream.
        file: String,
        /// What it is.
        what: String,
        /// What would be.
        wanted: &'static str,
    },
    /// The task was cancelled.
    #[error("cancelled")]
    Cancelled,
}

fn system_message(code: Option<i32>, kind: std::io::ErrorKind) -> String {
    code.map_or_else(
        || kind.to_string(),
        |code| std::io::Error::from_raw_os_error(code).to_string(),
    )
}

/// A vector of `len` copies of `value`, or [`Error::OutOfMemory`] where the allocator refuses.
pub(crate) fn filled<T: Clone>(len: usize, value: T, what: &'static str) -> Result<Vec<T>> {
    let mut out = with_capacity(len, what)?;
    out.resize(len, value);
    Ok(out)
}

/// An empty vector with room for `len` elements, or [`Error::OutOfMemory`].
pub(crate) fn with_capacity<T>(len: usize, what: &'static str) -> Result<Vec<T>> {
    let mut out = Vec::new();
    out.try_reserve_exact(len)
        .map_err(|_| Error::OutOfMemory { bytes: len.saturating_mul(size_of::<T>()), what })?;
    Ok(out)
}

/// At most `len` items, or [`Error::OutOfMemory`].
pub(crate) fn collected<T>(
    items: impl Iterator<Item = T>,
    len: usize,
    what: &'static str,
) -> Result<Vec<T>> {
    let mut out = with_capacity(len, what)?;
    out.extend(items.take(len));
    Ok(out)
}

/// A copy of `values`, or [`Error::OutOfMemory`].
pub(crate) fn copied<T: Copy>(values: &[T], what: &'static str) -> Result<Vec<T>> {
    let mut out = with_capacity(values.len(), what)?;
    out.extend_from_slice(values);
    Ok(out)
}

/// Makes room for `more` elements, or [`Error::OutOfMemory`]. Amortised as `Vec::push` is.
pub(crate) fn reserve<T>(out: &mut Vec<T>, more: usize, what: &'static str) -> Result<()> {
    let bytes = out.len().saturating_add(more).saturating_mul(size_of::<T>());
    out.try_reserve(more).map_err(|_| Error::OutOfMemory { bytes, what })
}

/// The product of `factors`, or [`Error::SizeOverflow`].
pub(crate) fn size(factors: &[usize], what: &'static str) -> Result<usize> {
    factors
        .iter()
        .try_fold(1_usize, |product, &factor| product.checked_mul(factor))
        .filter(|&product| product <= isize::MAX as usize / size_of::<f64>())
        .ok_or(Error::SizeOverflow { what })
}
