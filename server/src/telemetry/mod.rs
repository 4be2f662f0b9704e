//! What an operator sees: the log, a line for each request, and numbers.
//!
//! A request is one [`Exchange`] from its head to the last byte of its response. It is counted and
//! logged when that byte was given to the system, or when it is sure that it never will be.

mod body;
mod exchange;
mod labels;
mod line;
pub mod log;
mod metrics;
mod number;
#[cfg(feature = "otel")]
pub mod otel;
pub mod process;
mod request_id;
mod text;

pub use exchange::{Exchange, Refused};
pub use labels::Noun;
pub use metrics::{DatabaseMetrics, Metrics};
pub use number::{Counter, Gauge, Histogram};
pub use text::{Exposition, Form, Labels};
