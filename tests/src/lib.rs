//! The real servers, clients and faults that the end-to-end tests need.
