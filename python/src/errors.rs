//! The library's errors as Python exceptions.

use picopq::Error;
use pyo3::exceptions::{PyAssertionError, PyIndexError, PyMemoryError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

static PICOPQ_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// `PicoPQError(ValueError, AssertionError)`: handlers written for nanopq's asserts catch it too.
pub(crate) fn picopq_error(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    let class = PICOPQ_ERROR.get_or_try_init(py, || {
        let bases = (py.get_type::<PyValueError>(), py.get_type::<PyAssertionError>());
        let fields = PyDict::new(py);
        fields.set_item("__module__", "picopq")?;
        fields.set_item("__doc__", "An argument that does not fit: what came, what was wanted.")?;
        let class = py.get_type::<PyType>().call1(("PicoPQError", bases, fields))?;
        Ok::<_, PyErr>(class.cast_into::<PyType>()?.unbind())
    })?;
    Ok(class.bind(py))
}

/// The exception for an error of the library, which calls the Python argument `vecs` `vectors`.
pub(crate) fn to_python(py: Python<'_>, mut error: Error) -> PyErr {
    if let Error::NonFinite { argument, .. }
    | Error::TooLarge { argument, .. }
    | Error::DimensionMismatch { argument, .. }
    | Error::LengthMismatch { argument, .. } = &mut error
        && *argument == "vectors"
    {
        *argument = "vecs";
    }
    let message = error.to_string();
    match error {
        Error::CodeOutOfRange { .. } | Error::UnknownId { .. } => PyIndexError::new_err(message),
        // Python chooses the subclass by the number.
        Error::Io { file, code: Some(code), .. } => {
            let reason = std::io::Error::from_raw_os_error(code).to_string();
            let reason = reason.split(" (os error").next().unwrap_or_default().to_string();
            PyOSError::new_err((code, reason, file))
        }
        Error::Io { kind, .. } => std::io::Error::new(kind, message).into(),
        Error::OutOfMemory { .. } => PyMemoryError::new_err(message),
        _ => match picopq_error(py) {
            Ok(class) => PyErr::from_type(class.clone(), message),
            Err(error) => error,
        },
    }
}
