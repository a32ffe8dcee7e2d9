//! What distances are.

/// How a query and a vector are compared. Training and encoding are Euclidean for both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metric {
    /// Squared Euclidean distance; smaller is nearer.
    #[default]
    L2,
    /// Dot product; larger is nearer.
    Dot,
}
