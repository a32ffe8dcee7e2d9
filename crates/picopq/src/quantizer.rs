//! A model of either kind, for what works with both.

use crate::codes::Codes;
use crate::error::{Result, copied};
use crate::linalg::Rotation;
use crate::metric::Metric;
use crate::opq::Opq;
use crate::pq::{self, Codebook, Pq};
use crate::threads::Task;
use crate::vectors::Vectors;

/// A trained model: what makes codes of vectors and tables of queries.
#[derive(Clone, Debug, PartialEq)]
pub enum Quantizer {
    /// Product quantization.
    Pq(Pq),
    /// Product quantization of rotated vectors.
    Opq(Opq),
}

impl From<Pq> for Quantizer {
    fn from(pq: Pq) -> Self {
        Self::Pq(pq)
    }
}

impl From<Opq> for Quantizer {
    fn from(opq: Opq) -> Self {
        Self::Opq(opq)
    }
}

impl Quantizer {
    /// The codewords.
    #[must_use]
    pub fn codebook(&self) -> Codebook<'_> {
        self.pq().codebook()
    }

    /// How queries are compared with codes.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.pq().metric()
    }

    /// The rotation of an [`Opq`].
    #[must_use]
    pub fn rotation(&self) -> Option<Rotation<'_>> {
        match self {
            Self::Pq(_) => None,
            Self::Opq(opq) => Some(opq.view()),
        }
    }

    /// The quantizer of the vectors, or of the rotated ones.
    #[must_use]
    pub fn pq(&self) -> &Pq {
        match self {
            Self::Pq(pq) => pq,
            Self::Opq(opq) => opq.pq(),
        }
    }

    /// Codes of vectors, shape `(n, dim)`, in the narrowest integer. Cost: that of
    /// [`Codebook::encode_into`].
    ///
    /// # Errors
    /// As [`Codebook::encode_into`], and [`crate::Error::OutOfMemory`].
    pub fn encode(&self, vectors: Vectors<'_>, task: &Task) -> Result<Codes<'static>> {
        pq::encode(self.codebook(), self.rotation(), vectors, task)
    }

    /// A copy, or [`crate::Error::OutOfMemory`].
    pub(crate) fn copy(&self) -> Result<Self> {
        let rotation = self.rotation().map(|rotation| copied(rotation.matrix(), "the rotation"));
        Self::new(self.pq().copy()?, rotation.transpose()?)
    }

    pub(crate) fn new(pq: Pq, rotation: Option<Vec<f32>>) -> Result<Self> {
        Ok(match rotation {
            None => Self::Pq(pq),
            Some(rotation) => Self::Opq(Opq::from_parts(pq, rotation)?),
        })
    }
}
