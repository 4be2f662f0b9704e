//! What happens during a transfer, for whoever shows it.
