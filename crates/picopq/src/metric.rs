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

impl Metric {
    /// Turns a distance into a key that sorts best first, and back.
    pub(crate) fn sign(self) -> f32 {
        match self {
            Self::L2 => 1.0,
            Self::Dot => -1.0,
        }
    }
}
