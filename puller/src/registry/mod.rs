//! The client of the distribution protocol.
