//! A model of either kind, for what works with both.

use crate::error::{Result, collected};
use crate::linalg::Rotation;
use crate::metric::Metric;
use crate::opq::Opq;
use crate::pq::{Codebook, Pq};

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

    /// A copy, where there is memory for it.
    pub(crate) fn copied(&self) -> Result<Self> {
        let copy = |values: &[f32]| collected(values.iter().copied(), values.len(), "the model");
        let book = self.codebook();
        let (m, ks, ds) = (book.m(), book.ks(), book.ds());
        let pq = Pq::from_codewords(copy(book.codewords())?, m, ks, ds, self.metric())?;
        Self::new(pq, self.rotation().map(|rotation| copy(rotation.matrix())).transpose()?)
    }

    pub(crate) fn new(pq: Pq, rotation: Option<Vec<f32>>) -> Result<Self> {
        Ok(match rotation {
            None => Self::Pq(pq),
            Some(rotation) => Self::Opq(Opq::from_parts(pq, rotation)?),
        })
    }
}
